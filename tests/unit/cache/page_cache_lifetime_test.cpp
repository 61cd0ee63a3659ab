// Waiting for frames, and what happens to pins, loads and waiters when something under them goes away.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include <store/error.hpp>

#include "cache_fixture.hpp"

namespace store::test {
namespace {

constexpr std::size_t kArena = 1u << 20;

// A cache of eight frames, all pinned.
struct FullCache : CacheUnderTest {
  FullCache() : CacheUnderTest(8) {}
  Task<> pin_all() {
    for (const PagePointer& pointer : put_range(1, 8)) pins.push_back(co_await cache->pin(pointer));
    disk->reset_counts();
  }
  std::vector<Pin> pins;
};

TEST(PageCacheFrames, LoadsWithoutAFrameWaitInLine) {
  on_core(kArena, []() -> Task<> {
    FullCache t;
    co_await t.pin_all();
    const std::vector<PagePointer> pages = t.put_range(20, 3);
    std::vector<StartedPin> waiters;
    for (const PagePointer& page : pages) waiters.emplace_back(*t.cache, page);
    StartedPin joins(*t.cache, pages[0]);
    EXPECT_EQ(t.reads(), 0u);
    EXPECT_EQ(t.cache->stats().frame_waits, 3u) << "the fourth joins the first";
    std::vector<Pin> served;
    for (int i = 0; i < 3; ++i) {
      t.pins.pop_back();
      co_await settle();
      for (int j = 0; j < 3; ++j) EXPECT_EQ(waiters[j].ended(), j <= i) << i << ", " << j;
      served.push_back(waiters[i].take());
      EXPECT_EQ(what_is(served.back()), std::to_string(20 + i) + " of 1");
      if (i == 0) {
        EXPECT_EQ(what_is(joins.take()), "20 of 1");
      }
    }
    EXPECT_EQ(t.reads(), 3u);
    EXPECT_EQ(t.cache->stats().loading, 0u);
  });
}

TEST(PageCacheFrames, WishesDoNotWait) {
  on_core(kArena, []() -> Task<> {
    FullCache t;
    co_await t.pin_all();
    const PagePointer page = t.put(20);
    t.cache->prefetch(page, IoClass::foreground);
    EXPECT_EQ(t.cache->stats().loading, 0u);
    t.pins.pop_back();
    EXPECT_EQ(t.reads(), 0u);
    t.cache->prefetch(page, IoClass::foreground);
    EXPECT_TRUE(t.cache->resident(page));
  });
}

// A frame that comes free by a failed read, by unmap, or by a load that nobody waits for any more also goes to the line.
TEST(PageCacheFrames, EveryWayAFrameComesFreeServesTheLine) {
  on_core(kArena, []() -> Task<> {
    FullCache t;
    co_await t.pin_all();
    const std::vector<PagePointer> pages = t.put_range(20, 6);
    t.pins.pop_back();
    t.disk->complete(MemDisk::Completion::held);
    t.disk->inject({.op = DeviceOp::read});
    StartedPin failing(*t.cache, pages[0]);
    StartedPin after_failure(*t.cache, pages[1]);
    t.disk->release();
    co_await settle();
    EXPECT_TRUE(failing.ended());
    EXPECT_EQ(t.disk->held(), 1u) << "the second read has begun";

    after_failure.destroy();
    StartedPin after_nobody(*t.cache, pages[2]);
    t.disk->release();
    co_await settle();
    EXPECT_EQ(t.disk->held(), 1u);
    t.disk->release();
    co_await settle();
    EXPECT_EQ(what_is(after_nobody.take()), "22 of 1");

    t.disk->complete(MemDisk::Completion::at_once);
    t.pins.push_back(co_await t.cache->pin(pages[2]));
    StartedPin after_unmap(*t.cache, pages[3]);
    EXPECT_FALSE(after_unmap.ended());
    t.cache->unmap(PageNo(22));
    EXPECT_FALSE(after_unmap.ended()) << "a pinned frame stays";
    EXPECT_EQ(what_is(t.pins.back()), "22 of 1");
    t.pins.pop_back();
    co_await settle();
    EXPECT_EQ(what_is(after_unmap.take()), "23 of 1");
  });
}

// Each of 200 tasks holds one pin at a time and waits with none, in eight frames.
Task<> walk(CacheUnderTest& t, const std::vector<PagePointer>& pages, std::size_t from) {
  for (std::size_t step = 0; step < 20; ++step) {
    const std::size_t i = (from + step * 7) % pages.size();
    const Pin pin = co_await t.cache->pin(pages[i]);
    co_await monterey::yield();
    EXPECT_EQ(what_is(pin), std::to_string(i + 1) + " of 1");
  }
}

TEST(PageCacheFrames, EightAreEnoughForAnyNumberOfTasksWithOnePin) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const std::vector<PagePointer> pages = t.put_range(1, 300);
    t.disk->complete(MemDisk::Completion::yield);
    std::vector<Task<>> tasks;
    for (std::size_t i = 0; i < 200; ++i) tasks.push_back(walk(t, pages, i));
    co_await monterey::when_all(std::move(tasks));
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
    EXPECT_GT(t.cache->stats().frame_waits, 0u);
  });
}

