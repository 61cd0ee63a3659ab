// Tasks: laziness, results, errors, starting from another awaiter, bounded stack, frames, destruction at every stage.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/allocations.hpp"
#include "unit/monterey/core_harness.hpp"

namespace monterey {
namespace {

using test::run_on_core;
using test::TestCore;

Task<int> ready(int value) { co_return value; }
Task<> ready_void() { co_return; }
Task<int> later(int value) {
  co_await yield();
  co_return value;
}
Task<int> failing(std::string text) {
  co_await maybe_yield();
  throw std::runtime_error(text);
}

static_assert(std::is_nothrow_move_constructible_v<Task<int>> && !std::is_copy_constructible_v<Task<int>>);

template <class T>
concept AwaitableAsLvalue = requires(T& task) {
  task.operator co_await();
};
static_assert(!AwaitableAsLvalue<Task<int>>, "a task is awaited once, as an rvalue");

TEST(Task, GivesItsValue) {
  int sum = 0;
  auto body = [](int* out) -> Task<> {
    *out += co_await ready(1);
    *out += co_await later(10);
    co_await ready_void();
    const std::unique_ptr<int> moved =
        co_await [](int v) -> Task<std::unique_ptr<int>> { co_return std::make_unique<int>(v); }(100);
    *out += *moved;
  };
  run_on_core(body(&sum));
  EXPECT_EQ(sum, 111);
}

TEST(Task, StartsOnlyWhenAwaited) {
  bool started = false;
  auto child = [](bool* flag) -> Task<> {
    *flag = true;
    co_return;
  };
  auto body = [&](bool* flag) -> Task<> {
    Task<> task = child(flag);
    co_await yield();
    EXPECT_FALSE(*flag);
    co_await std::move(task);
    EXPECT_TRUE(*flag);
    EXPECT_FALSE(task);
  };
  run_on_core(body(&started));
  { const Task<> never_started = child(&started); }
}

TEST(Task, ThrowsAtTheAwait) {
  auto body = []() -> Task<> {
    try {
      co_await failing("broken");
      ADD_FAILURE() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "broken");
    }
    EXPECT_EQ(co_await ready(3), 3);
  };
  run_on_core(body());
}

TEST(Task, AnErrorOfALocalsDestructorReplacesTheValue) {
  struct ThrowsAtEnd {
    ~ThrowsAtEnd() noexcept(false) { throw std::runtime_error("destructor"); }
  };
  auto child = []() -> Task<std::string> {
    const ThrowsAtEnd local;
    co_return std::string(100, 'x');
  };
  auto body = [&]() -> Task<> {
    bool thrown = false;
    try {
      static_cast<void>(co_await child());
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    EXPECT_TRUE(thrown);
  };
  run_on_core(body());
}

// With symmetric transfer this overflows the stack without optimisation and under sanitizers.
TEST(Task, TenMillionReadyAwaitsInALoop) {
  constexpr int kAwaits = 10'000'000;
  long sum = 0;
  auto body = [](long* out) -> Task<> {
    for (int i = 0; i < kAwaits; ++i) *out += co_await ready(1);
  };
  const auto begin = std::chrono::steady_clock::now();
  run_on_core(body(&sum));
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(sum, kAwaits);
  RecordProperty("ns_per_ready_await", std::to_string(took.count() / kAwaits));
}

Task<int> nested(int depth) {
  if (depth == 0) co_return co_await later(0);
  co_return 1 + co_await nested(depth - 1);
}

TEST(Task, ADeepChainThatWaitsUnwindsThroughTheReadyQueue) {
  int depth = 0;
  auto body = [](int* out) -> Task<> { *out = co_await nested(2000); };
  run_on_core(body(&depth));
  EXPECT_EQ(depth, 2000);
}

TEST(Task, LaterCompletionResumesTheParentAfterTasksThatWereReadyBefore) {
  std::vector<int> order;
  auto child = [](std::vector<int>* log) -> Task<> {
    co_await yield();
    log->push_back(1);
  };
  auto first = [&](std::vector<int>* log) -> Task<> {
    co_await child(log);
    log->push_back(3);
  };
  auto second = [](std::vector<int>* log) -> Task<> {
    co_await yield();
    log->push_back(2);
  };
  auto body = [&](std::vector<int>* log) -> Task<> {
    spawn(first(log));
    spawn(second(log));
    co_return;
  };
  run_on_core(body(&order));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

// The pattern of preempt.hpp: the hit is taken in await_ready, the miss is a task started from the awaiter's own
// await_suspend.
class Lookup {
 public:
  enum class Kind { hit, miss_ready, miss_later, miss_fails };
  explicit Lookup(Kind kind) : kind_(kind) {}

  bool await_ready() {
    hit_ = kind_ == Kind::hit;
    return hit_ && !consume_budget();
  }
  bool await_suspend(std::coroutine_handle<> caller) {
    if (hit_) {
      ++parked;
      node_.park(caller);
      return true;
    }
    miss_.emplace(kind_ == Kind::miss_ready ? ready(2) : kind_ == Kind::miss_later ? later(3) : failing("miss"));
    return miss_->await_suspend(caller);
  }
  int await_resume() { return hit_ ? 1 : miss_->await_resume(); }

  static inline int parked = 0;

 private:
  Kind kind_;
  bool hit_ = false;
  detail::ReadyNode node_;
  std::optional<Task<int>::Awaiter> miss_;
};

TEST(Task, StartsFromAnotherAwaiter) {
  auto body = []() -> Task<> {
    EXPECT_EQ(co_await Lookup(Lookup::Kind::hit), 1);
    EXPECT_EQ(co_await Lookup(Lookup::Kind::miss_ready), 2);
    EXPECT_EQ(co_await Lookup(Lookup::Kind::miss_later), 3);
    bool thrown = false;
    try {
      co_await Lookup(Lookup::Kind::miss_fails);
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    EXPECT_TRUE(thrown);
  };
  run_on_core(body());
}

TEST(Task, AHitWithTheBudgetUsedUpSuspendsOnce) {
  TestCore core;
  core.backend.completions = true;  // every look at the budget says: give way
  Lookup::parked = 0;
  int hits = 0;
  auto body = [](int* count) -> Task<> {
    for (int i = 0; i < 1000; ++i) *count += co_await Lookup(Lookup::Kind::hit);
  };
  core.run(body(&hits));
  EXPECT_EQ(hits, 1000);
  EXPECT_EQ(Lookup::parked, 1000 / kBudgetUnits);
}

struct Counted {
  explicit Counted(int* alive) : alive_(alive) { ++*alive_; }
  Counted(const Counted& other) : alive_(other.alive_) { ++*alive_; }
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --*alive_; }
  int* alive_;
};

Task<> waits(Event* event, Counted) { co_await event->wait(); }
Task<> waits_below(Event* event, Counted counted) { co_await waits(event, counted); }

TEST(Task, DestroyedWhileSuspendedTakesItsChildrenAlong) {
  int alive = 0;
  auto body = [](int* count) -> Task<> {
    Event event;
    {
      // Started by hand: the caller "suspends" and is never resumed by it.
      Task<>::Awaiter awaiter(waits_below(&event, Counted(count)));
      EXPECT_TRUE(awaiter.await_suspend(std::noop_coroutine()));
      EXPECT_EQ(event.waiting(), 1U);
      EXPECT_GE(*count, 2);  // one in each frame, and the argument of the call
    }
    EXPECT_EQ(event.waiting(), 0U);
    EXPECT_EQ(*count, 0);
    event.set();
    co_await yield();
  };
  run_on_core(body(&alive));
}

TEST(Task, DestroyedWhileReadyLeavesTheReadyQueue) {
  auto body = []() -> Task<> {
    for (int position = 0; position < 3; ++position) {
      Event event;
      std::vector<int> woken;
      auto waiter = [](Event* e, std::vector<int>* log, int id) -> Task<> {
        co_await e->wait();
        log->push_back(id);
      };
      std::vector<std::optional<Task<>::Awaiter>> tasks(3);
      for (int i = 0; i < 3; ++i) {
        tasks[i].emplace(waiter(&event, &woken, i));
        EXPECT_TRUE(tasks[i]->await_suspend(std::noop_coroutine()));
      }
      event.set();
      tasks[position].reset();
      co_await yield();
      std::vector<int> expected{0, 1, 2};
      expected.erase(expected.begin() + position);
      EXPECT_EQ(woken, expected);
    }
  };
  run_on_core(body());
}

TEST(Task, FramesAreRecycled) {
#if MONTEREY_RECYCLE_FRAMES
  std::uint64_t allocations = 1;
  auto body = [](std::uint64_t* out) -> Task<> {
    for (int i = 0; i < 10; ++i) co_await later(co_await ready(i));
    const std::uint64_t before = store::test::allocations();
    for (int i = 0; i < 1000; ++i) co_await later(co_await ready(i));
    *out = store::test::allocations() - before;
  };
  run_on_core(body(&allocations));
  EXPECT_EQ(allocations, 0U);
#else
  GTEST_SKIP() << "AddressSanitizer must see every frame";
#endif
}

// A frame larger than any free list's; not inlined, or the compiler may put it into its caller's frame.
[[gnu::noinline]] Task<int> large(int value) {
  volatile char space[3000];
  space[value] = static_cast<char>(value);
  co_await yield();
  co_return space[value];  // at a place the compiler cannot know, so that all of it is kept
}

TEST(Task, NoMemoryForAFrameIsAnErrorOfTheCall) {
  if (!store::test::kCountsAllocations) GTEST_SKIP() << "operator new belongs to the sanitizer";
  auto body = []() -> Task<> {
    for (int round = 0; round < 3; ++round) {
      bool thrown = false;
      store::test::fail_allocation(1);
      try {
        static_cast<void>(co_await large(round));
      } catch (const std::bad_alloc&) {
        thrown = true;
      }
      store::test::fail_allocation(0);
      EXPECT_TRUE(thrown);
      EXPECT_EQ(co_await large(round), round);
    }
  };
  run_on_core(body());
}

Task<int> add(int* started, int value, bool wait) {
  ++*started;
  if (wait) co_await yield();
  if (value < 0) throw std::runtime_error(std::to_string(value));
  co_return value;
}
Task<> count_down(int* left) {
  co_await yield();
  --*left;
}

TEST(WhenAll, GivesResultsInOrder) {
  auto body = []() -> Task<> {
    int started = 0;
    const auto [a, b, c] = co_await when_all(add(&started, 1, true), ready_void(), add(&started, 3, false));
    static_assert(std::is_same_v<decltype(b), const std::monostate>);
    EXPECT_EQ(a, 1);
    EXPECT_EQ(c, 3);
    int left = 2;
    co_await when_all(count_down(&left), count_down(&left));
    EXPECT_EQ(left, 0);
  };
  run_on_core(body());
}

TEST(WhenAll, TakesAVector) {
  auto body = []() -> Task<> {
    int started = 0;
    for (const bool wait : {false, true}) {
      std::vector<Task<int>> tasks;
      for (int i = 0; i < 100; ++i) tasks.push_back(add(&started, i, wait));
      const std::vector<int> results = co_await when_all(std::move(tasks));
      EXPECT_EQ(results.size(), 100U);
      for (int i = 0; i < 100; ++i) EXPECT_EQ(results[i], i);
    }
    std::vector<Task<>> none;
    co_await when_all(std::move(none));
    int left = 10;
    std::vector<Task<>> tasks;
    for (int i = 0; i < 10; ++i) tasks.push_back(count_down(&left));
    co_await when_all(std::move(tasks));
    EXPECT_EQ(left, 0);
  };
  run_on_core(body());
}

TEST(WhenAll, RunsAtTheSameTimeAndWaitsForAllDespiteErrors) {
  auto body = []() -> Task<> {
    int started = 0;
    int left = 1;
    bool thrown = false;
    try {
      static_cast<void>(co_await when_all(count_down(&left), add(&started, -1, true), add(&started, -2, false)));
    } catch (const std::runtime_error& error) {
      thrown = true;
      EXPECT_STREQ(error.what(), "-1");  // the first in order, not in time
    }
    EXPECT_TRUE(thrown);
    EXPECT_EQ(started, 2);
    EXPECT_EQ(left, 0);
  };
  run_on_core(body());
}

TEST(WhenAll, DestroyedWhileItsTasksWait) {
  int alive = 0;
  auto body = [](int* count) -> Task<> {
    Event event;
    {
      Task<>::Awaiter awaiter(when_all(waits(&event, Counted(count)), waits(&event, Counted(count))));
      EXPECT_TRUE(awaiter.await_suspend(std::noop_coroutine()));
      EXPECT_EQ(event.waiting(), 2U);
    }
    EXPECT_EQ(event.waiting(), 0U);
    EXPECT_EQ(*count, 0);
    co_return;
  };
  run_on_core(body(&alive));
}

}  // namespace
}  // namespace monterey
