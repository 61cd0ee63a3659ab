// Random operations on a partition against std::map, with small caches and buffers, flushes running beside, reopening, open
// scans and snapshots held against the model's copy of their start, and check() after every run. `--seed=N` replays one seed.
// The seeds of the second test hold up to 50 snapshots and scans at once.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <store/store.hpp>
#include <string>
#include <vector>

#include "support/mem_block_device.hpp"
#include "support/nvme.hpp"
#include "support/run_in_cluster.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using test::MemBlockDevice;
using test::MemDisk;

constexpr int kOperations = 5'000;
// Under a sanitizer each costs ten times as much.
#if defined(__SANITIZE_ADDRESS__)
#define STORE_MODEL_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STORE_MODEL_SANITIZED
#endif
#endif
#ifdef STORE_MODEL_SANITIZED
constexpr std::uint64_t kSeedsPerTest = 12;
#else
constexpr std::uint64_t kSeedsPerTest = 50;
#endif
constexpr std::uint64_t kManyViewsFrom = 1'000'000;  // seeds from here on hold many snapshots and scans
constexpr std::size_t kMostSnapshots = 50;

using Model = std::map<std::string, std::string>;

class Run {
 public:
  explicit Run(std::uint64_t seed) : seed_(seed), random_(seed) {
    config_.wal_mode = pick<WalMode>({WalMode::none, WalMode::batched, WalMode::per_op});
    config_.wal_batch_interval = std::chrono::microseconds(below(200));
    config_.cache_pages = pick<std::size_t>({8, 9, 16, 64, 512});
    config_.write_buffer_bytes = pick<std::size_t>({16u << 10, 64u << 10, 256u << 10});
    config_.write_buffer_count = pick<std::size_t>({2, 3});
    config_.io_depth = pick<std::size_t>({2, 16, 128});
    key_space_ = pick<std::uint64_t>({50, 1'000, 20'000});
    long_keys_ = below(4) == 0;
    big_values_ = below(3) == 0;
    if (seed >= kManyViewsFrom) {
      most_views_ = kMostSnapshots;
      key_space_ = pick<std::uint64_t>({50, 1'000, 4'000});  // each view has a copy of it all
    }
    disk_ = std::make_shared<MemDisk>();
    if (below(2) == 0) {
      disk_->complete_by([this](const test::Operation&) {
        return below(2) == 0 ? MemDisk::Completion::yield : MemDisk::Completion::at_once;
      });
    }
  }

  monterey::BufferConfig buffers() const {
    PartitionConfig with_log = config_;
    with_log.wal_mode = WalMode::per_op;
    return with_log.buffer_config();
  }

  // Nothing of the partition may outlive the cluster, also when an operation fails.
  monterey::Task<> run() {
    try {
      co_await run_operations();
    } catch (const std::exception& error) {
      ADD_FAILURE() << where() << ": " << error.what();
    }
    scans_.clear();
    snapshots_.clear();
  }

 private:
  monterey::Task<> run_operations() {
    auto fresh = co_await device();
    const CreateOptions create{.overwrite = nvme_.has_value()};
    std::optional<Partition> db(co_await Partition::create(std::move(fresh), config_, create));
    if (below(2) == 0) co_await bulk_load(*db);
    for (int i = 0; i < kOperations && !testing::Test::HasFailure(); ++i) {
      operation_ = i;
      co_await step(db);
    }
    for (const OpenSnapshot& open : snapshots_) co_await compare_snapshot(open);
    scans_.clear();
    snapshots_.clear();
    co_await compare_all(*db);
    co_await db->flush();
    EXPECT_EQ(db->stats().held_blocks, 0u) << where();
    co_await expect_clean(*db);
    co_await db->close();
  }

  using ModelRef = std::shared_ptr<const Model>;
  struct OpenSnapshot {
    Snapshot snapshot;
    ModelRef model;
  };
  struct OpenScan {
    Scan scan;
    std::vector<std::pair<std::string, std::string>> expected;
    std::size_t next = 0;
    bool reverse = false;
    std::uint64_t left = 0;  // of the limit
  };

