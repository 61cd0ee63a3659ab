// Opening, closing and the verbs of a sharded store, from every core; what is not as it should be is named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <monterey/monterey.hpp>
#include <store/error.hpp>

#include "sharded_support.hpp"
#include "store/partition/timing.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using monterey::Task;
using test::discard;
using test::error_of;
using test::MemShards;
using test::Model;
using test::numbered;
using test::on_cores;
using test::small_options;
using testing::HasSubstr;

constexpr unsigned kCores = 2;

template <class Body>
void run(const ShardedOptions& options, Body body) {
  on_cores(kCores, options.buffer_config(kCores), std::move(body));
}

Task<> put_all(ShardedStore db, int first, int count, std::string value) {
  for (int i = first; i < first + count; ++i) {
    const std::string key = numbered(i);
    co_await db.put(key, value + key);
  }
}

Task<> expect_all(ShardedStore db, int first, int count, std::string value) {
  for (int i = first; i < first + count; ++i) {
    const std::string key = numbered(i);
    const std::optional<std::string> got = co_await db.get(key);
    EXPECT_EQ(got, value + key);
    const auto pinned = co_await db.get_pinned(key);
    EXPECT_TRUE(pinned && pinned->view() == value + key);
    const bool contains = co_await db.contains(key);
    EXPECT_TRUE(contains);
    std::array<std::byte, 4> into{};
    const std::optional<std::size_t> size = co_await db.get_into(key, into, {.offset = 1});
    EXPECT_EQ(size, value.size() + key.size());
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(into.data()), 4), (value + key).substr(1, 4));
  }
  std::vector<std::string> keys;
  for (int i = first; i < first + count; ++i) {
    keys.push_back(numbered(i));
    keys.push_back("absent" + numbered(i));
  }
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  const auto values = co_await db.get_many(views);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(values[i].has_value(), i % 2 == 0) << keys[i];
    EXPECT_TRUE(!values[i] || values[i]->view() == value + keys[i]) << keys[i];
  }
}

Task<> get_of(ShardedStore db, std::string key) { static_cast<void>(co_await db.get(key)); }

std::uint64_t timed_gets(const ShardedStats& stats) {
  LatencyHistogram all;
  for (const ShardStats& shard : stats.shards) all += shard.stats->get_cached;
  return all.count();
}

TEST(ShardedStore, EachShardTimesItsGetsWhereverTheyComeFrom) {
  const ShardedOptions options = small_options(3, WalMode::none);
  auto disks = std::make_shared<MemShards>(3);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, options);
    constexpr int kKeys = 6;  // some of each shard
    co_await put_all(db, 0, kKeys, "v");
    const auto before = co_await db.stats();
    for (const ShardStats& shard : before.shards) EXPECT_GT(shard.stats->puts, 0u) << shard.name;
    std::array<std::byte, 4> into{};
    for (std::uint32_t round = 0; round < detail::SampledTiming::kOneIn; ++round) {
      for (int i = 0; i < kKeys; ++i) {
        co_await get_of(db, numbered(i));
        static_cast<void>(co_await db.contains(numbered(i)));
        static_cast<void>(co_await db.get_into(numbered(i), into));
      }
    }
    const auto after = co_await db.stats();
    EXPECT_EQ(timed_gets(after) - timed_gets(before), 3u * kKeys);
    co_await db.close();
  });
}

