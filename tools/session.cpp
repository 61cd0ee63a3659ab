#include "tools/session.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

namespace store::tool {
namespace {

constexpr std::size_t kBlockBytes = 4096;
constexpr std::size_t kMinCachePages = 64;

// A device that tells somebody of every read; all else is the device's beneath it.
class ObservedDevice final : public BlockDevice {
 public:
  ObservedDevice(std::unique_ptr<BlockDevice> device, const ReadObserver& observer)
      : device_(std::move(device)), observer_(observer) {}

  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) override {
    observer_(into.size() / kBlockBytes);
    return device_->read(first, into, io_class);
  }
  monterey::Task<> read_scattered(PageNo first, std::span<const BlockSpan> pieces,
                                  monterey::IoClass io_class) override {
    std::size_t bytes = 0;
    for (const BlockSpan piece : pieces) bytes += piece.size();
    observer_(bytes / kBlockBytes);
    return device_->read_scattered(first, pieces, io_class);
  }
  monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override {
    return device_->write(first, from, io_class);
  }
  monterey::Task<> write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override {
    return device_->write_durably(first, from, io_class);
  }
  monterey::Task<> sync() override { return device_->sync(); }
  monterey::Task<> trim(Extent blocks) override { return device_->trim(blocks); }
  monterey::Task<> grow(std::uint64_t blocks) override { return device_->grow(blocks); }
  monterey::Task<> shrink(std::uint64_t blocks) override { return device_->shrink(blocks); }
  std::uint64_t size_blocks() const override { return device_->size_blocks(); }
  std::uint64_t capacity_blocks() const override { return device_->capacity_blocks(); }
  bool read_only() const override { return device_->read_only(); }
  std::string name() const override { return device_->name(); }

 private:
  std::unique_ptr<BlockDevice> device_;
  const ReadObserver& observer_;
};

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

// All arguments are the caller's, which waits in Cluster::run().
monterey::Task<> session(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks,
                         ExitCode& result) {
  if (hooks.before_open) co_await hooks.before_open();
  const FileBlockDeviceOptions how = device_options(options, access);
  std::unique_ptr<BlockDevice> whole = co_await open_device(options.path, how, options.window);
  const BlockDevice& device = *whole;  // the partition keeps it until close()
  if (hooks.on_read) whole = std::make_unique<ObservedDevice>(std::move(whole), hooks.on_read);
  Partition db = co_await open_partition(std::move(whole), config_of(options), access);
  result = co_await work(db, device);
  co_await db.close();
}

}  // namespace

ExitCode with_store(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks) {
  ExitCode result = ExitCode::failed;
  const auto start = [&] { monterey::spawn(session(options, access, work, hooks, result)); };
  std::vector<std::string> paths = options.others;
  paths.push_back(options.path);
  cluster_for(paths).buffers(config_of(options).buffer_config()).init(start).run();
  return result;
}

}  // namespace store::tool
