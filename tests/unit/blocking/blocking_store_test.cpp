// The blocking face: every verb, many threads, and the places where it must refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <monterey/monterey.hpp>
#include <store/blocking_store.hpp>
#include <store/error.hpp>

#include "support/temp_dir.hpp"

namespace store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr StoreOptions kSmall{.cache_bytes = 256u << 10, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 10};

std::string numbered(int number) { return fmt::format("key{:06}", number); }

template <class Fn>
Errc errc_of(Fn fn, std::string* what = nullptr) {
  try {
    fn();
  } catch (const Error& error) {
    if (what != nullptr) *what = error.what();
    return error.errc();
  }
  ADD_FAILURE() << "no error was thrown";
  return Errc{};
}

class Blocking : public testing::Test {
 protected:
  const test::TempDir temp_;
  const std::string path_ = temp_.path() + "/db";
};

TEST_F(Blocking, TheVerbsDoAsAPartitionDoes) {
  Store db = Store::open(path_, kSmall);
  EXPECT_EQ(db.get("a"), std::nullopt);
  db.put("a", "1");
  db.put("b", std::string(5000, 'b'));
  EXPECT_EQ(db.get("a"), "1");
  EXPECT_TRUE(db.contains("b"));
  EXPECT_FALSE(db.contains("c"));
  db.flush();
  EXPECT_EQ(db.get("b"), std::string(5000, 'b')) << "read from its overflow run";
  std::array<std::byte, 3> into{};
  EXPECT_EQ(db.get_into("b", into, {.offset = 4998}), 5000u);
  EXPECT_EQ(into[1], std::byte{'b'});
  const std::array<std::string_view, 3> keys{"b", "x", "a"};
  EXPECT_THAT(db.get_many(keys), ElementsAre(std::string(5000, 'b'), std::nullopt, "1"));
  EXPECT_TRUE(db.compare_and_put("a", "1", "2"));
  EXPECT_FALSE(db.compare_and_put("a", "1", "3"));
  WriteBatch batch;
  batch.put("c", "3");
  batch.erase("a");
  batch.expect("a", "2");
  db.write(std::move(batch));
  EXPECT_EQ(db.get("a"), std::nullopt);
  db.put("d", "4");
  db.erase("d");
  db.erase_range("c", "d");
  EXPECT_FALSE(db.contains("c"));
  db.sync();
  EXPECT_EQ(db.stats().entries, 1u);
  EXPECT_EQ(db.approximate_range().entries, 1u);
  EXPECT_TRUE(db.compact().finished);
  EXPECT_TRUE(db.check().ok);
  EXPECT_GT(db.backup(temp_.path() + "/copy").generation, 0u);
  db.close();
  std::string what;
  EXPECT_EQ(errc_of([&] { static_cast<void>(db.get("b")); }, &what), Errc::closed);
  EXPECT_EQ(errc_of([&] { db.put("b", ""); }), Errc::closed);
  Store copy = Store::open(temp_.path() + "/copy", {.create = false});
  EXPECT_EQ(copy.get("b"), std::string(5000, 'b'));
}

TEST_F(Blocking, ErrorsComeToTheCaller) {
  std::string what;
  EXPECT_EQ(errc_of([&] { Store::open(path_, {.create = false}); }, &what), Errc::not_found);
  EXPECT_THAT(what, HasSubstr(path_));
  EXPECT_EQ(errc_of([&] { Store::open(path_, {.write_buffer_bytes = 1}); }), Errc::invalid_argument);
  Store db = Store::open(path_, kSmall);
  EXPECT_EQ(errc_of([&] { db.put("", "x"); }), Errc::invalid_argument);
  EXPECT_EQ(errc_of([&] { static_cast<void>(db.get(std::string(2000, 'k'))); }), Errc::invalid_argument);
  EXPECT_EQ(errc_of([&] { Store::open(path_, kSmall); }), Errc::locked);
  WriteBatch batch;
  batch.expect("a", "never");
  EXPECT_EQ(errc_of([&] { db.write(std::move(batch)); }), Errc::conflict);
  Store moved = std::move(db);
  EXPECT_EQ(errc_of([&] { db.put("a", "b"); }), Errc::closed);  // NOLINT(bugprone-use-after-move)
  moved.put("a", "b");
  EXPECT_EQ(moved.get("a"), "b");
}

