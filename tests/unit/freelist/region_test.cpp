// Region and RegionRanking against plain vectors.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "store/freelist/region.hpp"
#include "store/freelist/region_ranking.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using BlockRun = Region::Run;  // testing::Test has a Run

std::array<std::uint64_t, kBitmapWords> words_of(const std::vector<bool>& bits) {
  std::array<std::uint64_t, kBitmapWords> words{};
  for (std::uint32_t i = 0; i < kRegionBlocks; ++i) {
    if (bits[i]) words[i / 64] |= std::uint64_t{1} << (i % 64);
  }
  return words;
}

std::vector<BlockRun> runs_of(const std::vector<bool>& bits) {
  std::vector<BlockRun> runs;
  for (std::uint32_t i = 0; i < kRegionBlocks; ++i) {
    if (!bits[i]) continue;
    if (runs.empty() || runs.back().first + runs.back().count != i) runs.push_back({i, 0});
    ++runs.back().count;
  }
  return runs;
}

void expect_searches_agree(const Region& searched, const std::vector<bool>& bits, std::mt19937_64& random) {
  Region region = searched;
  const auto runs = runs_of(bits);
  std::uint32_t total = 0, longest = 0;
  for (const BlockRun& run : runs) {
    total += run.count;
    longest = std::max(longest, run.count);
  }
  EXPECT_EQ(region.allocatable(), total);
  EXPECT_GE(region.longest(), longest);
  region.measure();
  EXPECT_EQ(region.longest(), longest);

  std::uint32_t most = 0, least = kWindowBlocks + 1;
  for (std::uint32_t window = 0; window < kRegionWindows; ++window) {
    const auto begin = bits.begin() + window * kWindowBlocks;
    const auto count = static_cast<std::uint32_t>(std::count(begin, begin + kWindowBlocks, true));
    EXPECT_EQ(region.allocatable_in_window(window), count);
    most = std::max(most, count);
    if (count > 0) least = std::min(least, count);
  }
  EXPECT_EQ(region.allocatable_in_window(region.emptiest_window()), most);
  if (total > 0) {
    EXPECT_EQ(region.allocatable_in_window(region.fullest_window()), least);
  }

  for (int i = 0; i < 20; ++i) {
    const auto from = static_cast<std::uint32_t>(random() % kRegionBlocks);
    const auto end = static_cast<std::uint32_t>(from + 1 + random() % (kRegionBlocks - from));
    const auto limit = static_cast<std::uint32_t>(1 + random() % 300);
    std::uint32_t first = from;
    while (first < end && !bits[first]) ++first;
    std::uint32_t stop = first;
    while (stop < end && stop - first < limit && bits[stop]) ++stop;
    const auto found = region.next_run(from, end, limit);
    ASSERT_EQ(found.has_value(), first < end);
    if (found) {
      EXPECT_EQ(found->first, first);
      EXPECT_EQ(found->count, stop - first);
    }

    const auto wanted = static_cast<std::uint32_t>(1 + random() % (longest + 2));
    std::uint32_t shortest = 0;
    for (const BlockRun& run : runs) {
      if (run.count >= wanted && (shortest == 0 || run.count < shortest)) shortest = run.count;
    }
    const auto fit = region.best_fit(wanted);
    ASSERT_EQ(fit.has_value(), shortest > 0);
    if (fit) {
      EXPECT_EQ(fit->count, shortest);
      EXPECT_TRUE(std::ranges::any_of(
          runs, [&](const BlockRun& run) { return run.first == fit->first && run.count == fit->count; }));
    }

    std::uint32_t trailing = 0;
    while (trailing < end && bits[end - 1 - trailing]) ++trailing;
    EXPECT_EQ(region.trailing(end), trailing);
  }
  std::uint32_t leading = 0;
  while (leading < kRegionBlocks && bits[leading]) ++leading;
  EXPECT_EQ(region.leading(), leading);
}

