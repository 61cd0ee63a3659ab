// Damage on the device: every kind of page with a flipped bit, the meta pages and the roots among them. What needs the
// damaged page says which page and which check, everything else works, nothing is written, and no older state is taken for
// the newest.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "store/page/bitmap_page.hpp"
#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::expect_clean;
using test::expect_error;
using test::expect_holds;
using test::expect_words;
using test::fill;
using test::flip_bit;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 4u << 20;
constexpr const char* kRestore = "|restore";

monterey::Task<> open_and_close(DiskPtr disk, OpenOptions options = {}) {
  auto db = co_await open_on(disk, options);
  co_await db.close();
}

// A store of three levels, a value in a small run and one in a run with a table.
monterey::Task<> make_store(DiskPtr disk, Model& model, int entries = 8'000) {
  auto db = co_await Partition::create(test::device_on(disk), small_config());
  co_await fill(db, model, 0, entries);
  model["middle"] = std::string(5'000, 'm');
  model["large"] = std::string(150'000, 'l');
  co_await db.put("middle", model["middle"]);
  co_await db.put("large", model["large"]);
  co_await db.close();
}

// Opens the store with `page` damaged at `bit`: what reads `key` fails with all of `words`, `other` can be read, check()
// finds it, a commit that needs the page loses nothing, and once the bit is back all is as it was.
monterey::Task<> expect_contained(DiskPtr disk, const Model& model, PageNo page, std::size_t bit, std::string key,
                                  std::string other, std::string words) {
  SCOPED_TRACE(fmt::format("page {}, bit {}, key {}", page.value, bit, key));
  flip_bit(*disk, page, bit);
  const std::string before = test::image(*disk);
  {
    auto db = co_await open_on(disk);
    co_await expect_error(test::get(db, key), Errc::corruption, words);
    co_await expect_error(test::get(db, key), Errc::corruption, words);  // not remembered as good
    co_await expect_error(test::get_pinned(db, key), Errc::corruption, words);
    co_await expect_error(test::get_many(db, key), Errc::corruption, words);
    co_await expect_error(test::scan_all(db), Errc::corruption, words);
    const auto value = co_await db.get(other);
    EXPECT_TRUE(value == model.at(other));
    const CheckReport report = co_await db.check();
    EXPECT_FALSE(report.ok);
    EXPECT_FALSE(report.errors.empty());
    std::string all;
    for (const std::string& error : report.errors) all += error + "; ";
    expect_words(all, words.substr(0, words.find(kRestore)));
    co_await db.close();
  }
  EXPECT_TRUE(test::image(*disk) == before) << "reading wrote to the device";
  flip_bit(*disk, page, bit);
}

TEST(Damage, AFlippedBitInALeafIsContained) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const PageNo leaf = test::leaf_of(*disk, "key004000");
    const std::string words = fmt::format("page {}: |crc", leaf.value) + kRestore;
    // The stored CRC, the page number, the generation, the count, the heads, the last byte.
    for (const std::size_t bit : {5u, 4u * 8, 9u * 8 + 3, 16u * 8 + 1, 40u * 8 + 7, 4096u * 8 - 1}) {
      co_await expect_contained(disk, model, leaf, bit, "key004000", "key000000", words);
    }
    auto db = co_await open_on(disk);
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(Damage, AFlippedBitInABranchIsContained) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::vector<PageNo> path = test::path_to(*disk, "key007999");
    EXPECT_EQ(path.size(), 3u);
    EXPECT_NE(test::path_to(*disk, "key000000")[1], path[1]);
    const std::string words = fmt::format("page {}: |crc", path[1].value) + kRestore;
    for (const std::size_t bit : {30u, 17u * 8, 100u * 8, 3000u * 8}) {
      co_await expect_contained(disk, model, path[1], bit, "key007999", "key000000", words);
    }
  });
}

