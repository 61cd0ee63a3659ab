// A key/value partition: a copy-on-write B+tree on one block device, owned by the core it was opened on. The handle may
// be moved at any time; operations in flight keep what they need alive. A handle dropped without close() leaves the
// device as a crash would: at its last commit, and what its log has beyond that. The device and the buffers are then given back when the operations, scans, snapshots
// and the flush in progress have ended; close() waits for that.
//
// Keys are 1 to 1024 bytes, ordered as unsigned bytes; values 0 bytes to 1 GiB. Every call below throws store::Error:
// invalid_argument beyond the limits (nothing changed), closed after close(), corruption when a page that the call needs
// is damaged, io_error when the device failed; calls that write also no_space (a write: nothing applied), read_only and
// poisoned. What is awaited directly (get, contains, get_pinned, get_into, get_many, put, erase, compare_and_put) must be awaited in the
// expression that makes it; its keys and values must live until that await returns.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <store/block_device.hpp>
#include <store/config.hpp>
#include <store/detail/bulk_source.hpp>
#include <store/detail/operation.hpp>
#include <store/detail/read_operations.hpp>
#include <store/error.hpp>
#include <store/pinned_value.hpp>
#include <store/scan.hpp>
#include <store/snapshot.hpp>
#include <store/stats.hpp>
#include <store/write_batch.hpp>
#include <string>
#include <string_view>

namespace store {

namespace detail {

// put and erase: a value of nullopt erases.
class [[nodiscard]] PutOperation final : public Operation<PutOperation, void> {
 private:
  friend class store::Partition;
  friend class Operation<PutOperation, void>;
  PutOperation(PartitionCore* core, std::string_view key, std::optional<std::string_view> value)
      : core_(core), key_(key), value_(value) {}
  bool try_now();
  void take() const {}
  monterey::Task<> later();

  PartitionCore* core_;
  std::string_view key_;
  std::optional<std::string_view> value_;
};

class [[nodiscard]] CompareAndPutOperation final : public Operation<CompareAndPutOperation, bool> {
 private:
  friend class store::Partition;
  friend class Operation<CompareAndPutOperation, bool>;
  CompareAndPutOperation(PartitionCore* core, std::string_view key, std::optional<std::string_view> expected,
                         std::optional<std::string_view> desired)
      : core_(core), key_(key), expected_(expected), desired_(desired) {}
  bool try_now();
  bool take() const { return result_; }
  monterey::Task<bool> later();

  PartitionCore* core_;
  std::string_view key_;
  std::optional<std::string_view> expected_;
  std::optional<std::string_view> desired_;
  bool result_ = false;
};

}  // namespace detail

class Partition {
 public:
  // Makes an empty store on `device`, with its log there too, or on a `log_device` of its own, which then belongs to the
  // store. Errors: already_exists when a device holds a store and not_a_store when it holds something else, unless told to
  // overwrite; no_space; io_error; read_only; invalid_argument for a configuration that cannot work.
  static monterey::Task<Partition> create(std::unique_ptr<BlockDevice> device, PartitionConfig config,
                                          CreateOptions options = {});
  static monterey::Task<Partition> create(std::unique_ptr<BlockDevice> device, std::unique_ptr<BlockDevice> log_device,
                                          PartitionConfig config, CreateOptions options = {});
  // Opens the store on `device` at its last commit and replays its log, whatever config.wal_mode is. Errors: not_a_store,
  // unsupported_format, corruption (never a silent fall-back to an older state), invalid_argument for a configuration that
  // cannot work and for a log device that is missing, not wanted or another store's; io_error, also for a meta page that cannot be
  // read; no_space when there is no room for a log. Unless read_only it mends meta pages and, with a log, commits.
  // Cost: the meta pages, the roots and the log, whatever the size of the store.
  static monterey::Task<Partition> open(std::unique_ptr<BlockDevice> device, PartitionConfig config,
                                        OpenOptions options = {});
  static monterey::Task<Partition> open(std::unique_ptr<BlockDevice> device, std::unique_ptr<BlockDevice> log_device,
                                        PartitionConfig config, OpenOptions options = {});
  // Opens, or creates where the device is empty.
  static monterey::Task<Partition> open_or_create(std::unique_ptr<BlockDevice> device, PartitionConfig config);
  static monterey::Task<Partition> open_or_create(std::unique_ptr<BlockDevice> device,
                                                  std::unique_ptr<BlockDevice> log_device, PartitionConfig config);

  Partition(Partition&&) noexcept;
  Partition& operator=(Partition&&) noexcept;
  ~Partition();

