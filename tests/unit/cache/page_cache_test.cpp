// Hits, loads, eviction and what is kept out of the cache.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <store/error.hpp>

#include "cache_fixture.hpp"

namespace store::test {
namespace {

constexpr std::size_t kArena = 4u << 20;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(PageCache, NeedsEightFrames) {
  on_core(kArena, []() -> Task<> {
    MemBlockDevice device(8);
    std::string what;
    try {
      PageCache cache(device, monterey::FixedBufs::current().allocate(7 * 4096));
      ADD_FAILURE() << "seven frames were accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::invalid_argument);
      what = error.what();
    }
    EXPECT_TRUE(contains(what, "cache_pages") && contains(what, "7")) << what;
    PageCache cache(device, monterey::FixedBufs::current().allocate(8 * 4096));
    EXPECT_EQ(cache.frames(), 8u);
    co_return;
  });
}

TEST(PageCache, ReadsAPageOnce) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer pointer = t.put(17);
    EXPECT_FALSE(t.cache->try_pin(pointer));
    EXPECT_FALSE(t.cache->resident(pointer));
    EXPECT_EQ(t.cache->peek(pointer), nullptr);
    {
      const Pin pin = co_await t.cache->pin(pointer);
      EXPECT_EQ(what_is(pin), "17 of 1");
      EXPECT_EQ(t.cache->pinned_frames(), 1u);
    }
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
    EXPECT_TRUE(t.cache->resident(pointer));
    const Pin hit = t.cache->try_pin(pointer);
    const Pin again = co_await t.cache->pin(pointer);
    EXPECT_EQ(what_is(hit), "17 of 1");
    EXPECT_EQ(again.data(), hit.data());
    EXPECT_EQ(t.cache->peek(pointer), hit.data());
    EXPECT_EQ(t.reads(), 1u);
    EXPECT_EQ(t.cache->stats().loads, 1u);
    EXPECT_EQ(t.cache->stats().misses, 1u);
    EXPECT_EQ(t.cache->stats().hits, 3u);
    EXPECT_EQ(t.cache->stats().resident, 1u);
  });
}

TEST(PageCache, PinsAreMovedAndCounted) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer a = t.put(1), b = t.put(2);
    Pin pin = co_await t.cache->pin(a);
    Pin other = std::move(pin);
    EXPECT_FALSE(pin);
    EXPECT_EQ(what_is(other), "1 of 1");
    pin = co_await t.cache->pin(b);
    EXPECT_EQ(t.cache->pinned_frames(), 2u);
    other = std::move(pin);
    EXPECT_EQ(t.cache->pinned_frames(), 1u);
    EXPECT_EQ(what_is(other), "2 of 1");
    Pin& self = other;
    other = std::move(self);
    EXPECT_EQ(what_is(other), "2 of 1");
    other.reset();
    other.reset();
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCache, ServesAllWaitersByOneRead) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer pointer = t.put(5);
    t.disk->complete(MemDisk::Completion::held);
    std::vector<StartedPin> waiters;
    for (int i = 0; i < 20; ++i) waiters.emplace_back(*t.cache, pointer);
    t.cache->prefetch(pointer, IoClass::background);
    EXPECT_FALSE(t.cache->resident(pointer));
    EXPECT_EQ(t.disk->held(), 1u);
    t.disk->release_all();
    co_await settle();
    for (StartedPin& waiter : waiters) {
      EXPECT_TRUE(waiter.ended());
      EXPECT_EQ(what_is(waiter.take()), "5 of 1");
    }
    EXPECT_EQ(t.reads(), 1u);
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

// Nothing runs between the start of the first task and the count, so all reads go into one submission.
TEST(PageCache, QueuesTheReadsOfTasksStartedTogetherAtOnce) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(128);
    const std::vector<PagePointer> pointers = t.put_range(1, 100);
    t.disk->complete(MemDisk::Completion::held);
    std::vector<StartedPin> waiters;
    for (int i = 0; i < 64; ++i) waiters.emplace_back(*t.cache, pointers[i]);
    EXPECT_EQ(t.disk->held(DeviceOp::read), 64u);
    for (int i = 64; i < 100; ++i) t.cache->prefetch(pointers[i], IoClass::foreground);
    EXPECT_EQ(t.disk->held(DeviceOp::read), 100u);
    EXPECT_EQ(t.cache->stats().loading, 100u);
    t.disk->release_all();
    co_await t.cache->drain();
    co_await settle();
    for (int i = 0; i < 64; ++i) EXPECT_EQ(what_is(waiters[i].take()), std::to_string(i + 1) + " of 1");
    for (const PagePointer& pointer : pointers) EXPECT_TRUE(t.cache->resident(pointer));
  });
}

