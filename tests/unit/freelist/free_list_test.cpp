// FreeList, one rule at a time; free_list_model_test.cpp has them all at random.
#include <gtest/gtest.h>

#include <time.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <store/error.hpp>

#include "store/freelist/allocator_tree.hpp"
#include "store/freelist/free_list.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store {
namespace {

using test::error_of;
using test::on_core;

constexpr std::uint64_t kFirst = 4;
constexpr std::uint64_t kBigDisk = std::uint64_t{1} << 32;

Extent extent(std::uint64_t first, std::uint32_t count) { return {PageNo(static_cast<std::uint32_t>(first)), count}; }

class PageLister final : public AllocatorVisitor {
 public:
  struct Bitmap {
    std::uint32_t region;
    std::vector<std::uint64_t> words;
  };
  void on_page(const PagePointer& page) override { pages.push_back(page); }
  void on_region(std::uint32_t region, ConstBitmapWords free) override {
    bitmaps.push_back({region, {free.begin(), free.end()}});
  }
  void on_damage(const PagePointer& page, const std::string& what) override { damage.emplace_back(page, what); }
  bool is_free(std::uint64_t block) const {
    const auto& words = bitmaps.at(block / kRegionBlocks).words;
    return ((words[block % kRegionBlocks / 64] >> (block % 64)) & 1u) != 0;
  }

  std::vector<PagePointer> pages;
  std::vector<Bitmap> bitmaps;
  std::vector<std::pair<PagePointer, std::string>> damage;
};

// A free list on a disk in memory, with the little of a partition that it needs.
class FreeListTest : public testing::Test {
 protected:
  FreeListTest() : FreeListTest(FreeListOptions()) {}
  explicit FreeListTest(FreeListOptions options)
      : disk(std::make_shared<test::MemDisk>()), device(disk), list_options(options) {
    disk->set_capacity_blocks(kBigDisk);
    list = std::make_unique<FreeList>(device, pins, kFirst, list_options);
  }

  void begin() { list->begin(Generation(++generation)); }

  monterey::Task<> commit() {
    root = co_await list->seal();
    list->committed();
  }

  monterey::Task<> reopen() {
    list = std::make_unique<FreeList>(device, pins, kFirst, list_options);
    co_await list->open(root);
  }

  monterey::Task<PageLister> walk() {
    PageLister lister;
    co_await walk_allocator(device, root, kFirst, lister);
    co_return lister;
  }

  // A store of exactly `regions` regions, all in use but a few blocks at kGap in each. A region's bitmap page lies in the
  // region itself, the root in the first.
  monterey::Task<> fill(std::uint32_t regions) {
    list->create_empty();
    begin();
    co_await test::discard(list->allocate_run(static_cast<std::uint32_t>(regions * kRegionBlocks - kFirst)));
    for (std::uint32_t region = 0; region < regions; ++region)
      list->give_back(block(region, kGap, region == 0 ? 4 : 2));
    co_await commit();
    EXPECT_EQ(root.high_water, regions * kRegionBlocks);
  }

  // The same, but the allocator's pages all lie in the first region.
  monterey::Task<> fill_pages_in_first(std::uint32_t regions) {
    list->create_empty();
    begin();
    co_await test::discard(list->allocate_run(static_cast<std::uint32_t>(regions * kRegionBlocks - kFirst)));
    list->give_back(block(0, kGap, 3 * (regions + 1)));
    co_await commit();
    EXPECT_EQ(root.high_water, regions * kRegionBlocks);
  }

  static constexpr std::uint32_t kGap = 100;
  static Extent block(std::uint64_t region, std::uint32_t index, std::uint32_t count = 1) {
    return extent(region * kRegionBlocks + index, count);
  }