  // The value of `key`, copied. No suspension but the preemption yield when the pages are cached; with branches cached,
  // one read of 4 KiB; an overflow value one more of its blocks (as get_into() says).
  detail::GetOperation get(std::string_view key) const { return {source(), key}; }
  detail::ContainsOperation contains(std::string_view key) const { return {source(), key}; }
  // The value without a copy: the page stays pinned while the PinnedValue lives. Beyond half the frames, and for values
  // in the write buffer or an overflow run, the PinnedValue owns a copy.
  detail::GetPinnedOperation get_pinned(std::string_view key) const { return {source(), key}; }
  // Copies bytes of the value from options.offset on, as many as there are and `into` holds, and returns the size of the whole
  // value; one with offset at or beyond its end copies nothing. An overflow value is read by one I/O of the blocks that are
  // needed (over 4 MiB one a MiB; up to 64 KiB one for each extent if it was written when no blocks were free in a row), past the
  // cache, and straight into `into` where a block of the value falls on 4096-aligned memory there; of a value over 64 KiB only
  // the pieces of 64 KiB that are touched are read, and the checksums of all of them, which may be another I/O. Errors: after one,
  // what `into` holds is not to be used.
  detail::GetIntoOperation get_into(std::string_view key, std::span<std::byte> into,
                                    GetIntoOptions options = {}) const {
    return {source(), key, into, options};
  }
  // The values of all `keys`, in their order. Lookups are interleaved and misses are read together, up to io_depth. The
  // span and its keys must live until the await returns.
  detail::GetManyOperation get_many(std::span<const std::string_view> keys) const { return {source(), keys}; }

  // Writes are visible at once, in the order in which they were applied. They wait when all write buffers are full,
  // for space on the device or in the log, for a value over 64 KiB to be written, behind writes that wait, and, under per_op,
  // until they are durable. Durability: under WalMode::per_op on completion; under batched when their group is synced, which is
  // written at the latest wal_batch_interval after them, or behind the group in flight; with none after flush() or sync(). An error `poisoned` of a write that waited for the log leaves its outcome unknown
  // until the store is reopened.
  detail::PutOperation put(std::string_view key, std::string_view value) { return {core_.get(), key, value}; }
  detail::PutOperation erase(std::string_view key) { return {core_.get(), key, std::nullopt}; }
  // Puts `desired` (or erases, for nullopt) if the key has exactly the value `expected` (or is absent, for nullopt), in
  // one step. Returns whether it did.
  detail::CompareAndPutOperation compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                                 std::optional<std::string_view> desired) {
    return {core_.get(), key, expected, desired};
  }
  // Applies all of the batch or nothing. A batch too long for the log (an eighth of its largest size) completes with the
  // commit that has it, in every mode with a log. Errors: conflict when an expectation does not hold.
  [[nodiscard]] monterey::Task<> write(WriteBatch batch);
  // Erases all keys in [from, to), without `to` all from `from` on, in one step; an empty or reversed range is no change.
  // Snapshots and scans made before it still see them. Errors: invalid_argument for bounds over 1024 bytes; `from` may be empty. Durability: as put.
  // Cost: that of a put, however much the range holds. The flush after it then reads the branches above the range, two leaves at its
  // ends, and the leaves with overflow values in it, and needs some 24 bytes of memory for each page it drops; where such pages
  // lie side by side, far less. After 64 ranges the write buffer is flushed.
  [[nodiscard]] monterey::Task<> erase_range(std::string from, std::optional<std::string> to = std::nullopt);

  // Fills an empty partition from a source of entries in ascending order of their keys, each key once: packed pages, written
  // once and in large ascending writes, past the write buffer and the log, and one commit at the end. Returns the number of entries.
  // A source given as an lvalue must live until the task ends; give g++ 12 none as a temporary within a co_await, it destroys such
  // twice. Writes wait meanwhile, reads find the partition empty.
  // Durability: on completion, in every mode; a crash before leaves the partition empty.
  // Errors, which leave it empty: invalid_argument when it is not empty at the call, or for entries out of order, whose keys the
  // text has; no_space; whatever source.next() throws.
  template <BulkSource Source>
  [[nodiscard]] monterey::Task<std::uint64_t> bulk_load(Source&& source) {
    return start_bulk_load(core_, std::make_unique<detail::BulkSourceOf<Source>>(std::forward<Source>(source)));
  }

  // Everything written before the call is durable when it completes: by the log, or without one by a flush.
  [[nodiscard]] monterey::Task<> sync();
  // Merges the write buffer into the tree and commits. Returns when all written before the call is in a durable commit.
  [[nodiscard]] monterey::Task<> flush();

