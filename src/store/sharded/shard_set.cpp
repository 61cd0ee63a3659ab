#include "store/sharded/shard_set.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <store/error.hpp>
#include <utility>

#include "store/page/meta.hpp"
#include "store/partition/meta_io.hpp"

namespace store::detail {
namespace {

using monterey::Task;

std::uint64_t random_number() {
  std::uint64_t number = 0;
  if (getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number)) {
    throw Error::from_errno(errno, "getrandom for the name of a run");
  }
  return number;
}

// Errors: invalid_argument when the store is not what is asked for.
Routing routing_of(const Manifest& manifest, const ShardedOptions& options, const std::string& device) {
  Routing routing(manifest.routing, static_cast<unsigned>(manifest.shards.size()), manifest.points);
  if (options.shards != 0 && options.shards != routing.shards()) {
    throw Error(
        Errc::invalid_argument,
        fmt::format(
            "{}: the store has {} shards, not {}; open it with {} or with 0, or divide it anew by `store reshard`",
            device, routing.shards(), options.shards, routing.shards()));
  }
  const Router& router = options.router;
  const bool same_kind = router.kind() == Router::Kind::any || router.kind() == routing.kind();
  const bool same_points = router.kind() != Router::Kind::ranges ||
                           std::ranges::equal(router.points(), routing.points(), std::equal_to<std::string_view>());
  if (same_kind && same_points) return routing;
  throw Error(Errc::invalid_argument,
              fmt::format("{}: the store routes keys {}, not as asked for; open it without a router, or divide it "
                          "anew by `store reshard`",
                          device,
                          routing.kind() == Router::Kind::hash
                              ? std::string("by their hash")
                              : fmt::format("by {} other split points", routing.points().size())));
}

// Its own, since the caller's points are gone when it is used.
ShardedOptions without_router(ShardedOptions options) {
  options.router = Router();
  return options;
}

// Holds what a shard's device says of itself to what the manifest does, before anything is written to it.
Task<> require_same(BlockDevice& device, const Manifest& manifest, unsigned index, OpenOptions open) {
  const MetaSlots slots = co_await read_meta_slots(device);
  const std::string where = fmt::format("{} (shard {} of {})", device.name(), index, manifest.shards.size());
  if (slots.blank) {
    throw Error(Errc::corruption, where + ": the shard is empty; restore all shards from one backup");
  }
  if (slots.candidates.empty()) co_return;  // opening it says what is wrong
  const Meta& meta = slots.candidates.front().meta;
  const std::string uuid = uuid_text(meta.uuid);
  const Manifest::Shard& expected = manifest.shards[index];
  if (uuid != expected.uuid) {
    const auto other = std::ranges::find(manifest.shards, uuid, &Manifest::Shard::uuid);
    throw Error(Errc::corruption, other != manifest.shards.end()
                                      ? fmt::format("{}: this is shard {}: two were exchanged; put each in its place",
                                                    where, other - manifest.shards.begin())
                                      : fmt::format("{}: of another store ({}, not {}); put the right one in its place",
                                                    where, uuid, expected.uuid));
  }
  if (meta.generation.value < expected.generation && !open.allow_rollback) {
    throw Error(
        Errc::corruption,
        fmt::format("{}: older than the other shards: it is at generation {} and was at {} already; restore all "
                    "shards from one backup",
                    where, meta.generation.value, expected.generation));
  }
}

}  // namespace

Routing new_routing(const ShardedOptions& options) {
  const auto points = options.router.points();
  unsigned shards = options.shards;
  const bool by_points = options.router.kind() == Router::Kind::ranges;
  if (shards == 0) shards = by_points ? static_cast<unsigned>(points.size()) + 1 : monterey::core_count();
  const auto kind = by_points ? Router::Kind::ranges : Router::Kind::hash;
  return {kind, shards, std::vector<std::string>(points.begin(), points.end())};
}

ShardSet::ShardSet(Devices devices, const ShardedOptions& options, Routing routing)
    : devices_(std::move(devices)),
      options_(without_router(options)),
      routing_(std::move(routing)),
      of_cores_(monterey::core_count()),
      run_(random_number()) {
  for (unsigned i = 0; i < routing_.shards(); ++i) {
    shards_.push_back(std::make_unique<Shard>(i, i % monterey::core_count()));
  }
}

ShardSet::~ShardSet() {
  drop_manifest();
  for (std::unique_ptr<Shard>& shard : shards_) {
    // Nobody has a handle any more, so this core knows what the others did.
    if (!shard->is_open()) continue;
    if (monterey::detail::Reactor::try_current() == nullptr) {
      static_cast<void>(
          shard.release());  // the cluster is gone, and with it the memory that the partition would give back
    } else if (is_here(*shard)) {
      shard->drop();
    } else {
      const unsigned core = shard->core;
      monterey::spawn_on(core, [owned = std::shared_ptr<Shard>(std::move(shard))]() -> Task<> {
        owned->drop();
        co_return;
      });
    }
  }
}

