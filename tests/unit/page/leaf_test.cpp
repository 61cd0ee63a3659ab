// Leaves against std::map: what goes in comes out, and every search lands where the map's lower_bound does.
#include "store/page/leaf.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

#include "page_samples.hpp"
#include "store/page/leaf_steps.hpp"

namespace store::test {
namespace {

std::string key_at(const LeafView& leaf, std::uint32_t slot) {
  std::string key;
  leaf.append_key(slot, key);
  return key;
}

void expect_same(const LeafView& leaf, const LeafModel& model) {
  ASSERT_EQ(leaf.count(), model.size());
  bool any_run = false;
  std::uint32_t slot = 0;
  for (const auto& [key, value] : model) {
    EXPECT_EQ(key_at(leaf, slot), key);
    EXPECT_EQ(leaf.is_run(slot), value.is_run);
    const LeafValue stored = leaf.value(slot);
    ASSERT_EQ(stored.is_run(), value.is_run);
    if (value.is_run) {
      EXPECT_EQ(stored.reference(), value.run);
      EXPECT_EQ(stored.others(), value.bytes);
    } else {
      EXPECT_EQ(stored.bytes(), value.bytes);
    }
    EXPECT_EQ(stored.length(), value.is_run ? value.run.length : value.bytes.size());
    any_run = any_run || value.is_run;
    ++slot;
  }
  EXPECT_EQ(leaf.has_overflow(), any_run);
}

void expect_searches_agree(const LeafView& leaf, const LeafModel& model) {
  std::vector<std::string> keys;
  for (const auto& entry : model) keys.push_back(entry.first);
  for (const std::string& sought : neighbours(keys)) {
    const auto at = model.lower_bound(sought);
    const Lookup expected{static_cast<std::uint32_t>(std::distance(model.begin(), at)),
                          at != model.end() && at->first == sought};
    const Lookup found = leaf.find(sought);
    ASSERT_EQ(found, expected) << testing::PrintToString(sought) << " found in " << found.slot;
  }
}

// Walks from `slot` on as a scan does: LeafSteps, and where they do not take an entry, past it. Returns the entries that they took.
std::uint32_t expect_steps_agree(const LeafView& leaf, std::uint32_t slot, int direction) {
  std::string suffix(kMaxKeyBytes + LeafSteps::kSlackBytes, '?');
  std::uint32_t taken = 0;
  const auto left = [&] { return direction > 0 ? leaf.count() - 1 - slot : slot; };
  while (left() > 0) {
    LeafSteps steps(leaf, slot, direction, left());
    std::size_t suffix_bytes = 0;
    std::string_view value;
    std::uint32_t at = slot;
    while (steps.step(suffix.data(), suffix_bytes, value)) {
      at += static_cast<std::uint32_t>(direction);
      EXPECT_EQ(suffix.substr(0, suffix_bytes), leaf.suffix(at));
      EXPECT_FALSE(leaf.is_run(at));
      EXPECT_EQ(value, leaf.value(at).bytes());
    }
    EXPECT_EQ(steps.take_taken(), direction > 0 ? at - slot : slot - at);
    EXPECT_EQ(steps.take_taken(), 0u);
    taken += direction > 0 ? at - slot : slot - at;
    slot = at;
    if (left() > 0) slot += static_cast<std::uint32_t>(direction);
  }
  return taken;
}

TEST(Leaf, IsWalkedInStepsBothWays) {
  std::uint64_t taken = 0;
  std::uint64_t entries = 0;
  for (std::uint64_t round = 0; round < 300; ++round) {
    const std::uint64_t seed = seed_or(4) * 1'000'003 + round;
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    const LeafModel model = random_leaf(random, Generation(round));
    PageBuffer page;
    encode_leaf(cells_of(model), page.bytes());
    const LeafView leaf(page.data());
    if (leaf.count() == 0) continue;
    const auto slot = static_cast<std::uint32_t>(random() % leaf.count());
    taken += expect_steps_agree(leaf, slot, +1) + expect_steps_agree(leaf, slot, -1);
    entries += leaf.count() - 1;
    if (HasFailure()) return;
  }
  EXPECT_GT(taken, entries / 3);  // runs are many in these leaves
}

TEST(Leaf, StepsStopWhereTheyAreTold) {
  const std::vector<LeafCell> cells{{"a", LeafValue("1")}, {"b", LeafValue("2")}, {"c", LeafValue("3")}};
  PageBuffer page;
  encode_leaf(cells, page.bytes());
  LeafSteps steps(LeafView(page.data()), 0, +1, 1);
  std::string suffix(kMaxKeyBytes + LeafSteps::kSlackBytes, '?');
  std::size_t suffix_bytes = 0;
  std::string_view value;
  EXPECT_TRUE(steps.step(suffix.data(), suffix_bytes, value));
  EXPECT_EQ(value, "2");
  EXPECT_FALSE(steps.step(suffix.data(), suffix_bytes, value));
  EXPECT_EQ(value, "2");
  EXPECT_EQ(steps.take_taken(), 1u);
  steps = LeafSteps(LeafView(page.data()), 2, -1, 2);
  EXPECT_TRUE(steps.step(suffix.data(), suffix_bytes, value));
  steps.stop();
  EXPECT_FALSE(steps.step(suffix.data(), suffix_bytes, value));
}

TEST(Leaf, HoldsWhatWasEncodedAndFindsAsAMapDoes) {
  const std::uint64_t seed = seed_or(1);
  for (std::uint64_t round = 0; round < 300; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " round " << round);
    Random random(seed * 1'000'003 + round);
    const Generation generation(round);
    const LeafModel model = random_leaf(random, generation);
    const std::vector<LeafCell> cells = cells_of(model);
    PageBuffer page;
    const std::size_t used = encode_leaf(cells, page.bytes());
    ASSERT_EQ(used, leaf_bytes_of(cells));
    const PagePointer pointer = seal_page(page.bytes(), PageNo(7), generation);
    ASSERT_EQ(verify(page.bytes(), pointer), "");
    EXPECT_EQ(entry_count(pointer), model.size());
    const LeafView leaf(page.data());
    EXPECT_EQ(leaf.bytes_used(), used);
    EXPECT_EQ(has_overflow(pointer), leaf.has_overflow());
    expect_same(leaf, model);
    expect_searches_agree(leaf, model);
    if (HasFatalFailure()) return;
  }
}

TEST(Leaf, IsTheSameBytesEachTimeAndZeroBehindTheCells) {
  Random random(seed_or(2));
  const LeafModel model = random_leaf(random, Generation(3));
  PageBuffer first;
  PageBuffer second;
  std::fill_n(second.data(), kPageBytes, std::byte{0});
  const std::size_t used = encode_leaf(cells_of(model), first.bytes());
  encode_leaf(cells_of(model), second.bytes());
  EXPECT_TRUE(std::equal(first.data(), first.data() + kPageBytes, second.data()));
  EXPECT_TRUE(
      std::all_of(first.data() + used, first.data() + kPageBytes, [](std::byte b) { return b == std::byte{0}; }));
}

TEST(Leaf, TakesExactlyWhatLeafBytesSaysFits) {
  // 4096 - 20 - 2 bytes for cells of 8 + 1 (suffix) bytes and their values; the prefix is empty.
  std::vector<std::string> keys;
  for (int i = 0; i < 4; ++i) keys.push_back(std::string(1, static_cast<char>('a' + i)));
  const std::string most(1024, 'v');
  const std::size_t last_value = kPageBytes - leaf_bytes(4, 4, 3 * most.size(), 0);
  std::vector<LeafCell> cells;
  for (int i = 0; i < 3; ++i) cells.push_back({keys[static_cast<std::size_t>(i)], LeafValue(most)});
  cells.push_back({keys[3], LeafValue(std::string_view(most).substr(0, last_value))});
  ASSERT_EQ(leaf_bytes_of(cells), kPageBytes);
  PageBuffer page;
  EXPECT_EQ(encode_leaf(cells, page.bytes()), kPageBytes);
  EXPECT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(9), Generation(1))), "");
  EXPECT_EQ(LeafView(page.data()).value(3).bytes().size(), last_value);
}

