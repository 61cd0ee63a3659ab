// Clusters on real threads: starting, ending, calls between cores, errors, foreign threads. Runs under ThreadSanitizer.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <monterey/monterey.hpp>
#include <stdexcept>
#include <store/error.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/temp_dir.hpp"

namespace monterey {
namespace {

using std::chrono::milliseconds;
using store::Errc;

Task<unsigned> where() {
  co_await yield();
  co_return current_core();
}
Task<> nothing() { co_return; }

class Clusters : public testing::TestWithParam<Backend> {
 protected:
  Cluster::Builder cluster(unsigned cores) {
    auto builder = Cluster::builder();
    builder.cores(cores).backend(GetParam());
    return builder;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, Clusters, testing::Values(Backend::automatic, Backend::threads),
                         [](const auto& test) {
                           return test.param == Backend::threads ? std::string("threads") : std::string("automatic");
                         });

TEST_P(Clusters, InitRunsOnceOnEveryCoreOnItsOwnThread) {
  std::atomic<unsigned> seen[4] = {};
  std::atomic<unsigned> on_caller = 4;
  const auto caller = std::this_thread::get_id();
  cluster(4)
      .init([&] {
        EXPECT_EQ(core_count(), 4U);
        ++seen[current_core()];
        if (std::this_thread::get_id() == caller) on_caller = current_core();
      })
      .run();
  for (const auto& count : seen) EXPECT_EQ(count, 1U);
  EXPECT_EQ(on_caller, 0U);
}

TEST_P(Clusters, RunReturnsWhenNoTaskIsLeftOnAnyCore) {
  std::atomic<int> ended = 0;
  auto body = [](std::atomic<int>* count) -> Task<> {
    co_await sleep_for(milliseconds(5 * (current_core() + 1)));
    ++*count;
  };
  cluster(3).init([&] { spawn(body(&ended)); }).run();
  EXPECT_EQ(ended, 3);
}

TEST_P(Clusters, WithoutTasksItReturnsAtOnce) {
  cluster(2).run();
  cluster(1).init([] {}).run();
}

Task<std::uint64_t> ping_pong(unsigned other, int rounds) {
  std::uint64_t sum = 0;
  for (int i = 0; i < rounds; ++i) {
    auto call = [i]() -> Task<std::uint64_t> {
      co_await maybe_yield();
      co_return i*(current_core() + 1);
    };
    sum += co_await spawn_on(other, call);
  }
  co_return sum;
}

TEST_P(Clusters, CallsOtherCores) {
  std::atomic<std::uint64_t> total = 0;
  auto body = [](std::atomic<std::uint64_t>* out) -> Task<> {
    EXPECT_EQ(co_await spawn_on(2, [] { return where(); }), 2U);
    EXPECT_EQ(co_await spawn_on(current_core(), [] { return where(); }), current_core());
    const unsigned other = (current_core() + 1) % core_count();
    const std::uint64_t sum = co_await ping_pong(other, 200);
    EXPECT_EQ(sum, 199U * 200 / 2 * (other + 1));
    *out += sum;
  };
  cluster(3).init([&] { spawn(body(&total)); }).run();
  EXPECT_EQ(total, 199U * 200 / 2 * 6);
}

// More calls at once than a queue between two cores holds, both ways.
TEST_P(Clusters, ManyCallsAtOnce) {
  std::atomic<int> served = 0;
  auto body = [](std::atomic<int>* out) -> Task<> {
    const unsigned other = 1 - current_core();
    for (int round = 0; round < 3; ++round) {
      std::vector<JoinHandle<std::unique_ptr<int>>> calls;
      for (int i = 0; i < 3000; ++i) {
        calls.push_back(spawn_on(other, [i, out]() -> Task<std::unique_ptr<int>> {
          ++*out;
          co_return std::make_unique<int>(i);
        }));
      }
      for (int i = 0; i < 3000; ++i) {
        auto value = co_await calls[i];
        EXPECT_EQ(*value, i);
      }
    }
  };
  cluster(2).init([&] { spawn(body(&served)); }).run();
  EXPECT_EQ(served, 18000);
}

TEST_P(Clusters, ATaskSentAwayKeepsTheClusterGoing) {
  std::atomic<bool> ended = false;
  cluster(2)
      .init([&] {
        if (current_core() != 0) return;
        spawn_on(1, [&ended]() -> Task<> {
          co_await sleep_for(milliseconds(10));
          co_await spawn_on(0, [] { return where(); });
          ended = true;
        });
      })
      .run();
  EXPECT_TRUE(ended);
}

TEST_P(Clusters, AnErrorComesBackToTheCaller) {
  auto body = []() -> Task<> {
    auto broken = []() -> Task<int> {
      co_await sleep_for(milliseconds(1));
      throw store::Error(Errc::conflict, std::string("far away"));
    };
    Errc errc{};
    try {
      co_await spawn_on(1, broken);
    } catch (const store::Error& error) {
      errc = error.errc();
      EXPECT_STREQ(error.what(), "far away");
    }
    EXPECT_EQ(errc, Errc::conflict);
    auto refuses = []() -> Task<int> { throw std::runtime_error("not even a task"); };
    auto plain = [refuses]() -> Task<int> { return refuses(); };
    bool thrown = false;
    try {
      co_await spawn_on(1, plain);
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    EXPECT_TRUE(thrown);
  };
  cluster(2)
      .init([&] {
        if (current_core() == 0) spawn(body());
      })
      .run();
}

TEST_P(Clusters, AnUnhandledErrorEndsAllCoresAndIsThrown) {
  auto forever = []() -> Task<> {
    for (;;) co_await sleep_for(milliseconds(1));
  };
  auto fails = []() -> Task<> {
    co_await sleep_for(milliseconds(5));
    throw std::runtime_error("core 1 failed");
  };
  std::string text;
  try {
    cluster(3)
        .init([&] {
          spawn(forever());
          if (current_core() == 1) spawn(fails());
        })
        .run();
  } catch (const std::runtime_error& error) {
    text = error.what();
  }
  EXPECT_EQ(text, "core 1 failed");
}

TEST_P(Clusters, AnErrorOfInitIsThrown) {
  EXPECT_THROW(cluster(2)
                   .init([] {
                     if (current_core() == 1) throw std::runtime_error("init");
                     spawn(nothing());
                   })
                   .run(),
               std::runtime_error);
}

TEST_P(Clusters, ShutdownEndsWaitsEverywhere) {
  std::atomic<int> aborted = 0;
  auto waits = [](std::atomic<int>* count) -> Task<> {
    Event never;
    try {
      co_await never.wait();
    } catch (const store::Error& error) {
      if (error.errc() == Errc::aborted) ++*count;
      EXPECT_TRUE(shutdown_requested());
      throw;  // no error of run()
    }
  };
  auto stops = []() -> Task<> {
    co_await sleep_for(milliseconds(5));
    request_shutdown();
  };
  cluster(4)
      .init([&] {
        spawn(waits(&aborted));
        if (current_core() == 3) spawn(stops());
      })
      .run();
  EXPECT_EQ(aborted, 4);
}

TEST_P(Clusters, CallsAreServedWhileTheClusterEnds) {
  std::atomic<int> served = 0;
  auto body = [](std::atomic<int>* count) -> Task<> {
    request_shutdown();
    for (int i = 0; i < 100; ++i) {
      co_await spawn_on(i % core_count(), [count]() -> Task<> {
        co_await yield();
        ++*count;
      });
    }
  };
  cluster(3).init([&] { spawn(body(&served)); }).run();
  EXPECT_EQ(served, 300);
}

TEST_P(Clusters, BackgroundTasksEndWithTheLastUserTaskOfAnyCore) {
  std::atomic<int> beats = 0;
  std::atomic<int> ended = 0;
  auto beat = [](std::atomic<int>* count, std::atomic<int>* done) -> Task<> {
    try {
      for (;;) {
        co_await sleep_for(milliseconds(1));
        ++*count;
      }
    } catch (const store::Error&) {
      ++*done;
    }
  };
  auto user = [](const std::atomic<int>* count) -> Task<> {
    while (*count <= 2) co_await sleep_for(milliseconds(1));
  };
  cluster(2)
      .init([&] {
        detail::spawn_background(beat(&beats, &ended));
        if (current_core() == 0) spawn(user(&beats));
      })
      .run();
  EXPECT_EQ(ended, 2);
  EXPECT_GT(beats, 2);
}

TEST_P(Clusters, CoresHaveArenasOfTheirOwn) {
  const BufferConfig buffers = BufferConfig{1 << 20} + BufferConfig{1 << 20};
  cluster(2)
      .buffers(buffers)
      .init([] {
        EXPECT_GE(FixedBufs::current().size_bytes(), std::size_t{2} << 20);
        EXPECT_NE(capabilities().backend, Backend::automatic);
      })
      .run();
}

TEST_P(Clusters, MoreMemoryThanThereIsIsAnError) {
  try {
    cluster(1).buffers({std::numeric_limits<std::size_t>::max() / 4}).init([] { FAIL(); }).run();
    FAIL() << "no exception";
  } catch (const store::Error& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
  }
}

TEST_P(Clusters, RunOneAfterTheOtherAndSideBySide) {
  for (int i = 0; i < 5; ++i) {
    std::atomic<int> ended = 0;
    auto body = [](std::atomic<int>* count) -> Task<> {
      static_cast<void>(co_await spawn_on((current_core() + 1) % core_count(), [] { return where(); }));
      ++*count;
    };
    std::thread other([&] { cluster(2).init([&] { spawn(body(&ended)); }).run(); });
    cluster(2).init([&] { spawn(body(&ended)); }).run();
    other.join();
    EXPECT_EQ(ended, 4);
  }
}

TEST_P(Clusters, RunInsideACoreIsRefused) {
  EXPECT_THROW(cluster(1).init([] { Cluster::builder().run(); }).run(), store::Error);
}

TEST_P(Clusters, PinningBindsAndRestores) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  cluster(1)
      .pin(true)
      .init([] {
        cpu_set_t set;
        ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
        EXPECT_EQ(CPU_COUNT(&set), 1);
      })
      .run();
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
  cluster(1000 > CPU_COUNT(&before) ? CPU_COUNT(&before) + 1 : 1).pin(true).init([] { spawn(nothing()); }).run();
}

// Messages from threads that are no cores, as a blocking front end sends them: each is delivered once, on the core,
// in its sender's order.
struct Note : detail::CoreMessage {
  int sender = 0;
  int number = 0;
};
thread_local std::vector<Note*>* inbox = nullptr;
thread_local Event* inbox_grown = nullptr;

TEST_P(Clusters, ForeignThreadsPostMessages) {
  constexpr int kSenders = 3;
  constexpr int kNotes = 2000;
  std::vector<std::vector<Note>> notes(kSenders);
  for (auto& list : notes) list = std::vector<Note>(kNotes);
  std::atomic<detail::Reactor*> target = nullptr;
  std::vector<std::thread> senders;
  for (int s = 0; s < kSenders; ++s) {
    senders.emplace_back([&, s] {
      detail::Reactor* reactor = nullptr;
      while ((reactor = target.load()) == nullptr) std::this_thread::yield();
      for (int i = 0; i < kNotes; ++i) {
        Note& note = notes[s][i];
        note.sender = s;
        note.number = i;
        note.deliver = [](detail::CoreMessage& message) noexcept {
          inbox->push_back(static_cast<Note*>(&message));
          inbox_grown->pulse();
        };
        reactor->post(note);
      }
    });
  }
  auto body = [](std::atomic<detail::Reactor*>* out) -> Task<> {
    std::vector<Note*> got;
    Event grown;
    inbox = &got;
    inbox_grown = &grown;
    out->store(&detail::Reactor::current());
    while (got.size() < kSenders * kNotes) co_await grown.wait();
    int next[kSenders] = {};
    for (const Note* note : got) EXPECT_EQ(note->number, next[note->sender]++);
  };
  auto joined = std::make_shared<std::atomic<bool>>(false);
  cluster(1).init([&] { spawn(body(&target)); }).run();
  for (auto& sender : senders) sender.join();
}

// Every core calls every other one at random, from tasks that start tasks; shutdown comes in the midst.
Task<> storm(unsigned depth, std::uint64_t seed, std::atomic<int>* ended) {
  for (unsigned i = 0; i < 3; ++i) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    const auto to = static_cast<unsigned>(seed >> 33) % core_count();
    if (depth == 0) {
      co_await yield();
      continue;
    }
    const std::uint64_t next_seed = seed;
    auto handle = spawn_on(to, [=] { return storm(depth - 1, next_seed, ended); });
    if (seed & 1) co_await handle;
  }
  ++*ended;
}

TEST_P(Clusters, AStormOfCallsEndsInOrder) {
  std::atomic<int> ended = 0;
  cluster(3).init([&] { spawn(storm(6, current_core() + 1, &ended)); }).run();
  EXPECT_EQ(ended, 3 * (1 + 3 + 9 + 27 + 81 + 243 + 729));
}

// A call on the same core is no task of its own; one on another core is a message there and one back.
TEST(CallOn, BringsResultsAndErrorsBack) {
  Cluster::builder()
      .cores(2)
      .init([] {
        if (current_core() != 0) return;
        spawn([]() -> Task<> {
          for (unsigned core = 0; core < 2; ++core) {
            const std::uint64_t before = core_counters().messages;
            auto where = []() -> Task<unsigned> { co_return current_core(); };
            const unsigned ran = co_await call_on(core, where);
            EXPECT_EQ(ran, core);
            EXPECT_EQ(core_counters().messages - before, core) << "of this core alone";
            bool failed = false;
            auto fail = []() -> Task<> {
              throw store::Error(Errc::conflict, "there");
              co_return;
            };
            try {
              co_await call_on(core, fail);
            } catch (const store::Error& error) {
              failed = error.errc() == Errc::conflict;
            }
            EXPECT_TRUE(failed);
          }
          bool refused = false;
          try {
            co_await call_on(2, []() -> Task<> { co_return; });
          } catch (const store::Error& error) {
            refused = error.errc() == Errc::invalid_argument;
            EXPECT_NE(std::string(error.what()).find("call_on(): core 2"), std::string::npos) << error.what();
          }
          EXPECT_TRUE(refused);
        }());
      })
      .run();
}

// A core that sleeps is woken by each of its kinds of wait; `wakes` counts those that slept.
TEST(CallOn, WakesACoreThatSleeps) {
  for (const char* rung : {"full", "plain", "threads"}) {
    ::setenv("STORE_IO", rung, 1);
    std::uint64_t wakes = 0;
    Cluster::builder()
        .cores(2)
        .poll(std::chrono::microseconds(0))
        .init([&] {
          if (current_core() != 0) return;
          spawn([](std::uint64_t* counted) -> Task<> {
            for (int i = 0; i < 200; ++i) {
              auto nothing = []() -> Task<> { co_return; };
              co_await call_on(1, nothing);
            }
            *counted = core_counters().wakes;
          }(&wakes));
        })
        .run();
    EXPECT_GT(wakes, 0u) << rung;
  }
  ::unsetenv("STORE_IO");
}

Task<> command_to(const char* path, std::uint32_t* answer, bool polled = false) {
  const OpenOptions options{.access = FileAccess::read_write};
  File file = co_await File::open(path, options);
  std::byte memory{};
  DeviceCommand command;
  command.memory = {&memory, 1};
  command.polled = polled;
  *answer = co_await file.command(command);
}

// The driver of /dev/null takes any command and answers 0 (Linux 6.0).
TEST(DeviceCommands, ReachTheDriver) {
  std::uint32_t answer = 1;
  bool on = false;
  Cluster::builder()
      .device_commands(true)
      .init([&] {
        on = capabilities().device_commands;
        if (on) spawn(command_to("/dev/null", &answer));
      })
      .run();
  if (!on) GTEST_SKIP() << "this kernel or its limits have no device commands";
  EXPECT_EQ(answer, 0u);
}

// The driver of /dev/null has no queues to ask, and says so: polled commands go another way than those above, and end.
TEST(DeviceCommands, PolledGoToDriversThatCanBeAsked) {
  std::uint32_t answer = 1;
  bool on = false;
  try {
    Cluster::builder()
        .polled_commands(true)
        .init([&] {
          on = capabilities().polled_commands;
          EXPECT_TRUE(on || !capabilities().reason.empty());
          if (on) spawn(command_to("/dev/null", &answer, true));
        })
        .run();
    if (!on) GTEST_SKIP() << "this kernel or its limits have no polled commands";
    ADD_FAILURE() << "no error";
  } catch (const store::Error& error) {
    EXPECT_EQ(error.os_error(), EOPNOTSUPP) << error.what();
  }
}

TEST(DeviceCommands, AreRefusedWhereNobodyAskedForThem) {
  std::uint32_t answer = 1;
  try {
    Cluster::builder().init([&] { spawn(command_to("/dev/null", &answer)); }).run();
    ADD_FAILURE() << "no error";
  } catch (const store::Error& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("device_commands()"), std::string::npos) << error.what();
  }
}

TEST(DeviceCommands, OfADriverWithoutThemFail) {
  std::uint32_t answer = 1;
  bool on = false;
  try {
    Cluster::builder()
        .device_commands(true)
        .init([&] {
          on = capabilities().device_commands;
          spawn(command_to("/dev/zero", &answer));
        })
        .run();
    ADD_FAILURE() << "no error";
  } catch (const store::Error& error) {
    if (!on) GTEST_SKIP() << "this kernel or its limits have no device commands";
    EXPECT_EQ(error.errc(), Errc::io_error);
    EXPECT_EQ(error.os_error(), EOPNOTSUPP);
    EXPECT_NE(std::string(error.what()).find("command of '/dev/zero'"), std::string::npos) << error.what();
  }
}

// Files work in rings of large entries as in others, many operations at once and around the ring's end.
Task<> fill_and_read(std::string path) {
  constexpr std::size_t kPieces = 700;
  constexpr std::size_t kPiece = 4096;
  const OpenOptions options{.access = FileAccess::read_write, .create = true};
  File file = co_await File::open(path, options);
  FixedBuf memory = FixedBufs::current().allocate(kPieces * kPiece);
  std::vector<Task<>> writes;
  for (std::size_t i = 0; i < kPieces; ++i) {
    const auto piece = memory.span().subspan(i * kPiece, kPiece);
    std::ranges::fill(piece, static_cast<std::byte>(i));
    writes.push_back(file.write(i * kPiece, piece));
  }
  co_await when_all(std::move(writes));
  std::ranges::fill(memory.span(), std::byte{0xff});
  std::vector<Task<std::size_t>> reads;
  for (std::size_t i = 0; i < kPieces; ++i)
    reads.push_back(file.read(i * kPiece, memory.span().subspan(i * kPiece, kPiece)));
  co_await when_all(std::move(reads));
  for (std::size_t i = 0; i < kPieces; ++i) {
    EXPECT_EQ(memory.data()[i * kPiece], static_cast<std::byte>(i));
    EXPECT_EQ(memory.data()[(i + 1) * kPiece - 1], static_cast<std::byte>(i));
  }
}

TEST(DeviceCommands, LeaveFilesAsTheyAre) {
  const store::test::TempDir directory;
  Cluster::builder()
      .buffers({std::size_t{4} << 20})
      .device_commands(true)
      .init([&] { spawn(fill_and_read(directory.file("data"))); })
      .run();
}

}  // namespace
}  // namespace monterey
