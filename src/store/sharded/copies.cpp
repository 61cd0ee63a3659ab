// Copies of a sharded store: backups, each shard's as of the same moment, and what can be saved of a damaged one.
#include <fmt/format.h>

#include <algorithm>
#include <store/error.hpp>
#include <utility>

#include "store/page/meta.hpp"
#include "store/partition/meta_io.hpp"
#include "store/sharded/shard_set.hpp"

namespace store::detail {
namespace {

using monterey::Task;
using Access = ShardDevices::Access;

// The manifest of a backup's target, as it was and as it shall be.
struct Target {
  std::shared_ptr<const ShardDevices> devices;
  std::unique_ptr<BlockDevice> manifest_device;
  std::optional<Manifest> before;
  Manifest manifest;

  ShardPlace place_of(unsigned shard) const {
    return {shard, static_cast<unsigned>(manifest.shards.size()), manifest.epoch};
  }
};

// Errors: invalid_argument when the copy there is not divided as the store is.
void require_same_layout(const Target& target, const Routing& routing) {
  const std::string where = target.manifest_device->name();
  if (!target.before || target.before->state == Manifest::State::making) {
    throw Error(Errc::not_a_store, where + ": there is no copy to bring up to date; take a full one, without `since`");
  }
  const Manifest& there = *target.before;
  if (there.shards.size() == routing.shards() && there.routing == routing.kind() && there.points == routing.points()) {
    return;
  }
  throw Error(Errc::invalid_argument,
              fmt::format("{}: the copy has {} shards and routes keys otherwise than the store with its {}; take a "
                          "full copy, without `since`",
                          where, there.shards.size(), routing.shards()));
}

// What the shard on a device says of itself.
Task<Meta> meta_of(BlockDevice& device) {
  const MetaSlots slots = co_await read_meta_slots(device);
  if (slots.candidates.empty()) throw Error(Errc::corruption, device.name() + ": no copy is there");
  co_return slots.candidates.front().meta;
}

Task<Manifest::Shard> described(const Target& target, unsigned index) {
  const auto device = co_await target.devices->open_shard(target.place_of(index), Access::read_only, false);
  const Meta meta = co_await meta_of(*device);
  co_return Manifest::Shard{uuid_text(meta.uuid), meta.generation.value};
}

}  // namespace

Task<ShardedBackupReport> ShardSet::backup(Devices devices, BackupOptions options) {
  if (options.since && *options.since != BackupOptions::kOfTarget) {
    throw Error(Errc::invalid_argument,
                "the shards of a store have generations of their own: `since` of a backup must "
                "be kOfTarget, or nothing");
  }
  const auto self = shared_from_this();
  Target target;
  target.devices = std::move(devices);
  target.manifest_device = co_await target.devices->open_manifest(Access::read_write, !options.since);
  std::exception_ptr unreadable;
  try {
    target.before = co_await read_manifest(*target.manifest_device);
  } catch (const Error&) {
    unreadable = std::current_exception();
  }
  if (unreadable && !options.overwrite) std::rethrow_exception(unreadable);
  if (options.since) require_same_layout(target, routing_);
  using State = Manifest::State;
  const bool is_store =
      target.before && target.before->state != State::making && target.before->state != State::copying;
  if (is_store && !options.since && !options.overwrite) {
    throw Error(Errc::already_exists,
                target.manifest_device->name() + ": holds a sharded store already; name another place, or overwrite");
  }
  Manifest& manifest = target.manifest;
  if (target.before) {
    manifest.sequence = target.before->sequence;
    manifest.epoch = target.before->epoch;
    options.overwrite = options.overwrite || !is_store;  // what a copy that was cut off has left
  }
  manifest.routing = routing_.kind();
  manifest.points = routing_.points();
  manifest.shards.resize(size());
  auto look = [&target, options](Shard& shard) -> Task<> {
    const auto device =
        co_await target.devices->open_shard(target.place_of(shard.index), Access::read_write, !options.since);
    if (options.since) {
      co_await PartitionAccess::core(shard.partition()).require_increment(*device);
    } else {
      const CreateOptions create{.overwrite = options.overwrite};
      co_await require_replaceable(*device, create);
    }
  };
  co_await on_all(look);
  if (!options.since) options.overwrite = true;
  const Replaced replaced = co_await look_at_replaced(*target.devices, target.before);

  const std::uint64_t snapshot = co_await take_snapshot();
  ShardedBackupReport report;
  std::exception_ptr error;
  try {
    manifest.state = options.since ? State::updating : State::copying;
    if (options.since) manifest.shards = target.before->shards;
    co_await write_manifest(*target.manifest_device, manifest);
    auto copy = [&target, options, snapshot](Shard& shard) -> Task<BackupReport> {
      auto device =
          co_await target.devices->open_shard(target.place_of(shard.index), Access::read_write, !options.since);
      co_return co_await shard.backup(snapshot, std::move(device), options);
    };
    const std::vector<BackupReport> reports = co_await on_all(copy);
    bool all_durable = true;
    for (const BackupReport& one : reports) {
      report.generations.push_back(one.generation);
      report.blocks_written += one.blocks_written;
      report.bytes += one.bytes;
      all_durable = all_durable && one.generation != 0;
    }
    if (!all_durable) std::ranges::fill(report.generations, 0);
    auto describe = [&target](Shard& shard) { return described(target, shard.index); };
    manifest.shards = co_await on_all(describe);
    manifest.state = State::whole;
    co_await write_manifest(*target.manifest_device, manifest);
  } catch (...) {
    error = std::current_exception();
  }
  co_await on_all([snapshot](Shard& shard) -> Task<> {
    shard.drop_snapshot(snapshot);
    co_return;
  });
  if (error) {
    co_await put_back(*target.devices, *target.manifest_device, replaced, manifest.sequence);
    std::rethrow_exception(error);
  }
  if (target.before) co_await remove_shards(*target.devices, target.before->epoch, size());
  co_return report;
}

Task<BackupReport> Shard::backup(std::uint64_t snapshot, std::unique_ptr<BlockDevice> target, BackupOptions options) {
  source(snapshot);
  return PartitionAccess::core(partition())
      .backup(std::move(target), options, PartitionAccess::core(snapshots_.at(snapshot)));
}

Task<SalvageReport> ShardSet::salvage(Devices damaged, DamageObserver on_damage) {
  const auto self = shared_from_this();
  Manifest manifest;
  {
    const auto device = co_await damaged->open_manifest(Access::read_only, false);
    std::optional<Manifest> found = co_await read_manifest(*device);
    if (!found) throw Error(Errc::not_a_store, device->name() + ": not a sharded store: its manifest is empty");
    manifest = *std::move(found);
    if (manifest.shards.size() != size() || manifest.routing != routing_.kind() ||
        manifest.points != routing_.points()) {
      throw Error(
          Errc::invalid_argument,
          fmt::format("{}: the store has {} shards and routes keys otherwise than the one that its entries shall "
                      "go to, with {}; create that one as this one is",
                      device->name(), manifest.shards.size(), size()));
    }
  }
  WritesHeldOff held;
  SalvageReport sum;
  std::exception_ptr error;
  try {
    co_await hold_all_off(held);
    co_await require_loadable();
    sum = co_await salvage_shards(*damaged, manifest.epoch, on_damage);
    co_await recover(false);
    auto flush = [](Shard& shard) { return shard.partition().flush(); };
    co_await on_all(flush);
  } catch (...) {
    error = std::current_exception();
  }
  co_await let_writes_in(held);
  if (error) std::rethrow_exception(error);
  co_return sum;
}

// Shard after shard, so that the observer is called by one at a time.
Task<SalvageReport> ShardSet::salvage_shards(const ShardDevices& damaged, std::uint32_t epoch,
                                             const DamageObserver& on_damage) {
  SalvageReport sum;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    const ShardPlace place{shard->index, size(), epoch};
    auto save = [&shard = *shard, place, &damaged, &on_damage]() -> Task<SalvageReport> {
      const auto device = co_await damaged.open_shard(place, Access::read_only, false);
      const std::string name = device->name();
      const DamageObserver tell = [&](const std::string& what) { on_damage(name + ": " + what); };
      co_return co_await store::salvage(*device, shard.partition(), tell);
    };
    const SalvageReport one = co_await monterey::call_on(shard->core, save);
    sum.generation = std::max(sum.generation, one.generation);
    sum.entries += one.entries;
    sum.entries_counted += one.entries_counted;
    sum.log_entries += one.log_entries;
    sum.damages += one.damages;
  }
  co_return sum;
}

}  // namespace store::detail
