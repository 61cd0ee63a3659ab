// What is behind a ShardedStore: the shards, the routing and what all cores may read of it. The vector and the routing do not change after
// open; each shard belongs to its core. Shared by the handles, by what they gave out and by operations that suspended.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <monterey/when_all.hpp>
#include <set>
#include <store/salvage.hpp>
#include <store/sharded_store.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "store/sharded/manifest.hpp"
#include "store/sharded/routing.hpp"
#include "store/sharded/shard.hpp"

namespace store::detail {

std::string text_of(const std::exception_ptr& error);
// Gives up the devices of shards from number `first` on, as many as there can be. What cannot be given up stays.
monterey::Task<> remove_shards(const ShardDevices& devices, std::uint32_t epoch, unsigned first = 0);
// Of a new store. Errors: invalid_argument.
Routing new_routing(const ShardedOptions& options);

class ShardSet : public std::enable_shared_from_this<ShardSet> {
 public:
  using Devices = std::shared_ptr<const ShardDevices>;

  static monterey::Task<std::shared_ptr<ShardSet>> create(Devices devices, ShardedOptions options,
                                                          CreateOptions create);
  static monterey::Task<std::shared_ptr<ShardSet>> open(Devices devices, ShardedOptions options, OpenOptions open);
  static monterey::Task<std::shared_ptr<ShardSet>> open_or_create(Devices devices, ShardedOptions options);

  static monterey::Task<ShardedLayout> layout(Devices devices);

  // What a core has for itself.
  struct alignas(128) OfCore {
    std::size_t users = 0;
    std::shared_ptr<ShardSet> kept;  // while there are any
    std::size_t value_bytes = 0;     // of the values that came last from other cores, each
    // Of one step, kept for their memory.
    PinnedValues found;
    CopiedValues::Views views;
  };

  // Keeps the set while an operation of this core is under way. A count that all cores share would be a line that they wait for each
  // other for, at every operation.
  class Use {
   public:
    explicit Use(ShardSet& set) : of_core_(&set.of_core()) {
      if (of_core_->users++ == 0) of_core_->kept = set.shared_from_this();
    }
    Use(Use&& other) noexcept : of_core_(std::exchange(other.of_core_, nullptr)) {}
    Use& operator=(Use&&) = delete;
    ~Use() {
      if (of_core_ == nullptr || --of_core_->users > 0) return;
      const std::shared_ptr<ShardSet> last = std::move(of_core_->kept);
    }

   private:
    OfCore* of_core_;
  };
  OfCore& of_core() noexcept { return of_cores_[monterey::detail::Reactor::current().core()]; }

  ShardSet(Devices devices, const ShardedOptions& options, Routing routing);
  ShardSet(const ShardSet&) = delete;
  ShardSet& operator=(const ShardSet&) = delete;
  // Drops the shards that are open still, each on its core.
  ~ShardSet();

  const Routing& routing() const noexcept { return routing_; }
  unsigned size() const noexcept { return static_cast<unsigned>(shards_.size()); }
  Shard& shard(unsigned index) const noexcept { return *shards_[index]; }
  // The shard of a user's key. Errors: invalid_argument beyond the limits.
  Shard& of(std::string_view key) const {
    check_user_key(key);
    return *shards_[routing_.shard_of(key)];
  }
  static bool is_here(const Shard& shard) noexcept { return shard.core == monterey::detail::Reactor::current().core(); }
  // Of a snapshot or a scan, or of a batch across shards.
  std::uint64_t next_number() noexcept { return numbers_.fetch_add(1, std::memory_order_relaxed); }
  bool has_log() const noexcept { return options_.partition.wal_mode != WalMode::none; }
  // Whether a write is durable when it completes.
  bool is_durable_at_once() const noexcept { return options_.partition.wal_mode == WalMode::per_op; }
  std::uint64_t run() const noexcept { return run_; }

  // Runs `fn(shard) -> Task<T>` on the cores of the shards of a range, all at once; results in their order.
  template <class Fn>
  auto on_range(ShardRange range, Fn fn) const {
    using T = typename std::invoke_result_t<Fn&, Shard&>::value_type;
    std::vector<monterey::Task<T>> tasks;
    tasks.reserve(range.end - range.first);
    for (unsigned i = range.first; i < range.end; ++i) {
      tasks.push_back(
          monterey::call_on(shards_[i]->core, [fn, shard = shards_[i].get()]() mutable { return fn(*shard); }));
    }
    return monterey::when_all(std::move(tasks));
  }
  template <class Fn>
  auto on_all(Fn fn) const {
    return on_range(ShardRange{0, size()}, std::move(fn));
  }

  // --- transaction.cpp ---
  using Parts = std::map<unsigned, WriteBatch>;  // by shard
  // Applies a batch of users' changes.
  monterey::Task<> write(WriteBatch batch);
  // Finishes the batches that a crash cut off, in the order in which they began. Errors: read_only when there are any and it may not.
  monterey::Task<> recover(bool read_only);

