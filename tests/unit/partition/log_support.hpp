// What the tests of a partition with a log share. A handle that is dropped leaves the device as a crash would.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "failure_support.hpp"

namespace store::test {

inline PartitionConfig logged_config(WalMode mode = WalMode::per_op) {
  return {.cache_pages = 64,
          .wal_mode = mode,
          .wal_batch_interval = std::chrono::hours(1),
          .write_buffer_bytes = 64u << 10,
          .io_depth = 16};
}

// Memory for one partition at a time, of these configurations.
inline std::size_t logged_arena() { return logged_config().buffer_config().bytes; }

// Waits until the tasks of a dropped partition have given its memory back.
inline monterey::Task<> wait_for_memory() {
  while (monterey::FixedBufs::current().free_bytes() < logged_arena()) co_await monterey::yield();
}

inline monterey::Task<> expect_value(const Partition& db, std::string_view key, std::optional<std::string> want,
                                     std::source_location where = std::source_location::current()) {
  const std::optional<std::string> got = co_await db.get(key);
  EXPECT_TRUE(got == want) << "line " << where.line() << ": " << key << ": got "
                           << (got ? std::to_string(got->size()) + " bytes" : "nothing");
}

}  // namespace store::test
