// The buffer arena: alignment, first fit, coalescing, refusals with numbers, and a random comparison with a map of
// what is taken.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <monterey/fixed_bufs.hpp>
#include <random>
#include <store/error.hpp>
#include <vector>

#include "support/seed.hpp"

namespace monterey {
namespace {

constexpr std::size_t kPage = 4096;

template <class Fn>
std::string refusal(Fn fn) {
  try {
    fn();
  } catch (const store::Error& error) {
    EXPECT_EQ(error.errc(), store::Errc::invalid_argument);
    return error.what();
  }
  return "not refused";
}

TEST(FixedBufs, GivesZeroedPageAlignedRangesInAddressOrder) {
  FixedBufs arena(10 * kPage);
  const FixedBuf first = arena.allocate(1);
  const FixedBuf second = arena.allocate(kPage + 1);
  EXPECT_EQ(first.size(), kPage);
  EXPECT_EQ(second.size(), 2 * kPage);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data()) % kPage, 0u);
  EXPECT_EQ(second.data(), first.data() + kPage);
  EXPECT_EQ(arena.free_bytes(), 7 * kPage);
  std::memset(second.data(), 1, second.size());
}

TEST(FixedBufs, StartsAtAHugePageWhenItHoldsOne) {
  FixedBufs arena(std::size_t{3} << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.allocate(1).data()) % (std::size_t{2} << 20), 0u);
}

