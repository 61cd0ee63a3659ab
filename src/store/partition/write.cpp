// Writes: into the active buffer in one step where there is room, else in line behind `writers_`.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <monterey/time.hpp>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/probes.hpp"
#include "store/partition/limits.hpp"
#include "store/partition/partition_core.hpp"
#include "store/tree/overflow_io.hpp"

namespace store::detail {

namespace {

bool goes_to_run_at_once(const std::optional<std::string_view>& value) {
  return value && value->size() > kMaxBufferedValueBytes;
}

}  // namespace

// A put, an erase or a batch on its way into buffer and log.
struct PartitionCore::Write {
  std::span<const WriteBatch::Change> changes;
  std::span<const WriteBatch::Change> expectations;
  std::vector<std::optional<OverflowRef>> runs;  // of the changes whose value is written already
  std::list<OverflowRef> reserved;               // the same, to be handed to the buffer without allocating
  std::size_t bytes = 0;                         // of keys and values in the buffer
  std::size_t ranges = 0;                        // among the changes
  PendingSpace space;
  Purpose purpose = Purpose::relief;
  std::vector<LogEntry> log_entries;  // empty without a log
  std::size_t log_bytes = 0;
  Room room = Room::active;  // own_buffer: too long for the log
};

void PartitionCore::require_not_poisoned() const {
  if (poisoned_.empty()) return;
  throw Error(Errc::poisoned,
              fmt::format("{}: no writes and no snapshots after a failure that left the device's state unknown ({}); "
                          "reopen the store to recover",
                          device_->name(), poisoned_));
}

void PartitionCore::require_committable() const {
  if (read_only_) throw Error(Errc::read_only, fmt::format("{}: opened for reading only", device_->name()));
  require_not_poisoned();
}

void PartitionCore::require_writable() const {
  require_committable();
  require_numbers();
}

// What a write takes must not run over: a meta page may name numbers near their ends, whether they were used up or made up.
void PartitionCore::require_numbers() const {
  constexpr std::uint64_t kMostInAWrite = std::uint64_t{1} << 32;  // entries of a batch; each takes a sequence number
  constexpr std::uint64_t kMostInAFlush = std::uint64_t{1} << 16;  // states of a flush; each takes a generation
  constexpr std::uint64_t kLastLogLsn = std::uint64_t{1} << 62;    // check_fields() of a meta page allows twice that
  const bool left = last_seq_.value <= kMaxSeqNo.value - kMostInAWrite &&
                    last_generation_.value <= kMaxGeneration.value - kMostInAFlush &&
                    meta_.incarnation < ~std::uint64_t{0} && log_position().lsn.value <= kLastLogLsn;
  if (!left) [[unlikely]]
    throw_numbers_end();
}

void PartitionCore::throw_numbers_end() const {
  throw Error(
      Errc::no_space,
      fmt::format("{}: generation {}, sequence number {}, open {} or the log's LSN {} is the last: nothing more can "
                  "be written; dump the store and load it into a new one",
                  device_->name(), last_generation_.value, last_seq_.value, meta_.incarnation,
                  log_position().lsn.value));
}

PartitionCore::Buffer PartitionCore::new_buffer(std::size_t arena_bytes) const {
  Buffer buffer;
  buffer.data = WriteBuffer::create({.arena_bytes = arena_bytes});
  return buffer;
}

bool PartitionCore::has_usual_size(const WriteBuffer& buffer) const {
  return config_.write_buffer_bytes - buffer.arena_bytes() < Arena::kUnitBytes;  // an arena has whole units
}

// Hands the active buffer to the flusher; false if it is empty or no frozen one may be added.
bool PartitionCore::rotate() {
  if (active_.data->empty() || !may_add_buffer()) return false;
  // The entries of a record that is being placed fit the active buffer, which replay may have made larger than others.
  Buffer fresh;
  if (spare_buffer_ && (!log_placing_ || has_usual_size(*active_.data))) {
    fresh.data = std::move(spare_buffer_);
  } else {
    spare_buffer_.reset();
    fresh = new_buffer(log_placing_ ? active_.data->arena_bytes() : config_.write_buffer_bytes);
  }
  frozen_.emplace_back();  // what may fail, before anything changes
  active_.data->freeze();
  frozen_.back() = std::exchange(active_, std::move(fresh));
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
  PendingSpace space;
  space.add(key.size(), value ? value->size() : 0);
  note_appended(buffer, seq, space);
  return true;
}

void PartitionCore::note_appended(Buffer& buffer, SeqNo seq, const PendingSpace& space) {
  last_seq_ = seq;
  buffer.space += space;
  pending_ += space;
  ++counters_.puts;
}

// --- space ---

// How many states of the tree the buffers are merged into before anything that they supersede is sure to come back. Without
// views it comes back with each commit, so that all of them count as one.
std::uint64_t PartitionCore::states_to_build() const {
  return views_.empty() ? 1 : frozen_.size() + 1 + buffered_views_;
}

std::uint64_t PartitionCore::blocks_needed(const PendingSpace& more, std::uint64_t states) const {
  const std::uint64_t regions = free_list_.high_water() / kRegionBlocks + 1;
  PendingSpace space = pending_;
  space += more;
  const std::uint64_t all = space.blocks(tree_.height, meta_.tree_pages, regions, states);
  if (writer_ == nullptr) return all;
  // What the merge in progress has written is off the free blocks already.
  const std::uint64_t merged = frozen_.front().space.blocks(tree_.height, meta_.tree_pages, regions, states);
  return all - std::min({all, merged, writer_->blocks_written()});
}

std::uint64_t PartitionCore::blocks_available(Purpose purpose) const {
  const std::uint64_t high_water = free_list_.high_water();
  std::uint64_t blocks = free_list_.free_blocks() + std::max(device_->size_blocks(), high_water) - high_water;
  // What the commit in progress supersedes comes back with it, unless somebody reads an older state.
  if (merge_ != nullptr && views_.empty()) blocks += merge_->counts().pages_touched;
  // Of what the device has grown to: a file system that is full long before the device's capacity must leave room too.
  const std::uint64_t reserve = purpose == Purpose::relief ? 0 : reserve_blocks(device_->size_blocks());
  return blocks - std::min(blocks, reserve + kept_for_compact_turn());
}

bool PartitionCore::has_space(const PendingSpace& more, Purpose purpose) const {
  return blocks_needed(more, states_to_build()) <= blocks_available(purpose);
}

// Makes sure that what is buffered and `more` can be merged: grows the device, or flushes so that what is superseded
// comes back. It does not grow only for the states of views, which a flush moves out of the buffers. Errors: no_space; nothing
// was changed.
monterey::Task<> PartitionCore::make_space(PendingSpace more, Purpose purpose) {
  bool flushed = false;
  while (!has_space(more, purpose)) {
    co_await free_list_.settle();  // what a commit or a snapshot that went is still giving back
    if (has_space(more, purpose)) co_return;
    const std::uint64_t missing = blocks_needed(more, states_to_build()) - blocks_available(purpose);
    const bool for_views = buffered_views_ > 0 && blocks_needed(more, 1) <= blocks_available(purpose);
    const std::uint64_t wanted = std::max(device_->size_blocks(), free_list_.high_water()) + missing;
    bool grown = false;
    if (wanted <= device_->capacity_blocks() && (!for_views || flushed)) {
      try {
        co_await device_->grow(wanted);
        grown = true;
      } catch (const Error& error) {
        if (error.errc() != Errc::no_space) throw;
      }
    }
    if (grown) continue;
    if (compact_turn_runs()) {  // what it took comes back with its commit
      co_await flush_ended_.wait();
      require_writable();
      continue;
    }
    if (flushed || (frozen_.empty() && active_.data->empty())) {
      throw Error(Errc::no_space,
                  fmt::format("{}: full, no space left: a write needs up to {} blocks more than are free ({} of {} in "
                              "use); nothing was "
                              "changed: erase something, give the device more room, or drop snapshots and open scans",
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
  require_committable();
  const std::uint64_t failures = flush_failures_;
  start_flush();
  if (!flushing_) co_return;
  co_await flush_ended_.wait();
  if (flush_failures_ != failures) std::rethrow_exception(flush_error_);
}

// Nothing is accepted before what the log does not have is durable: it would survive a crash that this does not.
monterey::Task<> PartitionCore::wait_for_unlogged() {
  while (unlogged_ > 0) co_await wait_for_flush();
}

// For a write that is applied already: what fails its merge must not say that nothing was changed.
monterey::Task<> PartitionCore::wait_for_own_merge() {
  try {
    co_await wait_for_unlogged();
  } catch (const Error& error) {
    if (error.errc() != Errc::no_space) throw;
    throw Error(Errc::io_error, fmt::format("{}: the write is applied, but durable only when a flush succeeds: {}",
                                            device_->name(), error.what()));
  }
}

// Whether a write shall wait though there is room. The buffers are all in use, and what the active one takes beyond its first half
// shall last until the flush has made one free: else the first writes after that half would be as fast as memory, and the next one
// would wait for all of the flush.
bool PartitionCore::is_ahead_of_flush() const {
  if (frozen_.empty() || !flushing_ || may_add_buffer()) [[likely]]
    return false;
  constexpr double kFree = 0.5;
  constexpr double kPaced = 0.4;  // the rest is for the commit behind the merge
  const std::uint64_t merged = merged_keys_ + (merge_ != nullptr ? merge_->counts().keys : 0);
  const double share = static_cast<double>(std::min(merged, keys_to_merge_)) /
                       static_cast<double>(std::max<std::uint64_t>(keys_to_merge_, 1));
  return static_cast<double>(active_.data->bytes_used()) >
         static_cast<double>(active_.data->arena_bytes()) * (kFree + kPaced * share);
}

// While it merges, a flush says how far it has come. How long its commit takes nobody knows, so the room that is left then is given
// out ever more slowly: a hundredth of it for each hundredth of kCommitTime. No write waits longer than kLongest for its share.
// Returns whether it was that, and not the merge, that the write has waited for.
monterey::Task<bool> PartitionCore::fall_back(std::size_t bytes) {
  constexpr std::chrono::duration<double> kCommitTime{0.2};
  constexpr std::chrono::duration<double> kLongest{0.02};
  const bool is_merged = keys_to_merge_ > 0 && merged_keys_ >= keys_to_merge_;
  if (is_merged) {
    const std::size_t left = active_.data->arena_bytes() - active_.data->bytes_used();
    const double share = static_cast<double>(bytes + Arena::kMaxEntryOverheadBytes) / static_cast<double>(left + 1);
    co_await monterey::sleep_for(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::min(kLongest, kCommitTime * share)));
  } else {
    co_await merge_progressed_.wait();
  }
  require_writable();
  co_return is_merged;
}

// Where a write can go in one step: the active buffer, or, for what does not fit an empty one or wants it, a buffer of its
// own. Holds until the next suspension.
monterey::Task<PartitionCore::Room> PartitionCore::make_room(const Write& write) {
  bool fell_back = false;
  for (;;) {
    const bool fits = active_.data->fits(write.changes.size(), write.bytes, write.ranges);
    const bool is_ahead = is_ahead_of_flush();
    if (write.room == Room::active && fits && (!is_ahead || fell_back)) co_return Room::active;
    if (write.room == Room::active && fits) {
      fell_back = co_await fall_back(write.bytes);
    } else if (!may_add_buffer()) {
      co_await wait_for_flush();
    } else if (active_.data->empty()) {
      co_return Room::own_buffer;
    } else {
      rotate();
    }
  }
}

// Sees to it that the log can take a record of so many bytes: adds segments, or flushes so that some come back. Holds
// until the next suspension. False: an empty log is too short for it, and there is no space for a longer one.
monterey::Task<bool> PartitionCore::make_log_room(std::size_t bytes) {
  for (;;) {
    require_writable();
    if (log_held_) {
      co_await wait_for_flush();
      continue;
    }
    if (log_->fits(bytes)) {
      if (bytes > kMaxFragmentBytes || log_->has_room(bytes)) co_return true;
      co_await log_->make_room();
      continue;
    }
    const bool can_grow = !log_growth_refused_ && log_growth_blocks() > 0;
    if (!can_grow && frozen_.empty()) {
      co_await log_->sync();  // what is merged and still gathers holds its place
      const bool nothing_to_merge = active_.data->empty();
      if (nothing_to_merge && log_keep_from(0) == log_->layout().begin) co_return false;
      if (!nothing_to_merge) rotate();
    }
    if (can_grow || frozen_.empty()) log_commit_wanted_ = true;
    co_await wait_for_flush();
  }
}

// --- the verbs ---

bool PartitionCore::try_put(std::string_view key, std::optional<std::string_view> value) {
  STORE_PROBE(put_start, key.data(), key.size());
  const bool done = put_timing_.run(counters_.put_buffered, [&] { return place(key, value); });
  if (done) STORE_PROBE(put_done, key.data());
  return done;
}

bool PartitionCore::place(std::string_view key, std::optional<std::string_view> value, LogTicket* ticket) {
  require_open();
  if (waits_for_log() && ticket == nullptr) return false;
  require_writable();
  check_key(key);
  if (value) check_value(*value);
  if (goes_to_run_at_once(value) || writers_.locked() || unlogged_ > 0 || is_ahead_of_flush()) return false;
  const std::array<LogEntry, 1> entry{LogEntry{key, value, std::nullopt}};
  const std::size_t log_bytes = log_ ? record_bytes(entry) : 0;
  if (log_ && (log_held_ || !log_->has_room(log_bytes))) return false;
  PendingSpace more;
  more.add(key.size(), value ? value->size() : 0);
  if (!has_space(more, value ? Purpose::ordinary : Purpose::relief)) return false;
  if (!append(active_, key, value, std::nullopt)) {
    if (!rotate() || !append(active_, key, value, std::nullopt)) return false;
  }
  if (!log_) return true;
  STORE_ASSERT(!log_placing_);
  if (!active_.log_begin) active_.log_begin = log_->position();
  const LogTicket placed = log_->append(last_seq_, entry, log_bytes);
  if (ticket != nullptr) *ticket = placed;
  relieve_log();
  return true;
}

monterey::Task<> PartitionCore::put(std::string_view key, std::optional<std::string_view> value) {
  const auto self = shared_from_this();
  const TimedPut timed(counters_.put_waited, key);
  if (waits_for_log()) {
    const monterey::Gate::Holder inside = operations_.hold();
    LogTicket ticket;
    const bool placed = place(key, value, &ticket);
    if (placed) {
      while (!log_->is_durable(ticket)) co_await log_->group_ended(ticket).wait();
      co_return;
    }
  }
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
  const Found found = find(key, nullptr, reader_.cache_hits);
  if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) return std::nullopt;
  const bool present = found.kind == Found::Kind::bytes;
  if (present != expected.has_value() || (present && found.bytes != *expected)) return false;
  if (!place(key, desired)) return std::nullopt;
  return true;
}

monterey::Task<bool> PartitionCore::compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                                    std::optional<std::string_view> desired) {
  const std::array<WriteBatch::Change, 1> change{WriteBatch::Change{key, desired}};
  const std::array<WriteBatch::Change, 1> expectation{WriteBatch::Change{key, expected}};
  const std::optional<std::size_t> failed = co_await apply(change, expectation);
  co_return !failed.has_value();
}

monterey::Task<> PartitionCore::write(WriteBatch batch, Purpose purpose) {
  std::vector<WriteBatch::Change> changes;
  std::vector<WriteBatch::Change> expectations;
  for (std::size_t i = 0; i < batch.change_count(); ++i) changes.push_back(batch.change(i));
  for (std::size_t i = 0; i < batch.expectation_count(); ++i) expectations.push_back(batch.expectation(i));
  const std::optional<std::size_t> failed = co_await apply(changes, expectations, purpose);
  if (failed) {
    throw Error(Errc::conflict,
                fmt::format("the batch was not applied: expectation {} of {} does not hold; read the key "
                            "again and decide anew",
                            *failed + 1, expectations.size()));
  }
}

monterey::Task<PendingSpace> PartitionCore::keep_space(const WriteBatch& batch) {
  require_open();
  require_writable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  PendingSpace space;
  for (std::size_t i = 0; i < batch.change_count(); ++i) {
    const WriteBatch::Change change = batch.change(i);
    const std::size_t value_bytes = change.value.value_or("").size();
    if (change.is_range) {
      space.add_range(change.key.size() + value_bytes);
      continue;
    }
    space.add(change.key.size(), value_bytes);
    if (goes_to_run_at_once(change.value)) space.run_blocks += run_blocks(value_bytes);
  }
  const monterey::Mutex::Guard turn = co_await writers_.lock();
  require_writable();
  co_await make_space(space, Purpose::ordinary);
  pending_ += space;
  co_return space;
}

monterey::Task<bool> PartitionCore::matches(std::string_view key, std::optional<std::string_view> expected) {
  const ReadHold hold(*this);
  const Value value = co_await load_value(key, find(key, nullptr, reader_.cache_hits));
  co_return value.present == expected.has_value() && (!value.present || value.bytes == *expected);
}

monterey::Task<OverflowRef> PartitionCore::write_value_run(std::string_view value, Purpose purpose) {
  const auto blocks = static_cast<std::uint32_t>(run_blocks(value.size()));
  // The run's own blocks are taken at once; what the merge of its entry needs is asked for with the batch.
  PendingSpace none;
  none.run_blocks = blocks;
  none.entries = 1;
  co_await make_space(none, purpose);
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
                                                                std::span<const WriteBatch::Change> expectations,
                                                                Purpose most) {
  require_open();
  require_writable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  Write write;
  write.changes = changes;
  write.expectations = expectations;
  for (const WriteBatch::Change& change : changes) {
    if (change.is_range) {
      const std::size_t bound_bytes = change.key.size() + change.value.value_or("").size();
      ++write.ranges;
      write.bytes += bound_bytes;
      write.space.add_range(bound_bytes);
      continue;
    }
    check_key(change.key);
    if (change.value) {
      check_value(*change.value);
      write.purpose = most;
    }
    write.bytes += change.key.size();
    if (change.value) {
      write.bytes += goes_to_run_at_once(change.value) ? WriteBuffer::kRunValueBytes : change.value->size();
    }
    write.space.add(change.key.size(), change.value ? change.value->size() : 0);
  }
  for (const WriteBatch::Change& expectation : expectations) check_key(expectation.key);

  // Before anybody is held up: bring in what the expectations need, and write the long values.
  for (const WriteBatch::Change& expectation : expectations) {
    static_cast<void>(co_await matches(expectation.key, expectation.value));
  }
  write.runs.resize(changes.size());
  std::exception_ptr error;
  Applied applied;
  try {
    for (std::size_t i = 0; i < changes.size(); ++i) {
      if (!goes_to_run_at_once(changes[i].value)) continue;
      write.reserved.emplace_back();
      write.reserved.back() = co_await write_value_run(*changes[i].value, most);
      write.runs[i] = write.reserved.back();
    }
    prepare_log_entries(write);
    applied = co_await apply_in_turn(write);
  } catch (...) {
    error = std::current_exception();
  }
  for (const OverflowRef& run : write.reserved) {  // of what was not applied
    if (run.length > 0) free_list_.cancel(run_extent(run));
  }
  if (error) std::rethrow_exception(error);
  if (applied.ticket && waits_for_log()) co_await log_->durable(*applied.ticket);
  co_return applied.failed;
}

void PartitionCore::prepare_log_entries(Write& write) const {
  if (!log_ || write.changes.empty()) return;
  write.log_entries.reserve(write.changes.size());
  for (std::size_t i = 0; i < write.changes.size(); ++i) {
    const WriteBatch::Change& change = write.changes[i];
    LogEntry entry{change.key, change.value, write.runs[i], change.is_range};
    if (entry.run) entry.value.reset();
    write.log_entries.push_back(entry);
  }
  write.log_bytes = record_bytes(write.log_entries);
  if (write.log_bytes > log_cap_blocks() * kPageBytes / kLogRecordShare) write.room = Room::own_buffer;
}

monterey::Task<std::optional<std::size_t>> PartitionCore::first_mismatch(
    std::span<const WriteBatch::Change> expectations) {
  for (std::size_t i = 0; i < expectations.size(); ++i) {
    const bool holds = co_await matches(expectations[i].key, expectations[i].value);
    if (!holds) co_return i;
  }
  co_return std::nullopt;
}

// Whether all that was seen to still holds after the last suspension.
bool PartitionCore::may_apply(const Write& write, Room room) const {
  if (unlogged_ > 0 || !has_space(write.space, write.purpose)) return false;
  if (room == Room::own_buffer) return active_.data->empty() && may_add_buffer();
  if (!active_.data->fits(write.changes.size(), write.bytes, write.ranges)) return false;
  if (!log_) return true;
  if (log_held_) return false;
  return write.log_bytes <= kMaxFragmentBytes ? log_->has_room(write.log_bytes) : log_->fits(write.log_bytes);
}

// The part of apply() that holds the writers' queue.
monterey::Task<PartitionCore::Applied> PartitionCore::apply_in_turn(Write& write) {
  const monterey::Mutex::Guard turn = co_await writers_.lock();
  Room room = Room::active;
  for (;;) {
    require_writable();
    co_await wait_for_unlogged();
    co_await make_space(write.space, write.purpose);
    room = co_await make_room(write);
    if (log_ && room == Room::active && write.log_bytes > 0) {
      const bool goes_to_log = co_await make_log_room(write.log_bytes);
      if (!goes_to_log) {
        write.room = Room::own_buffer;
        continue;
      }
    }
    // Nobody writes meanwhile, so what holds here holds below.
    const std::optional<std::size_t> failed = co_await first_mismatch(write.expectations);
    if (failed && !planted(Planted::expectation_not_rechecked)) co_return Applied{failed, std::nullopt};
    if (may_apply(write, room)) break;
  }
  require_writable();
  if (write.changes.empty()) co_return Applied{};
  if (room == Room::own_buffer) {
    apply_to_own_buffer(write);
    if (log_) co_await wait_for_own_merge();
    co_return Applied{};
  }
  if (!log_) {
    append_all(write, active_);
    co_return Applied{};
  }
  if (write.log_bytes > kMaxFragmentBytes) {
    const LogTicket ticket = co_await log_in_parts(write);
    append_all(write, active_);
    relieve_log();
    co_return Applied{std::nullopt, ticket};
  }
  if (!active_.log_begin) active_.log_begin = log_->position();
  const LogTicket ticket = log_->append(last_seq_.next(), write.log_entries, write.log_bytes);
  append_all(write, active_);
  relieve_log();
  co_return Applied{std::nullopt, ticket};
}

// Places a record that is longer than a group. Its space stays spoken for, and the log from its first part on in place, until
// append_all(). Other tasks run between the end of this one and that: `writers_` keeps appends out, `log_placing_` the log
// and the size of a rotated buffer as they are.
monterey::Task<LogTicket> PartitionCore::log_in_parts(const Write& write) {
  // Made here: it must not fail for want of memory.
  monterey::Task<LogTicket> placing = log_->append_in_parts(last_seq_.next(), write.log_entries, write.log_bytes);
  log_placing_ = log_->position();
  pending_ += write.space;
  std::exception_ptr error;
  LogTicket ticket;
  try {
    ticket = co_await std::move(placing);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    // Nothing may follow a record that has no end.
    log_placing_.reset();
    pending_ -= write.space;
    poison(error);
    std::rethrow_exception(error);
  }
  co_return ticket;
}

void PartitionCore::apply_to_own_buffer(Write& write) {
  Buffer own = new_buffer(WriteBuffer::arena_bytes_for(write.changes.size(), write.bytes));
  own.unlogged = log_ != nullptr;
  frozen_.emplace_back();  // before anything changes: it may fail
  append_all(write, own);
  own.data->freeze();
  if (own.unlogged) ++unlogged_;
  frozen_.back() = std::move(own);
  try {
    start_flush();
  } catch (const std::bad_alloc&) {
    return;  // the batch is applied; whoever waits for a flush next will start it
  }
}

void PartitionCore::append_all(Write& write, Buffer& into) {
  if (log_placing_) {
    if (!into.log_begin) into.log_begin = *log_placing_;
    log_placing_.reset();
    pending_ -= write.space;
  }
  into.runs.splice(into.runs.end(), write.reserved);
  for (std::size_t i = 0; i < write.changes.size(); ++i) {
    const WriteBatch::Change& change = write.changes[i];
    const bool fits = change.is_range ? append_range(into, change.key, change.value)
                                      : append(into, change.key, change.value, write.runs[i]);
    STORE_ASSERT(fits);
  }
}

}  // namespace store::detail
