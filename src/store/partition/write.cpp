// Writes: into the active buffer in one step where there is room, else in line behind `writers_`.
#include <fmt/format.h>

#include <algorithm>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/partition/limits.hpp"
#include "store/partition/partition_core.hpp"
#include "store/tree/overflow_io.hpp"

namespace store::detail {

namespace {

bool goes_to_run_at_once(const std::optional<std::string_view>& value) {
  return value && value->size() > kMaxBufferedValueBytes;
}

}  // namespace

void PartitionCore::require_writable() const {
  if (read_only_) throw Error(Errc::read_only, fmt::format("{}: opened for reading only", device_->name()));
  if (!poisoned_.empty()) {
    throw Error(Errc::poisoned, fmt::format("{}: no writes after a failure that left the device's state unknown ({}); "
                                            "reopen the store to recover",
                                            device_->name(), poisoned_));
  }
}

PartitionCore::Buffer PartitionCore::new_buffer(std::size_t arena_bytes) const {
  Buffer buffer;
  buffer.data = WriteBuffer::create({.arena_bytes = arena_bytes});
  return buffer;
}

// Hands the active buffer to the flusher; false if it is empty or no frozen one may be added.
bool PartitionCore::rotate() {
  if (active_.data->empty() || frozen_.size() + 1 >= config_.write_buffer_count) return false;
  Buffer fresh = new_buffer(config_.write_buffer_bytes);
  active_.data->freeze();
  frozen_.push_back(std::exchange(active_, std::move(fresh)));
  start_flush();
  return true;
}

bool PartitionCore::append(Buffer& buffer, std::string_view key, std::optional<std::string_view> value,
                           const std::optional<OverflowRef>& run) {
  const SeqNo seq = last_seq_.next();
  bool fits = false;
  if (run) {
    fits = buffer.data->put_run(key, *run, seq, newest_view());
  } else if (value) {
    fits = buffer.data->put(key, *value, seq, newest_view());
  } else {
    fits = buffer.data->erase(key, seq, newest_view());
  }
  if (!fits) return false;
  last_seq_ = seq;
  PendingSpace space;
  space.add(key.size(), value ? value->size() : 0);
  buffer.space += space;
  pending_ += space;
  if (run) buffer.runs.push_back(*run);
  ++counters_.puts;
  return true;
}

// --- space ---

std::uint64_t PartitionCore::blocks_needed(const PendingSpace& more) const {
  const std::uint64_t regions = free_list_.high_water() / kRegionBlocks + 1;
  PendingSpace space = pending_;
  space += more;
  const std::uint64_t all = space.blocks(tree_.height, meta_.tree_pages, regions);
  if (writer_ == nullptr) return all;
  // What the merge in progress has written is off the free blocks already.
  const std::uint64_t merged = frozen_.front().space.blocks(tree_.height, meta_.tree_pages, regions);
  return all - std::min({all, merged, writer_->blocks_written()});
}

std::uint64_t PartitionCore::blocks_available(Purpose purpose) const {
  const std::uint64_t high_water = free_list_.high_water();
  std::uint64_t blocks = free_list_.free_blocks() + std::max(device_->size_blocks(), high_water) - high_water;
  // What the commit in progress supersedes comes back with it, unless somebody reads an older state.
  if (merge_ != nullptr && views_.empty()) blocks += merge_->counts().pages_touched;
  // Of what the device has grown to: a file system that is full long before the device's capacity must leave room too.
  const std::uint64_t reserve = purpose == Purpose::relief ? 0 : reserve_blocks(device_->size_blocks());
  return blocks - std::min(blocks, reserve);
}

bool PartitionCore::has_space(const PendingSpace& more, Purpose purpose) const {
  return blocks_needed(more) <= blocks_available(purpose);
}

// Makes sure that what is buffered and `more` can be merged: grows the device, or flushes so that what is superseded
// comes back. Errors: no_space; nothing was changed.
monterey::Task<> PartitionCore::make_space(PendingSpace more, Purpose purpose) {
  bool flushed = false;
  while (!has_space(more, purpose)) {
    const std::uint64_t missing = blocks_needed(more) - blocks_available(purpose);
    const std::uint64_t wanted = std::max(device_->size_blocks(), free_list_.high_water()) + missing;
    bool grown = false;
    if (wanted <= device_->capacity_blocks()) {
      try {
        co_await device_->grow(wanted);
        grown = true;
      } catch (const Error& error) {
        if (error.errc() != Errc::no_space) throw;
      }
    }
    if (grown) continue;
    if (flushed || (frozen_.empty() && active_.data->empty())) {
      throw Error(Errc::no_space,
                  fmt::format("{}: full, no space left: a write needs up to {} blocks more than are free ({} of {} in "
                              "use); nothing was "
                              "changed: erase something, give the device more room, or close open scans",
                              device_->name(), missing, free_list_.high_water() - free_list_.free_blocks(),
                              device_->capacity_blocks()));
    }
    co_await flush_all();
    flushed = true;
    require_writable();
  }
}

// --- waiting for room ---

monterey::Task<> PartitionCore::wait_for_flush() {
  require_writable();
  const std::uint64_t failures = flush_failures_;
  start_flush();
  if (!flushing_) co_return;
  co_await flush_ended_.wait();
  if (flush_failures_ != failures) std::rethrow_exception(flush_error_);
}

// Where `entries` entries of so many bytes can go in one step: the active buffer, or, for what does not fit an empty one, a
// buffer of its own. Holds until the next suspension.
monterey::Task<PartitionCore::Room> PartitionCore::make_room(std::size_t entries, std::size_t bytes) {
  for (;;) {
    if (active_.data->fits(entries, bytes)) co_return Room::active;
    if (frozen_.size() + 1 >= config_.write_buffer_count) {
      co_await wait_for_flush();
    } else if (active_.data->empty()) {
      co_return Room::own_buffer;
    } else {
      rotate();
    }
  }
}

// --- the verbs ---

bool PartitionCore::try_put(std::string_view key, std::optional<std::string_view> value) {
  require_open();
  require_writable();
  check_key(key);
  if (value) check_value(*value);
  if (goes_to_run_at_once(value) || writers_.locked()) return false;
  PendingSpace more;
  more.add(key.size(), value ? value->size() : 0);
  if (!has_space(more, value ? Purpose::ordinary : Purpose::relief)) return false;
  if (append(active_, key, value, std::nullopt)) return true;
  return rotate() && append(active_, key, value, std::nullopt);
}

monterey::Task<> PartitionCore::put(std::string_view key, std::optional<std::string_view> value) {
  const std::array<WriteBatch::Change, 1> change{WriteBatch::Change{key, value}};
  co_await apply(change, {});
}

std::optional<bool> PartitionCore::try_compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                                       std::optional<std::string_view> desired) {
  require_open();
  require_writable();
  check_key(key);
  if (expected) check_value(*expected);
  if (desired) check_value(*desired);
  if (writers_.locked()) return std::nullopt;
  const Found found = find(key);
  if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) return std::nullopt;
  const bool present = found.kind == Found::Kind::bytes;
  if (present != expected.has_value() || (present && found.bytes != *expected)) return false;
  if (!try_put(key, desired)) return std::nullopt;
  return true;
}

