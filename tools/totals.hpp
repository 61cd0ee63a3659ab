// Verbs that a sharded store answers shard by shard, answered for the whole of it, as a single partition does.
#pragma once

#include <array>
#include <cstdint>
#include <store/store.hpp>

namespace store::tool {

inline const char* name_of(Router::Kind routing) { return routing == Router::Kind::ranges ? "ranges" : "hash"; }

// A number that `store stat` shows, and what it is of several shards together.
struct Figure {
  enum class Total : std::uint8_t { sum, largest };

  const char* name;
  std::uint64_t Stats::*value;
  Total total = Total::sum;
};

inline constexpr std::array kFigures{Figure{"generation", &Stats::generation, Figure::Total::largest},
                                     Figure{"entries", &Stats::entries},
                                     Figure{"height", &Stats::height, Figure::Total::largest},
                                     Figure{"tree_pages", &Stats::tree_pages},
                                     Figure{"overflow_blocks", &Stats::overflow_blocks},
                                     Figure{"allocator_pages", &Stats::allocator_pages},
                                     Figure{"high_water_blocks", &Stats::high_water_blocks},
                                     Figure{"free_blocks", &Stats::free_blocks},
                                     Figure{"log_bytes", &Stats::log_bytes},
                                     Figure{"replayed_bytes", &Stats::replayed_bytes},
                                     Figure{"replayed_records", &Stats::replayed_records},
                                     Figure{"replayed_entries", &Stats::replayed_entries},
                                     Figure{"device_blocks", &Stats::device_blocks},
                                     Figure{"capacity_blocks", &Stats::capacity_blocks}};

// The figures of all shards that have any, and their notes, each with its shard's name. All else is empty: shards have
// a uuid each.
Stats total_of(const ShardedStats& stats);

monterey::Task<Stats> total_stats(Partition& db);
monterey::Task<Stats> total_stats(ShardedStore& db);

// Findings of shards begin with the shard's name.
monterey::Task<CheckReport> check_all(Partition& db, CheckOptions options);
monterey::Task<CheckReport> check_all(ShardedStore& db, CheckOptions options);

// How many partitions a call goes to.
inline unsigned parts_of(const Partition&) { return 1; }
inline unsigned parts_of(const ShardedStore& db) { return db.shards(); }

}  // namespace store::tool
