// Random histories of a write buffer against a map of versions: what is found by key and in order, now, at every live
// snapshot and by iterators that live while more is written; and that a refusal changes nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "store/base/units.hpp"
#include "store/writebuf/write_buffer.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

struct ModelVersion {
  EntryKind kind;
  std::string value;
  OverflowRef run;
  SeqNo seq;
};

// Every version ever written, oldest first.
using Model = std::map<std::string, std::vector<ModelVersion>, std::less<>>;

// A range that was erased.
struct ModelRange {
  std::string from;
  std::optional<std::string> to;
  SeqNo seq;

  bool covers(std::string_view key) const { return from <= key && (!to || key < *to); }
};

struct Expected {
  std::string_view key;
  ModelVersion version;
  bool by_range = false;
};

const ModelVersion* newest(const std::vector<ModelVersion>& versions, SeqNo at) {
  for (auto v = versions.rbegin(); v != versions.rend(); ++v) {
    if (v->seq <= at) return &*v;
  }
  return nullptr;
}

void expect_same(const EntryView& entry, const Expected& expected) {
  ASSERT_EQ(entry.key, expected.key);
  ASSERT_EQ(entry.seq, expected.version.seq);
  ASSERT_EQ(entry.kind, expected.version.kind);
  ASSERT_EQ(entry.by_range, expected.by_range);
  ASSERT_EQ(entry.value, expected.version.value);
  if (entry.kind == EntryKind::run) {
    ASSERT_EQ(entry.run, expected.version.run);
  }
}

class History {
 public:
  explicit History(std::uint64_t seed) : random_(seed) {
    static constexpr std::size_t kArenas[] = {4096, 5000, 64 << 10, 1 << 20, 32 << 20};
    buffer_ = WriteBuffer::create({.arena_bytes = kArenas[below(std::size(kArenas))]});
    longest_value_ = below(4) == 0 ? kMaxBufferedValueBytes : below(200);
    longest_key_ = below(4) == 0 ? kMaxKeyBytes : 1 + below(40);
    common_ = below(3) == 0 ? random_bytes(below(30)) : "";
    new_keys_of_ten_ = below(11);
    ranges_of_hundred_ = below(3) == 0 ? 0 : below(15);
    if (below(2) == 0) last_ = SeqNo{~std::uint64_t{0} - 1'000'000};
  }

  void run(std::size_t operations) {
    for (std::size_t i = 0; i < operations && !full_; ++i) {
      const std::size_t what = below(100);
      if (what < ranges_of_hundred_) {
        ASSERT_NO_FATAL_FAILURE(erase_range());
      } else if (what < 70) {
        ASSERT_NO_FATAL_FAILURE(write());
      } else if (what < 80) {
        ASSERT_NO_FATAL_FAILURE(look_up());
      } else if (what < 95) {
        ASSERT_NO_FATAL_FAILURE(use_iterator());
      } else {
        toggle_snapshot();
      }
    }
    if (below(2) == 0) buffer_->freeze();
    ASSERT_NO_FATAL_FAILURE(compare_all());
  }

  void start_anew() {
    watched_.clear();
    snapshots_.clear();
    buffer_->reset();
    model_.clear();
    ranges_.clear();
    full_ = false;
    if (below(2) == 0) known_keys_.clear();
  }

 private:
  // An iterator and copies of what it must show.
  struct Watched {
    Watched(WriteBuffer::Iterator iterator, SeqNo cut) : it(std::move(iterator)), at(cut) {}
    WriteBuffer::Iterator it;
    SeqNo at;
    std::vector<std::pair<std::string, Expected>> expected;
    std::ptrdiff_t position = -1;  // -1 or size(): not valid
  };

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  std::string random_bytes(std::size_t n) {
    static constexpr char kAlphabet[] = {'\0', '\1', 'a', 'b', '\x7F', '\x80', '\xFF'};
    std::string bytes(n, '\0');
    for (char& c : bytes) c = kAlphabet[below(std::size(kAlphabet))];
    return bytes;
  }