  // The entries of [from, to) in key order, as of now.
  [[nodiscard]] monterey::Task<Scan> scan(std::string from, std::optional<std::string> to = std::nullopt,
                                          ScanOptions options = {}) const;
  [[nodiscard]] monterey::Task<Scan> scan_prefix(std::string prefix, ScanOptions options = {}) const;

  // The partition as of now: exactly the writes applied, which a get sees. Neither suspends nor reads. Errors: poisoned: what a
  // partition shows after such a failure may not be what it is when it is reopened.
  // Cost: O(1). The flush of a buffer makes one state of the tree for each snapshot or scan that was begun within it.
  [[nodiscard]] Snapshot snapshot() const;

  // About how much [from, to) holds, without `to` all from `from` on, as of the last commit: what is not flushed is left out.
  // `entries` are those of all leaves whose part of the keys the range meets: never too few, and too many by what the two leaves at its ends
  // have outside of it. `bytes`: 4096 for each of these leaves, and, if any of them has overflow values, of all overflow blocks the share
  // that the entries have of all entries. No leaf is read. Cost: the branches above the range, about one in a hundred pages of it.
  [[nodiscard]] monterey::Task<RangeEstimate> approximate_range(std::string from,
                                                                std::optional<std::string> to = std::nullopt) const;

  // Makes the store small while reads and writes go on: flushes, packs leaves that have room, moves what lies at the end into
  // free blocks further ahead, and gives the end back to the file system or device. Works by commits of about 4 MiB, each of
  // which leaves the store whole, lets flushes pass between them, and never needs more than a little space beyond what is free.
  // Blocks that scans and other readers hold in older states stay until they let go. Errors: those of flush(); the store is
  // as the last commit left it. Calls that meet take turns.
  [[nodiscard]] monterey::Task<CompactReport> compact(CompactOptions options = {});

  // Verifies the meta pages and every page of the last commit, not the log, which open() reads and holds to its checksums, nor
  // what is not flushed: checksums, pointers, order, counts, and that every block is reachable or
  // free, exactly once. Runs beside everything else.
  [[nodiscard]] monterey::Task<CheckReport> check(CheckOptions options = {}) const;
  Stats stats() const;

  // Copies the partition as of now to another device. What is buffered is flushed first, so that the copy is of a durable state of
  // this store, whose generation the report names. Reads and writes go on here meanwhile; close() ends it with `closed`. The
  // copy is durable on completion.
  //
  // Without options.since: a store of its own on the target, with a uuid of its own, packed. A store that can be read but not flushed
  // (read-only with writes in its log, poisoned, a device that fails) is copied with what it has buffered; the report then has
  // generation 0, and nothing can follow. Errors: of the target already_exists, not_a_store, read_only and no_space, before
  // anything is written there: the text says how many blocks may be needed at most. Any later error, and damage here,
  // leaves no store on the target.
  //
  // With it: the target holds the copy of that generation, and becomes the copy of this one by a single commit, at the cost of what
  // has changed. On any error it holds the old copy, whole, or, if its last write or sync failed, perhaps the new one: the next
  // call says so. Nobody else may have the target open. Errors: invalid_argument when the target is no copy of this
  // store, or of another generation, or was written to since it was made (a compaction is no such write), or when this store
  // has lost commits since (opened by allow_rollback, or with a damaged meta page); not_a_store; read_only, of the target, or
  // of this one with writes in its log; poisoned; no_space, of the target, with the blocks that may be needed;
  // those of flush(); damage here or there. The text says what to do. A file copied by other means than this verb is the
  // same store for it: only one of the two may go on.
  //
  // Memory: 1.5 MiB for a full copy, 10 MiB for an incremental one, and the longest value.
  [[nodiscard]] monterey::Task<BackupReport> backup(std::unique_ptr<BlockDevice> target,
                                                    BackupOptions options = {}) const;

  // Refuses new work, waits for work in flight, flushes, and gives the device back, also when it throws because the flush
  // failed, or `poisoned` because an earlier one did and took writes with it. Live scans and snapshots then give `closed`.
  [[nodiscard]] monterey::Task<> close();

 private:
  friend struct detail::PartitionAccess;
  explicit Partition(std::shared_ptr<detail::PartitionCore> core);
  detail::ReadSource source() const { return {core_.get(), nullptr}; }

  static monterey::Task<std::uint64_t> start_bulk_load(std::shared_ptr<detail::PartitionCore> core,
                                                       std::unique_ptr<detail::AnyBulkSource> source);
  std::shared_ptr<detail::PartitionCore> core_;
};

}  // namespace store
