// What a part of a program in the documents runs on: a store of its own in the current folder.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <store/store.hpp>
#include <string>
#include <utility>

namespace docs {

inline constexpr store::PartitionConfig kConfig{.cache_pages = 1024};

inline monterey::Task<> open_and_run(monterey::Task<> (*run)(store::Partition&, store::PartitionConfig)) {
  auto device = co_await store::FileBlockDevice::open("block.db");
  auto db = co_await store::Partition::open_or_create(std::move(device), kConfig);
  co_await run(db, kConfig);
  co_await db.close();
}

// Room for the partitions that the block may open besides.
inline void on_partition(monterey::Task<> (*run)(store::Partition&, store::PartitionConfig)) {
  const monterey::BufferConfig room = kConfig.buffer_config();
  monterey::Cluster::builder().buffers(room + room).init([run] { monterey::spawn(open_and_run(run)); }).run();
}

inline void on_core(monterey::Task<> (*run)()) {
  monterey::Cluster::builder().buffers(kConfig.buffer_config()).init([run] { monterey::spawn(run()); }).run();
}

inline void on_store(void (*run)(store::Store&)) {
  store::Store db = store::Store::open("block.db");
  run(db);
  db.close();
}

}  // namespace docs
