// Cutting extents at the borders of regions.
#pragma once

#include <algorithm>
#include <cstdint>

#include "store/base/ids.hpp"
#include "store/freelist/region.hpp"

namespace store {

// Calls fn(region, run in the region) for each region that the blocks [first, end) lie in.
template <class Fn>
void for_each_part(std::uint64_t first, std::uint64_t end, Fn fn) {
  while (first < end) {
    const auto region = static_cast<std::uint32_t>(first / kRegionBlocks);
    const auto index = static_cast<std::uint32_t>(first % kRegionBlocks);
    const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(end - first, kRegionBlocks - index));
    fn(region, Region::Run{index, count});
    first += count;
  }
}

template <class Fn>
void for_each_part(Extent extent, Fn fn) {
  for_each_part(extent.first.value, extent.end(), fn);
}

}  // namespace store
