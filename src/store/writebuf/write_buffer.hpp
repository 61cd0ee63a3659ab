// The write buffer: what was written since the last flush, readable at once by key and in key order.
//
// Three parts in one mapping that never grows: an append-only arena of keys and versions, a hash index from a key
// to its newest version, and sorted runs of {key prefix, key} records for ordered reading, made as keys arrive and
// merged in powers up to a bound, so that no put pauses long. Nothing is ever moved or overwritten in the arena:
// every view into it stays valid as long as the buffer lives and is not reset. Sequence numbers only ascend.
//
// Ranges that were erased stand beside the keys (range_tombstones.hpp) and are looked at only where there are any. What is
// older than a range that covers it is erased, here and, by whoever asks on, in everything older than this buffer.
//
// One core owns a buffer and nothing in it is atomic; threads may find() at once only while it is settled(). It is held by std::shared_ptr; iterators hold it too, so a
// reader may outlive the flush that drops it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "store/base/ids.hpp"
#include "store/page/overflow.hpp"
#include "store/writebuf/arena.hpp"
#include "store/writebuf/key_index.hpp"
#include "store/writebuf/mapped_memory.hpp"
#include "store/writebuf/range_tombstones.hpp"
#include "store/writebuf/sorted_runs.hpp"

namespace store {

// One version of one key, as views into the buffer.
struct EntryView {
  std::string_view key;
  EntryKind kind = EntryKind::erase;
  bool by_range = false;   // of an erase: a range covers the key, and its sequence number is `seq`
  std::string_view value;  // of a put
  OverflowRef run;         // of a run
  SeqNo seq;
};

class WriteBuffer : public std::enable_shared_from_this<WriteBuffer> {
 public:
  // `arena_bytes` holds keys, values and 16 to 38 bytes for each entry; index and runs come on top.
  struct Options {
    std::size_t arena_bytes = std::size_t{32} << 20;
  };
  static constexpr std::size_t kMinArenaBytes = 4096;
  static constexpr std::size_t kMaxArenaBytes = std::size_t{32} << 30;
  static constexpr std::size_t kRunValueBytes = sizeof(OverflowRef);

  class Iterator;

  // Maps a buffer. Requires kMinArenaBytes <= arena_bytes <= kMaxArenaBytes.
  // Errors: invalid_argument when the system refuses the memory; the text names the bytes.
  static std::shared_ptr<WriteBuffer> create(Options options);

  // Everything that a buffer of this arena may ever use: arena, index, runs, scratch space for merging.
  static std::size_t memory_bytes(std::size_t arena_bytes);

  // An arena that holds any `entries` entries of `bytes` bytes of keys and values together (a run counts
  // kRunValueBytes as its value).
  static std::size_t arena_bytes_for(std::size_t entries, std::size_t bytes);

  // Append one version. `newest_snapshot` is the highest sequence number at which somebody may still read (live
  // iterators of this buffer are known to it): a version that no reader between it and its successor can ask for is
  // unlinked. The default keeps all.
  // Requires a key of 1..kMaxKeyBytes, a value of at most kMaxBufferedValueBytes, seq above every earlier one.
  // Returns false if it does not fit or the buffer is frozen; then nothing was changed.
  // Cost: one index probe, one copy, and about 60 ns for the share of the sorted runs if the key is new.
  bool put(std::string_view key, std::string_view value, SeqNo seq, SeqNo newest_snapshot = kMaxSeqNo) noexcept;
  bool erase(std::string_view key, SeqNo seq, SeqNo newest_snapshot = kMaxSeqNo) noexcept;
  bool put_run(std::string_view key, const OverflowRef& run, SeqNo seq, SeqNo newest_snapshot = kMaxSeqNo) noexcept;

  // Erases all keys in [from, to), without `to` all from `from` on. For the rest as above. Requires bounds of at most
  // kMaxKeyBytes, from < to. Returns false also when there are RangeTombstones::kMax already.
  // Cost: in proportion to the ranges in the buffer, some microseconds at most.
  bool erase_range(std::string_view from, std::optional<std::string_view> to, SeqNo seq,
                   SeqNo newest_snapshot = kMaxSeqNo) noexcept;
  const RangeTombstones& ranges() const noexcept { return ranges_; }

