// Regions sorted into few classes, so that the best of all is found without looking at each: one bit set per class, a
// bit per region. Even at 16 TiB a set is 17 KB. Class 0 means nothing to be had.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "store/freelist/region.hpp"

namespace store {

// The class of a region by the allocatable blocks of its emptiest window: what differs by less than 16 counts as equal.
constexpr std::uint8_t window_class(std::uint32_t blocks) noexcept {
  return static_cast<std::uint8_t>((blocks + 15) / 16);
}
// The class of a region by its longest run: powers of two.
constexpr std::uint8_t run_class(std::uint32_t blocks) noexcept {
  return static_cast<std::uint8_t>(std::bit_width(blocks));
}

class RegionRanking {
 public:
  static constexpr std::uint8_t kClasses = 17;

  // Sets the number of regions; new ones are of class 0.
  void resize(std::uint32_t regions);
  void set(std::uint32_t region, std::uint8_t rank);
  std::uint8_t rank(std::uint32_t region) const noexcept { return ranks_[region]; }

  // The highest class with a region in it; 0 when there is none above 0.
  std::uint8_t best_class() const noexcept;
  // The first region of this class at or after `from`.
  std::optional<std::uint32_t> next(std::uint8_t rank, std::uint32_t from) const noexcept;

 private:
  std::vector<std::uint8_t> ranks_;
  std::array<std::vector<std::uint64_t>, kClasses> members_;
  std::array<std::uint32_t, kClasses> counts_{};
};

static_assert(window_class(kWindowBlocks) < RegionRanking::kClasses);
static_assert(run_class(kRegionBlocks) < RegionRanking::kClasses);

}  // namespace store
