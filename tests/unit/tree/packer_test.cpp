// Pages made of packed cells against those made of the cells themselves, byte by byte.
#include "store/tree/packer.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "unit/page/page_samples.hpp"

namespace store::test {
namespace {

constexpr std::uint64_t kRounds = 300;

bool same(PageBuffer& a, PageBuffer& b) { return std::equal(a.data(), a.data() + kPageBytes, b.data()); }

TEST(Packer, MakesTheLeafThatItsCellsMake) {
  const std::uint64_t seed = seed_or(1);
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " round " << round);
    Random random(seed * 1'000'003 + round);
    const LeafModel model = random_leaf(random, Generation(round));
    if (model.empty()) continue;
    const std::vector<LeafCell> cells = cells_of(model);
    PageBuffer expected;
    encode_leaf(cells, expected.bytes());
    LeafPacker whole;
    for (const LeafCell& cell : cells) whole.add(cell);
    ASSERT_EQ(whole.page_count(), 1u);
    EXPECT_EQ(whole.last_key(), cells.back().key);
    EXPECT_EQ(whole.packed_bytes(), leaf_bytes_of(cells));
    PageBuffer packed;
    EXPECT_EQ(encode_packed_leaf(whole.front(), packed.bytes()), leaf_bytes_of(cells));
    ASSERT_TRUE(same(packed, expected));

    // And as a merge takes them from an old page.
    const LeafView leaf(expected.data());
    LeafPacker copied;
    for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
      copied.add(leaf.prefix(), leaf.suffix(slot), leaf.payload_bytes(slot), leaf.is_run(slot));
    }
    PageBuffer again;
    encode_packed_leaf(copied.front(), again.bytes());
    ASSERT_TRUE(same(again, expected));
  }
}

TEST(Packer, MakesTheBranchThatItsCellsMake) {
  const std::uint64_t seed = seed_or(2);
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " round " << round);
    Random random(seed * 1'000'003 + round);
    const BranchModel model = random_branch(random, Generation(round), 1);
    const std::vector<BranchCell> cells = cells_of(model);
    BranchPacker packer;
    for (const BranchCell& cell : cells) packer.add(cell);
    ASSERT_EQ(packer.page_count(), 1u);
    PageBuffer expected;
    PageBuffer packed;
    encode_branch(cells, 1, expected.bytes());
    encode_packed_branch(packer.front(), 1, packed.bytes());
    ASSERT_TRUE(same(packed, expected));
  }
}

// Pages leave in front while cells come behind: none is lost, doubled or changed, whatever was dropped and shifted meanwhile.
TEST(Packer, GivesBackEveryCellInPagesThatFit) {
  const std::uint64_t seed = seed_or(3);
  Random random(seed);
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  LeafPacker packer;
  std::vector<std::pair<std::string, std::string>> added;
  std::size_t given = 0;
  const auto take_front = [&] {
    PageBuffer page;
    EXPECT_LE(encode_packed_leaf(packer.front(), page.bytes()), kPageBytes);
    const LeafView leaf(page.data());
    for (std::uint32_t slot = 0; slot < leaf.count(); ++slot, ++given) {
      std::string key;
      leaf.append_key(slot, key);
      ASSERT_LT(given, added.size());
      ASSERT_EQ(key, added[given].first);
      ASSERT_EQ(leaf.value(slot).bytes(), added[given].second);
    }
    packer.pop_front();
  };
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    std::string key = "key" + std::to_string(1'000'000 + i) + std::string(between(random, 0, 40), 'k');
    std::string value = random_bytes(random, between(random, 0, i % 50 == 0 ? kMaxInlineValueBytes : 60));
    packer.add(LeafCell{key, LeafValue(value)});
    added.emplace_back(std::move(key), std::move(value));
    if (packer.front_is_settled()) take_front();
    if (random() % 1000 == 0) {
      packer.settle();
      while (!packer.empty()) take_front();
      EXPECT_EQ(packer.cell_count(), 0u);
    }
    if (HasFatalFailure()) return;
  }
  packer.settle();
  while (!packer.empty()) take_front();
  EXPECT_EQ(given, added.size());
}

}  // namespace
}  // namespace store::test
