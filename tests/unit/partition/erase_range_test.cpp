// Ranges that are erased: who still sees what was in them, and what dropping it costs. And how much a range is said to hold.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "cost_support.hpp"
#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using namespace store::test;

using Pairs = std::map<std::string, std::string>;

PartitionConfig small_config(WalMode mode = WalMode::none) {
  return {.cache_pages = 64, .wal_mode = mode, .write_buffer_bytes = 64u << 10, .io_depth = 16};
}

monterey::Task<Pairs> all_of(Scan& scan) {
  Pairs found;
  for (;;) {
    const bool more = co_await scan.advance();
    if (!more) break;
    found.emplace(scan.key(), scan.value());
  }
  co_return std::move(found);
}

monterey::Task<Pairs> all_of(Partition& db) {
  auto scan = co_await db.scan("");
  co_return co_await all_of(scan);
}

monterey::Task<> expect_clean(Partition& db, std::uint64_t entries) {
  const CheckReport report = co_await db.check();
  EXPECT_TRUE(report.ok) << report.errors.front();
  EXPECT_EQ(report.entries, entries);
}

monterey::Task<std::optional<Errc>> errc_of(monterey::Task<> task) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    co_return error.errc();
  }
  co_return std::nullopt;
}

TEST(EraseRange, ErasesWhatWasThereAndNothingThatComesLater) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (const char* key : {"a", "b", "c", "d", "e"}) co_await db.put(key, "old");
    co_await db.flush();
    co_await db.put("c1", "old");
    co_await db.erase_range("b", "d");
    co_await db.put("c", "new");
    const Pairs want{{"a", "old"}, {"c", "new"}, {"d", "old"}, {"e", "old"}};
    Pairs found = co_await all_of(db);
    EXPECT_EQ(found, want);
    const bool there = co_await db.contains("b");
    EXPECT_FALSE(there);
    const std::string_view keys[] = {"a", "b", "c", "c1", "d"};
    const auto values = co_await db.get_many(keys);
    EXPECT_TRUE(values[0] && !values[1] && values[2] && !values[3] && values[4]);
    co_await db.flush();
    found = co_await all_of(db);
    EXPECT_EQ(found, want);
    co_await expect_clean(db, 4);
    co_await db.erase_range("d");
    found = co_await all_of(db);
    EXPECT_EQ(found, (Pairs{{"a", "old"}, {"c", "new"}}));
    co_await db.erase_range("");
    co_await db.flush();
    found = co_await all_of(db);
    EXPECT_EQ(found, Pairs{});
    co_await expect_clean(db, 0);
    EXPECT_EQ(db.stats().height, 0u);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(EraseRange, AnEmptyRangeDoesNothingAndTooLongABoundIsRefused) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    co_await db.put("b", "there");
    const std::uint64_t before = db.stats().last_sequence;
    co_await db.erase_range("b", "b");
    co_await db.erase_range("c", "a");
    co_await db.erase_range("b", "");
    const std::string longest(1024, 'b');
    std::optional<Errc> errc = co_await errc_of(db.erase_range(longest + "b"));
    EXPECT_EQ(errc, Errc::invalid_argument);
    errc = co_await errc_of(db.erase_range("a", longest + "b"));
    EXPECT_EQ(errc, Errc::invalid_argument);
    EXPECT_EQ(db.stats().last_sequence, before);
    const std::optional<std::string> value = co_await db.get("b");
    EXPECT_EQ(value, "there");
    co_await db.erase_range("a", longest);
    const bool there = co_await db.contains("b");
    EXPECT_FALSE(there);

    WriteBatch batch;
    batch.erase_range("c", "a");
    EXPECT_TRUE(batch.empty());
    EXPECT_THROW(batch.erase_range(longest + "b"), Error);
    for (int i = 0; i < 64; ++i) batch.erase_range("a", "b");
    EXPECT_THROW(batch.erase_range("a", "b"), Error);
    EXPECT_EQ(batch.size(), 64u);
    co_await db.write(std::move(batch));
    co_await db.close();
    errc = co_await errc_of(db.erase_range("a", "a"));
    EXPECT_EQ(errc, Errc::closed);
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(EraseRange, ABatchWorksInItsOrderAndExpectationsSeeRanges) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config(WalMode::batched);
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (const char* key : {"a", "b", "c", "d"}) co_await db.put(key, "old");
    co_await db.flush();
    WriteBatch batch;
    batch.put("b", "before");
    batch.erase_range("b", "d");
    batch.put("c", "after");
    batch.expect("b", "old");
    co_await db.write(std::move(batch));
    const Pairs want{{"a", "old"}, {"c", "after"}, {"d", "old"}};
    Pairs found = co_await all_of(db);
    EXPECT_EQ(found, want);
    bool done = co_await db.compare_and_put("b", "before", "wrong");
    EXPECT_FALSE(done);
    WriteBatch refused;
    refused.erase_range("");
    refused.expect("b", "before");
    const std::optional<Errc> errc = co_await errc_of(db.write(std::move(refused)));
    EXPECT_EQ(errc, Errc::conflict);
    found = co_await all_of(db);
    EXPECT_EQ(found, want);
    done = co_await db.compare_and_put("b", std::nullopt, "again");
    EXPECT_TRUE(done);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// Without close(): what is there again comes from the log.
