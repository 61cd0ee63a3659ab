// Bulk loads of all shards: everything or nothing, also through a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "sharded_support.hpp"

namespace store {
namespace {

using monterey::Task;
using test::contents_of;
using test::DeviceOp;
using test::discard;
using test::error_of;
using test::MemShards;
using test::Model;
using test::numbered;
using test::on_cores;
using test::small_options;
using testing::HasSubstr;

constexpr unsigned kCores = 2;
constexpr unsigned kShards = 3;

template <class Body>
void run(Body body) {
  on_cores(kCores, small_options(kShards).buffer_config(kCores), std::move(body));
}

// So many entries, and what is called before each.
class Numbers {
 public:
  explicit Numbers(int count, std::function<void(int)> before = {}) : count_(count), before_(std::move(before)) {}

  bool next(std::string_view& key, std::string_view& value) {
    if (at_ == count_) return false;
    if (before_) before_(at_);
    key_ = numbered(at_);
    value_ = std::string(static_cast<std::size_t>(at_ % 300), 'v') + key_;
    ++at_;
    key = key_;
    value = value_;
    return true;
  }

 private:
  int count_;
  std::function<void(int)> before_;
  int at_ = 0;
  std::string key_;
  std::string value_;
};

Model numbers(int count) {
  Model model;
  Numbers source(count);
  std::string_view key;
  std::string_view value;
  while (source.next(key, value)) model.emplace(key, value);
  return model;
}

TEST(ShardedBulkLoad, LoadsEveryShard) {
  auto disks = std::make_shared<MemShards>(kShards);
  constexpr int kCount = 5000;  // many pieces for each shard
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    Numbers source(kCount);
    const std::uint64_t loaded = co_await db.bulk_load(source);
    EXPECT_EQ(loaded, static_cast<std::uint64_t>(kCount));
    const Model found = co_await contents_of(db);
    EXPECT_EQ(found, numbers(kCount));
    const auto stats = co_await db.stats();
    for (const ShardStats& shard : stats.shards) EXPECT_GT(shard.stats->entries, 1000u) << shard.name;
    co_await db.put("behind", "it");  // the store takes writes again
    co_await db.close();
  });
  // It is durable, without a log too.
  run([&, crashed = disks->copy()]() -> Task<> {
    auto db = co_await ShardedStore::open(crashed, small_options(kShards));
    const Model found = co_await contents_of(db);
    EXPECT_EQ(found.size(), static_cast<std::size_t>(kCount) + 1);
    co_await db.close();
  });
}

TEST(ShardedBulkLoad, WhatIsWrongLeavesTheStoreEmpty) {
  auto disks = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    {
      Numbers source(3000, [](int at) {
        if (at == 2500) throw std::runtime_error("the source breaks");
      });
      bool thrown = false;
      try {
        co_await db.bulk_load(source);
      } catch (const std::runtime_error& error) {
        thrown = true;
        EXPECT_STREQ(error.what(), "the source breaks");
      }
      EXPECT_TRUE(thrown);
    }
    struct Twice {
      bool next(std::string_view& key, std::string_view& value) {
        key = value = "same";
        return ++times < 3;
      }
      int times = 0;
    } twice;
    std::string what;
    EXPECT_EQ(co_await error_of(discard(db.bulk_load(twice)), &what), Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("must ascend"));
    const Model found = co_await contents_of(db);
    EXPECT_TRUE(found.empty());

    co_await db.put("one", "entry");
    Numbers source(10);
    EXPECT_EQ(co_await error_of(discard(db.bulk_load(source)), &what), Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("empty"));
    const auto kept = co_await db.get("one");
    EXPECT_EQ(kept, "entry");
    co_await db.close();
  });
}

