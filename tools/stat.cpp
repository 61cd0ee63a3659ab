// stat.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "tools/commands.hpp"
#include "tools/fields.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

// The figures; which store it is, of which it is a copy, how it was reached, and what was met on the way.
Fields fields_of(const Stats& stats, const BlockDevice& device) {
  const monterey::Capabilities& io = monterey::capabilities();
  Fields fields;
  for (const Figure& figure : kFigures) fields.number(figure.name, stats.*figure.value);
  fields.number("copy_of_generation", stats.origin.generation);
  fields.text("uuid", stats.uuid);
  fields.text("copy_of", stats.origin.uuid);
  fields.text("io_backend", io.backend == monterey::Backend::threads ? "threads" : "io_uring");
  fields.text("io_backend_without", io.reason);
  if (const auto* file = dynamic_cast<const FileBlockDevice*>(&device)) {
    fields.text("direct_io", file->direct_io() ? "yes" : "no");
    fields.text("buffered_because", file->buffered_reason());
  } else if (const auto* nvme = dynamic_cast<const NvmeBlockDevice*>(&device)) {
    fields.text("direct_io", "yes");
    fields.text("nvme", describe(nvme->identity()));
  }
  return fields;
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
    Fields fields = fields_of(stats, device);
    fields.json("notes", json_array(stats.open_notes));
    print(fields.as_json() + '\n', {});
  } else {
    print(fields_of(stats, device).as_lines(), stats.open_notes);
  }
  co_return ExitCode::done;
}

// --- a sharded store ---

std::vector<Fields> rows_of(const std::vector<ShardStats>& shards) {
  std::vector<Fields> rows;
  for (const ShardStats& shard : shards) {
    Fields& row = rows.emplace_back();
    row.text("name", shard.name);
    row.number("core", shard.core);
    if (shard.stats) {
      row.text("uuid", shard.stats->uuid);
      row.number("entries", shard.stats->entries);
      row.number("generation", shard.stats->generation);
    }
    row.text("failure", shard.failure);
  }
  return rows;
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
    Fields fields = fields_of(total, *manifest);
    fields.text("routing", name_of(stats.routing));
    fields.json("shards", as_json(rows_of(stats.shards)));
    fields.json("notes", json_array(total.open_notes));
    print(fields.as_json() + '\n', {});
  } else {
    print(fields_of(total, *manifest).as_lines() + shards_as_text(stats), total.open_notes);
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
