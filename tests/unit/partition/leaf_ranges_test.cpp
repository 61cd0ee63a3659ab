// The invariant that incremental backups rest on (store/tree/merge.hpp): a leaf that was not written anew, and is not the last
// one, still has the range of keys that it had. Random flushes, ranges that end on the borders of leaves and compactions, the
// leaves of each state held against those of all states before. `--seed=N` replays one seed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "support/seed.hpp"
#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::device_on;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSeeds = 8;
#else
constexpr std::uint64_t kSeeds = 40;
#endif
constexpr int kRounds = 60;

struct Leaf {
  PagePointer pointer;
  std::string lower;
  std::optional<std::string> upper;
};

std::vector<Leaf> leaves_of(MemDisk& disk) {
  const Meta meta = test::newest_meta(disk);
  std::vector<Leaf> level;
  if (meta.tree_height > 0) level.push_back({meta.tree_root, {}, std::nullopt});
  for (unsigned height = meta.tree_height; height > 1; --height) {
    std::vector<Leaf> below;
    for (const Leaf& parent : level) {
      const BranchView branch(disk.block(parent.pointer.page).data());
      for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
        std::string lower = slot == 0 ? parent.lower : std::string();
        branch.append_separator(slot, lower);
        if (!below.empty()) below.back().upper = lower;
        below.push_back({branch.child(slot), std::move(lower), std::nullopt});
      }
    }
    level = std::move(below);
  }
  return level;
}

class Rounds {
 public:
  explicit Rounds(std::uint64_t seed) : seed_(seed), random_(seed) {}

  monterey::Task<> run() {
    const PartitionConfig config = test::small_config();
    auto db = co_await Partition::create(device_on(disk_), config);
    // Keys long enough for trees of three levels; with short ones leaves have many entries.
    key_bytes_ = below(2) == 0 ? 12 : 400;
    for (round_ = 0; round_ < kRounds && !testing::Test::HasFailure(); ++round_) {
      for (std::uint64_t left = 1 + below(4); left > 0; --left) co_await change(db);
      const bool compacts = below(8) == 0;
      if (compacts) {
        static_cast<void>(co_await db.compact());
      } else {
        co_await db.flush();
      }
      compare();
    }
    co_await test::expect_holds(db, model_);
    co_await test::expect_clean(db);
    co_await db.close();
  }

 private:
  std::uint64_t below(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random_); }
  std::string key(std::uint64_t n) {
    std::string text = numbered("key", static_cast<int>(n));
    text.resize(key_bytes_, 'k');
    return text;
  }

  monterey::Task<> put(Partition& db, const std::string& k) {
    std::string v(below(200), 'v');
    if (below(50) == 0) v.resize(below(5'000), 'w');
    co_await db.put(k, v);
    model_[k] = v;
  }

  monterey::Task<> change(Partition& db) {
    const std::vector<Leaf> leaves = leaves_of(*disk_);
    const std::uint64_t kind = below(10);
    if (kind < 3 || leaves.size() < 4) {
      const std::uint64_t from = below(2'000);
      for (std::uint64_t i = from, end = from + below(300); i < end; ++i) co_await put(db, key(i));
    } else if (kind < 5) {
      for (std::uint64_t left = below(20); left > 0; --left) co_await put(db, key(below(2'000)));
    } else {
      // All entries of some leaves, one by one or by a range with their borders.
      const std::uint64_t first = below(leaves.size());
      const std::uint64_t last = std::min<std::uint64_t>(first + below(below(4) == 0 ? 40 : 3), leaves.size() - 1);
      const std::string from = leaves[first].lower;
      const std::optional<std::string> to = leaves[last].upper;
      auto at = model_.lower_bound(from);
      const auto end = to ? model_.lower_bound(*to) : model_.end();
      if (kind < 8) {
        co_await db.erase_range(from, to);
        model_.erase(at, end);
      } else {
        while (at != end) {
          co_await db.erase(at->first);
          at = model_.erase(at);
        }
      }
      if (below(4) == 0) co_await put(db, key(below(2'000)));
    }
  }

  void compare() {
    std::map<std::pair<std::uint32_t, std::uint64_t>, Leaf> now;
    const std::vector<Leaf> leaves = leaves_of(*disk_);
    for (const Leaf& leaf : leaves) {
      const std::pair name(leaf.pointer.page.value, leaf.pointer.birth.value);
      const auto before = seen_.find(name);
      if (before != seen_.end() && leaf.upper) {
        EXPECT_TRUE(leaf.lower == before->second.lower && leaf.upper == before->second.upper)
            << fmt::format("seed {}, round {}: page {} had [{}, {}), has [{}, {})", seed_, round_, name.first,
                           before->second.lower.substr(0, 12), before->second.upper.value_or("").substr(0, 12),
                           leaf.lower.substr(0, 12), leaf.upper->substr(0, 12));
      }
      now.emplace(name, leaf);
    }
    seen_ = std::move(now);
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
  std::shared_ptr<MemDisk> disk_ = std::make_shared<MemDisk>();
  std::size_t key_bytes_ = 12;
  int round_ = 0;
  Model model_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, Leaf> seen_;  // of the state before
};

TEST(LeafRanges, StayWhereALeafIsNotWrittenAnew) {
  const std::optional<std::uint64_t> asked_for = test::requested_seed();
  const std::uint64_t first = asked_for.value_or(1);
  const std::uint64_t last = asked_for.value_or(kSeeds);
  for (std::uint64_t seed = first; seed <= last && !testing::Test::HasFailure(); ++seed) {
    on_core(16u << 20, [seed]() -> monterey::Task<> {
      Rounds rounds(seed);
      co_await rounds.run();
    });
  }
}

}  // namespace
}  // namespace store