monterey::Task<bool> PartitionCore::compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                                    std::optional<std::string_view> desired) {
  const std::array<WriteBatch::Change, 1> change{WriteBatch::Change{key, desired}};
  const std::array<WriteBatch::Change, 1> expectation{WriteBatch::Change{key, expected}};
  const std::optional<std::size_t> failed = co_await apply(change, expectation);
  co_return !failed.has_value();
}

monterey::Task<> PartitionCore::write(WriteBatch batch) {
  std::vector<WriteBatch::Change> changes;
  std::vector<WriteBatch::Change> expectations;
  for (std::size_t i = 0; i < batch.change_count(); ++i) changes.push_back(batch.change(i));
  for (std::size_t i = 0; i < batch.expectation_count(); ++i) expectations.push_back(batch.expectation(i));
  const std::optional<std::size_t> failed = co_await apply(changes, expectations);
  if (failed) {
    throw Error(Errc::conflict,
                fmt::format("the batch was not applied: expectation {} of {} does not hold; read the key "
                            "again and decide anew",
                            *failed + 1, expectations.size()));
  }
}

monterey::Task<bool> PartitionCore::matches(std::string_view key, std::optional<std::string_view> expected) {
  const ReadHold hold(*this);
  const Value value = co_await load_value(key);
  co_return value.present == expected.has_value() && (!value.present || value.bytes == *expected);
}

