// What is behind a Partition handle: the tree's durable state, the write buffers above it, and the tasks that move one
// into the other. One core, no locks but the writers' queue.
//
// Invariants:
//  * A key's newest value is in the active buffer, else in the newest frozen buffer that has it, else in the tree.
//  * Writers apply one at a time: try_* does all its work in one step and only when nobody is in the writers' queue; the
//    others hold `writers_` from their first check to the append. So a batch is whole at every sequence number a view has.
//  * A frozen buffer leaves `frozen_` in the same step in which the tree that contains it becomes current; until then it
//    stays readable, also when its flush fails.
//  * Everything that suspends while it reads holds a ReadHold: the generation it started from stays in place.
//  * Generation numbers are used once: an aborted commit's number is never taken again, since the cache knows pages by
//    (page, birth).
//  * A failed sync, log write or meta write poisons: no write is accepted and no commit is tried until the store is reopened.
//  * With a log, entries are applied in the order of their records, and a record is placed before or in the step in which its
//    entries become visible. What is too long for the log becomes durable with the commit of a buffer of its own; until
//    then nothing else is accepted, so that a crash never keeps what came later without it.
//
// Kept alive by the handle, by every operation that suspended, by every scan and by the flush in progress.
#pragma once

#include <array>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <span>
#include <store/partition.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/base/planted.hpp"
#include "store/cache/page_cache.hpp"
#include "store/freelist/free_list.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "store/partition/meta_io.hpp"
#include "store/partition/space.hpp"
#include "store/partition/timing.hpp"
#include "store/partition/view.hpp"
#include "store/tree/changed_leaves.hpp"
#include "store/tree/lookup.hpp"
#include "store/tree/merge.hpp"
#include "store/tree/root.hpp"
#include "store/wal/log.hpp"
#include "store/wal/log_reader.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store::detail {

class Increment;

inline constexpr std::size_t kMinWriteBufferBytes = 16u << 10;
// A record may fill this share of a full-grown log, so that one always fits beside those that a flush has yet to merge.
inline constexpr std::uint64_t kLogRecordShare = 8;

// Where a lookup without suspension ended.
struct Found {
  enum class Kind : std::uint8_t { absent, bytes, run, missing };

  Found() noexcept : at{} {}

  Kind kind = Kind::absent;
  std::string_view bytes;           // readable until the next suspension or call on the cache
  const std::byte* leaf = nullptr;  // bytes: the resident leaf in which they lie; null: they lie in a write buffer
  union {
    Descent at;       // missing: the page that is not resident
    OverflowRun run;  // a value in a run
  };
};

// A lookup of a get_many that must read from the device.
struct Missed {
  std::size_t index = 0;  // of the key
  Found found;            // missing or run
  Generation seen;        // of the tree in which it was found so
};

// What lookups leave to whoever made them: their counts, and where the last that has to read from the device ended.
struct Reader {
  std::uint64_t gets = 0;
  std::uint64_t cache_hits = 0;
  Found missed;
  std::vector<Missed> missed_many;
};

class PartitionCore : public std::enable_shared_from_this<PartitionCore> {
 public:
  struct Access {};  // only create() and open() make one

  // `log_device` may be null: then the log, if there is one, lies on `device`.
  static monterey::Task<std::shared_ptr<PartitionCore>> create(std::unique_ptr<BlockDevice> device,
                                                               std::unique_ptr<BlockDevice> log_device,
                                                               PartitionConfig config, CreateOptions options);
  static monterey::Task<std::shared_ptr<PartitionCore>> open(std::unique_ptr<BlockDevice> device,
                                                             std::unique_ptr<BlockDevice> log_device,
                                                             PartitionConfig config, OpenOptions options);
  static monterey::Task<std::shared_ptr<PartitionCore>> open_or_create(std::unique_ptr<BlockDevice> device,
                                                                       std::unique_ptr<BlockDevice> log_device,
                                                                       PartitionConfig config);

  PartitionCore(Access, std::unique_ptr<BlockDevice> device, std::unique_ptr<BlockDevice> log_device,
                const PartitionConfig& config);
  PartitionCore(const PartitionCore&) = delete;
  PartitionCore& operator=(const PartitionCore&) = delete;
  ~PartitionCore();

