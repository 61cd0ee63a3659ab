// A walk over all shards in key order: the smallest entry (the largest in reverse) of those at which the scans of the shards stand. Those of
// this core are walked directly; those of others come in pieces, the next one read while this one is walked.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <store/config.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/sharded/shard_set.hpp"

namespace store::detail {

// A snapshot of all shards, dropped there when nobody holds it any more.
struct SnapshotHold {
  SnapshotHold(std::shared_ptr<ShardSet> of, std::uint64_t snapshot) : set(std::move(of)), number(snapshot) {}
  SnapshotHold(const SnapshotHold&) = delete;
  SnapshotHold& operator=(const SnapshotHold&) = delete;
  ~SnapshotHold();

  const std::shared_ptr<ShardSet> set;
  const std::uint64_t number;
};

class MergedScan {
 public:
  static monterey::Task<std::unique_ptr<MergedScan>> start(std::shared_ptr<SnapshotHold> snapshot, std::string from,
                                                           std::optional<std::string> to, ScanOptions options);
  MergedScan(std::shared_ptr<SnapshotHold> snapshot, ScanOptions options);
  MergedScan(const MergedScan&) = delete;
  MergedScan& operator=(const MergedScan&) = delete;
  ~MergedScan();

  // The next entry, if no shard must be waited for. Returns whether it was so; `there` says whether there is one.
  bool try_advance(bool& there);
  monterey::Task<bool> advance();
  monterey::Task<> seek(std::string key);
  void fail(std::exception_ptr error) noexcept { failed_ = std::move(error); }
  std::string_view key() const noexcept { return key_; }
  std::string_view value() const noexcept { return value_; }

 private:
  struct Source;

  bool before(const Source& a, const Source& b) const noexcept;
  void enter(Source& source);
  bool take_smallest();
  monterey::Task<> seek_all(const std::string& key);
  monterey::Task<> fill(Source* source);

  const std::shared_ptr<SnapshotHold> snapshot_;
  const ScanOptions options_;
  const std::uint64_t number_;  // of the scans in the shards
  std::uint64_t left_;          // entries up to the limit
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<Source*> heap_;   // those that stand at an entry, the next one first
  Source* current_ = nullptr;   // the one that gave key_ and value_; it must step before the next entry is chosen
  std::vector<Source*> empty_;  // those that must be filled before an entry can be chosen
  std::exception_ptr failed_;   // ends the scan: it never skips
  std::string_view key_;
  std::string_view value_;
};

}  // namespace store::detail
