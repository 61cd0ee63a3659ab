// The allocator's pages: bits and entries come back, and the summary is what counting bit by bit gives.
#include "store/page/bitmap_page.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "page_samples.hpp"

namespace store::test {
namespace {

bool bit(const std::vector<std::uint64_t>& words, std::uint32_t index) {
  return ((words[index / 64] >> (index % 64)) & 1) != 0;
}

FreeSummary counted(const std::vector<std::uint64_t>& words) {
  FreeSummary summary;
  std::uint32_t run = 0;
  for (std::uint32_t i = 0; i < kRegionBlocks; ++i) {
    run = bit(words, i) ? run + 1 : 0;
    summary.free_blocks += bit(words, i);
    summary.longest_run = std::max(summary.longest_run, run);
  }
  return summary;
}

// Runs of random length, some over many words.
std::vector<std::uint64_t> random_words(Random& random) {
  std::vector<std::uint64_t> words(kBitmapWords, 0);
  const std::size_t longest = std::size_t{1} << between(random, 0, 14);
  bool is_free = between(random, 0, 1) == 0;
  for (std::size_t i = 0; i < kRegionBlocks;) {
    const std::size_t end = std::min<std::size_t>(kRegionBlocks, i + between(random, 1, longest));
    for (; i < end; ++i) words[i / 64] |= std::uint64_t{is_free} << (i % 64);
    is_free = !is_free;
  }
  return words;
}

TEST(Bitmap, HoldsItsBitsAndSummarizesThem) {
  const std::uint64_t seed = seed_or(1);
  Random random(seed);
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " round " << round);
    const std::vector<std::uint64_t> words = random_words(random);
    PageBuffer page;
    encode_bitmap(9, ConstBitmapWords(words), page.bytes());
    ASSERT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(7), Generation(1)), PageFamily::allocator), "");
    const BitmapView view(page.data());
    EXPECT_EQ(view.region(), 9u);
    std::vector<std::uint64_t> read(kBitmapWords);
    view.copy_to(BitmapWords(read));
    EXPECT_EQ(read, words);
    for (std::uint32_t i = 0; i < kRegionBlocks; i += 13) ASSERT_EQ(view.is_free(i), bit(words, i)) << i;
    EXPECT_EQ(summarize(ConstBitmapWords(words)), counted(words));
  }
}

TEST(Bitmap, SummarizesTheExtremes) {
  std::vector<std::uint64_t> words(kBitmapWords, 0);
  EXPECT_EQ(summarize(ConstBitmapWords(words)), (FreeSummary{0, 0}));
  std::fill(words.begin(), words.end(), ~std::uint64_t{0});
  EXPECT_EQ(summarize(ConstBitmapWords(words)), (FreeSummary{kRegionBlocks, kRegionBlocks}));
  words[10] = ~(std::uint64_t{1} << 20);
  EXPECT_EQ(summarize(ConstBitmapWords(words)), (FreeSummary{kRegionBlocks - 1, kRegionBlocks - 10 * 64 - 21}));
}

TEST(BitmapParent, HoldsItsChildren) {
  Random random(seed_or(2));
  for (std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{100}, kBitmapFanout}) {
    std::vector<BitmapParentCell> cells;
    for (std::size_t i = 0; i < count; ++i) {
      PagePointer child = random_child(random, Generation(50), false);
      child.info = 0;
      cells.push_back({child, {static_cast<std::uint32_t>(i * 7), static_cast<std::uint32_t>(i)}});
    }
    PageBuffer page;
    encode_bitmap_parent(2, 3, cells, page.bytes());
    ASSERT_EQ(verify(page.bytes(), seal_page(page.bytes(), PageNo(7), Generation(50)), PageFamily::allocator), "");
    const BitmapParentView view(page.data());
    EXPECT_EQ(view.level(), 2);
    EXPECT_EQ(view.index(), 3u);
    ASSERT_EQ(view.count(), count);
    for (std::uint32_t slot = 0; slot < count; ++slot) {
      EXPECT_EQ(view.child(slot).child, cells[slot].child);
      EXPECT_EQ(view.child(slot).free, cells[slot].free);
    }
  }
}

}  // namespace
}  // namespace store::test