monterey::Task<OverflowRef> PartitionCore::write_value_run(std::string_view value) {
  const auto blocks = static_cast<std::uint32_t>(run_blocks(value.size()));
  // The run's own blocks are taken at once; what the merge of its entry needs is asked for with the batch.
  PendingSpace none;
  none.run_blocks = blocks;
  none.entries = 1;
  co_await make_space(none, Purpose::ordinary);
  const Extent extent = co_await free_list_.reserve_run(blocks);
  std::exception_ptr error;
  try {
    // Readers that find it in a buffer pin the generation that is durable then, which is not before this one.
    co_return co_await write_run(*device_, extent, value, tree_.generation);
  } catch (...) {
    error = std::current_exception();
  }
  free_list_.cancel(extent);
  std::rethrow_exception(error);
}

monterey::Task<std::optional<std::size_t>> PartitionCore::apply(std::span<const WriteBatch::Change> changes,
                                                                std::span<const WriteBatch::Change> expectations) {
  require_open();
  require_writable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  std::size_t bytes = 0;
  PendingSpace space;
  Purpose purpose = Purpose::relief;
  for (const WriteBatch::Change& change : changes) {
    check_key(change.key);
    if (change.value) {
      check_value(*change.value);
      purpose = Purpose::ordinary;
    }
    bytes += change.key.size();
    if (change.value) bytes += goes_to_run_at_once(change.value) ? WriteBuffer::kRunValueBytes : change.value->size();
    space.add(change.key.size(), change.value ? change.value->size() : 0);
  }
  for (const WriteBatch::Change& expectation : expectations) check_key(expectation.key);

  // Before anybody is held up: bring in what the expectations need, and write the long values.
  for (const WriteBatch::Change& expectation : expectations) {
    static_cast<void>(co_await matches(expectation.key, expectation.value));
  }
  std::vector<std::optional<OverflowRef>> runs(changes.size());
  const auto cancel_runs = [&runs, this] {
    for (const auto& run : runs) {
      if (run) free_list_.cancel(run_extent(*run));
    }
  };
  std::exception_ptr error;
  std::optional<std::size_t> failed;
  try {
    for (std::size_t i = 0; i < changes.size(); ++i) {
      if (goes_to_run_at_once(changes[i].value)) runs[i] = co_await write_value_run(*changes[i].value);
    }
    failed = co_await apply_in_turn(changes, expectations, runs, bytes, space, purpose);
  } catch (...) {
    error = std::current_exception();
  }
  if (error || failed) cancel_runs();
  if (error) std::rethrow_exception(error);
  co_return failed;
}

// The part of apply() that holds the writers' queue. Returns the first expectation that does not hold.
monterey::Task<std::optional<std::size_t>> PartitionCore::apply_in_turn(
    std::span<const WriteBatch::Change> changes, std::span<const WriteBatch::Change> expectations,
    std::span<const std::optional<OverflowRef>> runs, std::size_t bytes, PendingSpace space, Purpose purpose) {
  const monterey::Mutex::Guard turn = co_await writers_.lock();
  Room room = Room::active;
  for (;;) {
    require_writable();
    co_await make_space(space, purpose);
    room = co_await make_room(changes.size(), bytes);
    // Nobody writes meanwhile, so what holds here holds below.
    for (std::size_t i = 0; i < expectations.size(); ++i) {
      if (planted(Planted::expectation_not_rechecked)) break;
      const bool holds = co_await matches(expectations[i].key, expectations[i].value);
      if (!holds) co_return i;
    }
    const bool there = room == Room::active ? active_.data->fits(changes.size(), bytes)
                                            : active_.data->empty() && frozen_.size() + 1 < config_.write_buffer_count;
    if (there && has_space(space, purpose)) break;
  }
  require_writable();
  Buffer own;
  if (room == Room::own_buffer) own = new_buffer(WriteBuffer::arena_bytes_for(changes.size(), bytes));
  Buffer& into = room == Room::own_buffer ? own : active_;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const bool fits = append(into, changes[i].key, changes[i].value, runs[i]);
    STORE_ASSERT(fits);
  }
  if (room == Room::own_buffer && !own.data->empty()) {
    own.data->freeze();
    frozen_.push_back(std::move(own));
    start_flush();
  }
  co_return std::nullopt;
}

}  // namespace store::detail