TEST(PageCache, ReadsNeighboursTogetherWhereTheyAreMissing) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(128);
    const std::vector<PagePointer> pointers = t.put_range(10, 20);
    const Pin resident = co_await t.cache->pin(pointers[7]);
    t.disk->complete(MemDisk::Completion::held);
    StartedPin loading(*t.cache, pointers[12]);
    t.cache->prefetch_together(pointers, IoClass::background);
    std::vector<std::pair<std::uint32_t, std::uint64_t>> reads;
    for (std::size_t i = 0; i < t.disk->held(); ++i) {
      reads.emplace_back(t.disk->held_operation(i).first.value, t.disk->held_operation(i).blocks);
    }
    const std::vector<std::pair<std::uint32_t, std::uint64_t>> wanted = {{22, 1}, {10, 7}, {18, 4}, {23, 7}};
    EXPECT_EQ(reads, wanted);
    StartedPin joined(*t.cache, pointers[2]);
    EXPECT_EQ(t.disk->held(), 4u);
    t.disk->release_all();
    co_await t.cache->drain();
    co_await settle();
    EXPECT_EQ(what_is(joined.take()), "12 of 1");
    EXPECT_EQ(what_is(loading.take()), "22 of 1");
    t.disk->complete(MemDisk::Completion::at_once);
    for (std::uint32_t i = 0; i < 20; ++i) {
      const Pin pin = t.cache->try_pin(pointers[i]);
      EXPECT_EQ(what_is(pin), std::to_string(10 + i) + " of 1");
    }
    EXPECT_EQ(t.cache->stats().loads, 20u);
  });
}

