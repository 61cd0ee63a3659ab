// A core without a kernel, for tests of the runtime itself: a reactor over a backend that does no I/O, on a virtual
// clock that jumps to the next timer when nothing is ready. A core that would wait for ever is a test's failure:
// turn() then throws.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <monterey/detail/reactor.hpp>
#include <monterey/spawn.hpp>
#include <optional>
#include <stdexcept>
#include <store/error.hpp>
#include <utility>

#include "monterey/io_backend.hpp"

namespace monterey::test {

class VirtualClock : public detail::Clock {
 public:
  TimePoint now() noexcept override { return time; }
  TimePoint time{std::chrono::hours(1)};
};

// Counts its turns. Operations cannot be queued, but a test may pretend that some are in flight or have completed.
class IdleBackend : public detail::IoBackend {
 public:
  explicit IdleBackend(VirtualClock* clock) : clock_(clock) {}

  void queue(detail::IoOp&) noexcept override { std::terminate(); }
  void turn(std::optional<TimePoint> wait_until) override {
    ++turns;
    if (on_turn) on_turn();
    if (!wait_until) return;
    ++waits;
    if (std::exchange(woken_, false)) return;
    if (*wait_until == TimePoint::max()) throw std::logic_error("the core sleeps and nothing will wake it");
    if (clock_ != nullptr) clock_->time = std::max(clock_->time, *wait_until);
  }
  bool completions_pending() const noexcept override { return completions; }
  std::size_t in_flight() const noexcept override { return outstanding; }
  void wake() noexcept override { woken_ = true; }
  int register_file(int) noexcept override { return -1; }
  void unregister_file(int) noexcept override {}

  std::size_t turns = 0;
  std::size_t waits = 0;
  bool completions = false;
  std::size_t outstanding = 0;
  std::function<void()> on_turn;

 private:
  VirtualClock* clock_;
  bool woken_ = false;
};

struct TestCore {
  explicit TestCore(detail::Perturbation* perturbation = nullptr)
      : backend(&clock), reactor(backend, options(&clock, perturbation)) {}

  // Runs `task` and what it spawns to their end, and throws what escaped. Once per core.
  void run(Task<> task) {
    {
      const detail::Reactor::Activation activation(reactor);
      spawn(std::move(task));
    }
    reactor.run();
  }

  VirtualClock clock;
  IdleBackend backend;
  detail::Reactor reactor;

 private:
  static detail::ReactorOptions options(detail::Clock* clock, detail::Perturbation* perturbation) {
    detail::ReactorOptions options;
    options.clock = clock;
    options.perturbation = perturbation;
    return options;
  }
};

inline void run_on_core(Task<> task) {
  TestCore core;
  core.run(std::move(task));
}

// The errc of what `task` throws; nothing if it returns.
template <class T>
Task<std::optional<store::Errc>> errc_of(Task<T> task) {
  try {
    static_cast<void>(co_await std::move(task));
  } catch (const store::Error& error) {
    co_return error.errc();
  }
  co_return std::nullopt;
}
inline Task<std::optional<store::Errc>> errc_of(Task<> task) {
  try {
    co_await std::move(task);
  } catch (const store::Error& error) {
    co_return error.errc();
  }
  co_return std::nullopt;
}

}  // namespace monterey::test
