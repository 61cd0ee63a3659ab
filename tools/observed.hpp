// Devices that tell somebody of every read; all else is done by the device beneath. For commands that show how far they
// are.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <store/store.hpp>

namespace store::tool {

// Called with the number of blocks that each read of a device asks for.
using ReadObserver = std::function<void(std::uint64_t blocks)>;

// The observer must outlive the device, and be callable where that is used: those of shards from several cores at once.
std::unique_ptr<BlockDevice> observed(std::unique_ptr<BlockDevice> device, const ReadObserver& observer);
std::shared_ptr<const ShardDevices> observed(std::shared_ptr<const ShardDevices> devices, const ReadObserver& observer);

}  // namespace store::tool
