// What a flush costs in reads and writes, and how full the leaves are that it leaves behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <unordered_set>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "cost_support.hpp"
#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using namespace store::test;
using Completion = MemDisk::Completion;

// --- pace ---

std::string paced_key(std::uint64_t index) {
  char text[32];
  std::snprintf(text, sizeof text, "key%08lu", static_cast<unsigned long>(index));
  return text;
}

monterey::Task<> put_until(Partition* db, std::uint64_t keys, const bool* stop, std::uint64_t* done) {
  while (!*stop) {
    co_await db->put(paced_key(*done * 7919 % keys), std::string(100, 'w'));
    ++*done;
    if (*done % 16 == 0) co_await monterey::yield();
  }
}

// With the last buffer half full and the flush at a stand, writes stand too; they go on as it reads leaf after leaf, not when it has
// ended.
TEST(FlushCost, WritesKeepPaceWithTheFlush) {
  // So few reads in flight that each leaf is read by itself.
  const PartitionConfig config{
      .cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 256u << 10, .io_depth = 4};
  constexpr std::uint64_t kKeys = 20'000;
  const auto arena = static_cast<double>(config.write_buffer_bytes);
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (std::uint64_t i = 0; i < kKeys; ++i) co_await db.put(paced_key(i), std::string(100, 'v'));
    co_await db.flush();
    disk->complete_by(
        [](const Operation& op) { return op.op == DeviceOp::read ? Completion::held : Completion::at_once; });
    bool stop = false;
    std::uint64_t done = 0;
    auto writer = monterey::spawn(put_until(&db, kKeys, &stop, &done));
    const auto settle = [&]() -> monterey::Task<> {
      const monterey::TaskClassScope scope(monterey::TaskClass::background);  // behind the flush
      for (std::uint64_t before = ~std::uint64_t{0}; before != done;) {
        before = done;
        for (int i = 0; i < 200; ++i) co_await monterey::yield();
      }
    };
    co_await settle();
    EXPECT_GT(disk->held(), 0U);
    EXPECT_GE(static_cast<double>(db.stats().buffered_bytes), 1.45 * arena);
    EXPECT_LE(static_cast<double>(db.stats().buffered_bytes), 1.55 * arena);
    const std::uint64_t flushes = db.stats().flushes;
    int went_on = 0;
    for (int i = 0; i < 100; ++i) {
      const std::uint64_t before = done;
      if (disk->held() > 0) disk->release();
      co_await settle();
      if (done > before) ++went_on;
    }
    EXPECT_EQ(db.stats().flushes, flushes) << "the flush ended";
    EXPECT_GE(went_on, 25) << "of a hundred leaves that were read";
    stop = true;
    disk->complete_by(nullptr);
    disk->complete(Completion::at_once);
    while (!writer.ended()) {
      disk->release_all();
      co_await monterey::yield();
    }
    co_await writer;
    const CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// --- splits ---

struct FlushReads {
  std::vector<std::uint32_t> pages;  // ascending
  std::int64_t tree_pages_added = 0;
};

// Opens a store on `disk`, puts `keys`, and reports what the flush read.
FlushReads flush_reads(std::shared_ptr<MemDisk> disk, const std::vector<std::string>& keys, std::string value) {
  const PartitionConfig config{.cache_pages = 1024, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  FlushReads result;
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
    for (const std::string& key : keys) co_await db.put(key, value);
    const std::uint64_t before = db.stats().tree_pages;
    disk->record(true);
    co_await db.flush();
    disk->record(false);
    result.tree_pages_added = static_cast<std::int64_t>(db.stats().tree_pages) - static_cast<std::int64_t>(before);
    for (const test::Operation& operation : disk->take_trace()) {
      if (operation.op != DeviceOp::read) continue;
      for (std::uint32_t i = 0; i < operation.blocks; ++i) result.pages.push_back(operation.first.value + i);
    }
    const CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
  std::ranges::sort(result.pages);
  return result;
}

TEST(FlushCost, ASplitReadsNoPageThatTheMergeWouldNotRead) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{.cache_pages = 1024, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (const std::string& key : keys_up_to(20'000)) co_await db.put(key, std::string(kValueBytes, 'v'));
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);

  // The same leaves, each by itself among untouched ones: changed in place, or split by what is put behind the key.
  std::vector<std::string> changed;
  std::vector<std::string> added;
  for (std::uint64_t i = 0; i < 20'000; i += 200) {
    changed.push_back(key_of(i));
    for (char c = 'a'; c <= 'z'; ++c) added.push_back(key_of(i) + c);
  }
  const FlushReads in_place = flush_reads(disk->copy(), changed, std::string(kValueBytes, 'w'));
  const FlushReads splitting = flush_reads(disk->copy(), added, std::string(kValueBytes, 'w'));
  EXPECT_EQ(in_place.tree_pages_added, 0);
  EXPECT_GE(splitting.tree_pages_added, 80);
  EXPECT_GE(in_place.pages.size(), 100u);
  EXPECT_EQ(splitting.pages, in_place.pages);
  std::printf("both flushes read %zu pages; the splitting one added %ld\n", in_place.pages.size(),
              static_cast<long>(splitting.tree_pages_added));
}

// --- neighbours ---

// Two flushes, each with a change for four leaves in five: the first one makes the leaves of a branch lie together, so that the
// second one reads them in large pieces.
TEST(FlushCost, LeavesThatWereWrittenTogetherAreReadTogether) {
  constexpr std::uint64_t kKeys = 200'000;
  const PartitionConfig config{.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 32u << 20};
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (std::uint64_t i = 0; i < kKeys; ++i) co_await db.put(paced_key(i), std::string(100, 'v'));
    co_await db.flush();
    std::mt19937_64 random(1);
    for (int flush = 0; flush < 4; ++flush) {
      const Stats before = db.stats();
      const std::uint64_t reads = disk->counts().reads;
      // A leaf has about 35 entries.
      for (std::uint64_t i = 0; i < kKeys; i += 35) {
        if (random() % 10 < 9) co_await db.put(paced_key(i + random() % 35), std::string(100, 'w'));
      }
      co_await db.flush();
      const Stats after = db.stats();
      const std::uint64_t pages = after.flush_pages_read - before.flush_pages_read;
      EXPECT_GE(pages * 100, after.tree_pages * 95) << "flush " << flush << ": all leaves were read";
      EXPECT_GE(pages, 12 * (disk->counts().reads - reads)) << "flush " << flush << ", of a fourth of io_depth at most";
    }
    const CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << report.errors.front();
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// A flush that writes every leaf, in one run: the cache, though it had room for all, then has those that it had before.
TEST(FlushCost, KeepsInTheCacheTheLeavesThatWereThereAndNoOthers) {
  constexpr std::uint64_t kKeys = 100'000;
  const PartitionConfig config{.cache_pages = 16'384, .wal_mode = WalMode::none, .write_buffer_bytes = 32u << 20};
  const auto disk = std::make_shared<MemDisk>();
  const auto fill = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (std::uint64_t i = 0; i < kKeys; ++i) co_await db.put(paced_key(i), std::string(100, 'v'));
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), fill);
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
    const auto misses_of = [&](std::uint64_t from) -> monterey::Task<std::uint64_t> {
      const std::uint64_t before = db.stats().cache_misses;
      for (std::uint64_t i = from; i < kKeys; i += 5'000) {
        const std::optional<std::string> found = co_await db.get(paced_key(i));
        EXPECT_TRUE(found.has_value());
      }
      co_return db.stats().cache_misses - before;
    };
    const std::uint64_t cold = co_await misses_of(0);
    EXPECT_GE(cold, 20u);
    for (std::uint64_t i = 0; i < kKeys; i += 10) co_await db.put(paced_key(i), std::string(100, 'w'));
    co_await db.flush();
    const std::uint64_t hot = co_await misses_of(0);
    const std::uint64_t others = co_await misses_of(2'500);
    EXPECT_EQ(hot, 0u);
    EXPECT_GE(others, 18u) << "of 20 leaves that nobody had read";
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// --- the allocator ---

// The allocator of one commit, as its pages on the disk say.
struct AllocatorState {
  std::vector<std::array<std::uint64_t, kBitmapWords>> regions;
  std::unordered_set<std::uint32_t> own_pages;
  unsigned parents = 0;

  explicit AllocatorState(MemDisk& disk) {
    const Meta meta = newest_meta(disk);
    add(disk, meta.allocator_root, meta.allocator_levels);
  }
  void add(MemDisk& disk, PagePointer page, unsigned level) {
    own_pages.insert(page.page.value);
    const std::byte* bytes = disk.block(page.page).data();
    if (level == 0) {
      regions.emplace_back();
      BitmapView(bytes).copy_to(regions.back());
      return;
    }
    ++parents;
    const BitmapParentView parent(bytes);
    for (std::uint32_t slot = 0; slot < parent.count(); ++slot) add(disk, parent.child(slot).child, level - 1);
  }
};

// The regions in which a commit took or gave back a block for anything but the allocator's own pages.
std::set<std::uint32_t> dirty_regions(const AllocatorState& before, const AllocatorState& after) {
  std::set<std::uint32_t> dirty;
  for (std::uint32_t region = 0; region < after.regions.size(); ++region) {
    if (region >= before.regions.size()) {
      dirty.insert(region);
      continue;
    }
    for (std::uint32_t index = 0; index < kRegionBlocks; ++index) {
      const std::uint64_t bit = std::uint64_t{1} << (index % 64);
      if (((before.regions[region][index / 64] ^ after.regions[region][index / 64]) & bit) == 0) continue;
      const std::uint32_t block = region * kRegionBlocks + index;
      if (!before.own_pages.contains(block) && !after.own_pages.contains(block)) dirty.insert(region);
    }
  }
  return dirty;
}

TEST(FlushCost, TheAllocatorWritesItsDirtyRegionsAndTheirRootAndNoMore) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{.cache_pages = 1024, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    constexpr std::uint64_t kBigValues = 24;
    for (std::uint64_t i = 0; i < kBigValues; ++i) co_await db.put("big" + key_of(i), std::string(16u << 20, 'b'));
    for (const std::string& key : keys_up_to(10'000)) co_await db.put(key, std::string(kValueBytes, 'v'));
    co_await db.flush();
    const AllocatorState filled(*disk);
    EXPECT_GE(filled.regions.size(), 4u);
    EXPECT_EQ(filled.parents, 1u);
    std::size_t fewest = 99;
    std::size_t most = 0;
    for (std::uint64_t round = 0; round < 12; ++round) {
      const AllocatorState before(*disk);
      co_await db.put(key_of(round * 700), "changed");
      if (round % 4 == 3) co_await db.erase("big" + key_of(round * 2));
      disk->record(true);
      co_await db.flush();
      disk->record(false);
      std::size_t bitmaps = 0;
      std::size_t parents = 0;
      for (const test::Operation& operation : disk->take_trace()) {
        if (operation.op != DeviceOp::write) continue;
        for (std::uint32_t i = 0; i < operation.blocks; ++i) {
          const std::byte* page = disk->block(PageNo(operation.first.value + i)).data();
          bitmaps += page_type(page) == PageType::bitmap;
          parents += page_type(page) == PageType::bitmap_parent;
        }
      }
      const AllocatorState after(*disk);
      const std::size_t dirty = dirty_regions(before, after).size();
      EXPECT_EQ(bitmaps, dirty) << "round " << round;
      EXPECT_EQ(parents, 1u);
      fewest = std::min(fewest, dirty);
      most = std::max(most, dirty);
    }
    EXPECT_LT(fewest, filled.regions.size()) << "every commit made every region dirty, which proves nothing";
    std::printf("%zu regions, of which a commit wrote %zu to %zu\n", filled.regions.size(), fewest, most);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// --- fill ---

// The mean fill of the leaves after 100,000 random inserts of 16 + 100 bytes.
double leaf_fill(std::size_t write_buffer_bytes, std::uint64_t seed) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{
      .cache_pages = 4096, .wal_mode = WalMode::none, .write_buffer_bytes = write_buffer_bytes};
  constexpr std::uint64_t kEntries = 100'000;
  double fill = 0;
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    std::mt19937_64 random(seed);
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      char key[kKeyBytes];
      const std::uint64_t halves[2] = {random(), random()};
      std::memcpy(key, halves, sizeof key);
      co_await db.put(std::string_view(key, sizeof key), std::string(kValueBytes, 'v'));
    }
    co_await db.flush();
    const Stats stats = db.stats();
    EXPECT_EQ(stats.entries, kEntries);
    const std::vector<PagePointer> leaves = leaves_of(*disk);
    EXPECT_GT(leaves.size(), 2000u);
    EXPECT_LE(leaves.size(), stats.tree_pages);
    std::uint64_t used = 0;
    for (const PagePointer& leaf : leaves) used += LeafView(disk->block(leaf.page).data()).bytes_used();
    fill = static_cast<double>(used) / (static_cast<double>(leaves.size()) * kPageBytes);
    std::printf("write buffer of %zu KiB: %zu leaves, %.1f %% full; %.1f %% of all tree pages are keys and values\n",
                write_buffer_bytes >> 10, leaves.size(), 100 * fill,
                100.0 * static_cast<double>(kEntries * (kKeyBytes + kValueBytes)) /
                    static_cast<double>(stats.tree_pages * kPageBytes));
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
  return fill;
}

TEST(FlushCost, LeavesAre85PercentFullUnderRandomInserts) {
  const std::uint64_t seed = requested_seed().value_or(1);
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  EXPECT_GE(leaf_fill(8u << 20, seed), 0.85);
  EXPECT_GE(leaf_fill(2u << 20, seed), 0.85);
}

}  // namespace
}  // namespace store
