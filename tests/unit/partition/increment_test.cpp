// Incremental backups: the target becomes what a full copy would be, at the cost of what has changed; or it stays what it was.
// What must not be built on is refused.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "store/partition/increment.hpp"
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
using test::load_model;
using test::MemBlockDevice;
using test::MemDisk;
using test::Model;
using test::newest_meta;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

// Waits until the tasks of a dropped partition have given its memory back: all, or so much was free before it was opened.
monterey::Task<> wait_until_free(std::size_t bytes) {
  while (monterey::FixedBufs::current().free_bytes() < bytes) co_await monterey::yield();
}
monterey::Task<> wait_for_end() { return wait_until_free(monterey::FixedBufs::current().size_bytes()); }

monterey::Task<Partition> create_on(DiskPtr disk) { return Partition::create(device_on(disk), small_config()); }

monterey::Task<BackupReport> copy(const Partition& db, DiskPtr target) { return db.backup(device_on(target)); }

monterey::Task<BackupReport> copy_since(const Partition& db, DiskPtr target, std::uint64_t since) {
  const BackupOptions options{.since = since};
  return db.backup(device_on(target), options);
}

monterey::Task<> expect_refused(const Partition& db, DiskPtr target, std::uint64_t since, Errc errc,
                                std::string words) {
  const std::string before = test::image(*target);
  co_await expect_error(test::discard(copy_since(db, target, since)), errc, words);
  EXPECT_TRUE(test::image(*target) == before) << words;
}

// A sound store with the entries of the model, and counts that say so. It is not written to.
monterey::Task<> expect_copy(DiskPtr target, Model model) {
  auto db = co_await open_on(target);
  EXPECT_TRUE(db.stats().open_notes.empty());
  EXPECT_EQ(db.stats().entries, model.size());
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await db.close();
}

void erase(Model& model, const std::string& from, const std::string& to) {
  model.erase(model.lower_bound(from), model.lower_bound(to));
}

// --- what it brings ---

TEST(Increment, BringsTheTargetUpToDate) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model = bulk_model(20'000);
    co_await load_model(db, model);
    const auto target = std::make_shared<MemDisk>();
    BackupReport report = co_await copy(db, target);
    const Meta copied = newest_meta(*target);
    EXPECT_EQ(copied.origin.uuid, newest_meta(*disk).uuid);
    EXPECT_EQ(copied.origin.generation.value, report.generation);
    for (int round = 0; round < 6; ++round) {
      SCOPED_TRACE(fmt::format("round {}", round));
      co_await fill(db, model, round * 3'000, round * 3'000 + 500, 90);
      co_await fill(db, model, 20'000 + round, 20'003 + round, 3'000);
      const std::string from = numbered("key", round * 2'500 + 700);
      const std::string to = numbered("key", round * 2'500 + 1'900);
      co_await db.erase_range(from, to);
      erase(model, from, to);
      for (int i = round; i < 20'000; i += 997) {
        co_await db.erase(numbered("key", i));
        model.erase(numbered("key", i));
      }
      model[numbered("long", round)] = std::string(300'000, static_cast<char>('a' + round));
      co_await db.put(numbered("long", round), model[numbered("long", round)]);
      if (round % 2 == 1) co_await db.flush();
      if (round == 3) static_cast<void>(co_await db.compact());
      const auto counts = target->counts();
      const BackupReport next = co_await copy_since(db, target, report.generation);
      EXPECT_GT(next.generation, report.generation);
      EXPECT_EQ(next.blocks_written, target->counts().blocks_written - counts.blocks_written);
      EXPECT_EQ(next.bytes, newest_meta(*target).high_water * kPageBytes);
      report = next;
      co_await expect_copy(target, model);
    }
    EXPECT_EQ(newest_meta(*target).uuid, copied.uuid) << "it is the same store";
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    EXPECT_EQ(db.stats().held_blocks, 0u);
    // All is gone, and something is there again.
    co_await db.erase_range("");
    report = co_await copy_since(db, target, report.generation);
    co_await expect_copy(target, Model());
    Model last;
    co_await fill(db, last, 0, 10);
    report = co_await copy_since(db, target, report.generation);
    co_await expect_copy(target, last);
    co_await db.close();
  });
}

TEST(Increment, CostsWhatHasChanged) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model;
    for (int i = 0; i < 100'000; ++i) model[numbered("key", i)] = std::string(100, 'v');
    co_await load_model(db, model);
    const auto target = std::make_shared<MemDisk>();
    BackupReport report = co_await copy(db, target);
    const std::uint64_t whole = report.blocks_written;

    // Nothing: not a block is written, nor read but for the meta pages.
    auto before = target->counts();
    report = co_await copy_since(db, target, report.generation);
    EXPECT_EQ(report.blocks_written, 0u);
    EXPECT_EQ(target->counts().blocks_written, before.blocks_written);
    EXPECT_EQ(target->counts().blocks_read, before.blocks_read + kMetaBlocks + 1);

    // One entry of a hundred, neighbours: so much of both stores.
    for (int i = 50'000; i < 51'000; ++i) co_await db.put(numbered("key", i), std::string(100, 'w'));
    co_await db.flush();
    before = target->counts();
    const auto source_before = disk->counts();
    report = co_await copy_since(db, target, report.generation);
    RecordProperty("blocks_of_all", static_cast<int>(whole));
    RecordProperty("blocks_of_one_percent", static_cast<int>(report.blocks_written));
    EXPECT_LT(report.blocks_written * 100, whole * 2);
    EXPECT_LT((target->counts().blocks_read - before.blocks_read) * 100, whole);
    EXPECT_LT((disk->counts().blocks_read - source_before.blocks_read) * 100, whole * 2);

    // One entry: a path, the last leaf, the allocator's page, and two meta pages.
    co_await db.put(numbered("key", 7), "once more");
    report = co_await copy_since(db, target, report.generation);
    EXPECT_LE(report.blocks_written, 9u);

    co_await db.close();

    // A commit that changes no page of the tree, for a log: the meta page, which says so.
    auto logged = co_await Partition::open(device_on(disk), test::logged_config());
    const std::uint64_t generation = report.generation;
    report = co_await copy_since(logged, target, report.generation);
    EXPECT_GT(report.generation, generation);
    EXPECT_EQ(report.blocks_written, kMetaCopies);
    report = co_await copy_since(logged, target, report.generation);
    EXPECT_EQ(report.blocks_written, 0u);
    co_await logged.close();
  });
}

