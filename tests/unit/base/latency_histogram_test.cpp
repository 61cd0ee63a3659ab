// What a latency histogram says of what it was given, beside the same in a sorted list.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <store/latency_histogram.hpp>

#include "support/seed.hpp"

namespace store {
namespace {

using std::chrono::nanoseconds;

std::uint64_t only(std::int64_t ns) {
  LatencyHistogram one;
  one.record(nanoseconds(ns));
  return one.quantile_ns(0.5);
}

TEST(LatencyHistogram, IsEmptyAtFirst) {
  const LatencyHistogram none;
  EXPECT_EQ(none.count(), 0u);
  EXPECT_EQ(none.sum_ns(), 0u);
  EXPECT_EQ(none.quantile_ns(0.99), 0u);
  EXPECT_EQ(none.count_up_to(LatencyHistogram::kMaxNs), 0u);
}

TEST(LatencyHistogram, ShortTimesAreExact) {
  for (std::int64_t ns = 1; ns <= 16; ++ns) EXPECT_EQ(only(ns), static_cast<std::uint64_t>(ns));
  EXPECT_EQ(only(0), 1u);
  EXPECT_EQ(only(-5), 1u) << "a clock that went back";
}

TEST(LatencyHistogram, AnyTimeIsToldWithinASixteenth) {
  for (std::uint64_t power = 16; power <= LatencyHistogram::kMaxNs; power *= 2) {
    for (const std::uint64_t ns : {power - 1, power, power + 1, power / 8 * 9, power / 8 * 9 + 1, power / 8 * 15}) {
      if (ns > LatencyHistogram::kMaxNs) continue;
      const double told = static_cast<double>(only(static_cast<std::int64_t>(ns)));
      EXPECT_LE(std::abs(told / static_cast<double>(ns) - 1), 1.0 / 16) << ns << " is told as " << told;
    }
  }
}

TEST(LatencyHistogram, LongerTimesCountAsTheLongest) {
  LatencyHistogram one;
  one.record(std::chrono::hours(1));
  EXPECT_EQ(one.count(), 1u);
  EXPECT_EQ(one.sum_ns(), 3'600'000'000'000u);
  EXPECT_EQ(one.count_up_to(LatencyHistogram::kMaxNs - 1), 0u);
  EXPECT_EQ(one.count_up_to(LatencyHistogram::kMaxNs), 1u);
  EXPECT_NEAR(static_cast<double>(one.quantile_ns(1)), static_cast<double>(LatencyHistogram::kMaxNs),
              static_cast<double>(LatencyHistogram::kMaxNs) / 16);
}

TEST(LatencyHistogram, APowerOfTwoIsABoundThatCountsWithin) {
  LatencyHistogram some;
  for (const std::int64_t ns : {1023, 1024, 1025}) some.record(nanoseconds(ns));
  EXPECT_EQ(some.count_up_to(512), 0u);
  EXPECT_EQ(some.count_up_to(1024), 2u);
  EXPECT_EQ(some.count_up_to(2048), 3u);
}

// Quantiles of random times against those of the sorted list, and the same of two halves that were added up.
TEST(LatencyHistogram, QuantilesAreThoseOfTheSortedTimes) {
  const std::uint64_t seed = test::requested_seed().value_or(std::random_device{}());
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    std::lognormal_distribution<double> times(5.0 + round * 0.7, 0.2 + round * 0.1);
    std::vector<std::uint64_t> sorted;
    LatencyHistogram halves[2];
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < 1000; ++i) {
      const double time = std::clamp(times(random), 1.0, static_cast<double>(LatencyHistogram::kMaxNs));
      sorted.push_back(static_cast<std::uint64_t>(time));
      sum += sorted.back();
      halves[i % 2].record(nanoseconds(static_cast<std::int64_t>(sorted.back())));
    }
    std::ranges::sort(sorted);
    LatencyHistogram all = halves[0];
    all += halves[1];
    EXPECT_EQ(all.count(), 1000u);
    EXPECT_EQ(all.sum_ns(), sum);
    for (const double q : {0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank = std::clamp<std::size_t>(static_cast<std::size_t>(std::ceil(q * 1000)), 1, 1000);
      const auto want = static_cast<double>(sorted[rank - 1]);
      EXPECT_LE(std::abs(static_cast<double>(all.quantile_ns(q)) - want), want / 16) << "quantile " << q;
    }
    for (std::uint64_t bound = 1; bound <= LatencyHistogram::kMaxNs; bound *= 2) {
      const auto within = std::ranges::upper_bound(sorted, bound) - sorted.begin();
      EXPECT_EQ(all.count_up_to(bound), static_cast<std::uint64_t>(within)) << bound;
    }
  }
}

}  // namespace
}  // namespace store
