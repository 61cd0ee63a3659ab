// How other threads end a core's wait. One atomic word says whether the core is awake, asleep, or was notified; only
// a notifier that finds it asleep pays for a system call. Publish first, then wake(): the exchange orders the two, so
// either the core finds the notification before it sleeps, or the notifier finds it asleep. Nothing is lost and no
// fence is needed. Owned by the core's backend; it must outlive all who may call wake().
#pragma once

#include <atomic>
#include <cstdint>

namespace monterey::detail {

class Waker {
 public:
  // Errors: io_error when no eventfd can be had.
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  // Any thread. Everything the caller did before is visible to the core once its wait has ended.
  void wake() noexcept {
    if (notify()) signal();
  }
  // The same for who ends the wait in another way than signal(), which it must if this returns true: the core sleeps.
  bool notify() noexcept { return state_.exchange(kNotified, std::memory_order_acq_rel) == kAsleep; }

  // The core, before it waits. Returns false, and forgets the notification, if one came since the last wait: then do
  // not wait.
  bool prepare_sleep() noexcept {
    State expected = kAwake;
    if (state_.compare_exchange_strong(expected, kAsleep, std::memory_order_acq_rel)) return true;
    state_.exchange(kAwake, std::memory_order_acq_rel);
    return false;
  }
  // The core, after every wait that prepare_sleep() allowed.
  void awake() noexcept { state_.exchange(kAwake, std::memory_order_acq_rel); }

  // The core, while it waits without sleeping: whether a notification came that the next prepare_sleep() will find.
  bool notified() const noexcept { return state_.load(std::memory_order_acquire) == kNotified; }

  // Readable (8 bytes) once a notifier found the core asleep. A blocking descriptor, as an armed ring read needs.
  int fd() const noexcept { return fd_; }
  // Makes fd() readable. For wake() and for whoever has to end an armed read.
  void signal() noexcept;

 private:
  enum State : std::uint8_t { kAwake, kNotified, kAsleep };

  std::atomic<State> state_{kAwake};
  int fd_ = -1;
};

}  // namespace monterey::detail
