// Memory that runs out at any point of a write, a flush, a read or a scan: the verb throws bad_alloc and was applied whole or
// not at all, nothing else is lost, and the partition goes on, unless it failed in the commit's last steps, which poisons.
// The same work is done again and again, each time with the next allocation failing, coroutine frames included, until it
// passes without having met a failure.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <monterey/detail/frames.hpp>
#include <new>
#include <span>

#include "support/allocations.hpp"
#include "unit/partition/bulk_support.hpp"

namespace store {
namespace {

using test::expect_clean;
using test::fill;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 8u << 20;

// The allocation that fails first is counted from its construction on; at its end none fails any more.
class FailingAllocation {
 public:
  explicit FailingAllocation(std::uint64_t nth, std::uint64_t times = 1) {
    monterey::detail::stop_recycling_frames();
    test::fail_allocation(nth, times);
  }
  FailingAllocation(const FailingAllocation&) = delete;
  FailingAllocation& operator=(const FailingAllocation&) = delete;
  ~FailingAllocation() {
    test::fail_allocation(0);
    monterey::detail::start_recycling_frames();
  }
};

monterey::Task<> make_base(DiskPtr disk, Model& model) {
  auto db = co_await Partition::create(test::device_on(disk), small_config());
  co_await fill(db, model, 0, 300);
  model["large"] = std::string(100'000, 'l');
  model["middle"] = std::string(9'000, 'm');
  co_await db.put("large", model["large"]);
  co_await db.put("middle", model["middle"]);
  co_await db.close();
}

// One verb under test. Returns by the model what holds if it was applied.
struct Verb {
  std::function<monterey::Task<>(Partition&)> run;
  std::function<void(Model&)> apply;
  WalMode mode = WalMode::none;
  std::uint64_t times = 1;  // allocations that fail one after the other
  std::size_t write_buffer_bytes = small_config().write_buffer_bytes;
  bool crashes = false;  // at the end, so that what was written after the failure is in the log alone
};

monterey::Task<Partition> open_for(DiskPtr disk, const Verb& verb) {
  PartitionConfig config = small_config();
  config.wal_mode = verb.mode;
  config.write_buffer_bytes = verb.write_buffer_bytes;
  config.wal_batch_interval = std::chrono::microseconds(0);
  return Partition::open(test::device_on(disk), config);
}

monterey::Task<bool> fail_nth(DiskPtr base, Model model, const Verb& verb, std::uint64_t nth) {
  SCOPED_TRACE(fmt::format("allocation {}", nth));
  const DiskPtr disk = base->copy();
  auto db = co_await open_for(disk, verb);
  // Views of two sequence numbers, so that a flush makes three cuts.
  co_await db.put("before", "1");
  auto first = co_await db.scan("");
  co_await db.put("before", "2");
  model["before"] = "2";
  auto second = co_await db.scan("");
  bool failed = false;
  {
    monterey::Task<> task = verb.run(db);
    const FailingAllocation failing(nth, verb.times);
    try {
      co_await std::move(task);
    } catch (const std::bad_alloc&) {
      failed = true;
    } catch (const Error& error) {  // the log's task had none
      EXPECT_EQ(error.errc(), Errc::poisoned);
      failed = true;
    }
  }
  const Model unapplied = model;
  Model applied = model;
  verb.apply(applied);
  const Model found = co_await test::contents(db);
  EXPECT_TRUE(found == applied || (failed && found == model)) << "half of it was applied";
  model = found;
  const bool poisoned = !db.stats().poisoned.empty();
  if (!poisoned) {
    co_await fill(db, model, 900, 920);
    if (!verb.crashes) co_await db.flush();
    const Model after = co_await test::contents(db);
    EXPECT_TRUE(after == model) << "something was lost";
  }
  std::size_t seen = 0;
  while (co_await second.advance()) ++seen;
  EXPECT_EQ(seen, 303u);
  const bool more = co_await first.advance();
  EXPECT_TRUE(more);
  EXPECT_TRUE(first.key() == "before" && first.value() == "1");
  if (verb.crashes) {
    const Scan one = std::move(first);
    const Scan two = std::move(second);
    const Partition all = std::move(db);
  } else if (poisoned) {
    co_await test::expect_error(db.close(), Errc::poisoned, "may be lost");
  } else {
    co_await db.close();
  }
  auto again = co_await open_for(disk, verb);
  co_await expect_clean(again);
  const Model reopened = co_await test::contents(again);
  // What a poisoned write came to is known only now: with a log it is there or not, whatever it looked like before.
  if (!poisoned) {
    EXPECT_TRUE(reopened == model) << "something was lost";
  }
  if (poisoned && verb.mode != WalMode::none) {
    EXPECT_TRUE(reopened == applied || reopened == unapplied) << "half of it was kept";
  }
  co_await again.close();
  co_return failed;
}

void fail_each(const Verb& verb, std::uint64_t at_least) {
  if (!test::kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_base(disk, model);
    std::uint64_t nth = 1;
    for (int passed = 0; passed < 5 && !testing::Test::HasFailure(); ++nth) {
      const bool failed = co_await fail_nth(disk, model, verb, nth);
      passed = failed ? 0 : passed + 1;  // an allocation whose failure is made up for is no end yet
    }
    EXPECT_GE(nth, at_least);
    std::printf("%lu allocations\n", static_cast<unsigned long>(nth));
  });
}

TEST(OutOfMemory, ABatchIsAppliedWholeOrNotAtAll) {
  Verb verb;
  verb.run = [](Partition& db) -> monterey::Task<> {
    WriteBatch batch;
    for (int i = 250; i < 310; ++i) batch.put(numbered("key", i), "new");
    batch.put("long", std::string(70'000, 'L'));
    batch.put("longer", std::string(200'000, 'M'));
    batch.erase("middle");
    return db.write(std::move(batch));
  };
  verb.apply = [](Model& model) {
    for (int i = 250; i < 310; ++i) model[numbered("key", i)] = "new";
    model["long"] = std::string(70'000, 'L');
    model["longer"] = std::string(200'000, 'M');
    model.erase("middle");
  };
  fail_each(verb, 20);
}

TEST(OutOfMemory, ALoggedBatchIsDurableWholeOrNotAtAll) {
  for (const WalMode mode : {WalMode::batched, WalMode::per_op}) {
    Verb verb;
    verb.mode = mode;
    verb.run = [](Partition& db) -> monterey::Task<> {
      WriteBatch batch;
      for (int i = 250; i < 310; ++i) batch.put(numbered("key", i), "new");
      batch.put("longer", std::string(200'000, 'M'));
      batch.erase("middle");
      return db.write(std::move(batch));
    };
    verb.apply = [](Model& model) {
      for (int i = 250; i < 310; ++i) model[numbered("key", i)] = "new";
      model["longer"] = std::string(200'000, 'M');
      model.erase("middle");
    };
    fail_each(verb, 10);
  }
}

// Its record is longer than a group. Once some of it is placed, only its end may follow.
TEST(OutOfMemory, ABatchWhoseRecordIsInPartsIsDurableWholeOrNotAtAll) {
  constexpr std::uint64_t kForGood = ~std::uint64_t{0};
  for (const std::uint64_t times : {std::uint64_t{1}, std::uint64_t{2}, kForGood}) {
    Verb verb;
    verb.mode = WalMode::per_op;
    verb.times = times;
    verb.write_buffer_bytes = 1u << 20;
    verb.crashes = true;
    verb.run = [](Partition& db) -> monterey::Task<> {
      WriteBatch batch;
      for (int i = 250; i < 260; ++i) batch.put(numbered("key", i), std::string(60'000, 'n'));
      return db.write(std::move(batch));
    };
    verb.apply = [](Model& model) {
      for (int i = 250; i < 260; ++i) model[numbered("key", i)] = std::string(60'000, 'n');
    };
    fail_each(verb, 10);
  }
}

// Over half a buffer: it becomes a buffer of its own.
TEST(OutOfMemory, ALargeBatchIsAppliedWholeOrNotAtAll) {
  Verb verb;
  verb.run = [](Partition& db) -> monterey::Task<> {
    WriteBatch batch;
    for (int i = 0; i < 100; ++i) batch.put(numbered("key", i), std::string(1'000, 'n'));
    batch.put("long", std::string(70'000, 'L'));
    return db.write(std::move(batch));
  };
  verb.apply = [](Model& model) {
    for (int i = 0; i < 100; ++i) model[numbered("key", i)] = std::string(1'000, 'n');
    model["long"] = std::string(70'000, 'L');
  };
  fail_each(verb, 20);
}

TEST(OutOfMemory, ARangeIsErasedWholeOrNotAtAllAndItsFlushIsTriedAgain) {
  Verb verb;
  verb.run = [](Partition& db) -> monterey::Task<> {
    return [](Partition* from) -> monterey::Task<> {
      co_await from->erase_range("key000100", "m");
      co_await from->flush();
    }(&db);
  };
  verb.apply = [](Model& model) { model.erase(model.lower_bound("key000100"), model.lower_bound("m")); };
  fail_each(verb, 50);
}

TEST(OutOfMemory, AFlushIsTriedAgain) {
  Verb verb;
  verb.run = [](Partition& db) -> monterey::Task<> { return db.flush(); };
  verb.apply = [](Model&) {};
  fail_each(verb, 50);
}

TEST(OutOfMemory, ReadsLoseNothing) {
  Verb verb;
  verb.run = [](Partition& db) -> monterey::Task<> {
    return [](Partition* from) -> monterey::Task<> {
      const std::optional<std::string> value = co_await from->get("large");
      EXPECT_TRUE(value.has_value());
      const std::string_view keys[] = {"key000000", "key000100", "key000200", "large", "middle", "before"};
      const auto values = co_await from->get_many(keys);
      EXPECT_TRUE(values[3].has_value());
      auto scan = co_await from->scan("");
      while (co_await scan.advance()) {
      }
    }(&db);
  };
  verb.apply = [](Model&) {};
  fail_each(verb, 50);
}

// What get_into() brings of a value at each of its kinds of places; `memory` is aligned to blocks or not.
monterey::Task<> get_into_each(Partition* db, bool aligned) {
  const Snapshot snapshot = db->snapshot();
  alignas(4096) static std::array<std::byte, 128u << 10> memory;
  const std::span<std::byte> into = std::span(memory).subspan(aligned ? 0 : 1);
  const auto holds = [&](std::size_t bytes, char c) {
    return std::ranges::all_of(into.first(bytes), [c](std::byte b) { return b == static_cast<std::byte>(c); });
  };
  for (const bool of_snapshot : {false, true}) {
    std::ranges::fill(memory, std::byte{0});
    std::optional<std::size_t> bytes;
    if (of_snapshot) {
      bytes = co_await snapshot.get_into("large", into);
    } else {
      bytes = co_await db->get_into("large", into);
    }
    EXPECT_EQ(bytes, 100'000u);
    EXPECT_TRUE(holds(100'000, 'l'));
    bytes = co_await db->get_into("large", into.first(5'000), {.offset = 66'000});
    EXPECT_EQ(bytes, 100'000u);
    bytes = co_await snapshot.get_into("middle", into);
    EXPECT_EQ(bytes, 9'000u);
    EXPECT_TRUE(holds(9'000, 'm'));
    bytes = co_await db->get_into("key000007", into);
    EXPECT_TRUE(bytes.has_value());
    bytes = co_await db->get_into("before", into);
    EXPECT_EQ(bytes, 1u);
    bytes = co_await snapshot.get_into("absent", into);
    EXPECT_FALSE(bytes.has_value());
  }
}

TEST(OutOfMemory, ReadsIntoTheCallersMemoryLoseNothing) {
  for (const bool aligned : {false, true}) {
    Verb verb;
    verb.run = [aligned](Partition& db) { return get_into_each(&db, aligned); };
    verb.apply = [](Model&) {};
    fail_each(verb, 20);
  }
}

TEST(OutOfMemory, ReadsOfASnapshotLoseNothing) {
  Verb verb;
  verb.run = [](Partition& db) -> monterey::Task<> {
    return [](Partition* from) -> monterey::Task<> {
      const Snapshot snapshot = from->snapshot();
      const std::optional<std::string> value = co_await snapshot.get("large");
      EXPECT_EQ(value, std::string(100'000, 'l'));
      const std::string_view keys[] = {"key000000", "key000100", "key000200", "large", "middle", "before"};
      const auto values = co_await snapshot.get_many(keys);
      EXPECT_TRUE(values[3].has_value());
      auto scan = co_await snapshot.scan("");
      while (co_await scan.advance()) {
      }
    }(&db);
  };
  verb.apply = [](Model&) {};
  fail_each(verb, 50);
}

// Wherever it fails: what comes before the failure has no gap, and nothing comes after it.
TEST(OutOfMemory, AScanNeverSkips) {
  if (!test::kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_base(disk, model);
    auto db = co_await open_on(disk);
    for (int i = 0; i < 300; i += 7) {
      const std::string key = numbered("key", i) + std::string(static_cast<std::size_t>(i % 50), 'k');
      co_await db.put(key, "buffered");
      model[key] = "buffered";
    }
    // With all of the users' pins taken, leaves are copied.
    std::vector<PinnedValue> pins;
    bool failed = true;
    for (std::uint64_t nth = 1; failed || pins.empty(); ++nth) {
      if (!failed) {
        nth = 1;
        while (pins.size() < small_config().cache_pages / 2) {
          auto value = co_await db.get_pinned("key000001");
          pins.push_back(std::move(*value));
        }
      }
      failed = false;
      auto scan = co_await db.scan("");
      auto next = model.begin();
      const FailingAllocation failing(nth);
      for (int advances = 0; advances < 1'000; ++advances) {
        bool more = false;
        try {
          more = co_await scan.advance();
        } catch (const std::bad_alloc&) {
          failed = true;
          continue;
        }
        if (!more && !failed && next == model.end()) break;
        EXPECT_TRUE(more && !failed && next != model.end()) << "allocation " << nth << ": it goes on";
        if (!more || next == model.end()) break;
        EXPECT_EQ(scan.key(), next->first) << "allocation " << nth;
        ++next;
      }
      if (testing::Test::HasFailure()) break;
    }
    pins.clear();
    co_await db.close();
  });
}

TEST(OutOfMemory, ABulkLoadIsAllOrNothing) {
  if (!test::kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model = test::bulk_model(400);
    std::uint64_t nth = 1;
    for (bool failed = true; failed; ++nth) {
      SCOPED_TRACE(fmt::format("allocation {}", nth));
      const auto disk = std::make_shared<MemDisk>();
      auto db = co_await Partition::create(test::device_on(disk), small_config());
      auto scan = co_await db.scan("");
      failed = false;
      {
        monterey::Task<std::uint64_t> task = db.bulk_load(test::ModelSource(model));
        const FailingAllocation failing(nth);
        try {
          static_cast<void>(co_await std::move(task));
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      }
      const bool poisoned = !db.stats().poisoned.empty();
      Model found = co_await test::contents(db);
      EXPECT_TRUE(failed ? found.empty() : found == model);
      if (!poisoned) {
        co_await expect_clean(db);
        if (failed) co_await test::load_model(db, model);
        co_await test::expect_holds(db, model);
        co_await expect_clean(db);
      }
      const bool more = co_await scan.advance();
      EXPECT_FALSE(more);
      {
        const Scan ended = std::move(scan);
        const Partition dropped = std::move(db);
      }
      db = co_await open_on(disk);
      found = co_await test::contents(db);
      EXPECT_TRUE(found == model || (poisoned && found.empty()));
      co_await expect_clean(db);
      co_await db.close();
    }
    EXPECT_GE(nth, 30u);
    std::printf("%lu allocations\n", static_cast<unsigned long>(nth));
  });
}

TEST(OutOfMemory, ABackupIsMadeOrNot) {
  if (!test::kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_base(disk, model);
    auto db = co_await open_on(disk);
    co_await fill(db, model, 250, 320);
    co_await db.flush();  // which may fail, too, and poison
    std::uint64_t nth = 1;
    for (bool failed = true; failed; ++nth) {
      SCOPED_TRACE(fmt::format("allocation {}", nth));
      const auto target = std::make_shared<MemDisk>();
      failed = false;
      {
        monterey::Task<BackupReport> task = db.backup(test::device_on(target));
        const FailingAllocation failing(nth);
        try {
          static_cast<void>(co_await std::move(task));
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      }
      if (failed) {
        const Errc errc = co_await test::error_of(test::discard(open_on(target)));
        EXPECT_EQ(errc, Errc::not_a_store);
        continue;
      }
      auto copy = co_await open_on(target);
      co_await test::expect_holds(copy, model);
      co_await expect_clean(copy);
      co_await copy.close();
    }
    EXPECT_GE(nth, 30u);
    std::printf("%lu allocations\n", static_cast<unsigned long>(nth));
    co_await test::expect_holds(db, model);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(OutOfMemory, AnIncrementIsMadeOrNot) {
  if (!test::kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    Model before;
    co_await make_base(disk, before);
    auto db = co_await open_on(disk);
    const auto old = std::make_shared<MemDisk>();
    const BackupReport report = co_await db.backup(test::device_on(old));
    Model model = before;
    co_await fill(db, model, 250, 320);
    const std::string long_value(100'000, 'l');
    co_await db.put("long", long_value);
    model["long"] = long_value;
    co_await db.flush();
    const BackupOptions increment{.since = report.generation};
    // What looks for the memory of the machine does without: so how often to fail is counted beforehand.
    const std::uint64_t before_one = test::allocations();
    static_cast<void>(co_await db.backup(test::device_on(old->copy()), increment));
    const std::uint64_t most = test::allocations() - before_one;
    for (std::uint64_t nth = 1; nth <= most; ++nth) {
      SCOPED_TRACE(fmt::format("allocation {}", nth));
      const auto target = old->copy();
      if (nth % 2 == 1) target->complete(MemDisk::Completion::yield);
      bool failed = false;
      {
        monterey::Task<BackupReport> task = db.backup(test::device_on(target), increment);
        const FailingAllocation failing(nth);
        try {
          static_cast<void>(co_await std::move(task));
        } catch (const std::bad_alloc&) {
          failed = true;
        }
      }
      EXPECT_EQ(target->in_flight(), 0u);
      target->complete(MemDisk::Completion::at_once);
      auto copy = co_await open_on(target);
      const Model found = co_await test::contents(copy);
      EXPECT_TRUE(found == model || (failed && found == before));
      co_await expect_clean(copy);
      co_await copy.close();
    }
    EXPECT_GE(most, 30u);
    std::printf("%lu allocations\n", static_cast<unsigned long>(most));
    co_await test::expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// A scan that goes gives back what only it could read, in a destructor: that may be remembered or not, but nothing throws.
TEST(OutOfMemory, TheEndOfAScanNeverFails) {
  if (!test::kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  on_core(kArena, [&]() -> monterey::Task<> {
    for (std::uint64_t nth = 1; nth < 30; ++nth) {
      auto disk = std::make_shared<MemDisk>();
      Model model;
      co_await make_base(disk, model);
      auto db = co_await open_on(disk);
      std::optional<Scan> first(co_await db.scan(""));
      co_await fill(db, model, 0, 300, 50);
      std::optional<Scan> second(co_await db.scan(""));
      co_await fill(db, model, 100, 200, 70);
      co_await db.flush();
      EXPECT_GT(db.stats().held_blocks, 0u);
      {
        const FailingAllocation failing(nth);
        (nth % 2 == 0 ? first : second).reset();
        first.reset();
        second.reset();
      }
      co_await fill(db, model, 0, 300, 20);
      co_await db.flush();
      co_await db.close();
      auto again = co_await open_on(disk);
      EXPECT_EQ(again.stats().held_blocks, 0u);
      co_await test::expect_holds(again, model);
      co_await expect_clean(again);
      co_await again.close();
    }
  });
}

}  // namespace
}  // namespace store
