// Batches across shards: all or nothing, conditional or not, also when the power goes at any step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <monterey/monterey.hpp>
#include <store/error.hpp>

#include "sharded_support.hpp"

namespace store {
namespace {

using monterey::Task;
using test::contents_of;
using test::error_of;
using test::MemShards;
using test::Model;
using test::numbered;
using test::on_cores;
using test::small_options;
using testing::HasSubstr;

constexpr unsigned kCores = 2;
constexpr int kAccounts = 8;

template <class Body>
void run(unsigned cores, const ShardedOptions& options, Body body) {
  on_cores(cores, options.buffer_config(cores), std::move(body));
}

WriteBatch batch_of(int first, int count, const std::string& value) {
  WriteBatch batch;
  for (int i = first; i < first + count; ++i) batch.put(numbered(i), value);
  return batch;
}

TEST(ShardedBatch, IsAppliedWhole) {
  for (const WalMode mode : {WalMode::batched, WalMode::per_op}) {
    const ShardedOptions options = small_options(5, mode);
    auto disks = std::make_shared<MemShards>(5);
    run(kCores, options, [&]() -> Task<> {
      Model model;
      {
        auto db = co_await ShardedStore::create(disks, options);
        co_await db.write(batch_of(0, 40, "first"));
        for (int i = 0; i < 40; ++i) model[numbered(i)] = "first";
        auto there = [db]() mutable -> Task<> {
          WriteBatch batch = batch_of(10, 10, std::string(100'000, 'x'));
          batch.erase(numbered(3));
          batch.erase_range(numbered(30), numbered(35));
          batch.put(numbered(31), "again");
          co_await db.write(std::move(batch));
        };
        co_await monterey::call_on(1, there);
        for (int i = 10; i < 20; ++i) model[numbered(i)] = std::string(100'000, 'x');
        model.erase(numbered(3));
        for (int i = 30; i < 35; ++i) model.erase(numbered(i));
        model[numbered(31)] = "again";
        EXPECT_EQ(co_await contents_of(db), model);
        co_await db.erase_range(numbered(36));
        for (int i = 36; i < 40; ++i) model.erase(numbered(i));
        EXPECT_EQ(co_await contents_of(db), model);
        co_await db.close();
      }
      auto db = co_await ShardedStore::open(disks, options);
      EXPECT_EQ(co_await contents_of(db), model);
      const auto stats = co_await db.stats();
      for (const ShardStats& shard : stats.shards) {
        EXPECT_EQ(shard.stats->buffered_entries, 0u) << "nothing of the store's own was left";
      }
      co_await db.close();
    });
  }
}

TEST(ShardedBatch, NeedsALogForSeveralShards) {
  const ShardedOptions options = small_options(3, WalMode::none);
  run(kCores, options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(3), options);
    std::string what;
    EXPECT_EQ(co_await error_of(db.write(batch_of(0, 10, "v")), &what), Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("needs a log"));
    EXPECT_TRUE((co_await contents_of(db)).empty());
    co_await db.write(batch_of(0, 1, "v"));
    co_await db.write(WriteBatch());
    co_await db.erase_range("");
    EXPECT_TRUE((co_await contents_of(db)).empty());
    co_await db.close();
  });
}

TEST(ShardedBatch, AConflictInAnyShardChangesNothing) {
  const ShardedOptions options = small_options(4);
  run(kCores, options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(4), options);
    co_await db.write(batch_of(0, 20, "old"));
    const Model before = co_await contents_of(db);
    for (int i = 0; i < 20; ++i) {
      WriteBatch batch = batch_of(0, 20, "new");
      for (int other = 0; other < 20; ++other) batch.expect(numbered(other), other == i ? "else" : "old");
      EXPECT_EQ(co_await error_of(db.write(std::move(batch))), Errc::conflict);
      EXPECT_EQ(co_await contents_of(db), before);
    }
    WriteBatch batch = batch_of(0, 20, "new");
    batch.expect(numbered(5), "old");
    batch.expect(numbered(25), std::nullopt);
    co_await db.write(std::move(batch));
    const auto value = co_await db.get(numbered(7));
    EXPECT_EQ(value, "new");
    co_await db.close();
  });
}

// Accounts on all shards; transfers by batches with expectations, from all cores at once. The sum stays, in every snapshot.
TEST(ShardedBatch, ExpectationsHoldUntilItIsApplied) {
  const ShardedOptions options = small_options(4, WalMode::batched);
  run(kCores, options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(4), options);
    co_await db.write(batch_of(0, kAccounts, "1000"));
    int conflicts = 0;
    bool done = false;
    std::vector<Task<>> tasks;
    for (int task = 0; task < 4; ++task) {
      auto transfer = [db, task, &conflicts]() mutable -> Task<> {
        for (int i = 0; i < 60; ++i) {
          const int amount = 1 + i % 9;
          const std::string from = numbered((task + i) % kAccounts);
          const std::string to = numbered((task + 3 * i + 1) % kAccounts);
          if (from == to) continue;
          const std::string has_from = (co_await db.get(from)).value();
          const std::string has_to = (co_await db.get(to)).value();
          WriteBatch batch;
          batch.expect(from, has_from);
          batch.expect(to, has_to);
          batch.put(from, std::to_string(std::stoi(has_from) - amount));
          batch.put(to, std::to_string(std::stoi(has_to) + amount));
          try {
            co_await db.write(std::move(batch));
          } catch (const Error& error) {
            if (error.errc() != Errc::conflict) throw;
            if (task % 2 == 0) ++conflicts;  // of core 0 alone
          }
        }
      };
      tasks.push_back(monterey::call_on(static_cast<unsigned>(task % 2), std::move(transfer)));
    }
    auto sums = [db, &done]() -> Task<> {
      while (!done) {
        int sum = 0;
        const Model accounts = co_await contents_of(db);
        for (const auto& [key, value] : accounts) sum += std::stoi(value);
        EXPECT_EQ(sum, kAccounts * 1000);
      }
    };
    auto summing = monterey::spawn(sums());
    co_await monterey::when_all(std::move(tasks));
    done = true;
    co_await summing;
    co_await db.close();
  });
}

