// Loading an empty partition in one commit: all of it or nothing, whatever the source gives, the device does and others do beside it.
#include <gtest/gtest.h>
#include <array>

#include <fmt/format.h>

#include <ctime>

#include "unit/partition/bulk_support.hpp"
#include "unit/partition/log_support.hpp"

namespace store {
namespace {

using test::bulk_model;
using test::device_on;
using test::DeviceOp;
using test::expect_clean;
using test::expect_error;
using test::expect_holds;
using test::fill;
using test::ListSource;
using test::load_model;
using test::MemDisk;
using test::Model;
using test::ModelSource;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

double thread_cpu_us() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

monterey::Task<Partition> create_on(DiskPtr disk) { return Partition::create(device_on(disk), small_config()); }

monterey::Task<> load(Partition& db, std::vector<std::pair<std::string, std::string>> entries) {
  static_cast<void>(co_await db.bulk_load(ListSource(std::move(entries))));
}

// Keys with values of no matter.
monterey::Task<> load_keys(Partition& db, std::string first, std::optional<std::string> second = std::nullopt) {
  std::vector<std::pair<std::string, std::string>> entries;
  entries.emplace_back(std::move(first), "1");
  if (second) entries.emplace_back(std::move(*second), "2");
  return load(db, std::move(entries));
}

// Empty, sound, and fit to be loaded.
monterey::Task<> expect_unchanged(Partition& db, const Stats& before) {
  const Model found = co_await test::contents(db);
  EXPECT_TRUE(found.empty());
  const Stats after = db.stats();
  EXPECT_EQ(after.generation, before.generation);
  EXPECT_EQ(after.high_water_blocks, before.high_water_blocks);
  EXPECT_EQ(after.free_blocks, before.free_blocks);
  EXPECT_EQ(after.poisoned, "");
  co_await expect_clean(db);
}

TEST(BulkLoad, HoldsWhatTheSourceGave) {
  on_core(kArena, [&]() -> monterey::Task<> {
    for (const int count : {0, 1, 2, 3, 29, 30, 31, 1'000, 9'999, 200'000}) {
      SCOPED_TRACE(fmt::format("{} entries", count));
      const auto disk = std::make_shared<MemDisk>();
      auto db = co_await create_on(disk);
      Model model = bulk_model(count);
      co_await load_model(db, model);
      EXPECT_EQ(db.stats().entries, model.size());
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      // The same after a crash, and when it goes on as any other tree.
      { const Partition dropped = std::move(db); }
      db = co_await open_on(disk);
      EXPECT_TRUE(db.stats().open_notes.empty());
      co_await fill(db, model, count / 2, count / 2 + 300);
      for (int i = 0; i < count; i += 7) {
        co_await db.erase(numbered("key", i));
        model.erase(numbered("key", i));
      }
      co_await db.flush();
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      co_await db.close();
    }
  });
}

TEST(BulkLoad, TakesKeysOfEveryLengthAndEveryByte) {
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    for (int i = 0; i < 600; ++i) {
      const auto byte = static_cast<char>(i % 256);
      model[std::string(1, byte)] = "one";
      model[std::string(static_cast<std::size_t>(1 + i), byte)] = numbered("value", i);
      model[std::string(1023, 'p') + byte] = std::string(1024, byte);
    }
    auto db = co_await create_on(std::make_shared<MemDisk>());
    co_await load_model(db, model);
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// A source that stays its owner's, and cannot be copied or moved.
TEST(BulkLoad, ReadsFromALentSource) {
  struct Counter {
    Counter() = default;
    Counter(const Counter&) = delete;
    Counter& operator=(const Counter&) = delete;
    bool next(std::string_view& key, std::string_view& value) {
      if (given == 10) return false;
      key = text = numbered("key", given++);
      value = "v";
      return true;
    }
    std::string text;
    int given = 0;
  };
  on_core(kArena, [&]() -> monterey::Task<> {
    auto db = co_await create_on(std::make_shared<MemDisk>());
    Counter source;
    const std::uint64_t entries = co_await db.bulk_load(source);
    EXPECT_EQ(entries, 10u);
    EXPECT_EQ(source.given, 10);
    co_await db.close();
  });
}

TEST(BulkLoad, RefusesWhatDoesNotAscend) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto db = co_await create_on(std::make_shared<MemDisk>());
    const Stats before = db.stats();
    co_await expect_error(load_keys(db, "b", "a"), Errc::invalid_argument,
                          "ascend|\"a\" follows \"b\"|nothing was loaded");
    co_await expect_error(load_keys(db, "a", "a"), Errc::invalid_argument, "\"a\" follows \"a\"|the same key");
    co_await expect_error(load_keys(db, "\xff", "\x01\\"), Errc::invalid_argument, "\"\\x01\\\\\" follows \"\\xff\"");
    co_await expect_error(load_keys(db, std::string(1000, 'z'), "y"), Errc::invalid_argument, "zzz... (1000 bytes)");
    co_await expect_unchanged(db, before);
    // Late: when most of it is on the device.
    for (const int at : {1, 500, 20'000}) {
      Model model = bulk_model(20'000);
      std::vector<std::pair<std::string, std::string>> entries(model.begin(), model.end());
      entries.emplace(entries.begin() + at, "a key before all", std::string(3'000, 'v'));
      co_await expect_error(load(db, std::move(entries)), Errc::invalid_argument, "follows");
      co_await expect_unchanged(db, before);
    }
    co_await load_model(db, bulk_model(100));
    co_await expect_holds(db, bulk_model(100));
    co_await db.close();
  });
}

TEST(BulkLoad, RefusesWhatIsBeyondTheLimits) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto db = co_await create_on(std::make_shared<MemDisk>());
    const Stats before = db.stats();
    co_await expect_error(load_keys(db, "a", ""), Errc::invalid_argument, "1 to 1024");
    co_await expect_error(load_keys(db, "a", std::string(1025, 'k')), Errc::invalid_argument, "1 to 1024");
    struct TooLong {
      std::string_view long_value;
      bool next(std::string_view& key, std::string_view& value) {
        key = "a";
        value = long_value;
        return true;
      }
    };
    const test::Untouchable untouchable((1u << 30) + 1);
    co_await expect_error(test::discard(db.bulk_load(TooLong{untouchable.view()})), Errc::invalid_argument,
                          "1073741824");
    struct Failing {
      int left = 3'000;
      std::string text;
      bool next(std::string_view& key, std::string_view& value) {
        if (--left == 0) throw Error(Errc::io_error, "the source ran dry");
        key = text = numbered("key", 3'000 - left);
        value = "v";
        return true;
      }
    };
    Failing failing;
    co_await expect_error(test::discard(db.bulk_load(failing)), Errc::io_error, "the source ran dry");
    co_await expect_unchanged(db, before);
    co_await db.close();
  });
}

TEST(BulkLoad, NeedsAnEmptyPartition) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto db = co_await create_on(std::make_shared<MemDisk>());
    co_await db.put("here", "already");
    co_await expect_error(load_keys(db, "a"), Errc::invalid_argument, "empty partition|0 entries|1 buffered");
    co_await db.flush();
    co_await expect_error(load_keys(db, "a"), Errc::invalid_argument, "empty partition|1 entries|0 buffered");
    co_await db.erase("here");
    co_await expect_error(load_keys(db, "a"), Errc::invalid_argument, "empty partition");
    co_await db.flush();
    co_await load_keys(db, "a");
    co_await expect_error(load_keys(db, "b"), Errc::invalid_argument, "empty partition");
    const Model one = {{"a", "1"}};
    co_await expect_holds(db, one);
    co_await db.close();
    co_await expect_error(load_keys(db, "a"), Errc::closed, "closed");
  });
}

