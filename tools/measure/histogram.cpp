#include "tools/measure/histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace measure {

void Histogram::add(const Histogram& other) noexcept {
  for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

std::uint64_t Histogram::percentile(double percent) const noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[bucket];
    if (seen > 0 && seen >= wanted) return std::min(last_of(bucket), max_);
  }
  return max_;
}

// Below 2^5 each value has a bucket; above, each power of two has 2^5 of them.
std::size_t Histogram::bucket_of(std::uint64_t ns) noexcept {
  const auto bits = static_cast<unsigned>(std::bit_width(ns));
  if (bits <= kStepBits) return ns;
  const unsigned shift = bits - kStepBits - 1;
  return ((std::size_t{shift} + 1) << kStepBits) + ((ns >> shift) & ((1u << kStepBits) - 1));
}

std::uint64_t Histogram::last_of(std::size_t bucket) noexcept {
  const std::size_t power = bucket >> kStepBits;
  const std::uint64_t step = bucket & ((1u << kStepBits) - 1);
  if (power == 0) return step;
  const auto shift = static_cast<unsigned>(power - 1);
  return (((std::uint64_t{1} << kStepBits) + step + 1) << shift) - 1;
}

}  // namespace measure