TEST(Leaf, OfOneEntryTakesTheLongestKeyAndValue) {
  const std::string key(kMaxKeyBytes, 'k');
  const std::string value(kMaxInlineValueBytes, 'v');
  PageBuffer page;
  encode_leaf(std::vector<LeafCell>{{key, LeafValue(value)}}, page.bytes());
  ASSERT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(9), Generation(1))), "");
  const LeafView leaf(page.data());
  EXPECT_EQ(leaf.prefix(), key);
  EXPECT_EQ(leaf.find(key), (Lookup{0, true}));
  EXPECT_EQ(leaf.find(key.substr(1)), (Lookup{0, false}));
  EXPECT_EQ(leaf.find(key + 'k'), (Lookup{1, false}));
  EXPECT_EQ(leaf.value(0).bytes(), value);
}

TEST(Leaf, MayBeEmpty) {
  PageBuffer page;
  EXPECT_EQ(encode_leaf({}, page.bytes()), leaf_bytes(0, 0, 0, 0));
  ASSERT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(9), Generation(1))), "");
  EXPECT_EQ(LeafView(page.data()).find("k"), (Lookup{0, false}));
}

TEST(Leaf, TellsKeysApartThatTheirHeadsDoNot) {
  // Zero padding makes the heads of all of these equal: "ab", "ab\0", "ab\0\0", and longer ones behind them.
  using namespace std::string_literals;
  LeafModel model;
  for (const std::string& key : {"ab"s, "ab\0"s, "ab\0\0"s, "ab\0\0\0"s, "ab\0\0\1"s, "ab\0\1"s, "x"s})
    model[key].bytes = key;
  PageBuffer page;
  encode_leaf(cells_of(model), page.bytes());
  ASSERT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(9), Generation(1))), "");
  expect_same(LeafView(page.data()), model);
  expect_searches_agree(LeafView(page.data()), model);
}

