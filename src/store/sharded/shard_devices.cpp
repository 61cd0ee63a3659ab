// Where shards lie: files in a directory, or windows of a namespace.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <monterey/file.hpp>
#include <store/error.hpp>
#include <store/nvme_block_device.hpp>
#include <store/sharded_store.hpp>
#include <utility>

#include "store/base/units.hpp"
#include "store/sharded/manifest.hpp"

namespace store {
namespace {

using monterey::Task;

class ShardFiles final : public ShardDevices {
 public:
  ShardFiles(std::string directory, FileBlockDeviceOptions each) : directory_(std::move(directory)), each_(each) {}

  Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool create) const override {
    const bool writes = access == Access::read_write;
    struct stat info {};
    const bool present = ::stat(directory_.c_str(), &info) == 0;
    if (present && !S_ISDIR(info.st_mode)) {
      throw Error(Errc::invalid_argument, directory_ + ": not a directory; a sharded store is one");
    }
    if (!present && !create) throw Error(Errc::not_found, directory_ + ": no such directory");
    if (!present && ::mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
      throw Error::from_errno(errno, directory_ + ": cannot be made");
    }
    FileBlockDeviceOptions options;
    options.capacity_blocks = detail::kManifestBlocks;
    options.create = create;
    options.read_only = !writes;
    auto device = co_await FileBlockDevice::open(directory_ + "/manifest", options);
    // Of a store that is new, whoever has made the directory.
    if (writes && device->size_blocks() == 0) co_await sync_parent();
    co_return device;
  }

  Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access, bool create) const override {
    FileBlockDeviceOptions options = each_;
    options.create = create;
    options.read_only = access == Access::read_only;
    co_return co_await FileBlockDevice::open(path_of(place), options);
  }

  Task<> remove_shard(ShardPlace place) const override {
    const std::string path = path_of(place);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw Error::from_errno(errno, path + ": cannot be removed");
    co_return;
  }

 private:
  std::string path_of(ShardPlace place) const {
    return directory_ + '/' + detail::shard_file_name(place.shard, place.epoch);
  }

  Task<> sync_parent() const {
    std::string path = directory_;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const std::size_t slash = path.find_last_of('/');
    std::string parent = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
    monterey::File file = co_await monterey::File::open(std::move(parent));
    co_await file.sync();
    co_await file.close();
  }

  const std::string directory_;
  const FileBlockDeviceOptions each_;
};

class ShardWindows final : public ShardDevices {
 public:
  explicit ShardWindows(std::string path) : path_(std::move(path)) {}

  Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool) const override {
    NvmeBlockDeviceOptions options;
    options.blocks = detail::kManifestBlocks;
    options.read_only = access == Access::read_only;
    co_return co_await NvmeBlockDevice::open(path_, options);
  }

  Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access, bool) const override {
    if (place.epoch != 0) {
      throw Error(Errc::invalid_argument,
                  path_ +
                      ": a namespace has no room for the shards as they are and as they shall be; back the store "
                      "up into a directory, divide that, and back it up into the namespace");
    }
    const std::vector<NvmeNamespace> all = list_nvme_namespaces();
    const auto space = std::ranges::find(all, path_, &NvmeNamespace::path);
    const std::uint64_t blocks = space == all.end() ? 0 : space->bytes / kPageBytes;
    NvmeBlockDeviceOptions options;
    options.blocks = (blocks - std::min(blocks, detail::kManifestBlocks)) / place.shards;
    if (options.blocks == 0) {
      throw Error(Errc::invalid_argument, fmt::format("{}: a namespace of {} blocks has no room for {} shards; name it "
                                                      "as `store devices` does",
                                                      path_, blocks, place.shards));
    }
    options.blocks = std::min(options.blocks, kMaxBlocks);
    options.first_block = detail::kManifestBlocks + place.shard * options.blocks;
    options.read_only = access == Access::read_only;
    co_return co_await NvmeBlockDevice::open(path_, options);
  }

  // A window that is not used.
  Task<> remove_shard(ShardPlace) const override { co_return; }

 private:
  const std::string path_;
};

}  // namespace

std::shared_ptr<const ShardDevices> shard_files(std::string directory, FileBlockDeviceOptions each) {
  return std::make_shared<ShardFiles>(std::move(directory), each);
}

std::shared_ptr<const ShardDevices> shard_windows(std::string path) {
  return std::make_shared<ShardWindows>(std::move(path));
}

}  // namespace store
