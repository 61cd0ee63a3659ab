// FreeList, one rule at a time: the life of a block, where blocks come from, reservations. free_list_pages_test.cpp has what concerns
// its pages on the device, free_list_model_test.cpp all at random.
#include <gtest/gtest.h>

#include <time.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <store/error.hpp>

#include "unit/freelist/free_list_support.hpp"

namespace store {
namespace {

using test::error_of;
using test::extent;
using test::FreeListTest;
using test::kBigDisk;
using test::kFirst;
using test::on_core;
using test::PageLister;

TEST_F(FreeListTest, AnEmptyStoreIsOneBitmapPage) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    EXPECT_EQ(list->free_blocks(), 0u);
    EXPECT_EQ(list->high_water(), kFirst);
    begin();
    co_await commit();
    EXPECT_EQ(root.root.page, PageNo(4));
    EXPECT_EQ(root.levels, 0);
    EXPECT_EQ(root.high_water, 5u);
    EXPECT_EQ(disk->counts().blocks_written, 1u);
    begin();
    co_await commit();
    EXPECT_EQ(disk->counts().blocks_written, 1u) << "nothing changed, so nothing is to be written";
    EXPECT_EQ(root.root.page, PageNo(4));
  });
}

TEST_F(FreeListTest, ANullRootIsAStoreThatNeverCommittedAllocations) {
  on_core([&]() -> monterey::Task<> {
    disk->set_size_blocks(kFirst);
    AllocatorRoot null;
    null.high_water = kFirst;
    co_await list->open(null);
    begin();
    const Extent page = co_await list->allocate_pages(1);
    EXPECT_EQ(page, extent(4, 1));
    co_await commit();
    EXPECT_EQ(root.high_water, 6u);
  });
}

TEST_F(FreeListTest, ABlockIsReusedOnlyWhenItsDeathIsDurable) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent page = co_await list->allocate_pages(1);
    co_await commit();
    const std::uint64_t birth = generation;

    begin();
    list->release(page, Generation(birth));
    EXPECT_EQ(list->free_blocks(), 0u);
    const Extent other = co_await list->allocate_pages(1);
    EXPECT_NE(other.first, page.first);
    const AllocatorRoot sealed = co_await list->seal();
    EXPECT_EQ(list->free_blocks(), 0u) << "free in the sealed generation, which is not durable";
    const Extent reserved = co_await list->reserve_run(1);
    EXPECT_NE(reserved.first, page.first);
    root = sealed;
    list->committed();
    EXPECT_EQ(list->free_blocks(), 2u) << "the page and the bitmap before";
    begin();
    const Extent again = co_await list->allocate_pages(2);
    EXPECT_EQ(again.first, page.first);
    list->aborted();
  });
}

TEST_F(FreeListTest, APinHoldsWhatItMayReadAndNothingElse) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(40);
    co_await commit();
    auto old = pins.pin(Generation(generation));
    begin();
    const Extent between = co_await list->allocate_run(7);
    list->release(extent(pages.first.value, 10), old.generation());
    co_await commit();
    EXPECT_EQ(list->held_blocks(), 11u) << "and the bitmap that was current when it was pinned";

    const std::uint64_t born = generation;
    begin();
    list->release(between, Generation(born));
    co_await commit();
    EXPECT_EQ(list->held_blocks(), 11u) << "born after the one pin, superseded before the next";
    auto young = pins.pin(Generation(generation));
    begin();
    list->release(extent(pages.first.value + 10, 10), Generation(1));
    co_await commit();
    EXPECT_EQ(list->held_blocks(), 22u);

    const std::uint64_t before = list->free_blocks();
    old.reset();
    EXPECT_EQ(list->free_blocks(), before);
    list->pins_changed();
    EXPECT_EQ(list->held_blocks(), 11u);
    EXPECT_EQ(list->free_blocks(), before + 11);
    young.reset();
    list->pins_changed();
    EXPECT_EQ(list->held_blocks(), 0u);
    EXPECT_EQ(list->free_blocks(), before + 22);
  });
}