TEST(PageCache, OfPagesReadTogetherNoneFailsForAnother) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(128);
    const std::vector<PagePointer> pointers = t.put_range(10, 8);
    t.disk->block(PageNo(13))[100] ^= std::byte{1};
    t.disk->on_operation = [](const Operation& operation) -> std::optional<Error> {
      if (operation.op != DeviceOp::read || !operation.covers(PageNo(15))) return std::nullopt;
      return Error::from_errno(EIO, "unreadable");
    };
    t.disk->complete(MemDisk::Completion::yield);
    t.cache->prefetch_together(pointers, IoClass::background);
    std::vector<StartedPin> waiters;
    for (const PagePointer& pointer : pointers) waiters.emplace_back(*t.cache, pointer);
    co_await t.cache->drain();
    co_await settle();
    for (std::uint32_t i = 0; i < 8; ++i) {
      EXPECT_TRUE(waiters[i].ended());
      Errc errc{};
      std::string found;
      try {
        found = what_is(waiters[i].take());
      } catch (const Error& error) {
        errc = error.errc();
      }
      EXPECT_EQ(errc, i == 3 ? Errc::corruption : i == 5 ? Errc::io_error : Errc{});
      EXPECT_EQ(found, errc == Errc{} ? std::to_string(10 + i) + " of 1" : "");
    }
    EXPECT_EQ(t.reads(), 9u) << "all together, then each by itself";
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCache, WhatIsReadAheadIsVerifiedForTheFirstWhoWantsIt) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(16);
    std::vector<PagePointer> pointers = t.put_range(10, 8);
    t.disk->block(PageNo(13))[100] ^= std::byte{1};
    t.cache->prefetch_together(pointers, IoClass::background, Reuse::unlikely);
    co_await t.cache->drain();
    EXPECT_EQ(t.cache->stats().resident, 8u);
    EXPECT_EQ(t.cache->stats().load_errors, 0u);
    EXPECT_EQ(t.reads(), 1u);
    EXPECT_EQ(t.cache->peek(pointers[0]), nullptr) << "nothing sees it before it was verified";
    t.cache->prefetch(pointers[0], IoClass::background);
    t.cache->prefetch_together(std::span(pointers).first(3), IoClass::background);
    EXPECT_EQ(what_is(t.cache->try_pin(pointers[0])), "10 of 1");
    EXPECT_EQ(what_is(co_await t.cache->pin(pointers[1])), "11 of 1");
    EXPECT_EQ(t.reads(), 1u) << "it is there";

    // The damage is met again by who wants the page, and only by him.
    EXPECT_FALSE(t.cache->try_pin(pointers[3]));
    EXPECT_EQ(co_await error_of(discard(t.cache->pin(pointers[3]))), Errc::corruption);
    EXPECT_EQ(t.cache->stats().load_errors, 1u);

    // A block that is written anew.
    pointers[4] = t.put(14, 2);
    EXPECT_FALSE(t.cache->try_pin(pointers[4])) << "another version was read ahead";
    EXPECT_EQ(what_is(co_await t.cache->pin(pointers[4])), "14 of 2");
    t.cache->unmap(PageNo(15));
    pointers[5] = t.put(15, 2);
    EXPECT_EQ(what_is(co_await t.cache->pin(pointers[5])), "15 of 2");

    // What nobody came for gives way.
    for (const PagePointer& pointer : t.put_range(30, 32)) EXPECT_TRUE(co_await t.cache->pin(pointer));
    EXPECT_FALSE(t.cache->resident(pointers[6]));
    EXPECT_EQ(t.cache->stats().resident, 16u);
    EXPECT_EQ(what_is(co_await t.cache->pin(pointers[6])), "16 of 1");
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCache, NeverServesAnotherBirth) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer old_page = t.put(9, 1);
    const Pin old_pin = co_await t.cache->pin(old_page);
    const PagePointer new_page = t.put(9, 2);
    EXPECT_FALSE(t.cache->try_pin(new_page));
    const Pin new_pin = co_await t.cache->pin(new_page);
    EXPECT_EQ(what_is(new_pin), "9 of 2");
    EXPECT_EQ(what_is(old_pin), "9 of 1");
    EXPECT_EQ(t.cache->try_pin(old_page).data(), old_pin.data());
    t.cache->unmap(PageNo(9));
    EXPECT_FALSE(t.cache->resident(old_page));
    EXPECT_FALSE(t.cache->resident(new_page));
    EXPECT_EQ(co_await error_of(discard(t.cache->pin(old_page))), Errc::corruption) << "its bytes are gone";
  });
}

TEST(PageCache, AHintLeadsToItsPageOrToTheTable) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const Pin branch = co_await t.cache->pin(t.put_branch(100));
    const PageCache::Hint hint = t.cache->hint(branch.data(), 0);
    EXPECT_NE(hint, t.cache->hint(branch.data(), 1));
    const std::vector<PagePointer> pages = t.put_range(1, 50);
    EXPECT_EQ(t.cache->peek(pages[0], hint), nullptr);
    const std::byte* frame = (co_await t.cache->pin(pages[0])).data();
    EXPECT_EQ(t.cache->peek(pages[0], hint), frame);
    EXPECT_EQ(t.cache->guess(hint), frame) << "it was not noted";
    EXPECT_EQ(t.cache->peek(pages[0], hint), frame);
    // Another page, and another birth of this one, are not in that frame.
    const std::byte* other = (co_await t.cache->pin(pages[1])).data();
    EXPECT_EQ(t.cache->peek(pages[1], hint), other);
    EXPECT_EQ(t.cache->peek(pages[0], hint), frame);
    EXPECT_EQ(t.cache->peek(t.put(1, 2), hint), nullptr);
    t.cache->unmap(PageNo(1));
    EXPECT_EQ(t.cache->peek(pages[0], hint), nullptr) << "found after unmap()";
    for (const PagePointer& page : pages)
      static_cast<void>(co_await t.cache->pin(page.page == PageNo(1) ? pages[2] : page));
    for (const PagePointer& page : pages) {
      const std::byte* found = t.cache->peek(page, hint);
      EXPECT_EQ(found != nullptr, t.cache->resident(page));
      if (found == nullptr) continue;
      EXPECT_EQ(what_is(found), std::to_string(page.page.value) + " of 1");
    }
  });
}