Task<Manifest::Shard> ShardSet::create_shard(Shard& shard, CreateOptions create) {
  auto device = co_await devices_->open_shard(place_of(shard), ShardDevices::Access::read_write, true);
  shard.name = device->name();
  shard.open(co_await Partition::create(std::move(device), options_.partition, create));
  const Stats stats = shard.partition().stats();
  co_return Manifest::Shard{stats.uuid, stats.generation};
}

Task<Manifest::Shard> ShardSet::open_shard(Shard& shard, OpenOptions open) {
  const auto access = open.read_only ? ShardDevices::Access::read_only : ShardDevices::Access::read_write;
  std::unique_ptr<BlockDevice> device;
  try {
    device = co_await devices_->open_shard(place_of(shard), access, false);
  } catch (const Error& error) {
    if (error.errc() != Errc::not_found) throw;
    throw Error(Errc::corruption, fmt::format("shard {} of {} is missing ({}); restore all shards from one backup",
                                              shard.index, size(), error.what()));
  }
  shard.name = device->name();
  co_await require_same(*device, manifest_, shard.index, open);
  shard.open(co_await Partition::open(std::move(device), options_.partition, open));
  const Stats stats = shard.partition().stats();
  co_return Manifest::Shard{stats.uuid, stats.generation};
}

Task<> ShardSet::make_manifest() {
  manifest_core_ = monterey::current_core();
  manifest_device_ = co_await devices_->open_manifest(ShardDevices::Access::read_write, true);
}

Task<> ShardSet::record(std::vector<Manifest::Shard> shards) {
  auto write = [this, &shards]() -> Task<> {
    manifest_.shards = std::move(shards);
    co_await write_manifest(*manifest_device_, manifest_);
  };
  co_await monterey::call_on(manifest_core_, write);
}

Task<> ShardSet::record_state(Manifest::State state) {
  auto write = [this, state]() -> Task<> {
    const Manifest::State before = std::exchange(manifest_.state, state);
    std::exception_ptr error;
    try {
      co_await write_manifest(*manifest_device_, manifest_);
    } catch (...) {
      error = std::current_exception();
      manifest_.state = before;
    }
    if (error) std::rethrow_exception(error);
  };
  co_await monterey::call_on(manifest_core_, write);
}

void ShardSet::drop_manifest() noexcept {
  if (!manifest_device_) return;
  monterey::detail::Reactor* const here = monterey::detail::Reactor::try_current();
  if (here == nullptr) {
    static_cast<void>(manifest_device_.release());  // as the shards of a cluster that is gone
  } else if (here->core() == manifest_core_) {
    manifest_device_.reset();
  } else {
    monterey::spawn_on(manifest_core_,
                       [owned = std::shared_ptr<BlockDevice>(std::move(manifest_device_))]() mutable -> Task<> {
                         owned.reset();
                         co_return;
                       });
  }
}

// Errors: those of Partition::create for a device that a new store may not replace.
Task<> ShardSet::require_replaceable_shard(Shard& shard, CreateOptions create) {
  const auto device = co_await devices_->open_shard(place_of(shard), ShardDevices::Access::read_write, true);
  co_await require_replaceable(*device, create);
}

Task<> remove_shards(const ShardDevices& devices, std::uint32_t epoch, unsigned first) {
  for (unsigned i = first; i < kMaxShards; ++i) {
    try {
      co_await devices.remove_shard({i, kMaxShards, epoch});
    } catch (const Error&) {
      // It takes room, and the next that makes or divides the store tries again.
    }
  }
}

Task<std::vector<std::string>> ShardSet::look_at_shards(const ShardDevices& devices, std::uint32_t epoch) {
  auto look = [this, &devices, epoch](Shard& shard) -> Task<std::string> {
    const ShardPlace place{shard.index, size(), epoch};
    std::string text;
    try {
      const auto device = co_await devices.open_shard(place, ShardDevices::Access::read_only, false);
      const MetaSlots slots = co_await read_meta_slots(*device);
      for (const auto& candidate : slots.candidates) {
        text += fmt::format("{} {} ", uuid_text(candidate.meta.uuid), candidate.meta.generation.value);
      }
    } catch (const Error& error) {
      text = error.what();
    }
    co_return text;
  };
  co_return co_await on_all(look);
}

