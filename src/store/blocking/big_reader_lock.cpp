#include "store/blocking/big_reader_lock.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace store::detail {
namespace {

constexpr int kYields = 64;
constexpr std::chrono::microseconds kNap{50};  // where threads of other priorities do not run by a yield

// Until `done`, by yielding for as long as that may help.
template <class Done>
void wait_until(Done done) noexcept {
  for (int i = 0; !done(); ++i) {
    if (i < kYields) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

}  // namespace

void BigReaderLock::lock_mutex() noexcept {
  if (try_lock_mutex()) return;
  for (int i = 0; i < kYields && owner_waits_.load(std::memory_order_relaxed); ++i) sched_yield();
  waiting_.fetch_add(1, std::memory_order_relaxed);
  pthread_mutex_lock(&mutex_);
  waiting_.fetch_sub(1, std::memory_order_relaxed);
}

void BigReaderLock::exclude_readers() noexcept {
  excluding_.store(true, std::memory_order_seq_cst);
  for (const Slot& slot : slots_) {
    if (slot.taken.load(std::memory_order_seq_cst)) [[unlikely]]
      wait_until([&slot] { return !slot.taken.load(std::memory_order_acquire); });
  }
}

bool BigReaderLock::try_lock() noexcept {
  if (!try_lock_mutex()) return false;
  excluding_.store(true, std::memory_order_seq_cst);
  const auto is_free = [](const Slot& slot) { return !slot.taken.load(std::memory_order_seq_cst); };
  if (std::ranges::all_of(slots_, is_free)) return true;
  unlock();
  return false;
}

// Who holds the mutex knows that nobody excludes.
std::size_t BigReaderLock::wait_shared() noexcept {
  lock_mutex();
  std::size_t slot = kSlots;
  wait_until([this, &slot] { return (slot = take_slot()) != kSlots; });
  pthread_mutex_unlock(&mutex_);
  return slot;
}

void BigReaderLock::lock_as_owner() noexcept {
  owner_waits_.store(true, std::memory_order_relaxed);
  pthread_mutex_lock(&mutex_);
  owner_waits_.store(false, std::memory_order_relaxed);
  exclude_readers();
}

void BigReaderLock::pass() noexcept {
  if (waiting_.load(std::memory_order_relaxed) == 0) return;
  unlock();
  for (int i = 0; i < kYields && waiting_.load(std::memory_order_relaxed) > 0; ++i) sched_yield();
  lock_as_owner();
}

}  // namespace store::detail
