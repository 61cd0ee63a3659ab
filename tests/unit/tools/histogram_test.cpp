#include "tools/measure/histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/seed.hpp"
#include "tools/measure/generators.hpp"

namespace measure {
namespace {

constexpr double kPercents[] = {0, 1, 50, 90, 99, 99.9, 99.99, 100};

TEST(Histogram, IsZeroWhenEmpty) {
  const Histogram empty;
  EXPECT_EQ(empty.count(), 0u);
  EXPECT_EQ(empty.percentile(99), 0u);
  EXPECT_EQ(empty.mean(), 0);
}

TEST(Histogram, CountsSmallValuesExactly) {
  Histogram histogram;
  for (std::uint64_t ns = 0; ns < 32; ++ns) histogram.record(ns);
  EXPECT_EQ(histogram.percentile(0), 0u);
  EXPECT_EQ(histogram.percentile(50), 15u);
  EXPECT_EQ(histogram.percentile(100), 31u);
  EXPECT_EQ(histogram.mean(), 15.5);
  Histogram one;
  one.record(7);
  EXPECT_EQ(one.percentile(0), 7u);
}

TEST(Histogram, TakesEveryValue) {
  for (unsigned bits = 0; bits < 64; ++bits) {
    for (const std::uint64_t ns : {(std::uint64_t{1} << bits) - 1, std::uint64_t{1} << bits}) {
      Histogram histogram;
      histogram.record(ns);
      EXPECT_EQ(histogram.percentile(50), ns);
      EXPECT_EQ(histogram.max(), ns);
    }
  }
  Histogram histogram;
  histogram.record(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(histogram.percentile(100), std::numeric_limits<std::uint64_t>::max());
}

// A percentile is never below the true one, and at most a thirty-second above it.
TEST(Histogram, PercentilesAgreeWithSortedValues) {
  const std::uint64_t seed = store::test::requested_seed().value_or(1);
  SCOPED_TRACE(seed);
  Random random(seed);
  Histogram parts[2];
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(random.next() >> random.below(64));
    parts[i % 2].record(values.back());
  }
  parts[0].add(parts[1]);
  std::ranges::sort(values);
  ASSERT_EQ(parts[0].count(), values.size());
  EXPECT_EQ(parts[0].max(), values.back());
  for (const double percent : kPercents) {
    const auto rank = static_cast<std::size_t>(percent / 100 * static_cast<double>(values.size()) + 0.999999);
    const std::uint64_t exact = values[std::max<std::size_t>(rank, 1) - 1];
    EXPECT_GE(parts[0].percentile(percent), exact) << percent;
    EXPECT_LE(parts[0].percentile(percent) - exact, exact / 32) << percent;
  }
}

}  // namespace
}  // namespace measure