TEST(Increment, TakesAsMuchMemoryAsItsDeclarationSays) {
  constexpr std::size_t kReadingBytes = 64 * kPageBytes;
  EXPECT_LE(detail::Increment::memory_bytes() + kReadingBytes, 10u << 20);
}

TEST(Increment, HasTheStateAtTheCall) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model;
    co_await fill(db, model, 0, 3'000, 300);
    const auto target = std::make_shared<MemDisk>();
    BackupReport report = co_await copy(db, target);
    disk->complete(MemDisk::Completion::yield);
    for (int round = 0; round < 5; ++round) {
      co_await fill(db, model, round * 500, round * 500 + 200, 100);
      const Model expected = model;
      target->complete(MemDisk::Completion::held);  // until some writes have come behind it
      bool done = false;
      auto copying =
          monterey::spawn([](const Partition* from, DiskPtr to, BackupReport* made, bool* ended) -> monterey::Task<> {
            *made = co_await copy_since(*from, to, made->generation);
            *ended = true;
          }(&db, target, &report, &done));
      co_await monterey::yield();
      for (int writes = 0;; ++writes) {
        if (done) break;
        if (writes == 4) {
          target->complete(MemDisk::Completion::yield);
          target->release_all();
        }
        co_await fill(db, model, writes % 30 * 100, writes % 30 * 100 + 60, 120);
        co_await db.erase(numbered("key", writes));
        model.erase(numbered("key", writes));
        if (writes % 3 == 0) co_await db.flush();
      }
      co_await copying;
      target->complete(MemDisk::Completion::at_once);
      co_await expect_copy(target, expected);
    }
    co_await expect_holds(db, model);
    co_await db.flush();
    EXPECT_EQ(db.stats().held_blocks, 0u);
    co_await db.close();
  });
}

