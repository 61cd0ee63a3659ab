#include "monterey/core_group.hpp"

#include <utility>

#include "monterey/io_backend.hpp"

namespace monterey::detail {

void MessageQueue::append(CoreMessage& message) noexcept {
  message.next = nullptr;
  if (backlog_first_ == nullptr) {
    backlog_first_ = &message;
  } else {
    backlog_last_->next = &message;
  }
  backlog_last_ = &message;
}

bool MessageQueue::publish() noexcept {
  std::uint32_t tail = tail_.load(std::memory_order_relaxed);
  const std::uint32_t before = tail;
  std::uint32_t head = head_.load(std::memory_order_acquire);
  while (backlog_first_ != nullptr) {
    if (tail - head == kSlots) {
      // Told before the second look: either this look sees the room the consumer makes, or the consumer sees the flag
      // and wakes us.
      starved_.store(true, std::memory_order_seq_cst);
      head = head_.load(std::memory_order_seq_cst);
      if (tail - head == kSlots) break;
    }
    CoreMessage* message = backlog_first_;
    backlog_first_ = message->next;
    message->next = nullptr;
    slots_[tail % kSlots] = message;
    ++tail;
  }
  tail_.store(tail, std::memory_order_release);
  return tail != before;
}

bool MessageQueue::deliver() noexcept {
  std::uint32_t head = head_.load(std::memory_order_relaxed);
  const std::uint32_t tail = tail_.load(std::memory_order_acquire);
  if (head == tail) return false;
  for (; head != tail; ++head) {
    CoreMessage* message = slots_[head % kSlots];
    message->deliver(*message);
  }
  head_.store(head, std::memory_order_seq_cst);
  return starved_.load(std::memory_order_seq_cst) && starved_.exchange(false, std::memory_order_seq_cst);
}

CoreGroup::CoreGroup(unsigned cores) : cores_(cores), user_(cores), live_(cores) {
  for (unsigned i = 0; i < cores * cores; ++i) queues_.push_back(std::make_unique<MessageQueue>());
}

void CoreGroup::send(unsigned from, unsigned to, CoreMessage& message) noexcept {
  message.from = from;
  ++cores_[from].counters.messages;
  queue(from, to).append(message);
  cores_[from].dirty = true;
}

void CoreGroup::publish(unsigned from) noexcept {
  if (!cores_[from].dirty) return;
  bool left_over = false;
  for (unsigned to = 0; to < cores(); ++to) {
    MessageQueue& messages = queue(from, to);
    if (!messages.has_unpublished()) continue;
    if (messages.publish()) wake(from, to);
    left_over |= messages.has_unpublished();
  }
  cores_[from].dirty = left_over;
}

void CoreGroup::wake(unsigned from, unsigned to) noexcept {
  if (cores_[to].backend->wake_from(*cores_[from].backend)) ++cores_[from].counters.wakes;
}

void CoreGroup::post(unsigned to, CoreMessage& message) noexcept {
  Core& core = cores_[to];
  CoreMessage* newest = core.posted.load(std::memory_order_relaxed);
  do {
    message.next = newest;
  } while (!core.posted.compare_exchange_weak(newest, &message, std::memory_order_release, std::memory_order_relaxed));
  // Whoever posted into the empty stack has woken the core, or is about to.
  if (newest == nullptr) core.backend->wake();
}

void CoreGroup::deliver(unsigned core) noexcept {
  for (unsigned from = 0; from < cores(); ++from) {
    if (from == core) continue;
    MessageQueue& messages = queue(from, core);
    if (messages.empty()) continue;
    cores_[core].backend->expect_wake();
    if (messages.deliver()) wake(core, from);
  }
  if (cores_[core].posted.load(std::memory_order_relaxed) == nullptr) return;
  CoreMessage* newest = cores_[core].posted.exchange(nullptr, std::memory_order_acquire);
  CoreMessage* oldest = nullptr;
  while (newest != nullptr) {
    CoreMessage* next = std::exchange(newest->next, oldest);
    oldest = std::exchange(newest, next);
  }
  while (oldest != nullptr) {
    CoreMessage* message = std::exchange(oldest, oldest->next);
    message->deliver(*message);
  }
}

void CoreGroup::drop_user() noexcept {
  if (user_.fetch_sub(1, std::memory_order_acq_rel) == 1) stop();
}

void CoreGroup::drop_live() noexcept {
  if (live_.fetch_sub(1, std::memory_order_acq_rel) == 1) wake_all();
}

void CoreGroup::stop() noexcept {
  if (!stopping_.exchange(true, std::memory_order_acq_rel)) wake_all();
}

void CoreGroup::abandon() noexcept {
  abandoned_.store(true, std::memory_order_release);
  stop();
  wake_all();
}

void CoreGroup::wake_all() noexcept {
  for (Core& core : cores_) {
    if (core.backend != nullptr) core.backend->wake();
  }
}

void CoreGroup::record(std::exception_ptr error) noexcept {
  const std::lock_guard lock(error_mutex_);
  if (!error_) error_ = std::move(error);
}

void CoreGroup::rethrow_first_error() {
  std::unique_lock lock(error_mutex_);
  std::exception_ptr error = std::exchange(error_, nullptr);
  lock.unlock();
  if (error) std::rethrow_exception(std::move(error));
}

}  // namespace monterey::detail