  // --- bulk_load.cpp ---
  monterey::Task<std::uint64_t> bulk_load(AnyBulkSource& source);
  // Gives the entries of a source to the shards, which are empty and nobody else's. What an error leaves there is not specified.
  monterey::Task<std::uint64_t> fill(AnyBulkSource& source);

  // --- copies.cpp ---
  monterey::Task<ShardedBackupReport> backup(Devices target, BackupOptions options);
  // Puts into these shards, which are empty, what can be read of others.
  monterey::Task<SalvageReport> salvage(Devices damaged, DamageObserver on_damage);

  // --- reshard.cpp ---
  static monterey::Task<std::uint64_t> reshard(Devices devices, ShardedOptions options, ReshardObserver observer);

  // --- snapshots and scans ---
  // The number of a new snapshot of all shards.
  monterey::Task<std::uint64_t> take_snapshot();

  monterey::Task<> close();

  // Batches across shards hold a unit while they run; a snapshot holds all of them. Of the core of shard 0.
  monterey::Semaphore batches{Shard::kAllWrites};

 private:
  // What keeps others from writing, and the store from being closed. let_writes_in() gives back what was taken of it.
  struct WritesHeldOff {
    monterey::Gate::Holder inside;  // of shard 0
    std::size_t batches = 0;        // units
    std::vector<unsigned> shards;   // all units of their writes
  };
  monterey::Task<> hold_batches_off(std::size_t units, WritesHeldOff& held);
  monterey::Task<> hold_writes_off(std::vector<unsigned> indices, WritesHeldOff& held);
  monterey::Task<> hold_all_off(WritesHeldOff& held);
  monterey::Task<> let_writes_in(WritesHeldOff& held);

  monterey::Task<> write_across(Parts& parts);
  monterey::Task<> write_in_two_phases(Parts& parts, monterey::Gate::Holder inside);
  monterey::Task<> finish_unfinished(Shard& shard, const std::vector<Shard::Unfinished>& list,
                                     const std::vector<std::set<BatchId>>& decided,
                                     const std::vector<bool>& failed_to_look);
  static monterey::Task<> clean_up(std::shared_ptr<ShardSet> self, monterey::Gate::Holder inside, BatchId id,
                                   unsigned first, std::vector<unsigned> others);
  monterey::Task<SalvageReport> salvage_shards(const ShardDevices& damaged, std::uint32_t epoch,
                                               const DamageObserver& on_damage);
  monterey::Task<> require_loadable();
  monterey::Task<std::uint64_t> load_empty(AnyBulkSource& source);
  monterey::Task<> empty_all();

  monterey::Task<std::uint64_t> copy_all_of(ShardSet& from, ReshardObserver observer);
  monterey::Task<> remove_leftovers();
  monterey::Task<> drop_all();
  ShardPlace place_of(const Shard& shard) const { return {shard.index, size(), manifest_.epoch}; }
  // A store that is about to be replaced or changed on these devices: its manifest, and what its shards say of themselves.
  struct Replaced {
    std::optional<Manifest> manifest;
    std::vector<std::string> shards;
  };
  monterey::Task<Replaced> look_at_replaced(const ShardDevices& devices, std::optional<Manifest> manifest);
  // Writes its manifest again, over the one of this sequence, if none of its shards was changed. Does not throw.
  monterey::Task<> put_back(const ShardDevices& devices, BlockDevice& manifest_device, Replaced replaced,
                            std::uint64_t sequence);
  monterey::Task<std::vector<std::string>> look_at_shards(const ShardDevices& devices, std::uint32_t epoch);
  monterey::Task<> require_replaceable_shard(Shard& shard, CreateOptions create);
  monterey::Task<Manifest::Shard> create_shard(Shard& shard, CreateOptions create);
  monterey::Task<Manifest::Shard> open_shard(Shard& shard, OpenOptions open);
  // Opens or makes the manifest's device, and with it takes its lock, for as long as this lives.
  monterey::Task<> make_manifest();
  // Writes down what the shards are and how far they have come, or what goes on with them. On any core.
  monterey::Task<> record(std::vector<Manifest::Shard> shards);
  monterey::Task<> record_state(Manifest::State state);
  void drop_manifest() noexcept;

  const Devices devices_;
  const ShardedOptions options_;  // its router's points are not there any more
  const Routing routing_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<OfCore> of_cores_;
  std::unique_ptr<BlockDevice> manifest_device_;  // of manifest_core_, as what follows
  unsigned manifest_core_ = 0;
  Manifest manifest_;
  bool read_only_ = false;
  std::atomic<bool> closing_{false};
  std::uint64_t run_ = 0;  // differs from that of every other open
  std::atomic<std::uint64_t> numbers_{1};
};

}  // namespace store::detail
