// stat.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;

std::vector<std::pair<const char*, std::uint64_t>> numbers_of(const Stats& stats) {
  std::vector<std::pair<const char*, std::uint64_t>> numbers;
  for (const Figure& figure : kFigures) numbers.emplace_back(figure.name, stats.*figure.value);
  numbers.emplace_back("copy_of_generation", stats.origin.generation);
  return numbers;
}

// Which store it is, of which it is a copy, how it was reached, and what was met on the way: text by name.
std::vector<std::pair<const char*, std::string>> texts_of(const Stats& stats, const BlockDevice& device) {
  const monterey::Capabilities& io = monterey::capabilities();
  std::vector<std::pair<const char*, std::string>> texts{
      {"uuid", stats.uuid},
      {"copy_of", stats.origin.uuid},
      {"io_backend", io.backend == monterey::Backend::threads ? "threads" : "io_uring"},
      {"io_backend_without", io.reason}};
  if (const auto* file = dynamic_cast<const FileBlockDevice*>(&device)) {
    texts.emplace_back("direct_io", file->direct_io() ? "yes" : "no");
    texts.emplace_back("buffered_because", file->buffered_reason());
  } else if (const auto* nvme = dynamic_cast<const NvmeBlockDevice*>(&device)) {
    texts.emplace_back("direct_io", "yes");
    texts.emplace_back("nvme", describe(nvme->identity()));
  }
  return texts;
}

// `more` are fields that stand before the notes.
std::string as_json(const Stats& stats, const BlockDevice& device, const std::string& more) {
  std::string fields;
  for (const auto& [name, value] : numbers_of(stats)) fields += fmt::format("\"{}\": {}, ", name, value);
  for (const auto& [name, value] : texts_of(stats, device))
    fields += fmt::format("\"{}\": {}, ", name, json_string(value));
  return fmt::format("{{{}{}\"notes\": {}}}\n", fields, more, json_array(stats.open_notes));
}

std::string as_text(const Stats& stats, const BlockDevice& device) {
  std::string lines;
  for (const auto& [name, value] : numbers_of(stats)) {
    lines += fmt::format("{:<19}{}", name, value);
    if (std::string_view(name).ends_with("_blocks")) {
      lines += fmt::format("  ({})", human_bytes(static_cast<double>(value * kBlockBytes)));
    }
    lines += '\n';
  }
  for (const auto& [name, value] : texts_of(stats, device)) {
    if (!value.empty()) lines += fmt::format("{:<19}{}\n", name, value);
  }
  return lines;
}

void print(const std::string& text, const std::vector<std::string>& notes) {
  Output output;
  output.write(text);
  for (const std::string& note : notes) print_message(note);
  output.finish();
}

monterey::Task<ExitCode> stat(const StatCommand& command, Partition& db, const BlockDevice& device) {
  const Stats stats = db.stats();
  if (command.prometheus) {
    const std::vector<MetricSource> sources{{metric_label("store", command.session.path), stats}};
    print(prometheus_text(sources), {});
  } else if (command.json) {
    print(as_json(stats, device, ""), {});
  } else {
    print(as_text(stats, device), stats.open_notes);
  }
  co_return ExitCode::done;
}

// --- a sharded store ---

const char* name_of(Router::Kind routing) { return routing == Router::Kind::ranges ? "ranges" : "hash"; }

std::string shards_as_json(const ShardedStats& stats) {
  std::string shards;
  for (const ShardStats& shard : stats.shards) {
    if (!shards.empty()) shards += ", ";
    shards += fmt::format("{{\"name\": {}, \"core\": {}", json_string(shard.name), shard.core);
    if (shard.stats) {
      shards += fmt::format(", \"uuid\": {}, \"entries\": {}, \"generation\": {}", json_string(shard.stats->uuid),
                            shard.stats->entries, shard.stats->generation);
    }
    shards += fmt::format(", \"failure\": {}}}", json_string(shard.failure));
  }
  return fmt::format("\"routing\": \"{}\", \"shards\": [{}], ", name_of(stats.routing), shards);
}

std::string shards_as_text(const ShardedStats& stats) {
  std::string lines =
      fmt::format("{:<19}{}\n{:<19}{}\n", "routing", name_of(stats.routing), "shards", stats.shards.size());
  for (const ShardStats& shard : stats.shards) {
    lines += fmt::format("{}: core {}", shard.name, shard.core);
    if (shard.stats) {
      lines += fmt::format(", {} entries, generation {}", shard.stats->entries, shard.stats->generation);
    }
    if (!shard.failure.empty()) lines += fmt::format(", failed: {}", shard.failure);
    lines += '\n';
  }
  return lines;
}

// Of those that have any figures.
std::vector<MetricSource> sources_of(const std::string& path, const ShardedStats& stats) {
  std::vector<MetricSource> sources;
  for (std::size_t i = 0; i < stats.shards.size(); ++i) {
    if (!stats.shards[i].stats) continue;
    const std::string labels = metric_label("store", path) + ',' + metric_label("shard", std::to_string(i));
    sources.push_back({labels, *stats.shards[i].stats});
  }
  return sources;
}

monterey::Task<ExitCode> stat(const StatCommand& command, ShardedStore& db) {
  const ShardedStats stats = co_await db.stats();
  if (command.prometheus) {
    print(prometheus_text(sources_of(command.session.path, stats)), {});
    co_return ExitCode::done;
  }
  const Stats total = total_of(stats);
  // How files of this directory are reached; the shards' devices belong to the store.
  const auto devices = shard_files(command.session.path);
  const auto manifest = co_await devices->open_manifest(ShardDevices::Access::read_only, false);
  if (command.json) {
    print(as_json(total, *manifest, shards_as_json(stats)), {});
  } else {
    print(as_text(total, *manifest) + shards_as_text(stats), total.open_notes);
  }
  co_return ExitCode::done;
}

}  // namespace

ExitCode run(const StatCommand& command) {
  if (command.watch_seconds) return watch(command);
  const Work work{.on_file = [&](Partition& db, const BlockDevice& device) { return stat(command, db, device); },
                  .on_shards = [&](ShardedStore& db) { return stat(command, db); }};
  return with_store(command.session, Access::read, work);
}

}  // namespace store::tool
