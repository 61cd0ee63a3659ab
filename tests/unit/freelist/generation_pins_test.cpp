// GenerationPins and HeldExtents: what is pinned, and what a dropped pin frees, against a plain list.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <vector>

#include "store/freelist/generation_pins.hpp"
#include "store/freelist/held_extents.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

TEST(GenerationPins, AnswersForHalfOpenRanges) {
  GenerationPins pins;
  EXPECT_FALSE(pins.any_in(Generation(0), kMaxGeneration));
  EXPECT_EQ(pins.oldest(), std::nullopt);
  auto five = pins.pin(Generation(5));
  auto nine = pins.pin(Generation(9));
  EXPECT_TRUE(pins.any_in(Generation(5), Generation(6)));
  EXPECT_FALSE(pins.any_in(Generation(5), Generation(5)));
  EXPECT_FALSE(pins.any_in(Generation(6), Generation(9)));
  EXPECT_TRUE(pins.any_in(Generation(6), Generation(10)));
  EXPECT_FALSE(pins.any_in(Generation(10), kMaxGeneration));
  EXPECT_EQ(pins.oldest(), Generation(5));
  EXPECT_EQ(pins.last_before(Generation(9)), Generation(5));
  EXPECT_EQ(pins.last_before(Generation(5)), std::nullopt);
  five.reset();
  EXPECT_EQ(pins.oldest(), Generation(9));
  EXPECT_EQ(pins.count(), 1u);
}

TEST(GenerationPins, AGenerationIsUnpinnedWithItsLastPin) {
  GenerationPins pins;
  auto first = pins.pin(Generation(7));
  auto second = pins.pin(Generation(7));
  GenerationPins::Pin moved = std::move(first);
  EXPECT_FALSE(first);
  EXPECT_EQ(moved.generation(), Generation(7));
  EXPECT_EQ(pins.count(), 2u);
  moved.reset();
  EXPECT_FALSE(pins.has_unpinned());
  second = pins.pin(Generation(8));
  EXPECT_TRUE(pins.has_unpinned());
  EXPECT_FALSE(pins.any_in(Generation(7), Generation(8)));
  EXPECT_EQ(pins.take_unpinned(), std::vector<Generation>{Generation(7)});
  EXPECT_FALSE(pins.has_unpinned());
  EXPECT_TRUE(pins.any_in(Generation(8), Generation(9)));
}

TEST(GenerationPins, PinnedAgainBeforeAnyoneLookedIsNotUnpinned) {
  GenerationPins pins;
  pins.pin(Generation(3)).reset();
  const auto again = pins.pin(Generation(3));
  EXPECT_TRUE(pins.take_unpinned().empty());
  EXPECT_TRUE(pins.any_in(Generation(3), Generation(4)));
}

TEST(HeldExtents, WhatLiesBetweenTwoPinsIsNotHeld) {
  GenerationPins pins;
  HeldExtents held;
  auto old = pins.pin(Generation(10));
  auto young = pins.pin(Generation(20));
  EXPECT_FALSE(held.add({PageNo(100), 1}, Generation(11), Generation(20), pins));
  EXPECT_FALSE(held.add({PageNo(100), 1}, Generation(21), Generation(30), pins));
  EXPECT_TRUE(held.add({PageNo(100), 1}, Generation(10), Generation(11), pins));
  EXPECT_TRUE(held.add({PageNo(101), 2}, Generation(1), Generation(21), pins));
  EXPECT_TRUE(held.add({PageNo(103), 4}, Generation(11), Generation(21), pins));
  EXPECT_EQ(held.blocks(), 7u);
  ExtentList freed;
  young.reset();
  for (const Generation g : pins.take_unpinned()) held.drop(g, pins, freed);
  EXPECT_EQ(freed.size(), 1u);
  EXPECT_EQ(freed.last(), (Extent{PageNo(103), 4}));
  old.reset();
  for (const Generation g : pins.take_unpinned()) held.drop(g, pins, freed);
  EXPECT_EQ(freed.size(), 3u);
  EXPECT_EQ(held.blocks(), 0u);
  EXPECT_EQ(held.groups(), 0u);
}