// Without a log a crash takes back what was not flushed; the copy must not have it.
TEST(Increment, FollowsASourceThatCrashes) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const auto target = std::make_shared<MemDisk>();
    Model model;
    BackupReport report;
    {
      auto db = co_await create_on(disk);
      co_await fill(db, model, 0, 2'000);
      report = co_await copy(db, target);
    }
    for (int round = 0; round < 4; ++round) {
      co_await wait_for_end();
      auto db = co_await open_on(disk);
      co_await expect_holds(db, model);
      co_await fill(db, model, round * 400, round * 400 + 10);
      report = co_await copy_since(db, target, report.generation);
      Model lost = model;
      co_await fill(db, lost, 100, 300, 10);
    }
    co_await wait_for_end();
    auto db = co_await open_on(disk);
    co_await expect_holds(db, model);
    report = co_await copy_since(db, target, report.generation);
    co_await db.close();
    co_await expect_copy(target, model);
  });
}

TEST(Increment, GoesOnThroughACopyOfTheCopy) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model = bulk_model(3'000);
    co_await load_model(db, model);
    const auto first = std::make_shared<MemDisk>();
    const auto second = std::make_shared<MemDisk>();
    BackupReport of_first = co_await copy(db, first);
    BackupReport of_second;
    {
      auto middle = co_await open_on(first);
      of_second = co_await copy(middle, second);
      co_await middle.close();
    }
    for (int round = 0; round < 3; ++round) {
      co_await fill(db, model, round * 900, round * 900 + 50);
      of_first = co_await copy_since(db, first, of_first.generation);
      auto middle = co_await open_on(first);
      of_second = co_await copy_since(middle, second, of_second.generation);
      co_await middle.close();
    }
    co_await db.close();
    co_await expect_copy(second, model);
  });
}

// --- what is refused ---

TEST(Increment, RefusesATargetThatIsNotThatCopy) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model;
    co_await fill(db, model, 0, 500);
    const DiskPtr older_file = disk->copy();
    const auto target = std::make_shared<MemDisk>();
    const BackupReport report = co_await copy(db, target);
    const std::uint64_t since = report.generation;
    co_await fill(db, model, 0, 20);
    co_await db.flush();

    co_await expect_refused(db, target, 0, Errc::invalid_argument, "`since` is 0");
    co_await expect_refused(db, target, since + 1, Errc::invalid_argument,
                            fmt::format("of generation {}|not of {}|since|full copy", since, since + 1));
    {
      auto older = co_await open_on(older_file);
      co_await expect_refused(older, target, since, Errc::invalid_argument, "put back to an older state|full copy");
      co_await expect_refused(older, target, BackupOptions::kOfTarget, Errc::invalid_argument, "older state|full copy");
      co_await older.close();
    }
    co_await expect_refused(db, std::make_shared<MemDisk>(), since, Errc::not_a_store, "empty|full copy");
    MemDisk::Options options;
    options.size_blocks = 10;
    const auto junk = std::make_shared<MemDisk>(options);
    std::ranges::fill(junk->block(PageNo(0)), std::byte{'j'});
    co_await expect_refused(db, junk, since, Errc::not_a_store, "not a store");

    const auto other_disk = std::make_shared<MemDisk>();
    auto other = co_await create_on(other_disk);
    co_await expect_refused(db, other_disk->copy(), since, Errc::invalid_argument, "no copy of a store|full copy");
    const auto of_other = std::make_shared<MemDisk>();
    for (std::uint64_t generation = 0; generation < since;) {
      co_await other.put("a", "b");
      co_await other.flush();
      generation = other.stats().generation;
    }
    const BackupReport others = co_await copy(other, of_other);
    co_await expect_refused(db, of_other, others.generation, Errc::invalid_argument, "another store|full copy");
    co_await other.close();

    auto read_only = device_on(target->copy(), MemBlockDevice::Access::read_only);
    const BackupOptions increment{.since = since};
    co_await expect_error(test::discard(db.backup(std::move(read_only), increment)), Errc::read_only, "reading only");
    static_cast<void>(co_await copy_since(db, target, BackupOptions::kOfTarget));
    co_await expect_copy(target, model);
    co_await db.close();
  });
}