TEST_F(Blocking, ATryReadsWhatIsInMemory) {
  Store db = Store::open(path_, kSmall);
  std::array<std::byte, 8> into{};
  // Until the store's thread is at rest, and has the page in memory.
  const auto tried = [&](std::string_view key, std::span<std::byte> to) {
    std::optional<std::optional<std::size_t>> size;
    while (!(size = db.try_get_into(key, to))) static_cast<void>(db.get(key));
    return *size;
  };
  db.put("a", "12345");
  EXPECT_EQ(tried("x", into), std::nullopt);
  EXPECT_EQ(tried("a", into), 5u);
  EXPECT_EQ(into[4], std::byte{'5'});
  db.put("run", std::string(5000, 'r'));
  db.flush();
  EXPECT_EQ(tried("run", {}), 5000u) << "a size needs no value";
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(db.try_get_into("run", into).has_value()) << "its bytes are not in memory";
  db.close();
  EXPECT_EQ(errc_of([&] {
              while (!db.try_get_into("a", into)) {
              }
            }),
            Errc::closed);
}

// One thread changes the store again and again; others that try do not wait for it, and are told so.
TEST_F(Blocking, ATryDoesNotWaitForOthers) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  std::atomic<bool> over{false};
  std::thread other([&] {
    while (!over) db.put("a", "1");
  });
  bool refused = false;
  bool done = false;
  for (int i = 0; i < 100'000'000 && !(refused && done); ++i) {
    const auto size = db.try_get_into("a", {});
    (size ? done : refused) = true;
    if (size) {
      EXPECT_EQ(**size, 1u);
    }
  }
  over = true;
  other.join();
  EXPECT_TRUE(refused);
  EXPECT_TRUE(done);
}

TEST_F(Blocking, ScansSayWhetherTheyWait) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  db.put("b", "2");
  StoreScan scan = db.scan();
  EXPECT_FALSE(scan.is_ready());
  EXPECT_TRUE(scan.next());
  EXPECT_TRUE(scan.is_ready());
  EXPECT_TRUE(scan.next());
  EXPECT_TRUE(scan.is_ready()) << "it knows that this was the last";
  EXPECT_FALSE(scan.next());
  scan.seek("b");
  EXPECT_FALSE(scan.is_ready());
  EXPECT_TRUE(scan.next());
}

TEST_F(Blocking, ScansAreRanges) {
  Store db = Store::open(path_, kSmall);
  std::map<std::string, std::string> model;
  for (int i = 0; i < 3000; ++i) {  // more than a few pieces
    const std::string key = numbered(i);
    model[key] = std::string(static_cast<std::size_t>(i % 100), 'v');
    db.put(key, model[key]);
    if (i == 2000) db.flush();
  }
  std::map<std::string, std::string> found;
  StoreScan all = db.scan();
  db.erase_range("");  // the scan is of before
  for (const auto& [key, value] : all) found.emplace(key, value);
  EXPECT_EQ(found, model);
  EXPECT_FALSE(all.next());
  for (const auto& [key, value] : model) db.put(key, value);
  std::vector<std::string> keys;
  for (const auto& [key, value] : db.scan(numbered(10), numbered(12))) keys.emplace_back(key);
  EXPECT_THAT(keys, ElementsAre(numbered(10), numbered(11)));
  keys.clear();
  for (const auto& [key, value] : db.scan_prefix("key00299", {.reverse = true, .limit = 2})) keys.emplace_back(key);
  EXPECT_THAT(keys, ElementsAre(numbered(2999), numbered(2998)));
  StoreScan scan = db.scan();
  scan.seek(numbered(2500));
  EXPECT_TRUE(scan.next());
  EXPECT_EQ(scan.entry().key, numbered(2500));
  scan.seek(numbered(5));
  EXPECT_TRUE(scan.next());
  EXPECT_EQ(scan.entry().key, numbered(5));
  db.close();
  EXPECT_EQ(errc_of([&] { scan.seek("a"); }), Errc::closed);
}

TEST_F(Blocking, SnapshotsStayAsTheyWere) {
  Store db = Store::open(path_, kSmall);
  for (int i = 0; i < 500; ++i) db.put(numbered(i), "before");
  const StoreSnapshot snapshot = db.snapshot();
  for (int i = 0; i < 500; ++i) db.put(numbered(i), "after");
  db.flush();
  EXPECT_EQ(snapshot.get(numbered(7)), "before");
  EXPECT_EQ(db.get(numbered(7)), "after");
  EXPECT_FALSE(snapshot.contains("x"));
  const std::array<std::string_view, 1> keys{"key000001"};
  EXPECT_THAT(snapshot.get_many(keys), ElementsAre("before"));
  int entries = 0;
  for (const auto& [key, value] : snapshot.scan_prefix("key")) {
    EXPECT_EQ(value, "before");
    ++entries;
  }
  EXPECT_EQ(entries, 500);
}

