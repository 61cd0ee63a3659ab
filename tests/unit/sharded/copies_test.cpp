// Backups and salvage of all shards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "sharded_support.hpp"

namespace store {
namespace {

using monterey::Task;
using test::contents_of;
using test::DeviceOp;
using test::discard;
using test::error_of;
using test::keys_of_two_shards;
using test::MemShards;
using test::Model;
using test::numbered;
using test::on_cores;
using test::small_options;
using testing::HasSubstr;

constexpr unsigned kCores = 2;
constexpr unsigned kShards = 3;
constexpr BackupOptions kIncrement{.since = BackupOptions::kOfTarget};

// Buffers for two stores.
template <class Body>
void run(Body body) {
  on_cores(kCores, small_options(kShards).buffer_config(kCores) + small_options(kShards).buffer_config(kCores),
           std::move(body));
}

Task<> put_all(ShardedStore db, int first, int count, std::string value, Model& model) {
  for (int i = first; i < first + count; ++i) {
    const std::string key = numbered(i);
    model[key] = value + key;
    co_await db.put(key, model[key]);
  }
}

Task<Model> contents_on(std::shared_ptr<MemShards> disks) {
  auto db = co_await ShardedStore::open(disks, small_options(kShards));
  const Model found = co_await contents_of(db);
  const auto checks = co_await db.check();
  for (const ShardCheck& check : checks) EXPECT_TRUE(check.report.ok) << check.name;
  co_await db.close();
  co_return found;
}

TEST(ShardedBackup, IsAStoreOfItsOwn) {
  auto disks = std::make_shared<MemShards>(kShards);
  auto copies = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    Model model;
    co_await put_all(db, 0, 500, "first", model);
    const ShardedBackupReport report = co_await db.backup(copies);
    EXPECT_EQ(report.generations.size(), kShards);
    EXPECT_GT(report.generations[0], 0u);
    EXPECT_EQ(co_await contents_on(copies->copy()), model);
    std::string what;
    EXPECT_EQ(co_await error_of(discard(db.backup(copies)), &what), Errc::already_exists);
    EXPECT_EQ(co_await error_of(discard(db.backup(copies, {.since = 5})), &what), Errc::invalid_argument);

    co_await put_all(db, 400, 300, "second", model);
    const ShardedBackupReport increment = co_await db.backup(copies, kIncrement);
    EXPECT_GT(increment.generations[0], report.generations[0]);
    EXPECT_EQ(co_await contents_on(copies->copy()), model);
    const BackupOptions overwrite{.overwrite = true};
    co_await db.backup(copies, overwrite);
    EXPECT_EQ(co_await contents_on(copies->copy()), model);

    auto others = std::make_shared<MemShards>(kShards);
    EXPECT_EQ(co_await error_of(discard(db.backup(others, kIncrement)), &what), Errc::not_a_store);
    {
      ShardedOptions two = small_options(2);
      auto other = co_await ShardedStore::create(others, two);
      co_await other.close();
    }
    EXPECT_EQ(co_await error_of(discard(db.backup(others, kIncrement)), &what), Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("2 shards"));
    co_await db.close();
  });
}

// Calls something before a shard is opened, on its core.
class ToldOfOpening final : public ShardDevices {
 public:
  using Call = std::function<Task<>(unsigned shard)>;
  ToldOfOpening(std::shared_ptr<const ShardDevices> devices, Call call)
      : devices_(std::move(devices)), call_(std::move(call)) {}

  Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool create) const override {
    return devices_->open_manifest(access, create);
  }
  Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access, bool create) const override {
    if (access == Access::read_write) co_await call_(place.shard);
    co_return co_await devices_->open_shard(place, access, create);
  }
  Task<> remove_shard(ShardPlace place) const override { return devices_->remove_shard(place); }

 private:
  const std::shared_ptr<const ShardDevices> devices_;
  const Call call_;
};

// A batch across shards that is written while one of them is copied already and the other is not is in none of the copies.
TEST(ShardedBackup, IsOfOneMoment) {
  auto disks = std::make_shared<MemShards>(kShards);
  auto copies = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    const auto keys = keys_of_two_shards(db, "pair");
    const auto write_both = [&](std::string value) {
      WriteBatch batch;
      batch.put(keys.first, value);
      batch.put(keys.second, value);
      return db.write(std::move(batch));
    };
    co_await write_both("before");
    co_await db.backup(copies);
    co_await write_both("now");
    const unsigned late = db.shard_of(keys.second);
    int openings = 0;  // the first one is to look whether it may be
    const auto write_first = [&](unsigned shard) -> Task<> {
      if (shard == late && ++openings == 2) co_await write_both("later");
    };
    const auto target = std::make_shared<ToldOfOpening>(copies, write_first);
    co_await db.backup(target, kIncrement);
    const Model found = co_await contents_on(copies->copy());
    EXPECT_EQ(found, (Model{{keys.first, "now"}, {keys.second, "now"}}));
    co_await db.close();
  });
}

