// Snapshots, and the reading verbs that they share with the partition.
#include <store/error.hpp>
#include <store/snapshot.hpp>
#include <utility>

#include "store/base/probes.hpp"
#include "store/partition/scan_core.hpp"
#include "store/partition/snapshot_core.hpp"

namespace store {

namespace detail {

namespace {

[[noreturn]] void throw_empty() { throw Error(Errc::closed, "the handle is empty: it was moved from or closed"); }

const View* view_of(ReadSource source) { return source.snapshot != nullptr ? &*source.snapshot->view() : nullptr; }

}  // namespace

PartitionCore& core_of(ReadSource source) {
  if (source.snapshot != nullptr) return *source.snapshot->partition();
  if (source.partition == nullptr) [[unlikely]]
    throw_empty();
  return *source.partition;
}

SnapshotCore::SnapshotCore(std::shared_ptr<PartitionCore> partition)
    : partition_(std::move(partition)), view_(partition_->add_snapshot_view()) {}

SnapshotCore::~SnapshotCore() {
  STORE_PROBE(snapshot_end, partition_.get(), view_->at.value);
  partition_->remove_view(view_);
}

bool GetOperation::try_now() {
  PartitionCore& core = core_of(source_);
  return core.sample_get([&] { return core.try_get(key_, view_of(source_), result_); });
}
monterey::Task<std::optional<std::string>> GetOperation::later() {
  PartitionCore& core = core_of(source_);
  return core.get(key_, view_of(source_), core.take_missed());
}

bool ContainsOperation::try_now() {
  PartitionCore& core = core_of(source_);
  return core.sample_get([&] { return core.try_contains(key_, view_of(source_), result_); });
}
monterey::Task<bool> ContainsOperation::later() {
  PartitionCore& core = core_of(source_);
  return core.contains(key_, view_of(source_), core.take_missed());
}

bool GetPinnedOperation::try_now() {
  PartitionCore& core = core_of(source_);
  return core.sample_get([&] { return core.try_get_pinned(key_, view_of(source_), result_); });
}
monterey::Task<std::optional<PinnedValue>> GetPinnedOperation::later() {
  PartitionCore& core = core_of(source_);
  return core.get_pinned(key_, view_of(source_), core.take_missed());
}

bool GetIntoOperation::try_now() {
  PartitionCore& core = core_of(source_);
  return core.sample_get([&] { return core.try_get_into(key_, view_of(source_), into_, options_, result_); });
}
monterey::Task<std::optional<std::size_t>> GetIntoOperation::later() {
  PartitionCore& core = core_of(source_);
  return core.get_into(key_, view_of(source_), into_, options_, core.take_missed());
}

bool GetManyOperation::try_now() { return core_of(source_).try_get_many(keys_, view_of(source_), result_); }
monterey::Task<PinnedValues> GetManyOperation::later() {
  PartitionCore& core = core_of(source_);
  std::shared_ptr<const View> view;  // one that keeps the snapshot
  if (source_.snapshot != nullptr) view = {source_.snapshot->shared_from_this(), view_of(source_)};
  return core.get_many(keys_, std::move(view), std::move(result_), core.take_missed_many());
}

}  // namespace detail

Snapshot::Snapshot(std::shared_ptr<detail::SnapshotCore> core) : core_(std::move(core)) {}
Snapshot::Snapshot(Snapshot&&) noexcept = default;
Snapshot& Snapshot::operator=(Snapshot&&) noexcept = default;
Snapshot::~Snapshot() = default;

monterey::Task<Scan> Snapshot::scan(std::string from, std::optional<std::string> to, ScanOptions options) const {
  return detail::ScanCore::start(core_, std::move(from), std::move(to), options);
}

monterey::Task<Scan> Snapshot::scan_prefix(std::string prefix, ScanOptions options) const {
  std::optional<std::string> to = detail::end_of_prefix(prefix);
  return detail::ScanCore::start(core_, std::move(prefix), std::move(to), options);
}

}  // namespace store
