#include <monterey/detail/reactor.hpp>
#include <monterey/sync.hpp>
#include <store/base/assert.hpp>
#include <store/error.hpp>
#include <string>

namespace monterey {
namespace detail {

WaitQueue::~WaitQueue() { STORE_ASSERT(hooks_.empty()); }

WaitNode* WaitQueue::front() noexcept { return static_cast<WaitNode*>(static_cast<QueueHook*>(hooks_.front())); }

std::size_t WaitQueue::size() const noexcept { return hooks_.size(); }

bool WaitNode::suspend(WaitQueue& queue, std::coroutine_handle<> waiter, Abortable abortable) noexcept {
  if (wake_ != Wake::none) {
    ready_.park(waiter);
    return true;
  }
  if (abortable == Abortable::yes) {
    Reactor& reactor = Reactor::current();
    if (reactor.stopping()) {
      wake_ = Wake::aborted;
      return false;
    }
    reactor.add_abortable(*this);
  }
  ready_.hold(waiter);
  queue.hooks_.push_back(static_cast<QueueHook&>(*this));
  return true;
}

void WaitNode::take_or_throw(const char* what) {
  const Wake wake = take();
  if (wake != Wake::granted) [[unlikely]]
    throw_ended_wait(wake, what);
}

void WaitNode::end(Wake wake) noexcept {
  cancel();
  wake_ = wake;
  ready_.wake();
}

void WaitNode::cancel() noexcept {
  QueueHook::unlink();
  AbortHook::unlink();
}

void end_all(WaitQueue& queue, Wake wake) noexcept {
  while (!queue.empty()) queue.front()->end(wake);
}

void throw_ended_wait(Wake wake, const char* what) {
  STORE_ASSERT(wake == Wake::closed || wake == Wake::aborted);
  if (wake == Wake::closed) throw store::Error(store::Errc::closed, std::string("the ") + what + " was closed");
  throw store::Error(store::Errc::aborted,
                     std::string("a wait on a ") + what + " was ended: the cluster is shutting down");
}

}  // namespace detail

void Semaphore::grant() noexcept {
  while (!waiters_.empty()) {
    auto& first = *static_cast<Acquire*>(waiters_.front());
    if (first.units_ > units_) return;
    units_ -= first.units_;
    first.end(detail::Wake::granted);
  }
}

void Semaphore::close() noexcept {
  closed_ = true;
  detail::end_all(waiters_, detail::Wake::closed);
}

void Semaphore::Acquire::abandon() noexcept {
  cancel();
  semaphore_.grant();
}

void Event::set() noexcept {
  set_ = true;
  detail::end_all(waiters_, detail::Wake::granted);
}

void Event::close() noexcept {
  closed_ = true;
  detail::end_all(waiters_, detail::Wake::closed);
}

void Mutex::unlock() noexcept {
  if (waiters_.empty()) {
    locked_ = false;
  } else {
    waiters_.front()->end(detail::Wake::granted);
  }
}

void Mutex::close() noexcept {
  closed_ = true;
  detail::end_all(waiters_, detail::Wake::closed);
}

void Gate::enter() {
  if (!try_enter()) throw store::Error(store::Errc::closed, "the gate was closed");
}

}  // namespace monterey
