// What the tasks of a life do.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <monterey/preempt.hpp>
#include <monterey/time.hpp>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "sim/life.hpp"

namespace store::test {

namespace {

constexpr std::uint32_t kUnseenPart = 1'000'000;  // of a batch: no change that counts has this number
constexpr std::size_t kMostValueBytes = 150u << 10;

}  // namespace

monterey::Task<> Life::work(unsigned task) {
  for (unsigned i = 0; i < plan_.operations && violation_.empty(); ++i) {
    const unsigned number = task * plan_.operations + i;
    SimRandom random = random_.child(number);
    if (plan_.only != nullptr && (number >= plan_.only->size() || !(*plan_.only)[number])) continue;
    if (random.one_in(6)) co_await monterey::sleep_for(std::chrono::microseconds(random.below(3000)));
    co_await step(random);
  }
}

monterey::Task<> Life::step(SimRandom random) {
  const std::uint64_t kind = random.below(100);
  if (kind < 36) {
    co_await put(random);
  } else if (kind < 44) {
    co_await erase(random);
  } else if (kind < 46) {
    co_await erase_range(random);
  } else if (kind < 58) {
    co_await batch(random);
  } else if (kind < 66) {
    co_await replace(random);
  } else if (kind < 80) {
    co_await get(random);
  } else if (kind < 86) {
    co_await get_many(random);
  } else if (kind < 90) {
    co_await scan(random);
  } else if (kind < 93) {
    co_await snapshot(random);
  } else if (kind < 95 && plan_.compacts) {
    co_await compact(random);
  } else {
    co_await flush(random);
  }
}

std::uint32_t Life::key(SimRandom& random) const {
  // A few keys are hot, so that tasks meet.
  const std::uint32_t count = random.percent(40) ? std::min(5u, keys_.count()) : keys_.count();
  return static_cast<std::uint32_t>(random.below(count));
}

Life::KeyRange Life::range(SimRandom& random) const {
  const std::vector<std::uint32_t>& order = keys_.in_order();
  const std::size_t first = random.below(order.size());
  const std::size_t count = random.one_in(6) ? order.size() : random.between(1, 6);
  const std::size_t end = std::min(first + count, order.size());
  KeyRange range;
  range.from = keys_.text(order[first]);
  if (end < order.size()) range.to = keys_.text(order[end]);
  for (std::size_t i = first; i < end; ++i) range.keys.push_back(order[i]);
  return range;
}

ValueId Life::new_value(SimRandom& random, std::uint32_t op, std::uint32_t part) const {
  std::uint64_t bytes = random.between(kMinValueBytes, 200);
  const std::uint64_t kind = random.below(100);
  if (kind < 15) bytes = random.between(900, 1100);
  if (kind >= 15 && kind < 30) bytes = random.between(1025, 9000);
  if (kind >= 30 && kind < 33) bytes = random.between(9000, 64u << 10);
  if (kind >= 33 && kind < 37 && plan_.big_values) bytes = random.between((64u << 10) + 1, kMostValueBytes);
  return {op, part, static_cast<std::uint32_t>(bytes)};
}

namespace {

// Entries in the order of their keys, made as they are taken.
class EntrySource {
 public:
  explicit EntrySource(const std::map<std::string, ValueId>& entries) : next_(entries.begin()), end_(entries.end()) {}

  bool next(std::string_view& key, std::string_view& value) {
    if (next_ == end_) return false;
    key = next_->first;
    value = value_ = make_value(next_->second);
    ++next_;
    return true;
  }