TEST(ShardedStore, TheVerbsWorkFromEveryCore) {
  for (const WalMode mode : {WalMode::none, WalMode::batched, WalMode::per_op}) {
    const ShardedOptions options = small_options(3, mode);
    auto disks = std::make_shared<MemShards>(3);
    run(options, [&]() -> Task<> {
      auto db = co_await ShardedStore::create(disks, options);
      EXPECT_EQ(db.shards(), 3u);
      co_await put_all(db, 0, 100, "zero");
      auto there = [db]() -> Task<> {
        co_await put_all(db, 100, 100, "one");
        co_await expect_all(db, 0, 100, "zero");
      };
      co_await monterey::call_on(1, there);
      co_await expect_all(db, 100, 100, "one");
      const std::string first = numbered(0);
      for (const bool again : {false, true}) {
        const std::string expected = "zero" + first;
        const bool changed = co_await db.compare_and_put(first, expected, "changed");
        EXPECT_EQ(changed, !again);
      }
      co_await db.erase(first);
      const auto gone = co_await db.get(first);
      EXPECT_FALSE(gone.has_value());
      co_await db.sync();
      co_await db.flush();
      const auto checks = co_await db.check();
      EXPECT_EQ(checks.size(), 3u);
      std::uint64_t entries = 0;
      for (const ShardCheck& check : checks) {
        EXPECT_TRUE(check.report.ok) << check.name;
        entries += check.report.entries;
      }
      EXPECT_EQ(entries, 199u);
      const auto stats = co_await db.stats();
      EXPECT_EQ(stats.shards[1].name, "disk1");
      EXPECT_EQ(stats.shards[1].core, 1u);
      EXPECT_EQ(stats.shards[2].core, 0u);
      const RangeEstimate estimate = co_await db.approximate_range("");
      EXPECT_GE(estimate.entries, 199u);
      const CompactReport compact = co_await db.compact();
      EXPECT_TRUE(compact.finished);
      co_await db.close();
      const auto closed = co_await db.stats();
      EXPECT_THAT(closed.shards[2].failure, HasSubstr("closed"));
    });
  }
}

TEST(ShardedStore, LayoutSaysHowAStoreIsMadeUp) {
  ShardedOptions options = small_options(0);
  const std::vector<std::string_view> points{"g", "p"};
  options.router = Router::ranges(points);
  auto disks = std::make_shared<MemShards>(3);
  on_cores(kCores, small_options(3).buffer_config(kCores), [&]() -> Task<> {
    EXPECT_EQ(co_await error_of(discard(ShardedStore::layout(disks))), Errc::not_a_store);
    auto db = co_await ShardedStore::create(disks, options);
    co_await db.close();
    const ShardedLayout layout = co_await ShardedStore::layout(disks);
    EXPECT_EQ(layout.shards, 3u);
    EXPECT_EQ(layout.routing, Router::Kind::ranges);
    EXPECT_THAT(layout.points, testing::ElementsAre("g", "p"));
  });
}

TEST(ShardedStore, IsThereAfterReopening) {
  const ShardedOptions options = small_options(5);
  auto disks = std::make_shared<MemShards>(5);
  run(options, [&]() -> Task<> {
    {
      auto db = co_await ShardedStore::open_or_create(disks, options);
      co_await put_all(db, 0, 300, "v");
      co_await db.close();
    }
    ShardedOptions as_is = options;
    as_is.shards = 0;
    auto db = co_await ShardedStore::open_or_create(disks, as_is);
    EXPECT_EQ(db.shards(), 5u);
    co_await expect_all(db, 0, 300, "v");
    co_await db.close();
    const OpenOptions read_only{.read_only = true};
    auto reader = co_await ShardedStore::open(disks, options, read_only);
    co_await expect_all(reader, 0, 300, "v");
    EXPECT_EQ(co_await error_of(put_all(reader, 0, 1, "x")), Errc::read_only);
    co_await reader.close();
  });
}

// Handles that are dropped on any core leave what a crash would.
TEST(ShardedStore, DroppedRecoversLikeACrash) {
  const ShardedOptions options = small_options(4);
  auto disks = std::make_shared<MemShards>(4);
  run(options, [&]() -> Task<> {
    {
      auto db = co_await ShardedStore::create(disks, options);
      co_await put_all(db, 0, 50, "v");
      auto snapshot = co_await db.snapshot();
      auto scan = co_await db.scan("");
      co_await scan.advance();
    }
    for (unsigned core = 0; core < kCores; ++core) {
      auto all_is_back = []() -> Task<> {
        const monterey::FixedBufs& arena = monterey::FixedBufs::current();
        while (arena.free_bytes() < arena.size_bytes()) co_await monterey::yield();
      };
      co_await monterey::call_on(core, all_is_back);
    }
    auto db = co_await ShardedStore::open(disks, options);
    co_await expect_all(db, 0, 50, "v");
    auto drop_there = [&db]() -> Task<> {
      const ShardedStore last = std::move(db);
      co_await monterey::yield();
    };
    co_await monterey::call_on(1, drop_there);
  });
}