TEST_F(Blocking, WhatAStoreMadeMayOutliveIt) {
  std::optional<StoreScan> scan;
  std::optional<StoreSnapshot> snapshot;
  {
    Store db = Store::open(path_, kSmall);
    db.put("a", "1");
    scan = db.scan();
    snapshot = db.snapshot();
  }
  EXPECT_EQ(errc_of([&] { scan->next(); }), Errc::closed);
  EXPECT_EQ(errc_of([&] { static_cast<void>(snapshot->get("a")); }), Errc::closed);
  scan.reset();
  snapshot.reset();
  Store again = Store::open(path_, kSmall);
  EXPECT_EQ(again.get("a"), "1");
}

TEST_F(Blocking, BulkLoadsFromASource) {
  struct Numbers {
    bool next(std::string_view& key, std::string_view& value) {
      if (at == 1000) return false;
      text = numbered(at++);
      key = value = text;
      return true;
    }
    int at = 0;
    std::string text;
  };
  Store db = Store::open(path_, kSmall);
  EXPECT_EQ(db.bulk_load(Numbers()), 1000u);
  EXPECT_EQ(db.get(numbered(999)), numbered(999));
}

// Threads that read, write, scan and take snapshots of one store, while its buffers are flushed behind them.
TEST_F(Blocking, ManyThreadsAtOnce) {
  for (const WalMode mode : {WalMode::none, WalMode::batched}) {
    StoreOptions options = kSmall;
    options.wal_mode = mode;
    Store db = Store::open(path_ + std::to_string(static_cast<int>(mode)), options);
    constexpr int kKeys = 2000;
    constexpr int kRounds = 3000;
    std::atomic<int> wrong{0};
    const auto work = [&](int thread) {
      for (int i = 0; i < kRounds; ++i) {
        const std::string key = numbered((i * 7 + thread * 31) % kKeys);
        if (i % 3 == 0) {
          db.put(key, key + std::string(50, 'x'));
        } else if (i % 500 == 1) {
          const StoreSnapshot snapshot = db.snapshot();
          for (const auto& [found, value] : snapshot.scan(key, std::nullopt, {.limit = 20})) {
            wrong += value != std::string(found) + std::string(50, 'x');
          }
        } else {
          const auto value = db.get(key);
          wrong += value && *value != key + std::string(50, 'x');
        }
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_TRUE(db.check().ok);
    db.close();
  }
}

// Readers run beside each other, and what each of them did is counted.
TEST_F(Blocking, GetsOfManyThreadsAreCounted) {
  constexpr int kThreads = 20;  // more than there are slots
  constexpr int kGets = 5'000;
  Store db = Store::open(path_, kSmall);
  for (int i = 0; i < 100; ++i) db.put(numbered(i), numbered(i));
  db.flush();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(db.get(numbered(i)), numbered(i));
  const StoreSnapshot snapshot = db.snapshot();
  const Stats before = db.stats();
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < kGets; ++n) {
        const std::string key = numbered((i + n) % 100);
        EXPECT_EQ(n % 2 == 0 ? db.get(key) : snapshot.get(key), key);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(db.stats().gets, before.gets + kThreads * kGets);
  EXPECT_GE(db.stats().cache_hits, before.cache_hits + kThreads * kGets) << "a page or more for each";
}

// What is written is durable a while later, though nobody calls any more: the store's thread goes on.
TEST_F(Blocking, WritesBecomeDurableWhileNobodyCalls) {
  StoreOptions options = kSmall;
  options.wal_mode = WalMode::batched;
  Store db = Store::open(path_, options);
  const std::uint64_t before = db.stats().log_groups;
  db.put("a", "1");
  while (db.stats().log_groups == before) std::this_thread::yield();
}

TEST_F(Blocking, AChildOfForkIsRefused) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  StoreScan scan = db.scan();
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 0;
    {
      const StoreScan dropped = std::move(scan);
      std::string what;
      if (errc_of([&] { static_cast<void>(db.get("a")); }, &what) != Errc::closed) code = 1;
      if (what.find("fork") == std::string::npos) code = 2;
      if (errc_of([&] { db.put("a", "2"); }) != Errc::closed) code = 3;
      const Store gone = std::move(db);
    }
    std::_Exit(code);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(db.get("a"), "1");
  EXPECT_TRUE(scan.next());
}

TEST_F(Blocking, OnACoreItIsRefusedButMayBeDropped) {
  std::optional<Store> db = Store::open(path_, kSmall);
  std::optional<StoreScan> scan = db->scan();
  db->put("a", "1");
  Errc refused{};
  const auto on_core = [&] {
    refused = errc_of([&] { db->put("a", "2"); });
    scan.reset();
    db.reset();
  };
  monterey::Cluster::builder().init(on_core).run();
  EXPECT_EQ(refused, Errc::invalid_argument);
  Store again = Store::open(path_, kSmall);
  EXPECT_EQ(again.get("a"), "1");
}

TEST_F(Blocking, AStoreThatIsAssignedToIsClosed) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  const std::optional<StoreScan> scan = db.scan();
  db = Store::open(path_ + "2", kSmall);
  Store again = Store::open(path_, kSmall);
  EXPECT_EQ(again.get("a"), "1");
  Store moved = std::move(again);
  EXPECT_EQ(errc_of([&] { static_cast<void>(again.get("a")); }), Errc::closed);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(errc_of([&] { static_cast<void>(again.contains("a")); }), Errc::closed);
}

