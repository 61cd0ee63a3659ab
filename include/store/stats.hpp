// What a partition reports about itself. Counters count from open; gauges are of the moment.
#pragma once

#include <chrono>
#include <cstdint>
#include <store/latency_histogram.hpp>
#include <string>
#include <vector>

namespace store {

// A live snapshot.
struct SnapshotStats {
  std::uint64_t sequence = 0;       // of the last write that it sees
  std::chrono::nanoseconds age{0};  // since it was taken
  std::uint64_t held_blocks = 0;    // superseded, kept for it, alone or with other readers
};

// Which state of another store a store is a copy of.
struct CopyOrigin {
  std::string uuid;              // of that store; empty: it is no copy, or was written to since
  std::uint64_t generation = 0;  // there
};

struct Stats {
  // The store.
  std::string uuid;
  CopyOrigin origin;             // as of the last commit
  std::uint64_t generation = 0;  // last durable commit
  std::uint64_t entries = 0;     // in the tree, as of that commit
  std::uint64_t height = 0;      // levels of the tree; 0 is empty
  std::uint64_t tree_pages = 0;
  std::uint64_t overflow_blocks = 0;
  std::uint64_t allocator_pages = 0;
  std::uint64_t high_water_blocks = 0;  // blocks from here on were never used
  std::uint64_t free_blocks = 0;        // reusable now, below the high-water mark
  std::uint64_t held_blocks = 0;        // superseded, kept for readers of older states
  std::uint64_t device_blocks = 0;      // backed by the device now
  std::uint64_t capacity_blocks = 0;
  // The write buffers.
  std::uint64_t buffered_entries = 0;
  std::uint64_t buffered_bytes = 0;
  std::uint64_t last_sequence = 0;
  // The log.
  std::uint64_t incarnation = 0;  // 1, and one more for each writable open with a log, this one included
  std::uint64_t log_segments = 0;
  std::uint64_t log_bytes = 0;       // of all segments
  std::uint64_t log_used_bytes = 0;  // what a crash now would have to replay, at most
  std::uint64_t log_groups = 0;      // made durable, each by one durable write
  std::uint64_t log_records = 0;
  std::uint64_t log_bytes_written = 0;
  std::uint64_t replayed_bytes = 0;    // of the log, read by open
  std::uint64_t replayed_records = 0;  // of those, records that were not merged yet
  std::uint64_t replayed_entries = 0;
  // The page cache.
  std::uint64_t cache_frames = 0;
  std::uint64_t cache_hits = 0;
  std::uint64_t cache_misses = 0;
  std::uint64_t cache_evictions = 0;
  std::uint64_t cache_pinned = 0;
  // Operations.
  std::uint64_t gets = 0;
  std::uint64_t puts = 0;  // puts, erases and erased ranges, each of a batch included
  std::uint64_t flushes = 0;
  std::uint64_t flush_pages_read = 0;
  std::uint64_t flush_pages_written = 0;
  std::uint64_t flush_writes = 0;  // device writes of the flushes; pages / writes is the mean write size
  // How long operations took, by the core's clock (docs/metrics.md). Of those that waited, failures are included, but for flushes. A get is a get, contains, get_pinned or get_into, a put a put
  // or an erase; get_many, compare_and_put and batches are in none of them.
  LatencyHistogram get_cached;    // gets that read nothing from the device, one in 251 of them
  LatencyHistogram get_read;      // all others, from when they begin to read
  LatencyHistogram put_buffered;  // puts that waited for nothing, one in 251 of them
  LatencyHistogram put_waited;    // all others, from when they begin to wait: for the log under per_op, for room
  LatencyHistogram flush;         // from the first step of a merge to its commit; as many as `flushes`
  LatencyHistogram sync;          // calls of sync()
  // What open() met and mended, in words; empty when all was well.
  std::vector<std::string> open_notes;
  std::vector<SnapshotStats> snapshots;  // in the order in which they were taken
  // Why writes are refused, if they are.
  std::string poisoned;
};

struct RangeEstimate {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;  // that they take on the device
};

struct CompactReport {
  // There is nothing more to do now. Else call again; if readers hold older states in the tail, when they are gone.
  bool finished = false;
  std::uint64_t bytes_moved = 0;  // written anew
  std::uint64_t bytes_freed = 0;  // by which the device became smaller
};

struct CheckReport {
  bool ok = false;
  std::vector<std::string> errors;  // one finding each: where, what, expected and found
  std::uint64_t pages = 0;          // read and verified: tree, allocator, overflow blocks
  std::uint64_t entries = 0;
};

struct BackupReport {
  // The state of the source that the copy holds, for the `since` of the next one. 0: none can follow.
  std::uint64_t generation = 0;
  std::uint64_t blocks_written = 0;  // to the target
  std::uint64_t bytes = 0;           // that the copy takes on the target
};

}  // namespace store
