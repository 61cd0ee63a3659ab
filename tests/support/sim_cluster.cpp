#include "support/sim_cluster.hpp"

#include <algorithm>
#include <monterey/detail/reactor.hpp>
#include <monterey/spawn.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include "monterey/io_backend.hpp"

namespace store::test {

using std::chrono::nanoseconds;

class SimPerturbation final : public monterey::detail::Perturbation {
 public:
  explicit SimPerturbation(const SimSchedule& schedule) : random_(schedule.seed), schedule_(schedule) {}

  std::size_t choose(std::size_t count) noexcept override {
    if (count == 1 || !random_.percent(schedule_.disorder_percent)) return 0;
    return static_cast<std::size_t>(random_.below(count));
  }
  bool suspend() noexcept override { return random_.percent(schedule_.suspend_percent); }

 private:
  SimRandom random_;
  SimSchedule schedule_;
};

class SimCluster::Backend final : public monterey::detail::IoBackend, public monterey::detail::Clock {
 public:
  explicit Backend(SimCluster& cluster) : cluster_(cluster) {}

  monterey::TimePoint now() noexcept override { return monterey::TimePoint(std::chrono::hours(1) + time); }

  void queue(monterey::detail::IoOp&) noexcept override { std::terminate(); }
  void turn(std::optional<TimePoint> wait_until) override {
    if (!wait_until) {
      time += std::chrono::microseconds(1);
    } else if (!std::exchange(woken_, false)) {
      nanoseconds next = nanoseconds::max();
      if (*wait_until != TimePoint::max()) next = wait_until->time_since_epoch() - std::chrono::hours(1);
      if (!cluster_.events_.empty()) next = std::min(next, cluster_.events_.front().at);
      if (next == nanoseconds::max()) throw std::logic_error("deadlock: the core waits and nothing will wake it");
      time = std::max(time, next);
    }
    fire();
  }
  bool completions_pending() const noexcept override { return false; }
  std::size_t in_flight() const noexcept override { return cluster_.events_.size(); }
  void wake() noexcept override { woken_ = true; }
  int register_file(int) noexcept override { return -1; }
  void unregister_file(int) noexcept override {}

  static bool later(const Event& a, const Event& b) { return a.at != b.at ? a.at > b.at : a.order > b.order; }

  nanoseconds time{0};

 private:
  void fire() {
    auto& events = cluster_.events_;
    while (!events.empty() && events.front().at <= time) {
      std::ranges::pop_heap(events, later);
      Delay& delay = *events.back().delay;
      events.pop_back();
      delay.node_.park(delay.waiter_);
    }
  }

  SimCluster& cluster_;
  bool woken_ = false;
};

SimCluster::SimCluster(const SimSchedule& schedule, monterey::FixedBufs& arena)
    : backend_(std::make_unique<Backend>(*this)),
      perturbation_(std::make_unique<SimPerturbation>(schedule)),
      arena_(arena) {}

SimCluster::~SimCluster() = default;

nanoseconds SimCluster::now() const noexcept { return backend_->time; }

void SimCluster::run(monterey::Task<> task) {
  struct ArenaScope {
    explicit ArenaScope(monterey::FixedBufs& arena) { monterey::FixedBufs::set_current(&arena); }
    ~ArenaScope() { monterey::FixedBufs::set_current(nullptr); }
  } scope(arena_);
  monterey::detail::ReactorOptions options;
  options.clock = backend_.get();
  options.perturbation = perturbation_.get();
  monterey::detail::Reactor reactor(*backend_, options);
  {
    const monterey::detail::Reactor::Activation activation(reactor);
    monterey::spawn(std::move(task));
  }
  reactor.run();
}

void SimCluster::Delay::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  cluster_.events_.push_back({cluster_.now() + delay_, cluster_.next_order_++, this});
  std::ranges::push_heap(cluster_.events_, Backend::later);
}

}  // namespace store::test
