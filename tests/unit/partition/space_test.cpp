// A device that is full, and one whose writes and syncs fail: what was acknowledged stays, a commit happens whole or not at
// all, and the store goes on as soon as the device does.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::device_on;
using test::DeviceOp;
using test::expect_clean;
using test::expect_error;
using test::expect_holds;
using test::expect_words;
using test::fill;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

// --- no space ---

// Puts keys from `next` on until the device is full; what was acknowledged is in the model. Returns how many went in.
monterey::Task<int> fill_up(Partition& db, Model& model, int next, std::size_t value_bytes, std::string* what) {
  for (int put = 0; put < 100'000; ++put, ++next) {
    const std::string key = numbered("key", next);
    std::string value = numbered("value", next) + std::string(value_bytes, 'v');
    bool full = false;
    try {
      co_await db.put(key, value);
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::no_space) << error.what();
      *what = error.what();
      full = true;
    }
    if (full) co_return put;
    model[key] = std::move(value);
  }
  ADD_FAILURE() << "the device never filled up";
  co_return 0;
}

monterey::Task<> expect_full_but_whole(DiskPtr disk, std::size_t value_bytes) {
  SCOPED_TRACE(fmt::format("values of {} bytes", value_bytes));
  Model model;
  std::string what;
  auto db = co_await Partition::create(device_on(disk), small_config());
  const int count = co_await fill_up(db, model, 0, value_bytes, &what);
  EXPECT_GT(count, 5);
  expect_words(what, "memory|full|block|erase something|more room");
  // At least half of the device holds data: the room is not given away by caution.
  const std::uint64_t stored = static_cast<std::uint64_t>(count) * value_bytes;
  EXPECT_GT(stored, disk->capacity_blocks() * kPageBytes / 2) << count << " values";

  // Refused whole, and still there after a flush and a reopen.
  co_await expect_error(test::put(db, "another", std::string(value_bytes, 'x')), Errc::no_space,
                        "full|nothing was changed");
  co_await expect_error(test::write_one(db, "another", std::string(value_bytes, 'x')), Errc::no_space, "full");
  auto absent = co_await db.get("another");
  EXPECT_FALSE(absent.has_value());
  EXPECT_EQ(db.stats().poisoned, "");
  co_await expect_holds(db, model);
  co_await db.flush();
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await db.close();

  auto again = co_await open_on(disk);
  co_await expect_holds(again, model);
  // The reserve lets a full store erase.
  for (int i = 0; i < count; i += 2) {
    const std::string key = numbered("key", i);
    co_await again.erase(key);
    model.erase(key);
  }
  co_await again.flush();
  co_await expect_holds(again, model);
  co_await expect_clean(again);
  const int room = co_await fill_up(again, model, count, value_bytes, &what);
  EXPECT_GT(room, 0) << "nothing went in after half of the store was erased: " << what;
  co_await again.flush();
  co_await expect_holds(again, model);
  co_await expect_clean(again);
  co_await again.close();

  auto last = co_await open_on(disk);
  co_await expect_holds(last, model);
  co_await expect_clean(last);
  // It is full again; the reserve lets it erase a range, too.
  co_await last.erase_range(numbered("key", 3), numbered("key", count));
  model.erase(model.lower_bound(numbered("key", 3)), model.lower_bound(numbered("key", count)));
  co_await last.flush();
  co_await expect_holds(last, model);
  co_await expect_clean(last);
  co_await last.close();
}

TEST(FullDevice, KeepsEverythingAndCanEraseWithShortValues) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 1'000});
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_full_but_whole(disk, 150); });
}

TEST(FullDevice, KeepsEverythingAndCanEraseWithValuesInRuns) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 1'000});
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_full_but_whole(disk, 5'000); });
}

TEST(FullDevice, KeepsEverythingAndCanEraseWithLongValues) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 2'000});
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_full_but_whole(disk, 150'000); });
}

// The file system under the device is full long before the device's own limit.
// Pages are taken in advance by the merge; the runs of the same merge must not miss them.
TEST(FullDevice, FlushesWhatItAcceptedOfPagesAndRunsTogether) {
  for (std::uint64_t capacity = 100; capacity < 200; capacity += 7) {
    auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = capacity});
    on_core(kArena, [&]() -> monterey::Task<> {
      Model model;
      auto db = co_await Partition::create(device_on(disk), small_config());
      std::uint64_t refused = 0;
      for (int i = 0; i < 2'000 && refused < 20; ++i) {
        const std::string key = numbered("key", i % 150);
        const std::string value(i % 3 == 0 ? 4'200 : 120, static_cast<char>('a' + i % 26));
        bool full = false;
        try {
          co_await db.put(key, value);
        } catch (const Error& error) {
          expect_words(error.what(), "nothing was changed");
          full = true;
        }
        refused += full;
        if (!full) model[key] = value;
      }
      co_await db.flush();
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      co_await db.close();
    });
  }
}

