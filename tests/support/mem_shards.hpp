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
    for (unsigned i = 0; i < shards; ++i) disks.push_back(disk("disk" + std::to_string(i), capacity_blocks));
  }
  // With disks of these names for the next epoch.
  MemShards(unsigned shards, std::vector<std::string> next) : MemShards(shards) {
    for (std::string& name : next) next_disks.push_back(disk(std::move(name), 1u << 16));
  }

  std::shared_ptr<MemShards> copy() const {
    auto copied = std::make_shared<MemShards>(0);
    copied->manifest = manifest->copy();
    for (const auto& disk : disks) copied->disks.push_back(disk->copy());
    for (const auto& disk : next_disks) copied->next_disks.push_back(disk->copy());
    return copied;
  }

  monterey::Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool) const override {
    return device(manifest, access);
  }
  monterey::Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access, bool create) const override {
    const std::shared_ptr<MemDisk>& disk = of(place);
    if (!create && disk->size_blocks() == 0) throw Error(Errc::not_found, disk->name() + ": no such disk");
    return device(disk, access);
  }
  monterey::Task<> remove_shard(ShardPlace place) const override {
    const auto& all = place.epoch == 0 ? disks : next_disks;
    if (place.shard < all.size()) all[place.shard]->set_size_blocks(0);
    co_return;
  }

  std::shared_ptr<MemDisk> manifest = std::make_shared<MemDisk>(MemDisk::Options{.name = "manifest"});
  std::vector<std::shared_ptr<MemDisk>> disks;
  std::vector<std::shared_ptr<MemDisk>> next_disks;

 private:
  static std::shared_ptr<MemDisk> disk(std::string name, std::uint64_t capacity_blocks) {
    return std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = capacity_blocks, .name = std::move(name)});
  }
  const std::shared_ptr<MemDisk>& of(ShardPlace place) const {
    return place.epoch == 0 ? disks.at(place.shard) : next_disks.at(place.shard);
  }
  static monterey::Task<std::unique_ptr<BlockDevice>> device(std::shared_ptr<MemDisk> disk, Access access) {
    using Mode = MemBlockDevice::Access;
    const Mode mode = access == Access::read_only ? Mode::read_only : Mode::read_write;
    co_return std::make_unique<MemBlockDevice>(std::move(disk), mode);
  }
};

}  // namespace store::test
