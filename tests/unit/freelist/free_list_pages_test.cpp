// The pages of a FreeList on the device: which are read, written and kept in memory, how many levels they have, and what is said of
// damaged ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
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

}  // namespace
}  // namespace store
