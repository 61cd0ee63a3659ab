// Scans over all shards: the order of the keys, whichever shard and core they are of.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include <monterey/monterey.hpp>
#include <store/error.hpp>

#include "sharded_support.hpp"

namespace store {
namespace {

using monterey::Task;
using test::error_of;
using test::MemShards;
using test::Model;
using test::numbered;
using test::on_cores;
using test::small_options;

constexpr unsigned kCores = 2;
constexpr int kKeys = 3'000;

std::string value_of(int number) {
  const std::size_t bytes = number % 100 == 0 ? 5'000 : static_cast<std::size_t>(number) % 50;
  return std::string(bytes, static_cast<char>('a' + number % 26));
}

// A store of kKeys keys, half of them flushed; `body(store)` runs on each core in turn.
template <class Body>
void with_store(unsigned shards, Body body) {
  const ShardedOptions options = small_options(shards, WalMode::none);
  on_cores(kCores, options.buffer_config(kCores), [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(shards), options);
    for (int i = 0; i < kKeys; ++i) {
      const std::string key = numbered(i * 7 % kKeys);
      const std::string value = value_of(i * 7 % kKeys);
      co_await db.put(key, value);
      if (i == kKeys / 2) co_await db.flush();
    }
    for (unsigned core = 0; core < kCores; ++core) {
      auto there = [&]() -> Task<> { co_await body(db); };
      co_await monterey::call_on(core, there);
    }
    co_await db.close();
  });
}

Task<> expect_run(ShardedScan* scan, int first, int step, int count) {
  for (int i = 0; i < count; ++i) {
    const bool there = co_await scan->advance();
    EXPECT_TRUE(there) << i;
    if (!there) co_return;
    EXPECT_EQ(scan->key(), numbered(first + i * step));
    EXPECT_EQ(scan->value(), value_of(first + i * step));
  }
  const bool there = co_await scan->advance();
  EXPECT_FALSE(there);
}

TEST(ShardedScan, GoesInTheOrderOfKeysBothWays) {
  for (const unsigned shards : {1u, 2u, 5u}) {
    with_store(shards, [](ShardedStore db) -> Task<> {
      auto all = co_await db.scan("");
      co_await expect_run(&all, 0, 1, kKeys);
      auto back = co_await db.scan("", std::nullopt, ScanOptions{.reverse = true});
      co_await expect_run(&back, kKeys - 1, -1, kKeys);
      auto part = co_await db.scan(numbered(100), numbered(250));
      co_await expect_run(&part, 100, 1, 150);
      auto part_back = co_await db.scan(numbered(100), numbered(250), ScanOptions{.reverse = true});
      co_await expect_run(&part_back, 249, -1, 150);
      auto prefix = co_await db.scan_prefix("key0001");
      co_await expect_run(&prefix, 100, 1, 100);
      auto few = co_await db.scan(numbered(10), std::nullopt, ScanOptions{.limit = 7});
      co_await expect_run(&few, 10, 1, 7);
      auto none = co_await db.scan("z");
      co_await expect_run(&none, 0, 1, 0);
      auto reversed = co_await db.scan("z", "a");
      co_await expect_run(&reversed, 0, 1, 0);
    });
  }
}

TEST(ShardedScan, SeeksForwardAndBack) {
  with_store(3, [](ShardedStore db) -> Task<> {
    auto scan = co_await db.scan("", numbered(2'000), ScanOptions{.limit = 100});
    for (const int target : {1'500, 10, 1'500, 1'999}) {
      co_await scan.seek(numbered(target));
      for (int i = target; i < std::min(target + 20, 2'000); ++i) {
        const bool there = co_await scan.advance();
        EXPECT_TRUE(there && scan.key() == numbered(i)) << i;
      }
    }
    co_await scan.seek(numbered(2'500));
    const bool there = co_await scan.advance();
    EXPECT_FALSE(there);
  });
}

// What is written after its start is not of it, nor what is erased.
TEST(ShardedScan, IsAsOfItsStart) {
  const ShardedOptions options = small_options(3, WalMode::none);
  on_cores(kCores, options.buffer_config(kCores), [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(3), options);
    for (int i = 0; i < 500; ++i) {
      const std::string key = numbered(i);
      const std::string value = value_of(i);
      co_await db.put(key, value);
    }
    auto scan = co_await db.scan("");
    auto snapshot = co_await db.snapshot();
    for (int i = 0; i < 600; ++i) {
      const std::string key = numbered(i);
      if (i % 3 == 0) {
        co_await db.erase(key);
      } else {
        co_await db.put(key, "new");
      }
      if (i % 200 == 0) co_await db.flush();
    }
    co_await expect_run(&scan, 0, 1, 500);
    auto again = co_await snapshot.scan("");
    co_await expect_run(&again, 0, 1, 500);
    const auto old = co_await snapshot.get(numbered(1));
    EXPECT_EQ(old, value_of(1));
    const std::vector<std::string> keys{numbered(0), numbered(1), numbered(599)};
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto values = co_await snapshot.get_many(views);
    EXPECT_TRUE(values[0] && values[0]->view() == value_of(0));
    EXPECT_TRUE(values[1] && values[1]->view() == value_of(1));
    EXPECT_FALSE(values[2].has_value());
    co_await db.close();
  });
}

// Scans that are dropped in the midst of a piece, on either core, leave nothing behind.
TEST(ShardedScan, MayBeDroppedAnywhere) {
  with_store(4, [](ShardedStore db) -> Task<> {
    for (int i = 0; i < 100; ++i) {
      auto scan = co_await db.scan(numbered(i));
      for (int entry = 0; entry < i; ++entry) co_await scan.advance();
    }
  });
}

}  // namespace
}  // namespace store