 private:
  std::map<std::string, ValueId>::const_iterator next_;
  std::map<std::string, ValueId>::const_iterator end_;
  std::string value_;
};

}  // namespace

// Refused if anything was there or came before it. In the history it is a batch, whole or not there, and durable when it has
// ended, as is all that ended before it began.
monterey::Task<> Life::bulk_load(SimRandom random) {
  std::map<std::string, ValueId> entries;
  std::vector<History::Change> changes;
  const std::uint64_t percent = random.pick<std::uint64_t>({5, 50, 100});
  for (std::uint32_t k = 0; k < keys_.count(); ++k) {
    if (!random.percent(percent)) continue;
    const ValueId id = new_value(random, history_.next_op(), static_cast<std::uint32_t>(changes.size()));
    entries.emplace(keys_.text(k), id);
    changes.push_back({k, id});
  }
  const std::uint32_t op = history_.begin(History::Kind::write, std::move(changes));
  const std::uint64_t begun = history_.now();
  EntrySource source(entries);
  History::Outcome outcome = History::Outcome::applied;
  std::exception_ptr error;
  try {
    const std::uint64_t loaded = co_await db_->bulk_load(source);
    if (loaded != entries.size()) wrong(fmt::format("a load of {} entries took {}", entries.size(), loaded));
  } catch (const Error& e) {
    if (e.errc() == Errc::invalid_argument) outcome = History::Outcome::nothing;
    error = std::current_exception();
  } catch (...) {
    error = std::current_exception();
  }
  if (error && outcome == History::Outcome::applied) outcome = outcome_of(error, "bulk_load", Does::write);
  const auto is_between = [&](const History::Op& other) {
    return other.kind == History::Kind::write && other.ended != History::kNever && other.ended > begun;
  };
  const bool is_followed = std::ranges::any_of(history_.ops(), is_between);
  end(op, outcome);
  if (outcome != History::Outcome::applied || entries.empty()) co_return;
  durable_before_ = std::max(durable_before_, is_followed ? begun : history_.now() + 1);
}

monterey::Task<> Life::put(SimRandom random) {
  const std::uint32_t k = key(random);
  const ValueId id = new_value(random, history_.next_op(), 0);
  const std::string value = make_value(id);
  const std::uint32_t op = history_.begin(History::Kind::write, {{k, id}});
  std::exception_ptr error;
  try {
    co_await db_->put(keys_.text(k), value);
  } catch (...) {
    error = std::current_exception();
  }
  end(op, error ? outcome_of(error, "put", Does::write) : History::Outcome::applied);
}

monterey::Task<> Life::erase(SimRandom random) {
  const std::uint32_t k = key(random);
  const std::uint32_t op = history_.begin(History::Kind::write, {{k, {}}});
  std::exception_ptr error;
  try {
    co_await db_->erase(keys_.text(k));
  } catch (...) {
    error = std::current_exception();
  }
  end(op, error ? outcome_of(error, "erase", Does::write) : History::Outcome::applied);
}

// To the history a range is a batch of erases.
monterey::Task<> Life::erase_range(SimRandom random) {
  const KeyRange erased = range(random);
  std::vector<History::Change> changes;
  for (const std::uint32_t k : erased.keys) changes.push_back({k, {}});
  const std::uint32_t op = history_.begin(History::Kind::write, std::move(changes));
  std::exception_ptr error;
  try {
    co_await db_->erase_range(erased.from, erased.to);
  } catch (...) {
    error = std::current_exception();
  }
  end(op, error ? outcome_of(error, "erase_range", Does::write) : History::Outcome::applied);
}

monterey::Task<> Life::batch(SimRandom random) {
  std::vector<Seen> expected;
  if (random.one_in(3)) {
    const std::uint32_t k = key(random);
    const std::uint64_t begun = history_.tick();
    const std::optional<ValueId> value = co_await read(k);
    if (!value) co_return;
    history_.add_read({k, *value}, begun, history_.tick());
    expected.push_back({k, *value});
  }
  const std::uint32_t op_number = history_.next_op();
  std::vector<History::Change> changes;
  std::set<std::uint32_t> used;
  const bool is_long = plan_.long_batches && random.one_in(2);
  std::uint64_t count = random.one_in(8) ? random.between(8, 20) : random.between(2, 5);
  if (is_long) count = random.between(6, 8);
  for (const Seen& seen : expected) {
    used.insert(seen.key);
    changes.push_back({seen.key, new_value(random, op_number, 0)});
  }
  while (changes.size() < count) {
    const std::uint32_t k = key(random);
    const auto part = static_cast<std::uint32_t>(changes.size());
    ValueId id = new_value(random, op_number, part);
    // The whole of a batch must have a chance on a small disk.
    if (count > 5) id.bytes = std::min(id.bytes, 300u);
    if (is_long) id.bytes = static_cast<std::uint32_t>(random.between(40u << 10, 60u << 10));
    if (random.one_in(5)) id = {};
    if (used.insert(k).second) {
      changes.push_back({k, id});
    } else if (used.size() >= keys_.count()) {
      break;
    }
  }
  WriteBatch batch;
  if (!is_long && random.one_in(4)) {
    // What the batch puts before its range is never seen, what it puts after it is.
    const KeyRange erased = range(random);
    const ValueId unseen{op_number, kUnseenPart, kMinValueBytes};
    std::optional<std::string_view> to;
    if (erased.to) to = *erased.to;
    batch.put(keys_.text(erased.keys.back()), make_value(unseen));
    batch.erase_range(erased.from, to);
    for (const std::uint32_t k : erased.keys) {
      if (used.insert(k).second) changes.push_back({k, {}});
    }
  }
  for (const History::Change& change : changes) {
    if (change.value.present()) {
      batch.put(keys_.text(change.key), make_value(change.value));
    } else {
      batch.erase(keys_.text(change.key));
    }
  }
  for (const Seen& seen : expected) {
    if (seen.value.present()) {
      batch.expect(keys_.text(seen.key), make_value(seen.value));
    } else {
      batch.expect(keys_.text(seen.key), std::nullopt);
    }
  }
  const std::uint32_t op = history_.begin(History::Kind::write, std::move(changes));
  const std::uint64_t begun = history_.now();
  std::exception_ptr error;
  try {
    co_await db_->write(std::move(batch));
  } catch (...) {
    error = std::current_exception();
  }
  const History::Outcome outcome = error ? outcome_of(error, "batch", Does::write) : History::Outcome::applied;
  end(op, outcome);
  if (outcome != History::Outcome::applied) co_return;
  for (const Seen& seen : expected) {
    history_.add_read(seen, begun, history_.now());
    history_.add_replaced(seen, op);
  }
}

monterey::Task<> Life::replace(SimRandom random) {
  const std::uint32_t k = key(random);
  const std::uint64_t read_begun = history_.tick();
  const std::optional<ValueId> value = co_await read(k);
  if (!value) co_return;
  history_.add_read({k, *value}, read_begun, history_.tick());
  if (random.one_in(2)) co_await monterey::yield();
  ValueId id{};
  if (!random.one_in(5)) id = new_value(random, history_.next_op(), 0);
  const std::string expected = make_value(*value);
  const std::string desired = make_value(id);
  std::optional<std::string_view> expected_view;
  if (value->present()) expected_view = expected;
  std::optional<std::string_view> desired_view;
  if (id.present()) desired_view = desired;
  const std::uint32_t op = history_.begin(History::Kind::write, {{k, id}});
  const std::uint64_t begun = history_.now();
  bool done = false;
  std::exception_ptr error;
  try {
    done = co_await db_->compare_and_put(keys_.text(k), expected_view, desired_view);
  } catch (...) {
    error = std::current_exception();
  }
  History::Outcome outcome = done ? History::Outcome::applied : History::Outcome::nothing;
  if (error) outcome = outcome_of(error, "compare_and_put", Does::write);
  end(op, outcome);
  if (!done) co_return;
  history_.add_read({k, *value}, begun, history_.now());
  history_.add_replaced({k, *value}, op);
}

// The value of a key; nothing if it could not be read.
monterey::Task<std::optional<ValueId>> Life::read(std::uint32_t key) {
  std::exception_ptr error;
  try {
    const std::optional<std::string> value = co_await db_->get(keys_.text(key));
    co_return seen(key, value).value;
  } catch (...) {
    error = std::current_exception();
  }
  outcome_of(error, "get", Does::read);
  co_return std::nullopt;
}

monterey::Task<> Life::get(SimRandom random) {
  const std::uint32_t k = key(random);
  const std::uint64_t begun = history_.tick();
  if (random.one_in(2)) {
    const std::optional<ValueId> value = co_await read(k);
    if (value) history_.add_read({k, *value}, begun, history_.tick());
    co_return;
  }
  if (random.one_in(3)) {
    co_await get_into(random, k);
    co_return;
  }
  std::exception_ptr error;
  try {
    const std::optional<PinnedValue> value = co_await db_->get_pinned(keys_.text(k));
    std::optional<std::string_view> view;
    if (value) view = value->view();
    const Seen found = seen(k, view);
    history_.add_read(found, begun, history_.tick());
    // What is pinned does not change, whatever is done meanwhile.
    if (random.one_in(2)) co_await monterey::sleep_for(std::chrono::microseconds(random.below(5000)));
    if (value && seen(k, value->view()).value != found.value) wrong(fmt::format("key {} changed while pinned", k));
  } catch (...) {
    error = std::current_exception();
  }
  if (error) outcome_of(error, "get_pinned", Does::read);
}

namespace {

// Memory for a whole value, aligned to blocks or just not.
class ValueMemory {
 public:
  explicit ValueMemory(SimRandom& random) : memory_(kMostValueBytes + 2 * kBlockBytes) {
    const auto misplaced = reinterpret_cast<std::uintptr_t>(memory_.data()) % kBlockBytes;
    at_ = kBlockBytes - misplaced;
    if (random.one_in(2)) ++at_;
  }