TEST(BulkLoad, RefusesAReadOnlyPartition) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    {
      auto db = co_await create_on(disk);
      co_await db.close();
    }
    auto db = co_await open_on(disk, OpenOptions{.read_only = true});
    co_await expect_error(load_keys(db, "a"), Errc::read_only, "reading only");
    co_await db.close();
  });
}

// What was there was erased, and some of it is still being read.
TEST(BulkLoad, LoadsAPartitionThatWasEmptied) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model old;
    co_await fill(db, old, 0, 5'000, 200);
    co_await db.flush();
    auto scan = co_await db.scan("");
    for (int i = 0; i < 5'000; ++i) co_await db.erase(numbered("key", i));
    co_await db.flush();
    const Model model = bulk_model(8'000);
    co_await load_model(db, model);
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    std::size_t seen = 0;
    while (co_await scan.advance()) ++seen;
    EXPECT_EQ(seen, old.size());
    { const Scan ended = std::move(scan); }
    co_await fill(db, old, 0, 10);
    co_await db.flush();
    EXPECT_EQ(db.stats().held_blocks, 0u);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// --- beside others ---

TEST(BulkLoad, IsSeenWholeOrNotAtAll) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    disk->complete(MemDisk::Completion::yield);
    Model model = bulk_model(20'000);
    auto before = co_await db.scan("");
    bool loaded = false;
    auto loading = monterey::spawn([](Partition* into, const Model* from, bool* done) -> monterey::Task<> {
      co_await load_model(*into, *from);
      *done = true;
    }(&db, &model, &loaded));
    // Writers wait, and what they write follows.
    auto writing = monterey::spawn([](Partition* into, const bool* done) -> monterey::Task<> {
      co_await into->put("zzz", "after");
      EXPECT_TRUE(*done);
    }(&db, &loaded));
    auto long_writing = monterey::spawn([](Partition* into, const bool* done) -> monterey::Task<> {
      co_await into->put("zzzz", std::string(100'000, 'z'));
      EXPECT_TRUE(*done);
    }(&db, &loaded));
    int looks = 0;
    int flushes = 0;
    while (!loaded) {
      ++looks;
      const std::optional<std::string> value = co_await db.get("key000000");
      const Model found = co_await test::contents(db);
      EXPECT_TRUE(loaded || (!value && found.empty()));
      if (!loaded && looks % 16 == 0) {
        co_await db.flush();
        ++flushes;
        co_await expect_clean(db);
      }
      co_await monterey::yield();
    }
    EXPECT_GT(looks, 100);
    EXPECT_GT(flushes, 3);
    co_await loading;
    co_await writing;
    co_await long_writing;
    const bool more = co_await before.advance();
    EXPECT_FALSE(more) << "a scan from before sees the load";
    model["zzz"] = "after";
    model["zzzz"] = std::string(100'000, 'z');
    co_await expect_holds(db, model);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(BulkLoad, CloseWaitsForIt) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    disk->complete(MemDisk::Completion::yield);
    const Model model = bulk_model(5'000);
    auto loading = monterey::spawn(load_model(db, model));
    co_await monterey::yield();
    // Also for one that waits for its turn.
    auto waiting = monterey::spawn(test::error_of(test::discard(db.bulk_load(ModelSource(model)))));
    co_await monterey::yield();
    co_await db.close();
    co_await loading;
    const Errc errc = co_await waiting;
    EXPECT_EQ(errc, Errc::invalid_argument);
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await again.close();
  });
}

// With the handle gone it goes on to its end.
TEST(BulkLoad, OutlivesTheHandle) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const Model model = bulk_model(5'000);
    std::optional<Partition> db(co_await create_on(disk));
    disk->complete(MemDisk::Completion::yield);
    auto loading = monterey::spawn(db->bulk_load(ModelSource(model)));
    db.reset();
    const std::uint64_t entries = co_await loading;
    EXPECT_EQ(entries, model.size());
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await again.close();
  });
}

TEST(BulkLoad, TwoAtOnceAreOneAndARefusal) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    disk->complete(MemDisk::Completion::yield);
    const Model model = bulk_model(3'000);
    auto first = monterey::spawn(load_model(db, model));
    co_await monterey::yield();
    co_await expect_error(test::discard(db.bulk_load(ModelSource(model))), Errc::invalid_argument, "empty");
    co_await first;
    co_await expect_holds(db, model);
    co_await db.close();
  });
}

TEST(BulkLoad, LetsOthersRun) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto db = co_await create_on(std::make_shared<MemDisk>());
    Model model;
    for (int i = 0; i < 200'000; ++i) model.emplace_hint(model.end(), numbered("key", i), std::string(100, 'v'));
    bool loaded = false;
    std::uint64_t turns = 0;
    auto watching = monterey::spawn([](const bool* done, std::uint64_t* count) -> monterey::Task<> {
      for (; !*done; ++*count) co_await monterey::yield();
    }(&loaded, &turns));
    const double start = thread_cpu_us();
    co_await load_model(db, model);
    const double all_us = thread_cpu_us() - start;
    loaded = true;
    co_await watching;
    // A turn is due every 100 µs; a sanitizer makes the steps between two looks at the clock longer.
    EXPECT_GT(static_cast<double>(turns), all_us / 500) << turns << " turns in " << all_us << " us";
    co_await db.close();
  });
}