// Device reads for a get of each of the keys from `first` to `end`.
monterey::Task<std::uint64_t> reads_of(Partition& db, const MemDisk& disk, int first, int end) {
  const std::uint64_t before = disk.counts().reads;
  for (int i = first; i < end; ++i) static_cast<void>(co_await db.get(numbered("key", i)));
  co_return disk.counts().reads - before;
}

// Of a full device every second block is given back: what is accepted then finds no blocks in a row.
TEST(FullDevice, TakesLongValuesWhereBlocksLieOneByOne) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 2'000});
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    std::string what;
    int count = 0;
    int more = 0;
    {
      auto db = co_await Partition::create(device_on(disk), small_config());
      count = co_await fill_up(db, model, 0, 3'000, &what);
      co_await db.flush();
      for (int i = 0; i < count; i += 2) {
        co_await db.erase(numbered("key", i));
        model.erase(numbered("key", i));
      }
      co_await db.flush();
      more = count + co_await fill_up(db, model, count, 60'000, &what);
      EXPECT_GT(more, count + 3);
      co_await db.flush();
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      co_await db.close();
    }
    auto db = co_await open_on(disk);
    co_await expect_holds(db, model);
    const std::uint64_t reads = co_await reads_of(db, *disk, count, more);
    EXPECT_GT(reads, 5u * static_cast<unsigned>(more - count)) << "they do not lie scattered";

    const std::string key = numbered("key", count);
    std::string part(10'000, '\0');
    const std::optional<std::size_t> size =
        co_await db.get_into(key, std::as_writable_bytes(std::span(part)), {.offset = 45'000});
    EXPECT_EQ(size, model[key].size());
    EXPECT_TRUE(part == model[key].substr(45'000, 10'000));

    // What is superseded stays for a snapshot, and its blocks come back with it.
    {
      const Snapshot snapshot = db.snapshot();
      co_await db.erase(key);
      co_await db.flush();
      const std::optional<std::string> kept = co_await snapshot.get(key);
      EXPECT_TRUE(kept == model[key]);
      co_await expect_clean(db);
    }
    model.erase(key);
    co_await expect_holds(db, model);

    // All that is free lies one by one: still they move down, and the tail is given back.
    for (int i = 1; i < count; i += 2) {
      co_await db.erase(numbered("key", i));
      model.erase(numbered("key", i));
    }
    co_await db.flush();
    CompactReport report;
    for (int calls = 0; calls < 20 && !report.finished; ++calls) report = co_await db.compact();
    EXPECT_TRUE(report.finished);
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    const Stats stats = db.stats();
    EXPECT_LE(stats.device_blocks, (stats.tree_pages + stats.overflow_blocks + stats.allocator_pages) * 11 / 10 + 48);
    co_await db.close();
  });
}

TEST(FullDevice, AGrowThatFailsIsAFullDevice) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 100'000});
  on_core(kArena, [&]() -> monterey::Task<> {
    std::uint64_t room = 600;
    disk->on_operation = [&room](const test::Operation& operation) -> std::optional<Error> {
      if (operation.op != DeviceOp::grow || operation.blocks <= room) return std::nullopt;
      return Error(Errc::no_space, "memory: the file system is full");
    };
    Model model;
    std::string what;
    auto db = co_await Partition::create(device_on(disk), small_config());
    const int count = co_await fill_up(db, model, 0, 150, &what);
    EXPECT_GT(count, 1'000);
    EXPECT_LE(disk->size_blocks(), room);
    expect_words(what, "memory|full");
    co_await expect_holds(db, model);
    co_await db.flush();
    co_await expect_clean(db);
    co_await expect_holds(db, model);
    // More room below helps at once.
    room = 2'000;
    const int more = co_await fill_up(db, model, count, 150, &what);
    EXPECT_GT(more, 1'000);
    co_await db.flush();
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await again.close();
  });
}

TEST(FullDevice, CreateOnADeviceTooSmallSaysSo) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = 3});
  on_core(kArena, [&]() -> monterey::Task<> {
    auto create = test::discard(Partition::create(device_on(disk), small_config()));
    co_await expect_error(std::move(create), Errc::no_space, "memory|3 blocks");
  });
}

// --- failing writes ---

// What every attempt starts from: two commits, runs of both kinds among them.
struct Base {
  DiskPtr disk = std::make_shared<MemDisk>();
  Model model;
};

