// A partition with a log: what is promised in each mode after a crash (a dropped handle), how the log grows, comes back and is
// replayed, and what a failure of it does.
#include <gtest/gtest.h>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "log_support.hpp"

namespace store {
namespace {

using namespace test;

TEST(PartitionLog, PerOpWritesSurviveACrashWithoutAFlush) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config());
      co_await db.put("a", "1");
      co_await db.put("b", std::string(5'000, 'b'));
      co_await db.put("c", std::string(200'000, 'c'));
      co_await db.put("d", "4");
      co_await db.erase("d");
      WriteBatch batch;
      batch.put("e", "5");
      batch.erase("a");
      co_await db.write(std::move(batch));
      const bool done = co_await db.compare_and_put("f", std::nullopt, "6");
      EXPECT_TRUE(done);
      EXPECT_EQ(db.stats().flushes, 0u);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    EXPECT_EQ(db.stats().replayed_records, 7u);
    EXPECT_EQ(db.stats().replayed_entries, 8u);
    co_await expect_value(db, "a", std::nullopt);
    co_await expect_value(db, "b", std::string(5'000, 'b'));
    co_await expect_value(db, "c", std::string(200'000, 'c'));
    co_await expect_value(db, "d", std::nullopt);
    co_await expect_value(db, "e", "5");
    co_await expect_value(db, "f", "6");
    co_await expect_clean(db);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(PartitionLog, BatchedWritesAreDurableAfterSyncOrTheInterval) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    PartitionConfig config = logged_config(WalMode::batched);
    {
      auto db = co_await Partition::create(device_on(disk), config);
      co_await db.put("a", "1");
      co_await db.sync();
      EXPECT_EQ(db.stats().flushes, 0u);
      co_await db.put("b", "2");
    }
    co_await wait_for_memory();
    config.wal_batch_interval = std::chrono::microseconds(50);
    {
      auto db = co_await Partition::open(device_on(disk), config);
      co_await expect_value(db, "a", "1");
      co_await expect_value(db, "b", std::nullopt);
      co_await db.put("c", "3");
      while (db.stats().log_groups == 0) co_await monterey::yield();
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), config);
    co_await expect_value(db, "a", "1");
    co_await expect_value(db, "c", "3");
    co_await db.close();
  });
}

TEST(PartitionLog, AStoreIsReplayedUnderAnyModeAndWhenOnlyRead) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config());
      co_await db.put("a", "1");
    }
    co_await wait_for_memory();
    const std::string before = image(*disk);
    {
      auto db = co_await Partition::open(device_on(disk, MemBlockDevice::Access::read_only), logged_config(),
                                         OpenOptions{.read_only = true});
      co_await expect_value(db, "a", "1");
      co_await db.close();
    }
    EXPECT_TRUE(image(*disk) == before);
    {
      auto db = co_await Partition::open(device_on(disk), logged_config(WalMode::none));
      co_await expect_value(db, "a", "1");
      co_await db.put("b", "2");  // not in the log, lost
    }
    co_await wait_for_memory();
    {
      auto db = co_await Partition::open(device_on(disk), logged_config(WalMode::none));
      co_await expect_value(db, "b", std::nullopt);
      co_await db.put("b", "2");
      co_await db.flush();
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    EXPECT_EQ(db.stats().replayed_records, 0u);
    co_await expect_value(db, "a", "1");
    co_await expect_value(db, "b", "2");
    co_await db.put("c", "3");
    co_await expect_clean(db);
    co_await db.close();
  });
}

WriteBatch batch_of(int entries, std::size_t value_bytes) {
  WriteBatch batch;
  for (int i = 0; i < entries; ++i) batch.put(numbered("key", i), std::string(value_bytes, 'v'));
  return batch;
}

TEST(PartitionLog, ABatchLongerThanAGroupSurvivesWhole) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    PartitionConfig config = logged_config();
    config.write_buffer_bytes = 2u << 20;
    {
      auto db = co_await Partition::create(device_on(disk), config);
      co_await db.put("before", "1");
      co_await db.write(batch_of(30, 40'000));
      co_await db.put("after", "2");
      EXPECT_EQ(db.stats().flushes, 0u);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), config);
    EXPECT_EQ(db.stats().replayed_entries, 32u);
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 32u);
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(PartitionLog, ABatchTooLongForTheLogIsDurableByItsCommit) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config(WalMode::batched));
      co_await db.put("before", "1");
      co_await db.write(batch_of(200, 1'000));  // three buffers
      EXPECT_GE(db.stats().flushes, 2u);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 201u);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// It is applied before its commit is tried: a full device must not be told as "nothing was changed".
TEST(PartitionLog, ABatchTooLongForTheLogIsNotRefusedOnceItIsApplied) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(device_on(disk), logged_config(WalMode::batched));
    co_await db.put("before", "1");
    co_await db.flush();
    disk->inject({.op = DeviceOp::write, .times = 1, .errc = Errc::no_space});
    co_await expect_error(db.write(batch_of(200, 1'000)), Errc::io_error, "applied|durable");
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 201u);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(PartitionLog, TheLogGrowsToItsCapAndIsUsedAgain) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 16'000});
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    std::uint64_t written = 0;
    {
      auto db = co_await Partition::create(device_on(disk), logged_config());
      for (int i = 0; i < 6'000; ++i) co_await db.put(numbered("key", i % 500), std::string(500, 'v'));
      written = db.stats().log_bytes_written;
      EXPECT_LE(db.stats().log_bytes, 16'000u / 8 * 4096);
      EXPECT_GT(written, 2 * db.stats().log_bytes);
      EXPECT_LE(db.stats().log_segments, 128u);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    EXPECT_LT(db.stats().replayed_bytes, written / 2);
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 500u);
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(PartitionLog, ASteadyLogWritesAndSyncsAndDoesNothingElse) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(device_on(disk), logged_config());
    disk->reset_counts();
    for (int i = 0; i < 50; ++i) co_await db.put("key", numbered("value", i));
    EXPECT_EQ(disk->counts().writes, 50u);
    EXPECT_EQ(disk->counts().blocks_written, 50u);
    EXPECT_EQ(disk->counts().syncs, 50u);
    EXPECT_EQ(disk->counts().grows, 0u);
    co_await db.close();
  });
}

TEST(PartitionLog, AFailureOfTheLogPoisons) {
  for (const DeviceOp op : {DeviceOp::write, DeviceOp::sync}) {
    auto disk = std::make_shared<MemDisk>();
    on_core(logged_arena(), [&, op]() -> monterey::Task<> {
      {
        auto db = co_await Partition::create(device_on(disk), logged_config());
        co_await db.put("a", "1");
        disk->inject({.op = op});
        co_await expect_error(put(db, "b", "2"), Errc::poisoned, "reopen the store");
        co_await expect_error(put(db, "c", "3"), Errc::poisoned, "reopen the store");
        co_await expect_error(db.flush(), Errc::poisoned, "reopen the store");
        co_await expect_error(db.sync(), Errc::poisoned, "reopen the store");
        co_await expect_value(db, "a", "1");
        EXPECT_NE(db.stats().poisoned, "");
      }
      co_await wait_for_memory();
      auto db = co_await Partition::open(device_on(disk), logged_config());
      co_await expect_value(db, "a", "1");
      co_await expect_value(db, "c", std::nullopt);
      co_await db.close();
    });
  }
}

// Of two syncs at once the device may report a failure to one alone: what the other was for is not durable either.
TEST(PartitionLog, NoGroupNamesARunWhoseSyncRanBesideAFailedOne) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(device_on(disk), logged_config(WalMode::batched));
    co_await db.put("before", "1");
    co_await db.sync();
    disk->complete_by([](const test::Operation& operation) {
      return operation.op == DeviceOp::sync ? MemDisk::Completion::held : MemDisk::Completion::at_once;
    });
    disk->inject({.op = DeviceOp::sync});
    auto flush = monterey::spawn(expect_error(db.flush(), Errc::io_error, "injected failure"));
    while (disk->held(DeviceOp::sync) == 0) co_await monterey::yield();
    co_await db.put("long", std::string(100'000, 'l'));
    auto sync = monterey::spawn(expect_error(db.sync(), Errc::poisoned, "reopen the store"));
    while (disk->held(DeviceOp::sync) < 2) co_await monterey::yield();
    disk->release();
    co_await flush;
    const std::uint64_t writes = disk->counts().writes;
    disk->complete_by(nullptr);
    disk->release_all();
    co_await sync;
    EXPECT_EQ(disk->counts().writes, writes) << "a group was written";
    co_await expect_error(db.close(), Errc::poisoned, "reopen the store");
  });
}

TEST(PartitionLog, RunsThatTheLogNamesAreKeptFromOthers) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config());
      co_await db.put("long", std::string(300'000, 'l'));
      co_await db.put("gone", std::string(100'000, 'g'));
      co_await db.put("gone", "short");
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    for (int i = 0; i < 20; ++i) co_await db.put(numbered("other", i), std::string(100'000, 'o'));
    co_await expect_value(db, "long", std::string(300'000, 'l'));
    co_await db.flush();
    co_await expect_value(db, "long", std::string(300'000, 'l'));
    co_await expect_value(db, "gone", "short");
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(PartitionLog, ALogDeviceOfItsOwnBelongsToItsStore) {
  auto disk = std::make_shared<MemDisk>();
  auto log_disk = std::make_shared<MemDisk>();
  auto other_disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), device_on(log_disk), logged_config());
      disk->reset_counts();
      for (int i = 0; i < 100; ++i) co_await db.put(numbered("key", i), "value");
      EXPECT_EQ(disk->counts().writes, 0u);
      co_await expect_clean(db);
    }
    co_await wait_for_memory();
    {
      auto db = co_await Partition::open(device_on(disk), device_on(log_disk), logged_config());
      EXPECT_EQ(db.stats().replayed_records, 100u);
      for (int i = 0; i < 2'000; ++i) co_await db.put(numbered("key", i), "value");
      co_await expect_clean(db);
      co_await db.close();
    }
    co_await expect_error(discard(Partition::open(device_on(disk), logged_config())), Errc::invalid_argument,
                          "log on a device of its own");
    {
      auto other = co_await Partition::create(device_on(other_disk), logged_config());
      co_await other.close();
    }
    co_await expect_error(discard(Partition::open(device_on(other_disk), device_on(log_disk), logged_config())),
                          Errc::invalid_argument, "has no log device");
    co_await expect_error(discard(Partition::create(device_on(other_disk), device_on(log_disk), logged_config(),
                                                    CreateOptions{.overwrite = false})),
                          Errc::already_exists, "holds a store already");
    auto blank = std::make_shared<MemDisk>();
    co_await expect_error(discard(Partition::create(device_on(blank), device_on(log_disk), logged_config())),
                          Errc::already_exists, "log device of a store already");
    auto second_log = std::make_shared<MemDisk>();
    {
      auto again = co_await Partition::create(device_on(blank), device_on(second_log), logged_config(),
                                              CreateOptions{.overwrite = true});
      co_await again.close();
    }
    co_await expect_error(discard(Partition::open(device_on(blank), device_on(log_disk), logged_config())),
                          Errc::invalid_argument, "the log device of another store");
  });
}

TEST(PartitionLog, ALostLogDeviceIsReplacedWhenARollbackIsAllowed) {
  auto disk = std::make_shared<MemDisk>();
  auto lost = std::make_shared<MemDisk>();
  auto fresh = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), device_on(lost), logged_config());
      co_await db.put("flushed", "1");
      co_await db.flush();
      co_await db.put("in the log", "2");
    }
    co_await wait_for_memory();
    co_await expect_error(discard(Partition::open(device_on(disk), device_on(fresh), logged_config())),
                          Errc::not_a_store, "allow_rollback if the log is lost");
    const OpenOptions rollback{.allow_rollback = true};
    {
      auto db = co_await Partition::open(device_on(disk), device_on(fresh), logged_config(), rollback);
      const std::vector<std::string> notes = db.stats().open_notes;
      EXPECT_TRUE(std::ranges::any_of(notes, [](const auto& note) { return note.starts_with("rolled back"); }));
      co_await expect_value(db, "flushed", "1");
      co_await expect_value(db, "in the log", std::nullopt);
      co_await db.put("later", "3");
      co_await expect_clean(db);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), device_on(fresh), logged_config());
    co_await expect_value(db, "later", "3");
    co_await db.close();
  });
}

