// The corners of a partition with a log: devices too small for one, opens that must not change the device before they have
// decided, closes after a failure, and what may come between a record and its entries.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "log_support.hpp"
#include "store/wal/log_format.hpp"

namespace store {
namespace {

using namespace test;

PartitionConfig with_buffers_of(PartitionConfig config, std::size_t bytes) {
  config.write_buffer_bytes = bytes;
  return config;
}

// A device that cannot hold a log is refused when the store is made, and a small one serves.
TEST(LogCorners, ALogDeviceOfAFewBlocksServesOrIsRefused) {
  for (std::uint64_t blocks = 0; blocks <= 12; ++blocks) {
    auto disk = std::make_shared<MemDisk>();
    auto log_disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = blocks});
    on_core(logged_arena(), [&]() -> monterey::Task<> {
      if (blocks < 5) {
        co_await expect_error(discard(Partition::create(device_on(disk), device_on(log_disk), logged_config())),
                              Errc::no_space, "");
        co_return;
      }
      {
        auto db = co_await Partition::create(device_on(disk), device_on(log_disk), logged_config());
        for (int i = 0; i < 40; ++i) co_await db.put(numbered("key", i), std::string(i * 100, 'v'));
      }
      co_await wait_for_memory();
      auto db = co_await Partition::open(device_on(disk), device_on(log_disk), logged_config());
      const Model model = co_await contents(db);
      EXPECT_EQ(model.size(), 40u);
      co_await expect_clean(db);
      co_await db.close();
    });
  }
}

// A record that is longer than the log, which cannot grow now, needs none: it is merged at once.
TEST(LogCorners, ABatchThatTheLogCannotGrowForIsMergedInstead) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = with_buffers_of(logged_config(), 4u << 20);
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    Model model;
    {
      auto db = co_await Partition::create(device_on(disk), config);
      WriteBatch batch;
      const std::uint64_t record = db.stats().log_bytes + (256u << 10);
      for (std::uint64_t i = 0; i * 900 < record; ++i) {
        const std::string key = numbered("batch", static_cast<int>(i));
        model[key] = std::string(900, 'b');
        batch.put(key, model[key]);
      }
      disk->inject({.op = DeviceOp::write, .times = 1});  // of the segments to be added
      co_await db.write(std::move(batch));
      co_await expect_holds(db, model);
    }
    co_await wait_for_memory();
    auto again = co_await Partition::open(device_on(disk), config);
    co_await expect_holds(again, model);
    co_await expect_clean(again);
    co_await again.close();
  });
}

TEST(LogCorners, ALogDeviceThatIsReadOnlyIsOpenedForReading) {
  auto disk = std::make_shared<MemDisk>();
  auto log_disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), device_on(log_disk), logged_config());
      co_await db.put("a", "1");
    }
    co_await wait_for_memory();
    const std::string before = image(*disk);
    auto db = co_await Partition::open(device_on(disk), device_on(log_disk, MemBlockDevice::Access::read_only),
                                       logged_config());
    co_await expect_value(db, "a", "1");
    co_await expect_error(put(db, "b", "2"), Errc::read_only, "");
    co_await db.close();
    EXPECT_TRUE(image(*disk) == before);
  });
}

// Whatever operation of the first open fails, the next one makes the store.
TEST(LogCorners, OpenOrCreateCanBeTriedAgainAfterAnyFailure) {
  for (std::uint64_t failing = 0;; ++failing) {
    auto disk = std::make_shared<MemDisk>();
    auto log_disk = std::make_shared<MemDisk>();
    bool failed = false;
    on_core(logged_arena(), [&]() -> monterey::Task<> {
      std::uint64_t number = 0;
      const auto fail_from = [&](const Operation&) -> std::optional<Error> {
        if (number++ < failing) return std::nullopt;
        failed = true;
        return Error(Errc::io_error, "the power is off");
      };
      disk->on_operation = fail_from;
      log_disk->on_operation = fail_from;
      try {
        co_await discard(Partition::open_or_create(device_on(disk), device_on(log_disk), logged_config()));
      } catch (const Error&) {
      }
      co_await wait_for_memory();
      disk->on_operation = nullptr;
      log_disk->on_operation = nullptr;
      try {
        auto db = co_await Partition::open_or_create(device_on(disk), device_on(log_disk), logged_config());
        co_await db.put("a", "1");
        co_await db.close();
      } catch (const Error& error) {
        ADD_FAILURE() << "after operation " << failing << ": " << error.what();
      }
    });
    if (!failed) break;
  }
}

