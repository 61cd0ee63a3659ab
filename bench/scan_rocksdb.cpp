#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <stdexcept>

#include "scan_side.hpp"

namespace bench {

namespace {

void must(const rocksdb::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }

// Settled means compacted into one level: a scan then merges nothing.
class RocksDbScan final : public ScanSide {
 public:
  RocksDbScan(const std::string& directory, std::size_t cache_bytes) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.compression = rocksdb::kNoCompression;
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(cache_bytes);
    options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    rocksdb::DB* db = nullptr;
    must(rocksdb::DB::Open(options, directory, &db));
    db_.reset(db);
  }

  void put(std::string_view key, std::string_view value) override {
    rocksdb::WriteOptions unlogged;
    unlogged.disableWAL = true;
    must(db_->Put(unlogged, slice(key), slice(value)));
  }
  void settle() override {
    must(db_->Flush({}));
    must(db_->CompactRange({}, nullptr, nullptr));
    iterator_.reset(db_->NewIterator({}));
  }
  ScanSum scan(std::string_view from, std::uint64_t count) override {
    ScanSum sum;
    for (iterator_->Seek(slice(from)); iterator_->Valid() && sum.entries < count; iterator_->Next()) {
      sum.add(iterator_->key().ToStringView(), iterator_->value().ToStringView());
    }
    must(iterator_->status());
    return sum;
  }

 private:
  std::unique_ptr<rocksdb::DB> db_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
};

}  // namespace

std::unique_ptr<ScanSide> make_rocksdb_scan(const std::string& directory, std::size_t cache_bytes) {
  return std::make_unique<RocksDbScan>(directory, cache_bytes);
}

}  // namespace bench