monterey::Task<> make_base(Base& base) {
  auto db = co_await Partition::create(device_on(base.disk), small_config());
  co_await fill(db, base.model, 0, 400);
  base.model["large"] = std::string(100'000, 'l');
  base.model["middle"] = std::string(9'000, 'm');
  co_await db.put("large", base.model["large"]);
  co_await db.flush();
  co_await db.put("middle", base.model["middle"]);
  co_await db.close();
}

// The writes that the flush under test merges: less than a buffer, so that it is one commit. No long value among them,
// whose run would be written at once.
monterey::Task<> change(Partition& db, Model& model) {
  co_await fill(db, model, 100, 110, 300);
  co_await fill(db, model, 390, 420, 500);
  model["middle"] = std::string(20'000, 'M');
  co_await db.put("middle", model["middle"]);
  co_await db.erase("large");
  model.erase("large");
  co_await db.erase("key000200");
  model.erase("key000200");
}

// One flush, the `number`th operation of kind `op` of which fails. Returns whether there was such an operation.
monterey::Task<bool> fail_one(const Base& base, DeviceOp op, std::uint64_t number, std::set<std::string>& outcomes) {
  SCOPED_TRACE(fmt::format("operation {} of kind {}", number, static_cast<int>(op)));
  const DiskPtr disk = base.disk->copy();
  Model model = base.model;
  auto db = co_await open_on(disk);
  co_await change(db, model);
  bool reached = false;
  std::uint64_t seen = 0;
  bool was_meta = false;
  disk->on_operation = [&, op, number](const test::Operation& operation) -> std::optional<Error> {
    if (operation.op != op || seen++ != number) return std::nullopt;
    reached = true;
    was_meta = op == DeviceOp::write && operation.first.value < kMetaBlocks;
    return Error::from_errno(EIO, fmt::format("memory: it failed at block {}", operation.first.value));
  };
  if (op == DeviceOp::read) {
    try {
      co_await db.flush();
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::io_error) << error.what();
      EXPECT_TRUE(reached);
    }
  } else {
    std::exception_ptr error;
    try {
      co_await db.flush();
    } catch (...) {
      error = std::current_exception();
    }
    EXPECT_EQ(error != nullptr, reached);
    try {
      if (error) std::rethrow_exception(error);
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::io_error) << e.what();
      EXPECT_EQ(e.os_error(), EIO);
      expect_words(e.what(), "memory: it failed at block");
    }
  }
  disk->on_operation = nullptr;
  if (!reached) {
    co_await db.close();
    co_return false;
  }

  co_await expect_holds(db, model);
  const bool poisoned = !db.stats().poisoned.empty();
  EXPECT_EQ(poisoned, was_meta || op == DeviceOp::sync);
  outcomes.insert(poisoned ? "poisoned" : "aborted");
  if (poisoned) {
    expect_words(db.stats().poisoned, "memory: it failed");
    const std::string words = "memory|it failed at block|reopen";
    co_await expect_error(test::put(db, "key", "value"), Errc::poisoned, words);
    co_await expect_error(test::erase(db, "key"), Errc::poisoned, words);
    co_await expect_error(test::write_one(db, "key", "value"), Errc::poisoned, words);
    co_await expect_error(test::compare_and_put(db, "key", std::nullopt, "value"), Errc::poisoned, words);
    co_await expect_error(db.flush(), Errc::poisoned, words);
    co_await expect_error(db.sync(), Errc::poisoned, words);
    co_await expect_holds(db, model);
    co_await expect_error(db.close(), Errc::poisoned, words);
    // The commit may have reached the device or not; half of it may not.
    auto again = co_await open_on(disk);
    const Model found = co_await test::contents(again);
    const bool is_new = found == model;
    EXPECT_TRUE(is_new || found == base.model) << "a state between the old and the new one";
    outcomes.insert(is_new ? "poisoned, then new" : "poisoned, then old");
    co_await expect_clean(again);
    Model after = found;
    co_await fill(again, after, 1'000, 1'050);
    co_await again.flush();
    co_await expect_holds(again, after);
    co_await expect_clean(again);
    co_await again.close();
    co_return true;
  }
  // What a crash here would leave is the old state, whole.
  {
    auto crashed = co_await open_on(disk->copy());
    co_await expect_clean(crashed);
    const Model found = co_await test::contents(crashed);
    EXPECT_TRUE(found == base.model || op == DeviceOp::read);
    co_await crashed.close();
  }
  co_await fill(db, model, 2'000, 2'010);
  co_await db.flush();
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await db.close();
  auto again = co_await open_on(disk);
  co_await expect_holds(again, model);
  co_await expect_clean(again);
  co_await again.close();
  co_return true;
}

void fail_each(DeviceOp op, std::uint64_t at_least, const std::set<std::string>& expected) {
  on_core(kArena, [&]() -> monterey::Task<> {
    Base base;
    co_await make_base(base);
    std::set<std::string> outcomes;
    std::uint64_t number = 0;
    for (;; ++number) {
      const bool reached = co_await fail_one(base, op, number, outcomes);
      if (!reached || testing::Test::HasFailure()) break;
    }
    EXPECT_GE(number, at_least) << "operations in a flush";
    EXPECT_EQ(outcomes, expected);
  });
}

TEST(FailedFlush, EachOfItsWritesMayFail) {
  fail_each(DeviceOp::write, 3, {"aborted", "poisoned", "poisoned, then old"});
}

TEST(FailedFlush, EachOfItsReadsMayFail) { fail_each(DeviceOp::read, 3, {"aborted"}); }

// The first sync comes before the meta page is written, the second behind it.
TEST(FailedFlush, EachOfItsSyncsPoisons) {
  fail_each(DeviceOp::sync, 2, {"poisoned", "poisoned, then new", "poisoned, then old"});
}

TEST(FailedFlush, AFailedGrowIsAbortedAndTriedAgain) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    auto db = co_await Partition::create(device_on(disk), small_config());
    disk->inject({.op = DeviceOp::grow});
    bool failed = false;
    int next = 0;
    for (; next < 2'000 && !failed; ++next) {
      const std::string key = numbered("key", next);
      try {
        co_await db.put(key, "value");
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::io_error) << error.what();
        failed = true;
      }
      if (!failed) model[key] = "value";
    }
    EXPECT_TRUE(failed);
    co_await expect_holds(db, model);
    co_await fill(db, model, next, next + 500);
    co_await db.flush();
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// A long value is written to its run at put: a failure there is the put's, and leaves no trace.
TEST(FailedPut, OfALongValueChangesNothing) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    auto db = co_await Partition::create(device_on(disk), small_config());
    co_await fill(db, model, 0, 300);
    model["large"] = std::string(3'000'000, 'l');
    co_await db.put("large", model["large"]);
    co_await db.flush();
    const std::string longer(3'000'000, 'L');
    for (std::uint64_t i = 0; i < 12; ++i) {  // of its writes of 256 KiB
      disk->inject({.op = DeviceOp::write, .skip = i});
      co_await expect_error(test::put(db, "large", longer), Errc::io_error, "memory|injected failure");
      disk->clear_faults();
      co_await expect_holds(db, model);
    }
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.put("large", longer);
    model["large"] = longer;
    co_await db.close();
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await expect_clean(again);
    co_await again.close();
  });
}