  // Finds the newest version of `key` with seq <= at; erases included, those by a range too: nullopt says that older buffers
  // and the tree are to be asked. Valid as long as the buffer lives; the key of an erase by a range is the caller's.
  // Cost: a comparison of 8 bytes for keys outside [min_key, max_key], else one hash and usually three cache lines.
  std::optional<EntryView> find(std::string_view key, SeqNo at = kMaxSeqNo) const noexcept;
  // Whether find() only reads: no put has left anything to the next reader. Then several threads may find at once.
  bool settled() const noexcept { return order_.pending_count == 0; }

  // Whether any `entries` entries of `bytes` bytes of keys and values together are certain to fit, `ranges` of them ranges,
  // whose bounds count as key and value.
  bool fits(std::size_t entries, std::size_t bytes, std::size_t ranges = 0) const noexcept;
  // How full the buffer is, 0 to 1: of the arena or of the index, whichever is fuller.
  double fill() const noexcept;

  bool empty() const noexcept { return entries_ == 0; }
  std::size_t entries() const noexcept { return entries_; }  // versions and ranges appended
  std::size_t keys() const noexcept;                         // different ones
  std::size_t bytes_used() const noexcept { return arena_.used_bytes(); }
  std::size_t arena_bytes() const noexcept { return arena_.capacity_bytes(); }
  SeqNo first_seq() const noexcept { return first_seq_; }  // 0 when empty
  SeqNo last_seq() const noexcept { return last_seq_; }
  // The smallest and the greatest key. Requires keys() > 0.
  std::string_view min_key() const noexcept;
  std::string_view max_key() const noexcept;

  // Ends appending: puts return false from now on.
  void freeze() noexcept;
  bool frozen() const noexcept { return frozen_; }

  // Makes the buffer empty and open again, with its memory already there: the first writes to a new buffer cost
  // milliseconds of page faults. Requires that no iterator is left and that nobody holds a view into it.
  // Cost: in proportion to the keys in it, at most 1 ms for 32 MiB.
  void reset() noexcept {
    while (reset_some()) {
    }
  }
  // A step of that, of at most some 50 µs. Returns whether it takes another; meanwhile the buffer may only be destroyed.
  bool reset_some() noexcept;

  // An ordered view of the newest version of each key with after < seq <= at, erases included; a version that a range with
  // seq <= at has erased since shows as an erase by that range. What else the ranges erase stands in ranges(). What is
  // appended later is not seen. It starts invalid: seek first.
  // Cost: creation sorts the at most 255 newest keys; about 10 µs together with a first seek among 100,000 keys.
  Iterator iterate(SeqNo at = kMaxSeqNo, SeqNo after = SeqNo{}) const;

 private:
  struct Layout;  // of the one mapping; its constructor is out of reach of others, so only create() makes buffers

 public:
  explicit WriteBuffer(const Layout& layout);
  WriteBuffer(const WriteBuffer&) = delete;
  WriteBuffer& operator=(const WriteBuffer&) = delete;
  ~WriteBuffer() { arena_.give_back(); }

 private:
  // A version in the arena that the index and the runs do not know yet, under a node of its own. A put only asks for
  // its cache line of the index, which takes some 150 ns to come, and leaves the look at it to a later one.
  struct Pending {
    std::uint64_t hash;
    SeqNo newest_snapshot;
    NodeRef node;
    VersionRef version;
  };
  static constexpr std::size_t kMaxPending = 8;
  // A node of its own is wasted on a key that turns out to be known: long keys wait for the answer, and so do all
  // while many are known. The measure gains kKnownGain by each known key and loses 1 by each new one.
  static constexpr std::size_t kMaxPendingKeyBytes = 64;
  static constexpr unsigned kKnownGain = 4;
  static constexpr unsigned kKnownOften = 32;

  // What puts leave to the next reader, who is const to his callers: the buffer's contents stay the same.
  struct Order {
    KeyIndex index;
    SortedRuns runs;
    std::array<Pending, kMaxPending> pending{};  // a ring
    std::size_t pending_first = 0;
    std::size_t pending_count = 0;
    std::size_t common_prefix_bytes = 0;  // of all keys
    std::uint64_t min_prefix = 0;
    std::uint64_t max_prefix = 0;
    NodeRef min_node = kNoNode;
    NodeRef max_node = kNoNode;
    unsigned known = 0;
  };

