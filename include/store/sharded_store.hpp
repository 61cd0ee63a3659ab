// Many partitions as one store, each on a core: nothing is shared between them but messages. A key belongs to one shard, by the router;
// shard i is opened on core i % core_count(), so there may be more shards than cores.
//
// The handle may be copied and used on every core of the cluster that opened it; what it gives (values, scans, snapshots) belongs to the
// core that asked. A call for a shard of another core is one message there and one back. All handles dropped without close() leave the
// shards as a crash would. No handle may outlive the cluster.
//
// The verbs are Partition's, with the same rules and errors; a message for each verb names the shard that failed. One shard that fails
// (poisoned, a device error) leaves the others serving. Keys that begin with 64 bytes 0xff are the store's own: invalid_argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <monterey/cluster.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <span>
#include <store/block_device.hpp>
#include <store/config.hpp>
#include <store/detail/bulk_source.hpp>
#include <store/detail/operation.hpp>
#include <store/pinned_value.hpp>
#include <store/router.hpp>
#include <store/salvage.hpp>
#include <store/stats.hpp>
#include <store/write_batch.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace store {

class ShardedScan;
class ShardedSnapshot;
class ShardedStore;

// Which shard is meant, of how many. A store that was divided anew has an epoch more, and devices of its own for it: both are there until
// all is copied.
struct ShardPlace {
  unsigned shard = 0;
  unsigned shards = 0;
  std::uint32_t epoch = 0;
};

// Where the shards lie. Its calls may come from any core, several at once, so it holds no state that changes.
class ShardDevices {
 public:
  ShardDevices() = default;
  ShardDevices(const ShardDevices&) = delete;
  ShardDevices& operator=(const ShardDevices&) = delete;
  virtual ~ShardDevices() = default;

  enum class Access : std::uint8_t { read_only, read_write };

  // The device that says what the shards are, of at least 4 MiB. `create`: make it if it is missing. Called first.
  virtual monterey::Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool create) const = 0;
  // That of a shard. Called on the shard's core. `create`: make it if it is missing.
  virtual monterey::Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access,
                                                                  bool create) const = 0;
  // Gives up the device of a shard that the store has no more, if it is there. Nobody has it open.
  virtual monterey::Task<> remove_shard(ShardPlace place) const = 0;
};

// A file for each shard in a directory, which is made with the store; `each` is of one file.
std::shared_ptr<const ShardDevices> shard_files(std::string directory, FileBlockDeviceOptions each = {});
// Windows of one NVMe namespace, of the same size; behind the first 4 MiB, which hold the manifest.
std::shared_ptr<const ShardDevices> shard_windows(std::string path);

struct ShardedOptions {
  unsigned shards =
      0;  // 0: as the store has; of a new one, as its split points say, else one for each core. At most 1024
  PartitionConfig partition;  // of each shard
  Router router;

  // What a cluster of so many cores must register on each of them. Requires: `shards` is set, or there is one a core.
  monterey::BufferConfig buffer_config(unsigned cores) const;
};
static_assert(std::is_trivially_destructible_v<ShardedOptions>);

// How a store is made up; chosen when it is made, and by reshard().
struct ShardedLayout {
  unsigned shards = 0;
  Router::Kind routing = Router::Kind::hash;
  std::vector<std::string> points;  // of ranges
};

struct ShardStats {
  std::string name;  // of the shard's device
  unsigned core = 0;
  std::optional<Stats> stats;
  std::string failure;  // why there are none, or why the shard refuses writes; empty otherwise
};

struct ShardedStats {
  std::vector<ShardStats> shards;
  Router::Kind routing = Router::Kind::any;
};

struct ShardedBackupReport {
  std::vector<std::uint64_t> generations;  // of each shard; all of them 0: no increment can follow
  std::uint64_t blocks_written = 0;        // to the target
  std::uint64_t bytes = 0;                 // that the copy takes there
};

// Told how far reshard() is: how many entries are copied, and of how many, as far as that is known.
using ReshardObserver = std::function<void(std::uint64_t copied, std::uint64_t all)>;

