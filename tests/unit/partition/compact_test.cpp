// Compaction: the store becomes as small as what it holds, whatever it holds, beside readers and writers, and however often it is
// interrupted.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <random>

#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::device_on;
using test::DeviceOp;
using test::expect_clean;
using test::expect_holds;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

PartitionConfig config_of(WalMode mode) {
  PartitionConfig config = test::small_config();
  config.wal_mode = mode;
  config.write_buffer_bytes = 256u << 10;
  return config;
}

std::uint64_t reachable_blocks(const Stats& stats) {
  return kMetaBlocks + stats.tree_pages + stats.overflow_blocks + stats.allocator_pages;
}

// What a store that was left alone may have at most: a tenth more, and gaps that runs of so many bytes do not fit into.
std::uint64_t most_blocks(const Stats& stats, std::size_t longest) {
  return reachable_blocks(stats) * 11 / 10 + 48 + 8 * longest / kPageBytes + stats.log_bytes / kPageBytes;
}

// Puts and erases at random, flushes now and then; some values in runs.
monterey::Task<> churn(Partition& db, Model& model, std::mt19937_64& random, int operations, int keys,
                       std::size_t longest) {
  for (int i = 0; i < operations; ++i) {
    const std::string key = numbered("key", static_cast<int>(random() % static_cast<unsigned>(keys)));
    if (random() % 4 == 0) {
      co_await db.erase(key);
      model.erase(key);
      continue;
    }
    const std::size_t bytes = random() % 5 == 0 ? random() % longest : random() % 200;
    const std::string value = numbered("value", i) + std::string(bytes, static_cast<char>('a' + i % 26));
    co_await db.put(key, value);
    model[key] = value;
    if (random() % 1000 == 0) co_await db.flush();
  }
}

monterey::Task<> expect_compacts(Partition& db, const Model& model, std::size_t longest = 8'000) {
  CompactReport report;
  int calls = 0;
  do {
    report = co_await db.compact();
    ++calls;
  } while (!report.finished && calls < 10);
  EXPECT_TRUE(report.finished);
  const Stats stats = db.stats();
  EXPECT_LE(stats.device_blocks, most_blocks(stats, longest)) << "reachable: " << reachable_blocks(stats);
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  const CompactReport again = co_await db.compact();
  EXPECT_TRUE(again.finished);
  EXPECT_LE(again.bytes_freed, (stats.device_blocks / 10 + 16) * kPageBytes);
}

TEST(Compact, MakesAStoreAsSmallAsWhatItHolds) {
  for (const WalMode mode : {WalMode::none, WalMode::batched}) {
    for (const std::size_t longest : {1000u, 20'000u, 200'000u}) {
      SCOPED_TRACE(fmt::format("mode {}, values of up to {} bytes", static_cast<int>(mode), longest));
      auto disk = std::make_shared<MemDisk>();
      on_core(kArena, [&]() -> monterey::Task<> {
        std::mt19937_64 random(7 + longest);
        Model model;
        auto db = co_await Partition::create(device_on(disk), config_of(mode));
        const int keys = longest > 100'000 ? 1'000 : 10'000;
        co_await churn(db, model, random, 4 * keys, keys, longest);
        co_await expect_compacts(db, model, longest);
        for (int i = 0; i < keys; ++i) {
          if (i % 10 == 0) continue;
          co_await db.erase(numbered("key", i));
          model.erase(numbered("key", i));
        }
        co_await expect_compacts(db, model, longest);
        co_await churn(db, model, random, keys, keys, longest);
        co_await db.flush();
        co_await expect_holds(db, model);
        co_await expect_clean(db);
        co_await db.close();
        auto again = co_await Partition::open(device_on(disk), config_of(mode));
        co_await expect_holds(again, model);
        co_await expect_compacts(again, model, longest);
        co_await again.close();
      });
    }
  }
}

