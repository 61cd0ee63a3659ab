// Timers on a virtual clock: order, ties, cancelling, times that have passed, times that never come.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <monterey/spawn.hpp>
#include <monterey/sync.hpp>
#include <monterey/time.hpp>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/seed.hpp"
#include "unit/monterey/core_harness.hpp"

namespace monterey {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using test::run_on_core;
using test::TestCore;

Task<> sleep_and_note(TimePoint until, int id, std::vector<int>* log) {
  co_await sleep_until(until);
  EXPECT_GE(now(), until);
  log->push_back(id);
}

TEST(Timers, WakeByTimeThenByOrder) {
  std::vector<int> log;
  auto body = [](std::vector<int>* out) -> Task<> {
    const TimePoint start = now();
    spawn(sleep_and_note(start + milliseconds(20), 1, out));
    spawn(sleep_and_note(start + milliseconds(10), 2, out));
    spawn(sleep_and_note(start + milliseconds(20), 3, out));
    spawn(sleep_and_note(start + milliseconds(10), 4, out));
    spawn(sleep_and_note(start - milliseconds(1), 5, out));
    co_await sleep_for(milliseconds(30));
    EXPECT_EQ(now(), start + milliseconds(30));
  };
  run_on_core(body(&log));
  EXPECT_EQ(log, (std::vector<int>{5, 2, 4, 1, 3}));
}

TEST(Timers, WaitInTheBackendForTheEarliest) {
  TestCore core;
  auto body = []() -> Task<> {
    for (int i = 0; i < 10; ++i) co_await sleep_for(hours(1));
  };
  core.run(body());
  EXPECT_EQ(core.clock.time, TimePoint(hours(11)));
  EXPECT_LE(core.backend.waits, 11U);
}

TEST(Timers, DurationsBeyondTheClockNeverEnd) {
  auto body = []() -> Task<> {
    bool woken = false;
    auto sleeps = [](bool* flag) -> Task<> {
      co_await sleep_for(hours::max());
      *flag = true;
    };
    Task<>::Awaiter forever(sleeps(&woken));
    EXPECT_TRUE(forever.await_suspend(std::noop_coroutine()));
    co_await sleep_for(hours(24 * 365 * 20));
    EXPECT_FALSE(woken);
  };
  run_on_core(body());
}

TEST(Timers, ASleeperMayOutliveItsReactor) {
  std::optional<Task<>::Awaiter> sleeping;
  std::optional<Task<>::Awaiter> ready;
  {
    TestCore core;
    const detail::Reactor::Activation activation(core.reactor);
    auto sleeps = []() -> Task<> { co_await sleep_for(hours(1)); };
    auto yields = []() -> Task<> { co_await yield(); };
    EXPECT_TRUE(sleeping.emplace(sleeps()).await_suspend(std::noop_coroutine()));
    EXPECT_TRUE(ready.emplace(yields()).await_suspend(std::noop_coroutine()));
  }
  sleeping.reset();
  ready.reset();
}

TEST(Timers, AgainstAModel) {
  const std::uint64_t first = store::test::requested_seed().value_or(1);
  const std::uint64_t seeds = store::test::requested_seed() ? 1 : 50;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    std::vector<int> log;
    auto body = [](std::uint64_t s, std::vector<int>* out) -> Task<> {
      std::mt19937_64 random(s);
      const TimePoint start = now();
      std::vector<std::optional<Task<>::Awaiter>> sleepers(200);
      std::vector<std::pair<TimePoint, int>> expected;
      for (int i = 0; i < 200; ++i) {
        const TimePoint until = start + milliseconds(1 + random() % 50);
        sleepers[i].emplace(sleep_and_note(until, i, out));
        EXPECT_TRUE(sleepers[i]->await_suspend(std::noop_coroutine()));
        expected.emplace_back(until, i);
      }
      for (int i = 0; i < 100; ++i) {
        const int victim = static_cast<int>(random() % 200);
        sleepers[victim].reset();
        std::erase_if(expected, [victim](const auto& entry) { return entry.second == victim; });
      }
      co_await sleep_for(milliseconds(60));
      std::sort(expected.begin(), expected.end());
      std::vector<int> ids;
      for (const auto& entry : expected) ids.push_back(entry.second);
      EXPECT_EQ(*out, ids);
    };
    run_on_core(body(seed, &log));
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace monterey
