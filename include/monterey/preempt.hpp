// Cooperative preemption. A task runs until it waits, so one that finds everything ready (cached gets, free
// semaphores, finished tasks) would never let timers, completions and other tasks run. Every ready await therefore
// takes a unit of a per-core budget; 64 units buy a look at the clock, and past kTaskBudget since the task was
// resumed, or with completions pending, it must suspend once through the ready queue. The budget starts anew whenever
// the reactor resumes a coroutine.
//
// An awaiter whose await_ready() does the work follows this pattern: no frame and no suspension on the hit path, a
// task on the miss path.
//
//   class Lookup {                                               // made by `Lookup get(key)`, awaited at once
//    public:
//     bool await_ready() { return find() && !monterey::consume_budget(); }
//     bool await_suspend(std::coroutine_handle<> caller) {
//       if (value_ != nullptr) {                                 // a hit, but the budget is used up
//         node_.park(caller);                                    // resumed through the ready queue
//         return true;
//       }
//       miss_.emplace(load(key_));                               // a Task<const Value*>
//       return miss_->await_suspend(caller);                     // false if it finished at once
//     }
//     const Value* await_resume() { return value_ != nullptr ? value_ : miss_->await_resume(); }
//
//    private:
//     monterey::detail::ReadyNode node_;
//     std::optional<monterey::Task<const Value*>::Awaiter> miss_;
//   };
//
// What await_ready() found must be held (pinned) across the park: after it the world may have changed.
#pragma once

#include <algorithm>
#include <chrono>
#include <coroutine>
#include <monterey/detail/ready.hpp>

namespace monterey {

// How long a task may run on ready awaits before others get their turn.
inline constexpr std::chrono::microseconds kTaskBudget{100};
inline constexpr std::int32_t kBudgetUnits = 64;

// Takes one unit of the running task's budget. Returns whether the caller must suspend once, by ReadyNode::park().
// Cost: a decrement; every 64 calls a clock read.
inline bool consume_budget() noexcept { return detail::consume_budget(1); }

namespace detail {

class [[nodiscard]] Yield {
 public:
  enum class When : std::uint8_t { always, budget_used };
  explicit Yield(When when, std::int32_t units = 0) noexcept : when_(when), units_(units) {}

  bool await_ready() noexcept { return when_ == When::budget_used && !consume_budget(units_); }
  void await_suspend(std::coroutine_handle<> caller) noexcept { node_.park(caller); }
  void await_resume() noexcept {}

 private:
  ReadyNode node_;
  When when_;
  std::int32_t units_;
};

}  // namespace detail

// Suspends once: every task of the caller's class (task_class.hpp) that is ready now runs before the caller does again, of the
// other class whichever have their turn. Never fails, also during shutdown.
inline detail::Yield yield() noexcept { return detail::Yield(detail::Yield::When::always); }

// For loops that compute: suspends once if the budget is used up. `round` is about what the loop's round costs; one that costs
// more than kTaskBudget is to be cut up.
inline detail::Yield maybe_yield(std::chrono::microseconds round = std::chrono::microseconds(10)) noexcept {
  const auto share = static_cast<std::int32_t>(round * kBudgetUnits / kTaskBudget);
  return detail::Yield(detail::Yield::When::budget_used, std::max<std::int32_t>(1, share));
}

}  // namespace monterey
