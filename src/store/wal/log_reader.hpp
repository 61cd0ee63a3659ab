// Replay: follows the log from where a meta page says it begins to its tail, group by group, and gives out the records
// that are complete. Reads in large pieces, most blocks once; memory: one read buffer and the longest record.
//
// The log goes on as long as each group is whole, at its LSN, of this store, linked to the one before by its CRC, and of no
// older incarnation. Where it stops is its tail, unless the group there is whole but not linked, a group behind it attests
// that more was durable, or any attests a later commit or open than the meta page knows: that is corruption, and never a
// shorter log.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <string>
#include <vector>

#include "store/wal/log_format.hpp"
#include "store/wal/log_space.hpp"

namespace store {

// What the chosen meta page says, which no group may be ahead of.
struct LogExpectation {
  std::uint64_t store_id = 0;
  std::uint64_t incarnation = 0;
  Generation generation;
};

class LogReader {
 public:
  // Device and layout must outlive it. Errors: bad_alloc.
  LogReader(BlockDevice& device, const LogLayout& layout, const LogExpectation& expected);
  LogReader(const LogReader&) = delete;
  LogReader& operator=(const LogReader&) = delete;

  // Goes to the next group; false at the tail, after the blocks behind it have been looked at.
  // Errors: corruption, naming the LSN and the check; io_error.
  monterey::Task<bool> next_group();
  // The records that the current group completes, valid until the next call.
  std::span<const std::span<const std::byte>> records() const noexcept { return records_; }
  // The header of the current group. Requires: next_group() has returned true.
  const LogGroup& group() const noexcept { return group_; }
  // Why nothing continues the log at position(), once next_group() has returned false.
  const std::string& stop() const noexcept { return stop_; }
  // Where the current group begins, and where the log goes on behind it.
  LogPosition group_begin() const noexcept { return group_begin_; }
  LogPosition position() const noexcept { return position_; }
  // Where the first part of the first record of records() lies: replay from there finds them all again.
  LogPosition records_begin() const noexcept { return records_begin_; }
  std::uint64_t bytes_read() const noexcept { return position_.lsn.value - layout_.begin.lsn.value; }

 private:
  static constexpr std::size_t kReadBytes = 1u << 20;

  monterey::Task<> read_at(Lsn lsn, std::size_t bytes);
  const std::byte* at(Lsn lsn) const noexcept { return buffer_.get() + (lsn.value - buffer_begin_.value); }
  std::uint64_t left(Lsn lsn) const noexcept { return layout_.end().value - lsn.value; }
  monterey::Task<std::string> try_group(Lsn lsn, LogGroup& group);
  monterey::Task<> look_behind_tail();
  void require_not_ahead(const LogGroup& group) const;
  void take_fragments(const LogGroup& group);
  [[noreturn]] void throw_damage(Lsn lsn, const std::string& what) const;

  BlockDevice& device_;
  const LogLayout& layout_;
  const LogExpectation expected_;
  std::shared_ptr<std::byte[]> buffer_;
  Lsn buffer_begin_;
  std::size_t buffer_bytes_ = 0;

  LogGroup group_;
  LogPosition position_;
  LogPosition group_begin_;
  LogPosition records_begin_;
  std::uint64_t incarnation_ = 0;  // of the last group
  std::string stop_;               // why the log stops at position_

  std::vector<std::span<const std::byte>> records_;
  std::deque<std::vector<std::byte>> joined_;  // those of records_ that came in parts
  std::vector<std::byte> parts_;               // of a record that is not complete
  bool in_parts_ = false;
  bool seen_start_ = false;              // of any record: before it, parts belong to one that is merged
  std::uint64_t parts_incarnation_ = 0;  // of the group with the first part
  LogPosition parts_begin_;
};

}  // namespace store