TEST(ShardedStore, LiesInADirectory) {
  const test::TempDir directory;
  const ShardedOptions options = small_options(2);
  const std::string path = directory.file("db");
  run(options, [&]() -> Task<> {
    EXPECT_EQ(co_await error_of(discard(ShardedStore::open(path, options))), Errc::not_found);
    EXPECT_FALSE(std::filesystem::exists(path)) << "a path that was mistyped leaves nothing";
    {
      auto db = co_await ShardedStore::create(path, options);
      co_await put_all(db, 0, 20, "v");
      std::string what;
      EXPECT_EQ(co_await error_of(discard(ShardedStore::open(path, options)), &what), Errc::locked);
      co_await db.close();
    }
    std::string what;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::create(path, options)), &what), Errc::already_exists);
    EXPECT_THAT(what, HasSubstr(path));
    auto db = co_await ShardedStore::open(path, options);
    co_await expect_all(db, 0, 20, "v");
    co_await db.close();
    auto fresh = co_await ShardedStore::create(path, options, CreateOptions{.overwrite = true});
    const Model left = co_await test::contents_of(fresh);
    EXPECT_TRUE(left.empty());
    co_await fresh.close();
    EXPECT_EQ(co_await error_of(discard(ShardedStore::open(path + "/shard-0000", options)), &what),
              Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("not a directory"));
  });
}

Task<std::string> refusal(std::shared_ptr<MemShards> disks, ShardedOptions options, Errc expected) {
  std::string what;
  EXPECT_EQ(co_await error_of(discard(ShardedStore::open(disks, options)), &what), expected) << what;
  co_return what;
}

// A crash while a store is made leaves what can be made anew; what was there before is not touched.
TEST(ShardedStore, MayBeMadeAnewAfterACrash) {
  const ShardedOptions options = small_options(3);
  auto disks = std::make_shared<MemShards>(3);
  std::vector<std::shared_ptr<MemShards>> images;
  const auto run_alone = [&](auto body) { on_cores(1, options.buffer_config(1), body); };
  run_alone([&]() -> Task<> {
    const auto copy = [&](const test::Operation&) -> std::optional<Error> {
      images.push_back(disks->copy());
      return std::nullopt;
    };
    disks->manifest->on_operation = copy;
    for (const auto& disk : disks->disks) disk->on_operation = copy;
    auto db = co_await ShardedStore::create(disks, options);
    disks->manifest->on_operation = {};
    for (const auto& disk : disks->disks) disk->on_operation = {};
    co_await db.close();
  });
  EXPECT_GT(images.size(), 20u);
  for (const auto& image : images) {
    run_alone([&]() -> Task<> {
      auto db = co_await ShardedStore::open_or_create(image, options);
      co_await put_all(db, 0, 10, "v");
      co_await db.close();
    });
  }
  run_alone([&]() -> Task<> {
    auto foreign = std::make_shared<MemShards>(3);
    foreign->disks[2] = disks->disks[2];
    EXPECT_EQ(co_await error_of(discard(ShardedStore::create(foreign, options))), Errc::already_exists);
    EXPECT_EQ(co_await error_of(discard(ShardedStore::create(foreign, options))), Errc::already_exists) << "still";
  });
}

TEST(ShardedStore, ClosesOnce) {
  const ShardedOptions options = small_options(3);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(3), options);
    int closed = 0;
    std::vector<Task<>> tasks;
    for (unsigned core = 0; core < kCores; ++core) {
      auto close = [db, &closed]() mutable -> Task<> {
        bool second = false;
        try {
          co_await db.close();
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::closed);
          second = true;
        }
        auto count = [&closed, second]() -> Task<> {
          closed += second ? 1 : 0;
          co_return;
        };
        co_await monterey::call_on(0, count);
      };
      tasks.push_back(monterey::call_on(core, std::move(close)));
    }
    co_await monterey::when_all(std::move(tasks));
    EXPECT_EQ(closed, 1);
  });
}