  bool append(std::string_view key, EntryKind kind, std::string_view value, SeqNo seq, SeqNo newest_snapshot) noexcept;
  bool append_later(std::string_view key, std::uint64_t hash, EntryKind kind, std::string_view value, SeqNo seq,
                    SeqNo newest_snapshot) noexcept;
  bool append_now(std::string_view key, std::uint64_t hash, EntryKind kind, std::string_view value, SeqNo seq,
                  SeqNo newest_snapshot) noexcept;
  void settle_oldest() const noexcept;
  void settle() const noexcept;
  void add_key(const KeyIndex::Place& place, NodeRef node) const noexcept;
  void add_version(NodeRef node, VersionRef version, SeqNo newest_snapshot) const noexcept;
  void include_in_range(NodeRef node) const noexcept;
  bool outside_range(std::string_view key) const noexcept;
  std::optional<EntryView> find_version(std::string_view key, SeqNo at) const noexcept;
  std::optional<EntryView> find_under_ranges(std::string_view key, SeqNo at) const noexcept;
  EntryView view(std::string_view key, VersionRef version) const noexcept;
  SeqNo newest_reader(SeqNo newest_snapshot) const noexcept {
    return live_iterators_ > 0 ? std::max(newest_snapshot, newest_iterator_) : newest_snapshot;
  }
  void count_entry(SeqNo seq) noexcept {
    ++entries_;
    if (first_seq_ == SeqNo{}) first_seq_ = seq;
    last_seq_ = seq;
  }

  const std::size_t max_keys_;
  MappedMemory memory_;
  mutable Arena arena_;
  mutable Order order_;
  RangeTombstones ranges_;
  std::size_t entries_ = 0;
  SeqNo first_seq_;
  SeqNo last_seq_;
  bool frozen_ = false;
  std::size_t reset_at_ = 0;  // how far reset_some() has come, in slots or in keys
  mutable std::size_t live_iterators_ = 0;
  mutable SeqNo newest_iterator_;  // the highest `at` since there was last no iterator
};

// A cursor over a buffer; see WriteBuffer::iterate. Movable; keeps the buffer alive. Views stay valid as long as the
// iterator lives, whatever is appended. Nothing but its creation allocates.
class WriteBuffer::Iterator {
 public:
  Iterator(Iterator&& other) noexcept;
  Iterator& operator=(Iterator&& other) noexcept;
  ~Iterator();

  // Moves to the first key >= `key`; "" is the first of all.
  void seek(std::string_view key) noexcept;
  // Moves to the last key < `bound`, or to the last of all without a bound.
  void seek_last_before(std::optional<std::string_view> bound) noexcept;
  // Behind the last key, without going there: not valid.
  void leave() noexcept { valid_ = false; }

  const WriteBuffer& buffer() const noexcept { return *buffer_; }
  bool valid() const noexcept { return valid_; }
  // Require valid().
  void next() noexcept;
  void prev() noexcept;
  const EntryView& entry() const noexcept { return entry_; }

 private:
  friend class WriteBuffer;
  enum class Direction : std::uint8_t { forward, backward };

  // The position in one sorted run. Forward, it is that of the record at its head; backward, one past it.
  struct Cursor {
    SortedRuns::Run run;
    std::uint32_t position = 0;
  };
  // The head of a cursor in the tournament that finds the next key: {prefix, node} as in its run, the prefix inverted
  // when the order is.
  struct Contender {
    SortRecord head;
    std::uint32_t cursor = 0;
  };

  Iterator(std::shared_ptr<const WriteBuffer> buffer, SeqNo at, SeqNo after);

  void release() noexcept;
  void load_runs() noexcept;
  void place(std::optional<std::string_view> bound, Direction direction) noexcept;
  Contender contender(std::uint32_t cursor) const noexcept;
  bool goes_before(const Contender& a, const Contender& b) const noexcept;
  bool tied_goes_before(const Contender& a, const Contender& b) const noexcept;
  void hold_tournament() noexcept;
  void step() noexcept;
  void settle() noexcept;
  void hide_erased() noexcept;

  std::shared_ptr<const WriteBuffer> buffer_;
  SeqNo at_;
  SeqNo after_;
  std::uint64_t epoch_ = 0;      // of the runs that the cursors stand in
  std::size_t prefix_skip_ = 0;  // the heads' prefixes start behind so many bytes of the keys
  std::vector<Cursor> cursors_;
  std::vector<Contender> losers_;  // of each match of the tournament; [0] is the winner of all
  std::vector<Contender> bracket_;
  Direction direction_ = Direction::forward;
  bool valid_ = false;
  EntryView entry_;
};

}  // namespace store
