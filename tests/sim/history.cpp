#include "sim/history.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "support/sim_random.hpp"

namespace store::test {

std::string make_value(ValueId id) {
  std::string value(id.bytes, '\0');
  std::uint64_t word = std::uint64_t{id.op} | std::uint64_t{id.part} << 32;
  for (std::size_t at = 0; at < value.size(); at += sizeof word) {
    std::memcpy(value.data() + at, &word, std::min(sizeof word, value.size() - at));
    word = mix(word);
  }
  return value;
}

std::optional<ValueId> parse_value(std::string_view value) {
  if (value.size() < kMinValueBytes) return std::nullopt;
  std::uint64_t word = 0;
  std::memcpy(&word, value.data(), sizeof word);
  const ValueId id{static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32),
                   static_cast<std::uint32_t>(value.size())};
  const std::size_t whole = value.size() - value.size() % sizeof word;
  for (std::size_t at = 0; at < whole; at += sizeof word) {
    std::uint64_t found = 0;
    std::memcpy(&found, value.data() + at, sizeof found);
    if (found != word) return std::nullopt;
    word = mix(word);
  }
  if (std::memcmp(value.data() + whole, &word, value.size() - whole) != 0) return std::nullopt;
  return id;
}

KeySpace::KeySpace(std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string text = fmt::format("{:08x}", static_cast<std::uint32_t>(mix(i)));
    text.resize(3 + i % 6);
    text += fmt::format("{}", i);
    if (i % 13 == 5) text.insert(0, 100 + i % 50, 'p');
    if (i % 29 == 7) text.append(700 + i % 300, static_cast<char>('a' + i % 26));
    if (i % 7 == 3) text.push_back('\0');
    index_.emplace(text, i);
    texts_.push_back(std::move(text));
    in_order_.push_back(i);
  }
  std::ranges::sort(in_order_, {}, [this](std::uint32_t key) { return std::string_view(texts_[key]); });
}

std::optional<std::uint32_t> KeySpace::index(std::string_view text) const {
  const auto at = index_.find(std::string(text));
  if (at == index_.end()) return std::nullopt;
  return at->second;
}

std::uint32_t History::begin(Kind kind, std::vector<Change> changes) {
  const std::uint32_t op = next_op();
  const auto index = static_cast<int>(ops_.size());
  for (std::size_t i = 0; i < changes.size(); ++i) by_key_[changes[i].key].emplace_back(index, static_cast<int>(i));
  ops_.push_back({.kind = kind, .begun = tick(), .changes = std::move(changes)});
  return op;
}

void History::end(std::uint32_t op, Outcome outcome, std::chrono::nanoseconds at) {
  Op& record = ops_[op - first_op_];
  record.outcome = outcome;
  record.ended_at = at;
  const std::uint64_t event = tick();
  if (outcome == Outcome::applied) record.ended = event;
}

void History::add_replaced(Seen seen, std::uint32_t op) {
  if (!seen.value.present()) return;
  const auto [at, is_first] =
      replaced_.emplace(std::pair(seen.key, std::uint64_t{seen.value.op} << 32 | seen.value.part), op);
  if (!is_first && replaced_twice_.empty()) {
    replaced_twice_ = fmt::format("both operation {} and operation {} replaced {}", at->second, op, shown(seen));
  }
}

std::optional<int> History::writer_of(Seen seen) const {
  if (seen.value.op < first_op_) {
    if (base_[seen.key] == seen.value) return -1;
    return std::nullopt;
  }
  const std::uint32_t index = seen.value.op - first_op_;
  if (index >= ops_.size()) return std::nullopt;
  for (const Change& change : ops_[index].changes) {
    if (change.key == seen.key && change.value == seen.value) return static_cast<int>(index);
  }
  return std::nullopt;
}

std::string History::shown(Seen seen) const {
  if (!seen.value.present()) return fmt::format("key {} absent", seen.key);
  return fmt::format("key {} with value {}.{} of {} bytes", seen.key, seen.value.op, seen.value.part, seen.value.bytes);
}

// --- one view ---

