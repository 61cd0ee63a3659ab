// Random rounds of an incremental backup against std::map: operations on a source of every configuration, which is reopened and
// compacted, then an increment to one target, which is opened, checked and compared with the model, and compacted now and then.
// `--seed=N` replays one seed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <store/store.hpp>
#include <string>

#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using test::MemBlockDevice;
using test::MemDisk;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSeeds = 10;
#else
constexpr std::uint64_t kSeeds = 60;
#endif
constexpr int kRounds = 20;

using Model = std::map<std::string, std::string>;

class Rounds {
 public:
  explicit Rounds(std::uint64_t seed) : seed_(seed), random_(seed) {
    config_.wal_mode = pick<WalMode>({WalMode::none, WalMode::batched, WalMode::per_op});
    config_.wal_batch_interval = std::chrono::microseconds(below(200));
    config_.cache_pages = pick<std::size_t>({8, 16, 64, 512});
    config_.write_buffer_bytes = pick<std::size_t>({16u << 10, 64u << 10, 256u << 10});
    config_.io_depth = pick<std::size_t>({2, 16, 128});
    key_space_ = pick<std::uint64_t>({50, 2'000, 20'000});
    key_bytes_ = pick<std::size_t>({8, 40, 600});
    if (key_bytes_ == 600) key_space_ = std::min<std::uint64_t>(key_space_, 2'000);
    big_values_ = below(3) == 0;
  }

  monterey::BufferConfig buffers() const {
    monterey::BufferConfig buffers = config_.buffer_config();
    buffers.bytes *= 2;  // source and target
    return buffers;
  }

  monterey::Task<> run() {
    try {
      co_await rounds();
    } catch (const std::exception& error) {
      ADD_FAILURE() << where() << ": " << error.what();
    }
  }

 private:
  std::uint64_t below(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random_); }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + below(from.size()));
  }
  std::string where() const { return fmt::format("seed {}, round {}", seed_, round_); }
  static std::unique_ptr<BlockDevice> device(const std::shared_ptr<MemDisk>& disk) {
    return std::make_unique<MemBlockDevice>(disk);
  }

  std::string key(std::uint64_t n) const {
    std::string text = fmt::format("{:06}", n);
    text.resize(key_bytes_, '.');
    return text;
  }
  std::string value() {
    std::uint64_t bytes = below(150);
    if (big_values_ && below(20) == 0) bytes = below(below(10) == 0 ? 150'000 : 6'000);
    std::string text = fmt::format("{}:", ++values_);
    text.resize(bytes, static_cast<char>('a' + values_ % 26));
    return text;
  }

  monterey::Task<> rounds() {
    std::optional<Partition> db(co_await Partition::create(device(source_), config_));
    BackupReport report = co_await db->backup(device(target_));
    for (round_ = 0; round_ < kRounds && !testing::Test::HasFailure(); ++round_) {
      for (std::uint64_t left = below(8); left > 0; --left) co_await change(*db);
      if (below(5) == 0) static_cast<void>(co_await db->compact());
      if (below(4) == 0) {
        co_await db->close();
        db.emplace(co_await Partition::open(device(source_), config_));
      }
      BackupOptions options;
      options.since = below(2) == 0 ? BackupOptions::kOfTarget : report.generation;
      report = co_await db->backup(device(target_), options);
      co_await compare();
    }
    co_await db->close();
  }

  monterey::Task<> change(Partition& db) {
    const std::uint64_t kind = below(10);
    const std::uint64_t from = below(key_space_);
    const std::uint64_t to = from + 1 + below(below(4) == 0 ? key_space_ / 4 : 100);
    if (kind == 0) {
      co_await db.flush();
    } else if (kind < 3) {
      const bool to_the_end = below(20) == 0;
      std::optional<std::string> end;
      if (!to_the_end) end = key(to);
      co_await db.erase_range(key(from), end);
      model_.erase(model_.lower_bound(key(from)), to_the_end ? model_.end() : model_.lower_bound(key(to)));
    } else if (kind < 5) {
      for (auto at = model_.lower_bound(key(from)); at != model_.end() && at->first < key(to);) {
        co_await db.erase(at->first);
        at = model_.erase(at);
      }
    } else if (kind < 7) {
      for (std::uint64_t left = below(60); left > 0; --left) co_await put(db, below(key_space_));
    } else {
      for (std::uint64_t n = from; n < std::min(to, from + 1'500); ++n) co_await put(db, n);
    }
  }

  monterey::Task<> put(Partition& db, std::uint64_t n) {
    const std::string k = key(n);
    const std::string v = value();
    co_await db.put(k, v);
    model_[k] = v;
  }

  monterey::Task<> compare() {
    auto copy = co_await Partition::open(device(target_), config_);
    EXPECT_EQ(copy.stats().entries, model_.size()) << where();
    const CheckReport report = co_await copy.check();
    EXPECT_TRUE(report.ok) << where() << ": " << (report.errors.empty() ? "" : report.errors.front());
    auto scan = co_await copy.scan("");
    auto want = model_.begin();
    for (;; ++want) {
      const bool more = co_await scan.advance();
      EXPECT_EQ(more, want != model_.end()) << where();
      if (!more || want == model_.end()) break;
      EXPECT_TRUE(scan.key() == want->first && scan.value() == want->second) << where() << ": key " << want->first;
      if (testing::Test::HasFailure()) break;
    }
    if (below(5) == 0) static_cast<void>(co_await copy.compact());
    co_await copy.close();
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
  PartitionConfig config_;
  std::uint64_t key_space_ = 0;
  std::size_t key_bytes_ = 0;
  bool big_values_ = false;
  std::shared_ptr<MemDisk> source_ = std::make_shared<MemDisk>();
  std::shared_ptr<MemDisk> target_ = std::make_shared<MemDisk>();
  Model model_;
  std::uint64_t values_ = 0;
  int round_ = 0;
};

TEST(IncrementModel, ATargetFollowsItsSource) {
  const std::optional<std::uint64_t> asked_for = test::requested_seed();
  const std::uint64_t last = asked_for.value_or(kSeeds);
  for (std::uint64_t seed = asked_for.value_or(1); seed <= last && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("replay with --seed={}", seed));
    Rounds rounds(seed);
    test::run_in_cluster(rounds.buffers(), [&rounds] { return rounds.run(); });
  }
}

}  // namespace
}  // namespace store
