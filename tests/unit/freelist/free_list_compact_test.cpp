// What compaction asks of a FreeList: the lowest blocks first, the allocator's own pages out of the tail, and a high-water
// mark that falls; and what a small commit writes when free space is in a million pieces.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/freelist/free_list.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store {
namespace {

using test::on_core;

constexpr std::uint64_t kFirst = 4;

Extent extent(std::uint64_t first, std::uint64_t count) {
  return {PageNo(static_cast<std::uint32_t>(first)), static_cast<std::uint32_t>(count)};
}

class Visitor final : public AllocatorVisitor {
 public:
  void on_page(const PagePointer& page) override { pages.push_back(page.page.value); }
  void on_region(std::uint32_t, ConstBitmapWords words) override {
    for (const std::uint64_t word : words) free += static_cast<std::uint64_t>(std::popcount(word));
  }
  void on_damage(const PagePointer& page, const std::string& what) override {
    ADD_FAILURE() << "page " << page.page.value << ": " << what;
  }
  std::vector<std::uint64_t> pages;
  std::uint64_t free = 0;
};

class CompactingFreeList : public testing::Test {
 protected:
  CompactingFreeList() : disk(std::make_shared<test::MemDisk>()), device(disk) {
    disk->set_capacity_blocks(std::uint64_t{1} << 32);
    list = std::make_unique<FreeList>(device, pins, kFirst);
  }

  void begin() { list->begin(Generation(++generation)); }
  monterey::Task<> seal_and_commit() {
    root = co_await list->seal();
    list->committed();
  }
  monterey::Task<bool> lower() {
    begin();
    const bool lowers = co_await list->lower_high_water();
    co_await seal_and_commit();
    list->release_withheld();
    co_return lowers;
  }
  // Moves the allocator's pages into free blocks below `mark`.
  monterey::Task<> move_pages(std::uint64_t mark) {
    list->prefer_below(mark);
    begin();
    co_await list->rewrite_own_pages(mark);
    co_await seal_and_commit();
  }
  monterey::Task<Visitor> walk() {
    Visitor visitor;
    co_await walk_allocator(device, root, kFirst, visitor);
    co_return visitor;
  }
  // A store of so many regions, all in use.
  monterey::Task<> fill(std::uint64_t regions) {
    list->create_empty();
    begin();
    co_await test::discard(list->allocate_run(static_cast<std::uint32_t>(regions * kRegionBlocks - 500)));
    co_await seal_and_commit();
  }

  GenerationPins pins;
  std::shared_ptr<test::MemDisk> disk;
  test::MemBlockDevice device;
  std::unique_ptr<FreeList> list;
  AllocatorRoot root;
  std::uint64_t generation = 0;
};

TEST_F(CompactingFreeList, TheLowestBlocksGoFirstWhileToldSo) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(3);
    begin();
    list->release(extent(1000, 3), Generation(1));
    list->release(extent(2000, 1), Generation(1));
    list->release(extent(kRegionBlocks + 7, 5), Generation(1));
    list->release(extent(2 * kRegionBlocks + 512, 600), Generation(1));
    co_await seal_and_commit();
    list->prefer_below(2 * kRegionBlocks);
    begin();
    std::vector<Extent> taken;
    for (int i = 0; i < 4; ++i) taken.push_back(co_await list->allocate_pages(64));
    const std::vector<Extent> expected = {extent(1000, 3), extent(2000, 1), extent(kRegionBlocks + 7, 5)};
    taken.resize(3);
    EXPECT_EQ(taken, expected);
    list->aborted();
    begin();
    const Extent run = co_await list->reserve_run(4);
    EXPECT_EQ(run, extent(kRegionBlocks + 7, 4));
    const std::optional<Extent> none = co_await list->allocate_run_below(4, 2 * kRegionBlocks);
    EXPECT_FALSE(none.has_value());
    const std::optional<Extent> some = co_await list->allocate_run_below(3, 2 * kRegionBlocks);
    EXPECT_TRUE(some == extent(1000, 3));
    list->prefer_below(std::nullopt);
    const Extent page = co_await list->allocate_pages(1);
    EXPECT_EQ(page, extent(2 * kRegionBlocks + 512, 1)) << "the emptiest window again";
    list->aborted();
  });
}