struct ShardCheck {
  std::string name;
  CheckReport report;
};

namespace detail {

class ShardSet;

// What a verb reads: the newest state, or, unless it is 0, a snapshot.
struct ShardSource {
  ShardSet* set = nullptr;
  std::uint64_t snapshot = 0;
};

class [[nodiscard]] ShardedGet final : public Operation<ShardedGet, std::optional<std::string>> {
 private:
  friend class store::ShardedStore;
  friend class store::ShardedSnapshot;
  friend class Operation<ShardedGet, std::optional<std::string>>;
  ShardedGet(ShardSource source, std::string_view key) : source_(source), key_(key) {}
  bool try_now();
  std::optional<std::string> take() { return std::move(result_); }
  monterey::Task<std::optional<std::string>> later();

  ShardSource source_;
  std::string_view key_;
  std::optional<std::string> result_;
};

class [[nodiscard]] ShardedContains final : public Operation<ShardedContains, bool> {
 private:
  friend class store::ShardedStore;
  friend class store::ShardedSnapshot;
  friend class Operation<ShardedContains, bool>;
  ShardedContains(ShardSource source, std::string_view key) : source_(source), key_(key) {}
  bool try_now();
  bool take() const { return result_; }
  monterey::Task<bool> later();

  ShardSource source_;
  std::string_view key_;
  bool result_ = false;
};

class [[nodiscard]] ShardedGetPinned final : public Operation<ShardedGetPinned, std::optional<PinnedValue>> {
 private:
  friend class store::ShardedStore;
  friend class store::ShardedSnapshot;
  friend class Operation<ShardedGetPinned, std::optional<PinnedValue>>;
  ShardedGetPinned(ShardSource source, std::string_view key) : source_(source), key_(key) {}
  bool try_now();
  std::optional<PinnedValue> take() { return std::move(result_); }
  monterey::Task<std::optional<PinnedValue>> later();

  ShardSource source_;
  std::string_view key_;
  std::optional<PinnedValue> result_;
};

class [[nodiscard]] ShardedGetInto final : public Operation<ShardedGetInto, std::optional<std::size_t>> {
 private:
  friend class store::ShardedStore;
  friend class store::ShardedSnapshot;
  friend class Operation<ShardedGetInto, std::optional<std::size_t>>;
  ShardedGetInto(ShardSource source, std::string_view key, std::span<std::byte> into, GetIntoOptions options)
      : source_(source), key_(key), into_(into), options_(options) {}
  bool try_now();
  std::optional<std::size_t> take() const { return result_; }
  monterey::Task<std::optional<std::size_t>> later();

  ShardSource source_;
  std::string_view key_;
  std::span<std::byte> into_;
  GetIntoOptions options_;
  std::optional<std::size_t> result_;
};

class [[nodiscard]] ShardedGetMany final : public Operation<ShardedGetMany, std::vector<std::optional<PinnedValue>>> {
 private:
  using Values = std::vector<std::optional<PinnedValue>>;
  friend class store::ShardedStore;
  friend class store::ShardedSnapshot;
  friend class Operation<ShardedGetMany, Values>;
  ShardedGetMany(ShardSource source, std::span<const std::string_view> keys) : source_(source), keys_(keys) {}
  bool try_now();
  std::int32_t units() const noexcept { return static_cast<std::int32_t>(keys_.size() + 1); }
  Values take() { return std::move(result_); }
  monterey::Task<Values> later();

  ShardSource source_;
  std::span<const std::string_view> keys_;
  std::vector<std::uint32_t> shards_;  // of the keys
  Values result_;
};

// put and erase: a value of nullopt erases.
class [[nodiscard]] ShardedPut final : public Operation<ShardedPut, void> {
 private:
  friend class store::ShardedStore;
  friend class Operation<ShardedPut, void>;
  ShardedPut(ShardSet* set, std::string_view key, std::optional<std::string_view> value)
      : set_(set), key_(key), value_(value) {}
  bool try_now();
  void take() const {}
  monterey::Task<> later();

