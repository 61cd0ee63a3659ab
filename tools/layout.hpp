// What is to be known of a sharded store before it is opened: a cluster registers its buffers when it starts, and how
// many it needs depends on the number of shards. A sharded store on the command line is a directory.
#pragma once

#include <cstdint>
#include <optional>
#include <store/store.hpp>
#include <string>
#include <vector>

namespace store::tool {

// --shards and --split, as they were typed: how a new store is to be made up.
struct LayoutOptions {
  std::optional<std::uint64_t> shards;
  std::vector<std::string> split;  // the first key of each shard but the first
  bool escaped = false;            // the keys of `split`, as in the tsv format

  bool is_given() const { return shards.has_value() || !split.empty(); }
};

// Whether what is at `path`, or is to be made there, is a sharded store.
bool is_sharded(const std::string& path, const LayoutOptions& wanted);

// Of a new store. Errors: invalid_argument for a number of shards that cannot be or that the keys do not fit.
ShardedLayout new_layout(const LayoutOptions& wanted);
// Of the store in a directory, for which it runs a cluster. Errors: those of ShardedStore::layout(); not_a_store when
// there is no manifest.
ShardedLayout read_layout(const std::string& directory);
// Of a store that a command opens if it is there and makes if not. Errors: those of the other two; invalid_argument
// when it is there and made up otherwise.
ShardedLayout read_or_new_layout(const std::string& directory, const LayoutOptions& wanted);

// Errors: not_a_store when a directory has something in it that is no sharded store.
void require_room_for_shards(const std::string& directory);

// Removes what a command has made that then failed. Called while its error is handled: what another process has taken meanwhile stays.
void remove_unless_taken(const std::string& path);

// How many cores a command gives to so many shards.
unsigned cores_for(unsigned shards);
// What each of so many shards has of the memory that is meant for the whole store.
PartitionConfig share_of(PartitionConfig whole, unsigned shards);

}  // namespace store::tool