TEST(ExtentList, TakesOverShortAndLongLists) {
  constexpr std::uint32_t kPiece = ExtentList::kPieceExtents;
  for (const std::uint32_t mine : {0u, 1u, kPiece, 5 * kPiece + 3}) {
    for (const std::uint32_t others : {0u, 1u, kPiece, kPiece + 1, 7 * kPiece}) {
      ExtentList list;
      ExtentList other;
      for (std::uint32_t i = 0; i < mine; ++i) list.push({PageNo(i), 1});
      for (std::uint32_t i = 0; i < others; ++i) other.push({PageNo(mine + i), 1});
      list.take(other);
      EXPECT_TRUE(other.empty());
      ASSERT_EQ(list.size(), mine + others);
      list.push({PageNo(mine + others), 1});
      std::vector<bool> seen(list.size());
      while (!list.empty()) {
        const std::uint32_t block = list.pop().first.value;
        EXPECT_FALSE(seen.at(block));
        seen[block] = true;
      }
      EXPECT_TRUE(std::ranges::all_of(seen, [](bool b) { return b; }));
    }
  }
}

TEST(HeldExtents, FreesWhatAPlainListFrees) {
  struct Entry {
    Extent extent;
    Generation birth, death;
  };
  const std::uint64_t base = test::requested_seed().value_or(std::random_device{}());
  for (std::uint64_t run = 0; run < 20; ++run) {
    SCOPED_TRACE(testing::Message() << "--seed=" << base << ", run " << run);
    std::mt19937_64 random(base + run);
    GenerationPins pins;
    HeldExtents held;
    std::vector<GenerationPins::Pin> pinned;
    std::vector<Entry> list;
    std::uint64_t now = 100;
    std::uint32_t block = 1;
    for (int step = 0; step < 600; ++step) {
      const auto choice = random() % 10;
      if (choice < 3) {
        pinned.push_back(pins.pin(Generation(now)));
      } else if (choice < 6) {
        // Superseded by the next state; born at any time before.
        ++now;
        for (int i = 0; i < 5; ++i) {
          const Entry entry{{PageNo(block++), 1}, Generation(now - 1 - random() % 60), Generation(now)};
          const bool expected = pins.any_in(entry.birth, entry.death);
          EXPECT_EQ(held.add(entry.extent, entry.birth, entry.death, pins), expected);
          if (expected) list.push_back(entry);
        }
      } else if (!pinned.empty()) {
        const auto drops = 1 + random() % 3;
        for (std::uint64_t i = 0; i < drops && !pinned.empty(); ++i) {
          std::swap(pinned[random() % pinned.size()], pinned.back());
          pinned.pop_back();
        }
        ExtentList freed;
        for (const Generation g : pins.take_unpinned()) held.drop(g, pins, freed);
        std::vector<std::uint32_t> actual, expected;
        while (!freed.empty()) actual.push_back(freed.pop().first.value);
        std::erase_if(list, [&](const Entry& entry) {
          const bool free = std::ranges::none_of(pinned, [&](const GenerationPins::Pin& pin) {
            return entry.birth <= pin.generation() && pin.generation() < entry.death;
          });
          if (free) expected.push_back(entry.extent.first.value);
          return free;
        });
        std::ranges::sort(actual);
        std::ranges::sort(expected);
        ASSERT_EQ(actual, expected) << "step " << step;
      }
      ASSERT_EQ(held.blocks(), list.size());
    }
  }
}

// 300 pins dropped in random order: to look at every extent for every pin would be 90 million looks, an order of magnitude
// over the limit in a debug build.
TEST(HeldExtents, ManyExtentsUnderManyPinsAreNotLookedAtForEachPin) {
  constexpr std::uint32_t kExtents = 300'000;
  constexpr std::uint64_t kPins = 300;
  std::mt19937_64 random(1);
  GenerationPins pins;
  HeldExtents held;
  std::vector<GenerationPins::Pin> pinned;
  for (std::uint64_t g = 1; g <= kPins; ++g) pinned.push_back(pins.pin(Generation(g)));
  for (std::uint32_t i = 0; i < kExtents; ++i) {
    const std::uint64_t birth = 1 + random() % kPins;
    held.add({PageNo(i + 4), 1}, Generation(birth), Generation(birth + 1 + random() % kPins), pins);
  }
  EXPECT_EQ(held.blocks(), kExtents);
  std::shuffle(pinned.begin(), pinned.end(), random);
  ExtentList freed;
  const std::clock_t start = std::clock();
  while (!pinned.empty()) {
    pinned.pop_back();
    for (const Generation g : pins.take_unpinned()) held.drop(g, pins, freed);
  }
  EXPECT_LT(std::clock() - start, CLOCKS_PER_SEC);
  EXPECT_EQ(freed.size(), kExtents);
}

}  // namespace
}  // namespace store
