// A sharded store against one std::map: random verbs from random cores, with 1, 2, 3 and 8 shards on two cores, by hash and by ranges, closed
// and dropped now and then. Seeds: STORE_SEED or --seed=N repeats one.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <monterey/monterey.hpp>
#include <store/error.hpp>
#include <store/sharded_store.hpp>

#include "support/mem_shards.hpp"
#include "support/on_core.hpp"
#include "support/on_cores.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using monterey::Task;
using test::MemShards;
using Model = std::map<std::string, std::string>;

constexpr unsigned kCores = 2;
constexpr int kSeeds = 12;
constexpr int kSteps = 400;
constexpr std::array<std::string_view, 7> kPoints{"k0100", "k0150", "k0200", "k0300", "k0301", "k0400", "k0450"};

class Life {
 public:
  Life(unsigned shards, std::uint64_t seed) : random_(seed) {
    constexpr std::array kModes{WalMode::none, WalMode::batched, WalMode::per_op};
    options_.shards = shards;
    options_.partition = {.cache_pages = 64, .wal_mode = kModes[seed % 3], .write_buffer_bytes = 32u << 10};
    if (seed % 2 == 1) options_.router = Router::ranges(std::span(kPoints).first(shards - 1));
    disks_ = std::make_shared<MemShards>(shards);
  }

  const ShardedOptions& options() const { return options_; }

  Task<> run() {
    db_.emplace(co_await ShardedStore::create(disks_, options_));
    for (int step = 0; step < kSteps && !testing::Test::HasFailure(); ++step) {
      const unsigned core = pick(kCores);
      auto there = [this]() -> Task<> { co_await one_step(); };
      co_await monterey::call_on(core, there);
      if (pick(60) == 0) co_await reopen();
    }
    co_await expect_equal(*db_, model_);
    co_await db_->close();
    db_.reset();
  }

 private:
  unsigned pick(unsigned below) { return static_cast<unsigned>(random_() % below); }
  std::string key() { return fmt::format("k{:04}", pick(500)); }
  std::string value() {
    const unsigned kind = pick(20);
    const std::size_t bytes = kind == 0 ? 100'000 : kind < 3 ? 3'000 : pick(100);
    return std::string(bytes, static_cast<char>('a' + pick(26)));
  }
  bool has_log() const { return options_.partition.wal_mode != WalMode::none; }

  Task<> one_step() {
    switch (pick(12)) {
      case 0:
      case 1:
      case 2: co_await put(); break;
      case 3: co_await erase(); break;
      case 4: co_await compare_and_put(); break;
      case 5:
      case 6: co_await write(); break;
      case 7: co_await erase_range(); break;
      case 8: co_await get_many(); break;
      case 9: co_await scan(); break;
      case 10: co_await snapshot(); break;
      case 11: co_await whole(); break;
      default: break;
    }
  }

  Task<> put() {
    const std::string at = key();
    const std::string to = value();
    co_await db_->put(at, to);
    model_[at] = to;
  }

  Task<> erase() {
    const std::string at = key();
    co_await db_->erase(at);
    model_.erase(at);
  }

  Task<> compare_and_put() {
    const std::string at = key();
    const std::string to = value();
    const auto now = model_.find(at);
    std::optional<std::string_view> expected;
    if (now != model_.end()) expected = now->second;
    const bool wrong = pick(3) == 0;
    if (wrong) expected = "something else";
    const bool done = co_await db_->compare_and_put(at, expected, to);
    EXPECT_EQ(done, !wrong);
    if (done) model_[at] = to;
  }

  Task<> write() {
    WriteBatch batch;
    Model after = model_;
    // Without a log only what lies in one shard.
    const std::string first = key();
    for (unsigned i = 0; i < 1 + pick(20); ++i) {
      std::string at = i == 0 ? first : key();
      if (!has_log() && db_->shard_of(at) != db_->shard_of(first)) at = first;
      if (pick(4) == 0) {
        batch.erase(at);
        after.erase(at);
      } else {
        const std::string to = value();
        batch.put(at, to);
        after[at] = to;
      }
    }
    bool conflicts = false;
    for (unsigned i = 0; i < pick(4); ++i) {
      const std::string at = has_log() ? key() : first;
      const auto now = model_.find(at);
      if (pick(5) == 0) {
        batch.expect(at, "something else");
        conflicts = true;
      } else if (now == model_.end()) {
        batch.expect(at, std::nullopt);
      } else {
        batch.expect(at, now->second);
      }
    }
    try {
      co_await db_->write(std::move(batch));
      EXPECT_FALSE(conflicts);
      model_ = std::move(after);
    } catch (const Error& error) {
      EXPECT_TRUE(conflicts && error.errc() == Errc::conflict) << error.what();
    }
  }

  Task<> erase_range() {
    std::string from = key();
    std::optional<std::string> to;
    if (pick(4) != 0) {
      to = key();
      if (*to < from) std::swap(from, *to);
      to = std::min(*to, from + "zz");  // mostly few
    } else {
      from = "k0490";
    }
    co_await db_->erase_range(from, to);
    if (to && *to <= from) co_return;
    model_.erase(model_.lower_bound(from), to ? model_.lower_bound(*to) : model_.end());
  }