  std::string some_key() {
    if (!known_keys_.empty() && below(10) >= new_keys_of_ten_) {
      std::string key = known_keys_[below(known_keys_.size())];
      switch (below(4)) {
        case 0: key.resize(1 + below(key.size())); break;  // a prefix of a key
        case 1:
          if (key.size() < kMaxKeyBytes) key.push_back('\0');
          break;  // a key and a zero byte
        default: break;
      }
      return key;
    }
    std::string key = common_ + random_bytes(1 + below(longest_key_));
    key.resize(std::min(key.size(), kMaxKeyBytes));
    return key;
  }

  SeqNo newest_snapshot() const { return snapshots_.empty() ? SeqNo{} : *snapshots_.rbegin(); }

  void write() {
    const std::string key = some_key();
    ModelVersion version{.kind = EntryKind::put, .value = {}, .run = {}, .seq = last_.next()};
    bool stored = false;
    const std::size_t used = buffer_->bytes_used();
    const std::size_t entries = buffer_->entries();
    const bool must_fit = buffer_->fits(1, key.size() + std::max(longest_value_, WriteBuffer::kRunValueBytes));
    switch (below(10)) {
      case 0:
        version.kind = EntryKind::erase;
        stored = buffer_->erase(key, version.seq, newest_snapshot());
        break;
      case 1:
        version.kind = EntryKind::run;
        version.run = {.first = PageNo{static_cast<std::uint32_t>(below(1000))}, .length = below(1 << 30), .crc = 1};
        stored = buffer_->put_run(key, version.run, version.seq, newest_snapshot());
        break;
      default:
        version.value = random_bytes(std::min<std::size_t>(below(longest_value_ + 1), 64));
        version.value.resize(below(longest_value_ + 1), 'v');
        stored = buffer_->put(key, version.value, version.seq, newest_snapshot());
        break;
    }
    if (!stored) {
      ASSERT_FALSE(must_fit);
      ASSERT_EQ(buffer_->bytes_used(), used);
      ASSERT_EQ(buffer_->entries(), entries);
      ASSERT_EQ(buffer_->last_seq(), buffer_->empty() ? SeqNo{} : last_);
      full_ = below(20) == 0;
      return;
    }
    last_ = version.seq;
    ASSERT_EQ(buffer_->last_seq(), last_);
    auto& versions = model_[key];
    if (versions.empty()) known_keys_.push_back(key);
    versions.push_back(std::move(version));
  }

  void erase_range() {
    ModelRange range{below(8) == 0 ? std::string() : some_key(), std::nullopt, last_.next()};
    if (below(8) != 0) range.to = some_key();
    if (range.to && *range.to < range.from) std::swap(range.from, *range.to);
    if (range.to && *range.to == range.from) return;
    const std::size_t bytes = range.from.size() + range.to.value_or("").size();
    const bool must_fit = buffer_->fits(1, bytes, 1);
    const std::size_t entries = buffer_->entries();
    std::optional<std::string_view> to;
    if (range.to) to = *range.to;
    if (!buffer_->erase_range(range.from, to, range.seq, newest_snapshot())) {
      ASSERT_FALSE(must_fit);
      ASSERT_EQ(buffer_->entries(), entries);
      full_ = below(20) == 0;
      return;
    }
    ASSERT_EQ(buffer_->entries(), entries + 1);
    last_ = range.seq;
    ranges_.push_back(std::move(range));
  }

  // What the newest of all that ever happened to a key says; nothing if nothing did.
  std::optional<Expected> expected_of(std::string_view key, SeqNo at) const {
    const auto known = model_.find(key);
    const ModelVersion* version = known == model_.end() ? nullptr : newest(known->second, at);
    SeqNo erased;
    for (const ModelRange& range : ranges_) {
      if (range.seq <= at && range.covers(key)) erased = range.seq;
    }
    if (version != nullptr && version->seq > erased) return Expected{key, *version};
    if (erased == SeqNo{}) return std::nullopt;
    return Expected{key, {EntryKind::erase, {}, {}, erased}, true};
  }

