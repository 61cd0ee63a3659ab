// Spawned tasks on one core: handles, detached tasks and their errors, background tasks, outliving the spawner.
#include <gtest/gtest.h>

#include <memory>
#include <monterey/spawn.hpp>
#include <monterey/sync.hpp>
#include <monterey/time.hpp>
#include <optional>
#include <stdexcept>
#include <store/error.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "support/allocations.hpp"
#include "unit/monterey/core_harness.hpp"

namespace monterey {
namespace {

using std::chrono::milliseconds;
using store::Errc;
using test::run_on_core;
using test::TestCore;

static_assert(std::is_move_constructible_v<JoinHandle<int>> && !std::is_copy_constructible_v<JoinHandle<int>>);

Task<int> after(milliseconds delay, int value) {
  co_await sleep_for(delay);
  co_return value;
}
Task<> fails(milliseconds delay, std::string text) {
  co_await sleep_for(delay);
  throw std::runtime_error(text);
}
Task<std::unique_ptr<int>> boxed(int value) { co_return std::make_unique<int>(value); }

TEST(Spawn, RunsThroughTheReadyQueueAndIsJoined) {
  auto body = []() -> Task<> {
    bool ran = false;
    auto set = [](bool* flag) -> Task<> {
      *flag = true;
      co_return;
    };
    JoinHandle<> handle = spawn(set(&ran));
    EXPECT_FALSE(ran);
    EXPECT_FALSE(handle.ended());
    co_await handle;
    EXPECT_TRUE(ran);
    EXPECT_EQ(co_await spawn(after(milliseconds(1), 7)), 7);
    EXPECT_EQ(*co_await spawn(boxed(8)), 8);
    auto early = spawn(after(milliseconds(0), 9));
    co_await sleep_for(milliseconds(5));
    EXPECT_TRUE(early.ended());
    EXPECT_EQ(co_await early, 9);
  };
  run_on_core(body());
}

TEST(Spawn, AnErrorGoesToWhoJoins) {
  auto body = []() -> Task<> {
    for (const int delay : {0, 2}) {
      JoinHandle<> handle = spawn(fails(milliseconds(1), "joined"));
      co_await sleep_for(milliseconds(delay));
      bool thrown = false;
      try {
        co_await handle;
      } catch (const std::runtime_error& error) {
        thrown = std::string(error.what()) == "joined";
      }
      EXPECT_TRUE(thrown);
    }
  };
  run_on_core(body());
}

TEST(Spawn, TheErrorOfADroppedHandleEndsTheRunAndIsThrown) {
  // Dropped before the task fails, and after it.
  auto before = []() -> Task<> {
    spawn(fails(milliseconds(1), "first"));
    spawn(fails(milliseconds(2), "second"));
    co_await sleep_for(std::chrono::hours(1));
  };
  auto behind = []() -> Task<> {
    {
      auto handle = spawn(fails(milliseconds(1), "first"));
      co_await sleep_for(milliseconds(2));
      EXPECT_TRUE(handle.ended());
    }
    co_await sleep_for(std::chrono::hours(1));
  };
  for (const bool dropped_before : {true, false}) {
    TestCore core;
    std::string text;
    try {
      core.run(dropped_before ? before() : behind());
    } catch (const std::runtime_error& error) {
      text = error.what();
    }
    EXPECT_EQ(text, "first");
    EXPECT_LT(core.clock.time, TimePoint(std::chrono::minutes(61)));
  }
}

TEST(Spawn, AHandleMovesAndIsReplaced) {
  auto body = []() -> Task<> {
    JoinHandle<int> handle = spawn(after(milliseconds(1), 1));
    handle = spawn(after(milliseconds(2), 2));  // the first goes on detached
    JoinHandle<int> moved = std::move(handle);
    EXPECT_FALSE(handle);
    EXPECT_EQ(co_await moved, 2);
    moved.detach();
    EXPECT_FALSE(moved);
  };
  run_on_core(body());
}

TEST(Spawn, AJoinerMayBeDestroyedWhileItWaitsOrIsReady) {
  auto body = []() -> Task<> {
    auto join = [](JoinHandle<int>* handle) -> Task<> { static_cast<void>(co_await *handle); };
    JoinHandle<int> handle = spawn(after(milliseconds(1), 1));
    {
      Task<>::Awaiter joiner(join(&handle));
      EXPECT_TRUE(joiner.await_suspend(std::noop_coroutine()));
    }
    EXPECT_EQ(co_await handle, 1);

    Event go;
    auto waits = [](Event* event) -> Task<int> {
      co_await event->wait();
      co_return 2;
    };
    handle = spawn(waits(&go));
    std::optional<Task<>::Awaiter> joiner(std::in_place, join(&handle));
    EXPECT_TRUE(joiner->await_suspend(std::noop_coroutine()));
    co_await yield();
    go.set();
    while (!handle.ended()) co_await yield();
    joiner.reset();  // it was queued behind this task when the other one ended
    co_await yield();
  };
  run_on_core(body());
}

TEST(Spawn, ATaskOutlivesItsSpawner) {
  std::string log;
  auto child = [](std::string* out, std::string text) -> Task<> {
    co_await sleep_for(milliseconds(5));
    *out += text;
  };
  auto spawner = [child](std::string* out) -> Task<> {
    spawn(child(out, std::string(50, 'c')));
    co_return;
  };
  auto body = [spawner](std::string* out) -> Task<> {
    co_await spawner(out);
    *out += "spawner ended ";
  };
  TestCore core;
  core.run(body(&log));
  EXPECT_EQ(log, "spawner ended " + std::string(50, 'c'));
}

TEST(Spawn, ManyTasksAllocateNothingOnceWarm) {
#if MONTEREY_RECYCLE_FRAMES
  std::uint64_t allocations = 1;
  auto leaf = [](int value) -> Task<int> {
    co_await yield();
    co_return value;
  };
  auto body = [leaf](std::uint64_t* out) -> Task<> {
    for (int i = 0; i < 10; ++i) co_await spawn(leaf(i));
    const std::uint64_t before = store::test::allocations();
    for (int i = 0; i < 1000; ++i) co_await spawn(leaf(i));
    *out = store::test::allocations() - before;
  };
  run_on_core(body(&allocations));
  EXPECT_EQ(allocations, 0U);
#else
  GTEST_SKIP() << "AddressSanitizer must see every frame";
#endif
}

TEST(Spawn, OutsideACoreIsAnError) {
  auto nothing = []() -> Task<> { co_return; };
  try {
    spawn(nothing());
    FAIL() << "no exception";
  } catch (const store::Error& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
    EXPECT_STREQ(error.what(), "spawn() was called outside a core of a running Cluster");
  }
}

TEST(Background, DoesNotKeepTheCoreAliveAndIsEndedThroughItsWaits) {
  std::string log;
  auto flusher = [](std::string* out) -> Task<> {
    try {
      for (;;) co_await sleep_for(std::chrono::hours(1));
    } catch (const store::Error& error) {
      EXPECT_EQ(error.errc(), Errc::aborted);
      *out += "aborted ";
    }
    co_await yield();  // winding up takes its time
    *out += "ended";
  };
  auto body = [flusher](std::string* out) -> Task<> {
    detail::spawn_background(flusher(out));
    co_await sleep_for(milliseconds(1));
    *out += "user ended ";
  };
  run_on_core(body(&log));
  EXPECT_EQ(log, "user ended aborted ended");
}

TEST(Background, AnAbortedThatEscapesAtTheEndIsNoError) {
  auto forever = []() -> Task<> { co_await sleep_for(std::chrono::hours(1)); };
  auto body = [forever]() -> Task<> {
    detail::spawn_background(forever());
    co_return;
  };
  EXPECT_NO_THROW(run_on_core(body()));
}

TEST(Background, AnErrorEndsTheRun) {
  auto body = []() -> Task<> {
    detail::spawn_background(fails(milliseconds(1), "flusher"));
    co_await sleep_for(std::chrono::hours(1));
  };
  EXPECT_THROW(run_on_core(body()), std::runtime_error);
}

TEST(Background, AnErrorWhileEndingIsStillThrown) {
  auto bad_end = []() -> Task<> {
    try {
      co_await sleep_for(std::chrono::hours(1));
    } catch (const store::Error&) {
    }
    throw std::runtime_error("late");
  };
  auto body = [bad_end]() -> Task<> {
    detail::spawn_background(bad_end());
    co_return;
  };
  EXPECT_THROW(run_on_core(body()), std::runtime_error);
}

TEST(SpawnOn, ThisCore) {
  auto body = []() -> Task<> {
    EXPECT_EQ(co_await spawn_on(0, [] { return after(milliseconds(1), 5); }), 5);
    const std::string big(100, 'x');
    auto length = [big]() -> Task<std::size_t> {  // the closure is kept until its coroutine has ended
      co_await sleep_for(milliseconds(1));
      co_return big.size();
    };
    EXPECT_EQ(co_await spawn_on(0, length), 100U);
    try {
      spawn_on(1, [] { return after(milliseconds(1), 5); });
      ADD_FAILURE() << "no exception";
    } catch (const store::Error& error) {
      EXPECT_EQ(error.errc(), Errc::invalid_argument);
      EXPECT_STREQ(error.what(), "spawn_on(): core 1 of a cluster of 1; cores are numbered from 0");
    }
  };
  run_on_core(body());
}

}  // namespace
}  // namespace monterey
