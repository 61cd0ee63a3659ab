// A peer as the scan benchmark sees it. What is handed out is looked at, not copied: each entry's sizes, and the first bytes of its
// key and value.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace bench {

struct ScanSum {
  std::uint64_t entries = 0;
  std::uint64_t sum = 0;

  void add(std::string_view key, std::string_view value) {
    ++entries;
    sum +=
        key.size() + value.size() + static_cast<unsigned char>(key.front()) + static_cast<unsigned char>(value.front());
  }
  bool operator==(const ScanSum&) const = default;
};

class ScanSide {
 public:
  ScanSide() = default;
  ScanSide(const ScanSide&) = delete;
  ScanSide& operator=(const ScanSide&) = delete;
  virtual ~ScanSide() = default;

  virtual void put(std::string_view key, std::string_view value) = 0;
  // Everything is where a reader of a settled store finds it.
  virtual void settle() = 0;
  // Reads `count` entries from the first key >= `from` on.
  virtual ScanSum scan(std::string_view from, std::uint64_t count) = 0;
};

// Each in a directory of its own, tuned as its users would for values that do not compress, with `cache_bytes` of cache where it has one.
std::unique_ptr<ScanSide> make_lmdb_scan(const std::string& directory);
std::unique_ptr<ScanSide> make_rocksdb_scan(const std::string& directory, std::size_t cache_bytes);
std::unique_ptr<ScanSide> make_wiredtiger_scan(const std::string& directory, std::size_t cache_bytes);

}  // namespace bench