TEST(Increment, RefusesATargetThatWasWrittenTo) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model = bulk_model(2'000);
    co_await load_model(db, model);
    const auto target = std::make_shared<MemDisk>();
    const BackupReport report = co_await copy(db, target);
    co_await fill(db, model, 0, 20);
    co_await db.flush();

    // A flush that changes something, also back to what it was.
    const std::size_t free_bytes = monterey::FixedBufs::current().free_bytes();
    const DiskPtr flushed = target->copy();
    {
      auto there = co_await open_on(flushed);
      EXPECT_EQ(there.stats().origin.generation, report.generation);
      EXPECT_EQ(there.stats().origin.uuid, db.stats().uuid);
      const std::optional<std::string> value = co_await there.get(numbered("key", 1));
      co_await there.put(numbered("key", 1), value.value_or(""));
      co_await there.flush();
      EXPECT_EQ(there.stats().origin.generation, 0u);
      co_await there.close();
    }
    co_await expect_refused(db, flushed, report.generation, Errc::invalid_argument, "written to since|full copy");

    // In its log alone.
    const DiskPtr logged = target->copy();
    {
      auto there = co_await Partition::open(device_on(logged), test::logged_config());
      co_await there.put("a", "b");
      co_await there.sync();
    }
    co_await wait_until_free(free_bytes);
    co_await expect_refused(db, logged, report.generation, Errc::invalid_argument, "its log has changes|full copy");

    // To read it, with a log, and to compact it, is not to write to it; neither is what a crash took back.
    const DiskPtr unchanged = target->copy();
    {
      auto there = co_await Partition::open(device_on(unchanged), test::logged_config());
      static_cast<void>(co_await there.compact());
      co_await there.close();
    }
    {
      auto there = co_await open_on(unchanged);
      co_await there.put("a", "b");
    }
    co_await wait_until_free(free_bytes);
    const BackupReport next = co_await copy_since(db, unchanged, report.generation);
    co_await expect_copy(unchanged, model);
    {
      auto there = co_await Partition::open(device_on(unchanged), test::logged_config());
      co_await expect_holds(there, model);
      co_await expect_clean(there);
      co_await there.put("goes", "on");
      co_await there.close();
    }
    co_await expect_refused(db, unchanged, next.generation, Errc::invalid_argument, "written to since");

    // Loaded in bulk.
    const DiskPtr emptied = target->copy();
    {
      auto there = co_await open_on(emptied);
      co_await there.erase_range("");
      co_await there.flush();
      co_await load_model(there, bulk_model(2'000));
      co_await there.close();
    }
    co_await expect_refused(db, emptied, report.generation, Errc::invalid_argument, "written to since");
    co_await db.close();
  });
}

