// A damaged log, as open() meets it: a tear at the tail is the end, anything that was attested is `corruption`, and nothing is
// made worse. A rollback never brings the log of the state that was given up back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "log_support.hpp"
#include "store/wal/log_format.hpp"

namespace store {
namespace {

using namespace test;

// The blocks of `disk` that hold a group of the newest incarnation, in LSN order.
std::vector<PageNo> group_blocks(MemDisk& disk) {
  std::vector<std::pair<std::uint64_t, PageNo>> found;
  for (std::uint32_t i = kMetaBlocks; i < disk.size_blocks(); ++i) {
    const auto group = decode_group(disk.block(PageNo(i)));
    if (group) found.emplace_back(group->lsn.value, PageNo(i));
  }
  std::ranges::sort(found, {}, [](const auto& pair) { return pair.first; });
  std::vector<PageNo> blocks;
  for (const auto& [lsn, page] : found) blocks.push_back(page);
  return blocks;
}

monterey::Task<> make_logged_store(std::shared_ptr<MemDisk> disk, int puts) {
  {
    auto db = co_await Partition::create(device_on(disk), logged_config());
    for (int i = 0; i < puts; ++i) co_await db.put(numbered("key", i), "value");
  }
  co_await wait_for_memory();
}

TEST(LogDamage, ATornLastGroupIsTheEndOfTheLog) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    co_await make_logged_store(disk, 10);
    std::ranges::fill(disk->block(group_blocks(*disk).back()).first(512), std::byte{0});
    {
      auto db = co_await Partition::open(device_on(disk), logged_config());
      Model model = co_await contents(db);
      EXPECT_EQ(model.size(), 9u);
      co_await db.put("again", "1");
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    const Model model = co_await contents(db);
    EXPECT_EQ(model.size(), 10u);
    EXPECT_TRUE(model.contains("again"));
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(LogDamage, DamageInTheMiddleIsRefusedAndLeftAsItIs) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    co_await make_logged_store(disk, 10);
    const std::vector<PageNo> blocks = group_blocks(*disk);
    EXPECT_EQ(blocks.size(), 10u);
    for (std::size_t i = 0; i + 1 < blocks.size(); ++i) {
      disk->block(blocks[i])[90] ^= std::byte{1};
      const std::string before = image(*disk);
      co_await expect_error(discard(Partition::open(device_on(disk), logged_config())), Errc::corruption,
                            "log at LSN|checksum does not hold|durable up to");
      co_await wait_for_memory();
      EXPECT_TRUE(image(*disk) == before);
      disk->block(blocks[i])[90] ^= std::byte{1};
    }
    auto db = co_await Partition::open(device_on(disk), logged_config());
    co_await db.close();
  });
}

TEST(LogDamage, ALogThatKnowsOfALostMetaPageIsRefused) {
  auto disk = std::make_shared<MemDisk>();
  on_core(logged_arena(), [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(device_on(disk), logged_config());
      co_await db.put("a", "1");
      co_await db.flush();
      co_await db.put("b", "2");
      co_await db.flush();
      co_await db.put("c", "3");  // attests the second flush
    }
    co_await wait_for_memory();
    const DecodedMeta first = decode_meta(disk->block(PageNo(0)), 0);
    const DecodedMeta second = decode_meta(disk->block(PageNo(2)), 1);
    const std::uint32_t newest = first.meta.generation > second.meta.generation ? 0 : 2;
    for (const std::uint32_t copy : {0, 1}) disk->block(PageNo(newest + copy))[200] ^= std::byte{1};
    co_await expect_error(discard(Partition::open(device_on(disk), logged_config())), Errc::corruption, "log at LSN");
    co_await wait_for_memory();
    {
      auto db = co_await Partition::open(device_on(disk), logged_config(), OpenOptions{.allow_rollback = true});
      co_await expect_value(db, "a", "1");
      co_await db.put("d", "4");
    }
    co_await wait_for_memory();
    auto db = co_await Partition::open(device_on(disk), logged_config());
    co_await expect_value(db, "a", "1");
    co_await expect_value(db, "c", std::nullopt);
    co_await expect_value(db, "d", "4");
    co_await expect_clean(db);
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