TEST(ShardedStore, NamesWhatIsNotAsItWas) {
  const ShardedOptions options = small_options(3);
  auto disks = std::make_shared<MemShards>(3);
  auto others = std::make_shared<MemShards>(3);
  run(options, [&]() -> Task<> {
    EXPECT_THAT(co_await refusal(disks, options, Errc::not_a_store), HasSubstr("create one first"));
    for (const auto& some : {disks, others}) {
      auto db = co_await ShardedStore::create(some, options);
      co_await put_all(db, 0, 50, "v");
      co_await db.close();
    }
    const auto before = disks->copy();
    {
      auto db = co_await ShardedStore::open(disks, options);
      co_await put_all(db, 50, 50, "v");
      co_await db.close();
    }
    ShardedOptions four = options;
    four.shards = 4;
    EXPECT_THAT(co_await refusal(disks->copy(), four, Errc::invalid_argument), HasSubstr("has 3 shards, not 4"));
    EXPECT_THAT(co_await refusal(disks->copy(), four, Errc::invalid_argument), HasSubstr("open it with 3 or with 0"));
    ShardedOptions by_ranges = options;
    const std::array<std::string_view, 2> points{"g", "p"};
    by_ranges.router = Router::ranges(points);
    EXPECT_THAT(co_await refusal(disks->copy(), by_ranges, Errc::invalid_argument), HasSubstr("by their hash"));

    auto missing = disks->copy();
    missing->disks[1] = std::make_shared<test::MemDisk>(test::MemDisk::Options{.name = "disk1"});
    EXPECT_THAT(co_await refusal(missing, options, Errc::corruption), HasSubstr("shard 1 of 3 is missing (disk1"));
    auto exchanged = disks->copy();
    std::swap(exchanged->disks[0], exchanged->disks[2]);
    EXPECT_THAT(co_await refusal(exchanged, options, Errc::corruption),
                HasSubstr("(shard 0 of 3): this is shard 2: two were exchanged"));
    auto foreign = disks->copy();
    foreign->disks[2] = others->disks[2]->copy();
    EXPECT_THAT(co_await refusal(foreign, options, Errc::corruption),
                HasSubstr("disk2 (shard 2 of 3): of another store"));
    auto older = disks->copy();
    older->disks[1] = before->disks[1]->copy();
    EXPECT_THAT(co_await refusal(older, options, Errc::corruption),
                HasSubstr("disk1 (shard 1 of 3): older than the other"));
    auto db = co_await ShardedStore::open(disks, options);
    co_await expect_all(db, 0, 100, "v");
    co_await db.close();
  });
}

TEST(ShardedStore, RoutesByRanges) {
  const std::array<std::string_view, 2> points{"key000100", "key000200"};
  ShardedOptions options = small_options(0);
  options.router = Router::ranges(points);
  ShardedOptions three = options;
  three.shards = 3;
  auto disks = std::make_shared<MemShards>(3);
  run(three, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, options);
    EXPECT_EQ(db.shards(), 3u);
    EXPECT_EQ(db.shard_of(numbered(99)), 0u);
    EXPECT_EQ(db.shard_of(numbered(100)), 1u);
    EXPECT_EQ(db.core_of(numbered(100)), 1u);
    co_await put_all(db, 0, 300, "v");
    co_await db.flush();
    const auto stats = co_await db.stats();
    for (const ShardStats& shard : stats.shards) EXPECT_EQ(shard.stats->entries, 100u) << shard.name;
    co_await db.close();
    auto again = co_await ShardedStore::open(disks, options);
    co_await expect_all(again, 0, 300, "v");
    co_await again.close();
    const std::array<std::string_view, 2> other{"key000100", "key000201"};
    ShardedOptions moved = options;
    moved.router = Router::ranges(other);
    EXPECT_THAT(co_await refusal(disks, moved, Errc::invalid_argument), HasSubstr("2 other split points"));
    const std::array<std::string_view, 2> wrong{"p", "g"};
    moved.router = Router::ranges(wrong);
    std::string what;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::create(std::make_shared<MemShards>(3), moved)), &what),
              Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("points must ascend"));
  });
}

