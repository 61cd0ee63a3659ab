// What every suspension is made of: the node by which a coroutine waits in one of its core's ready queues, and the
// budget of a running task. A ReadyNode is embedded in a promise or an awaiter, so that making a coroutine ready
// allocates nothing. It remembers the class of the task that suspended (task_class.hpp), which the task has again when
// it is resumed. A node that is destroyed while it is queued leaves the queue by itself, which costs a walk of the queue.
// Everything here belongs to one core.
#pragma once

#include <coroutine>
#include <cstdint>

namespace monterey {

enum class TaskClass : std::uint8_t { foreground, background };

}  // namespace monterey

namespace monterey::detail {

class Reactor;

// The calling thread's core. Constant-initialised and trivially destroyed, so that access needs no guard.
struct CoreState {
  Reactor* reactor = nullptr;
  std::int32_t budget_left = 0;                  // units until the next look at the clock
  TaskClass task_class = TaskClass::foreground;  // of the running task
};
extern constinit thread_local CoreState core_state;

class ReadyNode {
 public:
  ReadyNode() noexcept = default;
  ReadyNode(const ReadyNode&) = delete;
  ReadyNode& operator=(const ReadyNode&) = delete;
  ~ReadyNode() {
    if (queued()) [[unlikely]]
      forget();
  }

  // Notes `coroutine`, which is the running task's and about to be suspended, for wake(). Requires: the node is not
  // queued.
  void hold(std::coroutine_handle<> coroutine) noexcept {
    handle = coroutine;
    task_class = core_state.task_class;
  }
  // Puts the coroutine that it holds at the end of this core's ready queue for its class.
  // Requires: a reactor is current; the node is not queued; it stays where it is until the coroutine is resumed.
  void wake() noexcept;
  // Both: the running task suspends and is ready at once.
  void park(std::coroutine_handle<> coroutine) noexcept {
    hold(coroutine);
    wake();
  }
  bool queued() const noexcept { return next != nullptr; }
  // Leaves the ready queue, if it is there: the coroutine is not resumed by this node.
  void cancel() noexcept {
    if (queued()) forget();
  }

  ReadyNode* next = nullptr;  // the queue's; never null while queued
  std::coroutine_handle<> handle;
  TaskClass task_class = TaskClass::foreground;

 private:
  void forget() noexcept;
};

// Out of units: looks at the clock and at completions, and restarts the count. See consume_budget().
bool budget_exhausted() noexcept;

inline bool consume_budget(std::int32_t units) noexcept {
  if ((core_state.budget_left -= units) > 0) [[likely]]
    return false;
  return budget_exhausted();
}

}  // namespace monterey::detail