// The last group of the log on a disk, and its block.
std::optional<LogGroup> last_group(MemDisk& disk, PageNo& at) {
  std::optional<LogGroup> last;
  for (std::uint32_t i = kMetaBlocks; i < disk.size_blocks(); ++i) {
    const auto group = decode_group(disk.block(PageNo(i)));
    if (!group || (last && group->lsn < last->lsn)) continue;
    last = group;
    at = PageNo(i);
  }
  return last;
}

// A record that no writer makes, in a group whose checksum holds.
TEST(LogCorners, ABadRecordIsFoundBeforeAnythingIsChangedAndRolledBackWhenAsked) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), with_buffers_of(logged_config(), 1u << 20));
      co_await db.put("old", "0");
      co_await db.flush();
      for (int i = 0; i < 400; ++i) co_await db.put(numbered("key", i), std::string(1'000, 'v'));
      EXPECT_EQ(db.stats().flushes, 1u);
    }
    co_await wait_for_memory();
    PageNo at;
    const auto group = last_group(*disk, at);
    const std::size_t entry = kGroupHeaderBytes + kFragmentHeaderBytes + sizeof(layout::LogRecordHeader);
    disk->block(at)[entry] = std::byte{77};  // its kind
    const std::uint32_t crc = crc32c(std::span<const std::byte>(disk->block(at)).subspan(4, group->bytes - 4));
    std::memcpy(disk->block(at).data(), &crc, sizeof crc);
    const std::string before = image(*disk);
    co_await expect_error(discard(Partition::open(device_on(disk), logged_config())), Errc::corruption,
                          "a record of the log at LSN|kind 77");
    co_await wait_for_memory();
    EXPECT_TRUE(image(*disk) == before);
    auto db = co_await Partition::open(device_on(disk), logged_config(), OpenOptions{.allow_rollback = true});
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 1u);
    co_await db.close();
  });
}

// Its flushes, too: whoever opens the device again must not meet them.
TEST(LogCorners, AnOpenThatFailsHasEndedWhenItThrows) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), with_buffers_of(logged_config(), 1u << 20));
      for (int i = 0; i < 400; ++i) co_await db.put(numbered("key", i), std::string(1'000, 'v'));
    }
    co_await wait_for_memory();
    disk->complete(MemDisk::Completion::yield);
    bool flushes = false;
    disk->on_operation = [&](const Operation& operation) -> std::optional<Error> {
      flushes = flushes || operation.op == DeviceOp::write;
      if (!flushes || operation.op != DeviceOp::read || operation.blocks < 100) return std::nullopt;
      return Error(Errc::io_error, "the log cannot be read again");
    };
    co_await expect_error(discard(Partition::open(device_on(disk), logged_config())), Errc::io_error, "again");
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), logged_arena());
    EXPECT_EQ(disk->in_flight(), 0u);
    co_await wait_for_memory();
  });
}

TEST(LogCorners, AnOpenThatLacksMemoryForTheLogChangesNothing) {
  auto disk = std::make_shared<MemDisk>();
  PartitionConfig without = logged_config(WalMode::none);
  on_core(without.buffer_config().bytes, [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), without);
      co_await db.close();
    }
    const std::string before = image(*disk);
    co_await expect_error(discard(Partition::open(device_on(disk), logged_config())), Errc::invalid_argument,
                          "buffer_config");
    EXPECT_TRUE(image(*disk) == before);
  });
}

