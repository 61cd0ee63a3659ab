// A block device on an NVMe namespace, past file system, page cache and block layer: commands go from the core's ring to the driver
// (io_uring passthrough on the namespace's character device). The cluster must be built with Cluster::builder().device_commands().
// How to use a real disk, the rights it needs and what each kernel lacks: docs/nvme.md. Source: NVM Express Base Specification 2.0 and
// NVM Command Set Specification 1.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <monterey/task.hpp>
#include <store/block_device.hpp>

namespace store {

struct NvmeBlockDeviceOptions {
  std::uint64_t first_block = 0;  // a window of the namespace, in blocks of 4096 bytes, so that several stores share it
  std::uint64_t blocks = 0;       // 0: to the namespace's end, at most 16 TiB
  bool read_only = false;         // shared lock; write and trim throw read_only
  bool registered_buffers = true;  // use them where the kernel takes them
  bool polled =
      false;  // ask for the ends of reads and writes (IOPOLL) instead of waiting for interrupts: for a core that does nothing else
};

// What a namespace says of itself.
struct NvmeNamespace {
  std::string path{};  // of the character device
  std::string model{};
  std::string serial{};
  std::uint32_t nsid = 0;
  std::uint64_t bytes = 0;
  std::uint32_t lba_bytes = 0;
  std::uint32_t metadata_bytes = 0;      // of each LBA; a store needs 0
  std::uint64_t max_transfer_bytes = 0;  // of one command, by the controller; 0: no limit
  bool volatile_write_cache = false;
  bool deallocates = false;
};

class NvmeBlockDevice : public BlockDevice {
 public:
  // Opens the namespace behind a character device like /dev/ng0n1. All its windows' blocks are there at once: it neither grows nor
  // shrinks. Errors: not_found; invalid_argument (not a namespace's character device; an LBA format other than 512 or 4096 bytes
  // without metadata; a window past the end or of no blocks; a cluster without device commands; `polled` where there are no polled
  // commands, with the reason); locked (a store has a part of the
  // window open, or the kernel uses the namespace's block device, as by a mount); read_only, io_error (what to grant is said).
  // Blocks the core for some hundred microseconds, while the controller is asked who it is.
  static monterey::Task<std::unique_ptr<NvmeBlockDevice>> open(std::string path, NvmeBlockDeviceOptions options = {});

  virtual const NvmeNamespace& identity() const = 0;
  // Of one command, by controller, kernel and this class.
  virtual std::size_t transfer_bytes() const = 0;
  virtual bool registered_buffers() const = 0;
};

// Whether `path` is a character device, which a namespace's is; for who tells files and namespaces apart by their paths.
bool is_nvme_path(const std::string& path);

// The namespaces of this machine, by path. Those that this user may not open have no more than their path. Blocks. Errors: io_error.
std::vector<NvmeNamespace> list_nvme_namespaces();

}  // namespace store
