// Backups: a copy of the state at the call, whatever happens beside it; a store of its own, packed; or none at all.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <random>

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
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

monterey::Task<Partition> create_on(DiskPtr disk) { return Partition::create(device_on(disk), small_config()); }

monterey::Task<> back_up(const Partition& db, DiskPtr target, BackupOptions options = {}) {
  static_cast<void>(co_await db.backup(device_on(target), options));
}

// A store that opens without a note, is sound, holds the model, and goes on.
monterey::Task<> expect_copy(DiskPtr target, Model model) {
  auto db = co_await open_on(target);
  EXPECT_TRUE(db.stats().open_notes.empty());
  EXPECT_EQ(db.stats().entries, model.size());
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await fill(db, model, 50, 80);
  co_await db.erase(numbered("key", 0));
  model.erase(numbered("key", 0));
  co_await db.flush();
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await db.close();
}

monterey::Task<> expect_no_store(DiskPtr target) {
  std::string what;
  const Errc errc = co_await test::error_of(test::discard(open_on(target)), &what);
  EXPECT_EQ(errc, Errc::not_a_store) << what;
}

TEST(Backup, IsAPackedStoreOfItsOwn) {
  on_core(kArena, [&]() -> monterey::Task<> {
    for (const int count : {0, 1, 1'000, 30'000}) {
      SCOPED_TRACE(fmt::format("{} entries", count));
      const auto disk = std::make_shared<MemDisk>();
      auto db = co_await create_on(disk);
      const Model model = bulk_model(count);
      // In random order and with much that is erased again, so that it is anything but packed.
      std::vector<std::pair<std::string, std::string>> entries(model.begin(), model.end());
      std::ranges::shuffle(entries, std::mt19937(1));
      for (const auto& [key, value] : entries) {
        co_await db.put(key, value);
        co_await db.put(key + "x", "y");
      }
      co_await db.flush();
      // Half of the leaves at a time: where nearly all are touched they are packed anew.
      for (const std::size_t half : {0, 1}) {
        std::size_t at = 0;
        for (const auto& [key, value] : model) {
          if (at++ / 200 % 2 == half) co_await db.erase(key + "x");
        }
        co_await db.flush();
      }
      const auto target = std::make_shared<MemDisk>();
      const BackupReport report = co_await db.backup(device_on(target));
      const Stats stats = db.stats();
      EXPECT_EQ(report.generation, stats.generation);
      EXPECT_EQ(report.bytes, target->size_blocks() * kPageBytes);
      EXPECT_EQ(report.blocks_written, target->counts().blocks_written);
      EXPECT_LE(target->size_blocks(), kMetaBlocks + stats.tree_pages + stats.overflow_blocks + 3);
      const Meta source_meta = test::newest_meta(*disk);
      const Meta target_meta = test::newest_meta(*target);
      EXPECT_NE(source_meta.uuid, target_meta.uuid);
      if (count == 30'000) {
        // Its leaves are full, the source's are not.
        EXPECT_LT(target_meta.tree_pages * 100, stats.tree_pages * 97);
        EXPECT_LE(target_meta.high_water, target_meta.tree_pages + target_meta.overflow_blocks + kMetaBlocks + 2);
      }
      co_await expect_clean(db);
      co_await db.close();
      co_await expect_copy(target, model);
    }
  });
}

TEST(Backup, HasWhatIsBufferedAndNothingWrittenLater) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model;
    co_await fill(db, model, 0, 3'000, 300);
    co_await db.flush();
    // In the buffer: changes, erases, values of every kind.
    co_await fill(db, model, 2'900, 3'020, 50);
    co_await db.erase(numbered("key", 7));
    model.erase(numbered("key", 7));
    for (const std::size_t bytes : {0u, 1025u, 65'537u, 300'000u}) {
      const std::string key = fmt::format("of {} bytes", bytes);
      model[key] = std::string(bytes, 'b');
      co_await db.put(key, model[key]);
    }
    const Model expected = model;
    disk->complete(MemDisk::Completion::yield);
    const auto target = std::make_shared<MemDisk>();
    target->complete(MemDisk::Completion::held);  // until some rounds have changed what is copied
    bool done = false;
    auto copying = monterey::spawn([](const Partition* from, DiskPtr to, bool* ended) -> monterey::Task<> {
      co_await back_up(*from, to);
      *ended = true;
    }(&db, target, &done));
    co_await monterey::yield();
    int rounds = 0;
    for (;; ++rounds) {
      if (done) break;
      if (rounds == 4) {
        target->complete(MemDisk::Completion::yield);
        target->release_all();
      }
      co_await fill(db, model, rounds % 30 * 100, rounds % 30 * 100 + 60, 120);
      for (int i = 0; i < 20; ++i) {
        const std::string key = numbered("key", (rounds * 37 + i * 11) % 3'000);
        co_await db.erase(key);
        model.erase(key);
      }
      if (rounds % 3 == 0) co_await db.flush();
    }
    EXPECT_GT(rounds, 3);
    co_await copying;
    co_await expect_holds(db, model);
    co_await db.flush();
    co_await expect_clean(db);
    EXPECT_EQ(db.stats().held_blocks, 0u);
    co_await db.close();
    co_await expect_copy(target, expected);
  });
}

