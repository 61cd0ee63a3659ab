// A lock for what many threads read, each for a few hundred nanoseconds, and one at a time changes: a big-reader lock. A reader writes to a cache
// line of its own only, so readers do not slow each other down; who changes something looks at all of these lines. The owner, a
// thread that holds it for whatever it does, goes before other writers.
//
// Invariants:
//  * A writer holds mutex_, has said so in excluding_, and has then seen every slot free.
//  * A reader has taken a slot and has then seen nobody excluding, or has taken it while it held mutex_.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace store::detail {

class BigReaderLock {
 public:
  static constexpr std::size_t kSlots = 16;

  BigReaderLock() noexcept = default;
  BigReaderLock(const BigReaderLock&) = delete;
  BigReaderLock& operator=(const BigReaderLock&) = delete;
  ~BigReaderLock() { pthread_mutex_destroy(&mutex_); }

  // Waits a while before it sleeps.
  void lock() noexcept {
    lock_mutex();
    exclude_readers();
  }
  bool try_lock() noexcept;
  void unlock() noexcept {
    excluding_.store(false, std::memory_order_release);
    pthread_mutex_unlock(&mutex_);
  }

  // Of a reader; returns its slot, which is his alone until he gives it to unlock_shared().
  std::size_t lock_shared() noexcept {
    const std::size_t slot = try_lock_shared();
    return slot != kSlots ? slot : wait_shared();
  }
  // kSlots if it would have to wait.
  std::size_t try_lock_shared() noexcept {
    const std::size_t slot = take_slot();
    if (slot == kSlots) return kSlots;
    if (!excluding_.load(std::memory_order_seq_cst)) [[likely]]
      return slot;
    unlock_shared(slot);
    return kSlots;
  }
  void unlock_shared(std::size_t slot) noexcept { slots_[slot].taken.store(false, std::memory_order_release); }

  // Where the calling thread begins to look for a slot: another one for each of the first kSlots threads.
  static std::size_t home_slot() noexcept {
    static constinit std::atomic<std::size_t> threads{0};
    static constinit thread_local std::size_t home =
        kSlots;  // which asks for no guard, as its own initialisation would
    if (home == kSlots) [[unlikely]]
      home = threads.fetch_add(1, std::memory_order_relaxed) % kSlots;
    return home;
  }

  // Of the owner. pass(): lets those in who wait.
  void lock_as_owner() noexcept;
  void pass() noexcept;

 private:
  struct alignas(64) Slot {
    std::atomic<bool> taken{false};
  };

  bool try_lock_mutex() noexcept {
    return !owner_waits_.load(std::memory_order_relaxed) && pthread_mutex_trylock(&mutex_) == 0;
  }
  void lock_mutex() noexcept;
  void exclude_readers() noexcept;
  std::size_t wait_shared() noexcept;
  // kSlots if all are taken.
  std::size_t take_slot() noexcept {
    const std::size_t home = home_slot();
    for (std::size_t i = 0; i < kSlots; ++i) {
      const std::size_t slot = (home + i) % kSlots;
      std::atomic<bool>& taken = slots_[slot].taken;
      if (!taken.load(std::memory_order_relaxed) && !taken.exchange(true, std::memory_order_seq_cst)) [[likely]]
        return slot;
    }
    return kSlots;
  }
  std::array<Slot, kSlots> slots_;
  alignas(64) std::atomic<bool> excluding_{false};  // readers read it always, and it is written seldom
  alignas(64) pthread_mutex_t mutex_ = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
  std::atomic<int> waiting_{0};
  std::atomic<bool> owner_waits_{false};
};

}  // namespace store::detail