// Conditional in one shard and not in the other, the other way round: none waits for one that waits for it.
TEST(ShardedBatch, ConditionalOnesDoNotWaitInACircle) {
  const ShardedOptions options = small_options(2);
  run(kCores, options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(2), options);
    const auto [first, second] = test::keys_of_two_shards(db, "key");
    std::vector<Task<>> tasks;
    for (int task = 0; task < 6; ++task) {
      auto write = [db, expected = task % 2 == 0 ? first : second, a = first, b = second, task]() mutable -> Task<> {
        for (int i = 0; i < 50; ++i) {
          const std::string value = fmt::format("{}-{}", task, i);
          WriteBatch batch;
          batch.expect(expected, "never");
          if (i % 2 == 0) batch.clear();
          batch.put(a, value);
          batch.put(b, value);
          try {
            co_await db.write(std::move(batch));
          } catch (const Error& error) {
            if (error.errc() != Errc::conflict) throw;
          }
        }
      };
      tasks.push_back(monterey::call_on(static_cast<unsigned>(task) % kCores, std::move(write)));
    }
    co_await monterey::when_all(std::move(tasks));
    // All batches wrote both alike, and one of them was the last.
    const auto one = co_await db.get(first);
    const auto other = co_await db.get(second);
    EXPECT_EQ(one, other);
    co_await db.close();
  });
}

// The shard that decides fails as it does so: whoever has a part serves nothing until the store is reopened, which finishes it.
TEST(ShardedBatch, OfAnUnknownOutcomeBlocksItsShards) {
  const ShardedOptions options = small_options(3);
  auto disks = std::make_shared<MemShards>(3);
  run(1, options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, options);
    co_await db.write(batch_of(0, 30, "old"));
    std::vector<std::string> keys(3);
    for (int i = 0; i < 30; ++i) keys[db.shard_of(numbered(i))] = numbered(i);
    // The prepared part of shard 1 is durable first.
    disks->disks[0]->inject({.op = test::DeviceOp::write, .times = 1'000});
    WriteBatch batch;
    batch.put(keys[0], "new");
    batch.put(keys[1], "new");
    std::string what;
    EXPECT_EQ(co_await error_of(db.write(std::move(batch)), &what), Errc::poisoned);
    EXPECT_THAT(what, HasSubstr("unknown"));
    for (const int shard : {0, 1}) {
      auto get = [&]() -> Task<> { static_cast<void>(co_await db.get(keys[static_cast<std::size_t>(shard)])); };
      EXPECT_EQ(co_await error_of(get(), &what), Errc::poisoned);
      EXPECT_THAT(what, HasSubstr(fmt::format("disk{}", shard)));
    }
    const auto other = co_await db.get(keys[2]);
    EXPECT_EQ(other, "old") << "a shard without a part goes on";
    disks->disks[0]->clear_faults();
    EXPECT_EQ(co_await error_of(db.close()), Errc::poisoned);
    auto again = co_await ShardedStore::open(disks, options);
    const auto first = co_await again.get(keys[0]);
    const auto second = co_await again.get(keys[1]);
    EXPECT_EQ(first, second);
    co_await again.close();
  });
}

