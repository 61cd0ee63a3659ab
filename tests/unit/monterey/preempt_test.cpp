// Preemption, the loop's slices, classes of tasks, and the hooks that a simulator uses: clock, choice of the next task, extra
// suspensions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <monterey/sync.hpp>
#include <monterey/task_class.hpp>
#include <monterey/time.hpp>
#include <monterey/when_all.hpp>
#include <random>
#include <string>
#include <vector>

#include "monterey/core_group.hpp"
#include "unit/monterey/core_harness.hpp"

namespace monterey {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using test::IdleBackend;
using test::TestCore;

// CPU time of the thread: what other processes do does not count.
class ThreadCpuClock : public detail::Clock {
 public:
  TimePoint now() noexcept override {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return TimePoint(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
  }
};

Task<int> ready(int value) { co_return value; }

// Loops over what is always there until `stop`.
enum class Ready { task, semaphore, event, channel, computing };
Task<> hog(Ready kind, const bool* stop) {
  Semaphore semaphore(1);
  Event event;
  event.set();
  Channel<int> channel(1);
  while (!*stop) {
    switch (kind) {
      case Ready::task: static_cast<void>(co_await ready(1)); break;
      case Ready::semaphore: {
        auto unit = co_await semaphore.hold();
        break;
      }
      case Ready::event: co_await event.wait(); break;
      case Ready::channel: {
        co_await channel.push(1);
        static_cast<void>(co_await channel.pop());
        break;
      }
      case Ready::computing: {
        const auto until = now() + microseconds(5);
        while (now() < until) {
        }
        co_await maybe_yield();
        break;
      }
    }
  }
}

constexpr int kTimers = 50;
Task<> count_late(bool* stop, int* late) {
  for (int i = 0; i < kTimers; ++i) {
    const TimePoint due = now() + milliseconds(1);
    co_await sleep_until(due);
    if (now() - due > milliseconds(1)) ++*late;
  }
  *stop = true;
}

class Preemption : public testing::TestWithParam<Ready> {};

int late_timers(Ready kind) {
  ThreadCpuClock clock;
  IdleBackend backend(nullptr);
  detail::ReactorOptions options;
  options.clock = &clock;
  detail::Reactor reactor(backend, options);
  bool stop = false;
  int late = 0;
  {
    const detail::Reactor::Activation activation(reactor);
    spawn(hog(kind, &stop));
    spawn(hog(kind, &stop));
    spawn(count_late(&stop, &late));
  }
  reactor.run();
  return late;
}

TEST_P(Preemption, ReadyAwaitsDoNotHoldUpATimer) {
  // Time that a busy host takes from this machine is counted as the thread's: a few may be late for that, and many in
  // one run, but not in three.
  int late = kTimers;
  for (int i = 0; i < 3 && late > kTimers / 10; ++i) late = late_timers(GetParam());
  EXPECT_LE(late, kTimers / 10);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Preemption,
                         testing::Values(Ready::task, Ready::semaphore, Ready::event, Ready::channel,
                                         Ready::computing));

TEST(Budget, LooksAtTheClockEverySixtyFourUnits) {
  TestCore core;
  auto body = [](TestCore* c) -> Task<> {
    for (int i = 0; i < 1000; ++i) EXPECT_FALSE(consume_budget());  // a virtual clock stands still
    c->clock.time += kTaskBudget;
    int until = 1;
    while (!consume_budget()) ++until;
    EXPECT_LE(until, kBudgetUnits);
    co_await yield();
    for (int i = 0; i < 1000; ++i) EXPECT_FALSE(consume_budget());  // a new budget
    c->backend.completions = true;
    for (until = 1; !consume_budget();) ++until;
    EXPECT_LE(until, kBudgetUnits);
    c->backend.completions = false;
  };
  core.run(body(&core));
}

TEST(Budget, OutsideACoreThereIsNone) {
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(consume_budget());
}

TEST(Yield, LetsEverybodyElseRunFirst) {
  TestCore core;
  std::string log;
  auto one = [](std::string* out, char id) -> Task<> {
    for (int i = 0; i < 3; ++i) {
      out->push_back(id);
      co_await yield();
    }
  };
  auto body = [&one](std::string* out) -> Task<> {
    for (const char id : {'a', 'b', 'c'}) spawn(one(out, id));
    co_return;
  };
  core.run(body(&log));
  EXPECT_EQ(log, "abcabcabc");
}

// --- classes of tasks ---

Task<> note_class(std::vector<TaskClass>* out) {
  out->push_back(task_class());
  co_await yield();
  out->push_back(task_class());
}

TEST(TaskClass, IsKeptOverWaitsAndGivenToWhatIsStarted) {
  TestCore core;
  std::vector<TaskClass> started;
  auto body = [](std::vector<TaskClass>* out) -> Task<> {
    EXPECT_EQ(task_class(), TaskClass::foreground);
    auto background = [](std::vector<TaskClass>* seen) -> Task<int> {
      const TaskClassScope scope(TaskClass::background);
      co_await note_class(seen);
      co_await spawn(note_class(seen));
      co_await when_all(note_class(seen), note_class(seen));
      co_await sleep_for(milliseconds(1));
      seen->push_back(task_class());
      co_return 1;
    };
    Task<int> child = background(out);
    const int one = co_await std::move(child);
    EXPECT_EQ(one, 1);
    EXPECT_EQ(task_class(), TaskClass::foreground) << "after the scope";
    auto joined = spawn(background(out));
    EXPECT_EQ(task_class(), TaskClass::foreground);
    static_cast<void>(co_await joined);
    EXPECT_EQ(task_class(), TaskClass::foreground) << "after a join";
  };
  core.run(body(&started));
  EXPECT_EQ(started.size(), 18U);
  EXPECT_TRUE(std::ranges::all_of(started, [](TaskClass one) { return one == TaskClass::background; }));
}

// A child that goes to the background and waits there does not take its parent's other children along.
TEST(TaskClass, OfAChildIsNotItsSiblings) {
  TestCore core;
  auto body = []() -> Task<> {
    auto background = []() -> Task<> {
      const TaskClassScope scope(TaskClass::background);
      co_await yield();
    };
    std::vector<TaskClass> seen;
    co_await when_all(background(), note_class(&seen));
    EXPECT_THAT(seen, testing::Each(TaskClass::foreground));
    EXPECT_EQ(task_class(), TaskClass::foreground);
  };
  core.run(body());
}

// A task is woken in its own class, whoever ends its wait.
TEST(TaskClass, IsNotTheWakers) {
  TestCore core;
  auto body = []() -> Task<> {
    Event event;
    std::vector<TaskClass> seen;
    auto waits = [](Event* until, std::vector<TaskClass>* out) -> Task<> {
      const TaskClassScope scope(TaskClass::background);
      co_await until->wait();
      out->push_back(task_class());
    };
    auto waiting = spawn(waits(&event, &seen));
    co_await yield();
    co_await yield();
    event.set();
    co_await waiting;
    EXPECT_THAT(seen, testing::ElementsAre(TaskClass::background));
    EXPECT_EQ(task_class(), TaskClass::foreground);
  };
  core.run(body());
}

// Each step of a background task takes 30 µs and there are 64 of them: a foreground task that is always ready waits for one slice
// after each of its own, not for all.
TEST(TaskClass, BackgroundTasksHaveAThirdWhileForegroundTasksAreReady) {
  TestCore core;
  std::vector<microseconds> waits;
  bool over = false;
  auto body = [](TestCore* c, std::vector<microseconds>* out, bool* stop) -> Task<> {
    auto grind = [](TestCore* on, const bool* until) -> Task<> {
      const TaskClassScope scope(TaskClass::background);
      co_await yield();
      while (!*until) {
        on->clock.time += microseconds(30);
        co_await yield();
      }
    };
    for (int i = 0; i < 64; ++i) spawn(grind(c, stop));
    microseconds in_background{};
    for (int i = 0; i < 10'000; ++i) {
      c->clock.time += microseconds(2);
      const TimePoint before = now();
      co_await yield();
      const auto waited = std::chrono::duration_cast<microseconds>(now() - before);
      in_background += waited;
      out->push_back(waited);
    }
    *stop = true;
    EXPECT_GT(in_background, microseconds(10'000 * 2 / 4)) << "the background starves";
    EXPECT_LT(in_background, microseconds(10'000 * 2 * 3 / 4));
  };
  core.run(body(&core, &waits, &over));
  std::ranges::sort(waits);
  EXPECT_EQ(waits[waits.size() / 2], microseconds(0));
  EXPECT_LE(waits.back(), microseconds(130));
}

// A foreground task that never yields by itself, only when its budget is used up, has its share as well.
TEST(TaskClass, AForegroundTaskThatUsesItsBudgetUpHasTwoThirds) {
  TestCore core;
  auto body = [](TestCore* c) -> Task<> {
    bool stop = false;
    microseconds in_background{};
    auto grind = [](TestCore* on, const bool* until, microseconds* used) -> Task<> {
      const TaskClassScope scope(TaskClass::background);
      co_await yield();
      while (!*until) {
        on->clock.time += microseconds(30);
        *used += microseconds(30);
        co_await maybe_yield();
      }
    };
    auto grinding = spawn(grind(c, &stop, &in_background));
    constexpr int kSteps = 50'000;
    for (int i = 0; i < kSteps; ++i) {
      c->clock.time += microseconds(2);
      static_cast<void>(co_await ready(i));
    }
    const double share = static_cast<double>(in_background.count()) / (2.0 * kSteps);
    EXPECT_GT(share, 0.3);
    EXPECT_LT(share, 0.7);
    stop = true;
    co_await grinding;
  };
  core.run(body(&core));
}

TEST(Loop, GivesTheBackendNoTurnWhileOnlyReadyTasksRunButAPollNowAndThen) {
  TestCore core;
  constexpr int kYields = 100'000;
  auto body = []() -> Task<> {
    for (int i = 0; i < kYields; ++i) co_await yield();
  };
  core.run(body());
  EXPECT_LE(core.backend.turns, kYields / 128 / 64 + 2U);
  EXPECT_GE(core.backend.turns, 1U);
  EXPECT_EQ(core.backend.waits, 0U);
}

TEST(Loop, GivesTheBackendATurnAfterEverySliceWhileIoIsOutstanding) {
  TestCore core;
  core.backend.outstanding = 1;
  core.backend.on_turn = [&core] {
    if (core.backend.turns == 100) core.backend.outstanding = 0;
  };
  auto body = [](const std::size_t* turns) -> Task<> {
    while (*turns < 100) co_await yield();
  };
  core.run(body(&core.backend.turns));
  EXPECT_GE(core.backend.turns, 100U);
}

class Seeded : public detail::Perturbation {
 public:
  explicit Seeded(std::uint64_t seed) : engine_(seed) {}
  std::size_t choose(std::size_t count) noexcept override { return engine_() % count; }
  bool suspend() noexcept override { return engine_() % 3 == 0; }

 private:
  std::mt19937_64 engine_;
};

std::string perturbed_trace(std::uint64_t seed) {
  Seeded perturbation(seed);
  TestCore core(&perturbation);
  std::string log;
  auto one = [](std::string* out, char id) -> Task<> {
    for (int i = 0; i < 5; ++i) {
      out->push_back(id);
      static_cast<void>(co_await ready(i));  // suspends only when the perturbation says so
    }
  };
  auto body = [&one](std::string* out) -> Task<> {
    for (const char id : {'a', 'b', 'c', 'd'}) spawn(one(out, id));
    co_return;
  };
  core.run(body(&log));
  EXPECT_EQ(log.size(), 20U);
  return log;
}

TEST(Perturbation, IsAFunctionOfItsSeed) {
  std::vector<std::string> traces;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    traces.push_back(perturbed_trace(seed));
    EXPECT_EQ(perturbed_trace(seed), traces.back());
  }
  std::sort(traces.begin(), traces.end());
  EXPECT_GT(std::unique(traces.begin(), traces.end()) - traces.begin(), 15);
}

// Two cores of one group, driven by this thread in turn: what a simulator does.
TEST(Perturbation, SeveralCoresWithoutThreads) {
  test::VirtualClock clock;
  detail::CoreGroup group(2);
  IdleBackend backends[2] = {IdleBackend(&clock), IdleBackend(&clock)};
  detail::ReactorOptions options;
  options.clock = &clock;
  options.group = &group;
  detail::Reactor first(backends[0], options);
  options.core = 1;
  detail::Reactor second(backends[1], options);
  int answer = 0;
  auto body = [](int* out) -> Task<> {
    *out = co_await spawn_on(1, [] { return ready(42); });
    detail::Reactor::current().request_shutdown();
  };
  {
    const detail::Reactor::Activation activation(first);
    spawn(body(&answer));
  }
  for (int i = 0; i < 10; ++i) {
    first.turn(detail::Reactor::Idle::return_at_once);
    second.turn(detail::Reactor::Idle::return_at_once);
  }
  EXPECT_EQ(answer, 42);
  EXPECT_TRUE(first.stopping() && second.stopping());
  EXPECT_EQ(first.live_tasks(), 1U);  // the hold
}

}  // namespace
}  // namespace monterey