  // What an operation holds while it may be suspended: the core, the gate that close() waits for, and the state it reads.
  class ReadHold {
   public:
    explicit ReadHold(PartitionCore& core, const View* view = nullptr)
        : core_(core.shared_from_this()), inside_(core.operations_.hold()) {
      if (!planted(Planted::reader_not_pinned)) pin_ = core.pins_.pin(core.tree_at(view).generation);
    }
    ReadHold(const ReadHold&) = delete;
    ReadHold& operator=(const ReadHold&) = delete;
    ~ReadHold() {
      pin_.reset();
      core_->free_list_.pins_changed();
    }

   private:
    std::shared_ptr<PartitionCore> core_;
    monterey::Gate::Holder inside_;
    GenerationPins::Pin pin_;
  };

  // --- reading (read.cpp) ---
  // What is read is the newest state, or that of a live `view`. A flush may move a view: only what is said to keep it uses it
  // after its first suspension.
  // A try_ that returns false has to read from the device. take_missed() then gives the verb of its name what it found, to
  // go on from in the same step: before anybody else runs.
  bool try_get(std::string_view key, const View* view, std::optional<std::string>& result) {
    return try_get(key, view, result, reader_);
  }
  bool try_contains(std::string_view key, const View* view, bool& result) {
    return try_contains(key, view, result, reader_);
  }
  bool try_get_pinned(std::string_view key, const View* view, std::optional<PinnedValue>& result);
  bool try_get_into(std::string_view key, const View* view, std::span<std::byte> into, GetIntoOptions options,
                    std::optional<std::size_t>& size) {
    return try_get_into(key, view, into, options, size, reader_);
  }
  bool try_get_many(std::span<const std::string_view> keys, const View* view, PinnedValues& result);
  // The same without pins: for who copies the values in this step. There is nothing to go on from when it returns false.
  bool try_view_many(std::span<const std::string_view> keys, const View* view,
                     std::span<std::optional<std::string_view>> result) {
    return try_view_many(keys, view, result, reader_);
  }
  // Makes a try_ of one key for Stats::get_cached. Not on a thread of the blocking store, where others may be in a try_ too.
  template <class Try>
  bool sample_get(Try step) {
    return get_timing_.run(counters_.get_cached, step);
  }
  Found take_missed() { return reader_.missed; }
  std::vector<Missed> take_missed_many() { return std::move(reader_.missed_many); }

  // Whether several threads may look up what `view` shows at once, each with a Reader of its own, by what is const below: while nobody does
  // anything else here, and what was written last is in its place.
  bool may_read_together(const View* view) const;
  // What is viewed is for who copies it in this step.
  bool try_view(std::string_view key, const View* view, std::optional<std::string_view>& result, Reader& reader) const;
  bool try_get(std::string_view key, const View* view, std::optional<std::string>& result, Reader& reader) const;
  bool try_contains(std::string_view key, const View* view, bool& result, Reader& reader) const;
  bool try_get_into(std::string_view key, const View* view, std::span<std::byte> into, GetIntoOptions options,
                    std::optional<std::size_t>& size, Reader& reader) const;
  bool try_view_many(std::span<const std::string_view> keys, const View* view,
                     std::span<std::optional<std::string_view>> result, Reader& reader) const;
  monterey::Task<std::optional<std::string>> get(std::string_view key, const View* view, Found found);
  monterey::Task<bool> contains(std::string_view key, const View* view, Found found);
  monterey::Task<std::optional<PinnedValue>> get_pinned(std::string_view key, const View* view, Found found);
  monterey::Task<std::optional<std::size_t>> get_into(std::string_view key, const View* view, std::span<std::byte> into,
                                                      GetIntoOptions options, Found found);
  // Keeps the view.
  monterey::Task<PinnedValues> get_many(std::span<const std::string_view> keys, std::shared_ptr<const View> view,
                                        PinnedValues result, std::vector<Missed> missed);