TEST(Backup, OfAStoreThatIsOnlyRead) {
  on_core(test::logged_arena(), [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    {
      auto db = co_await Partition::create(device_on(disk), test::logged_config());
      co_await fill(db, model, 0, 300);
      co_await db.flush();
      co_await fill(db, model, 200, 400);  // in the log alone
      const Partition dropped = std::move(db);
    }
    co_await test::wait_for_memory();
    const auto target = std::make_shared<MemDisk>();
    {
      auto db = co_await Partition::open(device_on(disk, MemBlockDevice::Access::read_only), test::logged_config());
      co_await back_up(db, target);
      co_await db.close();
    }
    // It begins a log of its own.
    {
      auto db = co_await Partition::open(device_on(target), test::logged_config());
      co_await expect_holds(db, model);
      co_await db.put("after", "all");
      const Partition dropped = std::move(db);
    }
    co_await test::wait_for_memory();
    model["after"] = "all";
    auto db = co_await Partition::open(device_on(target), test::logged_config());
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// --- the target ---

TEST(Backup, ReplacesNothingUnlessTold) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    const Model model = bulk_model(500);
    co_await load_model(db, model);
    const auto target = std::make_shared<MemDisk>();
    Model other;
    {
      auto there = co_await create_on(target);
      co_await fill(there, other, 0, 20'000, 400);
      co_await there.close();
    }
    const std::string before = test::image(*target);
    co_await expect_error(back_up(db, target), Errc::already_exists, "holds a store|overwrite");
    EXPECT_TRUE(test::image(*target) == before);
    co_await back_up(db, target, BackupOptions{.overwrite = true});
    EXPECT_LT(target->size_blocks() * 2, before.size() / kPageBytes) << "the old store's blocks are still there";
    co_await expect_copy(target, model);

    MemDisk::Options options;
    options.size_blocks = 100;
    const auto junk = std::make_shared<MemDisk>(options);
    std::ranges::fill(junk->block(PageNo(0)), std::byte{'j'});
    co_await expect_error(back_up(db, junk), Errc::not_a_store, "not a store|overwrite");
    co_await back_up(db, junk, BackupOptions{.overwrite = true});
    co_await expect_copy(junk, model);

    auto read_only = device_on(std::make_shared<MemDisk>(), MemBlockDevice::Access::read_only);
    co_await expect_error(test::discard(db.backup(std::move(read_only))), Errc::read_only, "reading only");
    co_await db.close();
    co_await expect_error(back_up(db, std::make_shared<MemDisk>()), Errc::closed, "closed");
  });
}

TEST(Backup, SaysBeforehandHowMuchItNeeds) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    Model model;
    for (int i = 0; i < 4'000; ++i) model[numbered("key", i)] = std::string(300, 'v');
    co_await load_model(db, model);
    co_await fill(db, model, 4'000, 4'100, 300);
    const std::string long_value(500'000, 'l');
    co_await db.put("long", long_value);
    model["long"] = long_value;
    // A store is on it, and stays.
    MemDisk::Options options;
    options.capacity_blocks = 100;
    const auto target = std::make_shared<MemDisk>(options);
    {
      auto there = co_await create_on(target);
      co_await there.close();
    }
    const std::string before = test::image(*target);
    std::string what;
    const Errc errc = co_await test::error_of(back_up(db, target, BackupOptions{.overwrite = true}), &what);
    EXPECT_EQ(errc, Errc::no_space);
    test::expect_words(what, "too small|may need up to|blocks of 4096 bytes|nothing was written");
    EXPECT_TRUE(test::image(*target) == before);
    // What it asks for is enough, and not much more than the source has.
    const auto at = what.find("up to ");
    const std::uint64_t blocks = at == std::string::npos ? 0 : std::stoul(what.substr(at + 6));
    EXPECT_LT(blocks, db.stats().high_water_blocks + 123 + 30);
    options.capacity_blocks = blocks;
    const auto fits = std::make_shared<MemDisk>(options);
    co_await back_up(db, fits);
    fits->set_capacity_blocks(2 * blocks);
    co_await db.close();
    co_await expect_copy(fits, model);
  });
}