  GenerationPins pins;
  std::shared_ptr<test::MemDisk> disk;
  test::MemBlockDevice device;
  FreeListOptions list_options;
  std::unique_ptr<FreeList> list;
  AllocatorRoot root;
  std::uint64_t generation = 0;
};

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

TEST_F(FreeListTest, OpeningReadsTheRootAndRegionsAreLoadedOnDemand) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(5);
    begin();
    list->release(block(2, 1024, 300), Generation(1));
    co_await commit();
    const std::uint64_t free = list->free_blocks();
    disk->reset_counts();
    co_await reopen();
    EXPECT_EQ(disk->counts().reads, 1u);
    EXPECT_EQ(disk->counts().blocks_read, 1u);
    EXPECT_EQ(list->loaded_regions(), 0u);
    EXPECT_EQ(list->free_blocks(), free);
    begin();
    const Extent page = co_await list->allocate_pages(1);
    EXPECT_EQ(page.first, block(2, 1024).first);
    EXPECT_EQ(disk->counts().reads, 2u);
    EXPECT_EQ(list->loaded_regions(), 1u);
    list->release(block(3, 5000), Generation(1));
    EXPECT_EQ(disk->counts().reads, 2u);
    co_await commit();
    EXPECT_EQ(disk->counts().reads, 4u) << "the region of the superseded block, and that of the old root";
    EXPECT_EQ(list->loaded_regions(), 3u);
  });
}

TEST_F(FreeListTest, OnlyDirtyRegionsAndTheParentsAboveThemAreWritten) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(6);
    for (std::uint32_t i = 0; i < 60; ++i) {
      const PageLister before = co_await walk();
      disk->reset_counts();
      begin();
      list->release(extent((i % 6) * kRegionBlocks + 1000 + i, 1), Generation(1));
      co_await commit();
      const PageLister after = co_await walk();
      std::uint64_t dirty = 0;
      for (std::size_t region = 0; region < 6; ++region) {
        dirty += before.bitmaps[region].words != after.bitmaps[region].words ? 1 : 0;
      }
      EXPECT_EQ(disk->counts().bytes_written(), (dirty + 1) * kPageBytes) << "commit " << i;
      // The region itself, and where the root lay and lies: no chain of regions that hold each other's pages.
      EXPECT_LE(dirty, 3u);
    }
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

TEST_F(FreeListTest, AFailedLoadChangesNothing) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(3);
    begin();
    list->release(block(2, 1000, 300), Generation(1));
    co_await commit();
    co_await reopen();
    const std::uint64_t free = list->free_blocks();
    begin();
    disk->inject({.op = test::DeviceOp::read});
    EXPECT_EQ(co_await error_of(test::discard(list->allocate_pages(4))), Errc::io_error);
    disk->inject({.op = test::DeviceOp::read});
    EXPECT_EQ(co_await error_of(test::discard(list->allocate_run(40))), Errc::io_error);
    EXPECT_EQ(list->free_blocks(), free);
    const Extent page = co_await list->allocate_pages(1);
    list->release(block(1, 4000), Generation(1));
    disk->inject({.op = test::DeviceOp::read});
    EXPECT_EQ(co_await error_of(test::discard(list->seal())), Errc::io_error);
    list->aborted();
    EXPECT_EQ(list->free_blocks(), free);
    begin();
    EXPECT_EQ(co_await list->allocate_pages(1), page);
    co_await commit();
    EXPECT_TRUE((co_await walk()).damage.empty());
  });
}

TEST_F(FreeListTest, AFailedWriteFailsTheSealAndTheNextCommitIsWhole) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(3);
    for (const std::uint64_t skip : {0, 1}) {
      begin();
      list->release(extent(kRegionBlocks + 4000, 1), Generation(1));
      disk->inject({.op = test::DeviceOp::write, .skip = skip});
      EXPECT_EQ(co_await error_of(test::discard(list->seal())), Errc::io_error);
      list->aborted();
      disk->clear_faults();
    }
    begin();
    list->release(extent(kRegionBlocks + 4000, 1), Generation(1));
    co_await commit();
    const PageLister pages = co_await walk();
    EXPECT_TRUE(pages.damage.empty());
    EXPECT_TRUE(pages.is_free(kRegionBlocks + 4000));
  });
}