// A store with something for every step of a compaction to do.
monterey::Task<> make_sparse(DiskPtr disk, Model& model, WalMode mode = WalMode::none) {
  std::mt19937_64 random(11);
  auto db = co_await Partition::create(device_on(disk), config_of(mode));
  co_await churn(db, model, random, 12'000, 3'000, 8'000);
  for (int i = 0; i < 3'000; ++i) {
    if (i % 3 == 0) continue;
    co_await db.erase(numbered("key", i));
    model.erase(numbered("key", i));
  }
  co_await db.close();
}

// Each operation on the device that writes is in turn the last one: what it left is opened, is whole, and is compacted on.
TEST(Compact, GoesOnAfterACrashAtEachOfItsWrites) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto base = std::make_shared<MemDisk>();
    Model model;
    co_await make_sparse(base, model);
    std::uint64_t crashes = 0;
    for (std::uint64_t last = 0;; last = last * 5 / 4 + 1) {
      const DiskPtr disk = base->copy();
      std::uint64_t seen = 0;
      DiskPtr left;
      {
        auto db = co_await Partition::open(device_on(disk), config_of(WalMode::none));
        disk->on_operation = [&](const test::Operation& operation) -> std::optional<Error> {
          if (operation.op != DeviceOp::read && seen++ == last) left = disk->copy();
          return std::nullopt;
        };
        const CompactReport report = co_await db.compact();
        EXPECT_TRUE(report.finished);
        disk->on_operation = nullptr;
      }
      if (!left) break;
      ++crashes;
      auto again = co_await Partition::open(device_on(left), config_of(WalMode::none));
      co_await expect_clean(again);
      co_await expect_compacts(again, model);
      co_await again.close();
      if (testing::Test::HasFailure()) co_return;
    }
    EXPECT_GT(crashes, 10u);
  });
}

// The handle is dropped behind each commit; the next opening goes on, until nothing is left to do.
TEST(Compact, GoesOnAfterEachOfItsCommits) {
  for (const WalMode mode : {WalMode::none, WalMode::per_op}) {
    on_core(kArena, [&]() -> monterey::Task<> {
      auto disk = std::make_shared<MemDisk>();
      Model model;
      co_await make_sparse(disk, model, mode);
      const std::uint64_t before = disk->size_blocks();
      bool finished = false;
      int commits = 0;
      for (; !finished && commits < 1'000; ++commits) {
        auto db = co_await Partition::open(device_on(disk), config_of(mode));
        const std::uint64_t size = disk->size_blocks();
        const CompactReport report = co_await db.compact({.max_bytes_moved = 64u << 10});
        finished = report.finished;
        EXPECT_LE(report.bytes_moved, 512u << 10) << "bounded, but for the pages above";
        EXPECT_LE(disk->size_blocks(), size + 64);
        co_await expect_clean(db);
      }
      EXPECT_TRUE(finished);
      EXPECT_GT(commits, 3);
      EXPECT_LT(disk->size_blocks(), before / 2);
      auto db = co_await Partition::open(device_on(disk), config_of(mode));
      co_await expect_compacts(db, model);
      co_await db.close();
    });
  }
}

TEST(Compact, GoesOnWhereTheLastCallStopped) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_sparse(disk, model);
    auto whole = co_await Partition::open(device_on(disk->copy()), config_of(WalMode::none));
    const CompactReport at_once = co_await whole.compact();
    auto db = co_await Partition::open(device_on(disk), config_of(WalMode::none));
    CompactReport report;
    std::uint64_t moved = 0;
    std::uint64_t freed = 0;
    int calls = 0;
    do {
      report = co_await db.compact({.max_bytes_moved = 40'000});
      moved += report.bytes_moved;
      freed += report.bytes_freed;
      ++calls;
    } while (!report.finished && calls < 1'000);
    EXPECT_TRUE(report.finished);
    EXPECT_GT(calls, 5);
    EXPECT_LE(moved, 2 * at_once.bytes_moved) << "nothing is done twice";
    EXPECT_GE(freed + (64u << 10), at_once.bytes_freed);
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
    co_await whole.close();
  });
}