TEST(FixedBufs, JoinsFreedNeighboursWhateverTheOrder) {
  const std::vector<std::vector<std::size_t>> orders = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                                        {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (const auto& order : orders) {
    FixedBufs arena(3 * kPage);
    std::vector<FixedBuf> bufs;
    for (int i = 0; i < 3; ++i) bufs.push_back(arena.allocate(kPage));
    for (const std::size_t i : order) bufs[i].reset();
    EXPECT_EQ(arena.allocate(3 * kPage).size(), 3 * kPage);
  }
}

TEST(FixedBufs, MovesGiveTheRangeBackOnce) {
  FixedBufs arena(2 * kPage);
  FixedBuf a = arena.allocate(kPage);
  FixedBuf b = std::move(a);
  EXPECT_FALSE(a);
  a = arena.allocate(kPage);
  b = std::move(a);
  EXPECT_EQ(arena.free_bytes(), kPage);
  b.reset();
  EXPECT_EQ(arena.free_bytes(), 2 * kPage);
}

TEST(FixedBufs, RefusesWithTheNumbers) {
  FixedBufs arena(8 * kPage);
  std::vector<FixedBuf> bufs;
  for (int i = 0; i < 8; ++i) bufs.push_back(arena.allocate(kPage));
  bufs[1].reset();
  bufs[3].reset();
  EXPECT_EQ(refusal([&] { arena.allocate(2 * kPage); }),
            "the buffer arena cannot give 8192 bytes: 8192 of its 32768 are free, the longest range has 4096; give "
            "Cluster::builder().buffers() more");
  EXPECT_NE(refusal([&] { arena.allocate(0); }), "not refused");
  EXPECT_NE(refusal([&] { arena.allocate(~std::size_t{0}); }), "not refused");
  FixedBufs none(0);
  EXPECT_NE(refusal([&] { none.allocate(1); }), "not refused");
}

TEST(FixedBufs, RefusesMoreThanTheMachineHas) {
  const std::string text = refusal([] { FixedBufs arena(std::size_t{1} << 46); });
  EXPECT_EQ(text.find("the buffer arena needs 70368744177664 bytes and "), 0u) << text;
  EXPECT_NE(text.find(" are available; use a smaller cache or fewer cores"), std::string::npos) << text;
  EXPECT_NE(refusal([] { FixedBufs arena(~std::size_t{0}); }), "not refused");
  EXPECT_NE(refusal([] { FixedBufs::require_memory(std::size_t{1} << 46); }), "not refused");
}

TEST(FixedBufs, KnowsWhatIsRegistered) {
  FixedBufs arena(4 * kPage);
  const FixedBuf buf = arena.allocate(2 * kPage);
  EXPECT_FALSE(arena.index_of(buf.data(), kPage));
  ASSERT_EQ(arena.chunk_count(), 1u);
  EXPECT_EQ(arena.chunk(0).size(), 4 * kPage);
  arena.set_registered(0, 1);
  EXPECT_EQ(arena.index_of(buf.data() + kPage, 3 * kPage), 0u);
  EXPECT_FALSE(arena.index_of(buf.data() + kPage, 3 * kPage + 1));
  std::byte elsewhere{};
  EXPECT_FALSE(arena.index_of(&elsewhere, 1));
  EXPECT_FALSE(arena.contains(buf.data() - 1, 1));
}

TEST(FixedBufs, RegistersALargeArenaInPartsThatNoTransferCrosses) {
  if (refusal([] { FixedBufs::require_memory(FixedBufs::kChunkBytes + 2 * kPage); }) != "not refused") {
    GTEST_SKIP() << "needs a gigabyte of memory to ask for";
  }
  FixedBufs arena(FixedBufs::kChunkBytes + kPage);
  ASSERT_EQ(arena.chunk_count(), 2u);
  EXPECT_EQ(arena.chunk(1).size(), kPage);
  arena.set_registered(0, 1);
  arena.set_registered(1, 1);
  EXPECT_EQ(arena.index_of(arena.chunk(1).data(), kPage), 1u);
  EXPECT_FALSE(arena.index_of(arena.chunk(1).data() - 1, 2));
}

TEST(FixedBufs, IsRegisteredInPartsOfTheSizeAskedFor) {
  FixedBufs arena(5 * kPage, 2 * kPage);
  ASSERT_EQ(arena.chunk_count(), 3u);
  EXPECT_EQ(arena.chunk(2).size(), kPage);
  for (std::size_t i = 0; i < 3; ++i) arena.set_registered(i, 1);
  std::byte* const second = arena.chunk(1).data();
  EXPECT_EQ(arena.index_of(second, 2 * kPage), 1u);
  EXPECT_EQ(arena.bytes_in_chunk(second), 2 * kPage);
  EXPECT_EQ(arena.bytes_in_chunk(second + kPage), kPage);
  EXPECT_FALSE(arena.index_of(second + kPage, 2 * kPage));
}

TEST(FixedBufs, CurrentIsRefusedOutsideACluster) {
  EXPECT_EQ(FixedBufs::current_if_any(), nullptr);
  EXPECT_EQ(refusal([] { FixedBufs::current(); }), "FixedBufs::current() outside a core of a running Cluster");
  FixedBufs arena(kPage);
  FixedBufs::set_current(&arena);
  EXPECT_EQ(&FixedBufs::current(), &arena);
  FixedBufs::set_current(nullptr);
}

TEST(FixedBufs, NeverGivesAPageTwiceNorLosesOne) {
  const std::uint64_t seed = store::test::requested_seed().value_or(std::random_device{}());
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr std::size_t kPages = 64;
  FixedBufs arena(kPages * kPage);
  std::vector<FixedBuf> bufs;
  std::vector<std::byte> marks;
  for (int step = 0; step < 2000; ++step) {
    if (bufs.empty() || random() % 2 == 0) {
      const std::size_t wanted = (1 + random() % 8) * kPage;
      try {
        bufs.push_back(arena.allocate(wanted));
        marks.push_back(static_cast<std::byte>(random()));
        std::memset(bufs.back().data(), static_cast<int>(marks.back()), wanted);
      } catch (const store::Error&) {
        ASSERT_GT(bufs.size(), 0u);
      }
    } else {
      const std::size_t victim = random() % bufs.size();
      ASSERT_EQ(std::ranges::count(bufs[victim].span(), marks[victim]),
                static_cast<std::ptrdiff_t>(bufs[victim].size()));
      bufs.erase(bufs.begin() + static_cast<std::ptrdiff_t>(victim));
      marks.erase(marks.begin() + static_cast<std::ptrdiff_t>(victim));
    }
    std::size_t taken = 0;
    for (const FixedBuf& buf : bufs) taken += buf.size();
    ASSERT_EQ(arena.free_bytes(), kPages * kPage - taken);
  }
  bufs.clear();
  EXPECT_EQ(arena.allocate(kPages * kPage).size(), kPages * kPage);
}

}  // namespace
}  // namespace monterey
