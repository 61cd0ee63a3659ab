// Calls that end in a callback: by a queue that an event loop watches, and on the store's own thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <monterey/monterey.hpp>
#include <store/async_store.hpp>
#include <store/error.hpp>

#include "support/seed.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using testing::ElementsAre;

constexpr StoreOptions kSmall{.cache_bytes = 256u << 10, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 10};
// Every write goes through the store's thread.
constexpr StoreOptions kPerOp{.cache_bytes = 256u << 10, .wal_mode = WalMode::per_op, .write_buffer_bytes = 64u << 10};

std::string numbered(int number) { return fmt::format("key{:06}", number); }

bool readable(const CompletionQueue& queue, int timeout_ms) {
  pollfd watched{.fd = queue.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&watched, 1, timeout_ms) == 1;
}

// The event loop: until `done`.
template <class Done>
void loop(CompletionQueue& queue, Done done) {
  while (!done()) {
    ASSERT_TRUE(readable(queue, 60'000)) << "nothing was told for a minute";
    queue.run();
  }
}

// What one call told.
template <class T>
class Told {
 public:
  auto here() {
    return [this](std::exception_ptr error, T value) {
      error_ = std::move(error);
      value_ = std::move(value);
      ++times_;
    };
  }
  T by(CompletionQueue& queue) {
    loop(queue, [this] { return times_ != 0; });
    EXPECT_EQ(times_, 1);
    if (error_) std::rethrow_exception(error_);
    return value_;
  }

 private:
  std::exception_ptr error_;
  T value_{};
  int times_ = 0;
};
template <>
class Told<void> {
 public:
  auto here() {
    return [this](std::exception_ptr error) { bool_.here()(std::move(error), true); };
  }
  void by(CompletionQueue& queue) { EXPECT_TRUE(bool_.by(queue)); }

 private:
  Told<bool> bool_;
};

template <class Fn>
Errc errc_of(Fn fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.errc();
  }
  ADD_FAILURE() << "no error was thrown";
  return Errc{};
}

void fill(Store& db, int count) {
  WriteBatch batch;
  for (int i = 0; i < count; ++i) batch.put(numbered(i), std::string(100, 'v'));
  db.write(std::move(batch));
}

class Async : public testing::TestWithParam<StoreOptions> {
 protected:
  const test::TempDir temp_;
  const std::string path_ = temp_.path() + "/db";
};
INSTANTIATE_TEST_SUITE_P(Modes, Async, testing::Values(kSmall, kPerOp), [](const auto& options) {
  return options.param.wal_mode == WalMode::none ? "InMemory" : "ByTheThread";
});

TEST_P(Async, TheVerbsDoAsAPartitionDoes) {
  const Store db = Store::open(path_, GetParam());
  CompletionQueue queue;
  AsyncStore async(db, queue);
  const auto done = [&queue](auto start) {
    Told<void> told;
    start(told.here());
    told.by(queue);
  };
  const auto get = [&](std::string key) {
    Told<std::optional<std::string>> told;
    async.get(std::move(key), told.here());
    return told.by(queue);
  };
  const auto yes = [&queue](auto start) {
    Told<bool> told;
    start(told.here());
    return told.by(queue);
  };
  EXPECT_EQ(get("a"), std::nullopt);
  done([&](auto end) { async.put("a", "1", end); });
  done([&](auto end) { async.put("b", std::string(5000, 'b'), end); });
  EXPECT_EQ(get("a"), "1");
  EXPECT_TRUE(yes([&](auto end) { async.contains("b", end); }));
  EXPECT_FALSE(yes([&](auto end) { async.contains("c", end); }));
  done([&](auto end) { async.flush(end); });
  EXPECT_EQ(get("b"), std::string(5000, 'b'));
  EXPECT_TRUE(yes([&](auto end) { async.compare_and_put("a", "1", "2", end); }));
  EXPECT_FALSE(yes([&](auto end) { async.compare_and_put("a", "1", "3", end); }));
  WriteBatch batch;
  batch.put("c", "3");
  batch.put("d", "4");
  done([&](auto end) { async.write(std::move(batch), end); });
  done([&](auto end) { async.erase("a", end); });
  done([&](auto end) { async.erase_range("b", "c", end); });
  done([&](auto end) { async.sync(end); });
  Told<std::vector<std::optional<std::string>>> many;
  async.get_many({"a", "b", "c", "d"}, many.here());
  EXPECT_THAT(many.by(queue), ElementsAre(std::nullopt, std::nullopt, "3", "4"));
}

// Nothing is told before the loop asks, and the descriptor says when to.
TEST_P(Async, TheQueuesDescriptorIsReadableWhileCallbacksWait) {
  const Store db = Store::open(path_, GetParam());
  CompletionQueue queue;
  AsyncStore async(db, queue);
  EXPECT_FALSE(readable(queue, 0));
  EXPECT_EQ(queue.run(), 0u);
  bool told = false;
  async.put("a", "1", [&told](std::exception_ptr) { told = true; });
  EXPECT_TRUE(readable(queue, 60'000));
  EXPECT_FALSE(told);
  EXPECT_EQ(queue.run(), 1u);
  EXPECT_TRUE(told);
  EXPECT_FALSE(readable(queue, 0));
}

// Many in flight, each chain of which waits for its own: what a callback has told is seen by the next call.
TEST_P(Async, ACallSeesTheWritesThatWereTold) {
  constexpr int kChains = 50;
  constexpr int kSteps = 40;
  const Store db = Store::open(path_, GetParam());
  CompletionQueue queue;
  AsyncStore async(db, queue);
  int ended = 0;
  const std::function<void(int, int)> step = [&](int chain, int at) {
    if (at == kSteps) {
      ++ended;
      return;
    }
    async.put(numbered(chain), std::to_string(at), [&, chain, at](std::exception_ptr error) {
      EXPECT_FALSE(error);
      async.get(numbered(chain), [&, chain, at](std::exception_ptr failed, const std::optional<std::string>& value) {
        EXPECT_FALSE(failed);
        EXPECT_EQ(value, std::to_string(at));
        step(chain, at + 1);
      });
    });
  };
  for (int i = 0; i < kChains; ++i) step(i, 0);
  loop(queue, [&ended] { return ended == kChains; });
}

TEST_P(Async, ErrorsAreToldToTheCallback) {
  Store db = Store::open(path_, GetParam());
  CompletionQueue queue;
  AsyncStore async(db, queue);
  const auto errc_of_get = [&](std::string key) {
    Told<std::optional<std::string>> told;
    async.get(std::move(key), told.here());
    return errc_of([&] { static_cast<void>(told.by(queue)); });
  };
  EXPECT_EQ(errc_of_get(""), Errc::invalid_argument);
  EXPECT_EQ(errc_of_get(std::string(2000, 'k')), Errc::invalid_argument);
  Told<void> put;
  async.put("", "", put.here());
  EXPECT_EQ(errc_of([&] { put.by(queue); }), Errc::invalid_argument);
  db.close();
  EXPECT_EQ(errc_of_get("a"), Errc::closed);
  Told<std::vector<AsyncScan::Entry>> entries;
  AsyncScan scan = async.scan();
  scan.next(entries.here());
  EXPECT_EQ(errc_of([&] { static_cast<void>(entries.by(queue)); }), Errc::closed);
  const Store moved = std::move(db);
  EXPECT_EQ(errc_of([&] { const AsyncStore none(db); }), Errc::closed);  // NOLINT: it was moved from
}

TEST_P(Async, AScanComesInPieces) {
  Store db = Store::open(path_, GetParam());
  fill(db, 3'000);
  CompletionQueue queue;
  AsyncStore async(db, queue);
  AsyncScan scan = async.scan(numbered(10), numbered(2'990));
  int at = 10;
  int pieces = 0;
  for (bool last = false; !last; ++pieces) {
    Told<std::vector<AsyncScan::Entry>> told;
    scan.next(told.here());
    const std::vector<AsyncScan::Entry> piece = told.by(queue);
    for (const AsyncScan::Entry& entry : piece) EXPECT_EQ(entry.key, numbered(at++));
    db.erase(numbered(2'500));  // the scan is as of its start
    last = piece.empty();
  }
  EXPECT_EQ(at, 2'990);
  EXPECT_GT(pieces, 3);
  AsyncScan reverse = async.scan({}, {}, {.reverse = true, .limit = 2});
  Told<std::vector<AsyncScan::Entry>> told;
  reverse.next(told.here());
  const std::vector<AsyncScan::Entry> two = told.by(queue);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[1].key, numbered(2'998));
}

TEST_P(Async, AScanIsAskedOnceAtATime) {
  Store db = Store::open(path_, GetParam());
  fill(db, 20'000);
  db.flush();
  CompletionQueue queue;
  AsyncStore async(db, queue);
  AsyncScan scan = async.scan();
  Told<std::vector<AsyncScan::Entry>> first;
  Told<std::vector<AsyncScan::Entry>> second;
  scan.next(first.here());
  scan.next(second.here());
  EXPECT_FALSE(first.by(queue).empty());
  EXPECT_EQ(errc_of([&] { static_cast<void>(second.by(queue)); }), Errc::invalid_argument);
  Told<std::vector<AsyncScan::Entry>> third;
  scan.next(third.here());
  EXPECT_FALSE(third.by(queue).empty()) << "the scan goes on";
}

TEST_P(Async, WhatACallbackThrowsComesOutOfTheQueue) {
  const Store db = Store::open(path_, GetParam());
  CompletionQueue queue;
  AsyncStore async(db, queue);
  std::vector<int> told;
  for (int i = 0; i < 3; ++i) {
    async.put(numbered(i), "", [&told, i](std::exception_ptr) {
      told.push_back(i);
      if (i == 1) throw std::runtime_error("of the callback");
    });
  }
  bool thrown = false;
  while (told.size() < 3) {
    ASSERT_TRUE(readable(queue, 60'000)) << "those behind it wait for the next time";
    try {
      queue.run();
    } catch (const std::runtime_error&) {
      thrown = true;
    }
  }
  EXPECT_TRUE(thrown);
  EXPECT_THAT(told, ElementsAre(0, 1, 2));
}

// Callbacks that are never called are destroyed: of a queue that has gone, by hundreds of thousands.
TEST_P(Async, WhatIsLeftInAQueueGoesUncalled) {
  const auto token = std::make_shared<int>();
  bool called = false;
  {
    const Store db = Store::open(path_, GetParam());
    auto queue = std::make_unique<CompletionQueue>();
    AsyncStore async(db, *queue);
    const int count = GetParam().wal_mode == WalMode::none ? 200'000 : 100;
    for (int i = 0; i < count; ++i) {
      async.put("a", "", [&called, token](std::exception_ptr) { called = true; });
    }
    queue.reset();
    for (int i = 0; i < 100; ++i) {
      async.put("a", "", [&called, token](std::exception_ptr) { called = true; });
    }
  }
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_FALSE(called);
}

TEST_P(Async, WithoutAQueueTheStoresThreadCalls) {
  const Store db = Store::open(path_, GetParam());
  AsyncStore async(db);
  std::promise<std::pair<std::thread::id, std::optional<std::string>>> told;
  async.put("a", "1", [&](std::exception_ptr) {
    async.get("a", [&](std::exception_ptr, std::optional<std::string> value) {
      told.set_value({std::this_thread::get_id(), std::move(value)});
    });
  });
  const auto [thread, value] = told.get_future().get();
  EXPECT_NE(thread, std::this_thread::get_id());
  EXPECT_EQ(value, "1");
}

// The last that holds the store is a callback on its own thread, which cannot wait for itself.
TEST_P(Async, TheLastCallMayOutliveAllHandles) {
  std::promise<void> ended;
  {
    auto db = std::make_unique<Store>(Store::open(path_, GetParam()));
    auto async = std::make_unique<AsyncStore>(*db);
    AsyncStore& calls = *async;
    // The store is closed when the callback comes; what it was given is dropped behind it.
    std::shared_ptr<void> at_end(nullptr, [&ended](void*) { ended.set_value(); });
    calls.put("a", "1",
              [async = std::move(async), at_end = std::move(at_end)](std::exception_ptr) mutable { async.reset(); });
  }
  ended.get_future().wait();
  Store again = Store::open(path_, GetParam());
  EXPECT_EQ(again.get("a"), "1");
}

// A callback holds the store, and the queue that would have called it has gone: the store is closed all the same, nothing is lost.
TEST_P(Async, AStoreThatGoesOnItsOwnThreadIsClosed) {
  std::promise<void> ended;
  {
    auto db = std::make_unique<Store>(Store::open(path_, GetParam()));
    auto async = std::make_unique<AsyncStore>(*db);
    AsyncStore& calls = *async;
    calls.put("a", "1", [&, db = std::move(db), async = std::move(async)](std::exception_ptr) mutable {
      async.reset();
      db.reset();
      ended.set_value();
    });
  }
  ended.get_future().wait();
  const auto reopened = [&] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for (;;) {  // while a thread closes it
      try {
        return Store::open(path_, GetParam());
      } catch (const Error& error) {
        if (error.errc() != Errc::locked || std::chrono::steady_clock::now() > end) throw;
      }
    }
  };
  EXPECT_EQ(reopened().get("a"), "1");
}

TEST_P(Async, ACallbackMayDestroyItsQueue) {
  const Store db = Store::open(path_, GetParam());
  for (const bool throws : {false, true}) {
    auto queue = std::make_unique<CompletionQueue>();
    CompletionQueue& running = *queue;
    int told = 0;
    {
      AsyncStore async(db, *queue);
      for (int i = 0; i < 3; ++i) {
        async.put("a", "1", [&, throws](std::exception_ptr) {
          ++told;
          queue.reset();
          if (throws) throw std::runtime_error("of the callback");
        });
      }
    }
    while (told == 0) {
      ASSERT_TRUE(readable(running, 60'000));
      try {
        running.run();
      } catch (const std::runtime_error&) {
        EXPECT_TRUE(throws);
      }
    }
    EXPECT_EQ(told, 1) << "what had not been called is not";
  }
}

TEST_P(Async, DamageEndsAScanBehindWhatIsBeforeIt) {
  {
    Store db = Store::open(path_, GetParam());
    fill(db, 5'000);
  }
  int stopped_within = 0;
  const auto blocks = static_cast<int>(std::filesystem::file_size(path_) / 4096);
  for (int block = 10; block < blocks; block += blocks / 20) {
    const std::string damaged = path_ + ".damaged";
    std::filesystem::copy_file(path_, damaged, std::filesystem::copy_options::overwrite_existing);
    {
      std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(block * 4096);
      file << std::string(4096, '\xee');
    }
    std::optional<Store> db;
    try {
      db = Store::open(damaged, GetParam());
    } catch (const Error&) {
      continue;  // a page that it must have
    }
    CompletionQueue queue;
    AsyncStore async(*db, queue);
    AsyncScan by_pieces = async.scan();
    StoreScan scan = db->scan();
    int expected = 0;
    try {
      while (scan.next()) ++expected;
      continue;
    } catch (const Error&) {
      // It stops here.
    }
    int entries = 0;
    const auto next = [&] {
      Told<std::vector<AsyncScan::Entry>> told;
      by_pieces.next(told.here());
      return told.by(queue);
    };
    EXPECT_EQ(errc_of([&] {
                for (;;) entries += static_cast<int>(next().size());
              }),
              Errc::corruption);
    EXPECT_EQ(entries, expected);
    EXPECT_EQ(errc_of([&] { static_cast<void>(next()); }), Errc::corruption) << "it stays where it is";
    stopped_within += entries > 0 ? 1 : 0;
  }
  EXPECT_GT(stopped_within, 2);
}

// A scan that was begun keeps blocks from being used again until it goes.
TEST_P(Async, AScanThatIsDroppedHoldsNothing) {
  Store db = Store::open(path_, GetParam());
  fill(db, 5'000);
  db.flush();
  CompletionQueue queue;
  AsyncStore async(db, queue);
  {
    AsyncScan scan = async.scan();
    Told<std::vector<AsyncScan::Entry>> told;
    scan.next(told.here());
    EXPECT_FALSE(told.by(queue).empty());
    fill(db, 5'000);
    db.flush();
    EXPECT_GT(db.stats().held_blocks, 10u);
  }
  for (int i = 0; i < 100 && db.stats().held_blocks > 10; ++i) db.flush();
  EXPECT_LE(db.stats().held_blocks, 10u);
}

TEST_P(Async, AStoreThatIsClosedHasToldItsCalls) {
  constexpr int kCalls = 300;
  Store db = Store::open(path_, GetParam());
  fill(db, 100);
  CompletionQueue queue;
  AsyncStore async(db, queue);
  std::atomic<bool> over{false};
  std::thread other([&] {  // so that calls are not done at once
    while (!over) db.put("other", "1");
  });
  int told = 0;
  for (int i = 0; i < kCalls; ++i) {
    async.get(numbered(i % 100), [&told](std::exception_ptr, const std::optional<std::string>&) { ++told; });
  }
  over = true;
  other.join();
  db.close();
  queue.run();
  EXPECT_EQ(told, kCalls);
}

// Each call is refused, and the parent's queue is left as it is.
TEST_P(Async, AChildOfForkIsRefused) {
  const Store db = Store::open(path_, GetParam());
  auto queue = std::make_unique<CompletionQueue>();
  AsyncStore async(db, *queue);
  bool told = false;
  async.put("a", "1", [&told](std::exception_ptr) { told = true; });
  ASSERT_TRUE(readable(*queue, 60'000));
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    const auto ignore = [](auto&&...) {};
    const std::array<std::function<void()>, 9> calls{[&] { async.get("a", ignore); },
                                                     [&] { async.contains("a", ignore); },
                                                     [&] { async.put("a", "1", ignore); },
                                                     [&] { async.erase("a", ignore); },
                                                     [&] { async.sync(ignore); },
                                                     [&] { async.flush(ignore); },
                                                     [&] { async.get_many({"a"}, ignore); },
                                                     [&] { async.write(WriteBatch(), ignore); },
                                                     [&] { queue->run(); }};
    int code = 0;
    for (const auto& call : calls) {
      if (errc_of(call) != Errc::closed) code = 1;
    }
    queue.reset();
    ::_exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(readable(*queue, 0));
  EXPECT_EQ(queue->run(), 1u);
  EXPECT_TRUE(told);
}

// A core of a cluster is an event loop too.
TEST_P(Async, ACoreMayCall) {
  const Store db = Store::open(path_, GetParam());
  std::promise<std::optional<std::string>> told;
  monterey::Cluster::builder()
      .cores(1)
      .init([&] {
        AsyncStore async(db);
        async.put("a", "1", [&told, async](std::exception_ptr) mutable {
          async.get(
              "a", [&told](std::exception_ptr, std::optional<std::string> value) { told.set_value(std::move(value)); });
        });
      })
      .run();
  EXPECT_EQ(told.get_future().get(), "1");
}

// Each thread has keys and a queue of its own, all the same store, whose blocking face is used as well.
TEST_P(Async, ManyThreadsAgainstAModel) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 40;
  constexpr int kKeys = 50;
  const std::uint64_t seed = test::requested_seed().value_or(std::random_device{}());
  SCOPED_TRACE(fmt::format("--seed={}", seed));
  Store db = Store::open(path_, GetParam());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&db, seed, t] {
      std::mt19937_64 random(seed + static_cast<std::uint64_t>(t));
      std::map<std::string, std::optional<std::string>> model;
      CompletionQueue queue;
      AsyncStore async(db, queue);
      for (int round = 0; round < kRounds; ++round) {
        int told = 0;
        const auto ended = [&told](std::exception_ptr error) {
          EXPECT_FALSE(error);
          ++told;
        };
        // One call of each key is in flight.
        for (int n = 0; n < kKeys; ++n) {
          const std::string key = fmt::format("{}-{}", t, n);
          std::optional<std::string>& value = model[key];
          switch (random() % 4) {
            case 0:
              value = std::to_string(random());
              async.put(key, *value, ended);
              break;
            case 1:
              value = std::nullopt;
              async.erase(key, ended);
              break;
            case 2: {
              WriteBatch batch;
              value = "batch";
              batch.put(key, *value);
              async.write(std::move(batch), ended);
              break;
            }
            default:
              async.get(key, [&, value, key](std::exception_ptr error, const std::optional<std::string>& found) {
                EXPECT_EQ(found, value) << key;
                ended(std::move(error));
              });
          }
        }
        loop(queue, [&told] { return told == kKeys; });
      }
      for (const auto& [key, value] : model) EXPECT_EQ(db.get(key), value) << key;
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace store
