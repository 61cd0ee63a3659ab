// The reading verbs of a partition and of its snapshots, as awaitables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <store/config.hpp>
#include <store/detail/operation.hpp>
#include <store/pinned_value.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace store {
class Partition;
class Snapshot;
}  // namespace store

namespace store::detail {

class PartitionCore;
class SnapshotCore;

// What a verb reads: the newest state of a partition, or a snapshot. Null both: a handle that was moved from.
struct ReadSource {
  PartitionCore* partition = nullptr;
  SnapshotCore* snapshot = nullptr;
};

class [[nodiscard]] GetOperation final : public Operation<GetOperation, std::optional<std::string>> {
 private:
  friend class store::Partition;
  friend class store::Snapshot;
  friend class Operation<GetOperation, std::optional<std::string>>;
  GetOperation(ReadSource source, std::string_view key) : source_(source), key_(key) {}
  bool try_now();
  std::optional<std::string> take() { return std::move(result_); }
  monterey::Task<std::optional<std::string>> later();

  ReadSource source_;
  std::string_view key_;
  std::optional<std::string> result_;
};

class [[nodiscard]] ContainsOperation final : public Operation<ContainsOperation, bool> {
 private:
  friend class store::Partition;
  friend class store::Snapshot;
  friend class Operation<ContainsOperation, bool>;
  ContainsOperation(ReadSource source, std::string_view key) : source_(source), key_(key) {}
  bool try_now();
  bool take() const { return result_; }
  monterey::Task<bool> later();

  ReadSource source_;
  std::string_view key_;
  bool result_ = false;
};

class [[nodiscard]] GetPinnedOperation final : public Operation<GetPinnedOperation, std::optional<PinnedValue>> {
 private:
  friend class store::Partition;
  friend class store::Snapshot;
  friend class Operation<GetPinnedOperation, std::optional<PinnedValue>>;
  GetPinnedOperation(ReadSource source, std::string_view key) : source_(source), key_(key) {}
  bool try_now();
  std::optional<PinnedValue> take() { return std::move(result_); }
  monterey::Task<std::optional<PinnedValue>> later();

  ReadSource source_;
  std::string_view key_;
  std::optional<PinnedValue> result_;
};

class [[nodiscard]] GetIntoOperation final : public Operation<GetIntoOperation, std::optional<std::size_t>> {
 private:
  friend class store::Partition;
  friend class store::Snapshot;
  friend class Operation<GetIntoOperation, std::optional<std::size_t>>;
  GetIntoOperation(ReadSource source, std::string_view key, std::span<std::byte> into, GetIntoOptions options)
      : source_(source), key_(key), into_(into), options_(options) {}
  bool try_now();
  std::optional<std::size_t> take() const { return result_; }
  monterey::Task<std::optional<std::size_t>> later();

  ReadSource source_;
  std::string_view key_;
  std::span<std::byte> into_;
  GetIntoOptions options_;
  std::optional<std::size_t> result_;
};

using PinnedValues = std::vector<std::optional<PinnedValue>>;

class [[nodiscard]] GetManyOperation final : public Operation<GetManyOperation, PinnedValues> {
 private:
  friend class store::Partition;
  friend class store::Snapshot;
  friend class Operation<GetManyOperation, PinnedValues>;
  GetManyOperation(ReadSource source, std::span<const std::string_view> keys) : source_(source), keys_(keys) {}
  bool try_now();
  std::int32_t units() const noexcept { return static_cast<std::int32_t>(keys_.size() + 1); }
  PinnedValues take() { return std::move(result_); }
  monterey::Task<PinnedValues> later();

  ReadSource source_;
  std::span<const std::string_view> keys_;
  PinnedValues result_;
};

}  // namespace store::detail