TEST(EraseRange, IsReplayed) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config(WalMode::per_op);
  Pairs want;
  const auto write = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (std::uint64_t i = 0; i < 300; ++i) co_await db.put(key_of(i), "old");
    co_await db.flush();
    co_await db.put(key_of(70), std::string(100'000, 'r'));
    co_await db.erase_range(key_of(50), key_of(250));
    co_await db.put(key_of(60), "new");
    WriteBatch batch;
    batch.erase_range(key_of(290));
    batch.put(key_of(295), "new");
    co_await db.write(std::move(batch));
    want = co_await all_of(db);
    EXPECT_EQ(want.size(), 50u + 1 + 40 + 1);
  };
  run_in_cluster(config.buffer_config(), write);
  const auto read = [&]() -> monterey::Task<> {
    auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
    EXPECT_EQ(db.stats().replayed_entries, 5u);
    Pairs found = co_await all_of(db);
    EXPECT_EQ(found, want);
    co_await db.flush();
    found = co_await all_of(db);
    EXPECT_EQ(found, want);
    co_await expect_clean(db, want.size());
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), read);
}

// Ranges, puts and scans in between, all within one write buffer: each scan keeps its state, before the flush and after it, when
// every one of them is a cut of the merge.
TEST(EraseRange, EveryViewKeepsWhatItSaw) {
  const std::uint64_t first_seed = requested_seed().value_or(1);
  const std::uint64_t last_seed = requested_seed() ? first_seed : first_seed + 19;
  for (std::uint64_t seed = first_seed; seed <= last_seed; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    // Large enough that no write flushes, to move the views out of its way.
    auto disk = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 64 * 1024});
    const PartitionConfig config{.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 1u << 20};
    const auto task = [&]() -> monterey::Task<> {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
      constexpr std::uint64_t kKeys = 3'000;
      Pairs now;
      const auto value = [&](std::uint64_t kind) { return std::string(kind == 0 ? 3000 : kind == 1 ? 0 : 100, 'v'); };
      for (std::uint64_t i = 0; i < kKeys; ++i) now[key_of(i)] = value(below(50));
      for (const auto& [key, text] : now) co_await db.put(key, text);
      co_await db.flush();
      std::vector<std::pair<Scan, Pairs>> views;
      for (int i = 0; i < 60; ++i) {
        const std::uint64_t kind = below(10);
        const std::string from = key_of(below(kKeys));
        if (kind < 4) {
          const std::string to = key_of(below(kKeys));
          co_await db.erase_range(from, to);
          if (from < to) now.erase(now.lower_bound(from), now.lower_bound(to));
        } else if (kind < 7) {
          const std::string text = value(below(5));
          co_await db.put(from, text);
          now[from] = text;
        } else {
          views.emplace_back(co_await db.scan("", std::nullopt, {.reverse = below(2) == 0}), now);
          if (below(2) == 0) {
            const bool more = co_await views.back().first.advance();
            EXPECT_EQ(more, !now.empty());
            if (more) views.back().second.erase(std::string(views.back().first.key()));
          }
        }
      }
      EXPECT_EQ(db.stats().flushes, 1u);
      for (std::size_t i = 0; i < views.size(); i += 3) {
        const Pairs found = co_await all_of(views[i].first);
        EXPECT_TRUE(found == views[i].second) << "view " << i << " before the flush";
      }
      co_await db.flush();
      for (std::size_t i = 0; i < views.size(); ++i) {
        if (i % 3 == 0) continue;
        const Pairs found = co_await all_of(views[i].first);
        EXPECT_TRUE(found == views[i].second) << "view " << i << " after the flush";
      }
      views.clear();
      const Pairs found = co_await all_of(db);
      EXPECT_TRUE(found == now);
      co_await expect_clean(db, now.size());
      co_await db.close();
    };
    run_in_cluster(config.buffer_config(), task);
    if (HasFailure()) return;
  }
}