  ShardSet* set_;
  std::string_view key_;
  std::optional<std::string_view> value_;
};

class [[nodiscard]] ShardedCompareAndPut final : public Operation<ShardedCompareAndPut, bool> {
 private:
  friend class store::ShardedStore;
  friend class Operation<ShardedCompareAndPut, bool>;
  ShardedCompareAndPut(ShardSet* set, std::string_view key, std::optional<std::string_view> expected,
                       std::optional<std::string_view> desired)
      : set_(set), key_(key), expected_(expected), desired_(desired) {}
  bool try_now();
  bool take() const { return result_; }
  monterey::Task<bool> later();

  ShardSet* set_;
  std::string_view key_;
  std::optional<std::string_view> expected_;
  std::optional<std::string_view> desired_;
  bool result_ = false;
};

class MergedScan;
struct SnapshotHold;

class [[nodiscard]] ShardedAdvance final : public Operation<ShardedAdvance, bool> {
 private:
  friend class store::ShardedScan;
  friend class Operation<ShardedAdvance, bool>;
  explicit ShardedAdvance(MergedScan& scan) : scan_(scan) {}
  bool try_now();
  bool take() const { return result_; }
  monterey::Task<bool> later();

  MergedScan& scan_;
  bool result_ = false;
};

}  // namespace detail

// A walk over a key range of all shards, in key order, as of its start: see Scan. Entries of shards on other cores come in pieces of up to
// 64 KiB, the next one while this one is walked; those of this core are not copied. After ShardedStore::close() it gives `closed`.
class ShardedScan {
 public:
  ShardedScan(ShardedScan&&) noexcept;
  ShardedScan& operator=(ShardedScan&&) noexcept;
  ~ShardedScan();

  // As of Scan.
  [[nodiscard]] detail::ShardedAdvance advance();
  std::string_view key() const noexcept;
  std::string_view value() const noexcept;
  [[nodiscard]] monterey::Task<> seek(std::string key);

 private:
  friend class ShardedSnapshot;
  friend class ShardedStore;
  explicit ShardedScan(std::unique_ptr<detail::MergedScan> scan);
  static monterey::Task<ShardedScan> start(std::shared_ptr<detail::SnapshotHold> snapshot, std::string from,
                                           std::optional<std::string> to, ScanOptions options);

  std::unique_ptr<detail::MergedScan> scan_;
};

// All shards as of one moment: if a write had completed before another began, it sees the first one if it sees the second. See Snapshot.
// Belongs to the core it was made on.
class ShardedSnapshot {
 public:
  ShardedSnapshot(ShardedSnapshot&&) noexcept;
  ShardedSnapshot& operator=(ShardedSnapshot&&) noexcept;
  ~ShardedSnapshot();

  detail::ShardedGet get(std::string_view key) const { return {source(), key}; }
  detail::ShardedContains contains(std::string_view key) const { return {source(), key}; }
  detail::ShardedGetPinned get_pinned(std::string_view key) const { return {source(), key}; }
  detail::ShardedGetInto get_into(std::string_view key, std::span<std::byte> into, GetIntoOptions options = {}) const {
    return {source(), key, into, options};
  }
  detail::ShardedGetMany get_many(std::span<const std::string_view> keys) const { return {source(), keys}; }
  [[nodiscard]] monterey::Task<ShardedScan> scan(std::string from, std::optional<std::string> to = std::nullopt,
                                                 ScanOptions options = {}) const;
  [[nodiscard]] monterey::Task<ShardedScan> scan_prefix(std::string prefix, ScanOptions options = {}) const;

 private:
  friend class ShardedStore;
  explicit ShardedSnapshot(std::shared_ptr<detail::SnapshotHold> hold);
  detail::ShardSource source() const;

  std::shared_ptr<detail::SnapshotHold> hold_;
};