TEST(PageCache, AHintDoesNotShowAPageThatIsBeingRead) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const Pin branch = co_await t.cache->pin(t.put_branch(100));
    const PageCache::Hint hint = t.cache->hint(branch.data(), 0);
    const PagePointer page = t.put(1);
    static_cast<void>(co_await t.cache->pin(page));
    const std::byte* frame = t.cache->peek(page, hint);
    t.cache->unmap(page.page);  // its frame is the next to be taken, and holds its bytes
    t.disk->complete(MemDisk::Completion::held);
    StartedPin reading(*t.cache, page);
    EXPECT_EQ(t.cache->guess(hint), frame);
    EXPECT_EQ(t.cache->peek(page, hint), nullptr);
    t.disk->release_all();
    co_await settle();
    EXPECT_TRUE(reading.ended());
    EXPECT_EQ(t.cache->peek(page, hint), frame);
  });
}

TEST(PageCache, MoreBranchesThanHaveHintsOfTheirOwnAreFoundToo) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(128);
    std::vector<Pin> branches;
    for (std::uint32_t i = 0; i < 40; ++i) branches.push_back(co_await t.cache->pin(t.put_branch(100 + 2 * i)));
    const std::vector<PagePointer> pages = t.put_range(1, 40);
    for (const PagePointer& page : pages) static_cast<void>(co_await t.cache->pin(page));
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < pages.size(); ++i) {
        const std::byte* found = t.cache->peek(pages[i], t.cache->hint(branches[i].data(), 0));
        EXPECT_EQ(what_is(found), std::to_string(i + 1) + " of 1");
      }
    }
    branches.clear();
  });
}

TEST(PageCache, NamesPageCheckAndDeviceOfADamagedPage) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer pointer = t.put(33);
    t.disk->block(PageNo(33))[2000] ^= std::byte{1};
    std::string what;
    EXPECT_EQ(co_await error_of(discard(t.cache->pin(pointer)), &what), Errc::corruption);
    EXPECT_TRUE(contains(what, "memory: page 33: ")) << what;
    EXPECT_EQ(t.cache->stats().resident, 0u);
    EXPECT_EQ(t.cache->stats().load_errors, 1u);
    t.disk->block(PageNo(33))[2000] ^= std::byte{1};
    EXPECT_EQ(what_is(co_await t.cache->pin(pointer)), "33 of 1") << "nothing bad was kept";
  });
}

TEST(PageCache, RefusesPointersThatLeadNowhere) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8, 100);
    PagePointer pointer = t.put(3);
    pointer.page = PageNo(100);
    std::string what;
    EXPECT_EQ(co_await error_of(discard(t.cache->pin(pointer)), &what), Errc::corruption);
    EXPECT_TRUE(contains(what, "page 100") && contains(what, "100 blocks")) << what;
    EXPECT_EQ(t.reads(), 0u);
    EXPECT_EQ(co_await error_of(discard(t.cache->pin(PagePointer()))), Errc::corruption);
    t.cache->prefetch(PagePointer(), IoClass::foreground);
    EXPECT_FALSE(t.cache->try_pin(PagePointer()));
    EXPECT_EQ(t.cache->stats().loading, 0u);
  });
}

TEST(PageCache, GivesAnIoErrorToEveryWaiterAndKeepsNothing) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer pointer = t.put(5);
    t.disk->complete(MemDisk::Completion::held);
    t.disk->inject({.op = DeviceOp::read, .os_error = EIO});
    std::vector<StartedPin> waiters;
    for (int i = 0; i < 3; ++i) waiters.emplace_back(*t.cache, pointer);
    t.disk->release_all();
    co_await settle();
    for (StartedPin& waiter : waiters) {
      EXPECT_TRUE(waiter.ended());
      try {
        static_cast<void>(waiter.take());
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.os_error(), EIO);
      }
    }
    EXPECT_FALSE(t.cache->resident(pointer));
    t.disk->complete(MemDisk::Completion::at_once);
    EXPECT_EQ(what_is(co_await t.cache->pin(pointer)), "5 of 1");
    for (const PagePointer& other : t.put_range(20, 8)) static_cast<void>(co_await t.cache->pin(other));
    EXPECT_EQ(t.cache->stats().resident, 8u) << "the frame of the failed read is back";
  });
}