  void look_up() {
    const std::string key = some_key();
    const SeqNo at = snapshots_.empty() || below(2) == 0
                         ? kMaxSeqNo
                         : *std::next(snapshots_.begin(), static_cast<std::ptrdiff_t>(below(snapshots_.size())));
    ASSERT_NO_FATAL_FAILURE(compare_key(key, at));
  }

  void compare_key(const std::string& key, SeqNo at) {
    const std::optional<Expected> expected = expected_of(key, at);
    const auto found = buffer_->find(key, at);
    ASSERT_EQ(found.has_value(), expected.has_value());
    if (found) {
      ASSERT_NO_FATAL_FAILURE(expect_same(*found, *expected));
    }
  }

  void toggle_snapshot() {
    if (!snapshots_.empty() && below(2) == 0) {
      snapshots_.erase(std::next(snapshots_.begin(), static_cast<std::ptrdiff_t>(below(snapshots_.size()))));
    } else if (!buffer_->empty()) {
      snapshots_.insert(last_);
    }
  }

  void use_iterator() {
    if (watched_.size() < 3 && below(4) == 0) {
      watched_.emplace_back(buffer_->iterate(), last_);
      for (const auto& [key, versions] : model_) {
        watched_.back().expected.emplace_back(key, *expected_of(key, last_));
      }
      return;
    }
    if (watched_.empty()) return;
    const std::size_t which = below(watched_.size());
    Watched& w = watched_[which];
    const auto size = static_cast<std::ptrdiff_t>(w.expected.size());
    const bool valid = w.position >= 0 && w.position < size;
    const auto lower = [&](const std::string& key) {
      return std::lower_bound(w.expected.begin(), w.expected.end(), key,
                              [](const auto& pair, const std::string& k) { return pair.first < k; }) -
             w.expected.begin();
    };
    const std::string key = some_key();
    switch (below(valid ? 12 : 4)) {
      case 0:
        w.it.seek(key);
        w.position = lower(key);
        break;
      case 1:
        w.it.seek_last_before(key);
        w.position = lower(key) - 1;
        break;
      case 2:
        w.it.seek("");
        w.position = 0;
        break;
      case 3:
        w.it.seek_last_before(std::nullopt);
        w.position = size - 1;
        break;
      case 4:
      case 5:
      case 6:
      case 7:
        w.it.next();
        ++w.position;
        break;
      case 8:
      case 9:
      case 10:
        w.it.prev();
        --w.position;
        break;
      default: watched_.erase(watched_.begin() + static_cast<std::ptrdiff_t>(which)); return;
    }
    const bool now_valid = w.position >= 0 && w.position < size;
    ASSERT_EQ(w.it.valid(), now_valid);
    if (!now_valid) return;
    ASSERT_NO_FATAL_FAILURE(expect_same(w.it.entry(), w.expected[static_cast<std::size_t>(w.position)].second));
  }

  void compare_all() {
    ASSERT_EQ(buffer_->keys(), model_.size());
    if (!model_.empty()) {
      ASSERT_EQ(buffer_->min_key(), model_.begin()->first);
      ASSERT_EQ(buffer_->max_key(), model_.rbegin()->first);
    }
    for (const auto& [key, versions] : model_) ASSERT_NO_FATAL_FAILURE(compare_key(key, kMaxSeqNo));
    // The cuts that a flush makes: up to each live snapshot, then the rest.
    SeqNo after{};
    std::vector<SeqNo> cuts(snapshots_.begin(), snapshots_.end());
    cuts.push_back(kMaxSeqNo);
    for (const SeqNo at : cuts) {
      ASSERT_NO_FATAL_FAILURE(compare_cut(at, after));
      ASSERT_NO_FATAL_FAILURE(compare_cut(at, SeqNo{}));
      after = at;
    }
  }

