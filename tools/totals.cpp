#include "tools/totals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace store::tool {

Stats total_of(const ShardedStats& stats) {
  Stats total;
  for (const ShardStats& shard : stats.shards) {
    if (!shard.stats) continue;
    for (const Figure& figure : kFigures) {
      const std::uint64_t value = (*shard.stats).*figure.value;
      std::uint64_t& all = total.*figure.value;
      all = figure.total == Figure::Total::sum ? all + value : std::max(all, value);
    }
    for (const std::string& note : shard.stats->open_notes) {
      total.open_notes.push_back(fmt::format("{}: {}", shard.name, note));
    }
  }
  return total;
}

monterey::Task<Stats> total_stats(Partition& db) { co_return db.stats(); }

monterey::Task<Stats> total_stats(ShardedStore& db) {
  const ShardedStats stats = co_await db.stats();
  co_return total_of(stats);
}

monterey::Task<CheckReport> check_all(Partition& db, CheckOptions options) { return db.check(options); }

monterey::Task<CheckReport> check_all(ShardedStore& db, CheckOptions options) {
  const std::vector<ShardCheck> shards = co_await db.check(options);
  CheckReport all;
  all.ok = true;
  for (const ShardCheck& shard : shards) {
    all.ok = all.ok && shard.report.ok;
    all.pages += shard.report.pages;
    all.entries += shard.report.entries;
    for (const std::string& error : shard.report.errors) {
      if (all.errors.size() < options.max_errors) all.errors.push_back(fmt::format("{}: {}", shard.name, error));
    }
  }
  co_return all;
}

}  // namespace store::tool