TEST(PageCache, DropsTheErrorOfAPrefetch) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const PagePointer pointer = t.put(5);
    t.disk->inject({.op = DeviceOp::read, .os_error = EIO});
    t.cache->prefetch(pointer, IoClass::background);
    EXPECT_FALSE(t.cache->resident(pointer));
    t.cache->prefetch(pointer, IoClass::background);
    EXPECT_TRUE(t.cache->resident(pointer));
    t.cache->prefetch(pointer, IoClass::background);
    EXPECT_EQ(t.reads(), 2u);
    co_return;
  });
}

TEST(PageCache, EvictsWhatIsNotUsed) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(16);
    const std::vector<PagePointer> pages = t.put_range(1, 500);
    const PagePointer hot = pages[0];
    static_cast<void>(co_await t.cache->pin(hot));
    for (int round = 0; round < 3; ++round) {
      for (std::uint32_t i = 1; i < 500; ++i) {
        EXPECT_EQ(what_is(co_await t.cache->pin(pages[i])), std::to_string(i + 1) + " of 1");
        EXPECT_TRUE(t.cache->try_pin(hot)) << "a page used between any two others stays";
      }
    }
    const CacheStats stats = t.cache->stats();
    EXPECT_EQ(stats.resident, 16u);
    EXPECT_EQ(stats.loads, t.reads());
    EXPECT_EQ(stats.evictions, stats.loads - 16);
  });
}

TEST(PageCache, NeverEvictsAPinnedPage) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const std::vector<PagePointer> pages = t.put_range(1, 100);
    std::vector<Pin> pins;
    for (int i = 0; i < 7; ++i) pins.push_back(co_await t.cache->pin(pages[i]));
    for (int i = 7; i < 100; ++i) {
      EXPECT_EQ(what_is(co_await t.cache->pin(pages[i])), std::to_string(i + 1) + " of 1");
    }
    for (int i = 0; i < 7; ++i) {
      EXPECT_EQ(what_is(pins[i]), std::to_string(i + 1) + " of 1");
      EXPECT_EQ(t.cache->try_pin(pages[i]).data(), pins[i].data());
    }
    EXPECT_EQ(t.reads(), 100u);
  });
}

// 48 hot pages in 64 frames, and a scan of 900.
Task<std::size_t> hot_pages_left_after_scan(CacheUnderTest& t, Reuse reuse) {
  const std::vector<PagePointer> hot = t.put_range(1, 48);
  const std::vector<PagePointer> scanned = t.put_range(50, 900);
  for (const PagePointer& page : hot) static_cast<void>(co_await t.cache->pin(page));
  for (std::size_t i = 0; i < scanned.size(); ++i) {
    if (i + 1 < scanned.size()) t.cache->prefetch(scanned[i + 1], IoClass::background, reuse);
    const Pin pin = co_await t.cache->pin(scanned[i], IoClass::foreground, reuse);
    EXPECT_EQ(what_is(pin), std::to_string(50 + i) + " of 1");
  }
  co_return static_cast<std::size_t>(
      std::ranges::count_if(hot, [&](const PagePointer& page) { return t.cache->resident(page); }));
}

TEST(PageCache, AScanDoesNotPushOutTheHotSet) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest scan(64);
    EXPECT_EQ(co_await hot_pages_left_after_scan(scan, Reuse::unlikely), 48u);
    EXPECT_EQ(scan.reads(), 948u) << "and reads each page once";
    EXPECT_LT(scan.cache->transient_window(), 16u);
    CacheUnderTest other(64);
    EXPECT_EQ(co_await hot_pages_left_after_scan(other, Reuse::likely), 0u) << "the test could not fail otherwise";
  });
}

