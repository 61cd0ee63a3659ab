#include "tools/session.hpp"

#include <algorithm>
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

FileBlockDeviceOptions device_options(const SessionOptions& options, Access access) {
  const bool may_create = access != Access::read && access != Access::write;
  return {.capacity_blocks = options.capacity_bytes / kBlockBytes,
          .create = may_create,
          .read_only = access == Access::read};
}

monterey::Task<Partition> open_partition(std::unique_ptr<BlockDevice> device, PartitionConfig config, Access access) {
  switch (access) {
    case Access::create:
    case Access::overwrite: {
      const CreateOptions create{.overwrite = access == Access::overwrite};
      co_return co_await Partition::create(std::move(device), config, create);
    }
    case Access::open_or_create: co_return co_await Partition::open_or_create(std::move(device), config);
    case Access::read:
    case Access::write: break;
  }
  const OpenOptions open{.read_only = access == Access::read};
  co_return co_await Partition::open(std::move(device), config, open);
}

// The options, the work and the result are the caller's, which waits in Cluster::run().
monterey::Task<> session(const SessionOptions& options, Access access, const Work& work, ExitCode& result) {
  const FileBlockDeviceOptions how = device_options(options, access);
  std::unique_ptr<FileBlockDevice> file = co_await FileBlockDevice::open(options.path, how);
  const FileBlockDevice& device = *file;  // the partition keeps it until close()
  Partition db = co_await open_partition(std::move(file), config_of(options), access);
  result = co_await work(db, device);
  co_await db.close();
}

}  // namespace

ExitCode with_store(const SessionOptions& options, Access access, const Work& work) {
  ExitCode result = ExitCode::failed;
  const auto start = [&] { monterey::spawn(session(options, access, work, result)); };
  monterey::Cluster::builder().cores(1).buffers(config_of(options).buffer_config()).init(start).run();
  return result;
}

}  // namespace store::tool