// A copy of a commit that the source has lost, whose generation number comes again.
TEST(Increment, RefusesACopyOfALostCommit) {
  on_core(kArena, [&]() -> monterey::Task<> {
    for (const bool asked_for : {false, true}) {
      SCOPED_TRACE(asked_for ? "a rollback" : "a meta slot that rotted");
      const auto disk = std::make_shared<MemDisk>();
      const auto target = std::make_shared<MemDisk>();
      const auto before = std::make_shared<MemDisk>();
      Model model;
      Model lost;
      BackupReport report;
      BackupReport report_before;
      {
        auto db = co_await create_on(disk);
        co_await fill(db, model, 0, 2'000);
        report_before = co_await copy(db, before);
        lost = model;
        co_await fill(db, lost, 500, 600, 20);
        report = co_await copy(db, target);
        co_await db.close();
      }
      if (asked_for) {
        test::flip_bit(*disk, newest_meta(*disk).tree_root.page, 999);
      } else {
        const std::uint32_t slot = test::newest_slot(*disk);
        for (std::uint32_t twin = 0; twin < kMetaCopies; ++twin) test::flip_bit(*disk, meta_block(slot, twin), 999);
      }
      for (int opens = 0; opens < 3; ++opens) {  // the first one loses commits
        SCOPED_TRACE(fmt::format("open {}", opens));
        auto db = co_await open_on(disk, OpenOptions{.allow_rollback = opens == 0 && asked_for});
        co_await expect_holds(db, model);
        co_await fill(db, model, 700, 701);
        co_await db.flush();
        EXPECT_GE(db.stats().generation, report.generation);
        co_await expect_refused(db, target, report.generation, Errc::invalid_argument,
                                "without its newest commits|full copy");
        co_await expect_refused(db, before, report_before.generation, Errc::invalid_argument,
                                "without its newest commits|full copy");
        co_await expect_clean(db);
        const auto anew = std::make_shared<MemDisk>();
        const BackupReport next = co_await copy(db, anew);
        co_await fill(db, model, 800, 810);
        static_cast<void>(co_await copy_since(db, anew, next.generation));
        co_await expect_copy(anew, model);
        co_await db.close();
      }
    }
  });
}

TEST(Increment, OfASourceThatCannotCommit) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const auto target = std::make_shared<MemDisk>();
    Model model;
    BackupReport report;
    {
      auto db = co_await Partition::create(device_on(disk), test::logged_config());
      co_await fill(db, model, 0, 1'000);
      co_await db.close();
    }
    // Only read, and closed before: as any other.
    {
      auto db = co_await Partition::open(device_on(disk, MemBlockDevice::Access::read_only), test::logged_config());
      report = co_await copy(db, target);
      EXPECT_GT(report.generation, 0u);
      co_await db.close();
    }
    {
      auto db = co_await Partition::open(device_on(disk), test::logged_config());
      co_await fill(db, model, 0, 30);
      report = co_await copy_since(db, target, report.generation);
      co_await expect_copy(target, model);
      co_await fill(db, model, 900, 1'100);  // in the log alone
      co_await db.sync();
    }
    co_await wait_for_end();
    // Only read, with writes in the log: a full copy has them, but nothing follows on it.
    {
      auto db = co_await Partition::open(device_on(disk, MemBlockDevice::Access::read_only), test::logged_config());
      co_await expect_refused(db, target, report.generation, Errc::read_only, "log has writes|open it for writing");
      const auto whole = std::make_shared<MemDisk>();
      const BackupReport of_whole = co_await copy(db, whole);
      EXPECT_EQ(of_whole.generation, 0u);
      co_await expect_copy(whole, model);
      co_await db.close();
    }
    // A flush that fails, and then a sync, which poisons.
    {
      auto db = co_await Partition::open(device_on(disk), test::logged_config());
      co_await fill(db, model, 0, 10);
      disk->inject({.op = DeviceOp::write, .times = 1'000});
      co_await expect_refused(db, target, report.generation, Errc::io_error, "");
      const auto whole = std::make_shared<MemDisk>();
      BackupReport of_whole = co_await copy(db, whole);
      EXPECT_EQ(of_whole.generation, 0u);
      co_await expect_copy(whole, model);
      disk->clear_faults();
      disk->inject({.op = DeviceOp::sync});
      co_await expect_refused(db, target, report.generation, Errc::io_error, "");
      disk->clear_faults();
      co_await expect_refused(db, target, report.generation, Errc::poisoned, "");
      const auto poisoned = std::make_shared<MemDisk>();
      of_whole = co_await copy(db, poisoned);
      EXPECT_EQ(of_whole.generation, 0u);
      co_await expect_copy(poisoned, model);
    }
    co_await wait_for_end();
    auto db = co_await Partition::open(device_on(disk), test::logged_config());
    co_await expect_holds(db, model);
    static_cast<void>(co_await copy_since(db, target, report.generation));
    co_await expect_copy(target, model);
    co_await db.close();
  });
}

// --- what fails on the way ---

TEST(Increment, AnyFailureLeavesTheOldCopyOrTheNewOne) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    const Model before = bulk_model(1'000);
    Model model = before;
    co_await load_model(db, model);
    const auto old = std::make_shared<MemDisk>();
    const BackupReport report = co_await copy(db, old);
    co_await fill(db, model, 200, 250, 60);
    co_await fill(db, model, 1'000, 1'030, 2'000);
    model["long"] = std::string(200'000, 'l');
    co_await db.put("long", model["long"]);
    co_await db.erase_range(numbered("key", 400), numbered("key", 700));
    erase(model, numbered("key", 400), numbered("key", 700));
    co_await db.flush();
    const DiskPtr clean = old->copy();
    static_cast<void>(co_await copy_since(db, clean, report.generation));
    const test::DeviceCounts& counts = clean->counts();
    const std::pair<DeviceOp, std::uint64_t> operations[] = {{DeviceOp::write, counts.writes},
                                                             {DeviceOp::sync, counts.syncs},
                                                             {DeviceOp::grow, counts.grows},
                                                             {DeviceOp::read, counts.reads}};
    for (const auto& [op, count] : operations) {
      EXPECT_GT(count, 0u);
      std::uint64_t kept = 0;
      for (std::uint64_t nth = 0; nth < count; ++nth) {
        SCOPED_TRACE(fmt::format("operation {} of kind {}", nth, static_cast<int>(op)));
        const DiskPtr target = old->copy();
        if (nth % 2 == 1) target->complete(MemDisk::Completion::yield);
        target->inject({.op = op, .skip = nth});
        bool failed = false;
        try {
          static_cast<void>(co_await copy_since(db, target, report.generation));
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::io_error) << error.what();
          failed = true;
        }
        target->clear_faults();
        target->complete(MemDisk::Completion::at_once);
        EXPECT_EQ(target->in_flight(), 0u);
        const bool is_old = newest_meta(*target).origin.generation.value == report.generation;
        EXPECT_TRUE(failed || !is_old);
        kept += is_old;
        co_await expect_copy(target, is_old ? before : model);
        const bool names_it = (op == DeviceOp::write || op == DeviceOp::sync) && nth + 1 == count;
        if (is_old && !names_it) {
          EXPECT_EQ(target->size_blocks(), old->size_blocks());
        }
        // And then it is made.
        const std::uint64_t since = newest_meta(*target).origin.generation.value;
        static_cast<void>(co_await copy_since(db, target, since));
        co_await expect_copy(target, model);
      }
      // But a meta page with a good twin can be read, and the last sync may fail when all is done.
      EXPECT_GE(kept + (op == DeviceOp::read ? kMetaBlocks : 1), count);
    }
    co_await expect_holds(db, model);
    co_await db.close();
  });
}

TEST(Increment, SaysHowMuchItNeeds) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model before;
    for (int i = 0; i < 4'000; ++i) before[numbered("key", i)] = std::string(300, 'v');
    Model model = before;
    co_await load_model(db, model);
    const auto target = std::make_shared<MemDisk>();
    const BackupReport report = co_await copy(db, target);
    co_await fill(db, model, 1'000, 2'500, 400);
    model["long"] = std::string(500'000, 'l');
    co_await db.put("long", model["long"]);
    target->set_capacity_blocks(target->size_blocks() + 20);
    std::string what;
    const Errc errc = co_await test::error_of(test::discard(copy_since(db, target, report.generation)), &what);
    EXPECT_EQ(errc, Errc::no_space);
    test::expect_words(what, "too small|may need up to|blocks of 4096 bytes|nothing was changed");
    co_await expect_copy(target, before);
    const auto at = what.find("up to ");
    const std::uint64_t blocks = at == std::string::npos ? 0 : std::stoul(what.substr(at + 6));
    EXPECT_LT(blocks, 4 * report.blocks_written);
    target->set_capacity_blocks(blocks);
    static_cast<void>(co_await copy_since(db, target, report.generation));
    co_await expect_copy(target, model);
    co_await db.close();
  });
}

