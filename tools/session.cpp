#include "tools/session.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

namespace store::tool {
namespace {

constexpr std::size_t kBlockBytes = 4096;
constexpr std::size_t kMinCachePages = 64;

PartitionConfig config_of(const SessionOptions& options) {
  return {.cache_pages = std::max(kMinCachePages, options.cache_bytes / kBlockBytes),
          .wal_mode = WalMode::none,
          .write_buffer_bytes = options.write_buffer_bytes};
}

bool may_create(Access access) { return access != Access::read && access != Access::write; }

monterey::Cluster::Builder cluster_of(const SessionOptions& options) {
  std::vector<std::string> paths = options.others;
  paths.push_back(options.path);
  return cluster_for(paths);
}

// `Db` is Partition or ShardedStore, and `device` and `config` are what its makers take.
template <class Db, class Device, class Config>
monterey::Task<Db> open_store(Device device, Config config, Access access) {
  switch (access) {
    case Access::create:
    case Access::overwrite: {
      const CreateOptions create{.overwrite = access == Access::overwrite};
      co_return co_await Db::create(std::move(device), config, create);
    }
    case Access::open_or_create: co_return co_await Db::open_or_create(std::move(device), config);
    case Access::read:
    case Access::write: break;
  }
  const OpenOptions open{.read_only = access == Access::read};
  co_return co_await Db::open(std::move(device), config, open);
}

// --- a file or a namespace ---

// All arguments are the caller's, which waits in Cluster::run().
monterey::Task<> file_session(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks,
                              ExitCode& result) {
  if (hooks.before_open) co_await hooks.before_open();
  const FileBlockDeviceOptions how{.capacity_blocks = options.capacity_bytes / kBlockBytes,
                                   .create = may_create(access),
                                   .read_only = access == Access::read};
  std::unique_ptr<BlockDevice> whole = co_await open_device(options.path, how, options.window);
  const BlockDevice& device = *whole;  // the partition keeps it until close()
  if (hooks.on_read) whole = observed(std::move(whole), hooks.on_read);
  Partition db = co_await open_store<Partition>(std::move(whole), config_of(options), access);
  result = co_await work.on_file(db, device);
  co_await db.close();
}

ExitCode with_file(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks) {
  ExitCode result = ExitCode::failed;
  const auto start = [&] { monterey::spawn(file_session(options, access, work, hooks, result)); };
  cluster_of(options).buffers(config_of(options).buffer_config()).init(start).run();
  return result;
}

// --- a sharded store ---

ShardedLayout layout_of(const SessionOptions& options, Access access) {
  if (!options.layout.is_given()) return read_layout(options.path);
  require_present_device(options.path);
  require_room_for_shards(options.path);
  if (access == Access::open_or_create) return read_or_new_layout(options.path, options.layout);
  return new_layout(options.layout);
}

struct ShardsSession {
  const Access access;
  const Work& work;
  const SessionHooks& hooks;
  const std::shared_ptr<const ShardDevices> devices;
  const ShardedOptions options;
  ExitCode result = ExitCode::failed;
};

monterey::Task<> run_session(ShardsSession& session) {
  if (session.hooks.before_open) co_await session.hooks.before_open();
  ShardedStore db = co_await open_store<ShardedStore>(session.devices, session.options, session.access);
  session.result = co_await session.work.on_shards(db);
  co_await db.close();
}

ExitCode with_shards(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks) {
  require_no_window(options.path, options.window);
  const ShardedLayout layout = layout_of(options, access);
  const std::vector<std::string_view> points(layout.points.begin(), layout.points.end());
  ShardedOptions how{.shards = layout.shards, .partition = share_of(config_of(options), layout.shards), .router = {}};
  if (layout.routing == Router::Kind::ranges) how.router = Router::ranges(points);
  FileBlockDeviceOptions each;
  if (options.capacity_bytes != 0) {
    each.capacity_blocks = std::max<std::uint64_t>(1, options.capacity_bytes / kBlockBytes / layout.shards);
  }
  // Whoever shows what was read does so on core 0 alone.
  std::atomic<std::uint64_t> blocks_read = 0;
  const ReadObserver observer = [&](std::uint64_t blocks) {
    blocks_read.fetch_add(blocks, std::memory_order_relaxed);
    if (monterey::current_core() == 0) hooks.on_read(blocks_read.exchange(0, std::memory_order_relaxed));
  };
  std::shared_ptr<const ShardDevices> devices = shard_files(options.path, each);
  if (hooks.on_read) devices = observed(std::move(devices), observer);
  ShardsSession session{access, work, hooks, std::move(devices), how};
  const auto start = [&] {
    if (monterey::current_core() == 0) monterey::spawn(run_session(session));
  };
  const unsigned cores = cores_for(layout.shards);
  cluster_of(options).cores(cores).buffers(how.buffer_config(cores)).init(start).run();
  return session.result;
}

}  // namespace

ExitCode with_store(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks) {
  if (is_sharded(options.path, options.layout)) return with_shards(options, access, work, hooks);
  return with_file(options, access, work, hooks);
}

}  // namespace store::tool