// The writes were acknowledged, and the flush that failed was nobody's: close() is the last to tell.
TEST(FailedFlush, ThatNobodyWaitedForIsToldByClose) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    auto db = co_await Partition::create(device_on(disk), small_config());
    disk->inject({.op = DeviceOp::sync});
    for (int i = 0; i < 3'000 && db.stats().poisoned.empty(); ++i) {
      try {
        co_await db.put(numbered("key", i), "value");
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::poisoned) << error.what();  // it came to the line behind the failure
      }
      co_await monterey::yield();
    }
    EXPECT_FALSE(db.stats().poisoned.empty());
    co_await expect_error(db.close(), Errc::poisoned, "memory|injected failure|may be lost|reopen");
    co_await expect_error(db.close(), Errc::closed, "closed");
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await again.close();
    auto last = co_await open_on(disk);
    disk->inject({.op = DeviceOp::sync});
    co_await last.put("key", "value");
    co_await expect_error(last.flush(), Errc::io_error, "injected failure");
    co_await expect_error(last.close(), Errc::poisoned, "may be lost");
  });
}

// Writers whose buffers are full wait for a flush that fails: they hear of it, and their data is not lost.
TEST(FailedFlush, ReachesTheWritersThatWaitForIt) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    auto db = co_await Partition::create(device_on(disk), small_config());
    co_await fill(db, model, 0, 100);
    co_await db.flush();
    disk->inject({.op = DeviceOp::write, .times = 1'000'000});
    int refused = 0;
    for (int i = 100; i < 3'000 && refused < 3; ++i) {
      const std::string key = numbered("key", i);
      const std::string value(200, 'v');
      bool failed = false;
      try {
        co_await db.put(key, value);
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::io_error) << error.what();
        expect_words(error.what(), "memory|injected failure");
        failed = true;
      }
      refused += failed;
      if (!failed) model[key] = value;
    }
    EXPECT_EQ(refused, 3);
    EXPECT_GT(model.size(), 300u);
    co_await expect_holds(db, model);
    disk->clear_faults();
    co_await fill(db, model, 5'000, 5'300);
    co_await db.flush();
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
