// How the judgement goes. (1) A key that holds a value names the operation that wrote it: that one survived, and every later
// operation on the key is lost, since it would have overwritten the value. (2) A key that holds nothing leaves a choice: it never
// held anything, or one of the erasures was the last; a choice is possible while it loses nothing that must have survived. (3)
// One moment T must suit the survivors, the lost, and a choice for every empty key.
//
// It errs on the side of the store where operations ran side by side: what could be right passes.
#include "crash/history.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

namespace store::crash {

namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
constexpr std::size_t kMaxFindings = 20;

// The moments at which the history may have been cut, both ends included.
struct Span {
  std::uint64_t from = 0;
  std::uint64_t to = kNever;
};

class Judge {
 public:
  Judge(const History& history, const std::vector<Held>& found)
      : history_(history), found_(found), fates_(history.operations.size()), by_key_(history.before.size()) {
    for (std::size_t i = 0; i < history.operations.size(); ++i) {
      const Operation& operation = history.operations[i];
      for (const Change& change : operation.changes) by_key_[change.key].push_back({i, change.bytes});
      if (operation.durable) survived_from(i);
    }
  }

  std::vector<std::string> run() {
    for (std::uint32_t key = 0; key < found_.size(); ++key) {
      if (found_[key].operation != 0) key_with_value(key);
    }
    for (std::uint32_t key = 0; key < found_.size(); ++key) {
      if (found_[key].operation == 0 && !by_key_[key].empty()) key_without_value(key);
      if (found_[key].operation == 0 && by_key_[key].empty() && history_.before[key].operation != 0) {
        find(fmt::format("key {}: its value is gone, and nothing was done to it", key));
      }
    }
    contradictions();
    if (findings_.empty()) order();
    return std::move(findings_);
  }

 private:
  struct Fate {
    std::optional<std::uint32_t> survived;  // the key that tells
    std::optional<std::uint32_t> lost;
  };
  struct Step {
    std::size_t operation;  // index
    std::uint64_t bytes;
  };

  const Operation& of(const Step& step) const { return history_.operations[step.operation]; }

  // Whether `b` is after `a` in every order.
  static bool follows(const Operation& b, const Operation& a) { return a.completed != 0 && b.began > a.completed; }

  void find(std::string what) {
    if (findings_.size() < kMaxFindings) findings_.push_back(std::move(what));
  }

  void survived_from(std::size_t i) {
    if (history_.operations[i].began > bounds_.from) {
      bounds_.from = history_.operations[i].began;
      last_survivor_ = history_.operations[i].number;
    }
  }

  void survive(std::size_t i, std::uint32_t key) {
    fates_[i].survived = key;
    survived_from(i);
  }

  void lose(std::size_t i, std::uint32_t key) {
    fates_[i].lost = key;
    const Operation& operation = history_.operations[i];
    if (operation.completed != 0 && operation.completed < bounds_.to) {
      bounds_.to = operation.completed;
      first_lost_ = operation.number;
    }
  }

  void key_with_value(std::uint32_t key) {
    const Held& held = found_[key];
    const std::vector<Step>& steps = by_key_[key];
    if (held == history_.before[key]) {
      for (const Step& step : steps) lose(step.operation, key);
      return;
    }
    const auto writer = std::ranges::find_if(
        steps, [&](const Step& step) { return of(step).number == held.operation && step.bytes == held.bytes; });
    if (writer == steps.end()) {
      find(fmt::format("key {}: holds {} bytes of operation {}, which {}", key, held.bytes, held.operation,
                       history_.operations.empty() || held.operation < history_.operations.front().number
                           ? "was overwritten before the last verification"
                           : "never wrote that"));
      return;
    }
    survive(writer->operation, key);
    for (const Step& step : steps) {
      if (follows(of(step), of(*writer))) lose(step.operation, key);
    }
  }

  // What is lost if the steps of a key from one on are lost.
  struct Rest {
    std::uint64_t first_completed = kNever;
    bool must_stay = false;
  };