Task<ShardSet::Replaced> ShardSet::look_at_replaced(const ShardDevices& devices, std::optional<Manifest> manifest) {
  Replaced replaced;
  // With another number of shards they may lie elsewhere.
  if (!manifest || manifest->shards.size() != size()) co_return replaced;
  replaced.shards = co_await look_at_shards(devices, manifest->epoch);
  replaced.manifest = std::move(manifest);
  co_return replaced;
}

Task<> ShardSet::put_back(const ShardDevices& devices, BlockDevice& manifest_device, Replaced replaced,
                          std::uint64_t sequence) {
  if (!replaced.manifest) co_return;
  try {
    const std::vector<std::string> now = co_await look_at_shards(devices, replaced.manifest->epoch);
    if (now != replaced.shards) co_return;
    replaced.manifest->sequence = sequence;
    co_await write_manifest(manifest_device, *replaced.manifest);
  } catch (const std::exception&) {
    // The error that led here is thrown.
  }
}

Task<std::shared_ptr<ShardSet>> ShardSet::create(Devices devices, ShardedOptions options, CreateOptions create) {
  Routing routing = new_routing(options);
  auto self = std::make_shared<ShardSet>(devices, options, std::move(routing));
  co_await self->make_manifest();
  std::optional<Manifest> before;
  try {
    before = co_await read_manifest(*self->manifest_device_);
  } catch (const Error&) {
    if (!create.overwrite) throw;
  }
  const bool was_cut_off = before && before->state == Manifest::State::making;
  if (before && !was_cut_off && !create.overwrite) {
    throw Error(Errc::already_exists,
                fmt::format("{}: holds a sharded store already; open it, or create with overwrite "
                            "to replace it",
                            self->manifest_device_->name()));
  }
  // Nothing is written before it is known that all shards may be, and are this process's to write.
  if (was_cut_off) create.overwrite = true;
  if (before) self->manifest_.epoch = before->epoch;
  auto look = [set = self.get(), create](Shard& shard) { return set->require_replaceable_shard(shard, create); };
  co_await self->on_all(look);
  if (before) self->manifest_.sequence = before->sequence;
  self->manifest_.routing = self->routing_.kind();
  self->manifest_.points = self->routing_.points();
  const Replaced replaced = co_await self->look_at_replaced(*devices, before);
  create.overwrite = true;
  std::exception_ptr error;
  try {
    // What a crash leaves of it from here on may be made anew.
    self->manifest_.state = Manifest::State::making;
    co_await self->record(std::vector<Manifest::Shard>(self->size()));
    auto create_one = [set = self.get(), create](Shard& shard) { return set->create_shard(shard, create); };
    std::vector<Manifest::Shard> shards = co_await self->on_all(create_one);
    self->manifest_.state = Manifest::State::whole;
    co_await self->record(std::move(shards));
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    co_await self->drop_all();
    co_await self->put_back(*devices, *self->manifest_device_, replaced, self->manifest_.sequence);
    std::rethrow_exception(error);
  }
  if (before) co_await remove_shards(*devices, before->epoch, self->size());
  co_return self;
}

namespace {

[[noreturn]] void throw_cut_off_creation(const BlockDevice& device) {
  throw Error(Errc::not_a_store, device.name() +
                                     ": the store was being made when that was cut off; create it anew, with "
                                     "the number of shards or the split points that it shall have");
}

// Of a store that can be opened. Errors: not_a_store.
Task<Manifest> require_manifest(BlockDevice& device) {
  std::optional<Manifest> manifest = co_await read_manifest(device);
  if (!manifest) {
    throw Error(Errc::not_a_store, device.name() + ": not a sharded store: its manifest is empty; create one first");
  }
  if (manifest->state == Manifest::State::making) throw_cut_off_creation(device);
  if (manifest->state == Manifest::State::copying) {
    throw Error(Errc::not_a_store, device.name() + ": a backup into it was cut off; run it again");
  }
  if (manifest->state == Manifest::State::updating) {
    throw Error(Errc::not_a_store, device.name() +
                                       ": an incremental backup into it was cut off, so that its shards "
                                       "are of different moments; run the backup again");
  }
  co_return *std::move(manifest);
}

}  // namespace

Task<ShardedLayout> ShardSet::layout(Devices devices) {
  const auto device = co_await devices->open_manifest(ShardDevices::Access::read_only, false);
  std::optional<Manifest> manifest = co_await read_manifest(*device);
  if (!manifest) {
    throw Error(Errc::not_a_store, device->name() + ": not a sharded store: its manifest is empty; create one first");
  }
  if (manifest->state == Manifest::State::making) throw_cut_off_creation(*device);
  ShardedLayout layout;
  layout.shards = static_cast<unsigned>(manifest->shards.size());
  layout.routing = manifest->routing;
  layout.points = std::move(manifest->points);
  co_return layout;
}