  std::uint64_t below(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random_); }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + below(from.size()));
  }
  // On a namespace, if there is one to test on, else in memory.
  monterey::Task<std::unique_ptr<BlockDevice>> device() {
    if (!nvme_) co_return std::make_unique<MemBlockDevice>(disk_);
    for (;;) {
      auto opened = co_await try_open();
      if (opened) co_return opened;
      co_await monterey::yield();
    }
  }
  // Nothing while the state that was dropped last holds its lock.
  monterey::Task<std::unique_ptr<BlockDevice>> try_open() {
    try {
      const NvmeBlockDeviceOptions options{.polled = test::nvme_is_polled()};
      co_return co_await NvmeBlockDevice::open(*nvme_, options);
    } catch (const Error& error) {
      if (error.errc() != Errc::locked) throw;
      co_return nullptr;
    }
  }

  std::string key() {
    const std::uint64_t n = below(key_space_);
    std::string key = fmt::format("{:x}", n * 0x9E3779B97F4A7C15u);
    key.resize(std::min<std::size_t>(key.size(), 1 + n % 16));
    if (long_keys_ && n % 5 == 0) key.append(n % 1000, static_cast<char>(n % 256));
    if (n % 7 == 0) key.push_back('\0');
    return key.substr(0, 1024);
  }

  std::string value() {
    std::uint64_t bytes = below(150);
    if (big_values_) {
      const std::uint64_t kind = below(100);
      if (kind < 5) bytes = 1000 + below(50);
      if (kind >= 5 && kind < 10) bytes = below(20'000);
      if (kind == 10) bytes = 65'000 + below(100'000);
    }
    std::string value = fmt::format("{}:", ++values_);
    value.resize(bytes, static_cast<char>('a' + values_ % 26));
    return value;
  }

  struct Range {
    std::string from;
    std::optional<std::string> to;

    void erase_from(Model& model) const {
      if (to && *to <= from) return;
      model.erase(model.lower_bound(from), to ? model.lower_bound(*to) : model.end());
    }
  };

  // Mostly of few keys, so that something is left; now and then reversed, without end, or all there is.
  Range some_range() {
    Range range{key(), key()};
    const std::uint64_t kind = below(100);
    if (kind < 80) {
      auto end = model_.lower_bound(range.from);
      for (std::uint64_t left = below(below(3) == 0 ? 500 : 10); left > 0 && end != model_.end(); --left) ++end;
      if (end != model_.end()) range.to = end->first;
    }
    if (kind == 80) range.to.reset();
    if (kind == 81) range.from.clear();
    return range;
  }

  std::optional<std::string> expected(const std::string& key) const { return expected(model_, key); }
  static std::optional<std::string> expected(const Model& model, const std::string& key) {
    const auto at = model.find(key);
    if (at == model.end()) return std::nullopt;
    return at->second;
  }
  void set(const std::string& key, const std::optional<std::string>& value) {
    if (value) {
      model_[key] = *value;
    } else {
      model_.erase(key);
    }
  }
  std::string where() const { return fmt::format("seed {}, operation {}", seed_, operation_); }
  static std::string shown(const std::optional<std::string>& value) {
    return value ? fmt::format("{} bytes '{}'", value->size(), value->substr(0, 20)) : "nothing";
  }
  void expect_same(const std::string& what, const std::optional<std::string>& got,
                   const std::optional<std::string>& want) const {
    EXPECT_TRUE(got == want) << where() << ": " << what << ": got " << shown(got) << ", want " << shown(want);
  }

  monterey::Task<> step(std::optional<Partition>& db) {
    const std::uint64_t kind = below(1000);
    if (kind < 400) {
      const std::string k = key();
      const std::string v = value();
      co_await db->put(k, v);
      model_[k] = v;
    } else if (kind < 490) {
      const std::string k = key();
      co_await db->erase(k);
      model_.erase(k);
    } else if (kind < 500) {
      const Range range = some_range();
      co_await db->erase_range(range.from, range.to);
      range.erase_from(model_);
    } else if (kind < 650) {
      const std::string k = key();
      const std::optional<std::string> got = co_await db->get(k);
      expect_same("get", got, expected(k));
      if (below(4) == 0) co_await get_into(*db, k, expected(k));
    } else if (kind < 680) {
      const std::string k = key();
      const auto got = co_await db->get_pinned(k);
      std::optional<std::string> copy;
      if (got) copy.emplace(got->view());
      expect_same("get_pinned", copy, expected(k));
      const bool there = co_await db->contains(k);
      EXPECT_EQ(there, copy.has_value()) << where();
    } else if (kind < 720) {
      co_await many(*db);
    } else if (kind < 760) {
      co_await batch(*db);
    } else if (kind < 800) {
      co_await compare_and_put(*db);
    } else if (kind < 830) {
      co_await open_scan(*db);
    } else if (kind < 850) {
      co_await take_snapshot(*db);
    } else if (kind < 920) {
      co_await advance_scan();
    } else if (kind < 980) {
      co_await read_snapshot();
    } else if (kind < 989) {
      co_await db->flush();
    } else if (kind < 993) {
      co_await compact(*db);
    } else if (kind < 997) {
      co_await reopen(db);
    } else {
      co_await compare_all(*db);
    }
  }

  // A part of the value, perhaps beyond its end, of a partition or a snapshot.
  template <class From>
  monterey::Task<> get_into(const From& from, const std::string& k, const std::optional<std::string>& want) {
    const std::uint64_t size = want ? want->size() : 0;
    GetIntoOptions options;
    options.offset = below(3) == 0 ? 0 : below(size + 10);
    std::string into(below(2) == 0 ? size : below(size + 10), '?');
    const std::optional<std::size_t> got = co_await from.get_into(k, std::as_writable_bytes(std::span(into)), options);
    EXPECT_EQ(got.has_value(), want.has_value()) << where() << ": get_into";
    if (!got || !want) co_return;
    EXPECT_EQ(*got, size) << where() << ": get_into";
    std::string expected_part = want->substr(std::min(options.offset, size), into.size());
    expected_part.resize(into.size(), '?');
    EXPECT_TRUE(into == expected_part) << where() << ": get_into, " << into.size() << " bytes from " << options.offset;
  }

  // Entries in key order; one of a hundred loads has a key out of its place, and leaves nothing.
  monterey::Task<> bulk_load(Partition& db) {
    Model load;
    for (std::uint64_t left = below(below(4) == 0 ? 20'000 : 200); left > 0; --left) load.try_emplace(key(), value());
    const bool in_order = load.empty() || below(100) != 0;
    struct Source {
      const Model& entries;
      Model::const_iterator at;
      bool in_order;
      bool next(std::string_view& k, std::string_view& v) {
        if (at == entries.end() && in_order) return false;
        const auto entry = at == entries.end() ? entries.begin() : at++;
        k = entry->first;
        v = entry->second;
        return true;
      }
    };
    Source source{load, load.begin(), in_order};
    std::uint64_t loaded = 0;
    try {
      loaded = co_await db.bulk_load(source);
      EXPECT_TRUE(in_order) << where();
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::invalid_argument) << where() << ": " << error.what();
      EXPECT_FALSE(in_order) << where() << ": " << error.what();
    }
    if (in_order) model_ = std::move(load);
    EXPECT_EQ(loaded, model_.size()) << where();
    co_await expect_clean(db);
  }

  monterey::Task<> many(Partition& db) {
    std::vector<std::string> keys(1 + below(40));
    for (std::string& k : keys) k = key();
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto got = co_await db.get_many(views);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      std::optional<std::string> copy;
      if (got[i]) copy.emplace(got[i]->view());
      expect_same("get_many", copy, expected(keys[i]));
    }
  }

  monterey::Task<> batch(Partition& db) {
    WriteBatch batch;
    Model after = model_;
    const std::uint64_t changes = 1 + below(below(20) == 0 ? 2'000 : 20);
    std::uint64_t ranges = below(4) == 0 ? below(6) : 0;
    for (std::uint64_t i = 0; i < changes; ++i) {
      const std::string k = key();
      if (ranges > 0 && below(10) == 0) {
        --ranges;
        const Range range = some_range();
        std::optional<std::string_view> to;
        if (range.to) to = *range.to;
        batch.erase_range(range.from, to);
        range.erase_from(after);
      } else if (below(4) == 0) {
        batch.erase(k);
        after.erase(k);
      } else {
        const std::string v = value();
        batch.put(k, v);
        after[k] = v;
      }
    }
    bool holds = true;
    for (std::uint64_t i = below(3); i > 0; --i) {
      const std::string k = key();
      std::optional<std::string> want = expected(k);
      if (below(4) == 0) {
        want = want ? std::nullopt : std::optional<std::string>("something else");
        holds = false;
      }
      batch.expect(k, want);
    }
    bool applied = true;
    try {
      co_await db.write(std::move(batch));
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::conflict) << where() << ": " << error.what();
      applied = false;
    }
    EXPECT_EQ(applied, holds) << where();
    if (applied) model_ = std::move(after);
  }

  monterey::Task<> compare_and_put(Partition& db) {
    const std::string k = key();
    std::optional<std::string> want = expected(k);
    const bool right = below(3) != 0;
    if (!right) want = want ? std::nullopt : std::optional<std::string>("something else");
    std::optional<std::string> desired;
    if (below(4) != 0) desired = value();
    std::optional<std::string_view> want_view;
    if (want) want_view = *want;
    std::optional<std::string_view> desired_view;
    if (desired) desired_view = *desired;
    const bool done = co_await db.compare_and_put(k, want_view, desired_view);
    EXPECT_EQ(done, right) << where();
    if (done) set(k, desired);
  }

  // Of the partition, or of a snapshot.
  monterey::Task<> open_scan(Partition& db) {
    const OpenSnapshot* of = nullptr;
    if (!snapshots_.empty() && below(2) == 0) of = &snapshots_[below(snapshots_.size())];
    const Model& model = of == nullptr ? model_ : *of->model;
    if (scans_.size() >= most_views_) scans_.erase(scans_.begin() + static_cast<std::ptrdiff_t>(below(scans_.size())));
    std::string from = below(4) == 0 ? std::string() : key();
    std::optional<std::string> to;
    if (below(3) != 0) to = key();
    ScanOptions options;
    options.reverse = below(2) == 0;
    if (below(4) == 0) options.limit = below(30);
    options.prefetch_pages = below(2) == 0 ? 0 : 64;
    std::vector<std::pair<std::string, std::string>> want;
    for (auto at = model.lower_bound(from); at != model.end() && (!to || at->first < *to); ++at) want.push_back(*at);
    if (options.reverse) std::ranges::reverse(want);
    monterey::Task<Scan> opening = of == nullptr ? db.scan(from, to, options) : of->snapshot.scan(from, to, options);
    Scan scan = co_await std::move(opening);
    scans_.push_back(OpenScan{std::move(scan), std::move(want), 0, options.reverse, options.limit});
  }

  monterey::Task<> take_snapshot(Partition& db) {
    if (snapshots_.size() >= most_views_ || below(10) == 0) drop_snapshot();
    snapshots_.push_back(OpenSnapshot{db.snapshot(), std::make_shared<const Model>(model_)});
    co_return;
  }

  void drop_snapshot() {
    if (snapshots_.empty()) return;
    snapshots_.erase(snapshots_.begin() + static_cast<std::ptrdiff_t>(below(snapshots_.size())));
  }

  monterey::Task<> read_snapshot() {
    if (snapshots_.empty()) co_return;
    const OpenSnapshot& open = snapshots_[below(snapshots_.size())];
    const std::uint64_t kind = below(100);
    if (kind < 3) {
      co_await compare_snapshot(open);
    } else if (kind < 30) {
      std::vector<std::string> keys(1 + below(below(5) == 0 ? 200 : 20));
      for (std::string& k : keys) k = key();
      const std::vector<std::string_view> views(keys.begin(), keys.end());
      const auto got = co_await open.snapshot.get_many(views);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        std::optional<std::string> copy;
        if (got[i]) copy.emplace(got[i]->view());
        expect_same("get_many of a snapshot", copy, expected(*open.model, keys[i]));
      }
    } else {
      const std::string k = key();
      const std::optional<std::string> got = co_await open.snapshot.get(k);
      expect_same("get of a snapshot", got, expected(*open.model, k));
      if (below(4) == 0) co_await get_into(open.snapshot, k, expected(*open.model, k));
      const auto pinned = co_await open.snapshot.get_pinned(k);
      std::optional<std::string> copy;
      if (pinned) copy.emplace(pinned->view());
      expect_same("get_pinned of a snapshot", copy, expected(*open.model, k));
    }
  }

  monterey::Task<> compare_snapshot(const OpenSnapshot& open) {
    Scan scan = co_await open.snapshot.scan("");
    co_await compare(scan, *open.model, "full scan of a snapshot");
  }

  // Goes to a random place of the range; the limit counts on.
  monterey::Task<> seek_scan(OpenScan& open) {
    const std::string target = key();
    co_await open.scan.seek(target);
    open.next = static_cast<std::size_t>(
        std::ranges::lower_bound(
            open.expected, target,
            [&](const std::string& a, const std::string& b) { return open.reverse ? a > b : a < b; },
            [](const auto& entry) { return entry.first; }) -
        open.expected.begin());
  }

  monterey::Task<> advance_scan() {
    if (scans_.empty()) co_return;
    const auto at = scans_.begin() + static_cast<std::ptrdiff_t>(below(scans_.size()));
    if (below(4) == 0) co_await seek_scan(*at);
    for (std::uint64_t steps = 1 + below(below(5) == 0 ? 500 : 20); steps > 0; --steps) {
      const bool more = co_await at->scan.advance();
      EXPECT_EQ(more, at->next < at->expected.size() && at->left > 0) << where() << ": scan, entry " << at->next;
      if (!more || testing::Test::HasFailure()) {
        scans_.erase(at);
        co_return;
      }
      EXPECT_EQ(at->scan.key(), at->expected[at->next].first) << where();
      EXPECT_TRUE(at->scan.value() == at->expected[at->next].second)
          << where() << ": scan, value of entry " << at->next;
      ++at->next;
      --at->left;
    }
  }

  monterey::Task<> compact(Partition& db) {
    CompactOptions options;
    if (below(2) == 0) options.max_bytes_moved = below(2u << 20);
    const CompactReport report = co_await db.compact(options);
    if (scans_.empty() && below(4) != 0) co_return;
    co_await expect_clean(db);
    if (!scans_.empty() || !snapshots_.empty() || options.max_bytes_moved < (2u << 20)) co_return;
    EXPECT_TRUE(report.finished) << where();
    // Beside what it holds: room to work, and gaps that no run and no segment of the log fits into.
    const Stats stats = db.stats();
    const std::uint64_t used =
        stats.tree_pages + stats.overflow_blocks + stats.allocator_pages + stats.log_bytes / 4096 + 4;
    const std::uint64_t gaps = stats.log_bytes / 4096 + (big_values_ ? 600 : 100);
    const std::uint64_t size = nvme_ ? stats.high_water_blocks : stats.device_blocks;
    EXPECT_LE(size, used + used / 4 + gaps) << where();
  }

  monterey::Task<> reopen(std::optional<Partition>& db) {
    if (below(2) == 0) {
      co_await db->close();
    } else {  // then dropped as in a crash
      if (config_.wal_mode == WalMode::none && below(2) == 0) co_await db->flush();
      if (config_.wal_mode != WalMode::per_op) co_await db->sync();
    }
    scans_.clear();
    snapshots_.clear();
    db.reset();
    // A flush that was going on when the handle was dropped keeps its memory until it has ended.
    while (monterey::FixedBufs::current().free_bytes() < config_.buffer_config().bytes) co_await monterey::yield();
    if (below(2) == 0) config_.wal_mode = modes_[below(modes_.size())];
    auto again = co_await device();
    db.emplace(co_await Partition::open(std::move(again), config_));
    co_await expect_clean(*db);
  }

  monterey::Task<> compare_all(Partition& db) {
    Scan scan = co_await db.scan("");
    co_await compare(scan, model_, "full scan");
  }

  monterey::Task<> compare(Scan& scan, const Model& model, const char* what) {
    auto want = model.begin();
    for (;;) {
      const bool more = co_await scan.advance();
      EXPECT_EQ(more, want != model.end()) << where() << ": " << what;
      if (!more || want == model.end()) break;
      EXPECT_EQ(scan.key(), want->first) << where() << ": " << what;
      EXPECT_TRUE(scan.value() == want->second) << where() << ": " << what << ", key " << want->first;
      if (testing::Test::HasFailure()) break;
      ++want;
    }
  }

  monterey::Task<> expect_clean(Partition& db) {
    const CheckReport report = co_await db.check();
    EXPECT_TRUE(report.ok) << where() << ": " << (report.errors.empty() ? "" : report.errors.front());
  }

  // A store may be opened under any mode; the registered memory was asked for with a log.
  static constexpr std::array<WalMode, 3> modes_ = {WalMode::none, WalMode::batched, WalMode::per_op};

  std::uint64_t seed_;
  std::mt19937_64 random_;
  PartitionConfig config_;
  std::uint64_t key_space_ = 0;
  bool long_keys_ = false;
  bool big_values_ = false;
  std::shared_ptr<MemDisk> disk_;
  std::optional<std::string> nvme_ = test::nvme_path();
  Model model_;
  std::size_t most_views_ = 8;
  std::vector<OpenScan> scans_;
  std::vector<OpenSnapshot> snapshots_;
  std::uint64_t values_ = 0;
  int operation_ = 0;
};

void run_seed(std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("replay with --seed={}", seed));
  Run run(seed);
  test::run_in_cluster(run.buffers(), [&run] { return run.run(); });
}

class PartitionModel : public testing::TestWithParam<std::uint64_t> {};

void run_seeds(std::uint64_t first, std::uint64_t count) {
  if (const auto seed = test::requested_seed()) {
    run_seed(*seed);
    return;
  }
  for (std::uint64_t seed = first; seed < first + count && !testing::Test::HasFailure(); ++seed) run_seed(seed);
}

TEST_P(PartitionModel, EqualsAMap) { run_seeds(GetParam() * kSeedsPerTest + 1, kSeedsPerTest); }

TEST_P(PartitionModel, AsDoManySnapshotsAndScans) {
  run_seeds(kManyViewsFrom + GetParam() * kSeedsPerTest / 2, kSeedsPerTest / 2);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PartitionModel, testing::Range<std::uint64_t>(0, 4));

}  // namespace
}  // namespace store
