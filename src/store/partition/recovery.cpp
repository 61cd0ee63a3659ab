// Replay: what the log has beyond the last commit goes back into write buffers, as if it had just been written. Nothing on
// the device changes but by an ordinary flush when the buffers are full, so that a crash meanwhile leaves the same or a
// later state to recover from.
//
// First the whole log is followed to its tail, every record is held to the ones before it, and the runs that they name are
// reserved, before anything can allocate; then it is read again and applied.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <store/error.hpp>
#include <utility>

#include "store/base/assert.hpp"
#include "store/partition/partition_core.hpp"

namespace store::detail {

LogExpectation PartitionCore::log_expectation() const {
  LogExpectation expected;
  std::memcpy(&expected.store_id, meta_.uuid.data(), sizeof expected.store_id);
  expected.incarnation = meta_.incarnation;
  expected.generation = meta_.generation;
  return expected;
}

void PartitionCore::throw_bad_record(LogPosition at, const std::string& what) const {
  throw Error(Errc::corruption,
              fmt::format("{}: a record of the log at LSN {}: {}; restore from a backup or salvage the "
                          "store",
                          device_->name(), at.lsn.value, what));
}

monterey::Task<> PartitionCore::replay(OpenOptions options) {
  const LogLayout layout = log_layout_;
  if (layout.segments.empty()) co_return;
  std::vector<Extent> reserved;
  std::exception_ptr damage;
  try {
    co_await look_through_log(layout, reserved);
  } catch (const Error& error) {
    if (error.errc() != Errc::corruption || !options.allow_rollback) throw;
    damage = std::current_exception();
    note_rollback(fmt::format("to the last commit, without the log: {}", error.what()));
  }
  if (damage) {
    for (const Extent extent : reserved) free_list_.cancel(extent);
    co_return;
  }
  try {
    co_await replay_records(layout);
  } catch (...) {
    damage = std::current_exception();
  }
  if (!damage) co_return;
  while (flushing_) co_await flush_ended_.wait();  // the device is in use until then
  std::rethrow_exception(damage);
}

// Whether a record is to be applied behind `last`: false if it is merged already. Errors: corruption.
bool PartitionCore::is_next_record(std::span<const std::byte> record, LogPosition begin, SeqNo last) const {
  RecordDecoder decoder(record);
  while (const std::optional<LogEntry> entry = decoder.next()) {
    if (entry->run && entry->run->birth > meta_.generation) {
      throw_bad_record(begin, fmt::format("it names a run of generation {}, the meta page is of {}",
                                          entry->run->birth.value, meta_.generation.value));
    }
  }
  if (!decoder.error().empty() && !planted(Planted::fragments_without_last)) throw_bad_record(begin, decoder.error());
  if (decoder.first_seq().value + decoder.entries() - 1 <= meta_.last_merged.value) return false;
  if (decoder.first_seq() == last.next()) return true;
  throw_bad_record(begin, fmt::format("sequence number {} follows {}", decoder.first_seq().value, last.value));
}

// Follows the log to its tail, and reserves the runs that it names.
monterey::Task<> PartitionCore::look_through_log(const LogLayout& layout, std::vector<Extent>& reserved) {
  const std::uint64_t blocks = device_of_log().size_blocks();
  for (const Extent& segment : layout.segments) {
    if (segment.end() <= blocks) continue;
    throw Error(Errc::corruption,
                fmt::format("{}: truncated: the device has {} blocks, a segment of the log ends at {}",
                            device_of_log().name(), blocks, segment.end()));
  }
  LogReader reader(device_of_log(), layout, log_expectation());
  SeqNo last = meta_.last_merged;
  for (;;) {
    const bool more = co_await reader.next_group();
    if (!more) co_return;
    LogPosition begin = reader.records_begin();
    for (const std::span<const std::byte> record : reader.records()) {
      const bool is_next = is_next_record(record, std::exchange(begin, reader.group_begin()), last);
      if (!is_next) continue;
      RecordDecoder decoder(record);
      last = SeqNo(decoder.first_seq().value + decoder.entries() - 1);
      while (const std::optional<LogEntry> entry = decoder.next()) {
        if (read_only_ || !entry->run) continue;
        if (reserved.size() == reserved.capacity()) reserved.reserve(2 * reserved.size() + 16);
        co_await free_list_.reserve(run_extent(*entry->run));
        reserved.push_back(run_extent(*entry->run));
      }
    }
  }
}

monterey::Task<> PartitionCore::replay_records(const LogLayout& layout) {
  LogReader reader(device_of_log(), layout, log_expectation());
  for (;;) {
    const bool more = co_await reader.next_group();
    if (!more) break;
    LogPosition begin = reader.records_begin();
    for (const std::span<const std::byte> record : reader.records()) {
      log_tail_ = begin;  // a flush that makes room must not give up what is still to come
      co_await replay_record(record, begin);
      begin = reader.group_begin();
    }
  }
  log_tail_ = reader.position();
  counters_.replayed_bytes = reader.bytes_read();
}

// Applies one record to the active buffer, unless it is merged already.
monterey::Task<> PartitionCore::replay_record(std::span<const std::byte> record, LogPosition begin) {
  if (!is_next_record(record, begin, last_seq_)) co_return;
  RecordDecoder decoder(record);
  std::vector<LogEntry> entries;
  std::size_t bytes = 0;
  std::size_t ranges = 0;
  while (const std::optional<LogEntry> entry = decoder.next()) {
    entries.push_back(*entry);
    ranges += entry->is_range;
    bytes += entry->key.size() + (entry->run ? WriteBuffer::kRunValueBytes : entry->value.value_or("").size());
  }
  if (planted(Planted::half_batch_replayed) && entries.size() > 1) entries.resize(entries.size() / 2);
  co_await make_replay_room(entries.size(), bytes, ranges);
  if (!active_.log_begin) active_.log_begin = begin;
  for (const LogEntry& entry : entries) {
    if (entry.run) active_.runs.push_back(*entry.run);
    const bool fits = entry.is_range ? append_range(active_, entry.key, entry.value)
                                     : append(active_, entry.key, entry.value, entry.run);
    STORE_ASSERT(fits);
  }
  last_seq_ = SeqNo(decoder.first_seq().value + decoder.entries() - 1);
  counters_.puts = 0;
  ++counters_.replayed_records;
  counters_.replayed_entries += entries.size();
}

// A store that is only read keeps all of it in memory; else the flusher makes room, as for any writer.
monterey::Task<> PartitionCore::make_replay_room(std::size_t entries, std::size_t bytes, std::size_t ranges) {
  if (!active_.data) active_ = new_buffer(config_.write_buffer_bytes);
  while (!active_.data->fits(entries, bytes, ranges)) {
    if (active_.data->empty()) {
      active_ = new_buffer(WriteBuffer::arena_bytes_for(entries, bytes));
    } else if (read_only_) {
      active_.data->freeze();
      frozen_.push_back(std::exchange(active_, new_buffer(config_.write_buffer_bytes)));
    } else if (!rotate()) {
      co_await wait_for_flush();
    }
  }
}

}  // namespace store::detail