Task<std::shared_ptr<ShardSet>> ShardSet::open(Devices devices, ShardedOptions options, OpenOptions open) {
  // The points of the router live until the first suspension.
  const std::vector<std::string> points(options.router.points().begin(), options.router.points().end());
  const std::vector<std::string_view> views(points.begin(), points.end());
  if (options.router.kind() == Router::Kind::ranges) options.router = Router::ranges(views);
  const auto access = open.read_only ? ShardDevices::Access::read_only : ShardDevices::Access::read_write;
  std::unique_ptr<BlockDevice> device = co_await devices->open_manifest(access, false);
  Manifest manifest = co_await require_manifest(*device);
  auto self = std::make_shared<ShardSet>(devices, options, routing_of(manifest, options, device->name()));
  const bool was_loading = manifest.state == Manifest::State::loading;
  if (was_loading && open.read_only) {
    throw Error(Errc::read_only, device->name() +
                                     ": a bulk load was cut off and is to be taken back; open the store "
                                     "for writing once");
  }
  self->manifest_core_ = monterey::current_core();
  self->manifest_device_ = std::move(device);
  self->manifest_ = std::move(manifest);
  self->read_only_ = open.read_only;
  auto open_one = [set = self.get(), open](Shard& shard) { return set->open_shard(shard, open); };
  std::vector<Manifest::Shard> shards = co_await self->on_all(open_one);
  if (was_loading) {
    co_await self->empty_all();
    self->manifest_.state = Manifest::State::whole;
  }
  co_await self->recover(open.read_only);
  if (!open.read_only) co_await self->record(std::move(shards));
  co_return self;
}

Task<std::shared_ptr<ShardSet>> ShardSet::open_or_create(Devices devices, ShardedOptions options) {
  const std::vector<std::string> points(options.router.points().begin(), options.router.points().end());
  const std::vector<std::string_view> views(points.begin(), points.end());
  if (options.router.kind() == Router::Kind::ranges) options.router = Router::ranges(views);
  std::optional<Manifest> manifest;
  {
    const auto device = co_await devices->open_manifest(ShardDevices::Access::read_write, true);
    manifest = co_await read_manifest(*device);
  }
  if (manifest && manifest->state != Manifest::State::making)
    co_return co_await open(std::move(devices), options, OpenOptions{});
  co_return co_await create(std::move(devices), options, CreateOptions{});
}

Task<std::uint64_t> ShardSet::take_snapshot() {
  const auto self = shared_from_this();
  const std::uint64_t number = next_number();
  auto shut_out = [this]() -> Task<> { co_await batches.acquire(Shard::kAllWrites); };
  auto let_in = [this]() -> Task<> {
    batches.release(Shard::kAllWrites);
    co_return;
  };
  co_await monterey::call_on(shards_[0]->core, shut_out);
  std::exception_ptr error;
  try {
    co_await on_all([number](Shard& shard) { return shard.take_snapshot(number); });
  } catch (...) {
    error = std::current_exception();
  }
  co_await on_all([number, failed = error != nullptr](Shard& shard) -> Task<> {
    shard.let_acknowledge();
    if (failed) shard.drop_snapshot(number);
    co_return;
  });
  co_await monterey::call_on(shards_[0]->core, let_in);
  if (error) std::rethrow_exception(error);
  co_return number;
}

namespace {

struct Closed {
  std::uint64_t generation = 0;
  std::exception_ptr error;
};

Task<Closed> close_shard(Shard& shard) {
  Closed closed;
  try {
    closed.generation = co_await shard.close();
  } catch (...) {
    closed.error = std::current_exception();
  }
  co_return closed;
}

}  // namespace

Task<> ShardSet::close() {
  const auto self = shared_from_this();
  if (closing_.exchange(true)) throw Error(Errc::closed, "the sharded store is closed; open it again to use it");
  co_await on_all([](Shard& shard) -> Task<> { co_await shard.background.close(); });
  const std::vector<Closed> closed = co_await on_all(close_shard);
  std::exception_ptr error;
  std::vector<Manifest::Shard> shards = manifest_.shards;
  for (std::size_t i = 0; i < closed.size(); ++i) {
    if (closed[i].error && !error) error = closed[i].error;
    if (!closed[i].error) shards[i].generation = closed[i].generation;
  }
  if (!read_only_ && !error) {
    try {
      co_await record(std::move(shards));
    } catch (...) {
      error = std::current_exception();
    }
  }
  auto let_go = [this]() -> Task<> {
    manifest_device_.reset();
    co_return;
  };
  co_await monterey::call_on(manifest_core_, let_go);
  if (error) std::rethrow_exception(error);
}

}  // namespace store::detail
