// The shape of the sorted runs at every count, which bounds what one put may cost and what a seek has to search.
#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <string>
#include <vector>

#include "store/writebuf/sorted_runs.hpp"

namespace store {
namespace {

class SortedRunsTest : public testing::Test {
 protected:
  static constexpr std::size_t kRecords = 3 * SortedRuns::kMaxRunRecords + 1000;

  SortedRuns::Memory memory() { return {records_.data(), scratch_.data(), skips_.data()}; }
  NodeRef node(const std::string& key) { return arena_.append_node(key); }

  std::vector<std::byte> bytes_ = std::vector<std::byte>(kRecords * 32);
  std::vector<SortRecord> records_ = std::vector<SortRecord>(kRecords);
  std::vector<SortRecord> scratch_ = std::vector<SortRecord>(SortedRuns::scratch_records(kRecords));
  std::vector<std::uint16_t> skips_ = std::vector<std::uint16_t>(SortedRuns::skip_count(kRecords));
  Arena arena_{bytes_.data(), bytes_.size()};
};

TEST_F(SortedRunsTest, LengthsAreTheBinaryDigitsOfTheCount) {
  SortedRuns runs(memory(), arena_);
  std::mt19937_64 random(1);
  for (std::size_t count = 1; count <= kRecords; ++count) {
    runs.append(node(std::to_string(random())), 0);
    if (count % 9973 != 0) continue;
    runs.sort_tail(0);
    std::size_t covered = 0;
    std::size_t previous = SortedRuns::kMaxRunRecords;
    std::size_t number = 0;
    runs.for_each_run([&](const SortedRuns::Run& run) {
      const std::size_t length = run.end - run.first;
      ASSERT_EQ(run.first, covered);
      ASSERT_TRUE(length == SortedRuns::kMaxRunRecords || length < previous || previous == SortedRuns::kMaxRunRecords);
      ASSERT_TRUE(std::has_single_bit(length) || length < SortedRuns::kTailRecords);
      for (std::size_t i = run.first + 1; i < run.end; ++i) ASSERT_TRUE(runs.less(runs.record(i - 1), runs.record(i)));
      previous = length;
      covered = run.end;
      ++number;
    });
    ASSERT_EQ(covered, count);
    ASSERT_LE(number, SortedRuns::max_runs(kRecords));
  }
}

TEST_F(SortedRunsTest, TailSortedInPiecesStaysSorted) {
  SortedRuns runs(memory(), arena_);
  std::mt19937_64 random(2);
  for (std::size_t i = 0; i < 2000; ++i) {
    runs.append(node(std::to_string(random() % 100'000'000)), 0);
    if (random() % 5 == 0) runs.sort_tail(0);
  }
  runs.sort_tail(0);
  std::size_t covered = 0;
  runs.for_each_run([&](const SortedRuns::Run& run) {
    for (std::size_t i = run.first + 1; i < run.end; ++i) EXPECT_TRUE(runs.less(runs.record(i - 1), runs.record(i)));
    covered = run.end;
  });
  EXPECT_EQ(covered, runs.count());
}

TEST_F(SortedRunsTest, CommonPrefixMayShrinkAtAnyTime) {
  SortedRuns runs(memory(), arena_);
  const std::string common(40, 'c');
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < 5000; ++i) {
    // All keys share 40 bytes at first, then ever fewer.
    const std::size_t skip = 40 - std::min<std::size_t>(40, i / 111);
    std::string key = common;
    if (skip < 40) key[skip] = static_cast<char>('a' + i % 20);
    key += std::to_string(i * 7919 % 5000);
    keys.push_back(key);
    runs.append(node(key), skip);
    if (i % 777 == 0) runs.sort_tail(skip);
  }
  runs.sort_tail(0);
  runs.for_each_run([&](const SortedRuns::Run& run) {
    for (std::size_t i = run.first + 1; i < run.end; ++i) {
      ASSERT_LT(arena_.key(runs.record(i - 1).node()), arena_.key(runs.record(i).node()));
    }
    for (const std::string& wanted :
         {std::string("a"), common, common + "2", keys[123], keys[4000], std::string("d")}) {
      const std::uint32_t at = runs.lower_bound(run, wanted);
      if (at > run.first) {
        EXPECT_LT(arena_.key(runs.record(at - 1).node()), wanted);
      }
      if (at < run.end) {
        EXPECT_GE(arena_.key(runs.record(at).node()), wanted);
      }
    }
  });
}

TEST(KeyPrefix, OrdersLikeTheBytes) {
  EXPECT_EQ(key_prefix("abcdefghi"), 0x6162636465666768u);
  EXPECT_EQ(key_prefix("abcdefghi", 1), 0x6263646566676869u);
  EXPECT_EQ(key_prefix("ab"), 0x6162000000000000u);
  EXPECT_EQ(key_prefix("ab", 2), 0u);
  EXPECT_EQ(key_prefix("ab", 9), 0u);
  EXPECT_LT(key_prefix("\x7F"), key_prefix("\x80"));
}

}  // namespace
}  // namespace store