// What a scan may still read stays, the file does not grow for the attempt, and the report says that there is more to do.
TEST(Compact, LeavesWhatAScanHoldsUntilItIsGone) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_sparse(disk, model);
    auto db = co_await Partition::open(device_on(disk), config_of(WalMode::none));
    const std::uint64_t size = disk->size_blocks();
    {
      auto scan = co_await db.scan("");
      co_await scan.advance();
      const CompactReport held = co_await db.compact();
      EXPECT_FALSE(held.finished);
      EXPECT_LE(disk->size_blocks(), size);
      co_await expect_clean(db);
      std::size_t entries = 1;
      while (co_await scan.advance()) ++entries;
      EXPECT_EQ(entries, model.size());
    }
    EXPECT_EQ(db.stats().held_blocks, 0u);
    co_await expect_compacts(db, model);
    EXPECT_LT(disk->size_blocks(), size / 2);
    co_await db.close();
  });
}

// Writers, readers and flushes go on meanwhile; each operation may suspend.
TEST(Compact, RunsBesideReadersAndWriters) {
  for (const WalMode mode : {WalMode::none, WalMode::batched, WalMode::per_op}) {
    SCOPED_TRACE(fmt::format("mode {}", static_cast<int>(mode)));
    on_core(kArena, [&]() -> monterey::Task<> {
      auto disk = std::make_shared<MemDisk>();
      Model model;
      co_await make_sparse(disk, model, mode);
      disk->complete(MemDisk::Completion::yield);
      auto db = co_await Partition::open(device_on(disk), config_of(mode));
      bool done = false;
      const auto write = [](Partition* store, Model* expected, bool* stop) -> monterey::Task<> {
        std::mt19937_64 random(5);
        while (!*stop) {
          co_await churn(*store, *expected, random, 50, 3'000, 4'000);
          if (random() % 8 == 0) co_await store->flush();
          co_await monterey::yield();
        }
      };
      const auto read = [](Partition* store, const Model* expected, bool* stop) -> monterey::Task<> {
        std::mt19937_64 random(6);
        std::size_t wrong = 0;
        while (!*stop) {
          const std::string key = numbered("key", static_cast<int>(random() % 3'000));
          const std::optional<std::string> found = co_await store->get(key);
          const auto now = expected->find(key);
          wrong += found.has_value() && now != expected->end() && found->empty();
          co_await monterey::yield();
        }
        EXPECT_EQ(wrong, 0u);
      };
      auto writer = monterey::spawn(write(&db, &model, &done));
      auto reader = monterey::spawn(read(&db, &model, &done));
      for (int i = 0; i < 5; ++i) {
        co_await db.compact();
        co_await expect_clean(db);
      }
      done = true;
      co_await writer;
      co_await reader;
      co_await expect_compacts(db, model);
      co_await db.close();
      disk->complete(MemDisk::Completion::at_once);
      auto again = co_await Partition::open(device_on(disk), config_of(mode));
      co_await expect_holds(again, model);
      co_await again.close();
    });
  }
}

// The log, two fifths of this store, comes to lie behind whatever the flushes have left: also where the gaps before it are short.
TEST(Compact, TakesALogOutOfTheTailThatFindsOnlyShortGaps) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_sparse(disk, model, WalMode::per_op);
    auto db = co_await Partition::open(device_on(disk), config_of(WalMode::per_op));
    std::mt19937_64 random(21);
    for (int round = 0; round < 30; ++round) {
      SCOPED_TRACE(fmt::format("round {}", round));
      co_await churn(db, model, random, 400, 3'000, 4'000);
      co_await expect_compacts(db, model);
    }
    co_await db.close();
    auto again = co_await Partition::open(device_on(disk), config_of(WalMode::per_op));
    co_await expect_holds(again, model);
    co_await again.close();
  });
}

TEST(Compact, OfAnEmptyStoreDoesNothing) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    auto db = co_await Partition::create(device_on(disk), config_of(WalMode::none));
    EXPECT_LE(db.stats().device_blocks, (64u << 10) / kPageBytes);
    const CompactReport report = co_await db.compact();
    EXPECT_TRUE(report.finished);
    EXPECT_EQ(report.bytes_moved, 0u);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// 100,000 keys overwritten at random: old and new state lie side by side, and a third with a scan that holds one; not what the