TEST_F(FreeListTest, EveryDamagedPageIsNamed) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(3);
    const PageLister good = co_await walk();
    EXPECT_EQ(good.pages.size(), 4u);
    for (const PagePointer& page : good.pages) {
      disk->block(page.page)[2000] ^= std::byte{1};
      const std::string name = "allocator page " + std::to_string(page.page.value);
      std::string what;
      list = std::make_unique<FreeList>(device, pins, kFirst);
      if (page == root.root) {
        EXPECT_EQ(co_await error_of(list->open(root), &what), Errc::corruption);
      } else {
        co_await list->open(root);
        begin();
        // Touches every region.
        for (std::uint32_t region = 0; region < 3; ++region) {
          list->release(extent(region * kRegionBlocks + 9000, 1), Generation(1));
        }
        EXPECT_EQ(co_await error_of(test::discard(list->seal()), &what), Errc::corruption);
        list->aborted();
      }
      EXPECT_NE(what.find(name), std::string::npos) << what;
      const PageLister bad = co_await walk();
      EXPECT_EQ(bad.damage.size(), 1u);
      if (!bad.damage.empty()) {
        EXPECT_EQ(bad.damage[0].first, page);
        EXPECT_NE(bad.damage[0].second.find(name), std::string::npos);
      }
      disk->block(page.page)[2000] ^= std::byte{1};
    }
  });
}

// Pages with good checksums and wrong content: what a fuzzer that repairs checksums makes.
TEST_F(FreeListTest, AHostileBitmapIsRefused) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(200);
    co_await commit();
    std::array<std::uint64_t, kBitmapWords> words{};
    std::array<std::byte, kPageBytes> page;
    const auto open_with = [&](std::uint32_t region, std::uint64_t bit, std::string* what) -> monterey::Task<Errc> {
      words.fill(0);
      words[bit / 64] = std::uint64_t{1} << (bit % 64);
      encode_bitmap(region, words, page);
      AllocatorRoot hostile = root;
      hostile.root = seal_page(page, root.root.page, Generation(1));
      std::ranges::copy(page, disk->block(root.root.page).begin());
      list = std::make_unique<FreeList>(device, pins, kFirst);
      return error_of(list->open(hostile), what);
    };
    std::string what;
    EXPECT_EQ(co_await open_with(0, 3, &what), Errc::corruption);
    EXPECT_NE(what.find("block 3 is free in it"), std::string::npos) << what;
    EXPECT_EQ(co_await open_with(0, root.high_water, &what), Errc::corruption);
    EXPECT_EQ(co_await open_with(1, 10, &what), Errc::corruption);
    EXPECT_NE(what.find("region 1, expected 0"), std::string::npos) << what;
    static_cast<void>(pages);
  });
}

TEST_F(FreeListTest, AParentThatMiscountsIsRefused) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(2);
    const BitmapParentView parent(disk->block(root.root.page).data());
    std::vector<BitmapParentCell> cells{parent.child(0), parent.child(1)};
    ++cells[1].free.free_blocks;
    alignas(8) std::array<std::byte, kPageBytes> page;
    encode_bitmap_parent(1, 0, cells, page);
    root.root = seal_page(page, root.root.page, Generation(1));
    std::ranges::copy(page, disk->block(root.root.page).begin());
    co_await reopen();
    begin();
    list->release(block(1, 5000), Generation(1));
    std::string what;
    EXPECT_EQ(co_await error_of(test::discard(list->seal()), &what), Errc::corruption);
    EXPECT_NE(what.find("but its parent says 2 and 1"), std::string::npos) << what;
    list->aborted();
    EXPECT_EQ((co_await walk()).damage.size(), 1u);
  });
}

TEST_F(FreeListTest, ARootThatCannotBeIsRefused) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(2);
    const auto open_error = [&](AllocatorRoot hostile, std::string* what) -> monterey::Task<Errc> {
      list = std::make_unique<FreeList>(device, pins, kFirst);
      return error_of(list->open(hostile), what);
    };
    std::string what;
    AllocatorRoot hostile = root;
    hostile.levels = 0;
    EXPECT_EQ(co_await open_error(hostile, &what), Errc::corruption);
    EXPECT_NE(what.find("level is 0, expected 1"), std::string::npos) << what;
    hostile = root;
    hostile.high_water = disk->size_blocks() + 1;
    EXPECT_EQ(co_await open_error(hostile, &what), Errc::corruption);
    EXPECT_NE(what.find("cut off"), std::string::npos) << what;
    hostile = root;
    hostile.root.page = PageNo(2);
    EXPECT_EQ(co_await open_error(hostile, &what), Errc::corruption);
    hostile.root = {};
    EXPECT_EQ(co_await open_error(hostile, &what), Errc::corruption);
    hostile = root;
    hostile.high_water = kMaxBlocks + 1;
    EXPECT_EQ(co_await open_error(hostile, &what), Errc::corruption);
  });
}