TEST(EraseRange, MoreRangesThanABufferHoldsAreFlushed) {
  auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    for (std::uint64_t i = 0; i < 1000; ++i) co_await db.put(key_of(i), "v");
    for (std::uint64_t i = 0; i < 1000; i += 4) co_await db.erase_range(key_of(i), key_of(i + 2));
    const Pairs found = co_await all_of(db);
    EXPECT_EQ(found.size(), 500u);
    EXPECT_GE(db.stats().flushes, 2u);
    co_await db.flush();
    co_await expect_clean(db, 500);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// --- cost ---

constexpr std::uint64_t kManyKeys = 100'000;

struct Counted {
  std::uint64_t leaves = 0;       // of the tree before
  std::uint64_t leaves_read = 0;  // of those
  std::uint64_t overflow_leaves = 0;
  std::uint64_t branches_read = 0;
};

// Runs `work` and counts which pages of the tree before were read.
template <class Work>
monterey::Task<Counted> count_reads(MemDisk& disk, Work work) {
  std::set<std::uint32_t> leaves;
  Counted counted;
  for (const PagePointer& leaf : leaves_of(disk)) {
    leaves.insert(leaf.page.value);
    counted.overflow_leaves += has_overflow(leaf);
  }
  counted.leaves = leaves.size();
  disk.record(true);
  co_await work();
  disk.record(false);
  for (const test::Operation& operation : disk.take_trace()) {
    if (operation.op != DeviceOp::read) continue;
    for (std::uint32_t i = 0; i < operation.blocks; ++i) {
      counted.leaves_read += leaves.contains(operation.first.value + i);
    }
    const bool is_branch = operation.blocks == 1 && page_type(disk.block(operation.first).data()) == PageType::branch;
    counted.branches_read += is_branch;
  }
  co_return counted;
}

monterey::Task<Partition> fill(std::shared_ptr<MemDisk> disk, PartitionConfig config, std::uint64_t one_long_in) {
  auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
  for (std::uint64_t i = 0; i < kManyKeys; ++i) {
    const bool is_long = one_long_in > 0 && i % one_long_in == 7;
    const std::string value(is_long ? 5000 : kValueBytes, 'v');
    co_await db.put(key_of(i), value);
  }
  co_await db.close();
  co_return co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
}

TEST(EraseRangeCost, DropsLeavesUnread) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await fill(disk, config, 0);
    const Counted counted = co_await count_reads(*disk, [&]() -> monterey::Task<> {
      co_await db.erase_range(key_of(500), key_of(kManyKeys - 500));
      co_await db.put(key_of(kManyKeys / 2), "in the middle");
      co_await db.flush();
    });
    EXPECT_GT(counted.leaves, 2'000u);
    EXPECT_LE(counted.leaves_read * 100, counted.leaves * 2);
    std::printf("%llu leaves, %llu of them read, %llu branches read\n", static_cast<unsigned long long>(counted.leaves),
                static_cast<unsigned long long>(counted.leaves_read),
                static_cast<unsigned long long>(counted.branches_read));
    co_await expect_clean(db, 1001);
    EXPECT_LT(db.stats().tree_pages, 50u);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(EraseRangeCost, ReadsLeavesWithOverflowValuesAndFreesTheirRuns) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await fill(disk, config, 1000);
    EXPECT_EQ(db.stats().overflow_blocks, kManyKeys / 1000 * 2);
    const Counted counted = co_await count_reads(*disk, [&]() -> monterey::Task<> {
      co_await db.erase_range(key_of(10));
      co_await db.flush();
    });
    EXPECT_EQ(counted.overflow_leaves, kManyKeys / 1000);
    EXPECT_GE(counted.leaves_read, counted.overflow_leaves);
    EXPECT_LE(counted.leaves_read, counted.overflow_leaves + 2);
    EXPECT_EQ(db.stats().overflow_blocks, 2u);
    co_await expect_clean(db, 10);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(EraseRangeCost, AScanSeeksPastWhatIsErased) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await fill(disk, config, 0);
    co_await db.erase_range(key_of(100), key_of(kManyKeys - 100));
    for (const bool reverse : {false, true}) {
      const Counted counted = co_await count_reads(*disk, [&]() -> monterey::Task<> {
        auto scan = co_await db.scan("", std::nullopt, {.reverse = reverse});
        const Pairs found = co_await all_of(scan);
        EXPECT_EQ(found.size(), 200u);
      });
      EXPECT_LT(counted.leaves_read, 20u);
    }
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// --- approximate_range ---

TEST(ApproximateRange, IsExactWhereTheRangeEndsBetweenLeavesAndReadsNone) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config{.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await fill(disk, config, 1000);
    // Where each leaf begins, and what is before it. The last key of a leaf has the next one's separator behind it.
    std::vector<std::string> separators;
    std::vector<std::uint64_t> before{0};
    std::string last;
    std::uint64_t most = 0;
    for (const PagePointer& leaf : leaves_of(*disk)) {
      const LeafView view(disk->block(leaf.page).data());
      std::string first;
      view.append_key(0, first);
      separators.emplace_back(last.empty() ? std::string_view() : shortest_separator(last, first));
      last.clear();
      view.append_key(view.count() - 1, last);
      before.push_back(before.back() + view.count());
      most = std::max<std::uint64_t>(most, view.count());
    }
    const std::uint64_t seed = requested_seed().value_or(1);
    std::mt19937_64 random(seed);
    const Counted counted = co_await count_reads(*disk, [&]() -> monterey::Task<> {
      RangeEstimate estimate = co_await db.approximate_range("");
      EXPECT_EQ(estimate.entries, kManyKeys);
      EXPECT_EQ(estimate.bytes, (separators.size() + db.stats().overflow_blocks) * kPageBytes);
      estimate = co_await db.approximate_range("z");
      EXPECT_LE(estimate.entries, most);
      estimate = co_await db.approximate_range("k", "k");
      EXPECT_EQ(estimate.entries, 0u);
      for (int i = 0; i < 300; ++i) {
        std::size_t a = random() % separators.size();
        std::size_t b = random() % separators.size();
        if (a > b) std::swap(a, b);
        estimate = co_await db.approximate_range(separators[a], separators[b]);
        EXPECT_EQ(estimate.entries, a == b ? 0 : before[b] - before[a]) << "--seed=" << seed;
        std::uint64_t from = random() % kManyKeys;
        std::uint64_t to = random() % kManyKeys;
        if (from > to) std::swap(from, to);
        estimate = co_await db.approximate_range(key_of(from), key_of(to));
        EXPECT_GE(estimate.entries, to - from) << "--seed=" << seed;
        EXPECT_LE(estimate.entries, to - from + 2 * most) << "--seed=" << seed;
      }
    });
    EXPECT_EQ(counted.leaves_read, 0u);
    EXPECT_GT(counted.branches_read, 0u);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(ApproximateRange, OfATreeWithoutBranchesAndOfNone) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    co_await db.put("a", "v");
    co_await db.put("b", "v");
    RangeEstimate estimate = co_await db.approximate_range("");
    EXPECT_EQ(estimate.entries, 0u) << "nothing is committed";
    co_await db.flush();
    estimate = co_await db.approximate_range("a");
    EXPECT_EQ(estimate.entries, 2u);
    EXPECT_EQ(estimate.bytes, kPageBytes);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

}  // namespace
}  // namespace store
