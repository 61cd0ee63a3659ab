// How often an operation took how long: a log-linear histogram of fixed size, in the manner of HdrHistogram. Each power of two of
// nanoseconds is divided into kSubBuckets buckets of equal width; below 2 * kSubBuckets each nanosecond has its own. A bucket holds its upper
// bound and not its lower one. A value, copied and assigned as such; two threads do not touch one at once.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace store {

class LatencyHistogram {
 public:
  static constexpr unsigned kSubBuckets = 8;
  static constexpr unsigned kMaxBits = 36;
  // What takes longer, more than a minute, counts as this in the buckets; in sum_ns() as what it is.
  static constexpr std::uint64_t kMaxNs = std::uint64_t{1} << kMaxBits;

  // Counts one that took so long; less than a nanosecond counts as one. Cost: a few instructions, no allocation.
  void record(std::chrono::nanoseconds taken) noexcept {
    const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(taken.count(), 1));
    ++buckets_[index_of(ns)];
    ++count_;
    sum_ns_ += ns;
  }

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t sum_ns() const noexcept { return sum_ns_; }

  // Returns the time, in nanoseconds, that a share of `q` (0 to 1) of those counted took at most: 0.5 is the median. It is the middle of a
  // bucket, off by 1/16 of itself at most. 0 when nothing was counted. Cost: a walk over all buckets.
  std::uint64_t quantile_ns(double q) const noexcept {
    if (count_ == 0) return 0;
    const double wanted = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_));
    const std::uint64_t rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(wanted), 1, count_);
    std::uint64_t below = 0;
    std::size_t index = 0;
    while ((below += buckets_[index]) < rank) ++index;
    return (lower_bound(index) + lower_bound(index + 1) + 1) / 2;
  }

  // Returns how many took `ns` at most. Exact when `ns` is a power of two, or the bound of a bucket; else of the next bound below.
  std::uint64_t count_up_to(std::uint64_t ns) const noexcept {
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < buckets_.size() && lower_bound(i + 1) <= ns; ++i) count += buckets_[i];
    return count;
  }

  // Adds what another one has counted.
  LatencyHistogram& operator+=(const LatencyHistogram& other) noexcept {
    for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ns_ += other.sum_ns_;
    return *this;
  }

 private:
  static constexpr unsigned kSubBits = std::bit_width(kSubBuckets) - 1u;
  static constexpr std::size_t kBuckets = (kMaxBits - kSubBits + 1) * kSubBuckets;

  static constexpr std::size_t index_of(std::uint64_t ns) noexcept {
    const std::uint64_t at = std::min(ns, kMaxNs) - 1;  // so that the upper bound is within
    const unsigned width_bits = static_cast<unsigned>(std::bit_width(at | kSubBuckets)) - kSubBits - 1;
    return width_bits * kSubBuckets + static_cast<std::size_t>(at >> width_bits);
  }
  // The largest time, in nanoseconds, that belongs to the bucket below; bucket i + 1's is the upper bound of i.
  static constexpr std::uint64_t lower_bound(std::size_t index) noexcept {
    const std::size_t width_bits = index < 2 * kSubBuckets ? 0 : index / kSubBuckets - 1;
    return static_cast<std::uint64_t>(index - width_bits * kSubBuckets) << width_bits;
  }

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ns_ = 0;
};

}  // namespace store