TEST_F(FreeListTest, APageOfACutIsHeldForASnapshotOfThatCut) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent first = co_await list->allocate_pages(1);
    const std::uint64_t cut = generation;
    begin();
    list->release(first, Generation(cut));
    const Extent second = co_await list->allocate_pages(1);
    begin();
    list->release(second, Generation(cut + 1));
    auto snapshot = pins.pin(Generation(cut));
    co_await commit();
    EXPECT_EQ(list->held_blocks(), 1u);
    EXPECT_EQ(list->free_blocks(), 1u) << "nobody reads the second cut";
    const PageLister pages = co_await walk();
    EXPECT_TRUE(pages.is_free(first.first.value)) << "held in memory only";
    snapshot.reset();
    list->pins_changed();
    EXPECT_EQ(list->free_blocks(), 2u);
  });
}

TEST_F(FreeListTest, AfterReopeningNothingIsHeldOrReserved) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(20);
    co_await commit();
    const auto pin = pins.pin(Generation(generation));
    const Extent reserved = co_await list->reserve_run(30);
    EXPECT_EQ(list->reserved_blocks(), 30u);
    begin();
    list->release(pages, Generation(1));
    co_await commit();
    EXPECT_EQ(root.high_water, reserved.end() + 1) << "the reservation lies below the mark, as free blocks";
    EXPECT_EQ(list->held_blocks(), 21u);
    EXPECT_EQ(list->free_blocks(), 0u);
    co_await reopen();
    EXPECT_EQ(list->held_blocks(), 0u);
    EXPECT_EQ(list->reserved_blocks(), 0u);
    EXPECT_EQ(list->free_blocks(), 51u);
  });
}

TEST_F(FreeListTest, AbortRestoresTheStateBefore) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(2);
    const Extent reserved = co_await list->reserve_run(50);
    const std::uint64_t free = list->free_blocks();
    const std::uint64_t high_water = list->high_water();
    for (const bool sealed : {false, true}) {
      begin();
      list->adopt(reserved);
      EXPECT_EQ(list->reserved_blocks(), 0u);
      const Extent run = co_await list->allocate_run(kRegionBlocks);
      const Extent pages = co_await list->allocate_pages(1);
      list->release(extent(7000, 100), Generation(1));
      begin();
      list->release(pages, Generation(generation - 1));
      static_cast<void>(run);
      if (sealed) static_cast<void>(co_await list->seal());
      list->aborted();
      EXPECT_EQ(list->free_blocks(), free);
      EXPECT_EQ(list->high_water(), high_water);
      EXPECT_EQ(list->reserved_blocks(), 50u);
    }
    list->cancel(reserved);
    EXPECT_EQ(list->high_water(), root.high_water) << "it lay beyond the durable mark, which falls back";
    begin();
    list->release(extent(7000, 100), Generation(1));
    co_await commit();
    const PageLister pages = co_await walk();
    EXPECT_TRUE(pages.damage.empty());
    EXPECT_TRUE(pages.is_free(7099));
    EXPECT_FALSE(pages.is_free(7100));
  });
}

TEST_F(FreeListTest, GivingBackAtTheEndLowersTheHighWaterMark) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(64);
    EXPECT_EQ(list->high_water(), 68u);
    list->give_back(extent(pages.first.value + 10, 54));
    EXPECT_EQ(list->high_water(), 14u);
    co_await commit();
    EXPECT_EQ(root.high_water, 15u);
  });
}

TEST_F(FreeListTest, PagesComeFromTheEmptiestWindowFirst) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(3);
    begin();
    list->release(extent(2 * kWindowBlocks, 100), Generation(1));
    list->release(extent(kRegionBlocks + 8 * kWindowBlocks, 200), Generation(1));
    list->release(extent(2 * kRegionBlocks + 3 * kWindowBlocks, 30), Generation(1));
    co_await commit();
    begin();
    std::vector<Extent> taken;
    for (int i = 0; i < 3; ++i) taken.push_back(co_await list->allocate_pages(kWindowBlocks));
    const std::vector<Extent> expected{extent(kRegionBlocks + 8 * kWindowBlocks, 200), extent(2 * kWindowBlocks, 100),
                                       extent(2 * kRegionBlocks + 3 * kWindowBlocks, 30)};
    EXPECT_EQ(taken, expected);
    list->aborted();
  });
}