TEST(Increment, CloseEndsIt) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    const Model before = bulk_model(20'000);
    co_await load_model(db, before);
    const auto target = std::make_shared<MemDisk>();
    const BackupReport report = co_await copy(db, target);
    Model model = before;
    co_await fill(db, model, 0, 15'000, 10);
    co_await db.flush();
    target->complete(MemDisk::Completion::yield);
    std::string what;
    auto copying = monterey::spawn(test::error_of(test::discard(copy_since(db, target, report.generation)), &what));
    co_await monterey::yield();
    co_await db.close();
    const Errc errc = co_await copying;
    EXPECT_EQ(errc, Errc::closed) << what;
    target->complete(MemDisk::Completion::at_once);
    co_await expect_copy(target, before);
  });
}

// A source with pages in wrong places, their checksums right: an error, and the target is as it was.
TEST(Increment, EndsWithTheDamageThatItMeets) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const auto target = std::make_shared<MemDisk>();
    const Model before = bulk_model(5'000);
    BackupReport report;
    {
      auto db = co_await create_on(disk);
      co_await load_model(db, before);
      report = co_await copy(db, target);
      Model model = before;
      co_await fill(db, model, 2'400, 2'600, 50);
      co_await db.close();
    }
    std::vector<PageNo> pages = test::path_to(*disk, numbered("key", 2'500));
    pages.erase(pages.begin());  // without the root a store is not opened
    for (const PageNo page : pages) {
      const DiskPtr damaged = disk->copy();
      test::flip_bit(*damaged, page, 999);
      auto db = co_await open_on(damaged);
      co_await expect_error(test::discard(copy_since(db, target, report.generation)), Errc::corruption,
                            std::to_string(page.value));
      co_await db.close();
      co_await expect_copy(target, before);
    }
  });
}

}  // namespace
}  // namespace store
