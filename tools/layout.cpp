#include "tools/layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "tools/formats/tsv.hpp"

namespace store::tool {
namespace {

constexpr std::size_t kMinCachePages = 64;
constexpr std::size_t kMinWriteBufferBytes = std::size_t{256} << 10;
constexpr std::size_t kMinIoDepth = 16;

bool is_directory(const std::string& path) {
  std::error_code ignored;  // who opens it says what is wrong
  return std::filesystem::is_directory(path, ignored);
}
bool has_manifest(const std::string& directory) {
  std::error_code ignored;
  return std::filesystem::exists(directory + "/manifest", ignored);
}

monterey::Task<> read_into(const std::string& directory, ShardedLayout& layout) {
  layout = co_await ShardedStore::layout(shard_files(directory));
}

}  // namespace

bool is_sharded(const std::string& path, const LayoutOptions& wanted) {
  return wanted.is_given() || is_directory(path);
}

ShardedLayout new_layout(const LayoutOptions& wanted) {
  const std::uint64_t shards = wanted.shards.value_or(wanted.split.size() + 1);
  if (shards == 0 || shards > kMaxShards) {
    throw Error(Errc::invalid_argument, fmt::format("{} shards: a sharded store has 1 to {}", shards, kMaxShards));
  }
  if (!wanted.split.empty() && shards != wanted.split.size() + 1) {
    throw Error(
        Errc::invalid_argument,
        fmt::format("--shards {} does not fit --split: {} keys divide the store into {} shards; leave out --shards",
                    shards, wanted.split.size(), wanted.split.size() + 1));
  }
  ShardedLayout layout;
  layout.shards = static_cast<unsigned>(shards);
  if (!wanted.split.empty()) layout.routing = Router::Kind::ranges;
  for (const std::string& key : wanted.split) layout.points.push_back(wanted.escaped ? unescape(key) : key);
  return layout;
}

ShardedLayout read_layout(const std::string& directory) {
  if (is_directory(directory) && !has_manifest(directory)) {
    throw Error(Errc::not_a_store,
                fmt::format("{}: a directory without the manifest of a sharded store; `store create DIRECTORY "
                            "--shards N` makes one, in a directory that is new or empty",
                            directory));
  }
  ShardedLayout layout;
  const auto start = [&] { monterey::spawn(read_into(directory, layout)); };
  monterey::Cluster::builder().cores(1).init(start).run();
  return layout;
}

ShardedLayout read_or_new_layout(const std::string& directory, const LayoutOptions& wanted) {
  if (!wanted.is_given()) return read_layout(directory);
  ShardedLayout layout = new_layout(wanted);
  if (!has_manifest(directory)) return layout;
  ShardedLayout there;
  try {
    there = read_layout(directory);
  } catch (const Error& error) {
    // A crash has cut off the making of it; it is made now.
    if (error.errc() == Errc::not_a_store) return layout;
    throw;
  }
  if (there.shards == layout.shards && there.routing == layout.routing && there.points == layout.points) return there;
  throw Error(
      Errc::invalid_argument,
      fmt::format("{}: there is a store of {} shards by {} already, made up otherwise than --shards and --split "
                  "say; they are for a new one, leave them out",
                  directory, there.shards, there.routing == Router::Kind::hash ? "hash" : "ranges"));
}

void require_room_for_shards(const std::string& directory) {
  if (!is_directory(directory) || has_manifest(directory) || std::filesystem::is_empty(directory)) {
    return;
  }
  throw Error(Errc::not_a_store,
              fmt::format("{}: a directory with something else in it than a sharded store (it has no manifest); name a "
                          "new or an empty one",
                          directory));
}

void remove_unless_taken(const std::string& path) {
  try {
    throw;
  } catch (const Error& error) {
    if (error.errc() == Errc::locked || error.errc() == Errc::already_exists) return;
  } catch (...) {
  }
  std::error_code ignored;  // the first error is told
  std::filesystem::remove_all(path, ignored);
}

unsigned cores_for(unsigned shards) {
  return std::clamp(shards, 1u, std::max(1u, std::thread::hardware_concurrency()));
}

PartitionConfig share_of(PartitionConfig whole, unsigned shards) {
  whole.cache_pages = std::max(kMinCachePages, whole.cache_pages / shards);
  whole.write_buffer_bytes = std::max(kMinWriteBufferBytes, whole.write_buffer_bytes / shards);
  whole.io_depth = std::max(kMinIoDepth, whole.io_depth / shards);
  return whole;
}

}  // namespace store::tool