TEST_F(FreeListTest, ARunTakesTheShortestGapThatFits) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(1);
    begin();
    list->release(extent(1000, 100), Generation(1));
    list->release(extent(2000, 20), Generation(1));
    list->release(extent(3000, 50), Generation(1));
    co_await commit();
    begin();
    EXPECT_EQ(co_await list->allocate_run(15), extent(2000, 15));
    EXPECT_EQ(co_await list->allocate_run(15), extent(3000, 15));
    EXPECT_EQ(co_await list->allocate_run(60), extent(1000, 60));
    const Extent beyond = co_await list->allocate_run(41);
    EXPECT_EQ(beyond.first.value, root.high_water);
    list->aborted();
  });
}

TEST_F(FreeListTest, RunsOverSeveralRegionsComeBack) {
  on_core([&]() -> monterey::Task<> {
    co_await fill_pages_in_first(5);
    begin();
    // One gap across a border, one over a whole region, each only when neighbours are seen together.
    list->release(extent(kRegionBlocks - 600, 1000), Generation(1));
    list->release(extent(2 * kRegionBlocks - 10, kRegionBlocks + 20), Generation(1));
    co_await commit();
    begin();
    EXPECT_EQ(co_await list->allocate_run(999), extent(kRegionBlocks - 600, 999));
    EXPECT_EQ(co_await list->allocate_run(kRegionBlocks + 5), extent(2 * kRegionBlocks - 10, kRegionBlocks + 5));
    co_await commit();
    EXPECT_EQ((co_await walk()).damage.size(), 0u);
  });
}

TEST_F(FreeListTest, AGapAcrossABorderIsFoundInRegionsNotLoaded) {
  on_core([&]() -> monterey::Task<> {
    co_await fill_pages_in_first(4);
    begin();
    list->release(extent(3 * kRegionBlocks - 600, 1000), Generation(1));
    co_await commit();
    co_await reopen();
    EXPECT_EQ(list->loaded_regions(), 0u);
    begin();
    EXPECT_EQ(co_await list->allocate_run(999), extent(3 * kRegionBlocks - 600, 999));
    EXPECT_EQ(list->loaded_regions(), 2u);
    list->aborted();
  });
}

TEST_F(FreeListTest, ARunContinuesTheFreeEndOfTheStore) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    co_await test::discard(list->allocate_run(500));
    co_await commit();
    for (const Extent superseded : {extent(104, 400), extent(50, 1)}) {
      begin();
      list->release(superseded, Generation(1));
      co_await commit();
    }
    // The bitmap page lay at the end; now it is in a gap further down.
    EXPECT_LT(root.root.page.value, 104u + 2);
    co_await reopen();
    begin();
    const Extent run = co_await list->allocate_run(1000);
    EXPECT_LT(run.first.value, 104u + 2);
    EXPECT_EQ(list->high_water(), run.end());
    list->aborted();
  });
}

// A store that only grows must not leave each region's bitmap in the next one: then a commit that touches the first
// region would have to write them all.
TEST_F(FreeListTest, GrowthLeavesNoChainOfRegions) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    while (list->high_water() < 5 * kRegionBlocks) {
      begin();
      for (int i = 0; i < 64; ++i) co_await test::discard(list->allocate_pages(64));
      co_await commit();
    }
    EXPECT_GT(list->free_blocks(), 0u);
    for (std::uint32_t region = 0; region < 5; ++region) {
      disk->reset_counts();
      begin();
      list->release(block(region, 20'000), Generation(1));
      co_await commit();
      EXPECT_LE(disk->counts().blocks_written, 4u) << "region " << region;
    }
  });
}

