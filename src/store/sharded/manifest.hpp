// What makes shards one store: how many, how keys are routed, and which partition each is. Lies on a small device of its own in two
// slots, written in turn, so that one is always whole. Layout: docs/on-disk-format.md, "Sharded stores".
#pragma once

#include <cstdint>
#include <monterey/task.hpp>
#include <optional>
#include <span>
#include <store/block_device.hpp>
#include <store/router.hpp>
#include <string>
#include <vector>

namespace store::detail {

struct Manifest {
  struct Shard {
    std::string uuid;              // of its partition; empty while the store is being made
    std::uint64_t generation = 0;  // durable when this was written, so that an older one is known as such
  };
  // What goes on with all shards, and what a crash meanwhile means.
  enum class State : std::uint32_t {
    whole,
    making,    // the store: it is none, and may be made anew
    loading,   // an empty store in bulk: what is there of it goes
    updating,  // a copy, by an increment: it is no store until that was run again
    copying,   // a backup is being made: it is no store, and may be made again
  };

  std::uint64_t sequence = 0;  // of writes of the manifest
  Router::Kind routing = Router::Kind::hash;
  std::vector<std::string> points;
  std::vector<Shard> shards;
  State state = State::whole;
  std::uint32_t epoch = 0;  // of the devices that the shards lie on: one more with each reshard()
};

inline constexpr std::uint64_t kManifestBlocks = 1024;  // of the device: both slots

// The name of a shard's file in the store's directory.
std::string shard_file_name(unsigned shard, std::uint32_t epoch);

// The text of a manifest within one slot. Decoding takes any bytes. Errors of decode: unsupported_format, corruption.
std::vector<std::byte> encode_manifest(const Manifest& manifest);
Manifest decode_manifest(std::span<const std::byte> slot, const std::string& device);

// The newest manifest; nullopt on a device that is blank. Errors: corruption when there is none that is whole, unsupported_format,
// not_a_store, io_error.
monterey::Task<std::optional<Manifest>> read_manifest(BlockDevice& device);
// Writes the manifest, with the next sequence number, over the older one. Durability: on completion. Errors: those of the device; the older
// one is then whole.
monterey::Task<> write_manifest(BlockDevice& device, Manifest& manifest);

}  // namespace store::detail