// The limit is of what was handed out, whatever was read ahead.
TEST_F(Blocking, ALimitCountsWhatWasHandedOut) {
  Store db = Store::open(path_, kSmall);
  for (int i = 0; i < 100; ++i) db.put(numbered(i), "v");
  StoreScan scan = db.scan("", std::nullopt, {.limit = 20});
  EXPECT_TRUE(scan.next());
  scan.seek(numbered(50));
  for (int i = 50; i < 69; ++i) {
    EXPECT_TRUE(scan.next());
    EXPECT_EQ(scan.entry().key, numbered(i));
  }
  EXPECT_FALSE(scan.next());
}

// What lies before a damaged page is handed out first; then the error, as often as one asks.
TEST_F(Blocking, DamageEndsAScanBehindWhatIsBeforeIt) {
  {
    Store db = Store::open(path_, kSmall);
    for (int i = 0; i < 5000; ++i) db.put(numbered(i), std::string(100, 'v'));
  }
  std::set<int> counts;
  for (int block = 10; block < 100; block += 9) {
    const std::string damaged = path_ + ".damaged";
    std::filesystem::copy_file(path_, damaged, std::filesystem::copy_options::overwrite_existing);
    {
      std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(block * 4096);
      file << std::string(4096, '\xee');
    }
    std::optional<Store> db;
    try {
      db = Store::open(damaged, kSmall);
    } catch (const Error&) {
      continue;  // a page that it must have
    }
    StoreScan scan = db->scan();
    int entries = 0;
    Errc code{};
    try {
      for (; scan.next(); ++entries) EXPECT_EQ(scan.entry().key, numbered(entries));
      EXPECT_EQ(entries, 5000) << block;
      continue;
    } catch (const Error& error) {
      code = error.errc();
    }
    EXPECT_EQ(code, Errc::corruption);
    EXPECT_EQ(errc_of([&] { scan.next(); }), Errc::corruption);
    counts.insert(entries);
  }
  EXPECT_GT(counts.size(), 2u) << "each stopped where its damage lies";
}

TEST_F(Blocking, AReaderIsLockedOutByAWriter) {
  {
    Store writer = Store::open(path_, kSmall);
    writer.put("a", "1");
    EXPECT_EQ(errc_of([&] { Store::open_read_only(path_, kSmall); }), Errc::locked);
  }
  Store reader = Store::open_read_only(path_, kSmall);
  Store another = Store::open_read_only(path_, kSmall);
  EXPECT_EQ(reader.get("a"), "1");
  EXPECT_EQ(another.get("a"), "1");
  EXPECT_EQ(errc_of([&] { reader.put("a", "2"); }), Errc::read_only);
}

// A signal goes to a thread of the program.
TEST_F(Blocking, SignalsAreNotForTheStoresThread) {
  static std::atomic<pthread_t> handled_by{};
  struct sigaction action {};
  action.sa_handler = [](int) { handled_by = pthread_self(); };
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  {
    Store db = Store::open(path_, kSmall);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
    ASSERT_EQ(::kill(::getpid(), SIGUSR1), 0);
    db.put("a", "1");
    db.flush();
    EXPECT_EQ(handled_by.load(), pthread_t{}) << "only a thread that does not block it may have it";
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    EXPECT_EQ(handled_by.load(), pthread_self());
  }
  ::sigaction(SIGUSR1, &before, nullptr);
}

}  // namespace
}  // namespace store
