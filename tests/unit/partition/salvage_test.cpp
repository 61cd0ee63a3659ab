// What is got out of a damaged store: everything but what lay in the damaged block, and never anything else.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <store/salvage.hpp>

#include <set>

#include "unit/partition/bulk_support.hpp"
#include "unit/partition/log_support.hpp"

namespace store {
namespace {

using test::device_on;
using test::DeviceOp;
using test::expect_clean;
using test::expect_error;
using test::fill;
using test::MemBlockDevice;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

struct Rescued {
  SalvageReport report;
  Model model;
  std::vector<std::string> damages;

  bool tells(std::string_view words) const {
    return std::ranges::any_of(damages, [&](const std::string& text) { return text.find(words) != std::string::npos; });
  }
};

monterey::Task<Rescued> rescue(DiskPtr disk, DiskPtr log_disk = nullptr) {
  Rescued rescued;
  MemBlockDevice damaged(disk, MemBlockDevice::Access::read_only);
  std::optional<MemBlockDevice> log;
  SalvageOptions options;
  if (log_disk) options.log_device = &log.emplace(log_disk, MemBlockDevice::Access::read_only);
  auto into = co_await Partition::create(device_on(std::make_shared<MemDisk>()), small_config());
  const DamageObserver tell = [&rescued](const std::string& damage) { rescued.damages.push_back(damage); };
  rescued.report = co_await salvage(damaged, into, tell, options);
  EXPECT_EQ(rescued.report.damages, rescued.damages.size());
  co_await expect_clean(into);
  rescued.model = co_await test::contents(into);
  co_await into.close();
  co_return std::move(rescued);
}

// Three levels, changed and thinned out after it was made, so that stale pages of all kinds lie about; values of every kind.
monterey::Task<> make_store(DiskPtr disk, Model& model) {
  auto db = co_await Partition::create(device_on(disk), small_config());
  const std::string middle(30, 'k');
  for (int i = 0; i < 8'000; ++i) {
    const std::string key = numbered("key", i) + middle;
    model[key] = numbered("value", i) + std::string(100, 'v');
    co_await db.put(key, model[key]);
  }
  co_await db.flush();
  for (int i = 0; i < 8'000; i += 2) {
    const std::string key = numbered("key", i) + middle;
    if (i % 3 == 0) {
      co_await db.erase(key);
      model.erase(key);
    } else if (i % 500 == 2) {
      model[key] = std::string(static_cast<std::size_t>(1'000 + i * 10), 'r');
      co_await db.put(key, model[key]);
    } else {
      model[key] = numbered("newer", i) + std::string(90, 'n');
      co_await db.put(key, model[key]);
    }
  }
  co_await db.flush();
  // Leaves that vanish with all that was in them, behind all others: no younger leaf overlaps them.
  for (int i = 7'700; i < 8'000; ++i) {
    const std::string key = numbered("key", i) + middle;
    co_await db.erase(key);
    model.erase(key);
  }
  co_await db.flush();
  EXPECT_EQ(db.stats().height, 3u);
  co_await db.close();
}

// Every entry found is the model's. Returns those that are missing.
std::set<std::string> missing(const Rescued& rescued, const Model& model) {
  std::size_t wrong = 0;
  for (const auto& [key, value] : rescued.model) {
    const auto at = model.find(key);
    wrong += at == model.end() || at->second != value;
  }
  EXPECT_EQ(wrong, 0u) << "entries that the store did not have";
  std::set<std::string> keys;
  for (const auto& [key, value] : model) {
    if (!rescued.model.contains(key)) keys.insert(key);
  }
  return keys;
}

enum class Harm { flipped, unreadable };

void harm(MemDisk& disk, std::uint32_t block, Harm how) {
  if (how == Harm::flipped) {
    test::flip_bit(disk, PageNo(block), 1234);
    return;
  }
  disk.on_operation = [block](const test::Operation& operation) -> std::optional<Error> {
    if (operation.op != DeviceOp::read || !operation.covers(PageNo(block))) return std::nullopt;
    return Error::from_errno(EIO, "read");
  };
}

TEST(Salvage, LosesNothingButWhatLayInTheDamagedBlock) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_store(disk, model);
    std::map<PageNo, std::set<std::string>> in_leaf;
    std::map<PageNo, std::string> in_run;
    for (const auto& [key, value] : model) {
      in_leaf[test::leaf_of(*disk, key)].insert(key);
      if (value.size() <= 1024) continue;
      const OverflowRef run = test::run_of(*disk, key);
      for (std::uint32_t i = 0; i < run_extent(run).count; ++i) in_run[PageNo(run.first.value + i)] = key;
    }
    const Rescued sound = co_await rescue(disk);
    EXPECT_EQ(sound.report.damages, 0u);
    EXPECT_EQ(sound.report.entries, sound.report.entries_counted);
    EXPECT_TRUE(missing(sound, model).empty());
    const Meta meta = test::newest_meta(*disk);
    std::set<PageNo> branches;
    for (const auto& [key, value] : model) {
      const std::vector<PageNo> path = test::path_to(*disk, key);
      branches.insert(path.begin(), std::prev(path.end()));
    }
    EXPECT_GE(branches.size(), 3u);
    std::size_t searched = 0;
    for (std::uint32_t block = 0; block < meta.high_water; block += 1 + block / 20) {
      for (const Harm how : {Harm::flipped, Harm::unreadable}) {
        SCOPED_TRACE(fmt::format("block {}, {}", block, how == Harm::flipped ? "flipped" : "unreadable"));
        const DiskPtr damaged = disk->copy();
        harm(*damaged, block, how);
        const Rescued rescued = co_await rescue(damaged);
        const std::set<std::string> gone = missing(rescued, model);
        std::set<std::string> expected;
        if (const auto leaf = in_leaf.find(PageNo(block)); leaf != in_leaf.end()) expected = leaf->second;
        // The bytes behind a value are looked at by nobody.
        if (const auto run = in_run.find(PageNo(block)); run != in_run.end() && !gone.empty())
          expected.insert(run->second);
        EXPECT_TRUE(gone == expected) << gone.size() << " are lost, not " << expected.size();
        if (!gone.empty()) {
          EXPECT_GE(rescued.report.damages, 1u);
          EXPECT_TRUE(rescued.tells(fmt::format("page {}: ", test::leaf_of(*disk, *gone.begin()).value)));
        }
      }
    }
    // All of the branches, too.
    for (const PageNo branch : branches) {
      const DiskPtr damaged = disk->copy();
      harm(*damaged, branch.value, Harm::flipped);
      const Rescued rescued = co_await rescue(damaged);
      EXPECT_TRUE(missing(rescued, model).empty());
      EXPECT_TRUE(rescued.tells(fmt::format("page {}: ", branch.value)));
      searched += rescued.tells("searched for the leaves below it, the keys from");
    }
    EXPECT_EQ(searched, branches.size());
  });
}

// Without bitmaps what was erased may come back, but of each key the newest value.
TEST(Salvage, WithoutAnythingButLeavesTakesTheNewest) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_store(disk, model);
    for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
      std::ranges::fill(disk->block(PageNo(block)), std::byte{0});
    }
    for (std::uint32_t block = kMetaBlocks; block < disk->size_blocks(); ++block) {
      const auto page = disk->block(PageNo(block));
      if (page_type(page.data()) != PageType::leaf) test::flip_bit(*disk, PageNo(block), 77);
    }
    const Rescued rescued = co_await rescue(disk);
    EXPECT_EQ(rescued.report.generation, 0u);
    EXPECT_TRUE(rescued.tells("no meta page"));
    std::size_t found = 0;
    for (const auto& [key, value] : model) {
      const auto at = rescued.model.find(key);
      if (value.size() > 1024) continue;  // runs were damaged with all else
      EXPECT_TRUE(at != rescued.model.end() && at->second == value) << key;
      ++found;
    }
    EXPECT_GT(found, 6'000u);
  });
}

