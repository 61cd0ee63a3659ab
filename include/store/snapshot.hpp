// A partition as it was at one moment: all writes applied before Partition::snapshot(), some perhaps not durable yet, and none
// since. It costs no I/O and no copy. While it lives, blocks that only it can read are kept from being used again; a flush
// moves it from the write buffers onto a tree of its own, so that it holds none of their memory.
//
// A movable handle that belongs to the core it was made on. Snapshots are dropped in any order, may outlive the Partition
// handle, and keep the partition alive as an open scan does. What an operation or a scan of a snapshot reads stays in place
// until that ends, also when the handle goes before it. After Partition::close() every call throws `closed`.
//
// The calls are Partition's, with the same rules and errors.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <store/config.hpp>
#include <store/detail/read_operations.hpp>
#include <store/scan.hpp>
#include <string>
#include <string_view>

namespace store {

class Snapshot {
 public:
  Snapshot(Snapshot&&) noexcept;
  Snapshot& operator=(Snapshot&&) noexcept;
  ~Snapshot();

  detail::GetOperation get(std::string_view key) const { return {source(), key}; }
  detail::ContainsOperation contains(std::string_view key) const { return {source(), key}; }
  detail::GetPinnedOperation get_pinned(std::string_view key) const { return {source(), key}; }
  detail::GetIntoOperation get_into(std::string_view key, std::span<std::byte> into,
                                    GetIntoOptions options = {}) const {
    return {source(), key, into, options};
  }
  detail::GetManyOperation get_many(std::span<const std::string_view> keys) const { return {source(), keys}; }

  // The entries of [from, to) in key order, as of the snapshot.
  [[nodiscard]] monterey::Task<Scan> scan(std::string from, std::optional<std::string> to = std::nullopt,
                                          ScanOptions options = {}) const;
  [[nodiscard]] monterey::Task<Scan> scan_prefix(std::string prefix, ScanOptions options = {}) const;

 private:
  friend class Partition;
  friend struct detail::PartitionAccess;
  explicit Snapshot(std::shared_ptr<detail::SnapshotCore> core);
  detail::ReadSource source() const { return {nullptr, core_.get()}; }

  std::shared_ptr<detail::SnapshotCore> core_;
};

}  // namespace store