// --- with a log ---

TEST(BulkLoad, IsDurableByItsCommitAndTheLogGoesOnBehindIt) {
  for (const WalMode mode : {WalMode::batched, WalMode::per_op}) {
    on_core(test::logged_arena(), [&]() -> monterey::Task<> {
      const auto disk = std::make_shared<MemDisk>();
      Model model = bulk_model(3'000);
      {
        auto db = co_await Partition::create(device_on(disk), test::logged_config(mode));
        // Sequence numbers and log before it, all merged.
        for (int i = 0; i < 200; ++i) co_await db.put(numbered("key", i), "old");
        for (int i = 0; i < 200; ++i) co_await db.erase(numbered("key", i));
        co_await db.flush();
        co_await load_model(db, model);
        co_await fill(db, model, 2'990, 3'010);
        co_await db.sync();
        const Partition dropped = std::move(db);
      }
      co_await test::wait_for_memory();
      for (int round = 0; round < 3; ++round) {
        auto db = co_await Partition::open(device_on(disk), test::logged_config(mode));
        co_await expect_holds(db, model);
        co_await expect_clean(db);
        co_await fill(db, model, round * 100, round * 100 + 150, 300);
        co_await db.put("long", std::string(70'000, static_cast<char>('a' + round)));
        model["long"] = std::string(70'000, static_cast<char>('a' + round));
        if (round == 1) co_await db.flush();
        co_await db.sync();
        { const Partition dropped = std::move(db); }
        co_await test::wait_for_memory();
      }
      auto db = co_await Partition::open(device_on(disk), test::logged_config(WalMode::none));
      co_await expect_holds(db, model);
      co_await db.flush();
      co_await expect_clean(db);
      co_await db.close();
    });
  }
}

// --- failures ---

TEST(BulkLoad, AFullDeviceIsLeftAsItWas) {
  on_core(kArena, [&]() -> monterey::Task<> {
    MemDisk::Options options;
    options.capacity_blocks = 512;
    const auto disk = std::make_shared<MemDisk>(options);
    auto db = co_await create_on(disk);
    const Stats before = db.stats();
    Model model;
    for (int i = 0; i < 4'000; ++i) model[numbered("key", i)] = std::string(600, 'v');
    co_await expect_error(test::discard(db.bulk_load(ModelSource(model))), Errc::no_space, "full");
    co_await expect_unchanged(db, before);
    // As many as fit, found by trying: the blocks kept back stay free, so that it can be erased.
    int most = 0;
    for (int step = 2048; step > 0; step /= 2) {
      const Model some(model.begin(), std::next(model.begin(), std::min(4'000, most + step)));
      const DiskPtr tried = disk->copy();
      tried->set_capacity_blocks(512);
      auto other = co_await open_on(tried);
      bool fits = true;
      try {
        co_await load_model(other, some);
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::no_space);
        fits = false;
      }
      if (fits) most += step;
      co_await other.close();
    }
    EXPECT_GT(most, 2'000);
    const Model some(model.begin(), std::next(model.begin(), most));
    co_await load_model(db, some);
    for (const auto& [key, value] : some) co_await db.erase(key);
    co_await db.flush();
    co_await expect_holds(db, Model{});
    co_await expect_clean(db);
    co_await db.close();
  });
}

// The operation of each kind that fails first, and then the next, until none is left to fail.
TEST(BulkLoad, EveryFailureOfTheDeviceLeavesAllOrNothing) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const Model model = bulk_model(4'000);
    for (std::size_t kind = 0; kind < 5; ++kind) {  // a grow that finds the device full asks for less
      const DeviceOp op = std::array{DeviceOp::write, DeviceOp::sync, DeviceOp::grow}[kind % 3];
      // What a full device says, that nothing was changed, is not to be said of a load that may have landed.
      const Errc injected = kind < 3 ? Errc::io_error : Errc::no_space;
      bool failed = true;
      std::uint64_t nth = 0;
      for (; failed; ++nth) {
        SCOPED_TRACE(fmt::format("operation {} of kind {}", nth, static_cast<int>(op)));
        const auto disk = std::make_shared<MemDisk>();
        auto db = co_await create_on(disk);
        if (nth % 2 == 1) disk->complete(MemDisk::Completion::yield);
        std::optional<Errc> thrown;
        disk->inject({.op = op, .skip = nth, .errc = injected});
        failed = false;
        try {
          co_await load_model(db, model);
        } catch (const Error& error) {
          thrown = error.errc();
          failed = true;
        }
        disk->clear_faults();
        const bool poisoned = !db.stats().poisoned.empty();
        if (failed) {
          EXPECT_EQ(thrown, poisoned ? Errc::io_error : injected);
        }
        EXPECT_TRUE(!poisoned || failed);
        if (failed) co_await expect_holds(db, Model{});
        if (poisoned) {
          co_await expect_error(load_keys(db, "a"), Errc::poisoned, "reopen");
        } else if (failed) {
          co_await expect_clean(db);
          co_await load_model(db, model);
          co_await expect_holds(db, model);
        }
        { const Partition dropped = std::move(db); }
        db = co_await open_on(disk);
        const Model found = co_await test::contents(db);
        EXPECT_TRUE(found == model || (poisoned && found.empty()));
        co_await expect_clean(db);
        co_await db.close();
      }
      EXPECT_GE(nth, op == DeviceOp::write ? 10u : 3u);
    }
  });
}

// A reservation of a value that waits for its turn, while the load is given up.
TEST(BulkLoad, GivenUpItLeavesReservationsAlone) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    disk->complete(MemDisk::Completion::yield);
    const Model model = bulk_model(4'000);
    disk->inject({.op = DeviceOp::write, .skip = 12});
    auto loading = monterey::spawn(test::error_of(test::discard(db.bulk_load(ModelSource(model)))));
    co_await monterey::yield();
    co_await db.put("long", std::string(300'000, 'l'));
    const Errc errc = co_await loading;
    EXPECT_EQ(errc, Errc::io_error);
    co_await db.flush();
    const Model left = {{"long", std::string(300'000, 'l')}};
    co_await expect_holds(db, left);
    co_await expect_clean(db);
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
