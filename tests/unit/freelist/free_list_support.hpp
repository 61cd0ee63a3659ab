// A free list on a disk in memory, for tests of one rule at a time.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/freelist/free_list.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store::test {

inline constexpr std::uint64_t kFirst = 4;  // usable block
inline constexpr std::uint64_t kBigDisk = std::uint64_t{1} << 32;

inline Extent extent(std::uint64_t first, std::uint32_t count) {
  return {PageNo(static_cast<std::uint32_t>(first)), count};
}

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
      : disk(std::make_shared<MemDisk>()), device(disk), list_options(options) {
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
    co_await discard(list->allocate_run(static_cast<std::uint32_t>(regions * kRegionBlocks - kFirst)));
    for (std::uint32_t region = 0; region < regions; ++region)
      list->give_back(block(region, kGap, region == 0 ? 4 : 2));
    co_await commit();
    EXPECT_EQ(root.high_water, regions * kRegionBlocks);
  }

  // The same, but the allocator's pages all lie in the first region.
  monterey::Task<> fill_pages_in_first(std::uint32_t regions) {
    list->create_empty();
    begin();
    co_await discard(list->allocate_run(static_cast<std::uint32_t>(regions * kRegionBlocks - kFirst)));
    list->give_back(block(0, kGap, 3 * (regions + 1)));
    co_await commit();
    EXPECT_EQ(root.high_water, regions * kRegionBlocks);
  }

  static constexpr std::uint32_t kGap = 100;
  static Extent block(std::uint64_t region, std::uint32_t index, std::uint32_t count = 1) {
    return extent(region * kRegionBlocks + index, count);
  }

  GenerationPins pins;
  std::shared_ptr<MemDisk> disk;
  MemBlockDevice device;
  FreeListOptions list_options;
  std::unique_ptr<FreeList> list;
  AllocatorRoot root;
  std::uint64_t generation = 0;
};

}  // namespace store::test
