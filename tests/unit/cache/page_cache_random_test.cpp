// Random pins, prefetches, insertions, rewrites of blocks and destroyed waiters over a device whose reads take their
// time: every pin shows the page it asked for, and nothing is left behind.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "cache_fixture.hpp"
#include "support/seed.hpp"

namespace store::test {
namespace {

constexpr std::size_t kArena = 1u << 20;
constexpr std::uint32_t kPages = 60;

class RandomRun {
 public:
  explicit RandomRun(std::uint64_t seed) : random_(seed), t_(9 + random_() % 24, 2 + kPages), pins_of_(1 + kPages) {
    pointers_.resize(1 + kPages);
    for (std::uint32_t page = 1; page <= kPages; ++page) pointers_[page] = t_.put(page, 1);
    t_.disk->complete_by([this](const Operation&) {
      return random_() % 3 == 0 ? MemDisk::Completion::yield : MemDisk::Completion::at_once;
    });
  }

  Task<> run() {
    branch_ = co_await t_.cache->pin(t_.put_branch(1 + kPages));
    std::vector<Task<>> tasks;
    for (int i = 0; i < 12; ++i) tasks.push_back(act());
    co_await monterey::when_all(std::move(tasks));
    co_await t_.cache->drain();
    branch_.reset();
    t_.cache->unmap(PageNo(1 + kPages));
    EXPECT_EQ(t_.cache->pinned_frames(), 0u);
    EXPECT_EQ(t_.cache->stats().loading, 0u);
    std::size_t resident = 0;
    for (std::uint32_t page = 1; page <= kPages; ++page) resident += t_.cache->resident(pointers_[page]);
    EXPECT_EQ(t_.cache->stats().resident, resident);
    for (std::uint32_t page = 1; page <= kPages; ++page) {
      EXPECT_EQ(what_is(co_await t_.cache->pin(pointers_[page])), text(page, pointers_[page].birth));
    }
  }

 private:
  static std::string text(std::uint32_t page, Generation birth) {
    return std::to_string(page) + " of " + std::to_string(birth.value);
  }
  Reuse any_reuse() { return random_() % 3 == 0 ? Reuse::unlikely : Reuse::likely; }

  Task<> act() {
    for (int step = 0; step < 60; ++step) {
      const auto page = static_cast<std::uint32_t>(1 + random_() % kPages);
      const PagePointer pointer = pointers_[page];
      // By a hint that other pages use, too.
      if (const std::byte* found = t_.cache->peek(pointer, t_.cache->hint(branch_.data(), page % 3))) {
        EXPECT_EQ(what_is(found), text(page, pointer.birth));
      }
      switch (random_() % 9) {
        case 0: t_.cache->prefetch(pointer, IoClass::background, any_reuse()); break;
        case 8: {
          const std::size_t count = std::min<std::size_t>(1 + random_() % 6, kPages + 1 - page);
          t_.cache->prefetch_together(std::span(pointers_).subspan(page, count), IoClass::background, any_reuse());
          break;
        }
        case 1: rewrite(page); break;
        case 2: {
          ++pins_of_[page];
          StartedPin waiter(*t_.cache, pointer, any_reuse());
          if (random_() % 2 == 0) co_await monterey::yield();
          waiter.destroy();
          --pins_of_[page];
          break;
        }
        default: {
          ++pins_of_[page];
          const Reuse reuse = any_reuse();
          const Pin pin = co_await t_.cache->pin(pointer, IoClass::foreground, reuse);
          for (auto turns = random_() % 4; turns > 0; --turns) co_await monterey::yield();
          EXPECT_EQ(what_is(pin), text(page, pointer.birth));
          --pins_of_[page];
        }
      }
    }
  }

  // As a commit does that reuses a block: nobody asks for the old page any more, though old loads may be under way.
  void rewrite(std::uint32_t page) {
    if (pins_of_[page] != 0) return;
    const std::uint64_t birth = pointers_[page].birth.value + 1;
    std::vector<std::byte> memory(4096);
    const PageBytes bytes(memory.data(), 4096);
    const PagePointer pointer = make_page(bytes, page, birth);
    t_.cache->unmap(PageNo(page));
    t_.put(page, birth);
    if (random_() % 2 == 0) t_.cache->insert_clean(pointer, bytes, any_reuse());
    pointers_[page] = pointer;
  }

  std::mt19937_64 random_;
  CacheUnderTest t_;
  Pin branch_;
  std::vector<PagePointer> pointers_;
  std::vector<int> pins_of_;
};

TEST(PageCacheRandom, EveryPinShowsThePageItAskedFor) {
  const auto requested = requested_seed();
  const std::uint64_t first = requested.value_or(std::random_device{}());
  const int runs = requested ? 1 : 60;
  for (int i = 0; i < runs && !testing::Test::HasFailure(); ++i) {
    const std::uint64_t seed = first + static_cast<std::uint64_t>(i);
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    on_core(kArena, [seed]() -> Task<> {
      RandomRun run(seed);
      co_await run.run();
    });
  }
}

}  // namespace
}  // namespace store::test