  std::vector<Rest> rests_of(const std::vector<Step>& steps) const {
    std::vector<Rest> rests(steps.size() + 1);
    for (std::size_t i = steps.size(); i-- > 0;) {
      const Operation& operation = of(steps[i]);
      rests[i] = rests[i + 1];
      if (operation.completed != 0) rests[i].first_completed = std::min(rests[i].first_completed, operation.completed);
      if (operation.durable || fates_[steps[i].operation].survived) rests[i].must_stay = true;
    }
    return rests;
  }

  // The moments that suit an empty key, one span for each erasure that may have been the last change, and one for none at all.
  void key_without_value(std::uint32_t key) {
    const std::vector<Step>& steps = by_key_[key];
    const std::vector<Rest> rests = rests_of(steps);
    std::vector<Span> spans;
    for (const Step& step : steps) {
      const Operation& operation = of(step);
      if (step.bytes != Change::kErased || fates_[step.operation].lost) continue;
      Rest rest;
      if (operation.completed != 0) {
        const auto after = std::ranges::upper_bound(steps, operation.completed, {},
                                                    [this](const Step& other) { return of(other).began; });
        rest = rests[static_cast<std::size_t>(after - steps.begin())];
      }
      if (!rest.must_stay) spans.push_back({operation.began, rest.first_completed});
    }
    if (history_.before[key].operation == 0 && !rests.front().must_stay)
      spans.push_back({0, rests.front().first_completed});
    if (spans.empty()) {
      find(
          fmt::format("key {}: holds nothing, but a write that is durable, or known to have survived, came last", key));
      return;
    }
    empty_keys_.emplace(key, std::move(spans));
  }

  void contradictions() {
    for (std::size_t i = 0; i < fates_.size(); ++i) {
      const Operation& operation = history_.operations[i];
      if (!fates_[i].lost) continue;
      if (operation.durable) {
        find(fmt::format("operation {}: acknowledged as durable, and lost: key {} holds what was before it",
                         operation.number, *fates_[i].lost));
      } else if (fates_[i].survived) {
        find(fmt::format("operation {}: half of a batch of {}: key {} has it, key {} does not", operation.number,
                         operation.changes.size(), *fates_[i].survived, *fates_[i].lost));
      }
    }
  }

  void order() {
    if (bounds_.from > bounds_.to) {
      find(fmt::format("not a prefix: operation {} survived, but {}, which had completed before it began, is lost",
                       last_survivor_, first_lost_));
      return;
    }
    // A sweep over the moments: at how many of the empty keys is one suitable?
    std::map<std::uint64_t, std::int64_t> changes;  // at this moment, and just after its end
    for (auto& [key, spans] : empty_keys_) {
      std::ranges::sort(spans, {}, &Span::from);
      std::uint64_t covered_to = 0;
      bool open = false;
      for (const Span& span : spans) {
        const std::uint64_t from = std::max({span.from, bounds_.from, open ? covered_to + 1 : 0});
        const std::uint64_t to = std::min(span.to, bounds_.to);
        if (from > to) continue;
        ++changes[from];
        if (to != kNever) --changes[to + 1];
        covered_to = to;
        open = true;
        if (to == kNever) break;
      }
    }
    std::int64_t suited = 0;
    std::int64_t most = 0;
    for (const auto& [moment, change] : changes) most = std::max(most, suited += change);
    if (most < static_cast<std::int64_t>(empty_keys_.size())) {
      find(fmt::format("not a prefix: no moment between {} and {} suits all {} empty keys, at most {}", bounds_.from,
                       bounds_.to, empty_keys_.size(), most));
    }
  }

  const History& history_;
  const std::vector<Held>& found_;
  std::vector<Fate> fates_;
  std::vector<std::vector<Step>> by_key_;
  Span bounds_;
  std::uint64_t last_survivor_ = 0;
  std::uint64_t first_lost_ = 0;
  std::map<std::uint32_t, std::vector<Span>> empty_keys_;
  std::vector<std::string> findings_;
};

}  // namespace

std::vector<std::string> judge(const History& history, const std::vector<Held>& found) {
  return Judge(history, found).run();
}

}  // namespace store::crash
