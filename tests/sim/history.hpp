// What was asked of a store and what it answered, in the order in which it happened, and the judgement of it.
//
// Every begin and end of an operation is an event with a number. A precedes B when A ended before B began; all else was
// concurrent. Values name the operation that wrote them, so that whatever is found tells where it came from. The rules:
//
//  * A view (a scan; what a crash left) must be what some order of operations leaves behind that keeps "precedes": of a
//    prefix of them which has everything that had to be in it, applies each batch whole, and whatever precedes something
//    in it. check_view() finds such an order or says why there is none.
//  * A read of one key must have a place among the writes of the key: check_reads().
//  * What failed with a promise that nothing was applied is seen by nobody; what failed otherwise may have happened at
//    any time since, or never.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace store::test {

// Names a value: the `part`th change of operation `op`. op 0 is no value.
struct ValueId {
  std::uint32_t op = 0;
  std::uint32_t part = 0;
  std::uint32_t bytes = 0;

  bool present() const { return op != 0; }
  bool operator==(const ValueId&) const = default;
};

inline constexpr std::uint32_t kMinValueBytes = 8;
std::string make_value(ValueId id);
// The name of a value, if every byte of it is as make_value() makes it.
std::optional<ValueId> parse_value(std::string_view value);

// The keys of a run, by index: of many lengths, some with long common prefixes. The index order is not the key order.
class KeySpace {
 public:
  explicit KeySpace(std::uint32_t count);
  std::uint32_t count() const { return static_cast<std::uint32_t>(texts_.size()); }
  const std::string& text(std::uint32_t key) const { return texts_[key]; }
  std::optional<std::uint32_t> index(std::string_view text) const;
  // The indexes in the order of their texts.
  const std::vector<std::uint32_t>& in_order() const { return in_order_; }

 private:
  std::vector<std::string> texts_;
  std::vector<std::uint32_t> in_order_;
  std::unordered_map<std::string, std::uint32_t> index_;
};

using State = std::vector<ValueId>;  // by key

struct Seen {
  std::uint32_t key;
  ValueId value;  // not present: the key was absent
};

class History {
 public:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  enum class Kind : std::uint8_t { write, flush };
  enum class Outcome : std::uint8_t { pending, applied, nothing, unknown };

  struct Change {
    std::uint32_t key;
    ValueId value;  // not present: erased
  };
  struct Op {
    Kind kind;
    Outcome outcome = Outcome::pending;
    std::uint64_t begun = 0;
    std::uint64_t ended = kNever;  // of what was applied
    std::chrono::nanoseconds ended_at{0};
    std::vector<Change> changes;  // at most one a key
  };

  // `first_op` is greater than every op that a value of `base` names.
  History(const KeySpace& keys, std::uint32_t first_op)
      : keys_(keys), base_(keys.count()), first_op_(first_op), by_key_(keys.count()) {}

  void set_base(State base) { base_ = std::move(base); }
  const State& base() const { return base_; }
  std::uint64_t now() const { return event_; }
  std::uint64_t tick() { return ++event_; }

  std::uint32_t next_op() const { return first_op_ + static_cast<std::uint32_t>(ops_.size()); }
  std::uint32_t begin(Kind kind, std::vector<Change> changes = {});
  void end(std::uint32_t op, Outcome outcome, std::chrono::nanoseconds at);
  const std::vector<Op>& ops() const { return ops_; }

  void add_read(Seen seen, std::uint64_t begun, std::uint64_t ended) { reads_.push_back({seen, begun, ended}); }
  // A successful conditional write: `op` replaced `seen`, and nobody else can have.
  void add_replaced(Seen seen, std::uint32_t op);
  void add_scan(std::vector<Seen> seen, std::uint64_t begun, std::uint64_t opened) {
    scans_.push_back({std::move(seen), begun, opened});
  }

  // Of a view taken at event `now`, when whatever had ended before event `must_before` had to be in it. Returns what is
  // wrong, or an empty text.
  std::string check_view(std::span<const Seen> seen, std::uint64_t must_before, std::uint64_t now) const;
  std::string check_reads() const;
  std::string check_scans() const;

  std::string shown(Seen seen) const;

 private:
  struct Read {
    Seen seen;
    std::uint64_t begun;
    std::uint64_t ended;
  };
  struct ScanRecord {
    std::vector<Seen> seen;
    std::uint64_t begun;
    std::uint64_t opened;
  };
  class ViewCheck;

  // The index in ops_ of what wrote the value; -1: it was there before. Nothing if no such write exists.
  std::optional<int> writer_of(Seen seen) const;
  std::string check_reads_of(std::uint32_t key, std::span<const Read> reads) const;

  const KeySpace& keys_;
  State base_;
  std::uint32_t first_op_;
  std::uint64_t event_ = 0;
  std::vector<Op> ops_;
  std::vector<std::vector<std::pair<int, int>>>
      by_key_;  // which operations change a key, and by which of their changes
  std::vector<Read> reads_;
  std::vector<ScanRecord> scans_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> replaced_;
  std::string replaced_twice_;
};

}  // namespace store::test