TEST(ShardedStore, RefusesKeysOfItsOwn) {
  const ShardedOptions options = small_options(2);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(2), options);
    const std::string own(70, '\xff');
    auto put = [&]() -> Task<> { co_await db.put(own, "x"); };
    auto get = [&]() -> Task<> {
      co_await discard([](ShardedStore s, std::string k) -> Task<std::optional<std::string>> {
        co_return co_await s.get(k);
      }(db, own));
    };
    EXPECT_EQ(co_await error_of(put()), Errc::invalid_argument);
    EXPECT_EQ(co_await error_of(get()), Errc::invalid_argument);
    WriteBatch batch;
    batch.put(own, "x");
    EXPECT_EQ(co_await error_of(db.write(batch)), Errc::invalid_argument);
    co_await db.close();
  });
}

// One shard fails; the others serve, and it is known which.
TEST(ShardedStore, CreatingOverAStoreThatCannotBeLeavesIt) {
  const ShardedOptions options = small_options(2);
  auto disks = std::make_shared<MemShards>(2);
  run(options, [&]() -> Task<> {
    {
      auto db = co_await ShardedStore::create(disks, options);
      co_await put_all(db, 0, 20, "v");
      co_await db.close();
    }
    const CreateOptions overwrite{.overwrite = true};
    ShardedOptions wrong = options;
    wrong.partition.cache_pages = 1;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::create(disks, wrong, overwrite))), Errc::invalid_argument);
    auto db = co_await ShardedStore::open_or_create(disks, options);
    co_await expect_all(db, 0, 20, "v");
    co_await db.close();
  });
}

// Whichever block of a shard is damaged: what does not keep it from opening leaves the others serving. That it cannot be read whether
// batches are unfinished is its own failure, and the check still says what is damaged.
TEST(ShardedStore, ADamagedShardLeavesTheOthers) {
  const ShardedOptions options = small_options(2, WalMode::none);
  auto disks = std::make_shared<MemShards>(2);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, options);
    co_await put_all(db, 0, 3000, std::string(100, 'v'));
    co_await db.close();
  });
  std::size_t opened = 0;
  std::size_t failing = 0;
  for (std::uint32_t block = 4; block < disks->disks[1]->size_blocks(); ++block) {
    auto damaged = disks->copy();
    std::ranges::fill(damaged->disks[1]->block(PageNo(block)), std::byte{0xee});
    on_cores(1, options.buffer_config(1), [&]() -> Task<> {
      std::optional<ShardedStore> db;
      try {
        db = co_await ShardedStore::open(damaged, options, OpenOptions{.read_only = true});
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("disk1"));
      }
      if (!db) co_return;
      ++opened;
      const auto stats = co_await db->stats();
      EXPECT_EQ(stats.shards[0].failure, "");
      for (int i = 0; i < 3000; i += 100) {
        const std::string key = numbered(i);
        if (db->shard_of(key) == 0) {
          const auto value = co_await db->get(key);
          EXPECT_EQ(value, std::string(100, 'v') + key);
        } else if (!stats.shards[1].failure.empty()) {
          EXPECT_EQ(co_await error_of(get_of(*db, key)), Errc::poisoned);
        }
      }
      const auto checks = co_await db->check();
      EXPECT_TRUE(checks[0].report.ok);
      if (stats.shards[1].failure.empty()) co_return;
      ++failing;
      EXPECT_THAT(stats.shards[1].failure, HasSubstr("disk1: whether batches across shards wait"));
      EXPECT_FALSE(checks[1].report.ok);
    });
  }
  EXPECT_GT(opened, 20u);
  EXPECT_GT(failing, 0u);
}

