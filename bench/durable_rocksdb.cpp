// RocksDB's side of the durable benchmark (durable.cpp), tuned as for its users: no compression, for the values have none to
// give; filters, a cache and write buffers of the same size as the engine's, and two more buffers so that writers do not wait
// for a flush; background work on every core. What helps on one machine and not on another is an option, and durable.py takes
// the combination that is fastest here: enable_pipelined_write; adaptive yielding; and log files that are used again, which saves
// the journal's part of a sync, but which RocksDB 7 does only with the recovery mode kTolerateCorruptedTailRecords.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "durable.hpp"

namespace {

using bench::DurableOptions;

void must(const rocksdb::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

rocksdb::Options tuned(const DurableOptions& options) {
  rocksdb::Options tuned;
  tuned.create_if_missing = true;
  tuned.compression = rocksdb::kNoCompression;
  tuned.IncreaseParallelism(static_cast<int>(std::max(2u, std::thread::hardware_concurrency())));
  tuned.level_compaction_dynamic_level_bytes = true;
  tuned.bytes_per_sync = 1u << 20;
  tuned.write_buffer_size = bench::kWriteBufferBytes;
  tuned.max_write_buffer_number = 4;
  tuned.allow_concurrent_memtable_write = true;
  tuned.enable_pipelined_write = options.pipelined;
  tuned.enable_write_thread_adaptive_yield = options.yielding;
  if (options.recycled) {
    tuned.recycle_log_file_num = 4;
    tuned.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  }
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(bench::kCacheBytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  tuned.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return tuned;
}

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }

std::unique_ptr<rocksdb::DB> open_store(const DurableOptions& options) {
  rocksdb::DB* db = nullptr;
  must(rocksdb::DB::Open(tuned(options), options.path, &db));
  return std::unique_ptr<rocksdb::DB>(db);
}

void fill(rocksdb::DB& db, const DurableOptions& options) {
  rocksdb::WriteOptions unsynced;
  unsynced.disableWAL = true;
  const bench::Values values;
  for (std::uint64_t i = 0; i < options.keys; ++i) {
    must(db.Put(unsynced, slice(bench::Key(i).view()), slice(values.of(i))));
  }
  must(db.Flush({}));
  must(db.CompactRange({}, nullptr, nullptr));
}

void run(rocksdb::DB& db, const DurableOptions& options) {
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const bench::Window window(options);
  std::vector<std::uint64_t> counted(options.writers);
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < options.writers; ++i) {
    threads.emplace_back([&, i] {
      bench::Puts puts(options, i);
      std::uint64_t mine = 0;
      for (bool over = false; !over;) {
        puts.next();
        must(db.Put(synced, slice(puts.key()), slice(puts.value())));
        if (window.counts(over)) ++mine;
      }
      counted[i] = mine;
    });
  }
  threads.clear();
  std::uint64_t all = 0;
  for (const std::uint64_t count : counted) all += count;
  bench::print_rate(options, all);
}

}  // namespace

int main(int argc, char** argv) {
  DurableOptions options;
  const bool filling = bench::parse_durable_options(argc, argv, options);
  const std::unique_ptr<rocksdb::DB> db = open_store(options);
  if (filling) {
    fill(*db, options);
  } else {
    run(*db, options);
  }
  must(db->Close());
}
