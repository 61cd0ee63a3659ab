#include <monterey/detail/reactor.hpp>
#include <monterey/time.hpp>
#include <store/base/assert.hpp>

namespace monterey::detail {

bool Sleep::await_suspend(std::coroutine_handle<> waiter) {
  Reactor& reactor = Reactor::current();
  if (reactor.stopping()) {
    wake_ = Wake::aborted;
    return false;
  }
  if (until_ <= reactor.now()) {
    ready_.park(waiter);
    return true;
  }
  reactor.add_timer(*this);
  ready_.hold(waiter);
  return true;
}

void Sleep::cancel() noexcept { Reactor::current().remove_timer(*this); }

bool TimerHeap::before(const Sleep& a, const Sleep& b) noexcept {
  return a.until_ != b.until_ ? a.until_ < b.until_ : a.order_ < b.order_;
}

void TimerHeap::place(std::size_t index, Sleep& sleep) noexcept {
  heap_[index] = &sleep;
  sleep.heap_index_ = index;
}

void TimerHeap::sift_up(std::size_t index) noexcept {
  Sleep& sleep = *heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (!before(sleep, *heap_[parent])) break;
    place(index, *heap_[parent]);
    index = parent;
  }
  place(index, sleep);
}

void TimerHeap::sift_down(std::size_t index) noexcept {
  Sleep& sleep = *heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && before(*heap_[child + 1], *heap_[child])) ++child;
    if (!before(*heap_[child], sleep)) break;
    place(index, *heap_[child]);
    index = child;
  }
  place(index, sleep);
}

void TimerHeap::insert(Sleep& sleep) {
  sleep.order_ = next_order_++;
  heap_.push_back(&sleep);
  sift_up(heap_.size() - 1);
}

void TimerHeap::remove(Sleep& sleep) noexcept {
  const std::size_t index = sleep.heap_index_;
  STORE_ASSERT(index < heap_.size() && heap_[index] == &sleep);
  Sleep& last = *heap_.back();
  heap_.pop_back();
  sleep.heap_index_ = Sleep::kNotQueued;
  if (&last == &sleep) return;
  place(index, last);
  sift_up(index);
  sift_down(last.heap_index_);
}

void TimerHeap::forget_all() noexcept {
  for (Sleep* sleep : heap_) sleep->heap_index_ = Sleep::kNotQueued;
  heap_.clear();
}

void TimerHeap::end_first(Wake wake) noexcept {
  Sleep& sleep = *heap_.front();
  remove(sleep);
  sleep.wake_ = wake;
  sleep.ready_.wake();
}

}  // namespace monterey::detail
