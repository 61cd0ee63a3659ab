// Dividing a store anew: the same entries in other shards, whatever cuts it off.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "sharded_support.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using monterey::Task;
using test::contents_of;
using test::DeviceOp;
using test::discard;
using test::error_of;
using test::MemShards;
using test::Model;
using test::numbered;
using test::on_cores;
using test::small_options;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr unsigned kCores = 2;
constexpr unsigned kMost = 5;
const std::vector<std::string> kNext{"next0", "next1", "next2"};

template <class Body>
void run(Body body, unsigned cores = kCores) {
  on_cores(cores, small_options(kMost).buffer_config(cores) + small_options(kMost).buffer_config(cores),
           std::move(body));
}

Task<Model> make_store(std::shared_ptr<const ShardDevices> disks, unsigned shards, int count) {
  auto db = co_await ShardedStore::create(disks, small_options(shards));
  Model model;
  for (int i = 0; i < count; ++i) {
    const std::string key = numbered(i);
    model[key] = std::string(static_cast<std::size_t>(i % 2000), 'v') + key;
    co_await db.put(key, model[key]);
  }
  co_await db.close();
  co_return model;
}

Task<Model> contents_on(std::shared_ptr<const ShardDevices> disks, unsigned shards) {
  auto db = co_await ShardedStore::open(disks, small_options(shards));
  const Model found = co_await contents_of(db);
  const auto checks = co_await db.check();
  for (const ShardCheck& check : checks) EXPECT_TRUE(check.report.ok) << check.name;
  co_await db.close();
  co_return found;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

TEST(Reshard, KeepsAllEntries) {
  const test::TempDir temp;
  const std::string directory = temp.path() + "/db";
  run([&]() -> Task<> {
    const auto files = shard_files(directory);
    const Model model = co_await make_store(files, 2, 3000);
    std::vector<std::uint64_t> told;
    const ReshardObserver observer = [&](std::uint64_t copied, std::uint64_t all) {
      EXPECT_EQ(all, 3000u);
      told.push_back(copied);
    };
    std::uint64_t copied = co_await ShardedStore::reshard(files, small_options(5), observer);
    EXPECT_EQ(copied, 3000u);
    EXPECT_THAT(told, ElementsAre(1024u, 2048u));
    EXPECT_EQ(co_await contents_on(files, 5), model);
    EXPECT_THAT(names_in(directory), ElementsAre("manifest", "shard-0000.1", "shard-0001.1", "shard-0002.1",
                                                 "shard-0003.1", "shard-0004.1"));
    copied = co_await ShardedStore::reshard(files, small_options(5));
    EXPECT_EQ(copied, 0u) << "it is so divided already";

    // By ranges, and back to fewer.
    ShardedOptions ranges = small_options(0);
    const std::string middle = numbered(1000);
    const std::vector<std::string_view> points{middle};
    ranges.router = Router::ranges(points);
    copied = co_await ShardedStore::reshard(files, ranges);
    EXPECT_EQ(copied, 3000u);
    const ShardedLayout layout = co_await ShardedStore::layout(files);
    EXPECT_THAT(layout.points, ElementsAre(middle));
    EXPECT_EQ(co_await contents_on(files, 2), model);
    EXPECT_THAT(names_in(directory), ElementsAre("manifest", "shard-0000.2", "shard-0001.2"));
  });
}

// What a call that was killed has left goes with the next one, however that divides the store.
TEST(Reshard, LeftoversGo) {
  const test::TempDir temp;
  const std::string directory = temp.path() + "/db";
  run([&]() -> Task<> {
    const auto files = shard_files(directory);
    const Model model = co_await make_store(files, 2, 50);
    for (const char* name : {"/shard-0000.1", "/shard-0004.1"}) std::ofstream(directory + name) << "left over";
    const std::uint64_t copied = co_await ShardedStore::reshard(files, small_options(2));
    EXPECT_EQ(copied, 0u);
    EXPECT_THAT(names_in(directory), ElementsAre("manifest", "shard-0000", "shard-0001"));
    EXPECT_EQ(co_await contents_on(files, 2), model);
  });
}

TEST(Reshard, OpeningWithAnotherNumberNamesIt) {
  auto disks = std::make_shared<MemShards>(2);
  run([&]() -> Task<> {
    co_await make_store(disks, 2, 10);
    std::string what;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::open(disks, small_options(3))), &what), Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("store reshard"));
  });
}

// Images of the disks at every operation: each opens as the old store or as the new one, with all entries, and can be divided anew.
TEST(Reshard, ACrashLeavesTheOldOneOrTheNewOne) {
  auto disks = std::make_shared<MemShards>(2, kNext);
  std::vector<std::shared_ptr<MemShards>> images;
  Model model;
  run(
      [&]() -> Task<> {
        model = co_await make_store(disks, 2, 300);
        const auto keep = [&](const test::Operation&) -> std::optional<Error> {
          images.push_back(disks->copy());
          return std::nullopt;
        };
        std::vector<std::shared_ptr<test::MemDisk>> all = disks->disks;
        all.insert(all.end(), disks->next_disks.begin(), disks->next_disks.end());
        all.push_back(disks->manifest);
        for (const auto& disk : all) disk->on_operation = keep;
        co_await ShardedStore::reshard(disks, small_options(3));
        for (const auto& disk : all) disk->on_operation = nullptr;
        images.push_back(disks->copy());
      },
      1);
  std::size_t as_before = 0;
  for (const auto& image : images) {
    run(
        [&]() -> Task<> {
          const ShardedLayout layout = co_await ShardedStore::layout(image);
          as_before += layout.shards == 2;
          EXPECT_EQ(co_await contents_on(image, layout.shards), model);
          if (layout.shards == 2) co_await ShardedStore::reshard(image, small_options(3));
          EXPECT_EQ(co_await contents_on(image, 3), model);
        },
        1);
  }
  EXPECT_GT(as_before, 10u);
  EXPECT_LT(as_before, images.size());
}

TEST(Reshard, AnErrorLeavesTheStoreAsItWas) {
  auto disks = std::make_shared<MemShards>(2, kNext);
  run([&]() -> Task<> {
    const Model model = co_await make_store(disks, 2, 3000);
    disks->next_disks[1]->set_capacity_blocks(64);
    std::string what;
    EXPECT_EQ(co_await error_of(discard(ShardedStore::reshard(disks, small_options(3))), &what), Errc::no_space);
    EXPECT_THAT(what, HasSubstr("next1"));
    EXPECT_EQ(disks->next_disks[0]->size_blocks(), 0u) << "what was copied is given up";
    EXPECT_EQ(co_await contents_on(disks, 2), model);
    disks->next_disks[1]->set_capacity_blocks(1u << 16);
    disks->manifest->inject({.op = DeviceOp::sync, .skip = 1});  // the first is of opening it
    EXPECT_EQ(co_await error_of(discard(ShardedStore::reshard(disks, small_options(3)))), Errc::io_error);
    const ShardedLayout layout = co_await ShardedStore::layout(disks);
    EXPECT_EQ(co_await contents_on(disks, layout.shards), model) << "whichever it is, it is whole";
  });
}

}  // namespace
}  // namespace store
