#include "tools/measure/generators.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "support/seed.hpp"

namespace measure {
namespace {

constexpr std::uint64_t kDraws = 400'000;

std::vector<std::uint64_t> drawn(std::uint64_t count, const std::function<std::uint64_t()>& next) {
  std::vector<std::uint64_t> times(count);
  for (std::uint64_t i = 0; i < kDraws; ++i) ++times.at(next());
  return times;
}

// How often rank r of `count` is to come.
double expected(std::uint64_t rank, std::uint64_t count) {
  double zeta = 0;
  for (std::uint64_t i = 1; i <= count; ++i) zeta += std::pow(static_cast<double>(i), -Zipfian::kTheta);
  return static_cast<double>(kDraws) * std::pow(static_cast<double>(rank + 1), -Zipfian::kTheta) / zeta;
}

// Gray's formula is exact for the first two ranks, and an approximation for the others.
void expect_zipfian(const std::function<std::uint64_t(std::uint64_t)>& times, std::uint64_t count) {
  for (const std::uint64_t rank : {0, 1}) {
    const double want = expected(rank, count);
    EXPECT_NEAR(static_cast<double>(times(rank)), want, 5 * std::sqrt(want)) << "rank " << rank;
  }
  double want = 0;
  double got = 0;
  for (std::uint64_t rank = 0; rank < count / 10; ++rank) {
    want += expected(rank, count);
    got += static_cast<double>(times(rank));
  }
  EXPECT_NEAR(got / want, 1, 0.03) << "the most frequent tenth";
}

TEST(Generators, BelowIsUniform) {
  Random random(store::test::requested_seed().value_or(1));
  for (const std::uint64_t times : drawn(100, [&] { return random.below(100); })) {
    EXPECT_NEAR(static_cast<double>(times), kDraws / 100.0, 6 * std::sqrt(kDraws / 100.0));
  }
}

TEST(Generators, ZipfianHasItsFrequencies) {
  Random random(store::test::requested_seed().value_or(1));
  const Zipfian zipfian(1000);
  const auto times = drawn(1000, [&] { return zipfian.next(random); });
  expect_zipfian([&](std::uint64_t rank) { return times[rank]; }, 1000);
}

TEST(Generators, ZipfianGrowsToWhatItWouldHaveBeen) {
  Random one(store::test::requested_seed().value_or(1));
  Random two = one;
  const Zipfian born(1000);
  Zipfian grown(10);
  grown.grow_to(500);
  grown.grow_to(1000);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(born.next(one), grown.next(two));
}

TEST(Generators, ZipfianOfFewItemsStaysAmongThem) {
  Random random(store::test::requested_seed().value_or(1));
  for (std::uint64_t count = 1; count < 6; ++count) {
    const Zipfian zipfian(count);
    for (int i = 0; i < 1000; ++i) ASSERT_LT(zipfian.next(random), count);
  }
}

TEST(Generators, LatestPrefersTheNewest) {
  Random random(store::test::requested_seed().value_or(1));
  Latest latest(10);
  const auto times = drawn(1000, [&] { return latest.next(random, 1000); });
  expect_zipfian([&](std::uint64_t age) { return times[999 - age]; }, 1000);
}

// The frequent ones are the places of the first ranks of 10^10, and they lie all over.
TEST(Generators, ScrambledZipfianSpreadsTheFrequentOnes) {
  constexpr std::uint64_t kCount = 10'000;
  constexpr double kZeta = 26.46902820178302;
  Random random(store::test::requested_seed().value_or(1));
  const ScrambledZipfian scrambled;
  const auto times = drawn(kCount, [&] { return scrambled.next(random, kCount); });
  std::vector<std::uint64_t> order(kCount);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  std::ranges::sort(order, [&](std::uint64_t a, std::uint64_t b) { return times[a] > times[b]; });
  EXPECT_EQ(order[0], ScrambledZipfian::place(0, kCount));
  EXPECT_EQ(order[1], ScrambledZipfian::place(1, kCount));
  // Beside its own share each place has one of what is spread evenly: less than the whole over the number of places.
  EXPECT_NEAR(static_cast<double>(times[order[0]]), kDraws / kZeta, kDraws / kZeta * 0.05);
  const auto low = std::count_if(order.begin(), order.begin() + 100, [](std::uint64_t i) { return i < kCount / 2; });
  EXPECT_GT(low, 25);
  EXPECT_LT(low, 75);
}

// FNV-1a of the eight bytes of 0, as YCSB's Utils.fnvhash64(0) has it: positive already.
TEST(Generators, ScrambledZipfianPlacesAsYcsbDoes) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (int i = 0; i < 8; ++i) hash *= 1099511628211u;
  const std::uint64_t positive = static_cast<std::int64_t>(hash) < 0 ? 0 - hash : hash;
  EXPECT_EQ(ScrambledZipfian::place(0, 1'000'003), positive % 1'000'003);
}

TEST(Generators, PermutationHasEachNumberOnce) {
  for (const std::uint64_t count : {1, 2, 3, 4, 5, 16, 17, 1000, 65536, 100'000}) {
    const Permutation permutation(count, 7);
    std::vector<bool> seen(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t number = permutation.at(i);
      ASSERT_LT(number, count);
      ASSERT_FALSE(seen[number]) << number << " twice of " << count;
      seen[number] = true;
    }
  }
}

TEST(Generators, PermutationsLookRandomAndDependOnTheSeed) {
  constexpr std::uint64_t kCount = 10'000;
  const Permutation one(kCount, 1);
  const Permutation two(kCount, 2);
  int ascents = 0;
  int same = 0;
  for (std::uint64_t i = 1; i < kCount; ++i) {
    ascents += one.at(i - 1) < one.at(i) ? 1 : 0;
    same += one.at(i) == two.at(i) ? 1 : 0;
  }
  EXPECT_NEAR(ascents, kCount / 2, 200);
  EXPECT_LT(same, 20);
}

}  // namespace
}  // namespace measure