// Neither do blocks near the meta pages that cannot be read keep it from the rest.
TEST(Salvage, GoesOnWithoutMetaPagesPastWhatCannotBeRead) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_store(disk, model);
    for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
      std::ranges::fill(disk->block(PageNo(block)), std::byte{0});
    }
    disk->on_operation = [](const test::Operation& operation) -> std::optional<Error> {
      if (operation.op != test::DeviceOp::read || !operation.covers(PageNo(20))) return std::nullopt;
      return Error::from_errno(EIO, "block 20");
    };
    const Rescued rescued = co_await rescue(disk);
    EXPECT_TRUE(rescued.tells("no meta page"));
    EXPECT_GT(rescued.model.size(), 6'000u);
  });
}

TEST(Salvage, AppliesTheLogAsFarAsItIsWhole) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    Model at_commit;
    {
      PartitionConfig config = test::logged_config();
      config.write_buffer_bytes = 1u << 20;
      auto db = co_await Partition::create(device_on(disk), config);
      co_await fill(db, model, 0, 500);
      co_await db.flush();
      at_commit = model;
      co_await fill(db, model, 400, 600, 200);
      co_await db.erase(numbered("key", 3));
      model.erase(numbered("key", 3));
      co_await db.erase_range(numbered("key", 20), numbered("key", 30));
      model.erase(model.find(numbered("key", 20)), model.find(numbered("key", 30)));
      model["long"] = std::string(100'000, 'l');
      co_await db.put("long", model["long"]);
      WriteBatch batch;
      for (int i = 0; i < 10; ++i) {
        model[numbered("batch", i)] = std::string(50'000, 'b');
        batch.put(numbered("batch", i), model[numbered("batch", i)]);
      }
      co_await db.write(std::move(batch));
      const Partition dropped = std::move(db);
    }
    co_await monterey::yield();
    const Rescued rescued = co_await rescue(disk);
    EXPECT_EQ(rescued.report.damages, 0u);
    EXPECT_EQ(rescued.report.log_entries, 213u);
    EXPECT_TRUE(rescued.model == model);

    // A run that the log names, and a group in the middle.
    const Meta meta = test::newest_meta(*disk);
    const DiskPtr torn = disk->copy();
    const std::uint64_t begin = meta.log_segments[0].first.value + meta.log_offset / kPageBytes;
    test::flip_bit(*torn, PageNo(static_cast<std::uint32_t>(begin + 100)), 300);
    const Rescued part = co_await rescue(torn);
    EXPECT_TRUE(part.tells("what the log has from there on is left out"));
    EXPECT_GE(part.report.log_entries, 90u);
    EXPECT_LT(part.report.log_entries, 110u);
    EXPECT_TRUE(part.model.contains(numbered("key", 480)));
    EXPECT_FALSE(part.model.contains("long"));
    EXPECT_EQ(part.model.at(numbered("key", 3)), at_commit.at(numbered("key", 3)));
  });
}

