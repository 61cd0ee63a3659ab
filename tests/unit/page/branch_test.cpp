// Branches against a sorted list of separators: what goes in comes out, and every key goes to the child whose range
// holds it.
#include "store/page/branch.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "page_samples.hpp"

namespace store::test {
namespace {

std::string separator_at(const BranchView& branch, std::uint32_t slot) {
  std::string separator;
  branch.append_separator(slot, separator);
  return separator;
}

void expect_same(const BranchView& branch, const BranchModel& model) {
  ASSERT_EQ(branch.count(), model.size());
  bool any_overflow = false;
  for (std::uint32_t slot = 0; slot < model.size(); ++slot) {
    EXPECT_EQ(separator_at(branch, slot), slot == 0 ? "" : model[slot].first);
    EXPECT_EQ(branch.child(slot), model[slot].second);
    any_overflow = any_overflow || has_overflow(model[slot].second);
  }
  EXPECT_EQ(branch.has_overflow(), any_overflow);
}

void expect_searches_agree(const BranchView& branch, const BranchModel& model) {
  std::vector<std::string> separators;
  for (std::size_t i = 1; i < model.size(); ++i) separators.push_back(model[i].first);
  for (const std::string& sought : neighbours(separators)) {
    const auto above = std::upper_bound(separators.begin(), separators.end(), sought);
    ASSERT_EQ(branch.find_child(sought), static_cast<std::uint32_t>(above - separators.begin()))
        << testing::PrintToString(sought);
  }
}

TEST(Branch, HoldsWhatWasEncodedAndFindsTheChildOfEveryKey) {
  const std::uint64_t seed = seed_or(1);
  for (std::uint64_t round = 0; round < 300; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " round " << round);
    Random random(seed * 1'000'003 + round);
    const Generation generation(round);
    const auto level = static_cast<std::uint8_t>(between(random, 1, kMaxTreeLevel));
    const BranchModel model = random_branch(random, generation, level);
    const std::vector<BranchCell> cells = cells_of(model);
    PageBuffer page;
    const std::size_t used = encode_branch(cells, level, page.bytes());
    ASSERT_EQ(used, branch_bytes_of(cells));
    const PagePointer pointer = seal_page(page.bytes(), PageNo(7), generation);
    ASSERT_EQ(verify(page.bytes(), pointer), "");
    const BranchView branch(page.data());
    EXPECT_EQ(branch.bytes_used(), used);
    EXPECT_EQ(branch.level(), level);
    EXPECT_EQ(pointer.info, branch_info(branch.has_overflow()));
    expect_same(branch, model);
    expect_searches_agree(branch, model);
    if (HasFatalFailure()) return;
  }
}

TEST(Branch, IsTheSameBytesEachTimeAndZeroBehindTheCells) {
  Random random(seed_or(2));
  const BranchModel model = random_branch(random, Generation(3), 1);
  PageBuffer first;
  PageBuffer second;
  std::fill_n(second.data(), kPageBytes, std::byte{0});
  const std::size_t used = encode_branch(cells_of(model), 1, first.bytes());
  encode_branch(cells_of(model), 1, second.bytes());
  EXPECT_TRUE(std::equal(first.data(), first.data() + kPageBytes, second.data()));
  EXPECT_TRUE(
      std::all_of(first.data() + used, first.data() + kPageBytes, [](std::byte b) { return b == std::byte{0}; }));
}

TEST(Branch, StoresNoSeparatorForItsFirstChild) {
  const PagePointer child{PageNo(5), 1, Generation(1), 0};
  PageBuffer with;
  PageBuffer without;
  encode_branch(std::vector<BranchCell>{{"ignored", child}, {"m", child}}, 1, with.bytes());
  encode_branch(std::vector<BranchCell>{{"", child}, {"m", child}}, 1, without.bytes());
  EXPECT_TRUE(std::equal(with.data(), with.data() + kPageBytes, without.data()));
  EXPECT_EQ(BranchView(with.data()).find_child("a"), 0u);
  EXPECT_EQ(BranchView(with.data()).find_child("m"), 1u);
}

TEST(Branch, OfOneChildSendsEveryKeyThere) {
  const PagePointer child{PageNo(5), 1, Generation(1), 0};
  PageBuffer page;
  EXPECT_EQ(encode_branch(std::vector<BranchCell>{{"", child}}, 1, page.bytes()), branch_bytes(1, 0, 0));
  ASSERT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(9), Generation(1))), "");
  const BranchView branch(page.data());
  for (const std::string& key : {std::string(1, '\0'), std::string("m"), std::string(kMaxKeyBytes, '\xff')}) {
    EXPECT_EQ(branch.find_child(key), 0u);
  }
}

TEST(ShortestSeparator, LiesBetweenItsNeighboursAndCannotBeShorter) {
  Random random(seed_or(5));
  for (int i = 0; i < 300; ++i) {
    const std::vector<std::string> keys = random_keys(random, 20);
    for (std::size_t k = 1; k < keys.size(); ++k) {
      const std::string_view separator = shortest_separator(keys[k - 1], keys[k]);
      EXPECT_LT(keys[k - 1], separator);
      EXPECT_LE(separator, keys[k]);
      EXPECT_TRUE(std::string_view(keys[k]).starts_with(separator));
      EXPECT_LE(separator.substr(0, separator.size() - 1), keys[k - 1]);
    }
  }
}

}  // namespace
}  // namespace store::test
