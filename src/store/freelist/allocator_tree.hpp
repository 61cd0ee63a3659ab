// The allocator's pages on the device, as a reader sees them: which page covers what, how one is read and checked, and
// the walk over all of them that check() makes. Nothing here depends on the free list's state in memory.
//
// Shape: bitmap r covers the blocks from r * kRegionBlocks on; parent i of level l has the children i * kBitmapFanout and
// following of level l - 1; the root is the only page of its level, and the lowest level with one page is the root's.
// Every region that begins below the high-water mark has a bitmap; bits at and beyond the mark are clear.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include <monterey/task.hpp>
#include <store/block_device.hpp>

#include "store/base/ids.hpp"
#include "store/page/bitmap_page.hpp"

namespace store {

// What the meta page carries of the allocator.
struct AllocatorRoot {
  PagePointer root;
  std::uint8_t levels = 0;       // of parents above the bitmaps: the root's level, 0 when the root is the only bitmap
  std::uint64_t high_water = 0;  // at and beyond it all blocks are free, and without a bitmap
};

// The number of regions that begin below `high_water`, and of pages of `level` above so many regions.
constexpr std::uint32_t regions_below(std::uint64_t high_water) noexcept {
  return static_cast<std::uint32_t>((high_water + kRegionBlocks - 1) / kRegionBlocks);
}
constexpr std::uint32_t pages_of_level(std::uint32_t regions, std::uint8_t level) noexcept {
  for (; level > 0; --level) regions = static_cast<std::uint32_t>((regions + kBitmapFanout - 1) / kBitmapFanout);
  return regions;
}
constexpr std::uint8_t root_level(std::uint32_t regions) noexcept {
  std::uint8_t level = 0;
  while (pages_of_level(regions, level) > 1) ++level;
  return level;
}

// The limits that an allocator page is checked against, beside its pointer.
struct AllocatorBounds {
  std::uint64_t first_usable = 0;
  std::uint64_t high_water = 0;
};

// Whether a root as a meta page gave it can be one. Errors: corruption.
void check_allocator_root(const BlockDevice& device, const AllocatorRoot& root, AllocatorBounds bounds);

// Reads the allocator page at `level` and `index` into `page` and checks it: CRC and pointer, type, place, that no bit is
// set outside the bounds and that all pointers lie inside. Errors: corruption, naming the page; io_error.
monterey::Task<> read_allocator_page(BlockDevice& device, PagePointer pointer, std::uint8_t level, std::uint32_t index,
                                     AllocatorBounds bounds, PageBytes page, monterey::IoClass io_class);

// The free blocks below a parent page.
FreeSummary summarize(const BitmapParentView& parent) noexcept;

class AllocatorVisitor {
 public:
  virtual ~AllocatorVisitor() = default;
  // A page of the allocator itself, found good.
  virtual void on_page(const PagePointer& page) = 0;
  // A region's bitmap: bits set are free.
  virtual void on_region(std::uint32_t region, ConstBitmapWords free) = 0;
  // A page could not be read or is wrong; what is below it is left out, the walk goes on.
  virtual void on_damage(const PagePointer& page, const std::string& what) = 0;
};

// Visits every page of the allocator of a durable state, the regions in ascending order. Nothing of that state may be
// reused meanwhile: the caller pins its generation. Cost: one read a page; memory for a page a level.
monterey::Task<> walk_allocator(BlockDevice& device, AllocatorRoot root, std::uint64_t first_usable_block,
                                AllocatorVisitor& visitor);

}  // namespace store