TEST_F(FreeListTest, ABlockSupersededTwiceIsCorruption) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(1);
    begin();
    EXPECT_THROW(list->release(extent(3, 1), Generation(1)), Error);
    EXPECT_THROW(list->release(extent(kRegionBlocks - 1, 100), Generation(1)), Error);
    EXPECT_THROW(list->release(extent(5000, 1), Generation(generation + 1)), Error);
    list->release(extent(5000, 10), Generation(1));
    list->release(extent(5009, 1), Generation(1));
    std::string what;
    EXPECT_EQ(co_await error_of(test::discard(list->seal()), &what), Errc::corruption);
    EXPECT_NE(what.find("blocks 5009 to 5010"), std::string::npos) << what;
    list->aborted();
    begin();
    list->release(extent(5000, 10), Generation(1));
    co_await commit();
    EXPECT_TRUE((co_await walk()).damage.empty());
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

class SmallCacheTest : public FreeListTest {
 protected:
  SmallCacheTest() : FreeListTest(FreeListOptions{.cached_regions = 2}) {}
};

TEST_F(SmallCacheTest, CleanRegionsAreDroppedOverTheLimit) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(8);
    EXPECT_EQ(list->loaded_regions(), 2u);
    auto pin = pins.pin(Generation(generation));
    begin();
    for (std::uint32_t region = 0; region < 8; ++region) list->release(block(region, 9000), Generation(1));
    co_await commit();
    EXPECT_EQ(list->loaded_regions(), 8u) << "held blocks are known in memory only";
    const std::uint64_t free = list->free_blocks();
    const std::uint64_t held = list->held_blocks();
    pin.reset();
    list->pins_changed();
    EXPECT_EQ(list->free_blocks(), free + held);
    begin();
    co_await commit();
    EXPECT_EQ(list->loaded_regions(), 2u);
    EXPECT_EQ(list->free_blocks(), free + held);
  });
}

class NoCacheTest : public FreeListTest {
 protected:
  NoCacheTest() : FreeListTest(FreeListOptions{.cached_regions = 0}) {}

  // A store in which runs of 100 are found in the second region alone, which is not loaded.
  monterey::Task<> prepare() {
    co_await fill(3);
    begin();
    list->release(block(1, 5000, 300), Generation(1));
    co_await commit();
    EXPECT_EQ(list->loaded_regions(), 0u);
  }
};

TEST_F(NoCacheTest, ARegionLoadedTwiceAtTheSameTimeIsTakenOnce) {
  on_core([&]() -> monterey::Task<> {
    co_await prepare();
    disk->complete(test::MemDisk::Completion::held);
    auto first = monterey::spawn(list->reserve_run(100));
    auto second = monterey::spawn(list->reserve_run(100));
    while (disk->held() < 2) co_await monterey::yield();
    disk->complete(test::MemDisk::Completion::at_once);
    disk->release();
    EXPECT_EQ(co_await std::move(first), block(1, 5000, 100));
    disk->release();
    EXPECT_EQ(co_await std::move(second), block(1, 5100, 100));
  });
}

TEST_F(NoCacheTest, ARegionThatWasCommittedDuringALoadIsReadAgain) {
  on_core([&]() -> monterey::Task<> {
    co_await prepare();
    disk->complete(test::MemDisk::Completion::held);
    auto reserving = monterey::spawn(list->reserve_run(100));
    while (disk->held() == 0) co_await monterey::yield();
    disk->complete(test::MemDisk::Completion::at_once);
    begin();
    list->release(block(1, 9000, 10), Generation(1));
    co_await commit();
    EXPECT_EQ(list->loaded_regions(), 0u);
    disk->release();
    const Extent reserved = co_await std::move(reserving);
    EXPECT_GE(reserved.first, block(1, 5000).first);
    EXPECT_LE(reserved.end(), block(1, 5300).first.value);
    begin();
    list->adopt(reserved);
    co_await commit();
    const PageLister pages = co_await walk();
    EXPECT_TRUE(pages.is_free(block(1, 9009).first.value));
    EXPECT_FALSE(pages.is_free(reserved.first.value));
  });
}