TEST(Damage, AFlippedBitInAnOverflowRunIsContained) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    struct Case {
      const char* key;
      bool last;  // of the run's blocks: there is the table of the long value
      std::size_t bit;
    };
    for (const Case& at : {Case{"middle", false, 77}, Case{"large", false, 77}, Case{"large", true, 4096u * 8 - 1}}) {
      const OverflowRef run = test::run_of(*disk, at.key);
      const std::uint32_t block = run.first.value + (at.last ? run_extent(run).count - 1 : 0);
      const std::string words =
          fmt::format("overflow run of {} bytes at block {}: |crc", run.length, run.first.value) + kRestore;
      co_await expect_contained(disk, model, PageNo(block), at.bit, at.key, "key000000", words);
    }
    auto db = co_await open_on(disk);
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(Damage, AStaleOrMisdirectedPageIsFoundByItsPointer) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const PageNo leaf = test::leaf_of(*disk, "key004000");
    const PageNo other = test::leaf_of(*disk, "key000000");
    const std::string good = test::bytes_of(*disk, leaf);
    // A write that went to the wrong block: whole, but another page.
    std::memcpy(disk->block(leaf).data(), disk->block(other).data(), kPageBytes);
    auto db = co_await open_on(disk);
    const std::string misdirected =
        fmt::format("page {}: |page number: written for block {}|misdirected", leaf.value, other.value) + kRestore;
    co_await expect_error(test::get(db, "key004000"), Errc::corruption, misdirected);
    co_await db.close();
    // What was there before: right place, another generation.
    std::memcpy(disk->block(leaf).data(), good.data(), good.size());
    std::byte& generation = disk->block(leaf)[8];
    generation = static_cast<std::byte>(static_cast<unsigned>(generation) ^ 1u);
    test::repair_crc(*disk, leaf);
    auto again = co_await open_on(disk);
    const std::string stale = fmt::format("page {}: |generation|stale", leaf.value) + kRestore;
    co_await expect_error(test::get(again, "key004000"), Errc::corruption, stale);
    co_await again.close();
  });
}

// A commit that meets damage is given up: what was written stays readable, and goes in when the device is whole again.
TEST(Damage, ACommitThatNeedsADamagedPageLosesNothing) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const PageNo leaf = test::leaf_of(*disk, "key004000");
    const std::string words = fmt::format("page {}: |crc", leaf.value) + kRestore;
    flip_bit(*disk, leaf, 1234);
    auto db = co_await open_on(disk);
    const std::uint64_t generation = db.stats().generation;
    co_await db.put("key004000", "new");
    co_await db.put("key000000", "new too");
    for (int attempt = 0; attempt < 2; ++attempt) {
      co_await expect_error(db.flush(), Errc::corruption, words);
      EXPECT_EQ(db.stats().generation, generation);
      EXPECT_EQ(db.stats().poisoned, "");
      const auto value = co_await db.get("key004000");
      EXPECT_EQ(value, "new");
    }
    EXPECT_EQ(test::newest_meta(*disk).generation.value, generation);
    flip_bit(*disk, leaf, 1234);
    co_await db.flush();
    model["key004000"] = "new";
    model["key000000"] = "new too";
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// --- the allocator ---

TEST(Damage, ABitmapBelowAParentIsNeededOnlyByWrites) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    {
      // Beyond one region of 31,744 blocks.
      auto db = co_await open_on(disk);
      co_await db.put("vast", std::string(std::size_t{kRegionBlocks} * kPageBytes, 'h'));
      co_await db.close();
    }
    const Meta meta = test::newest_meta(*disk);
    EXPECT_EQ(meta.allocator_levels, 1);
    const BitmapParentView parent(disk->block(meta.allocator_root.page).data());
    const PageNo bitmap = parent.child(0).child.page;
    flip_bit(*disk, bitmap, 1111);
    auto db = co_await open_on(disk);
    for (const auto& [key, value] : model) {
      const auto found = co_await db.get(key);
      EXPECT_TRUE(found == value) << key;
    }
    const std::string words = fmt::format("allocator page {}|crc", bitmap.value);
    const CheckReport report = co_await db.check();
    EXPECT_FALSE(report.ok);
    EXPECT_FALSE(report.errors.empty());
    if (!report.errors.empty()) expect_words(report.errors.front(), words);
    co_await db.put("key000000", "new");
    co_await expect_error(db.flush(), Errc::corruption, words + kRestore);
    auto value = co_await db.get("key000000");
    EXPECT_EQ(value, "new");
    EXPECT_EQ(test::newest_meta(*disk).generation, meta.generation);
    flip_bit(*disk, bitmap, 1111);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
    // The parent is the root here: nothing is opened without it.
    const PageNo root = test::newest_meta(*disk).allocator_root.page;
    flip_bit(*disk, root, 1111);
    const std::string root_words = fmt::format("allocator page {}|crc", root.value);
    co_await expect_error(open_and_close(disk), Errc::corruption, root_words + kRestore);
  });
}