// Of a group of the log some records may be merged and others not.
TEST(Salvage, AppliesOnlyWhatIsNotMerged) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    {
      auto db = co_await Partition::create(device_on(disk), test::logged_config(WalMode::batched));
      co_await fill(db, model, 0, 2'000);
      for (int i = 0; i < 2'000; i += 3) {
        co_await db.erase(numbered("key", i));
        model.erase(numbered("key", i));
      }
      co_await db.sync();
      EXPECT_GT(db.stats().entries, 0u);
      EXPECT_GT(db.stats().buffered_entries, 0u);
      const Partition dropped = std::move(db);
    }
    co_await monterey::yield();
    const Rescued rescued = co_await rescue(disk);
    EXPECT_EQ(rescued.report.damages, 0u);
    EXPECT_GT(rescued.report.log_entries, 0u);
    EXPECT_TRUE(rescued.model == model);
  });
}

// A store that was dropped with writes in its log alone.
monterey::Task<> make_store_with_log(DiskPtr disk, DiskPtr log_disk, Model& model) {
  auto db = co_await Partition::create(device_on(disk), device_on(log_disk), test::logged_config());
  co_await fill(db, model, 0, 300);
  co_await db.flush();
  co_await fill(db, model, 250, 350, 70);
  co_await db.erase_range(numbered("key", 20), numbered("key", 30));
  model.erase(model.find(numbered("key", 20)), model.find(numbered("key", 30)));
  model["long"] = std::string(100'000, 'l');
  co_await db.put("long", model["long"]);
  const Partition dropped = std::move(db);
}

TEST(Salvage, ReadsALogOnADeviceOfItsOwn) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const auto log_disk = std::make_shared<MemDisk>();
    Model model;
    co_await make_store_with_log(disk, log_disk, model);
    co_await monterey::yield();

    const Rescued whole = co_await rescue(disk, log_disk);
    EXPECT_EQ(whole.report.damages, 0u);
    EXPECT_EQ(whole.report.log_entries, 102u);
    EXPECT_TRUE(whole.model == model);

    const Rescued without = co_await rescue(disk);
    EXPECT_TRUE(without.tells("a device of its own, which was not given"));
    EXPECT_EQ(without.model.size(), 300u);

    // Its first block only says whose it is: the groups do, too.
    const DiskPtr headless = log_disk->copy();
    test::flip_bit(*headless, PageNo(0), 1234);
    const Rescued beside = co_await rescue(disk, headless);
    EXPECT_TRUE(beside.tells("block 0 of the log device is damaged"));
    EXPECT_TRUE(beside.model == model);

    const DiskPtr torn = log_disk->copy();
    const Meta meta = test::newest_meta(*disk);
    const std::uint64_t begin = meta.log_segments[0].first.value + meta.log_offset / kPageBytes;
    test::flip_bit(*torn, PageNo(static_cast<std::uint32_t>(begin + 20)), 300);
    const Rescued part = co_await rescue(disk, torn);
    EXPECT_TRUE(part.tells("what the log has from there on is left out"));
    EXPECT_LT(part.report.log_entries, 30u);
    EXPECT_GT(part.report.log_entries, 10u);

    const Rescued blank = co_await rescue(disk, std::make_shared<MemDisk>());
    EXPECT_TRUE(blank.tells("it is blank, not a log"));
    EXPECT_EQ(blank.model.size(), 300u);
  });
}

