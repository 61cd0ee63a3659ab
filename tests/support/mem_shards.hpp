// The disks of a sharded store in memory. A test may copy them at any time, as a crash would leave them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <store/sharded_store.hpp>

#include "support/mem_block_device.hpp"

namespace store::test {

class MemShards final : public ShardDevices {
 public:
  explicit MemShards(unsigned shards, std::uint64_t capacity_blocks = 1u << 16) {
    for (unsigned i = 0; i < shards; ++i) {
      disks.push_back(std::make_shared<MemDisk>(
          MemDisk::Options{.capacity_blocks = capacity_blocks, .name = "disk" + std::to_string(i)}));
    }
  }

  std::shared_ptr<MemShards> copy() const {
    auto copied = std::make_shared<MemShards>(0);
    copied->manifest = manifest->copy();
    for (const auto& disk : disks) copied->disks.push_back(disk->copy());
    return copied;
  }

  monterey::Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool) const override {
    return device(manifest, access);
  }
  monterey::Task<std::unique_ptr<BlockDevice>> open_shard(unsigned shard, unsigned, Access access,
                                                          bool create) const override {
    if (!create && disks[shard]->size_blocks() == 0) {
      throw Error(Errc::not_found, disks[shard]->name() + ": no such disk");
    }
    return device(disks[shard], access);
  }

  std::shared_ptr<MemDisk> manifest = std::make_shared<MemDisk>(MemDisk::Options{.name = "manifest"});
  std::vector<std::shared_ptr<MemDisk>> disks;

 private:
  static monterey::Task<std::unique_ptr<BlockDevice>> device(std::shared_ptr<MemDisk> disk, Access access) {
    using Mode = MemBlockDevice::Access;
    const Mode mode = access == Access::read_only ? Mode::read_only : Mode::read_write;
    co_return std::make_unique<MemBlockDevice>(std::move(disk), mode);
  }
};

}  // namespace store::test
