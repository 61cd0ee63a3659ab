// The device behind a path on the command line: a file, or the namespace of an NVMe disk where the path is its
// character device.
#pragma once

#include <cstdint>
#include <memory>
#include <monterey/cluster.hpp>
#include <monterey/task.hpp>
#include <store/store.hpp>
#include <string>
#include <vector>

namespace store::tool {

// Where in a namespace the store lies, in blocks of 4096 bytes; a file has it all.
struct Window {
  std::uint64_t first_block = 0;
  std::uint64_t blocks = 0;  // 0: to the end
};

// Errors: those of FileBlockDevice::open() and NvmeBlockDevice::open(); invalid_argument for a window of a file. Of a
// namespace only FileBlockDeviceOptions::read_only counts.
monterey::Task<std::unique_ptr<BlockDevice>> open_device(std::string path, FileBlockDeviceOptions how,
                                                         Window window = {});

// Errors: not_found for a path below /dev where nothing is: a file there would lie in memory, and stand in the way of
// the device when it comes.
void require_present_device(const std::string& path);
// Errors: invalid_argument for a window, which only a namespace has.
void require_no_window(const std::string& path, Window window);

// "4.0 GiB in LBAs of 512 bytes, QEMU NVMe Ctrl, serial vm0".
std::string describe(const NvmeNamespace& space);

// A cluster of one core that can open these paths.
monterey::Cluster::Builder cluster_for(const std::vector<std::string>& paths);

}  // namespace store::tool
