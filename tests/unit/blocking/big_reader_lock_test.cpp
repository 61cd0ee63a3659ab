// The lock of the blocking store: readers beside each other, writers alone, the owner before the others.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "store/blocking/big_reader_lock.hpp"

namespace store::detail {
namespace {

TEST(BigReaderLock, ReadersHoldItTogetherAndWritersAlone) {
  BigReaderLock lock;
  std::set<std::size_t> slots;
  for (std::size_t i = 0; i < BigReaderLock::kSlots; ++i) slots.insert(lock.lock_shared());
  EXPECT_EQ(slots.size(), BigReaderLock::kSlots) << "each has a slot of his own";
  EXPECT_EQ(lock.try_lock_shared(), BigReaderLock::kSlots) << "there are no more";
  EXPECT_FALSE(lock.try_lock());
  for (const std::size_t slot : slots) lock.unlock_shared(slot);
  ASSERT_TRUE(lock.try_lock());
  EXPECT_EQ(lock.try_lock_shared(), BigReaderLock::kSlots);
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  const std::size_t slot = lock.try_lock_shared();
  ASSERT_NE(slot, BigReaderLock::kSlots) << "a try that failed leaves nothing behind";
  lock.unlock_shared(slot);
}

// A writer waits for a reader that is there, and readers that come later wait for him.
TEST(BigReaderLock, AWriterWaitsForReadersAndTheyForHim) {
  BigReaderLock lock;
  const std::size_t slot = lock.lock_shared();
  std::atomic<bool> written{false};
  std::thread writer([&] {
    lock.lock();
    written = true;
    lock.unlock();
  });
  for (std::size_t other = 0; (other = lock.try_lock_shared()) != BigReaderLock::kSlots;) lock.unlock_shared(other);
  EXPECT_FALSE(written) << "he excludes readers, and waits for this one";
  std::thread reader([&] {
    const std::size_t own = lock.lock_shared();
    EXPECT_TRUE(written);
    lock.unlock_shared(own);
  });
  lock.unlock_shared(slot);
  writer.join();
  reader.join();
}

// The two halves of `value` are the same whenever somebody looks who holds the lock. More readers than slots.
TEST(BigReaderLock, NobodySeesWhatIsHalfWritten) {
  constexpr int kReaders = 20;
  constexpr int kRounds = 2'000;
  BigReaderLock lock;
  std::array<int, 2> value{};
  std::vector<std::thread> threads;
  for (int i = 0; i < kReaders; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kRounds; ++n) {
        const std::size_t tried = lock.try_lock_shared();
        const std::size_t slot = tried != BigReaderLock::kSlots ? tried : lock.lock_shared();
        EXPECT_EQ(value[0], value[1]);
        lock.unlock_shared(slot);
      }
    });
  }
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kRounds; ++n) {
        if (!lock.try_lock()) lock.lock();
        ++value[0];
        ++value[1];
        lock.unlock();
      }
    });
  }
  threads.emplace_back([&] {
    lock.lock_as_owner();
    for (int n = 0; n < kRounds; ++n) {
      ++value[0];
      ++value[1];
      lock.pass();
    }
    lock.unlock();
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value[0], 3 * kRounds);
}

}  // namespace
}  // namespace store::detail
