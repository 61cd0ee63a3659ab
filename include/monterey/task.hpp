// Task<T>: a lazy coroutine, owned by whoever holds the Task. Awaiting it starts it on the current core, inside
// await_suspend, which returns false if it finished without waiting: the stack stays bounded in every build mode,
// where symmetric transfer is a tail call only with optimisation and without sanitizers. A later completion resumes
// the parent through the ready queue, so that unwinding a deep chain is iterative too. A ready await takes budget
// (preempt.hpp).
//
// A Task may be destroyed before it was started, or suspended at anything but I/O in flight: its frame and its
// children's are destroyed, and what they waited in forgets them. Frames are recycled per core (detail/frames.hpp).
//
// Two rules for coroutines that return a Task: parameters by value unless the task is awaited in the expression that
// made it, and no capturing lambda as a coroutine unless the closure outlives the task.
#pragma once

#include <coroutine>
#include <cstddef>
#include <monterey/detail/frames.hpp>
#include <monterey/detail/ready.hpp>
#include <monterey/detail/result.hpp>
#include <monterey/preempt.hpp>
#include <utility>

namespace monterey {

template <class T = void>
class Task;

namespace detail {

// Resumes one coroutine when several tasks have ended; see when_all.hpp.
struct Latch {
  ReadyNode node;  // holds nothing while tasks are still being started
  std::size_t left = 0;

  void arrive() noexcept {
    if (--left == 0 && node.handle) node.wake();
  }
};

// The part of a task's promise that does not depend on its type. Its ReadyNode carries the parent.
class TaskPromiseBase : public ReadyNode {
 public:
  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* memory, std::size_t bytes) noexcept { free_frame(memory, bytes); }

  class Final {
   public:
    bool await_ready() noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      TaskPromiseBase& promise = self.promise();
      promise.finished_ = true;
      if (promise.latch_ != nullptr) {
        promise.latch_->arrive();
      } else if (promise.handle) {
        promise.wake();
      }
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }
  Final final_suspend() noexcept { return {}; }

  bool finished() const noexcept { return finished_; }
  // Starts `self`; returns whether it still runs and will resume `parent`.
  bool start(std::coroutine_handle<> self, std::coroutine_handle<> parent) {
    run(self);
    if (finished_) {
      if (!consume_budget(1)) [[likely]]
        return false;
      park(parent);
      return true;
    }
    hold(parent);
    return true;
  }
  // Starts `self`, which arrives at `latch` when it ends.
  void start(std::coroutine_handle<> self, Latch& latch) {
    latch_ = &latch;
    run(self);
  }

 private:
  // Up to its first suspension. The class that it gives itself is not its starter's.
  static void run(std::coroutine_handle<> self) {
    const TaskClass starters = core_state.task_class;
    self.resume();
    core_state.task_class = starters;
  }

  Latch* latch_ = nullptr;
  bool finished_ = false;
};

template <class T>
class TaskPromise final : public TaskPromiseBase, public ResultPromise<T> {
 public:
  Task<T> get_return_object() noexcept;
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;
  using value_type = T;

  // Owns the task while it is awaited. It may be a member of another awaiter and started from that one's
  // await_suspend; it must then live until the parent was resumed and has called await_resume().
  class [[nodiscard]] Awaiter {
   public:
    explicit Awaiter(Task task) noexcept : task_(std::move(task)) {}

    bool await_ready() const noexcept { return false; }
    // Starts the task. Returns false if it finished at once and `parent` need not be suspended.
    bool await_suspend(std::coroutine_handle<> parent) {
      return task_.coroutine_.promise().start(task_.coroutine_, parent);
    }
    // Returns the task's value or throws its error. Call it once.
    T await_resume() { return task_.coroutine_.promise().result.take(); }

   private:
    Task task_;
  };

  Task() noexcept = default;
  Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    Task dying(std::move(other));
    std::swap(coroutine_, dying.coroutine_);
    return *this;
  }
  ~Task() {
    if (coroutine_) coroutine_.destroy();
  }

  // Requires: not awaited before, and not empty.
  Awaiter operator co_await() && noexcept { return Awaiter(std::move(*this)); }

  explicit operator bool() const noexcept { return static_cast<bool>(coroutine_); }

  // For primitives that start several tasks at once (when_all.hpp).
  void start(detail::Latch& latch) { coroutine_.promise().start(coroutine_, latch); }
  detail::Result<T>& result() noexcept { return coroutine_.promise().result; }

 private:
  friend detail::TaskPromise<T>;
  explicit Task(std::coroutine_handle<promise_type> coroutine) noexcept : coroutine_(coroutine) {}

  std::coroutine_handle<promise_type> coroutine_;
};

template <class T>
Task<T> detail::TaskPromise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}

}  // namespace monterey
