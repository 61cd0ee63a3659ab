// reshard: a sharded store divided anew.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "tools/commands.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"

namespace store::tool {
namespace {

constexpr std::size_t kBlockBytes = 4096;

ShardedOptions options_for(const ReshardCommand& command, unsigned shards, unsigned share) {
  const PartitionConfig whole{.cache_pages = command.session.cache_bytes / kBlockBytes,
                              .write_buffer_bytes = command.session.write_buffer_bytes};
  return {.shards = shards, .partition = share_of(whole, share), .router = {}};
}

monterey::Task<> reshard(const ReshardCommand& command, ShardedOptions options, Progress& progress,
                         std::uint64_t& copied) {
  const ReshardObserver observer = [&progress](std::uint64_t done, std::uint64_t) { progress.at(done); };
  copied = co_await ShardedStore::reshard(shard_files(command.session.path), options, observer);
}

}  // namespace

ExitCode run(const ReshardCommand& command) {
  if (!command.session.layout.is_given()) {
    throw Error(Errc::invalid_argument, "reshard: say how the store is to be divided, by --shards or --split");
  }
  if (!is_sharded(command.session.path, {})) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: no sharded store, which is a directory; `store load --shards` makes one of what "
                            "`store dump` prints",
                            command.session.path));
  }
  const ShardedLayout before = read_layout(command.session.path);
  const ShardedLayout after = new_layout(command.session.layout);
  const unsigned most = std::max(before.shards, after.shards);
  const unsigned cores = cores_for(most);
  ShardedOptions options = options_for(command, after.shards, most);
  const std::vector<std::string_view> points(after.points.begin(), after.points.end());
  if (after.routing == Router::Kind::ranges) options.router = Router::ranges(points);
  const ShardedOptions old = options_for(command, before.shards, most);
  Progress progress("reshard", Unit::entries, 0);
  std::uint64_t copied = 0;
  const auto start = [&] {
    if (monterey::current_core() == 0) monterey::spawn(reshard(command, options, progress, copied));
  };
  const monterey::BufferConfig buffers = options.buffer_config(cores) + old.buffer_config(cores);
  cluster_for({command.session.path}).cores(cores).buffers(buffers).init(start).run();
  progress.finish(copied);
  Output output;
  output.write(command.json ? fmt::format("{{\"shards\": {}, \"entries_copied\": {}}}\n", after.shards, copied)
                            : fmt::format("ok: {} shards, {} entries copied\n", after.shards, copied));
  output.finish();
  return ExitCode::done;
}

}  // namespace store::tool
