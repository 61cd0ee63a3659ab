// The log of a partition, as its writers see it: records are gathered in memory into a group, and a group is made durable by
// one durable write while the next one gathers. At most one group is in flight; the writers of a finished one run
// before the next is submitted, so that they are in it with their next records.
//
// Invariants:
//  * A record is placed in one step, whole or, if it is longer than a group, in parts with nothing between them. The
//    caller sees to it that appends take turns.
//  * A group names no run of a long value that is not durable: such a group is preceded by a sync of the data device.
//  * Nothing is acknowledged before the durable write of its group has completed.
//  * No block of a group in flight or durable is written again before a durable commit covers it: see recycle().
//  * A failed write or sync ends the log for good: waits and appends then throw `poisoned`.
//
// Held by the partition's core, and by the task that writes in the background; that task holds the owner while it writes.
// The devices must live as long as the owner. One core.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <monterey/fixed_bufs.hpp>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <string>

#include "store/wal/log_format.hpp"
#include "store/wal/log_space.hpp"

namespace store {

// The group that a record went to; the last one, for a record in parts.
struct LogTicket {
  Lsn group;
  std::uint32_t chunk = 0;
};

struct LogCounters {
  std::uint64_t groups = 0;
  std::uint64_t bytes = 0;  // written, whole blocks
  std::uint64_t records = 0;
};

class Log : public std::enable_shared_from_this<Log> {
 public:
  static constexpr std::size_t kChunks = 2;  // one gathers, one is being written
  static constexpr std::size_t kStagingBytes = kChunks * kMaxGroupBytes;

  struct Options {
    std::uint64_t store_id = 0;
    std::uint64_t incarnation = 0;
    Generation generation;                  // the durable one
    std::chrono::microseconds interval{0};  // how long a group gathers before it is written; 0: not at all
  };

  // A log that goes on at `tail`. `staging` has kStagingBytes.
  Log(BlockDevice& log_device, BlockDevice& data_device, monterey::FixedBuf staging, const Options& options,
      LogLayout layout, LogPosition tail);
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Starts the background task. It writes only while `owner` lives, and keeps it alive meanwhile. `on_failure` is called
  // once, on the core, with the reason; the owner outlives the call.
  void start(std::weak_ptr<void> owner, std::function<void(const std::string&)> on_failure);
  // Ends the background task when the group in flight has ended, and gives the staging memory back. What is gathered is
  // dropped. Errors: aborted.
  monterey::Task<> stop();
  // The same for an owner that is being destroyed, so that no group is in flight. The background task may go on sleeping for
  // an interval; it touches nothing of the owner's any more.
  void abandon() noexcept;
  // Ends the log: nothing is written or acknowledged any more. Does not call on_failure.
  void fail(std::string_view why) noexcept;

  // Whether the segments have space for a record of so many bytes, however it is placed.
  bool fits(std::size_t bytes) const noexcept;
  // Whether append() may be called now.
  bool has_room(std::size_t bytes) const noexcept;
  // Waits until the group that gathers has begun anew; the next append() of a record of up to kMaxFragmentBytes then has
  // room, if the segments have space. Errors: poisoned, aborted.
  monterey::Task<> make_room();
  // Places a record of record_bytes(entries). Requires: has_room().
  LogTicket append(SeqNo first_seq, std::span<const LogEntry> entries, std::size_t bytes) noexcept;
  // Places a record of any size in parts as there is room. Requires: fits(); no other append until the task has ended.
  // The last part is placed in the step in which the task ends. Errors: poisoned, aborted: the record is incomplete.
  monterey::Task<LogTicket> append_in_parts(SeqNo first_seq, std::span<const LogEntry> entries, std::size_t bytes);

  // Waits until the record is durable. Errors: poisoned, aborted.
  monterey::Task<> durable(LogTicket ticket);
  // The same in parts, for who saves the frame: while not is_durable(), which throws `poisoned`, await this event.
  bool is_durable(LogTicket ticket) const {
    if (durable_ > ticket.group) return true;
    require_good();
    return false;
  }
  monterey::Event& group_ended(LogTicket ticket) noexcept { return chunks_[ticket.chunk].done; }
  // Writes what is gathered without waiting for the interval, and waits until all that was appended is durable.
  monterey::Task<> sync();

  // Where the group that gathers begins: replay from there finds every record appended from now on.
  LogPosition position() const noexcept { return position_; }
  const LogLayout& layout() const noexcept { return layout_; }
  // Bytes of segments that are not yet spoken for.
  std::uint64_t left_bytes() const noexcept;
  // The layout that a commit made durable, with its generation: blocks before its begin may be written from now on.
  // Requires: made from layout() by starting_at() or by appending segments; or other segments, which begin at position()
  // while nothing is gathered and all that was is durable.
  void recycle(LogLayout layout, Generation generation) noexcept;

  const LogCounters& counters() const noexcept { return counters_; }

 private:
  struct Chunk {
    std::byte* data = nullptr;
    std::size_t used = kGroupHeaderBytes;
    bool names_runs = false;
    monterey::Event done;  // pulsed when its group is durable
  };

  bool gathered() const noexcept { return chunks_[gather_].used > kGroupHeaderBytes; }
  std::size_t chunk_room() const noexcept { return kMaxGroupBytes - chunks_[gather_].used; }
  void require_good() const;
  std::span<std::byte> add_fragment(std::size_t bytes, FragmentKind kind, std::uint32_t record_crc) noexcept;
  LogTicket ticket() const noexcept { return {position_.lsn, gather_}; }
  static monterey::Task<> run(std::shared_ptr<Log> self);
  void give_up(const char* why);
  monterey::Task<> write_gathered();
  monterey::Task<> write_group();

  BlockDevice& log_device_;
  BlockDevice& data_device_;
  monterey::FixedBuf staging_;
  const Options options_;
  LogLayout layout_;
  Lsn end_;  // of layout_
  Generation generation_;
  LogPosition position_;
  Lsn durable_;  // everything before it is durable
  std::array<Chunk, kChunks> chunks_;
  std::uint32_t gather_ = 0;
  bool writing_ = false;
  bool stopped_ = false;
  std::string failure_;
  monterey::Event work_;  // set when something is gathered
  monterey::Event room_;  // pulsed when a group begins to gather
  monterey::Event idle_;  // pulsed when writing ends
  std::weak_ptr<void> owner_;
  std::function<void(const std::string&)> on_failure_;
  LogCounters counters_;
};

}  // namespace store