  // --- writing (write.cpp) ---
  // False: not without waiting, and always under WalMode::per_op.
  bool try_put(std::string_view key, std::optional<std::string_view> value);
  monterey::Task<> put(std::string_view key, std::optional<std::string_view> value);
  // nullopt: not without waiting.
  std::optional<bool> try_compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                          std::optional<std::string_view> desired);
  monterey::Task<bool> compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                       std::optional<std::string_view> desired);
  // May a write use the blocks that are kept back? `relief`: an erase, or what must not fail any more.
  enum class Purpose { ordinary, relief };
  monterey::Task<> write(WriteBatch batch, Purpose purpose = Purpose::ordinary);
  // Keeps what a batch will take from other writes, until give_space(). Errors: no_space.
  monterey::Task<PendingSpace> keep_space(const WriteBatch& batch);
  void give_space(const PendingSpace& kept) { pending_ -= kept; }
  monterey::Task<> erase_range(std::string from, std::optional<std::string> to);  // erase_range.cpp

  // --- committing (flush.cpp) ---
  monterey::Task<> flush();
  monterey::Task<> sync();

  // --- loading (bulk_load.cpp) ---
  void require_loadable() const;  // Errors: read_only, poisoned; invalid_argument when it is not empty
  monterey::Task<std::uint64_t> bulk_load(AnyBulkSource& source);

  // --- views (flush.cpp) ---
  ViewList::iterator add_view();
  ViewList::iterator add_view_like(ViewList::iterator other);
  ViewList::iterator add_snapshot_view();
  void remove_view(ViewList::iterator view);

  // --- the whole ---
  monterey::Task<CompactReport> compact(CompactOptions options);                                     // compact.cpp
  monterey::Task<CheckReport> check(CheckOptions options);                                           // check.cpp
  monterey::Task<RangeEstimate> approximate_range(std::string from, std::optional<std::string> to);  // estimate.cpp
  // backup.cpp. Of the state of a snapshot, or, without one, of now.
  monterey::Task<BackupReport> backup(std::unique_ptr<BlockDevice> target, BackupOptions options,
                                      std::shared_ptr<const SnapshotCore> snapshot = nullptr);
  // Errors: those by which an increment into `target` is refused before anything there is changed.
  monterey::Task<> require_increment(BlockDevice& target);
  Stats stats() const;
  monterey::Task<> close();

  void require_open() const {
    if (state_ != State::open) [[unlikely]]
      throw_closed();
  }
  bool is_open() const { return state_ == State::open; }
  // Of the last commit, also when it is closed.
  Generation durable_generation() const { return meta_.generation; }
  PageCache& cache() { return cache_; }
  BlockDevice& device() { return *device_; }
  monterey::Gate& operations() { return operations_; }

 private:
  enum class State { open, closing, closed };

  // A value that a lookup brought, kept readable.
  struct Value {
    bool present = false;
    std::string_view bytes;
    PageCache::Pin leaf;                  // for a value in a leaf
    std::shared_ptr<std::byte[]> memory;  // … read from a run, or copied from a write buffer
  };

  struct Buffer {
    std::shared_ptr<WriteBuffer> data;
    PendingSpace space;
    std::list<OverflowRef> runs;           // reserved runs that its entries name
    std::optional<LogPosition> log_begin;  // replay from there finds all its entries; none while there are none
    bool unlogged = false;                 // its entries are not in the log, although there is one
  };

  // What a write came to: the expectation that does not hold, and what to wait for if it is to be durable.
  struct Applied {
    std::optional<std::size_t> failed;
    std::optional<LogTicket> ticket;
  };

  [[noreturn]] void throw_closed() const;
  static void check_config(const PartitionConfig& config);
  static monterey::FixedBuf allocate_buffer(std::size_t bytes);

  // open.cpp
  monterey::Task<> initialise(CreateOptions options);
  monterey::Task<> recover(MetaSlots slots, OpenOptions options);
  monterey::Task<> load(const MetaCandidate& candidate);
  monterey::Task<> finish_open(OpenOptions options);
  void note_rollback(const std::string& why);

  // recovery.cpp
  monterey::Task<> replay(OpenOptions options);
  monterey::Task<> look_through_log(const LogLayout& layout, std::vector<Extent>& reserved);
  monterey::Task<> replay_records(const LogLayout& layout);
  bool is_next_record(std::span<const std::byte> record, LogPosition begin, SeqNo last) const;
  monterey::Task<> replay_record(std::span<const std::byte> record, LogPosition begin);
  monterey::Task<> make_replay_room(std::size_t entries, std::size_t bytes, std::size_t ranges);
  LogExpectation log_expectation() const;
  [[noreturn]] void throw_bad_record(LogPosition at, const std::string& what) const;

  // log_commit.cpp
  monterey::Task<> require_log_device(OpenOptions options);
  void leave_log_behind();
  monterey::Task<> start_log();
  monterey::Task<> sync_log_device();
  monterey::Task<> commit_log();
  monterey::Task<> commit_log_layout(LogLayout layout, std::vector<Extent> added, std::vector<Extent> dropped = {});
  bool log_lies_above(std::uint64_t block) const;
  monterey::Task<bool> move_log_below(std::uint64_t block);
  monterey::Task<bool> begin_log_anew(std::uint64_t block);
  // Where free blocks lie below a mark, so many of them at most.
  struct LogGaps {
    std::uint64_t below;
    std::size_t most;
  };
  monterey::Task<std::vector<Extent>> add_segments(std::uint64_t blocks, std::optional<LogGaps> gaps = std::nullopt);
  monterey::Task<> take_gaps(std::uint64_t blocks, LogGaps gaps, std::vector<Extent>* taken);
  void cancel_segments(std::span<const Extent> segments);
  monterey::Task<Extent> add_segment(std::uint32_t blocks, std::span<const Extent> before);
  monterey::Task<> zero_segment(Extent segment);
  std::uint64_t log_cap_blocks() const;
  std::uint64_t log_growth_blocks() const;
  const LogLayout& log_layout() const { return log_ ? log_->layout() : log_layout_; }
  LogPosition log_position() const { return log_ ? log_->position() : log_tail_; }
  LogPosition log_keep_from(std::size_t first_kept) const;
  void log_committed(LogLayout layout, Generation generation);
  void relieve_log() noexcept;
  bool waits_for_log() const { return log_ && config_.wal_mode == WalMode::per_op; }
  BlockDevice& device_of_log() { return log_device_ ? *log_device_ : *device_; }

  // check.cpp
  monterey::Task<std::vector<std::string>> check_meta();

  // backup.cpp
  monterey::Task<bool> make_durable(const View* view);
  Origin origin_of(const View& view) const { return {meta_.uuid, lineage(), view.tree.generation, view.tree.page}; }
  std::uint64_t backup_blocks() const;
  monterey::Task<BackupReport> full_backup(BlockDevice* target, BackupOptions options, const SnapshotCore* snapshot);
  monterey::Task<BackupReport> incremental_backup(BlockDevice* target, std::optional<Generation> since,
                                                  const SnapshotCore* snapshot);
  void require_not_newer(Generation copy, Generation newest) const;
  void require_nothing_in_log_alone(bool is_durable) const;
  monterey::Task<> copy_changes(TreeRoot tree, Generation since, Increment* into);
  monterey::Task<> copy_leaf(ChangedLeaf leaf, const std::byte* bytes, Increment* into);
  monterey::Task<std::uint64_t> increment_blocks(TreeRoot tree, Generation since);

  // read.cpp
  const TreeRoot& tree_at(const View* view) const { return view == nullptr ? tree_ : view->tree; }
  std::optional<EntryView> find_in_buffers(std::string_view key, const View* view) const;
  Found find(std::string_view key, const View* view, std::uint64_t& hits) const;
  struct Lanes;
  template <class Buffered>
  void descend_together(std::span<const std::string_view> keys, const View* view, std::size_t first, std::size_t count,
                        Lanes& lanes, std::vector<Missed>& missed, std::uint64_t& hits, Buffered buffered) const;
  void find_together(std::span<const std::string_view> keys, const View* view, std::size_t first, std::size_t count,
                     PinnedValues& result, std::vector<Missed>& missed);
  monterey::Task<Value> load_value(std::string_view key, Found found);
  PinnedValue pin_value(const Found& found);
  PinnedValue pin_value(std::string_view bytes, PageCache::Pin leaf);
  PinnedValue pin_value(Value value);
  static PinnedValue copy_value(std::string_view bytes);
  monterey::Task<> load_into(std::string_view key, const View* view, Missed missed, std::optional<PinnedValue>& result);

  // write.cpp
  enum class Room { active, own_buffer };
  struct Write;

  // Under WalMode::per_op only with a ticket, for which the caller must then wait.
  bool place(std::string_view key, std::optional<std::string_view> value, LogTicket* ticket = nullptr);
  void require_not_poisoned() const;
  // Not read-only and not poisoned: what is accepted may be made durable.
  void require_committable() const;
  // That, and the numbers that a write takes are left.
  void require_writable() const;
  void require_numbers() const;
  [[noreturn]] void throw_numbers_end() const;
  bool append(Buffer& buffer, std::string_view key, std::optional<std::string_view> value,
              const std::optional<OverflowRef>& run);
  bool append_range(Buffer& buffer, std::string_view from, std::optional<std::string_view> to);
  void note_appended(Buffer& buffer, SeqNo seq, const PendingSpace& space);
  void pulse_flush_ended() noexcept;
  bool rotate();
  // Whether one more buffer is within their number.
  bool may_add_buffer() const { return frozen_.size() + 1 + (emptying_buffer_ ? 1 : 0) < config_.write_buffer_count; }
  Buffer new_buffer(std::size_t arena_bytes) const;
  bool is_ahead_of_flush() const;
  monterey::Task<bool> fall_back(std::size_t bytes);
  bool has_usual_size(const WriteBuffer& buffer) const;
  SeqNo newest_view() const { return views_.empty() ? SeqNo{} : views_.back().at; }
  std::uint64_t states_to_build() const;
  std::uint64_t blocks_needed(const PendingSpace& more, std::uint64_t states) const;
  std::uint64_t blocks_available(Purpose purpose) const;
  bool has_space(const PendingSpace& more, Purpose purpose) const;
  monterey::Task<> make_space(PendingSpace more, Purpose purpose);
  monterey::Task<Room> make_room(const Write& write);
  monterey::Task<bool> make_log_room(std::size_t bytes);
  monterey::Task<> wait_for_flush();
  monterey::Task<> wait_for_unlogged();
  monterey::Task<> wait_for_own_merge();
  monterey::Task<OverflowRef> write_value_run(std::string_view value, Purpose purpose);
  monterey::Task<bool> matches(std::string_view key, std::optional<std::string_view> expected);
  monterey::Task<std::optional<std::size_t>> apply(std::span<const WriteBatch::Change> changes,
                                                   std::span<const WriteBatch::Change> expectations,
                                                   Purpose most = Purpose::ordinary);
  monterey::Task<Applied> apply_in_turn(Write& write);
  void prepare_log_entries(Write& write) const;
  monterey::Task<std::optional<std::size_t>> first_mismatch(std::span<const WriteBatch::Change> expectations);
  bool may_apply(const Write& write, Room room) const;
  monterey::Task<LogTicket> log_in_parts(const Write& write);
  void apply_to_own_buffer(Write& write);
  void append_all(Write& write, Buffer& into);

  // flush.cpp
  void start_flush();
  static monterey::Task<> flush_frozen(std::shared_ptr<PartitionCore> self);
  monterey::Task<> flush_one();
  monterey::Task<> give_back_excess();
  struct Cut;
  monterey::Task<AllocatorRoot> build(Buffer& buffer, std::vector<Cut>& cuts, PageWriter& writer, MergeCounts& counts);
  monterey::Task<> flush_all();
  Meta next_meta() const;
  std::uint64_t lineage() const { return new_lineage_.value_or(meta_.lineage); }
  monterey::Task<> commit_meta(const Meta& meta, const std::uint32_t& slot);
  std::vector<Cut> plan_cuts(const WriteBuffer& buffer) const;
  ViewList::iterator insert_view(ViewList::iterator before, View view);
  std::vector<SnapshotStats> snapshot_stats() const;
  void move_views(const std::vector<Cut>& cuts, const std::shared_ptr<WriteBuffer>& merged);
  Generation take_generation() {
    if (last_generation_ >= kMaxGeneration) throw_numbers_end();
    return last_generation_ = last_generation_.next();
  }
  void poison(const std::string& why) noexcept;
  void poison(const std::exception_ptr& error) noexcept;

  // bulk_load.cpp
  monterey::Task<std::uint64_t> load_and_commit(AnyBulkSource& source);

  // compact.cpp
  struct CompactTurn;
  struct Compaction;
  std::uint64_t compact_room() const;
  std::uint64_t compact_budget(std::uint64_t most) const;
  std::uint64_t kept_for_compact_turn() const;
  std::uint64_t compact_mark() const;
  monterey::Task<> compact_all(Compaction& compaction);
  enum class CompactStep : std::uint8_t { pack, move, own_pages, log, lower };
  bool wants_compact_turn() const;
  bool compact_turn_runs() const;
  monterey::Task<> compact_tree(Compaction& compaction, CompactStep step, std::uint64_t mark);
  monterey::Task<> lower_high_water();
  monterey::Task<> take_turn(CompactTurn& turn);
  monterey::Task<> do_compact_turn(CompactTurn& turn);
  monterey::Task<RewritePlan> plan_rewrite(const CompactTurn& turn);
  monterey::Task<TreeRoot> rewrite(const RewritePlan& plan, CompactTurn& turn, Generation building, PageWriter& writer,
                                   MergeCounts& counts);
  monterey::Task<> compact_one(CompactTurn& turn);
  monterey::Task<> give_back_tail();

  // Order matters: what is declared later refers to what is declared earlier, and goes first.
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<BlockDevice> log_device_;
  PartitionConfig config_;
  GenerationPins pins_;
  FreeList free_list_;
  monterey::FixedBuf staging_;
  PageCache cache_;

  State state_ = State::open;
  bool read_only_ = false;
  std::string poisoned_;
  monterey::Gate operations_;
  std::vector<std::string> open_notes_;
  bool rolled_back_ = false;  // opened at an older state than the newest, or without its log, as it was allowed to

  std::optional<std::uint64_t> new_lineage_;  // since commits were lost on opening, or may have been

  std::uint64_t size_at_open_ = 0;  // of the device, or what compaction has left of it
  Meta meta_;
  std::uint32_t meta_slot_ = 0;  // the slot that holds meta_
  TreeRoot tree_;
  Generation last_generation_;

  std::shared_ptr<Log> log_;                // null under WalMode::none and when only reading
  LogLayout log_layout_;                    // of the durable state, without a log_
  LogPosition log_tail_;                    // where replay has got to
  std::optional<LogPosition> log_placing_;  // where the record begins whose entries are not in a buffer yet
  bool log_commit_wanted_ = false;          // for segments: to add some, or to use those again that are merged
  bool log_held_ = false;                   // nothing is appended: the segments are being exchanged
  bool log_growth_refused_ = false;         // there was no space for them, since the last flush
  std::uint64_t log_low_bytes_ = 0;         // with less left, something is done about it
  std::size_t unlogged_ = 0;                // frozen buffers that are not in the log

  Buffer active_;
  std::deque<Buffer> frozen_;                  // oldest first
  std::shared_ptr<WriteBuffer> spare_buffer_;  // an empty one for rotate()
  bool emptying_buffer_ = false;               // one is being made that
  PendingSpace pending_;                       // of all buffers, and of a record that is being placed
  SeqNo last_seq_;
  monterey::Mutex writers_;
  ViewList views_;
  std::size_t buffered_views_ = 0;  // those above whose root a write buffer stands

  bool flushing_ = false;
  const TreeMerge* merge_ = nullptr;  // the merge in progress
  // How much of the flush in progress is merged, in keys of its buffer for each state that it builds; without the merge in progress.
  std::uint64_t merged_keys_ = 0;
  std::uint64_t keys_to_merge_ = 0;
  monterey::Event merge_progressed_;    // pulsed on the way, and with flush_ended_
  const PageWriter* writer_ = nullptr;  // … and where its pages go
  monterey::Event flush_ended_;         // pulsed whenever a flush has succeeded or failed
  std::uint64_t flush_failures_ = 0;
  std::exception_ptr flush_error_;  // of the last failure

  monterey::Mutex compacting_;           // one at a time
  CompactTurn* compact_turn_ = nullptr;  // what the flusher is to do when no flush waits
  bool packed_ = false;                  // the compaction that was stopped last has packed all leaves
  std::string compact_from_;             // … and is to go on here

  Reader reader_;  // of all that run on the core

  SampledTiming get_timing_;
  SampledTiming put_timing_;
  mutable Stats counters_;  // the counters; gauges are filled in by stats()
};

}  // namespace store::detail