TEST(PageCacheWaiters, OneThatIsDestroyedLeavesTheQueue) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer page = t.put(5);
    t.disk->complete(MemDisk::Completion::held);
    std::vector<StartedPin> waiters;
    for (int i = 0; i < 3; ++i) waiters.emplace_back(*t.cache, page);
    waiters[1].destroy();
    t.disk->release();
    co_await settle();
    EXPECT_EQ(what_is(waiters[0].take()), "5 of 1");
    EXPECT_EQ(what_is(waiters[2].take()), "5 of 1");
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCacheWaiters, AReadThatNobodyWaitsForAnyMoreEndsWell) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer page = t.put(5);
    t.disk->complete(MemDisk::Completion::held);
    StartedPin waiter(*t.cache, page);
    waiter.destroy();
    t.disk->release();
    co_await t.cache->drain();
    EXPECT_TRUE(t.cache->resident(page));
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCacheWaiters, OneDestroyedBetweenItsPinAndItsTurnGivesThePinBack) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer page = t.put(5);
    t.disk->complete(MemDisk::Completion::held);
    StartedPin waiter(*t.cache, page);
    t.disk->release();
    for (int i = 0; i < 10 && t.cache->pinned_frames() == 0; ++i) co_await monterey::yield();
    EXPECT_EQ(t.cache->pinned_frames(), 1u) << "the read has completed, the waiter has not run";
    EXPECT_FALSE(waiter.ended());
    waiter.destroy();
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCacheWaiters, ALoadInLineGoesWithItsLastWaiter) {
  on_core(kArena, []() -> Task<> {
    FullCache t;
    co_await t.pin_all();
    const std::vector<PagePointer> pages = t.put_range(20, 3);
    StartedPin first(*t.cache, pages[0]), also_first(*t.cache, pages[0]), second(*t.cache, pages[1]),
        third(*t.cache, pages[2]);
    EXPECT_EQ(t.cache->stats().loading, 3u);
    first.destroy();
    EXPECT_EQ(t.cache->stats().loading, 3u);
    also_first.destroy();
    third.destroy();
    EXPECT_EQ(t.cache->stats().loading, 1u);
    t.pins.pop_back();
    co_await settle();
    EXPECT_EQ(what_is(second.take()), "21 of 1");
    EXPECT_EQ(t.reads(), 1u);
    t.pins.clear();
    EXPECT_EQ(what_is(co_await t.cache->pin(pages[2])), "22 of 1");
  });
}

TEST(PageCacheUnmap, APinnedPageStaysReadableAndIsFreedByItsLastPin) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer page = t.put(5);
    Pin pin = co_await t.cache->pin(page);
    Pin second = t.cache->try_pin(page);
    t.cache->unmap(PageNo(5));
    EXPECT_FALSE(t.cache->resident(page));
    EXPECT_FALSE(t.cache->try_pin(page));
    pin.reset();
    EXPECT_EQ(what_is(second), "5 of 1");
    const Pin fresh = co_await t.cache->pin(page);
    EXPECT_NE(fresh.data(), second.data()) << "read anew into another frame";
    EXPECT_EQ(t.reads(), 2u);
    second.reset();
    for (const PagePointer& other : t.put_range(20, 7)) static_cast<void>(co_await t.cache->pin(other));
    EXPECT_EQ(t.cache->stats().resident, 8u) << "all frames are in use again";
  });
}

TEST(PageCacheUnmap, APageBeingReadGoesToItsWaitersOnly) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer page = t.put(5);
    t.disk->complete(MemDisk::Completion::held);
    StartedPin before(*t.cache, page);
    t.cache->unmap(PageNo(5));
    StartedPin after(*t.cache, page);
    EXPECT_EQ(t.disk->held(), 2u) << "who comes later has it read again";
    t.disk->release_all();
    co_await settle();
    const Pin old_pin = before.take();
    const Pin new_pin = after.take();
    EXPECT_EQ(what_is(old_pin), "5 of 1");
    EXPECT_NE(new_pin.data(), old_pin.data());
    EXPECT_EQ(t.cache->try_pin(page).data(), new_pin.data());
    EXPECT_EQ(t.cache->stats().resident, 1u);

    StartedPin dropped(*t.cache, t.put(6));
    t.cache->unmap(PageNo(6));
    dropped.destroy();
    t.disk->release_all();
    co_await t.cache->drain();
    EXPECT_EQ(t.cache->stats().resident, 1u);
    for (const PagePointer& other : t.put_range(20, 6)) t.cache->prefetch(other, IoClass::foreground);
    EXPECT_EQ(t.disk->held(), 6u) << "its frame is free again";
    t.disk->release_all();
    co_await t.cache->drain();
  });
}

