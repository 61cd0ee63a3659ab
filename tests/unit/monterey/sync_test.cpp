// The primitives. Each: first in first out, a waiter destroyed while queued and after it was granted, closing while
// others wait, shutdown.
#include <gtest/gtest.h>

#include <memory>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <monterey/time.hpp>
#include <optional>
#include <random>
#include <store/error.hpp>
#include <string>
#include <vector>

#include "support/seed.hpp"
#include "unit/monterey/core_harness.hpp"

namespace monterey {
namespace {

using store::Errc;
using test::errc_of;
using test::run_on_core;
using Log = std::vector<int>;

// A task that was started and may be destroyed at any point; its end resumes nobody.
class Started {
 public:
  explicit Started(Task<> task) : awaiter_(std::in_place, std::move(task)) {
    ended_ = !awaiter_->await_suspend(std::noop_coroutine());
  }
  void destroy() { awaiter_.reset(); }

 private:
  std::optional<Task<>::Awaiter> awaiter_;
  bool ended_ = false;
};

// Notes `id` when the wait of `awaitable()` succeeded, -id when it ended with an error.
template <class Wait>
Task<> note(Log* log, int id, Wait wait) {
  try {
    static_cast<void>(co_await wait());
    log->push_back(id);
  } catch (const store::Error&) {
    log->push_back(-id);
  }
}
template <class Wait>
Task<> note_void(Log* log, int id, Wait wait) {
  try {
    co_await wait();
    log->push_back(id);
  } catch (const store::Error&) {
    log->push_back(-id);
  }
}

Task<> settle() {
  for (int i = 0; i < 4; ++i) co_await yield();
}

// --- Semaphore

struct AcquireOne {
  Semaphore* semaphore;
  std::size_t units = 1;
  auto operator()() const { return semaphore->acquire(units); }
};

TEST(Semaphore, GrantsInOrderAndNobodyOvertakes) {
  auto body = []() -> Task<> {
    Semaphore semaphore(2);
    Log log;
    co_await semaphore.acquire(2);
    Started a(note_void(&log, 1, AcquireOne{&semaphore, 2}));
    Started b(note_void(&log, 2, AcquireOne{&semaphore, 1}));
    Started c(note_void(&log, 3, AcquireOne{&semaphore, 1}));
    EXPECT_EQ(semaphore.waiting(), 3U);
    semaphore.release(1);
    co_await settle();
    EXPECT_EQ(log, Log{});  // one unit is there, but the first in line needs two
    EXPECT_FALSE(semaphore.try_acquire());
    semaphore.release(1);
    co_await settle();
    EXPECT_EQ(log, Log{1});
    semaphore.release(2);
    co_await settle();
    EXPECT_EQ(log, (Log{1, 2, 3}));
    EXPECT_EQ(semaphore.available(), 0U);
  };
  run_on_core(body());
}

TEST(Semaphore, AWaiterDestroyedWhileQueuedLetsSmallerOnesThrough) {
  auto body = []() -> Task<> {
    Semaphore semaphore(1);
    Log log;
    Started big(note_void(&log, 1, AcquireOne{&semaphore, 5}));
    Started small(note_void(&log, 2, AcquireOne{&semaphore, 1}));
    co_await settle();
    EXPECT_EQ(log, Log{});
    big.destroy();
    co_await settle();
    EXPECT_EQ(log, Log{2});
    EXPECT_EQ(semaphore.waiting(), 0U);
  };
  run_on_core(body());
}

TEST(Semaphore, AWaiterDestroyedAfterItsGrantPassesTheUnitsOn) {
  auto body = []() -> Task<> {
    Semaphore semaphore(0);
    Log log;
    Started first(note_void(&log, 1, AcquireOne{&semaphore}));
    Started second(note_void(&log, 2, AcquireOne{&semaphore}));
    semaphore.release();
    EXPECT_EQ(semaphore.waiting(), 1U);
    first.destroy();
    co_await settle();
    EXPECT_EQ(log, Log{2});
    EXPECT_EQ(semaphore.available(), 0U);
  };
  run_on_core(body());
}

TEST(Semaphore, CloseEndsWaitsInOrder) {
  auto body = []() -> Task<> {
    Semaphore semaphore(0);
    Log log;
    Started first(note_void(&log, 1, AcquireOne{&semaphore}));
    Started second(note_void(&log, 2, AcquireOne{&semaphore}));
    semaphore.close();
    co_await settle();
    EXPECT_EQ(log, (Log{-1, -2}));
    auto acquire = [](Semaphore* s) -> Task<> { co_await s->acquire(); };
    EXPECT_EQ(co_await errc_of(acquire(&semaphore)), Errc::closed);
    EXPECT_FALSE(semaphore.try_acquire());
  };
  run_on_core(body());
}

TEST(Semaphore, HeldUnitsGoBack) {
  auto body = []() -> Task<> {
    Semaphore semaphore(3);
    {
      auto two = co_await semaphore.hold(2);
      EXPECT_EQ(semaphore.available(), 1U);
      auto moved = std::move(two);
      EXPECT_EQ(two.count(), 0U);
      EXPECT_EQ(moved.count(), 2U);
      auto one = co_await semaphore.hold();
      one = std::move(moved);
      EXPECT_EQ(semaphore.available(), 1U);
    }
    EXPECT_EQ(semaphore.available(), 3U);
  };
  run_on_core(body());
}

// --- Event

struct WaitFor {
  Event* event;
  auto operator()() const { return event->wait(); }
};

TEST(Event, LetsWaitersThroughInOrderUntilReset) {
  auto body = []() -> Task<> {
    Event event;
    Log log;
    std::vector<std::unique_ptr<Started>> waiters;
    for (int i = 1; i <= 3; ++i) waiters.push_back(std::make_unique<Started>(note_void(&log, i, WaitFor{&event})));
    event.set();
    event.reset();  // who waited is let through all the same
    co_await settle();
    EXPECT_EQ(log, (Log{1, 2, 3}));
    Started again(note_void(&log, 4, WaitFor{&event}));
    EXPECT_EQ(event.waiting(), 1U);
    event.pulse();
    co_await settle();
    EXPECT_EQ(log.back(), 4);
    EXPECT_FALSE(event.is_set());
    event.set();
    co_await event.wait();
  };
  run_on_core(body());
}

TEST(Event, AWaiterDestroyedWhileQueued) {
  auto body = []() -> Task<> {
    Event event;
    Log log;
    Started first(note_void(&log, 1, WaitFor{&event}));
    Started second(note_void(&log, 2, WaitFor{&event}));
    Started third(note_void(&log, 3, WaitFor{&event}));
    second.destroy();
    event.set();
    third.destroy();  // woken, not yet resumed
    co_await settle();
    EXPECT_EQ(log, Log{1});
  };
  run_on_core(body());
}

TEST(Event, CloseEndsWaits) {
  auto body = []() -> Task<> {
    Event event;
    Log log;
    Started first(note_void(&log, 1, WaitFor{&event}));
    Started second(note_void(&log, 2, WaitFor{&event}));
    event.close();
    event.set();
    co_await settle();
    EXPECT_EQ(log, (Log{-1, -2}));
    auto wait = [](Event* e) -> Task<> { co_await e->wait(); };
    EXPECT_EQ(co_await errc_of(wait(&event)), Errc::closed);
  };
  run_on_core(body());
}

// --- Mutex

Task<> lock_briefly(Mutex* mutex, Log* log, int id) {
  try {
    auto guard = co_await mutex->lock();
    log->push_back(id);
    co_await yield();
    log->push_back(id);
  } catch (const store::Error&) {
    log->push_back(-id);
  }
}

TEST(Mutex, PassesFromHolderToWaiterInOrder) {
  auto body = []() -> Task<> {
    Mutex mutex;
    Log log;
    std::vector<Task<>> tasks;
    for (int i = 1; i <= 4; ++i) tasks.push_back(lock_briefly(&mutex, &log, i));
    co_await when_all(std::move(tasks));
    EXPECT_EQ(log, (Log{1, 1, 2, 2, 3, 3, 4, 4}));
    EXPECT_FALSE(mutex.locked());
  };
  run_on_core(body());
}

TEST(Mutex, NobodySlipsInBetweenUnlockAndTheNextHolder) {
  auto body = []() -> Task<> {
    Mutex mutex;
    Log log;
    auto guard = mutex.try_lock();
    EXPECT_TRUE(guard);
    EXPECT_FALSE(mutex.try_lock());
    Started waiter(lock_briefly(&mutex, &log, 1));
    guard.unlock();
    EXPECT_FALSE(mutex.try_lock());
    co_await settle();
    EXPECT_EQ(log, (Log{1, 1}));
    EXPECT_TRUE(mutex.try_lock());
  };
  run_on_core(body());
}

TEST(Mutex, AWaiterDestroyedQueuedOrGranted) {
  auto body = []() -> Task<> {
    Mutex mutex;
    Log log;
    auto guard = co_await mutex.lock();
    Started first(lock_briefly(&mutex, &log, 1));
    Started second(lock_briefly(&mutex, &log, 2));
    Started third(lock_briefly(&mutex, &log, 3));
    first.destroy();
    guard.unlock();  // the second has it now
    second.destroy();
    co_await settle();
    EXPECT_EQ(log, (Log{3, 3}));
    EXPECT_FALSE(mutex.locked());
  };
  run_on_core(body());
}

TEST(Mutex, CloseEndsWaitsButNotTheHolder) {
  auto body = []() -> Task<> {
    Mutex mutex;
    Log log;
    auto guard = co_await mutex.lock();
    Started first(lock_briefly(&mutex, &log, 1));
    Started second(lock_briefly(&mutex, &log, 2));
    mutex.close();
    co_await settle();
    EXPECT_EQ(log, (Log{-1, -2}));
    EXPECT_TRUE(mutex.locked());
    guard.unlock();
    EXPECT_FALSE(mutex.locked());
    EXPECT_FALSE(mutex.try_lock());
  };
  run_on_core(body());
}

// --- Gate

struct CloseGate {
  Gate* gate;
  auto operator()() const { return gate->close(); }
};

TEST(Gate, CloseWaitsForThoseInside) {
  auto body = []() -> Task<> {
    Gate gate;
    Log log;
    auto first = gate.hold();
    auto second = gate.hold();
    Started closer(note_void(&log, 1, CloseGate{&gate}));
    Started other_closer(note_void(&log, 2, CloseGate{&gate}));
    EXPECT_TRUE(gate.closed());
    EXPECT_FALSE(gate.try_enter());
    bool refused = false;
    try {
      gate.enter();
    } catch (const store::Error& error) {
      refused = error.errc() == Errc::closed;
    }
    EXPECT_TRUE(refused);
    first.reset();
    co_await settle();
    EXPECT_EQ(log, Log{});
    second = Gate::Holder();
    co_await settle();
    EXPECT_EQ(log, (Log{1, 2}));
    co_await gate.close();
  };
  run_on_core(body());
}

TEST(Gate, ACloserDestroyedWhileItWaits) {
  auto body = []() -> Task<> {
    Gate gate;
    Log log;
    gate.enter();
    Started closer(note_void(&log, 1, CloseGate{&gate}));
    Started other_closer(note_void(&log, 2, CloseGate{&gate}));
    closer.destroy();
    gate.leave();
    co_await settle();
    EXPECT_EQ(log, Log{2});
    EXPECT_TRUE(gate.closed());
  };
  run_on_core(body());
}

// --- Channel

Task<> pop_into(Channel<std::string>* channel, std::vector<std::string>* out) {
  try {
    auto value = co_await channel->pop();
    out->push_back(value ? *value : "end");
  } catch (const store::Error&) {
    out->push_back("error");
  }
}
Task<> push_from(Channel<std::string>* channel, std::string value, Log* log, int id) {
  try {
    co_await channel->push(std::move(value));
    log->push_back(id);
  } catch (const store::Error&) {
    log->push_back(-id);
  }
}
using Strings = std::vector<std::string>;
const std::string kLong(40, 'v');  // on the heap, so that a value lost or freed twice shows

TEST(Channel, ValuesAndPoppersInOrder) {
  auto body = []() -> Task<> {
    Channel<std::string> channel(2);
    Strings a;
    Strings b;
    Started first(pop_into(&channel, &a));
    Started second(pop_into(&channel, &b));
    EXPECT_EQ(channel.waiting_poppers(), 2U);
    co_await channel.push(kLong + "1");
    co_await channel.push(kLong + "2");
    EXPECT_FALSE(channel.try_pop());  // both are promised
    co_await settle();
    EXPECT_EQ(a, Strings{kLong + "1"});
    EXPECT_EQ(b, Strings{kLong + "2"});
  };
  run_on_core(body());
}

TEST(Channel, FullMakesPushersWaitInOrder) {
  auto body = []() -> Task<> {
    Channel<std::string> channel(1);
    Log log;
    EXPECT_TRUE(channel.try_push(kLong + "0"));
    Started first(push_from(&channel, kLong + "1", &log, 1));
    Started second(push_from(&channel, kLong + "2", &log, 2));
    EXPECT_EQ(channel.waiting_pushers(), 2U);
    EXPECT_FALSE(channel.try_push("overtaken"));
    EXPECT_EQ(co_await channel.pop(), kLong + "0");
    co_await settle();
    EXPECT_EQ(log, Log{1});
    EXPECT_EQ(co_await channel.pop(), kLong + "1");
    EXPECT_EQ(co_await channel.pop(), kLong + "2");
    co_await settle();
    EXPECT_EQ(log, (Log{1, 2}));
    EXPECT_FALSE(channel.try_pop());
  };
  run_on_core(body());
}

TEST(Channel, AWaiterDestroyedLosesNoValueOfOthers) {
  auto body = []() -> Task<> {
    Channel<std::string> channel(1);
    Strings a;
    Strings b;
    Strings c;
    Started first(pop_into(&channel, &a));
    Started second(pop_into(&channel, &b));
    Started third(pop_into(&channel, &c));
    first.destroy();               // queued
    co_await channel.push(kLong);  // promised to the second
    second.destroy();              // which never runs
    co_await settle();
    EXPECT_EQ(c, Strings{kLong});

    Log log;
    EXPECT_TRUE(channel.try_push("kept"));
    Started pusher(push_from(&channel, kLong, &log, 1));
    Started next(push_from(&channel, kLong + "next", &log, 2));
    pusher.destroy();
    EXPECT_EQ(co_await channel.pop(), "kept");
    EXPECT_EQ(co_await channel.pop(), kLong + "next");
  };
  run_on_core(body());
}

TEST(Channel, CloseDrainsForPoppersAndRefusesPushers) {
  auto body = []() -> Task<> {
    Channel<std::string> channel(1);
    Log log;
    co_await channel.push("last");
    Started first(push_from(&channel, kLong, &log, 1));
    Started second(push_from(&channel, kLong, &log, 2));
    channel.close();
    co_await settle();
    EXPECT_EQ(log, (Log{-1, -2}));
    EXPECT_FALSE(channel.try_push("late"));
    EXPECT_EQ(co_await channel.pop(), "last");
    EXPECT_EQ(co_await channel.pop(), std::nullopt);

    Channel<std::string> empty(1);
    Strings a;
    Strings b;
    Started popper(pop_into(&empty, &a));
    Started other(pop_into(&empty, &b));
    empty.close();
    co_await settle();
    EXPECT_EQ(a, Strings{"end"});
    EXPECT_EQ(b, Strings{"end"});
  };
  run_on_core(body());
}

TEST(Channel, MovesValuesThatCannotBeCopied) {
  auto body = []() -> Task<> {
    Channel<std::unique_ptr<int>> channel(1);
    co_await channel.push(std::make_unique<int>(7));
    const std::optional<std::unique_ptr<int>> value = co_await channel.pop();
    EXPECT_EQ(**value, 7);
  };
  run_on_core(body());
}

// Producers, consumers and random destruction of waiters on a perturbed schedule: each value that was pushed is
// popped exactly once.
class Random : public detail::Perturbation {
 public:
  explicit Random(std::uint64_t seed) : engine(seed) {}
  std::size_t choose(std::size_t count) noexcept override { return engine() % count; }
  bool suspend() noexcept override { return engine() % 4 == 0; }
  std::mt19937_64 engine;
};

Task<> produce(Channel<int>* channel, int first, int count, std::vector<int>* pushed) {
  for (int i = 0; i < count; ++i) {
    co_await channel->push(first + i);
    pushed->push_back(first + i);
  }
}
Task<> consume(Channel<int>* channel, std::vector<int>* popped) {
  while (auto value = co_await channel->pop()) popped->push_back(*value);
}
Task<> pop_once(Channel<int>* channel, std::vector<int>* popped) {
  if (auto value = co_await channel->pop()) popped->push_back(*value);
}

Task<> channel_storm(Random* random) {
  Channel<int> channel(1 + random->engine() % 3);
  std::vector<int> pushed;
  std::vector<int> popped;
  std::vector<JoinHandle<>> producers;
  for (int i = 0; i < 4; ++i) producers.push_back(spawn(produce(&channel, 1000 * i, 50, &pushed)));
  std::vector<JoinHandle<>> consumers;
  for (int i = 0; i < 2; ++i) consumers.push_back(spawn(consume(&channel, &popped)));
  for (int i = 0; i < 50; ++i) {
    Started fickle(pop_once(&channel, &popped));
    for (std::uint64_t n = random->engine() % 4; n > 0; --n) co_await yield();
    fickle.destroy();
  }
  for (auto& producer : producers) co_await producer;
  channel.close();
  for (auto& consumer : consumers) co_await consumer;
  EXPECT_EQ(channel.size(), 0U);
  std::sort(pushed.begin(), pushed.end());
  std::sort(popped.begin(), popped.end());
  EXPECT_EQ(pushed.size(), 200U);
  EXPECT_EQ(pushed, popped);
}

TEST(Channel, LosesNothingOnRandomSchedules) {
  const std::uint64_t first = store::test::requested_seed().value_or(1);
  const std::uint64_t seeds = store::test::requested_seed() ? 1 : 100;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    Random random(seed);
    test::TestCore core(&random);
    core.run(channel_storm(&random));
    if (HasFailure()) return;
  }
}

// --- Shutdown

Task<> aborted_waits(Log* log) {
  static Event event;
  static Semaphore semaphore(0);
  static Channel<std::string> channel(1);
  static Mutex mutex;
  static Gate gate;
  auto pop = [](Log* l) -> Task<> {
    try {
      static_cast<void>(co_await channel.pop());
      l->push_back(4);
    } catch (const store::Error& error) {
      l->push_back(error.errc() == Errc::aborted ? -4 : 0);
    }
  };
  auto sleep = [](Log* l) -> Task<> {
    try {
      co_await sleep_for(std::chrono::hours(10));
      l->push_back(5);
    } catch (const store::Error& error) {
      l->push_back(error.errc() == Errc::aborted ? -5 : 0);
    }
  };
  auto holder = [](Log* l) -> Task<> {
    auto guard = co_await mutex.lock();
    auto inside = gate.hold();
    try {
      co_await event.wait();
    } catch (const store::Error&) {
      l->push_back(-1);
    }
    co_await yield();
  };
  spawn(holder(log));
  spawn(note_void(log, 2, AcquireOne{&semaphore}));
  spawn(pop(log));
  spawn(sleep(log));
  spawn(lock_briefly(&mutex, log, 6));
  spawn(note_void(log, 7, CloseGate{&gate}));
  co_await settle();
  detail::Reactor::current().request_shutdown();
  co_await settle();
}

TEST(Shutdown, AbortsWaitsForSignalsButNotForOtherTasks) {
  Log log;
  run_on_core(aborted_waits(&log));
  std::sort(log.begin(), log.end());
  EXPECT_EQ(log, (Log{-5, -4, -2, -1, 6, 6, 7}));
}

TEST(Shutdown, WhatIsThereIsStillGivenAndLaterWaitsAreAbortedAtOnce) {
  auto body = []() -> Task<> {
    Semaphore semaphore(1);
    Event event;
    detail::Reactor::current().request_shutdown();
    while (!detail::Reactor::current().stopping()) {
      co_await yield();
    }
    co_await semaphore.acquire();
    auto acquire = [](Semaphore* s) -> Task<> { co_await s->acquire(); };
    auto wait = [](Event* e) -> Task<> { co_await e->wait(); };
    auto sleep = []() -> Task<> { co_await sleep_for(std::chrono::nanoseconds(0)); };
    EXPECT_EQ(co_await errc_of(acquire(&semaphore)), Errc::aborted);
    EXPECT_EQ(co_await errc_of(wait(&event)), Errc::aborted);
    EXPECT_EQ(co_await errc_of(sleep()), Errc::aborted);
    EXPECT_EQ(semaphore.waiting(), 0U);
  };
  run_on_core(body());
}

}  // namespace
}  // namespace monterey