// A store of 3.4 TB has three levels of parents. Only what a commit in region 20,000 meets is really on the disk: the
// parents, which lie in that region with its bitmap, and the bitmap.
TEST_F(FreeListTest, ThreeLevelsOfParents) {
  constexpr std::uint32_t kRegions = kBitmapFanout * kBitmapFanout + 100;
  constexpr std::uint32_t kPresent = 20'000;
  on_core([&]() -> monterey::Task<> {
    const std::uint64_t base = std::uint64_t{kPresent} * kRegionBlocks;
    auto next = static_cast<std::uint32_t>(base + 1000);
    std::array<std::byte, kPageBytes> page;
    const auto write = [&](FreeSummary free) {
      const PageNo number(next++);
      const BitmapParentCell cell{seal_page(page, number, Generation(1)), free};
      std::ranges::copy(page, disk->block(number).begin());
      return cell;
    };
    AllocatorRoot crafted;
    crafted.high_water = std::uint64_t{kRegions} * kRegionBlocks;
    crafted.levels = 3;
    EXPECT_EQ(root_level(kRegions), 3);
    disk->set_size_blocks(crafted.high_water);

    std::array<std::uint64_t, kBitmapWords> words{};
    words[0] = 0xff0;
    encode_bitmap(kPresent, words, page);
    std::vector<BitmapParentCell> cells(kRegions, {PagePointer{PageNo(5), 1, Generation(1), 0}, FreeSummary{}});
    cells[kPresent] = write({8, 8});
    for (std::uint8_t level = 1; level <= 3; ++level) {
      std::vector<BitmapParentCell> parents;
      for (std::uint32_t first = 0; first < cells.size(); first += kBitmapFanout) {
        const auto end = std::min<std::size_t>(first + kBitmapFanout, cells.size());
        FreeSummary free;
        for (std::size_t i = first; i < end; ++i) {
          free.free_blocks += cells[i].free.free_blocks;
          free.longest_run = std::max(free.longest_run, cells[i].free.longest_run);
        }
        encode_bitmap_parent(level, static_cast<std::uint32_t>(parents.size()),
                             std::span(cells).subspan(first, end - first), page);
        parents.push_back(write(free));
      }
      cells = std::move(parents);
    }
    EXPECT_EQ(cells.size(), 1u);
    crafted.root = cells[0].child;

    disk->reset_counts();
    co_await list->open(crafted);
    EXPECT_EQ(disk->counts().reads, 1u);
    EXPECT_EQ(list->free_blocks(), 8u);
    begin();
    begin();
    EXPECT_EQ(co_await list->allocate_run(3), extent(base + 4, 3));
    list->release(extent(base + 900, 2), Generation(1));
    co_await commit();
    EXPECT_EQ(disk->counts().blocks_written, 4u) << "a path";
    EXPECT_EQ(root.levels, 3);
    EXPECT_EQ(list->free_blocks(), 8u - 3 + 2 - 4 + 4);

    co_await reopen();
    EXPECT_EQ(list->free_blocks(), 7u);
    begin();
    EXPECT_EQ(co_await list->allocate_run(2), extent(base + 900, 2));
    // One more region needs a page, and a path.
    EXPECT_EQ((co_await list->allocate_run(40)).first.value, crafted.high_water);
    disk->reset_counts();
    co_await commit();
    EXPECT_EQ(disk->counts().blocks_written, 7u) << "two paths that meet in the root";
  });
}

TEST_F(FreeListTest, ParentsGrowWithTheStore) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    for (const std::uint32_t regions : {1, 2, 168, 169, 200}) {
      begin();
      const std::uint64_t wanted = std::uint64_t{regions} * kRegionBlocks - list->high_water() - 1000;
      co_await test::discard(list->allocate_run(static_cast<std::uint32_t>(wanted)));
      co_await commit();
      EXPECT_EQ(root.levels, regions == 1 ? 0 : regions <= 168 ? 1 : 2);
      const PageLister pages = co_await walk();
      EXPECT_TRUE(pages.damage.empty());
      EXPECT_EQ(pages.bitmaps.size(), regions);
      co_await reopen();
    }
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

}  // namespace
}  // namespace store
