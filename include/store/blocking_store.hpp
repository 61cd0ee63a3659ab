// The blocking face of a partition, for programs without an event loop: plain calls, from any thread. A store has a thread of its own that does all
// I/O and what runs in the background. A call that finds what it needs in memory runs on the caller's thread, lookups of several threads
// at once, writes under a lock that is held only for what does not wait; every other one is done by that thread, for which the caller
// waits. For programs with an event loop: store/async_store.hpp.
//
// The verbs, their limits, their durability and their errors are those of Partition (store/partition.hpp). Besides, every call throws
// Errc::closed in a child of fork(), which may drop the store but not open it again: its file is locked by the parent, or by what the child has
// inherited; and Errc::invalid_argument on a core of a monterey cluster. If the store's thread fails, as when the kernel refuses its ring, each call
// throws why; the file then stays locked by this process until it ends, as the kernel may still be at work on it. It blocks all signals that are not of its own making. What was made by a store (scans, snapshots) keeps its thread going, and
// belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <store/config.hpp>
#include <store/detail/bulk_source.hpp>
#include <store/scan.hpp>
#include <store/stats.hpp>
#include <store/write_batch.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace store {

struct StoreOptions {
  std::uint64_t cache_bytes = std::uint64_t{64} << 20;  // of cached pages
  WalMode wal_mode = WalMode::batched;
  std::size_t write_buffer_bytes = std::size_t{32} << 20;
  std::uint64_t capacity_bytes = 0;  // what a file may grow to; 0: what the format allows
  bool create = true;                // makes the store if there is none
};

class Store;
class StoreSnapshot;

namespace detail {
class StoreCore;
class StoreScanCore;
struct StoreAccess;
}  // namespace detail

// A walk over a range of entries in key order, as of its start. As a range: `for (const StoreScan::Entry& entry : db.scan("a"))`, once.
class StoreScan {
 public:
  struct Entry {
    std::string_view key;
    std::string_view value;
  };
  class Iterator;

  StoreScan(StoreScan&&) noexcept;
  StoreScan& operator=(StoreScan&&) noexcept;
  ~StoreScan();

  // Goes to the next entry; false at the end. The entry's views are valid until the next call, or until the scan is moved. Errors: those of
  // Scan::advance().
  bool next();
  const Entry& entry() const noexcept { return entry_; }
  // Whether next() will return without waiting.
  bool is_ready() const noexcept;
  // The next next() goes to the first entry at or after `key` (at or before it in reverse), within the range.
  void seek(std::string_view key);

  // Goes to the first entry that next() has not given yet.
  Iterator begin();
  static std::default_sentinel_t end() noexcept { return {}; }

 private:
  friend class detail::StoreCore;
  explicit StoreScan(std::unique_ptr<detail::StoreScanCore> core);

  std::unique_ptr<detail::StoreScanCore> core_;
  Entry entry_;
};

class StoreScan::Iterator {
 public:
  using iterator_concept = std::input_iterator_tag;
  using value_type = Entry;
  using difference_type = std::ptrdiff_t;

  explicit Iterator(StoreScan& scan) : scan_(scan.next() ? &scan : nullptr) {}
  const Entry& operator*() const noexcept { return scan_->entry(); }
  const Entry* operator->() const noexcept { return &scan_->entry(); }
  Iterator& operator++() {
    if (!scan_->next()) scan_ = nullptr;
    return *this;
  }
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const noexcept { return scan_ == nullptr; }

 private:
  StoreScan* scan_;
};

inline StoreScan::Iterator StoreScan::begin() { return Iterator(*this); }

// The store as of one moment: see Snapshot.
class StoreSnapshot {
 public:
  StoreSnapshot(StoreSnapshot&&) noexcept;
  StoreSnapshot& operator=(StoreSnapshot&&) noexcept;
  ~StoreSnapshot();

  std::optional<std::string> get(std::string_view key) const;
  bool contains(std::string_view key) const;
  std::vector<std::optional<std::string>> get_many(std::span<const std::string_view> keys) const;
  StoreScan scan(std::string_view from = {}, std::optional<std::string> to = std::nullopt,
                 ScanOptions options = {}) const;
  StoreScan scan_prefix(std::string_view prefix, ScanOptions options = {}) const;

 private:
  friend class detail::StoreCore;
  struct Held;
  explicit StoreSnapshot(std::unique_ptr<Held> held);

  std::unique_ptr<Held> held_;
};

class Store {
 public:
  // Opens the store in a file or on an NVMe namespace (its character device), or makes it. Errors: those of Partition::open and create; not_found when
  // there is none and it is not to be made.
  static Store open(std::string path, StoreOptions options = {});
  // Opens it for reading. Errors: locked while another process has it open for writing: what it reads may be overwritten by that one at any time,
  // since only readers of its own hold blocks back.
  static Store open_read_only(std::string path, StoreOptions options = {});

  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  // Closes it if close() was not called; what goes wrong then is not told.
  ~Store();

  std::optional<std::string> get(std::string_view key) const;
  bool contains(std::string_view key) const;
  // As Partition::get_into.
  std::optional<std::size_t> get_into(std::string_view key, std::span<std::byte> into,
                                      GetIntoOptions options = {}) const;
  // get_into() for those that must not wait: nullopt, outside, when it would take I/O or another thread is at work in the store; then nothing is known.
  std::optional<std::optional<std::size_t>> try_get_into(std::string_view key, std::span<std::byte> into,
                                                         GetIntoOptions options = {}) const;
  std::vector<std::optional<std::string>> get_many(std::span<const std::string_view> keys) const;

  void put(std::string_view key, std::string_view value);
  void erase(std::string_view key);
  bool compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                       std::optional<std::string_view> desired);
  void write(WriteBatch batch);
  void erase_range(std::string_view from, std::optional<std::string> to = std::nullopt);
  // As Partition::bulk_load; source.next() is called on the store's own thread, where all other calls wait for it: it must not wait itself, nor
  // call a blocking store.
  template <BulkSource Source>
  std::uint64_t bulk_load(Source&& source) {
    detail::BulkSourceOf<Source> any(std::forward<Source>(source));
    return bulk_load_from(any);
  }

  StoreScan scan(std::string_view from = {}, std::optional<std::string> to = std::nullopt,
                 ScanOptions options = {}) const;
  StoreScan scan_prefix(std::string_view prefix, ScanOptions options = {}) const;
  StoreSnapshot snapshot() const;
  RangeEstimate approximate_range(std::string_view from = {}, std::optional<std::string> to = std::nullopt) const;

  void sync();
  void flush();
  CompactReport compact(CompactOptions options = {});
  // Into a file; of a store on a namespace into another one, too.
  BackupReport backup(std::string target, BackupOptions options = {}) const;
  CheckReport check(CheckOptions options = {}) const;
  Stats stats() const;
  // Flushes and gives the file back; every later call throws Errc::closed. Errors: those of Partition::close.
  void close();

 private:
  friend struct detail::StoreAccess;
  explicit Store(std::shared_ptr<detail::StoreCore> core);
  std::uint64_t bulk_load_from(detail::AnyBulkSource& source);
  detail::StoreCore& core() const;

  std::shared_ptr<detail::StoreCore> core_;
};

}  // namespace store
