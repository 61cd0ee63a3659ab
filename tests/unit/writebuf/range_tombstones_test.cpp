// Erased ranges against a list of all that were ever added: for every key, every reader that may still read and every cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "store/writebuf/range_tombstones.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

struct Range {
  std::string_view from;
  std::optional<std::string_view> to;
  SeqNo seq;

  bool covers(std::string_view key) const { return from <= key && (!to || key < *to); }
};

class RangesHistory {
 public:
  explicit RangesHistory(std::uint64_t seed) : random_(seed) {
    // Every bound, and a key before, at and behind each.
    for (char c = 'a'; c < 'a' + 12; ++c) {
      bounds_.push_back(std::string(1, c));
      keys_.push_back(bounds_.back());
      keys_.push_back(bounds_.back() + "m");
    }
    bounds_.emplace_back("");
    keys_.emplace_back("A");
    readers_of_ten_ = below(10);
  }

  void run() {
    for (int i = 0; i < 100 && ranges_.count() < RangeTombstones::kMax; ++i) {
      last_ = SeqNo(last_.value + 1 + below(3));
      if (below(10) < readers_of_ten_) readers_.push_back(last_);
      if (readers_.size() > 5 || (below(4) == 0 && !readers_.empty())) readers_.erase(readers_.begin());
      add();
      ASSERT_NO_FATAL_FAILURE(compare());
    }
  }

 private:
  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  void add() {
    std::string_view from = bounds_[below(bounds_.size())];
    std::optional<std::string_view> to;
    if (below(6) != 0) to = bounds_[below(bounds_.size())];
    if (to && *to < from) std::swap(from, *to);
    if (to && *to == from) return;
    last_ = last_.next();
    ranges_.add(from, to, last_, readers_.empty() ? SeqNo{} : readers_.back());
    all_.push_back({from, to, last_});
  }

  // Those at which somebody may read: the live readers, and everything from now on.
  std::vector<SeqNo> points() const {
    std::vector<SeqNo> points{SeqNo{}};
    points.insert(points.end(), readers_.begin(), readers_.end());
    points.push_back(last_);
    points.push_back(kMaxSeqNo);
    return points;
  }

  bool is_erased(std::string_view key, SeqNo at, SeqNo after) const {
    return std::ranges::any_of(all_, [&](const Range& r) { return r.seq > after && r.seq <= at && r.covers(key); });
  }

  void compare() {
    const std::vector<SeqNo> cuts = points();
    for (std::size_t i = 0; i < cuts.size(); ++i) {
      for (const std::string& key : keys_) {
        SeqNo newest{};
        for (const Range& r : all_) {
          if (r.seq <= cuts[i] && r.covers(key)) newest = r.seq;
        }
        ASSERT_EQ(ranges_.newest_over(key, cuts[i]), newest) << key << " at " << cuts[i].value;
        ASSERT_NO_FATAL_FAILURE(compare_stretch(key, cuts[i], i > 0 ? cuts[i - 1] : SeqNo{}));
        ASSERT_NO_FATAL_FAILURE(compare_stretch(key, cuts[i], SeqNo{}));
      }
    }
  }

  void compare_stretch(std::string_view key, SeqNo at, SeqNo after) {
    const auto stretch = ranges_.next_stretch(key, at, after);
    const bool covered = stretch && stretch->from <= key;
    ASSERT_EQ(covered, is_erased(key, at, after)) << key << " at " << at.value << " after " << after.value;
    ASSERT_TRUE(!stretch || !stretch->to || *stretch->to > key);
    // keys_ has one in every piece that a bound can cut off, in no order.
    for (const std::string& other : keys_) {
      const bool inside = stretch && stretch->from <= other && (!stretch->to || other < *stretch->to);
      const bool between = other >= key && (!stretch || other < stretch->from);
      if (!inside && !between) continue;
      ASSERT_EQ(is_erased(other, at, after), inside) << other << ", the stretch from " << key;
    }
    if (!stretch || !stretch->to) return;
    ASSERT_FALSE(is_erased(*stretch->to, at, after)) << "the stretch could be longer";
  }

  std::mt19937_64 random_;
  std::deque<std::string> bounds_;
  std::vector<std::string> keys_;
  std::size_t readers_of_ten_;
  std::vector<SeqNo> readers_;  // ascending
  SeqNo last_;
  RangeTombstones ranges_;
  std::vector<Range> all_;
};

TEST(RangeTombstones, AgreeWithTheListOfAllRanges) {
  const auto asked = test::requested_seed();
  const std::uint64_t first = asked.value_or(1);
  const std::uint64_t last = asked ? first : first + 29;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    RangesHistory history(seed);
    history.run();
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(RangeTombstones, AGrowingHeadTakesOne) {
  RangeTombstones ranges;
  std::vector<std::string> bounds;
  for (int i = 0; i < 1000; ++i) bounds.push_back("queue:" + std::to_string(1'000'000 + i));
  for (std::size_t i = 1; i < bounds.size(); ++i) ranges.add("queue:", bounds[i], SeqNo{i}, SeqNo{});
  EXPECT_EQ(ranges.count(), 1u);
  EXPECT_EQ(ranges.newest_over("queue:1000500", kMaxSeqNo), SeqNo{999});
  EXPECT_EQ(ranges.newest_over("queue:1000999", kMaxSeqNo), SeqNo{});
}

TEST(RangeTombstones, HoldAsManyAsTheyMay) {
  RangeTombstones ranges;
  std::vector<std::string> bounds;
  for (std::size_t i = 0; i < 2 * RangeTombstones::kMax; ++i) bounds.push_back(std::to_string(1000 + i));
  for (std::size_t i = 0; i < RangeTombstones::kMax; ++i) {
    ranges.add(bounds[2 * i], bounds[2 * i + 1], SeqNo{i + 1}, SeqNo{});
  }
  EXPECT_EQ(ranges.count(), RangeTombstones::kMax);
  for (std::size_t i = 0; i < RangeTombstones::kMax; ++i) {
    EXPECT_EQ(ranges.newest_over(bounds[2 * i], kMaxSeqNo), SeqNo{i + 1});
    EXPECT_EQ(ranges.newest_over(bounds[2 * i + 1], kMaxSeqNo), SeqNo{});
  }
}

}  // namespace
}  // namespace store
