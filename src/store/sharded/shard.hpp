// One shard: a partition, and what its core keeps beside it for all shards together. But for its number, core and name it belongs to that
// core: who is elsewhere goes there by call_on().
//
// Invariants:
//  * Every write of users holds a unit of `writes` from before it looks at anything until it is applied, a batch across shards all
//    of them; who holds them all sees no write begin or end.
//  * While a snapshot of all shards is being taken (withholding_), no write that was applied is acknowledged.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <span>
#include <store/partition.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/partition/partition_access.hpp"

namespace store::detail {

class BulkFeed;

// Values copied on their way to another core, in one piece of memory. Made by the core that they are for, so that it frees what it has
// allocated itself.
class CopiedValues {
 public:
  // Of so many values, with room for so many bytes; more are allocated by who copies.
  CopiedValues(std::size_t values, std::size_t bytes);

  // On the core that has them.
  using Views = std::vector<std::optional<std::string_view>>;
  void copy(const Views& values);

  // On the core that they were for: as parts of the memory, which then belongs to them.
  std::optional<PinnedValue> value(std::size_t i) const;
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  static constexpr std::uint32_t kAbsent = std::numeric_limits<std::uint32_t>::max();
  struct Place {
    std::size_t offset = 0;
    std::uint32_t bytes = kAbsent;
  };
  // Holds one use of the memory.
  struct Release {
    void operator()(SharedBytes* memory) const noexcept {
      if (--memory->users == 0) SharedBytes::free(memory);
    }
  };

  static std::unique_ptr<SharedBytes, Release> allocate(std::size_t bytes);

  std::size_t room_;
  std::size_t bytes_ = 0;  // of all values
  std::unique_ptr<SharedBytes, Release> memory_;
  std::vector<Place> places_;  // in the order of the keys
};

// Entries on their way to another core, copied.
struct EntryPiece {
  struct Entry {
    std::size_t offset = 0;  // of the key; the value follows it
    std::uint32_t key_bytes = 0;
    std::uint32_t value_bytes = 0;
  };
  std::string bytes;
  std::vector<Entry> entries;
  bool last = false;         // there are none behind them
  std::exception_ptr error;  // what there was instead

  void add(std::string_view key, std::string_view value) {
    entries.push_back({bytes.size(), static_cast<std::uint32_t>(key.size()), static_cast<std::uint32_t>(value.size())});
    bytes.append(key);
    bytes.append(value);
  }
  std::string_view key(std::size_t i) const { return {bytes.data() + entries[i].offset, entries[i].key_bytes}; }
  std::string_view value(std::size_t i) const {
    return {bytes.data() + entries[i].offset + entries[i].key_bytes, entries[i].value_bytes};
  }
};

// Of a batch across shards: differs from that of every other one, of other runs too.
struct BatchId {
  std::uint64_t run = 0;
  std::uint64_t number = 0;
  auto operator<=>(const BatchId&) const = default;
};

class Shard {
 public:
  Shard(unsigned number, unsigned home) : index(number), core(home) {}
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  const unsigned index;
  const unsigned core;
  std::string name;  // of its device; set once, when it is opened

  // --- on its core ---
  void open(Partition partition) { partition_.emplace(std::move(partition)); }
  // Errors: closed; poisoned after fail().
  Partition& partition();
  // Also after fail(). Errors: closed.
  Partition& partition_to_check();
  bool is_open() const { return partition_.has_value(); }
  // What a verb reads: the newest state, or, unless it is 0, a snapshot. Errors: closed.
  ReadSource source(std::uint64_t snapshot);

  monterey::Task<std::optional<std::string>> get(std::uint64_t snapshot, std::string_view key);
  monterey::Task<bool> contains(std::uint64_t snapshot, std::string_view key);
  monterey::Task<std::optional<std::size_t>> get_into(std::uint64_t snapshot, std::string_view key,
                                                      std::span<std::byte> into, GetIntoOptions options);
  monterey::Task<PinnedValues> get_many(std::uint64_t snapshot, std::span<const std::string_view> keys);
  // `views` is memory to work with.
  monterey::Task<> get_many_copies(std::uint64_t snapshot, std::span<const std::string_view> keys,
                                   CopiedValues::Views* views, CopiedValues* into);