// When the disk is full, though the device has capacity left on paper, pages are taken wherever there is one.
TEST_F(FreeListTest, CrumbsAreUsedWhenTheDeviceCannotGrow) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(2);
    const std::uint64_t free = list->free_blocks();
    disk->inject({.op = test::DeviceOp::grow, .times = 1000, .errc = Errc::no_space});
    begin();
    std::uint64_t taken = 0;
    while (list->free_blocks() > 0) taken += (co_await list->allocate_pages(1)).count;
    EXPECT_EQ(taken, free);
    EXPECT_EQ(co_await error_of(test::discard(list->allocate_pages(1))), Errc::no_space);
    list->aborted();
    EXPECT_EQ(list->free_blocks(), free);
  });
}

TEST_F(FreeListTest, AFullDeviceRefusesAndStaysUsable) {
  disk->set_capacity_blocks(100);
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(90);
    co_await commit();
    EXPECT_EQ(list->allocatable_blocks(), 5u);
    begin();
    std::string what;
    EXPECT_EQ(co_await error_of(test::discard(list->allocate_run(6)), &what), Errc::no_space);
    EXPECT_NE(what.find("memory is full: no 6 free blocks in a row"), std::string::npos) << what;
    EXPECT_EQ(list->allocatable_blocks(), 5u);
    const Extent rest = co_await list->allocate_pages(50);
    EXPECT_EQ(rest.count, 5u);
    EXPECT_EQ(co_await error_of(test::discard(list->seal())), Errc::no_space);
    list->aborted();
    EXPECT_EQ(list->allocatable_blocks(), 5u);
    begin();
    list->release(pages, Generation(1));
    co_await commit();
    EXPECT_EQ(list->allocatable_blocks(), 95u);
  });
}

TEST_F(FreeListTest, ADeviceThatCannotGrowChangesNothing) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    disk->inject({.op = test::DeviceOp::grow, .errc = Errc::no_space});
    EXPECT_EQ(co_await error_of(test::discard(list->allocate_run(10))), Errc::no_space);
    EXPECT_EQ(list->high_water(), kFirst);
    EXPECT_EQ(co_await list->allocate_run(10), extent(kFirst, 10));
    co_await commit();
  });
}

// While the seal's writes are in flight, puts of big values reserve and cancel runs, also beyond the mark.
TEST_F(FreeListTest, ReservationsGoOnDuringASeal) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(2);
    begin();
    list->release(extent(5000, 300), Generation(1));
    disk->complete_by([](const test::Operation& op) {
      return op.op == test::DeviceOp::write ? test::MemDisk::Completion::held : test::MemDisk::Completion::at_once;
    });
    auto seal = monterey::spawn(list->seal());
    while (disk->held() == 0) co_await monterey::yield();
    const Extent beyond = co_await list->reserve_run(2 * kRegionBlocks);
    const Extent cancelled = co_await list->reserve_run(3 * kRegionBlocks);
    EXPECT_EQ(cancelled.first.value, beyond.end());
    list->cancel(cancelled);
    EXPECT_EQ(list->high_water(), beyond.end());
    disk->complete(test::MemDisk::Completion::at_once);
    disk->complete_by(nullptr);
    disk->release_all();
    root = co_await std::move(seal);
    list->committed();
    EXPECT_EQ(root.high_water, beyond.first.value);
    const PageLister pages = co_await walk();
    EXPECT_TRUE(pages.damage.empty());
    EXPECT_EQ(pages.bitmaps.size(), regions_below(root.high_water));

    begin();
    list->adopt(beyond);
    co_await commit();
    const PageLister after = co_await walk();
    EXPECT_TRUE(after.damage.empty());
    EXPECT_FALSE(after.is_free(beyond.first.value));
    EXPECT_FALSE(after.is_free(beyond.end() - 1));
  });
}