TEST(PageCacheEnd, PinsOutliveTheCache) {
  on_core(kArena, []() -> Task<> {
    const std::size_t free_before = monterey::FixedBufs::current().free_bytes();
    std::optional<CacheUnderTest> t(8);
    const std::vector<PagePointer> pages = t->put_range(1, 3);
    Pin pin = co_await t->cache->pin(pages[0]);
    Pin unmapped = co_await t->cache->pin(pages[1]);
    t->cache->unmap(PageNo(2));
    static_cast<void>(co_await t->cache->pin(pages[2]));
    PageCache::UserPin user = t->cache->try_user_pin(pin);
    pin = t->cache->try_pin(pages[0]);
    t.reset();
    EXPECT_EQ(what_is(pin), "1 of 1");
    EXPECT_EQ(what_is(unmapped), "2 of 1");
    pin.reset();
    unmapped.reset();
    EXPECT_EQ(what_is(user.data()), "1 of 1");
    EXPECT_LT(monterey::FixedBufs::current().free_bytes(), free_before);
    user.reset();
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), free_before);
  });
}

TEST(PageCacheEnd, LoadsWaitersAndDrainsOutliveTheCache) {
  on_core(kArena, []() -> Task<> {
    const std::size_t free_before = monterey::FixedBufs::current().free_bytes();
    FullCache t;
    co_await t.pin_all();
    const std::vector<PagePointer> pages = t.put_range(20, 4);
    t.disk->complete(MemDisk::Completion::held);
    t.pins.resize(6);
    StartedPin waited(*t.cache, pages[0]);
    StartedPin failing(*t.cache, pages[1]);
    StartedPin in_line(*t.cache, pages[2]);
    StartedPin dropped(*t.cache, pages[3]);
    auto drained = monterey::spawn(t.cache->drain());
    co_await settle();
    EXPECT_EQ(t.disk->held(), 2u);
    t.cache.reset();
    dropped.destroy();
    t.disk->block(PageNo(21))[100] ^= std::byte{1};
    t.disk->release_all();
    co_await settle();
    EXPECT_THROW(static_cast<void>(failing.take()), Error);
    EXPECT_EQ(t.disk->held(), 1u) << "the failed one's frame went to the one in line";
    EXPECT_FALSE(drained.ended());
    t.pins.clear();
    t.disk->release_all();
    co_await drained;
    co_await settle();
    {
      Pin pin = waited.take(), last = in_line.take();
      EXPECT_EQ(what_is(pin), "20 of 1");
      EXPECT_EQ(what_is(last), "22 of 1");
      pin.reset();
      EXPECT_LT(monterey::FixedBufs::current().free_bytes(), free_before);
    }
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), free_before);
  });
}

// The first unpin starts both loads in line, and both end within it.
TEST(PageCacheEnd, AnUnpinServesTheLineWhenTheCacheIsGone) {
  on_core(kArena, []() -> Task<> {
    const std::size_t free_before = monterey::FixedBufs::current().free_bytes();
    FullCache t;
    co_await t.pin_all();
    t.disk->inject({.op = DeviceOp::read, .times = 2});
    const std::vector<PagePointer> pages = t.put_range(20, 2);
    StartedPin first(*t.cache, pages[0]), second(*t.cache, pages[1]);
    t.cache.reset();
    t.pins.clear();
    co_await settle();
    EXPECT_THROW(static_cast<void>(first.take()), Error);
    EXPECT_THROW(static_cast<void>(second.take()), Error);
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), free_before);
  });
}

TEST(PageCacheEnd, DrainWaitsForLoadsAndOnlyForThem) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    co_await t.cache->drain();
    const PagePointer page = t.put(5);
    const Pin other = co_await t.cache->pin(t.put(6));
    co_await t.cache->drain();
    t.disk->complete(MemDisk::Completion::held);
    t.cache->prefetch(page, IoClass::background);
    auto drained = monterey::spawn(t.cache->drain());
    co_await settle();
    EXPECT_FALSE(drained.ended());
    t.disk->release();
    co_await drained;
  });
}

#ifdef STORE_ASAN
TEST(PageCacheMemory, UnpinnedFramesArePoisoned) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    Pin pin = co_await t.cache->pin(t.put(5));
    const std::byte* const data = pin.data();
    EXPECT_EQ(__asan_region_is_poisoned(const_cast<std::byte*>(data), 4096), nullptr);
    pin.reset();
    EXPECT_TRUE(__asan_address_is_poisoned(data));
    EXPECT_TRUE(__asan_address_is_poisoned(data + 4095));
  });
}
#endif

}  // namespace
}  // namespace store::test