// flushes might have needed had the keys been new. `bench_space` has the same for 200 flushes of a file.
TEST(Space, OfOverwritesIsThatOfTwoStates) {
  on_core(kArena, [&]() -> monterey::Task<> {
    constexpr unsigned kKeys = 100'000;
    auto disk = std::make_shared<MemDisk>();
    PartitionConfig config = config_of(WalMode::none);
    config.write_buffer_bytes = 8u << 20;
    auto db = co_await Partition::create(device_on(disk), config);
    std::mt19937_64 random(13);
    const auto key_of = [](std::uint64_t i) { return fmt::format("{:016x}", i * 0x9E3779B97F4A7C15u); };
    for (unsigned i = 0; i < kKeys; ++i) co_await db.put(key_of(i), std::string(100, 'v'));
    co_await db.flush();
    const auto overwrite = [&](Partition& store, double& worst) -> monterey::Task<> {
      worst = 0;
      for (int flush = 0; flush < 8; ++flush) {
        for (int i = 0; i < 40'000; ++i) {
          const std::string key = key_of(random() % kKeys);
          co_await store.put(key, std::string(100, static_cast<char>('a' + flush)));
        }
        co_await store.flush();
        const double blocks = static_cast<double>(disk->size_blocks());
        worst = std::max(worst, blocks / static_cast<double>(reachable_blocks(store.stats())));
      }
    };
    double alone = 0;
    co_await overwrite(db, alone);
    EXPECT_LT(alone, 2.2);
    {
      auto scan = co_await db.scan("");
      co_await scan.advance();
      double held = 0;
      co_await overwrite(db, held);
      EXPECT_LT(held, 3.3);
      EXPECT_GT(held, 2.5);
    }
    const CompactReport report = co_await db.compact();
    EXPECT_TRUE(report.finished);
    EXPECT_LT(static_cast<double>(disk->size_blocks()), 1.15 * static_cast<double>(reachable_blocks(db.stats())));
    co_await expect_clean(db);
    co_await db.close();
  });
}

// The `number`th write, sync, grow or shrink of a compaction fails: it says so, nothing is lost, and it can be tried again, at the
// latest when the store is opened again.
TEST(Compact, EachOfItsOperationsMayFail) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto base = std::make_shared<MemDisk>();
    Model model;
    co_await make_sparse(base, model);
    for (const DeviceOp op : {DeviceOp::read, DeviceOp::write, DeviceOp::sync, DeviceOp::shrink}) {
      bool reached = true;
      for (std::uint64_t number = 0; reached; number = number * 3 / 2 + 1) {
        SCOPED_TRACE(fmt::format("operation {} of kind {}", number, static_cast<int>(op)));
        const DiskPtr disk = base->copy();
        auto db = co_await Partition::open(device_on(disk), config_of(WalMode::none));
        std::uint64_t seen = 0;
        reached = false;
        disk->on_operation = [&, op, number](const test::Operation& operation) -> std::optional<Error> {
          if (operation.op != op || seen++ != number) return std::nullopt;
          reached = true;
          return Error::from_errno(EIO, "memory: it failed");
        };
        std::exception_ptr error;
        try {
          co_await db.compact();
        } catch (const Error&) {
          error = std::current_exception();
        }
        disk->on_operation = nullptr;
        EXPECT_EQ(error != nullptr, reached);
        co_await expect_holds(db, model);
        if (db.stats().poisoned.empty()) {
          EXPECT_FALSE(reached && op == DeviceOp::sync);
          co_await expect_compacts(db, model);
          co_await db.close();
        }
        auto again = co_await Partition::open(device_on(disk), config_of(WalMode::none));
        co_await expect_clean(again);
        co_await expect_compacts(again, model);
        co_await again.close();
        if (testing::Test::HasFailure()) co_return;
      }
    }
  });
}

}  // namespace
}  // namespace store
