#include <lmdb.h>

#include <filesystem>
#include <stdexcept>

#include "lmdb_side.hpp"
#include "scan_side.hpp"

namespace bench {

namespace {

class LmdbScan final : public ScanSide {
 public:
  explicit LmdbScan(const std::string& directory) : db_(directory) {}

  void put(std::string_view key, std::string_view value) override { db_.put(key, value); }
  void settle() override { db_.sync(); }
  ScanSum scan(std::string_view from, std::uint64_t count) override {
    ScanSum sum;
    db_.scan(from, [&sum, count](std::string_view key, std::string_view value) {
      sum.add(key, value);
      return sum.entries < count;
    });
    return sum;
  }

 private:
  Lmdb db_;
};

}  // namespace

std::unique_ptr<ScanSide> make_lmdb_scan(const std::string& directory) {
  std::filesystem::create_directories(directory);
  return std::make_unique<LmdbScan>(directory);
}

}  // namespace bench
