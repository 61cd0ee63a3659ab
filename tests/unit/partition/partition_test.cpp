// The verbs of a partition on a device in memory.
#include <gtest/gtest.h>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"

namespace store {
namespace {

using test::MemBlockDevice;
using test::MemDisk;
using test::run_in_cluster;

PartitionConfig small_config() {
  return {.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 10, .io_depth = 16};
}

std::string numbered(const char* prefix, int i) {
  char text[32];
  std::snprintf(text, sizeof text, "%s%06d", prefix, i);
  return text;
}

TEST(Partition, KeepsWhatWasPutAcrossFlushAndReopen) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
      co_await db.put("hello", "world");
      auto value = co_await db.get("hello");
      EXPECT_EQ(value, "world");
      co_await db.flush();
      value = co_await db.get("hello");
      EXPECT_EQ(value, "world");
      co_await db.erase("hello");
      value = co_await db.get("hello");
      EXPECT_FALSE(value.has_value());
      co_await db.put("big", std::string(100'000, 'x'));
      co_await db.put("middle", std::string(5'000, 'y'));
      co_await db.close();
    }
    auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
    auto value = co_await db.get("hello");
    EXPECT_FALSE(value.has_value());
    value = co_await db.get("big");
    EXPECT_EQ(value, std::string(100'000, 'x'));
    value = co_await db.get("middle");
    EXPECT_EQ(value, std::string(5'000, 'y'));
    const CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    EXPECT_EQ(report.entries, 2u);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(Partition, GrowsATreeOfManyLevelsAndScansItInOrder) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    constexpr int kKeys = 20'000;
    for (int i = 0; i < kKeys; ++i) {
      const int k = static_cast<int>((std::int64_t{i} * 7919) % kKeys);
      co_await db.put(numbered("key", k), numbered("value", k) + std::string(100, 'v'));
    }
    co_await db.flush();
    CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    EXPECT_EQ(report.entries, 20'000u);
    EXPECT_GE(db.stats().height, 3u);
    int next = 0;
    auto scan = co_await db.scan("a", "z");
    while (co_await scan.advance()) {
      if (scan.key() != numbered("key", next)) {
        ADD_FAILURE() << scan.key() << " at " << next;
        break;
      }
      EXPECT_EQ(scan.value(), numbered("value", next) + std::string(100, 'v'));
      ++next;
    }
    EXPECT_EQ(next, kKeys);
    for (int i = 0; i < kKeys; i += 2) co_await db.erase(numbered("key", i));
    co_await db.flush();
    report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    EXPECT_EQ(report.entries, 10'000u);
    const std::string k1 = numbered("key", 1);
    const std::string k2 = numbered("key", 2);
    const std::string_view keys[] = {k1, k2, "none"};
    auto values = co_await db.get_many(keys);
    EXPECT_TRUE(values[0].has_value() && values[0]->view() == numbered("value", 1) + std::string(100, 'v'));
    EXPECT_FALSE(values[1].has_value());
    EXPECT_FALSE(values[2].has_value());
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

}  // namespace
}  // namespace store