class ShardedStore {
 public:
  // Makes an empty store in a directory, or on devices. Errors: as Partition::create of the shard that is named; invalid_argument for a
  // number of shards or a router that cannot be.
  static monterey::Task<ShardedStore> create(std::string directory, ShardedOptions options, CreateOptions create = {});
  static monterey::Task<ShardedStore> create(std::shared_ptr<const ShardDevices> devices, ShardedOptions options,
                                             CreateOptions create = {});
  // Opens one, and finishes the batches across shards that a crash cut off. Errors: those of Partition::open of the shard that is named;
  // not_a_store; invalid_argument when there are not as many shards as options.shards or they are routed otherwise than options.router
  // says; corruption when a shard is missing, is another one of this store, is of another store, or is older than the others; read_only
  // when batches wait to be finished, or a bulk load that was cut off to be taken back.
  static monterey::Task<ShardedStore> open(std::string directory, ShardedOptions options, OpenOptions open = {});
  static monterey::Task<ShardedStore> open(std::shared_ptr<const ShardDevices> devices, ShardedOptions options,
                                           OpenOptions open = {});
  // Reads the manifest alone: for who has to know the number of shards before there is a cluster with buffers for them. Errors: not_found,
  // not_a_store, corruption, unsupported_format; locked when another process has the store open for writing.
  static monterey::Task<ShardedLayout> layout(std::shared_ptr<const ShardDevices> devices);
  // Divides a store that nobody has open anew, as options.shards and options.router say, into other devices, and gives up those that it had.
  // Returns the number of entries copied, 0 if it is so divided already. A crash leaves it as it was, or divided anew; what else it leaves, and
  // what could not be given up, goes with the next call. Needs room for both. The cluster must have registered buffers for the store as it
  // is and as it shall be. The observer is called on this core. Errors: those of open() and create(), and invalid_argument for windows of
  // a namespace, which has no room for both: the store is then as it was, but if writing the manifest itself fails perhaps divided anew.
  static monterey::Task<std::uint64_t> reshard(std::shared_ptr<const ShardDevices> devices, ShardedOptions options,
                                               ReshardObserver observer = {});
  // Opens, or creates where there is no manifest.
  static monterey::Task<ShardedStore> open_or_create(std::string directory, ShardedOptions options);
  static monterey::Task<ShardedStore> open_or_create(std::shared_ptr<const ShardDevices> devices,
                                                     ShardedOptions options);

  detail::ShardedGet get(std::string_view key) const { return {source(), key}; }
  detail::ShardedContains contains(std::string_view key) const { return {source(), key}; }
  detail::ShardedGetPinned get_pinned(std::string_view key) const { return {source(), key}; }
  detail::ShardedGetInto get_into(std::string_view key, std::span<std::byte> into, GetIntoOptions options = {}) const {
    return {source(), key, into, options};
  }
  // One message to each core that has keys of it.
  detail::ShardedGetMany get_many(std::span<const std::string_view> keys) const { return {source(), keys}; }