TEST(ShardedBackup, AnIncrementThatIsCutOffIsRunAgain) {
  auto disks = std::make_shared<MemShards>(kShards);
  auto copies = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    Model model;
    co_await put_all(db, 0, 500, "first", model);
    co_await db.backup(copies);
    const Model old = model;
    co_await put_all(db, 0, 500, "second", model);

    // Before anything has changed there: the old copy stays.
    auto untouched = copies->copy();
    for (const auto& disk : untouched->disks) disk->inject({.op = DeviceOp::write, .times = 1000});
    EXPECT_EQ(co_await error_of(discard(db.backup(untouched, kIncrement))), Errc::io_error);
    for (const auto& disk : untouched->disks) disk->clear_faults();
    EXPECT_EQ(co_await contents_on(untouched->copy()), old);

    // One shard has changed: it says so until it is run again.
    auto half = copies->copy();
    half->disks[1]->inject({.op = DeviceOp::write, .times = 1000});
    EXPECT_EQ(co_await error_of(discard(db.backup(half, kIncrement))), Errc::io_error);
    half->disks[1]->clear_faults();
    std::string what;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::open(half, small_options(kShards))), &what), Errc::not_a_store);
    EXPECT_THAT(what, HasSubstr("run the backup again"));
    co_await db.backup(half, kIncrement);
    EXPECT_EQ(co_await contents_on(half->copy()), model);
    co_await db.close();
  });
}

// One shard of the copy was written to since: it refuses, and nothing of the others is changed.
TEST(ShardedBackup, AnIncrementThatOneShardRefusesLeavesTheCopy) {
  auto disks = std::make_shared<MemShards>(kShards);
  auto copies = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    Model model;
    co_await put_all(db, 0, 500, "first", model);
    co_await db.backup(copies);
    {
      auto copy = co_await ShardedStore::open(copies, small_options(kShards));
      co_await copy.put("own", "entry");
      model["own"] = "entry";
      co_await copy.close();
    }
    Model more;
    co_await put_all(db, 0, 500, "second", more);
    EXPECT_EQ(co_await error_of(discard(db.backup(copies, kIncrement))), Errc::invalid_argument);
    EXPECT_EQ(co_await contents_on(copies->copy()), model);
    co_await db.close();
  });
}

TEST(ShardedBackup, OverwritingThatFailsAtOnceLeavesTheCopy) {
  auto disks = std::make_shared<MemShards>(kShards);
  auto copies = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    auto db = co_await ShardedStore::create(disks, small_options(kShards));
    Model old;
    co_await put_all(db, 0, 100, "first", old);
    co_await db.backup(copies);
    Model model;
    co_await put_all(db, 0, 5000, std::string(200, 'x'), model);
    for (const auto& disk : copies->disks) disk->set_capacity_blocks(disk->size_blocks());
    const BackupOptions overwrite{.overwrite = true};
    EXPECT_EQ(co_await error_of(discard(db.backup(copies, overwrite))), Errc::no_space);
    for (const auto& disk : copies->disks) disk->set_capacity_blocks(1u << 16);
    EXPECT_EQ(co_await contents_on(copies->copy()), old);

    // One that had begun is no store, and is not taken for one that was to be created.
    copies->disks[1]->inject({.op = DeviceOp::write, .skip = 3, .times = 1000});
    EXPECT_EQ(co_await error_of(discard(db.backup(copies, overwrite))), Errc::io_error);
    copies->disks[1]->clear_faults();
    std::string what;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::open_or_create(copies, small_options(kShards))), &what),
              Errc::not_a_store);
    EXPECT_THAT(what, HasSubstr("run it again"));
    co_await db.backup(copies);
    EXPECT_EQ(co_await contents_on(copies->copy()), model);
    co_await db.close();
  });
}

TEST(ShardedSalvage, TakesWhatCanBeReadOfEachShard) {
  auto disks = std::make_shared<MemShards>(kShards);
  run([&]() -> Task<> {
    Model model;
    {
      auto db = co_await ShardedStore::create(disks, small_options(kShards));
      co_await put_all(db, 0, 3000, "some", model);
      co_await db.close();
    }
    // Both meta slots of one shard are gone.
    for (std::uint32_t block = 0; block < 4; ++block)
      std::ranges::fill(disks->disks[1]->block(PageNo(block)), std::byte{0xee});
    EXPECT_EQ(co_await error_of(discard(ShardedStore::open(disks, small_options(kShards)))), Errc::not_a_store);
    auto rescued = std::make_shared<MemShards>(kShards);
    auto into = co_await ShardedStore::create(rescued, small_options(kShards));
    std::vector<std::string> damages;
    const DamageObserver tell = [&damages](const std::string& what) { damages.push_back(what); };
    const SalvageReport report = co_await salvage(disks, into, tell);
    EXPECT_GT(report.damages, 0u);
    EXPECT_EQ(report.damages, damages.size());
    for (const std::string& damage : damages) EXPECT_THAT(damage, HasSubstr("disk1"));
    EXPECT_EQ(co_await contents_of(into), model);
    EXPECT_EQ(co_await error_of(discard(salvage(disks, into, tell))), Errc::invalid_argument) << "it is not empty";
    co_await into.close();

    ShardedOptions two = small_options(2);
    auto otherwise = co_await ShardedStore::create(std::make_shared<MemShards>(2), two);
    EXPECT_EQ(co_await error_of(discard(salvage(disks, otherwise, tell))), Errc::invalid_argument);
    co_await otherwise.close();
  });
}

}  // namespace
}  // namespace store
