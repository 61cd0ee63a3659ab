#include "store/freelist/region_ranking.hpp"

#include <bit>

#include "store/base/assert.hpp"

namespace store {

void RegionRanking::resize(std::uint32_t regions) {
  const auto before = static_cast<std::uint32_t>(ranks_.size());
  for (std::uint32_t region = regions; region < before; ++region) set(region, 0);
  for (std::uint32_t region = regions; region < before; ++region) {
    members_[0][region / 64] &= ~(std::uint64_t{1} << (region % 64));
    --counts_[0];
  }
  ranks_.resize(regions, 0);
  for (auto& set : members_) set.resize((regions + 63) / 64, 0);
  for (std::uint32_t region = before; region < regions; ++region) {
    members_[0][region / 64] |= std::uint64_t{1} << (region % 64);
    ++counts_[0];
  }
}

void RegionRanking::set(std::uint32_t region, std::uint8_t rank) {
  STORE_ASSERT(rank < kClasses);
  const std::uint8_t before = ranks_[region];
  if (before == rank) return;
  const std::uint64_t bit = std::uint64_t{1} << (region % 64);
  members_[before][region / 64] &= ~bit;
  members_[rank][region / 64] |= bit;
  --counts_[before];
  ++counts_[rank];
  ranks_[region] = rank;
}

std::uint8_t RegionRanking::best_class() const noexcept {
  for (std::uint8_t rank = kClasses - 1; rank > 0; --rank) {
    if (counts_[rank] > 0) return rank;
  }
  return 0;
}

std::optional<std::uint32_t> RegionRanking::next(std::uint8_t rank, std::uint32_t from) const noexcept {
  if (counts_[rank] == 0 || from >= ranks_.size()) return std::nullopt;
  const auto& words = members_[rank];
  std::size_t word = from / 64;
  std::uint64_t bits = words[word] & (~std::uint64_t{0} << (from % 64));
  while (bits == 0) {
    if (++word == words.size()) return std::nullopt;
    bits = words[word];
  }
  return static_cast<std::uint32_t>(64 * word + static_cast<std::size_t>(std::countr_zero(bits)));
}

}  // namespace store