// Six regions under a parent, of which all but the first are emptied: their pages go, and the parent with them.
TEST_F(CompactingFreeList, TheMarkFallsOverRegionsAndTheirPages) {
  on_core([&]() -> monterey::Task<> {
    co_await fill(6);
    EXPECT_EQ(root.levels, 1);
    const Visitor before = co_await walk();
    std::vector<bool> own(6 * kRegionBlocks + 100);
    for (const std::uint64_t page : before.pages) own[page] = true;
    begin();
    for (std::uint64_t block = 20'000; block < 6 * kRegionBlocks - 500 + kFirst; ++block) {
      if (!own[block]) list->release(extent(block, 1), Generation(1));
    }
    list->release(extent(1000, 100), Generation(1));
    co_await seal_and_commit();
    const bool too_early = co_await lower();
    EXPECT_FALSE(too_early && root.high_water <= 20'000u) << "the allocator's own pages lie above";

    co_await move_pages(20'000);
    const Visitor moved = co_await walk();
    for (const std::uint64_t page : moved.pages) EXPECT_LT(page, 20'000u);

    // Given up, nothing has happened.
    const std::uint64_t mark = list->high_water();
    const std::uint64_t free = list->free_blocks();
    begin();
    const bool lowers = co_await list->lower_high_water();
    EXPECT_TRUE(lowers);
    EXPECT_LT(list->free_blocks(), free);
    list->aborted();
    EXPECT_EQ(list->high_water(), mark);
    EXPECT_EQ(list->free_blocks(), free);

    const bool lowered = co_await lower();
    EXPECT_TRUE(lowered);
    EXPECT_EQ(root.high_water, 20'000u);
    EXPECT_EQ(list->high_water(), 20'000u);
    EXPECT_EQ(root.levels, 0);
    const Visitor after = co_await walk();
    EXPECT_EQ(after.pages.size(), 1u);
    EXPECT_EQ(after.free, 99u) << "of 100 blocks, one has the bitmap";
    const bool again = co_await lower();
    EXPECT_FALSE(again);

    // What is there can be opened, and grow again.
    list = std::make_unique<FreeList>(device, pins, kFirst);
    co_await list->open(root);
    begin();
    co_await test::discard(list->allocate_run(3 * kRegionBlocks));
    co_await seal_and_commit();
    const Visitor grown = co_await walk();
    EXPECT_EQ(grown.free, root.high_water - (20'000 - 99) - 3 * kRegionBlocks - (grown.pages.size() - 1));
  });
}

TEST_F(CompactingFreeList, WhatIsHeldOrReservedStopsTheMark) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(1000);
    co_await seal_and_commit();
    auto pin = pins.pin(Generation(generation));
    begin();
    list->release(extent(400, 10), Generation(1));
    list->release(extent(500, pages.end() - 500), Generation(1));
    co_await seal_and_commit();
    const bool held = co_await lower();
    EXPECT_FALSE(held);
    pin.reset();
    list->pins_changed();
    co_await move_pages(410);
    const Extent reserved = co_await list->reserve_run(100);
    EXPECT_EQ(reserved.first.value, 500u);
    const bool lowered = co_await lower();
    EXPECT_TRUE(lowered);
    EXPECT_GE(list->high_water(), reserved.end());
    list->cancel(reserved);
    const bool last = co_await lower();
    EXPECT_TRUE(last);
    EXPECT_EQ(list->high_water(), 500u);
  });
}

// A reservation while the commit is on its way goes past what is withheld, and the mark falls behind it only.
TEST_F(CompactingFreeList, AReservationMayComeWhileTheMarkFalls) {
  on_core([&]() -> monterey::Task<> {
    list->create_empty();
    begin();
    const Extent pages = co_await list->allocate_run(1000);
    co_await seal_and_commit();
    begin();
    list->release(extent(400, 10), Generation(1));
    list->release(extent(500, pages.end() - 500), Generation(1));
    co_await seal_and_commit();
    co_await move_pages(410);
    begin();
    const bool lowers = co_await list->lower_high_water();
    EXPECT_TRUE(lowers);
    const std::uint64_t before = list->high_water();
    root = co_await list->seal();
    const Extent reserved = co_await list->reserve_run(10);
    EXPECT_GE(reserved.first.value, before);
    list->committed();
    list->release_withheld();
    EXPECT_EQ(root.high_water, 500u);
    EXPECT_EQ(list->high_water(), reserved.end());
    begin();
    list->adopt(reserved);
    co_await seal_and_commit();
    const Visitor visitor = co_await walk();
    EXPECT_EQ(visitor.free, root.high_water - 500 - 10 + 10 - visitor.pages.size());
  });
}

// 10 GiB of which a third is free, in a million extents. A commit of 100 keys replaces 100 leaves, as many branches above
// them, 76 of the next level (20,000 branches under 170) and the root, anywhere.
TEST_F(CompactingFreeList, ASmallCommitOfALargeStoreWritesLittle) {
  on_core([&]() -> monterey::Task<> {
    constexpr std::uint64_t kRegions = 83;
    constexpr std::uint32_t kTreePages = 100 + 100 + 76 + 1;
    co_await fill(kRegions);
    const Visitor before = co_await walk();
    std::vector<bool> own(kRegions * kRegionBlocks + 1000);
    for (const std::uint64_t page : before.pages) own[page] = true;
    begin();
    std::uint64_t extents = 0;
    for (std::uint64_t block = 5'000; block < kRegions * kRegionBlocks - 500 && extents < 1'000'000; ++block) {
      const bool wanted = block % 5 == 0 || block % 5 == 2;
      if (!wanted || own[block]) continue;
      list->release(extent(block, 1), Generation(1));
      ++extents;
    }
    EXPECT_EQ(extents, 1'000'000u);
    co_await seal_and_commit();

    std::mt19937_64 random(7);
    disk->reset_counts();
    begin();
    std::uint32_t allocated = 0;
    while (allocated < kTreePages) {
      const Extent pages = co_await list->allocate_pages(std::min(64u, kTreePages - allocated));
      allocated += pages.count;
    }
    std::uint32_t released = 0;
    std::vector<bool> gone(own.size());
    while (released < kTreePages) {
      const std::uint64_t block = 5'000 + random() % (kRegions * kRegionBlocks - 6'000);
      if (block % 5 == 0 || block % 5 == 2 || own[block] || gone[block]) continue;
      gone[block] = true;
      list->release(extent(block, 1), Generation(1));
      ++released;
    }
    co_await seal_and_commit();
    const std::uint64_t written = kTreePages + disk->counts().blocks_written;
    RecordProperty("pages_written", static_cast<int>(written));
    std::printf("%u tree pages touched, %llu pages written, %llu KiB\n", kTreePages,
                static_cast<unsigned long long>(written), static_cast<unsigned long long>(written * 4));
    EXPECT_LE(written, 2 * kTreePages);
    EXPECT_LE(written * kPageBytes, 5u << 19);
  });
}

}  // namespace
}  // namespace store