TEST(ShardedBulkLoad, AStoreThatTakesNoWritesRefuses) {
  auto disks = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    {
      auto db = co_await ShardedStore::create(disks, small_options(kShards));
      co_await db.close();
    }
    Numbers source(10);
    const OpenOptions read_only{.read_only = true};
    auto reader = co_await ShardedStore::open(disks, small_options(kShards), read_only);
    EXPECT_EQ(co_await error_of(discard(reader.bulk_load(source))), Errc::read_only);
    const auto value = co_await reader.get("a");  // it serves on
    EXPECT_FALSE(value.has_value());
    co_await reader.close();

    // The manifest cannot be written: nothing was begun, and nothing is left of it.
    auto db = co_await ShardedStore::open(disks, small_options(kShards));
    disks->manifest->inject({.op = DeviceOp::sync});
    EXPECT_EQ(co_await error_of(discard(db.bulk_load(source))), Errc::io_error);
    co_await db.put("a", "1");
    const auto crashed = disks->copy();
    co_await db.close();
    auto again = co_await ShardedStore::open(crashed, small_options(kShards));
    const auto kept = co_await again.get("a");
    EXPECT_EQ(kept, "1") << "what was written behind it is not taken for a part of it";
    co_await again.close();
  });
}

// One shard has no room: the others give back what they have committed.
TEST(ShardedBulkLoad, AShardWithoutRoomStopsAll) {
  auto disks = std::make_shared<MemShards>(kShards);
  disks->disks[1]->set_capacity_blocks(200);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards, WalMode::none));
    Numbers source(20'000);
    std::string what;
    EXPECT_EQ(co_await error_of(discard(db.bulk_load(source)), &what), Errc::no_space);
    EXPECT_THAT(what, HasSubstr("disk1"));
    const Model found = co_await contents_of(db);
    EXPECT_TRUE(found.empty());
    disks->disks[1]->set_capacity_blocks(1u << 16);
    Numbers again(20'000);
    const std::uint64_t loaded = co_await db.bulk_load(again);
    EXPECT_EQ(loaded, 20'000u);
    co_await db.close();
  });
}

// Images of the disks after every write of the load: a store that is opened on one is empty or whole.
TEST(ShardedBulkLoad, ACrashLeavesAllOrNothing) {
  constexpr int kCount = 600;
  auto disks = std::make_shared<MemShards>(kShards);
  std::vector<std::shared_ptr<MemShards>> images;
  on_cores(1, small_options(kShards).buffer_config(1), [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    const auto keep = [&](const test::Operation&) -> std::optional<Error> {
      images.push_back(disks->copy());
      return std::nullopt;
    };
    disks->manifest->on_operation = keep;
    for (const auto& disk : disks->disks) disk->on_operation = keep;
    Numbers source(kCount);
    const std::uint64_t loaded = co_await db.bulk_load(source);
    EXPECT_EQ(loaded, static_cast<std::uint64_t>(kCount));
    images.push_back(disks->copy());
    disks->manifest->on_operation = nullptr;
    for (const auto& disk : disks->disks) disk->on_operation = nullptr;
    co_await db.close();
  });
  std::size_t empty = 0;
  std::size_t taken_back = 0;
  for (const auto& image : images) {
    on_cores(1, small_options(kShards).buffer_config(1), [&]() -> Task<> {
      Errc refused{};
      try {
        auto reader = co_await ShardedStore::open(image, small_options(kShards), OpenOptions{.read_only = true});
        co_await reader.close();
      } catch (const Error& error) {
        refused = error.errc();
      }
      taken_back += refused == Errc::read_only;
      auto db = co_await ShardedStore::open(image, small_options(kShards));
      const Model found = co_await contents_of(db);
      EXPECT_TRUE(found.empty() || found == numbers(kCount)) << found.size();
      empty += found.empty();
      co_await db.put("taken", "again");
      co_await db.close();
      auto again = co_await ShardedStore::open(image, small_options(kShards));
      const auto value = co_await again.get("taken");
      EXPECT_EQ(value, "again");
      co_await again.close();
    });
  }
  EXPECT_GT(images.size(), 10u);
  EXPECT_GT(taken_back, 3u);
  EXPECT_LT(empty, images.size());
}

}  // namespace
}  // namespace store
