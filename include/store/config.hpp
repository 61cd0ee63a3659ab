// Configuration and per-call options. All are aggregates with defaults, for designated initializers; none owns memory,
// since g++ 12 destroys aggregate temporaries with non-trivial members twice in expressions with co_await.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <monterey/cluster.hpp>
#include <optional>
#include <type_traits>

namespace store {

enum class WalMode {
  none,     // durable after flush() or sync(); a crash returns to the last commit
  batched,  // durable when its group is synced, which is written wal_batch_interval after the write at the latest
  per_op,   // durable when the write completes
};

struct PartitionConfig {
  std::size_t cache_pages = 16384;  // 4 KiB frames, all of them in FixedBufs; at least 8
  WalMode wal_mode = WalMode::batched;
  std::chrono::microseconds wal_batch_interval{1000};  // 0 (write at once) to an hour
  std::size_t write_buffer_bytes = 32u << 20;          // a full buffer is handed to the flusher; 16 KiB to 32 GiB
  std::size_t write_buffer_count = 2;  // one active + frozen ones waiting; then writers wait; at least 2
  std::size_t io_depth = 128;          // reads in flight for batches, scans and merges, a value's own as one; 2..1024

  // The memory that a partition of this configuration may use: frames, buffers (arena, index, runs), staging, I/O in flight. Beyond
  // it: what a batch too long for a buffer or the log needs, 1 MiB a value over 64 KiB being put and for a compaction, 24 bytes a stretch of blocks
  // that a flush supersedes, what backup() says it takes and, opened read-only, all that the log has.
  std::size_t memory_bytes() const;
  // What the cluster must register for a partition of this configuration; `+` adds several.
  monterey::BufferConfig buffer_config() const;
};

struct CreateOptions {
  bool overwrite = false;  // replace what is on the device, a store included
};

struct OpenOptions {
  // When the log, or the newest commit, is damaged or unreadable: open without the log, or the older commit. Loses what came
  // after it. The lost log device of a store may be replaced by a blank one in this way.
  bool allow_rollback = false;
  bool read_only = false;
};

struct ScanOptions {
  bool reverse = false;                                             // from the end of the range to its start
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();  // entries after which the scan ends
  std::uint32_t prefetch_pages = 1024;                              // read-ahead grows up to this; 0 turns it off
};

struct GetIntoOptions {
  std::uint64_t offset = 0;  // of the first byte of the value that is wanted
};

struct BackupOptions {
  static constexpr std::uint64_t kOfTarget = std::numeric_limits<std::uint64_t>::max();

  // Bring the target, which holds the copy of this generation (BackupReport::generation), or of whichever it says (kOfTarget), up
  // to date instead of writing a new copy.
  std::optional<std::uint64_t> since = std::nullopt;
  bool overwrite = false;  // of a full copy: replace what is on the target, a store included
};

struct CheckOptions {
  std::size_t max_errors = 100;  // the check stops after so many findings
};

struct CompactOptions {
  // The call ends behind the commit that has reached this; another goes on from there.
  std::uint64_t max_bytes_moved = std::numeric_limits<std::uint64_t>::max();
};

// The open end of a range.
inline constexpr std::nullopt_t unbounded = std::nullopt;

static_assert(std::is_trivially_destructible_v<PartitionConfig> && std::is_trivially_destructible_v<CreateOptions> &&
              std::is_trivially_destructible_v<OpenOptions> && std::is_trivially_destructible_v<ScanOptions> &&
              std::is_trivially_destructible_v<GetIntoOptions> && std::is_trivially_destructible_v<BackupOptions> &&
              std::is_trivially_destructible_v<CheckOptions> && std::is_trivially_destructible_v<CompactOptions>);

}  // namespace store
