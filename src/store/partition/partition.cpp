// The handle: forwards to the core.
#include <store/partition.hpp>

#include "store/partition/partition_core.hpp"
#include "store/partition/scan_core.hpp"
#include "store/partition/snapshot_core.hpp"

namespace store {

namespace {

detail::PartitionCore& core_of(const std::shared_ptr<detail::PartitionCore>& core) {
  return detail::core_of(detail::ReadSource{core.get(), nullptr});
}

}  // namespace

namespace detail {

bool PutOperation::try_now() { return core_of(ReadSource{core_, nullptr}).try_put(key_, value_); }
monterey::Task<> PutOperation::later() { return core_->put(key_, value_); }

bool CompareAndPutOperation::try_now() {
  const std::optional<bool> result = core_of(ReadSource{core_, nullptr}).try_compare_and_put(key_, expected_, desired_);
  if (result) result_ = *result;
  return result.has_value();
}
monterey::Task<bool> CompareAndPutOperation::later() { return core_->compare_and_put(key_, expected_, desired_); }

SharedBytes* SharedBytes::make(std::size_t bytes) {
  return ::new (::operator new(sizeof(SharedBytes) + bytes)) SharedBytes{};
}

void SharedBytes::free(SharedBytes* memory) noexcept { ::operator delete(static_cast<void*>(memory)); }

void release_user_pin(RawPin pin) noexcept {
  if (pin.page == nullptr) {
    auto* const memory = static_cast<SharedBytes*>(pin.cache);
    if (--memory->users == 0) SharedBytes::free(memory);
    return;
  }
  const PageCache::UserPin given_back = PageCache::UserPin::adopt(pin.cache, pin.page);
}

}  // namespace detail

Partition::Partition(std::shared_ptr<detail::PartitionCore> core) : core_(std::move(core)) {}
Partition::Partition(Partition&&) noexcept = default;
Partition& Partition::operator=(Partition&&) noexcept = default;
Partition::~Partition() = default;

monterey::Task<Partition> Partition::create(std::unique_ptr<BlockDevice> device, PartitionConfig config,
                                            CreateOptions options) {
  co_return Partition(co_await detail::PartitionCore::create(std::move(device), nullptr, config, options));
}

monterey::Task<Partition> Partition::create(std::unique_ptr<BlockDevice> device,
                                            std::unique_ptr<BlockDevice> log_device, PartitionConfig config,
                                            CreateOptions options) {
  co_return Partition(
      co_await detail::PartitionCore::create(std::move(device), std::move(log_device), config, options));
}

monterey::Task<Partition> Partition::open(std::unique_ptr<BlockDevice> device, PartitionConfig config,
                                          OpenOptions options) {
  co_return Partition(co_await detail::PartitionCore::open(std::move(device), nullptr, config, options));
}

monterey::Task<Partition> Partition::open(std::unique_ptr<BlockDevice> device, std::unique_ptr<BlockDevice> log_device,
                                          PartitionConfig config, OpenOptions options) {
  co_return Partition(co_await detail::PartitionCore::open(std::move(device), std::move(log_device), config, options));
}

monterey::Task<Partition> Partition::open_or_create(std::unique_ptr<BlockDevice> device, PartitionConfig config) {
  co_return Partition(co_await detail::PartitionCore::open_or_create(std::move(device), nullptr, config));
}

monterey::Task<Partition> Partition::open_or_create(std::unique_ptr<BlockDevice> device,
                                                    std::unique_ptr<BlockDevice> log_device, PartitionConfig config) {
  co_return Partition(co_await detail::PartitionCore::open_or_create(std::move(device), std::move(log_device), config));
}

// A task that was not started yet keeps the core alive too, whatever becomes of the handle: the coroutines take it by value.
namespace {

using Core = std::shared_ptr<detail::PartitionCore>;

monterey::Task<> write_to(Core core, WriteBatch batch) { co_await core_of(core).write(std::move(batch)); }
monterey::Task<> erase_range_of(Core core, std::string from, std::optional<std::string> to) {
  co_await core_of(core).erase_range(std::move(from), std::move(to));
}
monterey::Task<RangeEstimate> approximate_range_of(Core core, std::string from, std::optional<std::string> to) {
  co_return co_await core_of(core).approximate_range(std::move(from), std::move(to));
}
monterey::Task<> flush_of(Core core) { co_await core_of(core).flush(); }
monterey::Task<> sync_of(Core core) { co_await core_of(core).sync(); }
monterey::Task<> close_of(Core core) { co_await core_of(core).close(); }

monterey::Task<BackupReport> backup_of(Core core, std::unique_ptr<BlockDevice> target, BackupOptions options) {
  co_return co_await core_of(core).backup(std::move(target), options);
}

monterey::Task<CompactReport> compact_of(Core core, CompactOptions options) {
  co_return co_await core_of(core).compact(options);
}

monterey::Task<CheckReport> check_of(Core core, CheckOptions options) {
  co_return co_await core_of(core).check(options);
}

}  // namespace

monterey::Task<std::uint64_t> Partition::start_bulk_load(Core core, std::unique_ptr<detail::AnyBulkSource> source) {
  co_return co_await core_of(core).bulk_load(*source);
}

monterey::Task<> Partition::write(WriteBatch batch) { return write_to(core_, std::move(batch)); }
monterey::Task<> Partition::erase_range(std::string from, std::optional<std::string> to) {
  return erase_range_of(core_, std::move(from), std::move(to));
}
monterey::Task<RangeEstimate> Partition::approximate_range(std::string from, std::optional<std::string> to) const {
  return approximate_range_of(core_, std::move(from), std::move(to));
}
monterey::Task<> Partition::sync() { return sync_of(core_); }
monterey::Task<> Partition::flush() { return flush_of(core_); }
monterey::Task<> Partition::close() { return close_of(core_); }
monterey::Task<CheckReport> Partition::check(CheckOptions options) const { return check_of(core_, options); }
monterey::Task<BackupReport> Partition::backup(std::unique_ptr<BlockDevice> target, BackupOptions options) const {
  return backup_of(core_, std::move(target), options);
}
monterey::Task<CompactReport> Partition::compact(CompactOptions options) { return compact_of(core_, options); }
Stats Partition::stats() const { return core_of(core_).stats(); }

Snapshot Partition::snapshot() const {
  core_of(core_).require_open();
  return Snapshot(std::make_shared<detail::SnapshotCore>(core_));
}

monterey::Task<Scan> Partition::scan(std::string from, std::optional<std::string> to, ScanOptions options) const {
  return detail::ScanCore::start(core_, std::move(from), std::move(to), options);
}

monterey::Task<Scan> Partition::scan_prefix(std::string prefix, ScanOptions options) const {
  std::optional<std::string> to = detail::end_of_prefix(prefix);
  return detail::ScanCore::start(core_, std::move(prefix), std::move(to), options);
}

}  // namespace store
