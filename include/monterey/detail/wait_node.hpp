// How a task waits for something that is not I/O: a WaitNode in the awaiter, queued in the FIFO of the primitive and,
// if the wait ends at shutdown, in the reactor's list of abortable waits. Destroying the node takes it out of every
// list. One core; no atomics.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <monterey/detail/ready.hpp>

namespace monterey::detail {

// A link of a circular list; it leaves its list when it is destroyed.
class ListHook {
 public:
  ListHook() noexcept = default;
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;
  ~ListHook() { unlink(); }

  bool linked() const noexcept { return next_ != nullptr; }
  void unlink() noexcept {
    if (next_ == nullptr) return;
    next_->prev_ = prev_;
    prev_->next_ = next_;
    next_ = prev_ = nullptr;
  }

 private:
  friend class HookList;
  ListHook* prev_ = nullptr;
  ListHook* next_ = nullptr;
};

class HookList {
 public:
  HookList() noexcept { head_.prev_ = head_.next_ = &head_; }
  HookList(const HookList&) = delete;
  HookList& operator=(const HookList&) = delete;

  bool empty() const noexcept { return head_.next_ == &head_; }
  ListHook* front() noexcept { return empty() ? nullptr : head_.next_; }
  std::size_t size() const noexcept {
    std::size_t count = 0;
    for (const ListHook* hook = head_.next_; hook != &head_; hook = hook->next_) ++count;
    return count;
  }
  void push_back(ListHook& hook) noexcept {
    hook.prev_ = head_.prev_;
    hook.next_ = &head_;
    head_.prev_->next_ = &hook;
    head_.prev_ = &hook;
  }

 private:
  ListHook head_;
};

class WaitNode;

// The waiters of one primitive, in order of arrival. A primitive must outlive its waiters.
class WaitQueue {
 public:
  WaitQueue() noexcept = default;
  ~WaitQueue();

  bool empty() const noexcept { return hooks_.empty(); }
  WaitNode* front() noexcept;
  std::size_t size() const noexcept;  // walks the queue

 private:
  friend class WaitNode;
  HookList hooks_;
};

// Why a wait ended.
enum class Wake : std::uint8_t { none, granted, closed, aborted };

// Whether shutdown ends a wait with Errc::aborted. Waits that end when other tasks do (locks, gates, joins) are never
// ended so.
enum class Abortable : std::uint8_t { no, yes };

struct QueueHook : ListHook {};
struct AbortHook : ListHook {};

class WaitNode : private QueueHook, private AbortHook {
 public:
  bool waiting() const noexcept { return QueueHook::linked(); }
  Wake wake_reason() const noexcept { return wake_; }

  // For await_ready: what was waited for is there, so the node is granted. Returns whether the task may go on without
  // suspending.
  bool granted_at_once() noexcept {
    wake_ = Wake::granted;
    return !consume_budget(1);
  }
  // For await_suspend: joins `queue`, or parks if the node was granted at once. Returns false if the wait has ended
  // already (shutdown).
  bool suspend(WaitQueue& queue, std::coroutine_handle<> waiter, Abortable abortable) noexcept;
  // For await_resume: how the wait ended, told once.
  Wake take() noexcept {
    const Wake wake = wake_;
    wake_ = Wake::none;
    return wake;
  }
  // As take(), and throws closed or aborted; `what` names the primitive ("semaphore").
  void take_or_throw(const char* what);
  // Leaves its queue and resumes the waiter through the ready queue, which takes `wake`.
  void end(Wake wake) noexcept;
  // Leaves the queue; the waiter is never resumed by it.
  void cancel() noexcept;
  void set_wake(Wake wake) noexcept { wake_ = wake; }

 private:
  friend class WaitQueue;
  friend class Reactor;

  ReadyNode ready_;
  Wake wake_ = Wake::none;
};

// Ends every wait in `queue`, in order.
void end_all(WaitQueue& queue, Wake wake) noexcept;

[[noreturn]] void throw_ended_wait(Wake wake, const char* what);

}  // namespace monterey::detail