// Collects the operations that must be in the prefix, then looks for an order of them, from its end.
class History::ViewCheck {
 public:
  ViewCheck(const History& history, std::span<const Seen> seen, std::uint64_t must_before, std::uint64_t now)
      : history_(history), ops_(history.ops_), seen_(seen), must_before_(must_before), now_(now) {}

  // Which erase an absent key shows is not known: where the likely one leads to no order, others are tried.
  std::string run() {
    const std::string wrong = attempt(0);
    if (wrong.empty()) return {};
    for (std::uint64_t number = 1; number < kAttempts; ++number) {
      if (attempt(number).empty()) return {};
    }
    return wrong;
  }

 private:
  // What wrote a key last, as the view shows it: an index in ops_, or one of these.
  static constexpr int kBase = -1;
  static constexpr int kUnseen = -2;
  static constexpr int kFree = -3;    // absent, and nothing in the prefix ever put it
  static constexpr int kErased = -4;  // absent: by any erase of the prefix

  std::uint64_t ended(int op) const { return ops_[op].ended > now_ ? kNever : ops_[op].ended; }
  bool may_have_happened(const Op& op) const { return op.begun <= now_ && op.outcome != Outcome::nothing; }

  void include(int op) {
    in_[op] = 1;
    horizon_ = std::max(horizon_, ops_[op].begun);
  }
  // Whatever precedes something in the prefix is in it.
  void close() {
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      const int op = static_cast<int>(i);
      if (ended(op) < std::max(horizon_, must_before_)) include(op);
    }
  }

  static constexpr std::uint64_t kAttempts = 60;

  std::string attempt(std::uint64_t number) {
    attempt_ = number;
    in_.assign(ops_.size(), 0);
    last_.assign(history_.keys_.count(), kUnseen);
    horizon_ = 0;
    if (std::string wrong = attribute(); !wrong.empty()) return wrong;
    for (bool grown = true; grown;) {
      close();
      grown = false;
      if (std::string wrong = explain_absence(grown); !wrong.empty()) return wrong;
    }
    if (std::string wrong = find_overwritten(); !wrong.empty()) return wrong;
    return find_order();
  }

  // First what is known to have happened, and changed little else; then what began first, which brings the least with it; later
  // anything.
  std::uint64_t preference(int op) const {
    if (attempt_ > 1) return mix(mix(attempt_) + static_cast<std::uint64_t>(op));
    std::uint64_t rank = 1'000'000 - std::min<std::uint64_t>(ops_[op].begun, 999'999);
    if (attempt_ == 0) rank += (100 - std::min<std::uint64_t>(ops_[op].changes.size(), 99)) * 1'000'000;
    if (ops_[op].outcome == Outcome::applied) rank += 1'000'000'000;
    return in_[op] ? rank + 10'000'000'000 : rank;
  }

  std::string attribute() {
    for (const Seen& seen : seen_) {
      if (!seen.value.present()) {
        last_[seen.key] = kFree;
        continue;
      }
      const std::optional<int> writer = history_.writer_of(seen);
      if (!writer) return fmt::format("{} was never written", history_.shown(seen));
      last_[seen.key] = *writer;
      if (*writer == kBase) continue;
      const Op& op = ops_[*writer];
      if (op.begun > now_) return fmt::format("{} is from the future", history_.shown(seen));
      if (op.outcome == Outcome::nothing) return fmt::format("{} is of a write that failed", history_.shown(seen));
      include(*writer);
    }
    return {};
  }

  // An absent key that somebody put needs an erase that can come after it.
  std::string explain_absence(bool& grown) {
    for (const Seen& seen : seen_) {
      if (seen.value.present()) continue;
      std::uint64_t last_put = 0;  // when the last put of it in the prefix began
      bool was_put = history_.base_[seen.key].present();
      for_each_change(seen.key, [&](int op, const Change& change) {
        if (!in_[op] || !change.value.present()) return;
        was_put = true;
        last_put = std::max(last_put, ops_[op].begun);
      });
      if (!was_put) continue;
      int best = kFree;
      for_each_change(seen.key, [&](int op, const Change& change) {
        if (change.value.present() || !may_have_happened(ops_[op]) || ended(op) < last_put) return;
        if (best == kFree || preference(op) > preference(best)) best = op;
      });
      if (best == kFree) return fmt::format("{}, but it was put and never erased since", history_.shown(seen));
      last_[seen.key] = kErased;
      if (!in_[best]) {
        include(best);
        grown = true;
      }
    }
    return {};
  }

  std::string find_overwritten() const {
    for (const Seen& seen : seen_) {
      const int last = last_[seen.key];
      if (last < kBase) continue;
      const std::uint64_t written = last == kBase ? 0 : ended(last);
      std::string wrong;
      for_each_change(seen.key, [&](int op, const Change&) {
        if (!in_[op] || op == last || ops_[op].begun <= written || !wrong.empty()) return;
        wrong = fmt::format("{}, but operation {} changed it later, and {}", history_.shown(seen),
                            history_.first_op_ + static_cast<unsigned>(op),
                            ended(op) < must_before_ ? "had to be there" : "something after that is there");
      });
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

  // Whether another change of the key must come after this one.
  bool is_blocked(int op, const Change& change) const {
    const int last = last_[change.key];
    return last == kErased ? change.value.present() : last >= 0 && last != op;
  }

  std::string find_order() const {
    std::vector<int> left;  // by begin, ascending
    std::vector<int> blocked(ops_.size());
    const auto by_end = [this](int a, int b) { return ended(a) < ended(b); };
    std::vector<int> candidates;
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      const int op = static_cast<int>(i);
      if (!in_[op]) continue;
      left.push_back(op);
      for (const Change& change : ops_[op].changes) blocked[op] += is_blocked(op, change);
      if (blocked[op] == 0) candidates.push_back(op);
    }
    std::ranges::make_heap(candidates, by_end);
    std::vector<char> removed(ops_.size());
    std::vector<char> freed(last_.size());  // keys whose last change has been placed
    for (std::size_t count = left.size(); count > 0; --count) {
      while (!left.empty() && removed[left.back()]) left.pop_back();
      if (candidates.empty()) return "the batches of this view contradict each other";
      std::ranges::pop_heap(candidates, by_end);
      const int op = candidates.back();
      candidates.pop_back();
      for (auto other = left.rbegin(); other != left.rend() && ops_[*other].begun > ended(op); ++other) {
        if (removed[*other] || *other == op) continue;
        return fmt::format("operation {} must come last of what is left, but operation {} began after it had ended",
                           history_.first_op_ + static_cast<unsigned>(op),
                           history_.first_op_ + static_cast<unsigned>(*other));
      }
      removed[op] = 1;
      for (const Change& change : ops_[op].changes) {
        if (freed[change.key] || is_blocked(op, change) || last_[change.key] == kFree) continue;
        if (last_[change.key] == kUnseen) continue;
        freed[change.key] = 1;
        for_each_change(change.key, [&](int other, const Change& theirs) {
          if (!in_[other] || !is_blocked(other, theirs) || --blocked[other] > 0) return;
          candidates.push_back(other);
          std::ranges::push_heap(candidates, by_end);
        });
      }
    }
    return {};
  }

  template <class Fn>
  void for_each_change(std::uint32_t key, Fn fn) const {
    for (const auto& [op, part] : history_.by_key_[key]) fn(op, ops_[op].changes[part]);
  }

  const History& history_;
  const std::vector<Op>& ops_;
  std::span<const Seen> seen_;
  const std::uint64_t must_before_;
  const std::uint64_t now_;
  std::vector<char> in_;
  std::vector<int> last_;
  std::uint64_t horizon_ = 0;
  std::uint64_t attempt_ = 0;
};

std::string History::check_view(std::span<const Seen> seen, std::uint64_t must_before, std::uint64_t now) const {
  return ViewCheck(*this, seen, must_before, now).run();
}

std::string History::check_scans() const {
  for (const ScanRecord& scan : scans_) {
    if (std::string wrong = check_view(scan.seen, scan.begun, scan.opened); !wrong.empty()) {
      return fmt::format("a scan from event {}: {}", scan.begun, wrong);
    }
  }
  return {};
}

// --- reads of one key ---

std::string History::check_reads() const {
  if (!replaced_twice_.empty()) return replaced_twice_;
  std::vector<std::vector<Read>> by_key(keys_.count());
  for (const Read& read : reads_) by_key[read.seen.key].push_back(read);
  for (std::uint32_t key = 0; key < keys_.count(); ++key) {
    if (std::string wrong = check_reads_of(key, by_key[key]); !wrong.empty()) return wrong;
  }
  return {};
}

// Gibbons and Korach, "Testing Shared Memories": a value is certainly the current one from the first moment that a write or
// read of it has ended to the last moment that a read of it begins (a forward zone); where no such stretch exists, its
// operations all overlap (a backward zone). Forward zones must not overlap, nor contain a backward one.
std::string History::check_reads_of(std::uint32_t key, std::span<const Read> reads) const {
  struct Zone {
    std::uint64_t low = kNever;  // the first end
    std::uint64_t high = 0;      // the last begin
    Seen seen;
  };
  std::map<int, Zone> zones;  // by writer
  const auto zone_of = [&](int writer, Seen seen) -> Zone& {
    const auto [at, is_new] = zones.try_emplace(writer);
    Zone& zone = at->second;
    if (is_new) {
      zone.seen = seen;
      zone.low = writer < 0 ? 0 : ops_[writer].ended;
      zone.high = writer < 0 ? 0 : ops_[writer].begun;
    }
    return zone;
  };
  zone_of(-1, {key, base_[key]});
  for (const auto& [op, part] : by_key_[key]) {
    if (ops_[op].outcome == Outcome::applied) zone_of(op, {key, ops_[op].changes[part].value});
  }
  for (const Read& read : reads) {
    if (!read.seen.value.present()) continue;
    const std::optional<int> writer = writer_of(read.seen);
    if (!writer) return fmt::format("a read found {}, which was never written", shown(read.seen));
    if (*writer >= 0 && ops_[*writer].outcome == Outcome::nothing) {
      return fmt::format("a read found {}, of a write that failed", shown(read.seen));
    }
    if (*writer >= 0 && ops_[*writer].begun > read.ended) {
      return fmt::format("a read found {} before it was written", shown(read.seen));
    }
    Zone& zone = zone_of(*writer, read.seen);
    zone.low = std::min(zone.low, read.ended);
    zone.high = std::max(zone.high, read.begun);
  }
  for (const auto& [a, first] : zones) {
    if (first.low >= first.high) continue;
    for (const auto& [b, second] : zones) {
      if (a == b) continue;
      const bool is_forward = second.low < second.high;
      const bool clash = is_forward ? second.low < first.high && first.low < second.high
                                    : first.low < second.high && second.low < first.high;
      if (clash) {
        return fmt::format("reads found {} from event {} to {}, and {} in between", shown(first.seen), first.low,
                           first.high, shown(second.seen));
      }
    }
  }
  // A read of nothing may be of any erase; it needs one that no put has certainly replaced before it began.
  for (const Read& read : reads) {
    if (read.seen.value.present()) continue;
    std::uint64_t newest_put = 0;  // when the last put that had ended before the read began
    for (const auto& [writer, zone] : zones) {
      if (zone.seen.value.present() && zone.low < read.begun) {
        newest_put = std::max(newest_put, writer < 0 ? 0 : ops_[writer].begun);
      }
    }
    bool explained = !base_[key].present() && newest_put == 0;
    for (const auto& [writer, part] : by_key_[key]) {
      const Op& op = ops_[writer];
      if (op.changes[part].value.present() || op.outcome == Outcome::nothing) continue;
      explained |= op.begun < read.ended && op.ended >= newest_put;
    }
    if (!explained)
      return fmt::format("a read at event {} found {}, but it was put before", read.ended, shown(read.seen));
  }
  return {};
}

}  // namespace store::test