TEST(ShardedStore, OneFailingShardLeavesTheOthers) {
  const ShardedOptions options = small_options(3);
  auto disks = std::make_shared<MemShards>(3);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, options);
    co_await put_all(db, 0, 60, "v");
    auto break_it = [&]() -> Task<> {
      disks->disks[1]->inject({.op = test::DeviceOp::sync, .times = 1'000});
      co_return;
    };
    co_await monterey::call_on(1, break_it);
    int failed = 0;
    for (int i = 60; i < 120; ++i) {
      const std::string key = numbered(i);
      try {
        co_await db.put(key, "v" + key);
        EXPECT_NE(db.shard_of(key), 1u);
      } catch (const Error& error) {
        ++failed;
        EXPECT_EQ(db.shard_of(key), 1u);
        EXPECT_THAT(error.what(), HasSubstr("disk1"));
      }
    }
    EXPECT_GT(failed, 5);
    co_await expect_all(db, 0, 60, "v");
    const auto stats = co_await db.stats();
    EXPECT_EQ(stats.shards[0].failure, "");
    EXPECT_THAT(stats.shards[1].failure, HasSubstr("injected"));
    EXPECT_EQ(stats.shards[2].failure, "");
    std::string what;
    EXPECT_EQ(co_await error_of(db.close(), &what), Errc::poisoned);
    EXPECT_THAT(what, HasSubstr("disk1"));
    auto mend = [&]() -> Task<> {
      disks->disks[1]->clear_faults();
      co_return;
    };
    co_await monterey::call_on(1, mend);
    auto again = co_await ShardedStore::open(disks, options);
    co_await expect_all(again, 0, 60, "v");
    co_await again.close();
  });
}

// Two counters on two shards, the second one written when the first is acknowledged: no snapshot has the second one ahead.
TEST(ShardedStore, SnapshotsAreConsistent) {
  const ShardedOptions options = small_options(4, WalMode::none);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(4), options);
    bool done = false;
    std::vector<Task<>> writers;
    for (unsigned core = 0; core < kCores; ++core) {
      auto count = [db, core]() mutable -> Task<> {
        const auto [first, second] = test::keys_of_two_shards(db, fmt::format("count{}-", core));
        for (int i = 1; i <= 3'000; ++i) {
          const std::string value = fmt::format("{:08}", i);
          co_await db.put(first, value);
          co_await db.put(second, value);
          if (i % 16 == 0) co_await monterey::yield();
        }
      };
      writers.push_back(monterey::call_on(core, std::move(count)));
    }
    auto looks = [db, &done]() -> Task<> {
      int seen = 0;
      while (!done) {
        auto snapshot = co_await db.snapshot();
        for (unsigned core = 0; core < kCores; ++core) {
          const auto [first, second] = test::keys_of_two_shards(db, fmt::format("count{}-", core));
          const auto ahead = co_await snapshot.get(first);
          const auto behind = co_await snapshot.get(second);
          EXPECT_GE(ahead.value_or(""), behind.value_or("")) << "the second counter is ahead";
        }
        ++seen;
      }
      EXPECT_GT(seen, 10);
    };
    auto looking = monterey::spawn(looks());
    co_await monterey::when_all(std::move(writers));
    done = true;
    co_await looking;
    co_await db.close();
  });
}

TEST(ShardedStore, ClosedIsClosedEverywhere) {
  const ShardedOptions options = small_options(3);
  run(options, [&]() -> Task<> {
    auto db = co_await ShardedStore::create(std::make_shared<MemShards>(3), options);
    co_await put_all(db, 0, 30, "v");
    auto snapshot = co_await db.snapshot();
    auto scan = co_await db.scan("");
    co_await scan.advance();
    co_await db.close();
    for (unsigned core = 0; core < kCores; ++core) {
      auto try_all = [db]() -> Task<> {
        EXPECT_EQ(co_await error_of(put_all(db, 0, 1, "x")), Errc::closed);
        EXPECT_EQ(co_await error_of(discard(test::contents_of(db))), Errc::closed);
        EXPECT_EQ(co_await error_of(ShardedStore(db).close()), Errc::closed);
      };
      co_await monterey::call_on(core, try_all);
    }
    auto read = [&]() -> Task<> { static_cast<void>(co_await snapshot.get("key000001")); };
    EXPECT_EQ(co_await error_of(read()), Errc::closed);
    auto walk = [&]() -> Task<> {
      while (co_await scan.advance()) {
      }
    };
    EXPECT_EQ(co_await error_of(walk()), Errc::closed);
  });
}

}  // namespace
}  // namespace store