  Task<> get_many() {
    std::vector<std::string> keys;
    for (unsigned i = 0; i < pick(60); ++i) keys.push_back(key());
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto values = co_await db_->get_many(views);
    EXPECT_EQ(values.size(), keys.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto at = model_.find(keys[i]);
      EXPECT_EQ(values[i].has_value(), at != model_.end()) << keys[i];
      EXPECT_TRUE(!values[i] || values[i]->view() == at->second) << keys[i];
    }
  }

  Task<> scan() {
    const std::string from = key();
    std::optional<std::string> to;
    if (pick(3) != 0) to = key();
    ScanOptions options;
    options.reverse = pick(2) == 0;
    if (pick(3) == 0) options.limit = pick(50);
    auto scan = co_await db_->scan(from, to, options);
    std::vector<std::pair<std::string, std::string>> expected;
    for (auto it = model_.lower_bound(from); it != model_.end() && (!to || it->first < *to); ++it) {
      expected.emplace_back(it->first, it->second);
    }
    if (options.reverse) std::ranges::reverse(expected);
    if (expected.size() > options.limit) expected.resize(options.limit);
    for (const auto& [at, is] : expected) {
      const bool there = co_await scan.advance();
      EXPECT_TRUE(there && scan.key() == at && scan.value() == is) << at;
      if (!there) co_return;
    }
    const bool more = co_await scan.advance();
    EXPECT_FALSE(more);
  }

  Task<> snapshot() {
    snapshots_.emplace_back(co_await db_->snapshot(), model_, monterey::current_core());
    if (snapshots_.size() < 4) co_return;
    // Snapshots belong to the core they were made on.
    const std::size_t chosen = pick(static_cast<unsigned>(snapshots_.size()));
    const Kept& kept = snapshots_[chosen];
    auto look = [&kept]() -> Task<> {
      auto scan = co_await kept.snapshot.scan("");
      auto at = kept.model.begin();
      for (; at != kept.model.end(); ++at) {
        const bool there = co_await scan.advance();
        EXPECT_TRUE(there && scan.key() == at->first && scan.value() == at->second) << at->first;
        if (!there) co_return;
      }
      const bool more = co_await scan.advance();
      EXPECT_FALSE(more);
    };
    co_await monterey::call_on(kept.core, look);
    co_await drop_snapshot(chosen);
  }

  Task<> drop_snapshot(std::size_t index) {
    const unsigned core = snapshots_[index].core;
    auto drop = [this, index]() -> Task<> {
      snapshots_.erase(snapshots_.begin() + static_cast<std::ptrdiff_t>(index));
      co_return;
    };
    co_await monterey::call_on(core, drop);
  }

  Task<> whole() {
    switch (pick(4)) {
      case 0: co_await db_->flush(); break;
      case 1: co_await db_->sync(); break;
      case 2: {
        const CompactReport report = co_await db_->compact();
        static_cast<void>(report);
        break;
      }
      default: {
        const auto checks = co_await db_->check();
        for (const ShardCheck& check : checks) {
          EXPECT_TRUE(check.report.ok) << check.name << ": "
                                       << (check.report.errors.empty() ? "" : check.report.errors.front());
        }
      }
    }
  }

  Task<> reopen() {
    while (!snapshots_.empty()) co_await drop_snapshot(snapshots_.size() - 1);
    co_await expect_equal(*db_, model_);
    co_await db_->close();
    db_.emplace(co_await ShardedStore::open(disks_, options_));
    co_await expect_equal(*db_, model_);
  }

  static Task<> expect_equal(const ShardedStore& db, const Model& model) {
    auto scan = co_await db.scan("");
    for (const auto& [at, is] : model) {
      const bool there = co_await scan.advance();
      EXPECT_TRUE(there && scan.key() == at && scan.value() == is) << at;
      if (!there) co_return;
    }
    const bool more = co_await scan.advance();
    EXPECT_FALSE(more);
  }

  struct Kept {
    ShardedSnapshot snapshot;
    Model model;
    unsigned core;
    Kept(ShardedSnapshot taken, Model as_of, unsigned on)
        : snapshot(std::move(taken)), model(std::move(as_of)), core(on) {}
  };

  std::mt19937_64 random_;
  ShardedOptions options_;
  std::shared_ptr<MemShards> disks_;
  std::optional<ShardedStore> db_;
  Model model_;
  std::vector<Kept> snapshots_;
};

class ShardedModel : public testing::TestWithParam<unsigned> {};

TEST_P(ShardedModel, EqualsAMap) {
  const std::optional<std::uint64_t> requested = test::requested_seed();
  for (std::uint64_t seed = requested.value_or(0); seed < requested.value_or(kSeeds - 1) + 1; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    Life life(GetParam(), seed);
    test::on_cores(kCores, life.options().buffer_config(kCores), [&life] { return life.run(); });
    if (testing::Test::HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, ShardedModel, testing::Values(1u, 2u, 3u, 8u));

}  // namespace
}  // namespace store