TEST(Backup, AnyFailureOfTheTargetLeavesNoStore) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    const Model model = bulk_model(3'000);
    co_await load_model(db, model);
    const auto old = std::make_shared<MemDisk>();
    {
      auto there = co_await create_on(old);
      co_await there.put("old", "store");
      co_await there.close();
    }
    for (const DeviceOp op : {DeviceOp::write, DeviceOp::sync, DeviceOp::grow, DeviceOp::shrink, DeviceOp::read}) {
      std::uint64_t nth = 0;
      for (bool failed = true; failed; ++nth) {
        SCOPED_TRACE(fmt::format("operation {} of kind {}", nth, static_cast<int>(op)));
        const DiskPtr target = old->copy();
        if (nth % 2 == 1) target->complete(MemDisk::Completion::yield);
        target->inject({.op = op, .skip = nth});
        failed = false;
        try {
          co_await back_up(db, target, BackupOptions{.overwrite = true});
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::io_error) << error.what();
          failed = true;
        }
        target->clear_faults();
        EXPECT_EQ(target->in_flight(), 0u);
        if (!failed) {
          co_await expect_copy(target, model);
          continue;
        }
        // Before anything was cleared the old store may be there, but never the half of a new one.
        std::optional<Partition> opened;
        try {
          opened.emplace(co_await open_on(target));
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::not_a_store) << error.what();
        }
        if (!opened) continue;
        const Model left = {{"old", "store"}};
        co_await expect_holds(*opened, left);
        co_await opened->close();
      }
      if (op != DeviceOp::read) {
        EXPECT_GE(nth, 2u);
      }
    }
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// --- the source ---

TEST(Backup, EndsWithTheDamageThatItMeets) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    {
      auto db = co_await create_on(disk);
      co_await load_model(db, bulk_model(5'000));
      co_await db.close();
    }
    std::vector<PageNo> pages = test::path_to(*disk, numbered("key", 2'500));
    pages.erase(pages.begin());  // without the root a store is not opened
    int runs = 0;
    for (int i = 0; i < 5'000 && runs < 3; ++i) {
      const LeafView leaf(disk->block(test::leaf_of(*disk, numbered("key", i))).data());
      const Lookup slot = leaf.find(numbered("key", i));
      if (!leaf.is_run(slot.slot)) continue;
      pages.push_back(leaf.value(slot.slot).run().first);
      ++runs;
    }
    EXPECT_EQ(runs, 3);
    for (const PageNo page : pages) {
      SCOPED_TRACE(fmt::format("page {}", page.value));
      const DiskPtr damaged = disk->copy();
      test::flip_bit(*damaged, page, 999);
      auto db = co_await open_on(damaged);
      const auto target = std::make_shared<MemDisk>();
      co_await expect_error(back_up(db, target), Errc::corruption, std::to_string(page.value));
      EXPECT_EQ(target->size_blocks(), 0u);
      co_await expect_no_store(target);
      co_await db.close();
      // A read that fails is no better.
      const DiskPtr failing = disk->copy();
      auto other = co_await open_on(failing);
      failing->on_operation = [page](const test::Operation& operation) -> std::optional<Error> {
        if (operation.op != DeviceOp::read || !operation.covers(page)) return std::nullopt;
        return Error::from_errno(EIO, "read");
      };
      co_await expect_error(back_up(other, target), Errc::io_error, "read");
      co_await expect_no_store(target);
      failing->on_operation = nullptr;
      co_await back_up(other, target);
      co_await other.close();
    }
  });
}

TEST(Backup, CloseEndsIt) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    co_await load_model(db, bulk_model(20'000));
    const auto target = std::make_shared<MemDisk>();
    target->complete(MemDisk::Completion::yield);
    std::string what;
    auto copying = monterey::spawn(test::error_of(back_up(db, target), &what));
    co_await monterey::yield();
    co_await db.close();
    const Errc errc = co_await copying;
    EXPECT_EQ(errc, Errc::closed) << what;
    co_await expect_no_store(target);
  });
}

TEST(Backup, ManyAtOnceAndOneOfACopy) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    auto db = co_await create_on(disk);
    const Model model = bulk_model(6'000);
    co_await load_model(db, model);
    disk->complete(MemDisk::Completion::yield);
    std::vector<DiskPtr> targets;
    std::vector<monterey::JoinHandle<>> copying;
    for (int i = 0; i < 4; ++i) {
      targets.push_back(std::make_shared<MemDisk>());
      copying.push_back(monterey::spawn(back_up(db, targets.back())));
    }
    for (auto& one : copying) co_await one;
    co_await db.close();
    const auto again = std::make_shared<MemDisk>();
    {
      auto copy = co_await open_on(targets[2]);
      co_await back_up(copy, again);
      co_await copy.close();
    }
    EXPECT_EQ(again->size_blocks(), targets[2]->size_blocks());
    targets.push_back(again);
    for (const DiskPtr& target : targets) co_await expect_copy(target, model);
  });
}

}  // namespace
}  // namespace store
