// What the tests of sharded stores share.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <store/sharded_store.hpp>

#include "support/mem_shards.hpp"
#include "support/on_core.hpp"
#include "support/on_cores.hpp"

namespace store::test {

inline ShardedOptions small_options(unsigned shards, WalMode mode = WalMode::per_op) {
  return {.shards = shards,
          .partition = {.cache_pages = 64, .wal_mode = mode, .write_buffer_bytes = 64u << 10},
          .router = {}};
}

using Model = std::map<std::string, std::string>;

inline std::string numbered(int number) { return fmt::format("key{:06}", number); }

inline monterey::Task<Model> contents_of(ShardedStore db) {
  Model found;
  auto scan = co_await db.scan("");
  std::string last;
  while (co_await scan.advance()) {
    EXPECT_LT(last, scan.key()) << "order";
    last = scan.key();
    found.emplace(scan.key(), scan.value());
  }
  co_return found;
}

// Two keys of different shards that begin with `prefix`.
inline std::pair<std::string, std::string> keys_of_two_shards(const ShardedStore& db, const std::string& prefix) {
  const std::string first = prefix + "0";
  for (int i = 1;; ++i) {
    std::string other = prefix + std::to_string(i);
    if (db.shard_of(other) != db.shard_of(first)) return {first, other};
  }
}

}  // namespace store::test