// A reservation may raise the mark in the last region after the seal and before that region's page is made.
TEST_F(FreeListTest, WhatIsReservedBeyondTheSealedMarkIsNotInItsBitmap) {
  on_core([&]() -> monterey::Task<> {
    constexpr std::uint32_t kRegions = 70;  // more than are written at once
    list->create_empty();
    begin();
    co_await test::discard(list->allocate_run(kRegions * kRegionBlocks - 5000));
    disk->complete_by([](const test::Operation& op) {
      return op.op == test::DeviceOp::write ? test::MemDisk::Completion::held : test::MemDisk::Completion::at_once;
    });
    auto seal = monterey::spawn(list->seal());
    while (disk->held() == 0) co_await monterey::yield();
    const Extent reserved = co_await list->reserve_run(100);
    disk->complete_by(nullptr);
    disk->release_all();
    root = co_await std::move(seal);
    list->committed();
    EXPECT_EQ(root.high_water, reserved.first.value);
    const PageLister pages = co_await walk();
    EXPECT_EQ(pages.damage.size(), 0u);
    EXPECT_EQ(pages.bitmaps.size(), kRegions);
    EXPECT_FALSE(pages.is_free(reserved.first.value));
  });
}

TEST_F(FreeListTest, TasksThatSearchAtTheSameTimeNeverGetTheSameBlock) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(3);
    begin();
    list->release(extent(5000, 300), Generation(1));
    list->release(extent(kRegionBlocks + 5000, 300), Generation(1));
    co_await commit();
    co_await reopen();
    disk->complete(test::MemDisk::Completion::yield);
    begin();
    std::vector<monterey::JoinHandle<Extent>> handles;
    for (std::uint32_t i = 0; i < 40; ++i) {
      handles.push_back(monterey::spawn(list->reserve_run(1 + i)));
      handles.push_back(monterey::spawn(list->allocate_pages(1 + i)));
    }
    std::vector<Extent> got;
    for (auto& handle : handles) got.push_back(co_await std::move(handle));
    std::ranges::sort(got, {}, [](const Extent& e) { return e.first; });
    for (std::size_t i = 1; i < got.size(); ++i) EXPECT_LE(got[i - 1].end(), got[i].first.value);
    co_await commit();
    EXPECT_TRUE((co_await walk()).damage.empty());
  });
}

double thread_cpu_ms() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

// 100,000 scattered pages over 32 regions. The limits are for debug builds with sanitizers; what a release build takes
// is a few milliseconds, and printed.
TEST_F(FreeListTest, ACommitOfManyScatteredReleasesIsCheap) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(33);
    begin();
    for (std::uint32_t i = 0; i < 100'000; ++i) list->release(block(i % 33, 500 + i / 33 * 9), Generation(1));
    const double before = thread_cpu_ms();
    root = co_await list->seal();
    const double sealed = thread_cpu_ms();
    list->committed();
    const double committed = thread_cpu_ms();
    std::printf("100,000 scattered releases: seal %.2f ms, committed %.2f ms of CPU\n", sealed - before,
                committed - sealed);
    EXPECT_LT(sealed - before, 1000);
    EXPECT_LT(committed - sealed, 500);

    // A million free extents: allocation does not look at all of them.
    begin();
    const double start = thread_cpu_ms();
    for (int i = 0; i < 10'000; ++i) static_cast<void>(co_await list->allocate_pages(64));
    const double pages = thread_cpu_ms();
    for (int i = 0; i < 1'000; ++i) static_cast<void>(co_await list->allocate_run(3));
    const double runs = thread_cpu_ms();
    std::printf("an allocation of pages %.2f us, of a run %.2f us\n", (pages - start) / 10, runs - pages);
    EXPECT_LT(pages - start, 2000);
    list->aborted();
  });
}

// What a large range frees whose pages were written one by one: two million single blocks in no order. No step of their way back
// may take long, whether a commit frees them, or the pin that held them goes. What a release build takes is under 1 ms, and printed.
TEST_F(FreeListTest, NoStepStallsForMillionsOfReleases) {
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__)
  constexpr double kMostMs = 5;
  constexpr std::uint32_t kEach = 15'000;