// A part that is prepared keeps the space that applying it takes; if it cannot, nothing of the batch is written.
TEST(ShardedBatch, FindsItsSpaceBeforeItIsDecided) {
  const ShardedOptions options = small_options(2);
  auto disks = std::make_shared<MemShards>(2, 1'000);
  run(1, options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, options);
    const auto [first, second] = test::keys_of_two_shards(db, "key");
    int written = 0;
    bool full = false;
    for (int i = 0; i < 200 && !full; ++i) {
      WriteBatch batch;
      batch.put(fmt::format("{}-{}", first, i), "small");
      batch.put(first, std::to_string(i));
      batch.put(second, std::to_string(i));
      for (int n = 0; n < 4; ++n) {
        std::string key = fmt::format("fill{}-{}", i, n);
        while (db.shard_of(key) != 1) key += "x";
        batch.put(key, std::string(60'000, 'x'));
      }
      try {
        co_await db.write(std::move(batch));
        written = i;
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::no_space) << error.what();
        full = true;
      }
    }
    EXPECT_TRUE(full);
    for (const std::string& key : {first, second}) {
      const auto value = co_await db.get(key);
      EXPECT_EQ(value, std::to_string(written));
    }
    co_await db.close();
    auto again = co_await ShardedStore::open(disks, options);
    for (const std::string& key : {first, second}) {
      const auto value = co_await again.get(key);
      EXPECT_EQ(value, std::to_string(written));
    }
    co_await again.close();
  });
}

// What is still done in the background keeps what it needs.
TEST(ShardedBatch, TheStoreMayBeDroppedRightBehindOne) {
  for (int round = 0; round < 20; ++round) {
    const ShardedOptions options = small_options(4, WalMode::batched);
    run(kCores, options, [&]() -> Task<> {
      auto db = co_await ShardedStore::create(std::make_shared<MemShards>(4), options);
      co_await db.write(batch_of(0, 20, "v"));
      if (round % 2 == 0) co_await db.close();
    });
  }
}

// One core, so that the disks can be copied at every operation of any of them.
TEST(ShardedBatch, IsWholeOrAbsentWhereverItIsCutOff) {
  for (const WalMode mode : {WalMode::batched, WalMode::per_op}) {
    const ShardedOptions options = small_options(3, mode);
    std::vector<std::shared_ptr<MemShards>> images;
    auto disks = std::make_shared<MemShards>(3);
    run(1, options, [&]() -> Task<> {
      auto db = co_await ShardedStore::create(disks, options);
      for (const auto& disk : disks->disks) {
        disk->on_operation = [&](const test::Operation&) -> std::optional<Error> {
          images.push_back(disks->copy());
          return std::nullopt;
        };
      }
      for (int i = 0; i < 6; ++i) {
        const std::string value = std::to_string(i);
        co_await db.write(batch_of(0, 12, value));
      }
      for (const auto& disk : disks->disks) disk->on_operation = {};
      co_await db.close();
    });
    EXPECT_GT(images.size(), 40u);
    for (std::size_t i = 0; i < images.size(); ++i) {
      run(1, options, [&]() -> Task<> {
        auto db = co_await ShardedStore::open(images[i], options);
        const Model found = co_await contents_of(db);
        EXPECT_TRUE(found.empty() || found.size() == 12) << "image " << i;
        for (const auto& [key, value] : found) EXPECT_EQ(value, found.begin()->second) << "image " << i << ", " << key;
        co_await db.close();
      });
    }
  }
}

}  // namespace
}  // namespace store
