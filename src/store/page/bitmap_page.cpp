#include "store/page/bitmap_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "store/base/assert.hpp"
#include "store/page/structure.hpp"

namespace store {
namespace {

void put_header(PageBytes page, PageType type, std::uint8_t level) noexcept {
  std::fill(page.begin(), page.end(), std::byte{0});
  page[offsetof(layout::PageHeader, type)] = static_cast<std::byte>(type);
  page[offsetof(layout::PageHeader, level)] = static_cast<std::byte>(level);
}

// Blocks below one child of a parent of `level`; at level 3 as many as a device can have.
std::uint64_t blocks_below_child(std::uint8_t level) noexcept {
  std::uint64_t blocks = kRegionBlocks;
  for (std::uint8_t l = 1; l < level; ++l) blocks *= kBitmapFanout;
  return std::min(blocks, kMaxBlocks);
}

}  // namespace

FreeSummary summarize(ConstBitmapWords words) noexcept {
  std::uint32_t free_blocks = 0;
  std::uint32_t longest = 0;
  std::uint32_t run = 0;  // free blocks in a row up to here
  for (const std::uint64_t word : words) {
    if (word == ~std::uint64_t{0}) {
      free_blocks += 64;
      run += 64;
      continue;
    }
    free_blocks += static_cast<std::uint32_t>(std::popcount(word));
    longest = std::max(longest, run + static_cast<std::uint32_t>(std::countr_one(word)));
    // Runs inside the word: each step shortens every run by one bit.
    std::uint32_t inside = 0;
    for (std::uint64_t left = word; left != 0; left &= left >> 1) ++inside;
    longest = std::max(longest, inside);
    run = static_cast<std::uint32_t>(std::countl_one(word));
  }
  return {free_blocks, std::max(longest, run)};
}

void BitmapView::copy_to(BitmapWords words) const noexcept {
  std::memcpy(words.data(), page_ + sizeof(layout::BitmapHeader), kBitmapBytes);
}

void encode_bitmap(std::uint32_t region, ConstBitmapWords words, PageBytes page) noexcept {
  STORE_ASSERT(region < kMaxRegions);
  put_header(page, PageType::bitmap, 0);
  put(page.data() + offsetof(layout::BitmapHeader, region), region);
  std::memcpy(page.data() + sizeof(layout::BitmapHeader), words.data(), kBitmapBytes);
}

void encode_bitmap_parent(std::uint8_t level, std::uint32_t index, std::span<const BitmapParentCell> cells,
                          PageBytes page) noexcept {
  STORE_ASSERT(level >= 1 && level <= kMaxBitmapLevel);
  STORE_ASSERT(cells.size() <= kBitmapFanout);
  put_header(page, PageType::bitmap_parent, level);
  put(page.data() + offsetof(layout::BitmapParentHeader, index), index);
  put(page.data() + offsetof(layout::BitmapParentHeader, count), static_cast<std::uint32_t>(cells.size()));
  std::byte* at = page.data() + sizeof(layout::BitmapParentHeader);
  for (const BitmapParentCell& cell : cells) {
    STORE_ASSERT(!cell.child.is_null());
    put_pointer(at, cell.child);
    put(at + offsetof(layout::BitmapParentEntry, free_blocks), cell.free.free_blocks);
    put(at + offsetof(layout::BitmapParentEntry, longest_run), cell.free.longest_run);
    at += sizeof(layout::BitmapParentEntry);
  }
}

namespace detail {

std::string check_bitmap(ConstPageBytes page) {
  if (page_level(page) != 0) return fmt::format("a bitmap of level {}", page_level(page));
  const std::uint32_t region = BitmapView(page.data()).region();
  if (region >= kMaxRegions) return fmt::format("a bitmap of region {}", region);
  return {};
}

std::string check_bitmap_parent(ConstPageBytes page) {
  const BitmapParentView parent(page.data());
  const std::uint8_t level = parent.level();
  if (level == 0 || level > kMaxBitmapLevel) return fmt::format("a bitmap parent of level {}", level);
  if (parent.count() > kBitmapFanout) return fmt::format("a bitmap parent of {} children", parent.count());
  std::uint64_t regions_below = kBitmapFanout;
  for (std::uint8_t l = 1; l < level; ++l) regions_below *= kBitmapFanout;
  if (parent.index() * regions_below >= kMaxRegions) {
    return fmt::format("a bitmap parent of index {} on level {}", parent.index(), level);
  }
  const Generation generation = page_generation(page.data());
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) {
    const auto [child, free] = parent.child(slot);
    if (child.is_null()) return fmt::format("slot {} has a null pointer", slot);
    if (child.birth > generation) {
      return fmt::format("slot {} has a child of generation {} in a page of {}", slot, child.birth.value,
                         generation.value);
    }
    if (free.free_blocks > blocks_below_child(level) || free.longest_run > std::min(free.free_blocks, kRegionBlocks)) {
      return fmt::format("slot {} has {} free blocks, {} in a row", slot, free.free_blocks, free.longest_run);
    }
  }
  return {};
}

}  // namespace detail
}  // namespace store