// --- the meta pages ---

// A disk with two commits: `older` and, in the newest slot, `newer`.
struct TwoCommits {
  DiskPtr disk = std::make_shared<MemDisk>();
  Model older, newer;
  std::uint32_t slot = 0;  // of the newest
};

monterey::Task<> make_two_commits(TwoCommits& made) {
  auto db = co_await Partition::create(test::device_on(made.disk), small_config());
  co_await fill(db, made.older, 0, 300);
  co_await db.flush();
  made.newer = made.older;
  co_await fill(db, made.newer, 200, 250);
  co_await db.close();
  made.slot = test::newest_slot(*made.disk);
}

std::string joined(const std::vector<std::string>& notes) {
  std::string all;
  for (const std::string& note : notes) all += note + "; ";
  return all;
}

TEST(Damage, OneBadCopyOfTheNewestMetaPageIsReportedAndMended) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      const PageNo bad = meta_block(made.slot, copy);
      const PageNo twin = meta_block(made.slot, 1 - copy);
      flip_bit(*made.disk, bad, 100 * 8 + 3);
      const std::string damaged = test::image(*made.disk);
      const std::string words = fmt::format("meta page {} (slot {}, copy {})|crc", bad.value, made.slot, copy);
      {
        auto reader = co_await open_on(made.disk, OpenOptions{.read_only = true});
        expect_words(joined(reader.stats().open_notes), words);
        co_await expect_holds(reader, made.newer);
        co_await reader.close();
        EXPECT_TRUE(test::image(*made.disk) == damaged) << "a read-only open wrote";
      }
      auto db = co_await open_on(made.disk);
      expect_words(joined(db.stats().open_notes), words);
      EXPECT_TRUE(test::bytes_of(*made.disk, bad) == test::bytes_of(*made.disk, twin));
      co_await expect_holds(db, made.newer);
      co_await expect_clean(db);
      co_await db.close();
      auto again = co_await open_on(made.disk);
      EXPECT_TRUE(again.stats().open_notes.empty()) << joined(again.stats().open_notes);
      co_await again.close();
    }
    // Zeros in place of a copy: a write that never came, or a trimmed block.
    const PageNo bad = meta_block(made.slot, 0);
    std::memset(made.disk->block(bad).data(), 0, kPageBytes);
    auto db = co_await open_on(made.disk);
    EXPECT_FALSE(db.stats().open_notes.empty());
    EXPECT_TRUE(test::bytes_of(*made.disk, bad) == test::bytes_of(*made.disk, meta_block(made.slot, 1)));
    co_await expect_holds(db, made.newer);
    co_await db.close();
  });
}

// A write of one copy that was lost: the block holds what the slot's commit before left there, whole.
TEST(Damage, AStaleCopyOfAMetaPageIsReportedAndMended) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      const PageNo lost = meta_block(made.slot, copy);
      const std::string before = test::bytes_of(*made.disk, lost);
      {
        auto db = co_await open_on(made.disk);
        for (int commit = 0; commit < 2; ++commit) {
          co_await fill(db, made.newer, 300 + commit, 301 + commit);
          co_await db.flush();
        }
        co_await db.close();
      }
      std::memcpy(made.disk->block(lost).data(), before.data(), before.size());
      auto db = co_await open_on(made.disk);
      expect_words(joined(db.stats().open_notes),
                   fmt::format("meta page {} (slot {}, copy {})|lost write", lost.value, made.slot, copy));
      co_await expect_holds(db, made.newer);
      co_await expect_clean(db);
      co_await db.close();
      auto again = co_await open_on(made.disk);
      EXPECT_TRUE(again.stats().open_notes.empty()) << joined(again.stats().open_notes);
      co_await again.close();
    }
  });
}

