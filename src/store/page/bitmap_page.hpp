// The allocator's pages. A bitmap page tells for each block of one region whether it is free (bit set); parent pages
// form a tree above, of fixed fan-out, so that a child's place follows from its index. Every region that begins below
// the high-water mark has a bitmap; bits at and beyond the mark are clear. Bit b of word w (little endian) stands for
// block region * kRegionBlocks + 64 * w + b. Layout: docs/on-disk-format.md, "Bitmap" and "Bitmap parent".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "store/page/header.hpp"

namespace store {

inline constexpr std::size_t kBitmapBytes = kPageBytes - sizeof(layout::BitmapHeader);
inline constexpr std::size_t kBitmapWords = kBitmapBytes / sizeof(std::uint64_t);
inline constexpr std::uint32_t kRegionBlocks = static_cast<std::uint32_t>(8 * kBitmapBytes);
inline constexpr std::uint32_t kMaxRegions =
    static_cast<std::uint32_t>((kMaxBlocks + kRegionBlocks - 1) / kRegionBlocks);
inline constexpr std::size_t kBitmapFanout =
    (kPageBytes - sizeof(layout::BitmapParentHeader)) / sizeof(layout::BitmapParentEntry);
inline constexpr std::uint8_t kMaxBitmapLevel = 3;  // of parents; bitmaps are level 0

static_assert(kRegionBlocks == 31'744 && kBitmapFanout == 168);
static_assert(std::uint64_t{kBitmapFanout} * kBitmapFanout * kBitmapFanout >= kMaxRegions);

using BitmapWords = std::span<std::uint64_t, kBitmapWords>;
using ConstBitmapWords = std::span<const std::uint64_t, kBitmapWords>;

// How much is free in a region, or below a parent's entry.
struct FreeSummary {
  std::uint32_t free_blocks = 0;
  std::uint32_t longest_run = 0;  // free blocks in a row, inside one region
  constexpr bool operator==(const FreeSummary&) const = default;
};

// Counts a bitmap's free blocks and finds their longest run. Cost: about a microsecond.
FreeSummary summarize(ConstBitmapWords words) noexcept;

// Reads a bitmap page. Requires: encoded here, or verified and of type bitmap.
class BitmapView {
 public:
  explicit BitmapView(const std::byte* page) noexcept : page_(page) {}
  std::uint32_t region() const noexcept { return load<std::uint32_t>(page_ + offsetof(layout::BitmapHeader, region)); }
  // Requires: index < kRegionBlocks.
  bool is_free(std::uint32_t index) const noexcept {
    const auto byte = static_cast<unsigned>(page_[sizeof(layout::BitmapHeader) + index / 8]);
    return ((byte >> (index % 8)) & 1u) != 0;
  }
  void copy_to(BitmapWords words) const noexcept;

 private:
  const std::byte* page_;
};

// Encodes a bitmap page, not yet sealed. Requires: region < kMaxRegions.
void encode_bitmap(std::uint32_t region, ConstBitmapWords words, PageBytes page) noexcept;

struct BitmapParentCell {
  PagePointer child;  // not null
  FreeSummary free;
};

// Reads a parent page. Requires: encoded here, or verified and of type bitmap_parent.
class BitmapParentView {
 public:
  explicit BitmapParentView(const std::byte* page) noexcept : page_(page) {}
  std::uint8_t level() const noexcept { return page_level(page_); }
  // The page's place among those of its level: child c has index() * kBitmapFanout + c one level below.
  std::uint32_t index() const noexcept {
    return load<std::uint32_t>(page_ + offsetof(layout::BitmapParentHeader, index));
  }
  // At most kBitmapFanout.
  std::uint32_t count() const noexcept {
    return load<std::uint32_t>(page_ + offsetof(layout::BitmapParentHeader, count));
  }
  // Requires: slot < count().
  BitmapParentCell child(std::uint32_t slot) const noexcept {
    const std::byte* at = page_ + sizeof(layout::BitmapParentHeader) + sizeof(layout::BitmapParentEntry) * slot;
    return {load_pointer(at),
            {load<std::uint32_t>(at + offsetof(layout::BitmapParentEntry, free_blocks)),
             load<std::uint32_t>(at + offsetof(layout::BitmapParentEntry, longest_run))}};
  }

 private:
  const std::byte* page_;
};

// Encodes a parent page, not yet sealed. Requires: level 1..kMaxBitmapLevel, at most kBitmapFanout cells.
void encode_bitmap_parent(std::uint8_t level, std::uint32_t index, std::span<const BitmapParentCell> cells,
                          PageBytes page) noexcept;

}  // namespace store