  // Whether a write may be applied and acknowledged now, without waiting for anybody.
  bool is_free() const { return !withholding_ && writes.available() > 0 && writes.waiting() == 0; }
  monterey::Task<> put(std::string_view key, std::optional<std::string_view> value);
  monterey::Task<bool> compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                       std::optional<std::string_view> desired);
  monterey::Task<> write(WriteBatch batch);
  monterey::Task<> erase_range(std::string from, std::string to);
  // Of a snapshot.
  monterey::Task<BackupReport> backup(std::uint64_t snapshot, std::unique_ptr<BlockDevice> target,
                                      BackupOptions options);
  // Errors: as Partition::bulk_load; what the feed was given instead of entries. The feed is closed then.
  monterey::Task<std::uint64_t> bulk_load(std::shared_ptr<BulkFeed> feed);
  // Waits until acknowledgements are let through.
  monterey::Task<> acknowledge();

  // Snapshots and scans have numbers, given out by who makes them. Each is taken back by the same.
  // Acknowledgements of writes wait from this moment until let_acknowledge().
  monterey::Task<> take_snapshot(std::uint64_t number);
  void drop_snapshot(std::uint64_t number) { snapshots_.erase(number); }
  monterey::Task<> begin_scan(std::uint64_t number, std::uint64_t snapshot, std::string from, std::string to,
                              ScanOptions options);
  std::shared_ptr<Scan> scan(std::uint64_t number);
  void drop_scan(std::uint64_t number) { scans_.erase(number); }
  // The next entries, of about `bytes` together, at least one. Throws nothing: who asked may be gone.
  monterey::Task<EntryPiece> read_scan(std::uint64_t number, std::size_t bytes);
  monterey::Task<> seek_scan(std::uint64_t number, std::string key);

  void let_acknowledge() {
    withholding_ = false;
    acknowledging_.pulse();
  }

  // --- batches across shards (transaction.cpp) ---
  // Each wants the batch to hold units of `writes`.
  // Checks the expectations of a part of a batch, and makes it durable without applying it. Keeps the space that applying it takes.
  monterey::Task<> prepare(BatchId id, unsigned coordinator, const WriteBatch& part);
  // Applies the coordinator's part and with it the decision to apply the others; durable. Errors: *in_doubt says whether it may
  // have been written.
  monterey::Task<> decide(BatchId id, WriteBatch part, bool* in_doubt);
  // Applies what is prepared and decided. Durability: as a write. Errors: poisoned, as fail().
  monterey::Task<> finish_decided(BatchId id, WriteBatch changes);
  monterey::Task<> forget_prepared(BatchId id);
  // Nothing is read or written here any more until the store is reopened: what is here may not be what was decided.
  void fail(const std::string& why) { failure_ = name + ": " + why; }
  bool is_failed() const { return !failure_.empty(); }
  monterey::Task<> forget(BatchId id);  // the decision
  struct Unfinished {
    BatchId id;
    bool is_decision = false;
    unsigned coordinator = 0;  // of what is prepared
  };
  // What a crash has left.
  monterey::Task<std::vector<Unfinished>> unfinished();
  // Applies or forgets it.
  monterey::Task<> finish_prepared(BatchId id, bool apply);

  monterey::Task<> require_open() {
    static_cast<void>(partition());
    co_return;
  }

  // Waits for what runs in the background; nothing new begins.
  monterey::Gate background;

  // Closes the partition, and with it all that reads it. Returns the generation that is durable then.
  monterey::Task<std::uint64_t> close();
  // Drops it, as a crash would.
  void drop();

  static constexpr std::size_t kAllWrites = std::size_t{1} << 30;
  monterey::Semaphore writes{kAllWrites};

 private:
  monterey::Task<> finish(BatchId id, WriteBatch changes);
  void give_space(BatchId id);

  std::optional<Partition> partition_;
  std::string failure_;                   // why nothing is read or written any more
  std::map<BatchId, PendingSpace> kept_;  // for what is prepared
  std::map<std::uint64_t, Snapshot> snapshots_;
  std::map<std::uint64_t, std::shared_ptr<Scan>> scans_;  // shared with who reads from it
  bool withholding_ = false;
  monterey::Event acknowledging_;
};

}  // namespace store::detail
