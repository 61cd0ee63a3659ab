// What a bulk load writes: each page once, full, in order, in large pieces.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "cost_support.hpp"
#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"

namespace store {
namespace {

using namespace store::test;

class NumberedSource {
 public:
  NumberedSource(std::uint64_t entries, std::size_t (*value_bytes)(std::uint64_t))
      : entries_(entries), value_bytes_(value_bytes) {}

  bool next(std::string_view& key, std::string_view& value) {
    if (given_ == entries_) return false;
    key = key_ = key_of(given_);
    value_.resize(value_bytes_(given_), 'v');
    value = value_;
    ++given_;
    return true;
  }

 private:
  std::uint64_t entries_;
  std::size_t (*value_bytes_)(std::uint64_t);
  std::uint64_t given_ = 0;
  std::string key_;
  std::string value_;
};

// Loads a new store; returns the writes of the load.
std::vector<test::Operation> writes_of(const std::shared_ptr<MemDisk>& disk, WalMode mode, NumberedSource source,
                                       Stats& stats) {
  const PartitionConfig config{.cache_pages = 1024, .wal_mode = mode, .write_buffer_bytes = 4u << 20};
  std::vector<test::Operation> writes;
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    disk->record(true);
    co_await db.bulk_load(source);
    disk->record(false);
    for (const test::Operation& operation : disk->take_trace()) {
      if (operation.op == DeviceOp::write) writes.push_back(operation);
    }
    stats = db.stats();
    const CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
  return writes;
}

// Every block of the load is written once, each write begins where the one before ended, and the mean is at least 256 KiB, with
// the allocator's pages and the meta page.
void expect_sequential(const std::vector<test::Operation>& writes, const Stats& stats) {
  std::uint64_t blocks = 0;
  std::size_t jumps = 0;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    blocks += writes[i].blocks;
    if (i > 0) jumps += writes[i].first.value != writes[i - 1].first.value + writes[i - 1].blocks;
  }
  const std::uint64_t mean_bytes = blocks * kPageBytes / writes.size();
  std::printf("%zu writes of %lu KiB in the mean, %zu jumps\n", writes.size(),
              static_cast<unsigned long>(mean_bytes >> 10), jumps);
  EXPECT_GE(mean_bytes, 256u << 10);
  EXPECT_LE(jumps, 2u) << "one to the allocator's pages, one to the meta page";
  EXPECT_LT(writes.back().first.value, kMetaBlocks);
  const std::uint64_t allocator = blocks - kMetaCopies - stats.tree_pages - stats.overflow_blocks;
  EXPECT_LE(allocator, stats.allocator_pages + 1);
}

TEST(BulkCost, WritesEveryPageOnceInLargePieces) {
  for (const WalMode mode : {WalMode::none, WalMode::batched}) {
    const auto disk = std::make_shared<MemDisk>();
    Stats stats;
    const NumberedSource source(400'000, [](std::uint64_t) { return kValueBytes; });
    const auto writes = writes_of(disk, mode, source, stats);
    EXPECT_EQ(stats.entries, 400'000u);
    EXPECT_EQ(stats.buffered_bytes, 0u);
    expect_sequential(writes, stats);
  }
}

TEST(BulkCost, WritesLongValuesAmongThePages) {
  const auto disk = std::make_shared<MemDisk>();
  Stats stats;
  const NumberedSource source(20'000, [](std::uint64_t i) -> std::size_t {
    if (i % 100 == 0) return 100'000 + i;
    return i % 3 == 0 ? 3'000 : 200;
  });
  const auto writes = writes_of(disk, WalMode::none, source, stats);
  EXPECT_GT(stats.overflow_blocks, 10'000u);
  expect_sequential(writes, stats);
}

TEST(BulkCost, LeavesPagesFull) {
  const auto disk = std::make_shared<MemDisk>();
  Stats stats;
  const NumberedSource source(300'000, [](std::uint64_t) { return kValueBytes; });
  writes_of(disk, WalMode::none, source, stats);
  const std::vector<PagePointer> leaves = leaves_of(*disk);
  // Not one more entry fits: a cell takes at most so much.
  constexpr std::size_t kCellBytes = kKeyBytes + kValueBytes + 8;
  std::uint64_t used = 0;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const std::size_t bytes = LeafView(disk->block(leaves[i].page).data()).bytes_used();
    used += bytes;
    if (i + 1 < leaves.size()) {
      EXPECT_GT(bytes + kCellBytes, kPageBytes) << "leaf " << i;
    }
  }
  const double fill = static_cast<double>(used) / (static_cast<double>(leaves.size()) * kPageBytes);
  std::printf("%zu leaves, %.1f %% full, %lu branches\n", leaves.size(), 100 * fill,
              static_cast<unsigned long>(stats.tree_pages - leaves.size()));
  EXPECT_GE(fill, 0.97);
  EXPECT_LT(stats.tree_pages - leaves.size(), leaves.size() / 100);
}

// What a small store takes on the device is what it needs, not what is taken ahead.
TEST(BulkCost, ASmallLoadTakesLittle) {
  const auto disk = std::make_shared<MemDisk>();
  Stats stats;
  const NumberedSource source(100, [](std::uint64_t) { return kValueBytes; });
  writes_of(disk, WalMode::none, source, stats);
  EXPECT_LE(stats.high_water_blocks, stats.tree_pages + 8);
}

}  // namespace
}  // namespace store
