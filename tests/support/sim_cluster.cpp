#include "support/sim_cluster.hpp"

#include <algorithm>
#include <array>
#include <monterey/detail/reactor.hpp>
#include <monterey/spawn.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include "monterey/core_group.hpp"
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

  monterey::TimePoint now() noexcept override { return monterey::TimePoint(std::chrono::hours(1) + cluster_.time_); }

  void queue(monterey::detail::IoOp&) noexcept override { std::terminate(); }
  void turn(std::optional<TimePoint> wait_until) override {
    nanoseconds& time = cluster_.time_;
    if (!wait_until) {
      time += std::chrono::microseconds(1);
    } else if (!std::exchange(woken_, false)) {
      nanoseconds next = nanoseconds::max();
      if (*wait_until != TimePoint::max()) next = wait_until->time_since_epoch() - std::chrono::hours(1);
      if (!events.empty()) next = std::min(next, events.front().at);
      if (next == nanoseconds::max()) throw std::logic_error("deadlock: the core waits and nothing will wake it");
      time = std::max(time, next);
    }
    fire();
  }
  bool completions_pending() const noexcept override { return false; }
  std::size_t in_flight() const noexcept override { return events.size(); }
  void wake() noexcept override { woken_ = true; }
  int register_file(int) noexcept override { return -1; }
  void unregister_file(int) noexcept override {}

  static bool later(const Event& a, const Event& b) { return a.at != b.at ? a.at > b.at : a.order > b.order; }

  // Whether something was sent, or an event is due.
  bool has_event() const noexcept { return woken_ || (!events.empty() && events.front().at <= cluster_.time_); }
  void forget_wake() noexcept { woken_ = false; }

  std::vector<Event> events;  // a heap, the earliest first

 private:
  void fire() {
    while (!events.empty() && events.front().at <= cluster_.time_) {
      std::ranges::pop_heap(events, later);
      Delay& delay = *events.back().delay;
      events.pop_back();
      delay.node_.park(delay.waiter_);
    }
  }

  SimCluster& cluster_;
  bool woken_ = false;
};

namespace {

class ArenaScope {
 public:
  explicit ArenaScope(monterey::FixedBufs& arena) { monterey::FixedBufs::set_current(&arena); }
  ~ArenaScope() { monterey::FixedBufs::set_current(nullptr); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
};

}  // namespace

SimCluster::SimCluster(const SimSchedule& schedule, monterey::FixedBufs& arena)
    : SimCluster(schedule, std::array<monterey::FixedBufs*, 1>{&arena}) {}

SimCluster::SimCluster(const SimSchedule& schedule, std::span<monterey::FixedBufs* const> arenas)
    : perturbation_(std::make_unique<SimPerturbation>(schedule)),
      schedule_(schedule),
      turns_(SimRandom(schedule.seed).child(99)),
      stalled_until_(arenas.size()),
      arenas_(arenas.begin(), arenas.end()) {
  for (std::size_t i = 0; i < arenas_.size(); ++i) backends_.push_back(std::make_unique<Backend>(*this));
}

SimCluster::~SimCluster() = default;

nanoseconds SimCluster::now() const noexcept { return time_; }

void SimCluster::run(monterey::Task<> task) {
  if (arenas_.size() == 1) {
    run_alone(std::move(task));
  } else {
    run_together(std::move(task));
  }
}

void SimCluster::run_alone(monterey::Task<> task) {
  const ArenaScope scope(*arenas_[0]);
  monterey::detail::ReactorOptions options;
  options.clock = backends_[0].get();
  options.perturbation = perturbation_.get();
  monterey::detail::Reactor reactor(*backends_[0], options);
  {
    const monterey::detail::Reactor::Activation activation(reactor);
    monterey::spawn(std::move(task));
  }
  reactor.run();
}

void SimCluster::run_together(monterey::Task<> task) {
  using monterey::detail::Reactor;
  monterey::detail::CoreGroup group(static_cast<unsigned>(arenas_.size()));
  std::vector<std::unique_ptr<Reactor>> reactors;
  for (unsigned core = 0; core < arenas_.size(); ++core) {
    monterey::detail::ReactorOptions options;
    options.clock = backends_[core].get();
    options.perturbation = perturbation_.get();
    options.group = &group;
    options.core = core;
    reactors.push_back(std::make_unique<Reactor>(*backends_[core], options));
  }
  const auto drop_hold = [&](unsigned core) {
    const Reactor::Activation activation(*reactors[core]);
    reactors[core]->drop_hold();
  };
  {
    const Reactor::Activation activation(*reactors[0]);
    monterey::spawn(std::move(task));
  }
  for (unsigned core = 0; core < reactors.size(); ++core) drop_hold(core);
  const auto in_flight = [&] {
    return std::ranges::any_of(backends_, [](const auto& backend) { return backend->in_flight() > 0; });
  };
  while (!group.finished() || in_flight()) {
    if (turns_.percent(schedule_.stall_percent)) {
      const std::uint64_t longest = turns_.pick<std::uint64_t>({20, 200, 3'000});
      stalled_until_[turns_.below(reactors.size())] = time_ + std::chrono::microseconds(turns_.between(1, longest));
    }
    std::vector<unsigned> able;
    for (unsigned core = 0; core < reactors.size(); ++core) {
      if (stalled_until_[core] > time_) continue;
      Backend& backend = *backends_[core];
      const auto timer = reactors[core]->next_timer();
      const bool is_due = timer && *timer <= backend.now();
      const bool must_stop = group.stopping() && !reactors[core]->stopping();
      if (reactors[core]->has_ready() || backend.has_event() || is_due || must_stop) able.push_back(core);
    }
    if (able.empty()) {
      pass_time(reactors);
      continue;
    }
    const unsigned core = able[turns_.below(able.size())];
    backends_[core]->forget_wake();
    const ArenaScope scope(*arenas_[core]);
    reactors[core]->turn(Reactor::Idle::return_at_once);
  }
  group.rethrow_first_error();
}

// To when the next thing happens on any core.
void SimCluster::pass_time(const std::vector<std::unique_ptr<monterey::detail::Reactor>>& reactors) {
  nanoseconds next = nanoseconds::max();
  for (std::size_t core = 0; core < reactors.size(); ++core) {
    if (stalled_until_[core] > time_) {
      next = std::min(next, stalled_until_[core]);
      continue;
    }
    if (const auto timer = reactors[core]->next_timer()) {
      next = std::min(next, nanoseconds(timer->time_since_epoch() - std::chrono::hours(1)));
    }
    const auto& events = backends_[core]->events;
    if (!events.empty()) next = std::min(next, events.front().at);
  }
  if (next == nanoseconds::max()) throw std::logic_error("deadlock: all cores wait and nothing will wake them");
  time_ = std::max(time_, next);
}

std::vector<SimCluster::Event>& SimCluster::events_here() {
  return backends_[monterey::detail::Reactor::current().core()]->events;
}

void SimCluster::Delay::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  std::vector<Event>& events = cluster_.events_here();
  events.push_back({cluster_.now() + delay_, cluster_.next_order_++, this});
  std::ranges::push_heap(events, Backend::later);
}

}  // namespace store::test
