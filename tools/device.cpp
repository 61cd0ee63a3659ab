#include "tools/device.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "tools/progress.hpp"

namespace store::tool {

void require_present_device(const std::string& path) {
  if (path.starts_with("/dev/") && ::access(path.c_str(), F_OK) != 0) {
    throw Error(Errc::not_found, fmt::format("{}: no such device", path));
  }
}

void require_no_window(const std::string& path, Window window) {
  if (window.first_block == 0 && window.blocks == 0) return;
  throw Error(Errc::invalid_argument,
              fmt::format("{}: a window is of a namespace's character device, like /dev/ng0n1", path));
}

monterey::Task<std::unique_ptr<BlockDevice>> open_device(std::string path, FileBlockDeviceOptions how, Window window) {
  if (is_nvme_path(path)) {
    const NvmeBlockDeviceOptions options{
        .first_block = window.first_block, .blocks = window.blocks, .read_only = how.read_only};
    co_return co_await NvmeBlockDevice::open(std::move(path), options);
  }
  require_present_device(path);
  require_no_window(path, window);
  co_return co_await FileBlockDevice::open(std::move(path), how);
}

std::string describe(const NvmeNamespace& space) {
  return fmt::format("{} in LBAs of {} bytes{}, {}, serial {}", human_bytes(static_cast<double>(space.bytes)),
                     space.lba_bytes,
                     space.metadata_bytes == 0 ? "" : fmt::format(" and {} of metadata", space.metadata_bytes),
                     space.model, space.serial);
}

monterey::Cluster::Builder cluster_for(const std::vector<std::string>& paths) {
  auto builder = monterey::Cluster::builder();
  builder.cores(1).device_commands(std::ranges::any_of(paths, is_nvme_path));
  return builder;
}

}  // namespace store::tool