// An open with a log takes a generation and counts itself: where those end it must not run over.
TEST(LogCorners, AnOpenBeyondTheLastNumbersIsRefusedAndChangesNothing) {
  struct Change {
    std::function<void(Meta&)> make;
    bool refused = true;  // also without a rollback, after which the log goes on far behind
  };
  const std::vector<Change> changes = {
      {[](Meta& meta) { meta.incarnation = ~std::uint64_t{0}; }},
      {[](Meta& meta) { meta.generation = kMaxGeneration; }},
      {[](Meta& meta) { meta.log_lsn = kMaxLogLsn; }, false},
  };
  for (const Change& change : changes) {
    auto disk = std::make_shared<MemDisk>();
    on_core(logged_arena(), [&]() -> monterey::Task<> {
      {
        auto db = co_await Partition::create(device_on(disk), logged_config());
        co_await db.put("a", "1");
        co_await db.close();
      }
      Meta meta;
      std::uint32_t slot = 0;
      newest_meta(*disk, meta, slot);
      change.make(meta);
      for (const std::uint32_t copy : {0, 1}) encode_meta(meta, slot, disk->block(meta_block(slot, copy)));
      const std::string before = image(*disk);
      for (const bool rolls_back : {false, true}) {
        if (!rolls_back && !change.refused) continue;
        // As if the other slot were newer and could not be read.
        disk->on_operation = [&](const Operation& operation) -> std::optional<Error> {
          const bool of_other = operation.first.value / kMetaCopies == 1 - slot;
          if (!rolls_back || operation.op != DeviceOp::read || !of_other) return {};
          return Error(Errc::io_error, "unreadable");
        };
        co_await expect_error(
            discard(Partition::open(device_on(disk), logged_config(), OpenOptions{.allow_rollback = rolls_back})),
            Errc::no_space, "is the last");
        co_await wait_for_memory();
        EXPECT_TRUE(image(*disk) == before);
      }
      disk->on_operation = nullptr;
      auto db = co_await Partition::open(device_on(disk), logged_config(WalMode::none));
      co_await expect_value(db, "a", "1");
      co_await db.close();
    });
  }
}

// What failed to be flushed is in the log, also what its interval still held back.
TEST(LogCorners, ACloseWhoseFlushFailsKeepsItsWritesInTheLog) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config(WalMode::batched));
      co_await db.put("a", "1");
      disk->on_operation = [](const Operation& operation) -> std::optional<Error> {
        if (operation.op != DeviceOp::write || operation.io_class != monterey::IoClass::background) return std::nullopt;
        return Error(Errc::io_error, "a page cannot be written");
      };
      co_await expect_error(db.close(), Errc::io_error, "cannot be written");
      disk->on_operation = nullptr;
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    co_await expect_value(db, "a", "1");
    co_await db.close();
  });
}

// Replay fits the active buffer to a batch of an open with larger ones; it has room for a record that a new buffer has not.
TEST(LogCorners, AFlushWhileARecordIsPlacedLeavesRoomForItsEntries) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), with_buffers_of(logged_config(), 4u << 20));
      WriteBatch batch;
      for (int i = 0; i < 40'000; ++i) batch.put(numbered("key", i), "v");
      co_await db.write(std::move(batch));
      EXPECT_EQ(db.stats().flushes, 0u);
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    WriteBatch batch;
    for (int i = 0; i < 6; ++i) batch.put(numbered("long", i), std::string(60'000, 'l'));
    disk->complete_by([](const Operation& operation) {
      const bool holds = operation.op == DeviceOp::write && operation.blocks > kMetaCopies &&
                         operation.io_class == monterey::IoClass::foreground;
      return holds ? MemDisk::Completion::held : MemDisk::Completion::at_once;
    });
    auto writing = monterey::spawn(db.write(std::move(batch)));
    while (disk->held() == 0) co_await monterey::yield();
    auto flushing = monterey::spawn(db.flush());
    for (int i = 0; i < 100; ++i) co_await monterey::yield();
    disk->complete_by([](const Operation&) { return MemDisk::Completion::at_once; });
    disk->release_all();
    co_await std::move(writing);
    co_await std::move(flushing);
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 40'006u);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