// A block of a meta page that cannot be read is a bad copy like any other.
TEST(Damage, AnUnreadableMetaBlockIsABadCopy) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    const PageNo bad = meta_block(made.slot, 0);
    made.disk->on_operation = [bad](const test::Operation& operation) -> std::optional<Error> {
      if (operation.op != test::DeviceOp::read || !operation.covers(bad)) return std::nullopt;
      return Error::from_errno(EIO, "block 2 is gone");
    };
    auto db = co_await open_on(made.disk);
    EXPECT_FALSE(db.stats().open_notes.empty());
    co_await expect_holds(db, made.newer);
    co_await db.close();
    made.disk->on_operation = nullptr;
  });
}

// Unlike a slot of which both copies are bad, one that cannot be read may hold the newest state.
TEST(Damage, ASlotThatCannotBeReadIsNotPassedOver) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    const std::string before = test::image(*made.disk);
    for (const std::uint32_t lost : {made.slot, 1 - made.slot}) {
      made.disk->on_operation = [lost](const test::Operation& operation) -> std::optional<Error> {
        const bool hit = operation.covers(meta_block(lost, 0)) || operation.covers(meta_block(lost, 1));
        if (operation.op != test::DeviceOp::read || !hit) return std::nullopt;
        return Error::from_errno(EIO, "the slot is gone");
      };
      const std::string words = fmt::format("slot {}|the slot is gone|newest|allow_rollback", lost);
      co_await expect_error(open_and_close(made.disk), Errc::io_error, words);
      co_await expect_error(open_and_close(made.disk, OpenOptions{.read_only = true}), Errc::io_error, words);
      auto create = test::discard(Partition::open_or_create(test::device_on(made.disk), small_config()));
      co_await expect_error(std::move(create), Errc::io_error, words);
      auto db = co_await open_on(made.disk, OpenOptions{.allow_rollback = true, .read_only = true});
      co_await expect_holds(db, lost == made.slot ? made.older : made.newer);
      co_await db.close();
      made.disk->on_operation = nullptr;
      EXPECT_TRUE(test::image(*made.disk) == before);
    }
    auto db = co_await open_on(made.disk);
    co_await expect_holds(db, made.newer);
    co_await db.close();
  });
}

// What a scan cannot read ends it: it never goes on behind a gap. A seek begins anew.
TEST(Damage, AnErrorEndsAScan) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 1'000);
    const PageNo leaf = test::leaf_of(*disk, "key000500");
    for (const bool reverse : {false, true}) {
      auto db = co_await open_on(disk);
      flip_bit(*disk, leaf, 1'234);
      ScanOptions options;
      options.reverse = reverse;
      auto scan = co_await db.scan("key000400", "key000600", options);
      const std::string words = fmt::format("page {}: |crc", leaf.value);
      std::size_t seen = 0;
      bool failed = false;
      while (!failed && seen < 200) {
        try {
          const bool more = co_await scan.advance();
          EXPECT_TRUE(more);
          ++seen;
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::corruption);
          expect_words(error.what(), words);
          failed = true;
        }
      }
      EXPECT_TRUE(failed);
      EXPECT_GT(seen, 0u);
      EXPECT_LT(seen, 110u);
      EXPECT_TRUE(scan.value().empty());
      flip_bit(*disk, leaf, 1'234);
      // Also when the page could be read now.
      for (int i = 0; i < 3; ++i) co_await expect_error(test::advance(scan), Errc::corruption, words);
      co_await scan.seek("key000500");
      const bool more = co_await scan.advance();
      EXPECT_TRUE(more);
      EXPECT_EQ(scan.key(), "key000500");
      EXPECT_EQ(scan.value(), model["key000500"]);
      co_await db.close();
    }
  });
}