  detail::ShardedPut put(std::string_view key, std::string_view value) { return {set_.get(), key, value}; }
  detail::ShardedPut erase(std::string_view key) { return {set_.get(), key, std::nullopt}; }
  detail::ShardedCompareAndPut compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                               std::optional<std::string_view> desired) {
    return {set_.get(), key, expected, desired};
  }
  // All of the batch or nothing, also across a crash and several shards; a part on several shards is durable on completion. Who reads
  // while it is written may see one shard's part before another's; snapshots and scans see all of it or nothing. Other writes to its
  // shards wait meanwhile. Errors: those of
  // Partition::write; invalid_argument for several shards without a log, nothing changed; poisoned when the shard that decides fails as it
  // does so: the outcome is unknown until the store is reopened.
  [[nodiscard]] monterey::Task<> write(WriteBatch batch);
  // In one step with a log; without one shard after shard.
  [[nodiscard]] monterey::Task<> erase_range(std::string from, std::optional<std::string> to = std::nullopt);

  // As Partition::bulk_load, on this core, of an empty store: each shard loads what is its own beside the others. Other writes, and
  // snapshots and scans that begin, wait meanwhile; who reads at its end may see one shard's entries before another's. A crash before its
  // completion leaves the store empty. Errors, which leave it empty, too; poisoned when that fails, until the store is reopened.
  template <BulkSource Source>
  [[nodiscard]] monterey::Task<std::uint64_t> bulk_load(Source&& source) {
    return start_bulk_load(set_, std::make_unique<detail::BulkSourceOf<Source>>(std::forward<Source>(source)));
  }

  [[nodiscard]] monterey::Task<ShardedScan> scan(std::string from, std::optional<std::string> to = std::nullopt,
                                                 ScanOptions options = {}) const;
  [[nodiscard]] monterey::Task<ShardedScan> scan_prefix(std::string prefix, ScanOptions options = {}) const;
  // Cost: two messages to each core and back; writes that end meanwhile wait for the second. Errors: those of Partition::snapshot.
  [[nodiscard]] monterey::Task<ShardedSnapshot> snapshot() const;
  [[nodiscard]] monterey::Task<RangeEstimate> approximate_range(std::string from,
                                                                std::optional<std::string> to = std::nullopt) const;

  // Of all shards at once; the first error in their order is thrown when all have ended.
  [[nodiscard]] monterey::Task<> sync();
  [[nodiscard]] monterey::Task<> flush();
  // `finished` if all shards are; max_bytes_moved is of each.
  [[nodiscard]] monterey::Task<CompactReport> compact(CompactOptions options = {});
  // One report a shard, in their order.
  [[nodiscard]] monterey::Task<std::vector<ShardCheck>> check(CheckOptions options = {}) const;
  // Copies all shards, as of one moment, to other devices, as a store of as many shards: see Partition::backup, whose errors these are.
  // options.since is kOfTarget or nothing: the shards have generations of their own. What was there stays on an error before any of its shards
  // was changed. A crash or an error behind that leaves a copy that does not open until the backup was run again.
  [[nodiscard]] monterey::Task<ShardedBackupReport> backup(std::shared_ptr<const ShardDevices> target,
                                                           BackupOptions options = {}) const;
  // Also of shards that fail.
  [[nodiscard]] monterey::Task<ShardedStats> stats() const;
  // Ends all shards; all handles are closed then. Errors: the first in their order, when all have ended.
  [[nodiscard]] monterey::Task<> close();

  unsigned shards() const;
  unsigned shard_of(std::string_view key) const;
  // The core that a key's shard is on: who works there needs no messages.
  unsigned core_of(std::string_view key) const;

 private:
  explicit ShardedStore(std::shared_ptr<detail::ShardSet> set);
  static monterey::Task<ShardedScan> scan_of(std::shared_ptr<detail::ShardSet> set, std::string from,
                                             std::optional<std::string> to, ScanOptions options);
  static monterey::Task<ShardedSnapshot> snapshot_of(std::shared_ptr<detail::ShardSet> set);
  static monterey::Task<std::uint64_t> start_bulk_load(std::shared_ptr<detail::ShardSet> set,
                                                       std::unique_ptr<detail::AnyBulkSource> source);
  friend monterey::Task<SalvageReport> salvage(std::shared_ptr<const ShardDevices> damaged, ShardedStore& into,
                                               DamageObserver on_damage);
  detail::ShardSource source() const { return {set_.get(), 0}; }

  std::shared_ptr<detail::ShardSet> set_;
};

// Puts what can be read of each shard of a damaged store into `into`, shard after shard: see salvage() of one device, whose errors these
// are. Batches across shards that wait to be finished are finished, where their decision can be read. Requires: `into` is empty, and divided as
// the damaged one is (ShardedStore::layout); else invalid_argument. The observer is called by one shard's core at a time. Where the manifest is damaged, salvage each shard's device as a store of its own.
monterey::Task<SalvageReport> salvage(std::shared_ptr<const ShardDevices> damaged, ShardedStore& into,
                                      DamageObserver on_damage);

}  // namespace store