TEST(PageCache, AScannedPageThatIsUsedAgainStays) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(64);
    const std::vector<PagePointer> pages = t.put_range(1, 500);
    for (int i = 0; i < 64; ++i) static_cast<void>(co_await t.cache->pin(pages[i]));
    static_cast<void>(co_await t.cache->pin(pages[100], IoClass::foreground, Reuse::unlikely));
    static_cast<void>(t.cache->try_pin(pages[100]));
    for (int i = 101; i < 130; ++i)
      static_cast<void>(co_await t.cache->pin(pages[i], IoClass::foreground, Reuse::unlikely));
    EXPECT_TRUE(t.cache->resident(pages[100]));
    EXPECT_FALSE(t.cache->resident(pages[101]));
  });
}

TEST(PageCache, TakesOverCleanPages) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    std::vector<std::byte> memory(4096);
    const PageBytes page(memory.data(), 4096);
    const PagePointer first = make_page(page, 40, 1);
    t.cache->insert_clean(first, page);
    EXPECT_EQ(what_is(t.cache->try_pin(first)), "40 of 1");
    t.cache->insert_clean(first, page);
    EXPECT_EQ(t.cache->stats().inserted, 1u);

    const PagePointer second = make_page(page, 40, 2);
    t.cache->insert_clean(second, page);
    EXPECT_FALSE(t.cache->resident(first)) << "the block was written again";
    EXPECT_EQ(what_is(t.cache->try_pin(second)), "40 of 2");
    EXPECT_EQ(t.cache->stats().resident, 1u);
    EXPECT_EQ(t.reads(), 0u);

    std::vector<Pin> pins;
    for (const PagePointer& pointer : t.put_range(1, 8)) pins.push_back(co_await t.cache->pin(pointer));
    const PagePointer third = make_page(page, 41, 2);
    t.cache->insert_clean(third, page);
    EXPECT_FALSE(t.cache->resident(third)) << "no frame was to be had";
  });
}

TEST(PageCache, LimitsWhatUsersPinToHalf) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(8);
    const std::vector<PagePointer> pages = t.put_range(1, 5);
    std::vector<PageCache::UserPin> held;
    for (int i = 0; i < 4; ++i) {
      Pin pin = co_await t.cache->pin(pages[i]);
      held.push_back(t.cache->try_user_pin(pin));
      EXPECT_TRUE(held.back());
      EXPECT_FALSE(pin) << "it was taken over";
    }
    Pin pin = co_await t.cache->pin(pages[4]);
    EXPECT_FALSE(t.cache->try_user_pin(pin));
    EXPECT_EQ(what_is(pin), "5 of 1") << "still there to be copied";
    EXPECT_EQ(t.cache->stats().user_pins, 4u);
    held[0].reset();
    held[1] = t.cache->try_user_pin(pin);
    EXPECT_EQ(what_is(held[1].data()), "5 of 1");
    EXPECT_EQ(t.cache->stats().user_pins, 3u);
    EXPECT_FALSE(t.cache->try_user_pin(pin)) << "an empty pin is nothing to take";
    PageCache::UserPin moved = std::move(held[1]);
    held.clear();
    EXPECT_EQ(t.cache->stats().user_pins, 1u);
    moved.reset();
    EXPECT_EQ(t.cache->stats().user_pins, 0u);
    EXPECT_EQ(t.cache->pinned_frames(), 0u);
  });
}

TEST(PageCache, BlindLookupsOfManyPagesFindExactlyWhatIsThere) {
  on_core(kArena, []() -> Task<> {
    CacheUnderTest t(256, 20000);
    std::vector<PagePointer> pages;
    // Numbers that collide in the table as well as neighbours.
    for (std::uint32_t i = 1; i <= 64; ++i) pages.push_back(t.put(i));
    for (std::uint32_t i = 1; i <= 64; ++i) pages.push_back(t.put(i * 256));
    for (const PagePointer& page : pages) static_cast<void>(co_await t.cache->pin(page));
    for (std::size_t i = 0; i < pages.size(); i += 2) t.cache->unmap(pages[i].page);
    for (std::size_t i = 0; i < pages.size(); ++i) EXPECT_EQ(t.cache->resident(pages[i]), i % 2 == 1) << i;
    EXPECT_EQ(t.cache->stats().resident, pages.size() / 2);
  });
}

}  // namespace
}  // namespace store::test