  std::span<std::byte> span() { return std::span(memory_).subspan(at_, kMostValueBytes); }
  std::string_view view(std::size_t bytes) { return {reinterpret_cast<const char*>(span().data()), bytes}; }

 private:
  static constexpr std::size_t kBlockBytes = 4096;

  std::vector<std::byte> memory_;
  std::size_t at_ = 0;
};

}  // namespace

monterey::Task<> Life::get_into(SimRandom random, std::uint32_t key) {
  ValueMemory memory(random);
  const std::uint64_t begun = history_.tick();
  std::exception_ptr error;
  try {
    const std::optional<std::size_t> bytes = co_await db_->get_into(keys_.text(key), memory.span());
    std::optional<std::string_view> view;
    if (bytes) view = memory.view(std::min(*bytes, memory.span().size()));
    history_.add_read(seen(key, view), begun, history_.tick());
  } catch (...) {
    error = std::current_exception();
  }
  if (error) outcome_of(error, "get_into", Does::read);
}

// The whole value, and a part of it, which must be a part of the same. Errors: the snapshot's.
monterey::Task<ValueId> Life::get_into(SimRandom random, const Snapshot& snapshot, std::uint32_t key) {
  ValueMemory whole(random);
  const std::optional<std::size_t> bytes = co_await snapshot.get_into(keys_.text(key), whole.span());
  std::optional<std::string_view> view;
  if (bytes) view = whole.view(std::min(*bytes, whole.span().size()));
  const ValueId id = seen(key, view).value;
  if (!bytes) co_return id;
  ValueMemory part(random);
  const std::uint64_t offset = random.below(*bytes + 1);
  const std::span<std::byte> into = part.span().first(random.between(0, kMostValueBytes));
  const std::optional<std::size_t> again = co_await snapshot.get_into(keys_.text(key), into, {.offset = offset});
  const std::size_t copied = std::min<std::size_t>(into.size(), *bytes - offset);
  if (again != bytes || part.view(copied) != whole.view(*bytes).substr(offset, copied))
    wrong(fmt::format("key {}: {} bytes from byte {} on are not those of the value", key, copied, offset));
  co_return id;
}

monterey::Task<> Life::get_many(SimRandom random) {
  std::vector<std::uint32_t> numbers(random.between(1, 12));
  std::vector<std::string_view> keys;
  for (std::uint32_t& number : numbers) {
    number = key(random);
    keys.push_back(keys_.text(number));
  }
  const std::uint64_t begun = history_.tick();
  std::exception_ptr error;
  try {
    const auto values = co_await db_->get_many(keys);
    const std::uint64_t ended = history_.tick();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      std::optional<std::string_view> view;
      if (values[i]) view = values[i]->view();
      history_.add_read(seen(numbers[i], view), begun, ended);
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error) outcome_of(error, "get_many", Does::read);
}

monterey::Task<> Life::scan(SimRandom random) {
  const bool whole = random.one_in(2);
  std::string from = whole ? std::string() : keys_.text(key(random));
  std::optional<std::string> to;
  if (!whole) to = keys_.text(key(random));
  if (to && *to < from) std::swap(*to, from);
  ScanOptions options;
  options.reverse = random.one_in(3);
  if (random.one_in(4)) options.limit = random.below(15);
  options.prefetch_pages = random.one_in(2) ? 0 : 8;
  const std::uint64_t begun = history_.tick();
  std::uint64_t opened = 0;
  std::vector<Seen> found;
  std::optional<std::string> last;
  bool complete = false;
  std::exception_ptr error;
  try {
    auto scan = co_await db_->scan(from, to, options);
    opened = history_.tick();
    for (;;) {
      const bool more = co_await scan.advance();
      if (!more) break;
      const std::optional<std::uint32_t> key = keys_.index(scan.key());
      if (!key) {
        wrong("a scan found a key that was never written");
        co_return;
      }
      const std::string text(scan.key());
      const bool is_in_order = !last || (options.reverse ? text < *last : text > *last);
      if (!is_in_order || text < from || (to && text >= *to))
        wrong(fmt::format("a scan found key {} out of place", *key));
      last = text;
      found.push_back(seen(*key, scan.value()));
      if (random.one_in(8)) co_await monterey::sleep_for(std::chrono::microseconds(random.below(2000)));
    }
    complete = found.size() < options.limit;
  } catch (...) {
    error = std::current_exception();
  }
  if (error) outcome_of(error, "scan", Does::read);
  if (opened == 0 || (!complete && !last)) co_return;
  // What it passed without finding it was absent.
  std::vector<char> there(keys_.count());
  for (const Seen& seen : found) there[seen.key] = 1;
  for (std::uint32_t k = 0; k < keys_.count(); ++k) {
    const std::string& text = keys_.text(k);
    const bool is_passed = complete || (options.reverse ? text > *last : text < *last);
    if (!there[k] && is_passed && text >= from && (!to || text < *to)) found.push_back({k, {}});
  }
  history_.add_scan(std::move(found), begun, opened);
}

// Takes a snapshot and reads through it while others write and flush: all that it shows, whenever and by whichever verb, must be
// one state, of when it was taken.
monterey::Task<> Life::snapshot(SimRandom random) {
  const std::uint64_t begun = history_.tick();
  std::optional<Snapshot> snapshot;
  std::exception_ptr error;
  try {
    snapshot.emplace(db_->snapshot());
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    outcome_of(error, "snapshot", Does::write);  // refused after a failure that only a write can have
    co_return;
  }
  const std::uint64_t taken = history_.tick();
  std::map<std::uint32_t, ValueId> found;
  const auto note_id = [&](std::uint32_t key, ValueId value) {
    const auto [at, is_new] = found.emplace(key, value);
    if (at->second != value) wrong(fmt::format("key {} changed in a snapshot", key));
  };
  const auto note = [&](std::uint32_t key, std::optional<std::string_view> value) {
    note_id(key, seen(key, value).value);
  };
  const bool whole = random.one_in(2);
  try {
    for (std::uint64_t rounds = random.between(1, 4); rounds > 0; --rounds) {
      co_await monterey::sleep_for(std::chrono::microseconds(random.below(5000)));
      for (std::uint64_t reads = random.between(1, 6); reads > 0; --reads) {
        const std::uint32_t k = key(random);
        const std::uint64_t verb = random.below(3);
        if (verb == 0) {
          const std::optional<std::string> value = co_await snapshot->get(keys_.text(k));
          note(k, value);
        } else if (verb == 1) {
          const ValueId value = co_await get_into(random.child(reads), *snapshot, k);
          note_id(k, value);
        } else {
          const std::optional<PinnedValue> value = co_await snapshot->get_pinned(keys_.text(k));
          std::optional<std::string_view> view;
          if (value) view = value->view();
          note(k, view);
        }
      }
      std::vector<std::uint32_t> numbers(random.between(1, 12));
      std::vector<std::string_view> keys;
      for (std::uint32_t& number : numbers) {
        number = key(random);
        keys.push_back(keys_.text(number));
      }
      const auto values = co_await snapshot->get_many(keys);
      for (std::size_t i = 0; i < keys.size(); ++i) {
        std::optional<std::string_view> view;
        if (values[i]) view = values[i]->view();
        note(numbers[i], view);
      }
    }
    if (whole) {
      ScanOptions options;
      options.reverse = random.one_in(2);
      Scan scan = co_await snapshot->scan("", std::nullopt, options);
      if (random.one_in(2)) snapshot.reset();  // the scan does without it
      std::vector<char> there(keys_.count());
      for (;;) {
        const bool more = co_await scan.advance();
        if (!more) break;
        const std::optional<std::uint32_t> key = keys_.index(scan.key());
        if (!key) {
          wrong("a scan of a snapshot found a key that was never written");
          co_return;
        }
        there[*key] = 1;
        note(*key, scan.value());
        if (random.one_in(8)) co_await monterey::sleep_for(std::chrono::microseconds(random.below(2000)));
      }
      for (std::uint32_t k = 0; k < keys_.count(); ++k) {
        if (!there[k]) note(k, std::nullopt);
      }
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error) outcome_of(error, "a read of a snapshot", Does::read);
  std::vector<Seen> view;
  for (const auto& [key, value] : found) view.push_back({key, value});
  history_.add_scan(std::move(view), begun, taken);
}

monterey::Task<> Life::flush(SimRandom random) {
  const std::uint32_t op = history_.begin(History::Kind::flush);
  std::exception_ptr error;
  try {
    if (random.one_in(2)) {
      co_await db_->flush();
    } else {
      co_await db_->sync();
    }
  } catch (...) {
    error = std::current_exception();
  }
  if (error && outcome_of(error, "flush", Does::write) == History::Outcome::nothing && !plan_.writes_may_fail) {
    wrong("a flush failed: " + last_error_);
  }
  end(op, error ? History::Outcome::unknown : History::Outcome::applied);
}

// It flushes, so what it proves is what a flush does.
monterey::Task<> Life::compact(SimRandom random) {
  const std::uint32_t op = history_.begin(History::Kind::flush);
  CompactOptions options;
  if (random.one_in(2)) options.max_bytes_moved = random.below(1u << 20);
  std::exception_ptr error;
  try {
    const CompactReport report = co_await db_->compact(options);
    if (!report.finished && random.one_in(2)) co_await db_->compact(options);
  } catch (...) {
    error = std::current_exception();
  }
  if (error && outcome_of(error, "compact", Does::write) == History::Outcome::nothing && !plan_.writes_may_fail) {
    wrong("a compaction failed: " + last_error_);
  }
  end(op, error ? History::Outcome::unknown : History::Outcome::applied);
}

}  // namespace store::test