TEST(Heads, NeverMisorder) {
  Random random(seed_or(3));
  for (int i = 0; i < 20'000; ++i) {
    const std::string a = random_bytes(random, between(random, 0, 6));
    const std::string b = random_bytes(random, between(random, 0, 6));
    if (a < b) {
      EXPECT_LE(detail::head_of(a), detail::head_of(b));
    }
    if (detail::head_of(a) < detail::head_of(b)) {
      EXPECT_LT(a, b);
    }
  }
}

TEST(Heads, AreCountedBelowAnyHeadInArraysOfAnyLength) {
  Random random(seed_or(4));
  for (std::size_t count = 0; count < 460; ++count) {
    std::vector<std::uint32_t> heads(count + detail::kHeadWindow);
    for (std::uint32_t& head : heads) head = static_cast<std::uint32_t>(random());
    const auto end = heads.begin() + static_cast<std::ptrdiff_t>(count);
    std::sort(heads.begin(), end);
    for (int i = 0; i < 20; ++i) {
      std::uint32_t sought = static_cast<std::uint32_t>(random());
      if (i == 0) sought = 0;
      if (i == 1) sought = ~std::uint32_t{0};
      if (i > 10 && count > 0) sought = heads[between(random, 0, count - 1)];
      const auto expected = static_cast<std::size_t>(std::lower_bound(heads.begin(), end, sought) - heads.begin());
      ASSERT_EQ(detail::heads_below(reinterpret_cast<const std::byte*>(heads.data()), count, sought), expected)
          << count << " heads, sought " << sought;
    }
  }
}

}  // namespace
}  // namespace store::test