#else
  constexpr double kMostMs = 1000;
  constexpr std::uint32_t kEach = 1'000;
#endif
  constexpr std::uint32_t kRegions = 134;
  on_core([&]() -> monterey::Task<> {
    co_await fill(kRegions);
    std::vector<std::uint32_t> blocks;
    for (std::uint32_t i = 0; i < kEach * kRegions; ++i)
      blocks.push_back(i % kRegions * kRegionBlocks + 500 + i / kRegions * 2);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
    auto pin = pins.pin(Generation(generation));
    begin();
    double longest = 0;
    const auto timed = [&](auto&& step) {
      const double before = thread_cpu_ms();
      step();
      longest = std::max(longest, thread_cpu_ms() - before);
    };
    for (const std::uint32_t b : blocks) timed([&] { list->release(extent(b, 1), Generation(1)); });
    std::printf("a release: %.3f ms at most\n", std::exchange(longest, 0));
    bool sealing = true;
    auto sealed = monterey::spawn([](FreeList* of, AllocatorRoot* to, bool* goes_on) -> monterey::Task<> {
      *to = co_await of->seal();
      *goes_on = false;
    }(list.get(), &root, &sealing));
    double before = thread_cpu_ms();
    while (sealing) {  // it runs whenever this does not
      co_await monterey::yield();
      longest = std::max(longest, thread_cpu_ms() - std::exchange(before, thread_cpu_ms()));
    }
    co_await std::move(sealed);
    std::printf("seal: %.3f ms at most\n", longest);
    EXPECT_LT(std::exchange(longest, 0), kMostMs);
    const std::uint64_t free = list->free_blocks();
    timed([&] { list->committed(); });
    bool more = true;
    while (more) timed([&] { more = list->settle_some(); });
    std::printf("held: %.3f ms at most\n", longest);
    EXPECT_LT(std::exchange(longest, 0), kMostMs);
    const std::uint64_t held = list->held_blocks();
    EXPECT_GE(held, blocks.size());
    timed([&] {
      pin.reset();
      list->pins_changed();
    });
    for (more = true; more;) timed([&] { more = list->settle_some(); });
    std::printf("free: %.3f ms at most\n", longest);
    EXPECT_LT(longest, kMostMs);
    EXPECT_EQ(list->held_blocks(), 0u);
    EXPECT_EQ(list->free_blocks(), free + held);
    begin();
    co_await commit();
    const PageLister pages = co_await walk();
    EXPECT_TRUE(pages.damage.empty());
  });
}

// What has not been settled is nobody's, and a search that would go past the mark settles it first.
TEST_F(FreeListTest, WhatIsNotSettledIsFoundBeforeTheStoreGrows) {
  on_core([&]() -> monterey::Task<> {
    list_options.settled_at_once = 1;
    list = std::make_unique<FreeList>(device, pins, kFirst, list_options);
    co_await fill(2);
    const std::uint64_t mark = list->high_water();
    for (const bool is_held : {false, true}) {
      auto pin = is_held ? pins.pin(Generation(generation)) : GenerationPins::Pin();
      begin();
      for (std::uint32_t i = 0; i < 2'000; ++i)
        list->release(block(1, (is_held ? 8'500 : 500) + 4 * i, 2), Generation(1));
      co_await commit();
      EXPECT_LT(list->free_blocks(), 1'000u);
      if (is_held) {
        co_await list->settle();
        EXPECT_GE(list->held_blocks(), 4'000u);
        pin.reset();
        list->pins_changed();
        EXPECT_LT(list->free_blocks(), 1'000u);
      }
      begin();
      for (int i = 0; i < 1'900; ++i) co_await test::discard(list->allocate_run(2));
      EXPECT_EQ(list->high_water(), mark);
      co_await commit();
      EXPECT_EQ((co_await walk()).damage.size(), 0u);
    }
  });
}

}  // namespace
}  // namespace store
