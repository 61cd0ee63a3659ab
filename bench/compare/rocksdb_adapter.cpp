// RocksDB as its users tune it for these workloads: no compression, for the values have none to give; bloom filters of 10 bits a key; blocks
// of 4 KiB; a block cache of what the memory leaves; dynamic level sizes; background work on every core; index and filters held in memory.
// Where memory is short, reads and background I/O go past the page cache of the kernel (direct), whose double buffering would
// take memory from the block cache. Promises: no log (none), a log without sync (batched), or with it (durable). Options::tuning, a
// list divided by commas: buffered (no direct I/O), recycled (logs are used again), pipelined (enable_pipelined_write),
// async_io (of a MultiGet).
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>
#include <rocksdb/version.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "adapter.hpp"

namespace comparison {
namespace {

void must(const rocksdb::Status& status) {
  if (!status.ok()) throw std::runtime_error("RocksDB: " + status.ToString());
}

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }

struct Tuned {
  rocksdb::Options options;
  rocksdb::WriteOptions write;
  rocksdb::ReadOptions read;
  std::size_t cache_bytes = 0;
  std::string tuning;
};

Tuned tune(const Options& options) {
  const auto is_on = [&](std::string_view word) { return options.tuning.find(word) != std::string::npos; };
  const bool direct = options.limited && !is_on("buffered");
  const bool writes = options.workload.starts_with("load_") || mix_of(options.workload).writes();
  Tuned tuned;
  tuned.tuning = options.tuning;
  rocksdb::Options& db = tuned.options;
  db.create_if_missing = true;
  db.compression = rocksdb::kNoCompression;
  db.IncreaseParallelism(static_cast<int>(std::max(2u, std::thread::hardware_concurrency())));
  db.level_compaction_dynamic_level_bytes = true;
  db.bytes_per_sync = 1u << 20;
  db.max_open_files = -1;
  db.max_write_buffer_number = 3;
  db.write_buffer_size = options.limited ? options.memory_bytes / 8 : 64u << 20;
  if (options.write_buffer_bytes != 0) db.write_buffer_size = options.write_buffer_bytes;
  db.enable_pipelined_write = is_on("pipelined");
  if (is_on("recycled")) {
    db.recycle_log_file_num = 4;
    db.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  }
  db.use_direct_reads = direct;
  db.use_direct_io_for_flush_and_compaction = direct;
  if (direct) db.compaction_readahead_size = 1u << 20;
  tuned.cache_bytes = options.cache_bytes != 0 ? options.cache_bytes
                      : !options.limited       ? options.memory_bytes
                      : writes                 ? options.memory_bytes * 5 / 16
                                               : options.memory_bytes / 2;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(tuned.cache_bytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  db.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  tuned.write.disableWAL = options.promise == Promise::none;
  tuned.write.sync = options.promise == Promise::durable;
  tuned.read.async_io = is_on("async_io");
  return tuned;
}

class RocksDbSession final : public Session {
 public:
  RocksDbSession(rocksdb::DB& db, const Tuned& tuned) : db_(db), tuned_(tuned) {}

  void get(Client& client) override {
    const rocksdb::Status status = db_.Get(tuned_.read, db_.DefaultColumnFamily(), slice(client.key()), &copy_);
    tell(client, 0, status, copy_);
  }
  void get_pinned(Client& client) override {
    pinned_.Reset();
    const rocksdb::Status status = db_.Get(tuned_.read, db_.DefaultColumnFamily(), slice(client.key()), &pinned_);
    tell(client, 0, status, pinned_.ToStringView());
  }
  void get_many(Client& client) override {
    const std::size_t count = client.keys().size();
    keys_.clear();
    for (const std::string_view key : client.keys()) keys_.push_back(slice(key));
    values_.resize(count);
    statuses_.resize(count);
    db_.MultiGet(tuned_.read, db_.DefaultColumnFamily(), count, keys_.data(), values_.data(), statuses_.data(), false);
    for (std::size_t i = 0; i < count; ++i) {
      if (statuses_[i].ok()) copy_.assign(values_[i].data(), values_[i].size());
      tell(client, i, statuses_[i], copy_);
      values_[i].Reset();
    }
  }
  void put(std::string_view key, std::string_view value) override {
    must(db_.Put(tuned_.write, slice(key), slice(value)));
  }
  void scan(std::string_view from, const Take& take) override {
    const std::unique_ptr<rocksdb::Iterator> iterator(db_.NewIterator(tuned_.read));
    for (iterator->Seek(slice(from)); iterator->Valid(); iterator->Next()) {
      if (!take(iterator->key().ToStringView(), iterator->value().ToStringView())) break;
    }
    must(iterator->status());
  }

 private:
  static void tell(Client& client, std::size_t i, const rocksdb::Status& status, std::string_view value) {
    if (status.IsNotFound()) return client.absent(i);
    must(status);
    client.found(i, value);
  }

  rocksdb::DB& db_;
  const Tuned& tuned_;
  std::string copy_;
  rocksdb::PinnableSlice pinned_;
  std::vector<rocksdb::Slice> keys_;
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
};

class RocksDbPeer final : public Peer {
 public:
  explicit RocksDbPeer(const Options& options) : path_(options.path), tuned_(tune(options)) {
    rocksdb::DB* db = nullptr;
    must(rocksdb::DB::Open(tuned_.options, options.path, &db));
    db_.reset(db);
  }

  std::unique_ptr<Session> session() override { return std::make_unique<RocksDbSession>(*db_, tuned_); }
  // Tables are written by SstFileWriter and taken in whole: RocksDB's own way to load what is sorted.
  void load_sorted(Source& source) override {
    std::vector<std::string> files;
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), tuned_.options);
    std::string_view key;
    std::string_view value;
    while (source.next(key, value)) {
      if (files.empty() || writer.FileSize() >= tuned_.options.target_file_size_base) {
        if (!files.empty()) must(writer.Finish());
        files.push_back(fmt::format("{}/load-{}.sst", path_, files.size()));
        must(writer.Open(files.back()));
      }
      must(writer.Put(slice(key), slice(value)));
    }
    if (!files.empty()) must(writer.Finish());
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    must(db_->IngestExternalFile(files, ingest));
  }
  void flush() override { must(db_->Flush({})); }
  void settle() override {
    flush();
    must(db_->CompactRange({}, nullptr, nullptr));
  }
  Report report() override {
    const rocksdb::Options& db = tuned_.options;
    Report report;
    report.configuration = fmt::format(
        "no compression, bloom 10 bits, block 4096, block cache {}, write_buffer_size {}, max_write_buffer_number {}, "
        "direct I/O {}, "
        "max_background_jobs {}, level_compaction_dynamic_level_bytes, {}{}{}, version {}.{}.{}",
        tuned_.cache_bytes, db.write_buffer_size, db.max_write_buffer_number, db.use_direct_reads ? "yes" : "no",
        db.max_background_jobs,
        tuned_.write.disableWAL ? "no log"
        : tuned_.write.sync     ? "log synced"
                                : "log not synced",
        tuned_.tuning.empty() ? "" : ", ", tuned_.tuning, ROCKSDB_MAJOR, ROCKSDB_MINOR, ROCKSDB_PATCH);
    return report;
  }

 private:
  std::string path_;
  Tuned tuned_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

std::unique_ptr<Peer> open_rocksdb(const Options& options) { return std::make_unique<RocksDbPeer>(options); }

}  // namespace comparison