TEST(Salvage, RefusesALogDeviceThatIsNotTheStores) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const auto log_disk = std::make_shared<MemDisk>();
    const auto other_log = std::make_shared<MemDisk>();
    Model model;
    co_await make_store_with_log(disk, log_disk, model);
    co_await make_store_with_log(std::make_shared<MemDisk>(), other_log, model);
    co_await monterey::yield();
    co_await expect_error(test::discard(rescue(disk, other_log)), Errc::invalid_argument, "another store");
    co_await expect_error(test::discard(rescue(disk, disk)), Errc::not_a_store, "not a log device");
    const auto alone = std::make_shared<MemDisk>();
    co_await make_store(alone, model);
    co_await expect_error(test::discard(rescue(alone, log_disk)), Errc::invalid_argument, "salvage it without");
  });
}

TEST(Salvage, RefusesWhatIsNoStoreOrOfALaterFormat) {
  on_core(kArena, [&]() -> monterey::Task<> {
    for (const std::uint64_t blocks : {0u, 1u, 100u}) {
      MemDisk::Options options;
      options.size_blocks = blocks;
      const auto disk = std::make_shared<MemDisk>(options);
      co_await expect_error(test::discard(rescue(disk)), Errc::not_a_store,
                            "neither a meta page nor a leaf|check the path");
    }
    const auto disk = std::make_shared<MemDisk>();
    Model model;
    {
      auto db = co_await Partition::create(device_on(disk), small_config());
      co_await fill(db, model, 0, 50);
      co_await db.close();
    }
    for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
      const auto page = disk->block(PageNo(block));
      page[24] = std::byte{2};  // format_version
      test::repair_crc(*disk, PageNo(block));
    }
    co_await expect_error(test::discard(rescue(disk)), Errc::unsupported_format, "newer");
  });
}

}  // namespace
}  // namespace store
