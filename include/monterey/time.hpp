// Time on a core: the reactor's clock, which a test or a simulator may replace, and timers, which wake at or after
// their time, the earliest first, equal ones in the order they were set.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <monterey/detail/wait_node.hpp>

namespace monterey {

using TimePoint = std::chrono::steady_clock::time_point;

// Returns the time on this core's clock; outside a core the steady clock's.
TimePoint now() noexcept;

namespace detail {

class [[nodiscard]] Sleep {
 public:
  explicit Sleep(TimePoint until) noexcept : until_(until) {}
  Sleep(const Sleep&) = delete;
  Sleep& operator=(const Sleep&) = delete;
  ~Sleep() {
    if (heap_index_ != kNotQueued) cancel();
  }

  bool await_ready() const noexcept { return false; }
  // Throws std::bad_alloc if there is no memory for one more timer.
  bool await_suspend(std::coroutine_handle<> waiter);
  void await_resume() {
    if (wake_ == Wake::aborted) throw_ended_wait(wake_, "timer");
  }

 private:
  friend class TimerHeap;
  static constexpr std::size_t kNotQueued = static_cast<std::size_t>(-1);
  void cancel() noexcept;

  TimePoint until_;
  std::uint64_t order_ = 0;
  std::size_t heap_index_ = kNotQueued;
  ReadyNode ready_;
  Wake wake_ = Wake::none;
};

}  // namespace detail

// Suspends until `time`; a time that has passed yields once. Errors: aborted (shutdown).
inline detail::Sleep sleep_until(TimePoint time) noexcept { return detail::Sleep(time); }

// Suspends for at least `duration`. Errors: aborted (shutdown).
template <class Rep, class Period>
detail::Sleep sleep_for(std::chrono::duration<Rep, Period> duration) noexcept {
  // Durations near the clock's range, like hours::max(), must not overflow it.
  constexpr double kForeverSeconds = 1e9;
  if (std::chrono::duration<double>(duration).count() > kForeverSeconds) return detail::Sleep(TimePoint::max());
  return detail::Sleep(now() + std::chrono::ceil<std::chrono::nanoseconds>(duration));
}

}  // namespace monterey