  void compare_cut(SeqNo at, SeqNo after) {
    std::vector<Expected> expected;
    for (const auto& [key, versions] : model_) {
      const ModelVersion* version = newest(versions, at);
      if (version != nullptr && version->seq > after) expected.push_back(*expected_of(key, at));
    }
    auto it = buffer_->iterate(at, after);
    it.seek("");
    for (const Expected& e : expected) {
      ASSERT_TRUE(it.valid());
      ASSERT_NO_FATAL_FAILURE(expect_same(it.entry(), e));
      it.next();
    }
    ASSERT_FALSE(it.valid());
    it.seek_last_before(std::nullopt);
    for (auto e = expected.rbegin(); e != expected.rend(); ++e) {
      ASSERT_TRUE(it.valid());
      ASSERT_NO_FATAL_FAILURE(expect_same(it.entry(), *e));
      it.prev();
    }
    ASSERT_FALSE(it.valid());
  }

  std::mt19937_64 random_;
  std::shared_ptr<WriteBuffer> buffer_;
  std::size_t longest_value_;
  std::size_t longest_key_;
  std::string common_;
  std::size_t new_keys_of_ten_;
  std::size_t ranges_of_hundred_;
  SeqNo last_;
  bool full_ = false;
  Model model_;
  std::vector<ModelRange> ranges_;
  std::vector<std::string> known_keys_;
  std::set<SeqNo> snapshots_;
  std::vector<Watched> watched_;
};

TEST(WriteBufferModel, AgreesWithAMapOfVersions) {
  const auto asked = test::requested_seed();
  const std::uint64_t first = asked.value_or(1);
  const std::uint64_t last = asked ? first : first + 99;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    History history(seed);
    history.run(seed % 10 == 0 ? 5000 : 800);
    if (HasFatalFailure()) return;
    history.start_anew();
    history.run(600);
    if (HasFatalFailure()) return;
  }
}

// Enough keys for several runs of the greatest length, in orders that merging treats differently.
TEST(WriteBufferModel, OrdersManyKeys) {
  constexpr std::size_t kKeys = 80'000;
  enum class Order { random, ascending, descending, two_prefixes };
  for (const Order order : {Order::random, Order::ascending, Order::descending, Order::two_prefixes}) {
    SCOPED_TRACE(static_cast<int>(order));
    const auto buffer = WriteBuffer::create({.arena_bytes = std::size_t{16} << 20});
    std::vector<std::string> keys(kKeys);
    for (std::size_t i = 0; i < kKeys; ++i) {
      const std::size_t mixed = i * 0x9E3779B97F4A7C15u >> 20;
      switch (order) {
        case Order::random: keys[i] = std::to_string(mixed); break;
        case Order::ascending: keys[i] = "user:" + std::to_string(1'000'000 + i); break;
        case Order::descending: keys[i] = "user:" + std::to_string(9'000'000 - i); break;
        case Order::two_prefixes:
          keys[i] = (mixed % 2 ? "a long common prefix/" : "a long common prelude/") + std::to_string(mixed);
          break;
      }
      ASSERT_TRUE(buffer->put(keys[i], {}, SeqNo{i + 1}));
    }
    std::sort(keys.begin(), keys.end());
    auto it = buffer->iterate();
    std::size_t at = 0;
    for (it.seek(""); it.valid(); it.next(), ++at) {
      if (it.entry().key != keys[at]) FAIL() << "key " << at << " is " << it.entry().key << ", not " << keys[at];
    }
    ASSERT_EQ(at, kKeys);
    for (std::size_t i = 0; i < kKeys; i += 997) {
      it.seek(keys[i]);
      ASSERT_TRUE(it.valid());
      ASSERT_EQ(it.entry().key, keys[i]);
      ASSERT_TRUE(buffer->find(keys[i]));
    }
  }
}

}  // namespace
}  // namespace store
