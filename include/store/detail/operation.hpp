// The awaitable behind the verbs of a partition. An operation does all its work in try_now() when nothing has to be
// waited for: no coroutine frame, no suspension but the preemption yield. Otherwise later() makes a task, which is
// started from await_suspend. An operation holds views of its arguments, so it must be awaited in the expression that
// made it: it cannot be moved, and awaiting an lvalue does not compile.
#pragma once

#include <coroutine>
#include <cstdint>
#include <monterey/preempt.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <type_traits>
#include <utility>

namespace store::detail {

// Derived provides, visible to Operation: `bool try_now()`, `T take()` (the result after try_now() returned true) and
// `monterey::Task<T> later()`, which goes on where try_now() stopped: nothing runs between them. What takes longer than a
// lookup hides units(). Each is [[nodiscard]] itself: the attribute is not inherited.
template <class Derived, class T>
class Operation {
 public:
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

 protected:
  Operation() = default;
  ~Operation() = default;

  // What try_now() takes of the task's budget.
  std::int32_t units() const noexcept { return 1; }

 private:
  class Awaiter {
   public:
    explicit Awaiter(Derived& operation) : operation_(operation) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;

    bool await_ready() {
      done_ = operation_.try_now();
      return done_ && !monterey::detail::consume_budget(operation_.units());
    }

    bool await_suspend(std::coroutine_handle<> awaiting) {
      if (done_) {
        yield_.park(awaiting);
        return true;
      }
      task_.emplace(operation_.later());
      return task_->await_suspend(awaiting);
    }

    T await_resume() {
      if (task_) return task_->await_resume();
      return operation_.take();
    }

   private:
    Derived& operation_;
    bool done_ = false;
    monterey::detail::ReadyNode yield_;
    std::optional<typename monterey::Task<T>::Awaiter> task_;
  };

 public:
  Awaiter operator co_await() && { return Awaiter(static_cast<Derived&>(*this)); }
};

}  // namespace store::detail
