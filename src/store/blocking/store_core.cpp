#include "store/blocking/store_core.hpp"

#include <algorithm>
#include <store/nvme_block_device.hpp>
#include <system_error>
#include <thread>

#include "store/base/units.hpp"

namespace store::detail {
namespace {

using monterey::Task;

constexpr std::size_t kMinCachePages = 64;

PartitionConfig config_of(const StoreOptions& options) {
  PartitionConfig config;
  config.cache_pages = std::max<std::size_t>(kMinCachePages, options.cache_bytes / kPageBytes);
  config.wal_mode = options.wal_mode;
  config.write_buffer_bytes = options.write_buffer_bytes;
  return config;
}

monterey::Cluster::Builder cluster_of(const std::string& path, const StoreOptions& options) {
  auto builder = monterey::Cluster::builder();
  builder.buffers(config_of(options).buffer_config()).device_commands(is_nvme_path(path));
  return builder;
}

Task<Partition> open_partition(std::string path, StoreOptions options, bool read_only) {
  const FileBlockDeviceOptions how{.capacity_blocks = blocks_for(options.capacity_bytes),
                                   .create = options.create && !read_only,
                                   .read_only = read_only};
  std::unique_ptr<BlockDevice> device = co_await open_device(std::move(path), how);
  if (how.create) co_return co_await Partition::open_or_create(std::move(device), config_of(options));
  const OpenOptions open{.read_only = read_only};
  co_return co_await Partition::open(std::move(device), config_of(options), open);
}

}  // namespace

Task<std::unique_ptr<BlockDevice>> open_device(std::string path, FileBlockDeviceOptions how) {
  if (is_nvme_path(path)) {
    const NvmeBlockDeviceOptions options{.read_only = how.read_only};
    co_return co_await NvmeBlockDevice::open(std::move(path), options);
  }
  co_return co_await FileBlockDevice::open(std::move(path), how);
}

// In a child of fork() it is never destroyed: the thread that it belongs to is not there. That thread itself cannot destroy it either, when
// the last to use it was a callback there; another one does, or nobody where there can be no more threads.
std::shared_ptr<StoreCore> StoreCore::open(std::string path, StoreOptions options, bool read_only) {
  const auto destroy = [](StoreCore* core) {
    if (core->owner.is_forked()) return;
    if (!core->owner.is_own_thread()) {
      delete core;
      return;
    }
    try {
      std::thread([core] { delete core; }).detach();
    } catch (const std::system_error&) {
      // It stays open until the process ends.
    }
  };
  return {new StoreCore(std::move(path), options, read_only), destroy};
}

StoreCore::StoreCore(std::string path, StoreOptions options, bool read_only) : owner(cluster_of(path, options)) {
  db.emplace(owner.run([&] { return open_partition(path, options, read_only); }));
}

StoreCore::~StoreCore() {
  if (!is_closed.load(std::memory_order_relaxed)) {
    try {
      close();
    } catch (const std::exception&) {
      // Nobody is told.
    }
  }
  drop_there(db);
}

void StoreCore::close() {
  owner.require_not_forked();
  if (owner.is_here()) throw Error(Errc::invalid_argument, "a store cannot be closed on its own thread");
  is_closed.store(true, std::memory_order_relaxed);
  owner.run_anywhere([this]() -> Task<> {
    std::exception_ptr error;
    try {
      co_await db->close();
    } catch (...) {
      error = std::current_exception();
    }
    co_await monterey::yield();  // calls that have ended and gave up their turn are told before
    if (error) std::rethrow_exception(error);
  });
}

Stats StoreCore::stats() {
  owner.require_usable();
  const Owner::Inside inside(owner);
  Stats stats = db->stats();
  for (const SlotReader& reader : readers) {
    stats.gets += reader.gets;
    stats.cache_hits += reader.cache_hits;
  }
  return stats;
}

}  // namespace store::detail