TEST(Region, AgreesWithAVectorOfBits) {
  const std::uint64_t base = test::requested_seed().value_or(std::random_device{}());
  for (std::uint64_t round = 0; round < 12; ++round) {
    SCOPED_TRACE(testing::Message() << "--seed=" << base << ", round " << round);
    std::mt19937_64 random(base + round);
    std::vector<bool> bits(kRegionBlocks);
    // From all free over long runs to scattered blocks to none.
    const std::uint64_t piece = std::uint64_t{1} << (random() % 15);
    for (std::uint32_t i = 0; i < kRegionBlocks;) {
      const bool free = round == 0 || (round != 1 && random() % 2 == 0);
      const auto end = std::min<std::uint64_t>(kRegionBlocks, i + 1 + random() % piece);
      for (; i < end; ++i) bits[i] = free;
    }
    Region region{ConstBitmapWords(words_of(bits))};
    expect_searches_agree(region, bits, random);

    std::vector<BlockRun> fresh;
    for (int step = 0; step < 200; ++step) {
      const auto from = static_cast<std::uint32_t>(random() % kRegionBlocks);
      if (const auto run = region.next_run(from, kRegionBlocks, static_cast<std::uint32_t>(1 + random() % 500))) {
        region.allocate(*run);
        for (std::uint32_t i = 0; i < run->count; ++i) bits[run->first + i] = false;
        EXPECT_TRUE(region.all_fresh(*run));
        EXPECT_FALSE(region.any_free(*run));
        fresh.push_back(*run);
      }
      if (!fresh.empty() && random() % 3 == 0) {
        const BlockRun run = fresh.back();
        fresh.pop_back();
        region.give_back(run);
        for (std::uint32_t i = 0; i < run.count; ++i) bits[run.first + i] = true;
        region.measure();
      }
    }
    expect_searches_agree(region, bits, random);
    region.drop_fresh();
    for (const BlockRun& run : fresh) {
      for (std::uint32_t i = 0; i < run.count; ++i) bits[run.first + i] = true;
    }
    region.measure();
    expect_searches_agree(region, bits, random);
    EXPECT_TRUE(std::ranges::equal(region.free_words(), words_of(bits)));
  }
}

TEST(Region, ABlockPassesThroughItsStates) {
  Region region;
  const BlockRun run{60, 300};
  region.add_free(run);
  EXPECT_EQ(region.allocatable(), 300u);
  region.reserve(run);
  EXPECT_TRUE(region.any_free(run));
  EXPECT_EQ(region.allocatable(), 0u);
  region.adopt(run);
  EXPECT_FALSE(region.any_free(run));
  region.unadopt(run);
  region.make_allocatable(run);
  EXPECT_EQ(region.allocatable(), 300u);
  region.allocate(run);
  region.release(run);  // superseded in the commit that allocated it
  EXPECT_TRUE(region.all_fresh(run));
  EXPECT_EQ(region.allocatable(), 0u);
  region.unrelease(run);
  region.keep_fresh();
  region.release(run);
  region.make_allocatable(run);
  region.remove_free(run);
  EXPECT_EQ(region.allocatable(), 0u);
  EXPECT_FALSE(region.any_free(run));
}

TEST(RegionRanking, FindsTheBestClassAndItsRegionsInOrder) {
  std::mt19937_64 random(3);
  RegionRanking ranking;
  std::vector<std::uint8_t> ranks;
  for (int step = 0; step < 3000; ++step) {
    if (step % 100 == 0) {
      ranks.resize(random() % 400);
      ranking.resize(static_cast<std::uint32_t>(ranks.size()));
    }
    if (ranks.empty()) continue;
    const auto region = static_cast<std::uint32_t>(random() % ranks.size());
    ranks[region] = static_cast<std::uint8_t>(random() % RegionRanking::kClasses);
    ranking.set(region, ranks[region]);
    ASSERT_EQ(ranking.best_class(), *std::ranges::max_element(ranks));
    const auto wanted = static_cast<std::uint8_t>(random() % RegionRanking::kClasses);
    const auto from = static_cast<std::uint32_t>(random() % (ranks.size() + 1));
    const auto expected = std::find(ranks.begin() + from, ranks.end(), wanted);
    const auto found = ranking.next(wanted, from);
    ASSERT_EQ(found.has_value(), expected != ranks.end());
    if (found) {
      ASSERT_EQ(*found, expected - ranks.begin());
    }
  }
}

}  // namespace
}  // namespace store