TEST(Damage, ASlotWithoutAGoodCopyIsACommitThatNeverWas) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    flip_bit(*made.disk, meta_block(made.slot, 0), 777);
    flip_bit(*made.disk, meta_block(made.slot, 1), 888);
    auto db = co_await open_on(made.disk);
    expect_words(joined(db.stats().open_notes),
                 fmt::format("slot {}, copy 0|slot {}, copy 1|crc", made.slot, made.slot));
    co_await expect_holds(db, made.older);
    const CheckReport report = co_await db.check();
    EXPECT_FALSE(report.ok);
    expect_words(joined(report.errors), fmt::format("slot {}, copy 0|slot {}, copy 1|crc", made.slot, made.slot));
    co_await fill(db, made.older, 250, 320);
    co_await db.flush();
    co_await expect_clean(db);
    co_await db.close();
    auto again = co_await open_on(made.disk);
    EXPECT_TRUE(again.stats().open_notes.empty()) << joined(again.stats().open_notes);
    co_await expect_holds(again, made.older);
    co_await expect_clean(again);
    co_await again.close();
  });
}

TEST(Damage, WithoutAnyGoodMetaPageNothingIsOpenedOrReplaced) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    for (std::uint32_t block = 0; block < kMetaBlocks; ++block) flip_bit(*made.disk, PageNo(block), 777 + block);
    const std::string damaged = test::image(*made.disk);
    const std::string words = std::string("no meta page is good|meta page 0|meta page 3|crc") + kRestore;
    co_await expect_error(open_and_close(made.disk), Errc::corruption, words);
    co_await expect_error(open_and_close(made.disk, OpenOptions{.allow_rollback = true}), Errc::corruption, words);
    auto open_or_create = test::discard(Partition::open_or_create(test::device_on(made.disk), small_config()));
    co_await expect_error(std::move(open_or_create), Errc::corruption, words);
    auto create = test::discard(Partition::create(test::device_on(made.disk), small_config()));
    co_await expect_error(std::move(create), Errc::already_exists, "holds a store|overwrite");
    EXPECT_TRUE(test::image(*made.disk) == damaged);
  });
}

// --- the roots ---

monterey::Task<> expect_no_silent_rollback(TwoCommits& made, PageNo root, std::string words) {
  flip_bit(*made.disk, root, 2222);
  const std::string damaged = test::image(*made.disk);
  co_await expect_error(open_and_close(made.disk), Errc::corruption, words);
  co_await expect_error(open_and_close(made.disk, OpenOptions{.read_only = true}), Errc::corruption, words);
  EXPECT_TRUE(test::image(*made.disk) == damaged);
  {
    auto reader = co_await open_on(made.disk, OpenOptions{.allow_rollback = true, .read_only = true});
    expect_words(joined(reader.stats().open_notes), "rolled back|" + words);
    co_await expect_holds(reader, made.older);
    co_await reader.close();
    EXPECT_TRUE(test::image(*made.disk) == damaged);
  }
  auto db = co_await open_on(made.disk, OpenOptions{.allow_rollback = true});
  expect_words(joined(db.stats().open_notes), "rolled back|" + words);
  co_await expect_holds(db, made.older);
  co_await expect_clean(db);
  // Goes on from there, and its next commit is the newest.
  Model model = made.older;
  co_await fill(db, model, 280, 400);
  co_await db.close();
  auto again = co_await open_on(made.disk);
  co_await expect_holds(again, model);
  co_await expect_clean(again);
  co_await again.close();
}

TEST(Damage, ADamagedRootIsNeverASilentRollback) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    const PageNo root = test::newest_meta(*made.disk).tree_root.page;
    co_await expect_no_silent_rollback(made, root, fmt::format("page {}: |crc", root.value) + kRestore);
  });
}

TEST(Damage, ADamagedAllocatorRootIsNeverASilentRollback) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    const PageNo root = test::newest_meta(*made.disk).allocator_root.page;
    co_await expect_no_silent_rollback(made, root, fmt::format("allocator page {}|crc", root.value) + kRestore);
  });
}

TEST(Damage, WhenBothStatesAreDamagedARollbackIsRefused) {
  on_core(kArena, []() -> monterey::Task<> {
    TwoCommits made;
    co_await make_two_commits(made);
    for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
      const DecodedMeta decoded = decode_meta(test::block_of(*made.disk, meta_block(slot, 0)), slot);
      flip_bit(*made.disk, decoded.meta.tree_root.page, 99);
    }
    co_await expect_error(open_and_close(made.disk, OpenOptions{.allow_rollback = true}), Errc::corruption,
                          std::string("page|crc") + kRestore);
  });
}

}  // namespace
}  // namespace store
