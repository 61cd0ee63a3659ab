// How many blocks the entries in the write buffers may need when they are merged, at most: what is accepted must also
// fit. Sums over everything buffered; what is merged is subtracted again.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "store/base/units.hpp"
#include "store/page/overflow.hpp"

namespace store {

struct PendingSpace {
  std::uint64_t entries = 0;
  std::uint64_t inline_bytes = 0;  // of keys and inline values, with what a cell adds
  std::uint64_t run_blocks = 0;    // of values that go to runs in the merge
  std::uint64_t ranges = 0;        // that are erased

  void add(std::size_t key_bytes, std::uint64_t value_bytes) {
    constexpr std::size_t kCellOverhead = 32;
    constexpr std::size_t kOtherBytes = sizeof(std::uint32_t);  // of a block of a scattered run in its cell
    ++entries;
    inline_bytes += key_bytes + kCellOverhead;
    if (value_bytes <= kMaxInlineValueBytes) {
      inline_bytes += value_bytes;
    } else if (value_bytes <= kMaxBufferedValueBytes) {
      run_blocks += store::run_blocks(value_bytes);
      inline_bytes += kOtherBytes * (store::run_blocks(value_bytes) - 1);
    }
  }
  void add_range(std::size_t bound_bytes) {
    constexpr std::uint64_t kPagesALevel =
        4;  // at either end the page that it ends in, and a neighbour that is drawn in
    entries += kPagesALevel;
    inline_bytes += bound_bytes;
    ++ranges;
  }
  PendingSpace& operator+=(const PendingSpace& other) {
    ranges += other.ranges;
    entries += other.entries;
    inline_bytes += other.inline_bytes;
    run_blocks += other.run_blocks;
    return *this;
  }
  PendingSpace& operator-=(const PendingSpace& other) {
    ranges -= other.ranges;
    entries -= other.entries;
    inline_bytes -= other.inline_bytes;
    run_blocks -= other.run_blocks;
    return *this;
  }

  // Every entry may rewrite a page of each level, but no page is rewritten twice in one state; new leaves are at least half
  // full; a region of the allocator is rewritten with its parents, and a range may free blocks in all of them. `states` of the tree are built one after the other, and no
  // page of one comes back before the last: the tree may have grown meanwhile, by a level for each time that it became four times
  // as wide.
  std::uint64_t blocks(std::uint64_t height, std::uint64_t tree_pages, std::uint64_t regions,
                       std::uint64_t states) const {
    if (entries == 0) return 0;
    const std::uint64_t added = 2 * (inline_bytes / kPageBytes) + 2 * states;
    std::uint64_t levels = height;
    std::uint64_t pages = tree_pages;
    if (states > 1) {
      levels += 1 + static_cast<std::uint64_t>(std::bit_width(added)) / 2;
      pages += added;
    }
    const std::uint64_t rewritten = std::min(entries * (levels + 1), states * (pages + 1));
    const std::uint64_t dirty =
        ranges > 0 ? states * regions : std::min(rewritten + run_blocks + added, states * regions);
    return rewritten + added + added / 32 + run_blocks + dirty + states * (levels + 8);
  }
};

// What is kept back from ordinary writes, so that a full store can still erase.
constexpr std::uint64_t reserve_blocks(std::uint64_t device_blocks) {
  return std::min(std::max<std::uint64_t>(64, device_blocks / 256), device_blocks / 8);
}

}  // namespace store