TEST(PartitionLog, ALogThatCannotGrowForAnErrorGoesOnAsItIs) {
  auto disk = std::make_shared<MemDisk>();
  auto log_disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(device_on(disk), device_on(log_disk), logged_config());
    const std::uint64_t bytes = db.stats().log_bytes;
    std::uint64_t refused = 0;
    log_disk->on_operation = [&refused](const test::Operation& operation) -> std::optional<Error> {
      if (operation.op != DeviceOp::grow) return std::nullopt;
      ++refused;
      return Error::from_errno(EIO, "grow");
    };
    for (int i = 0; i < 6'000; ++i) co_await db.put(numbered("key", i % 500), std::string(500, 'v'));
    EXPECT_GT(refused, 0u);
    EXPECT_EQ(db.stats().log_bytes, bytes);
    co_await expect_clean(db);
    co_await db.close();
  });
}

monterey::Task<> put_many(Partition* db, int first, int count) {
  for (int i = first; i < first + count; ++i) co_await db->put(numbered("key", i), std::string(100, 'v'));
}

TEST(PartitionLog, ConcurrentWritersShareItsSyncs) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 8'000});
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config());
      disk->complete(MemDisk::Completion::yield);
      std::vector<monterey::Task<>> writers;
      for (int i = 0; i < 64; ++i) writers.push_back(put_many(&db, i * 10, 10));
      co_await monterey::when_all(std::move(writers));
      EXPECT_LE(db.stats().log_groups, 30u);
      disk->complete(MemDisk::Completion::at_once);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 640u);
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
