// The handle: forwards to the core.
#include <store/partition.hpp>

#include "store/partition/partition_core.hpp"
#include "store/partition/scan_core.hpp"

namespace store {

namespace {

detail::PartitionCore& core_of(const std::shared_ptr<detail::PartitionCore>& core) {
  if (!core) throw Error(Errc::closed, "the partition handle is empty: it was moved from or closed");
  return *core;
}

detail::PartitionCore& core_of(detail::PartitionCore* core) {
  if (core == nullptr) throw Error(Errc::closed, "the partition handle is empty: it was moved from or closed");
  return *core;
}

// The first key behind all keys with this prefix; nullopt when there is none.
std::optional<std::string> end_of_prefix(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (prefix.empty()) return std::nullopt;
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

}  // namespace

namespace detail {

bool GetOperation::try_now() { return core_of(core_).try_get(key_, result_); }
monterey::Task<std::optional<std::string>> GetOperation::later() { return core_->get(key_, core_->take_missed()); }

bool ContainsOperation::try_now() { return core_of(core_).try_contains(key_, result_); }
monterey::Task<bool> ContainsOperation::later() { return core_->contains(key_, core_->take_missed()); }

bool GetPinnedOperation::try_now() { return core_of(core_).try_get_pinned(key_, result_); }
monterey::Task<std::optional<PinnedValue>> GetPinnedOperation::later() {
  return core_->get_pinned(key_, core_->take_missed());
}

bool GetManyOperation::try_now() { return core_of(core_).try_get_many(keys_, result_); }
monterey::Task<PinnedValues> GetManyOperation::later() {
  return core_->get_many(keys_, std::move(result_), core_->take_missed_many());
}

bool PutOperation::try_now() { return core_of(core_).try_put(key_, value_); }
monterey::Task<> PutOperation::later() { return core_->put(key_, value_); }

bool CompareAndPutOperation::try_now() {
  const std::optional<bool> result = core_of(core_).try_compare_and_put(key_, expected_, desired_);
  if (result) result_ = *result;
  return result.has_value();
}
monterey::Task<bool> CompareAndPutOperation::later() { return core_->compare_and_put(key_, expected_, desired_); }

void release_user_pin(RawPin pin) noexcept {
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
monterey::Task<> flush_of(Core core) { co_await core_of(core).flush(); }
monterey::Task<> sync_of(Core core) { co_await core_of(core).sync(); }
monterey::Task<> close_of(Core core) { co_await core_of(core).close(); }

monterey::Task<CheckReport> check_of(Core core, CheckOptions options) {
  co_return co_await core_of(core).check(options);
}

monterey::Task<std::unique_ptr<detail::ScanCore>> scan_of(Core core, std::string from, std::optional<std::string> to,
                                                          ScanOptions options) {
  core_of(core).require_open();
  co_return std::make_unique<detail::ScanCore>(std::move(core), std::move(from), std::move(to), options);
}

}  // namespace

monterey::Task<> Partition::write(WriteBatch batch) { return write_to(core_, std::move(batch)); }
monterey::Task<> Partition::sync() { return sync_of(core_); }
monterey::Task<> Partition::flush() { return flush_of(core_); }
monterey::Task<> Partition::close() { return close_of(core_); }
monterey::Task<CheckReport> Partition::check(CheckOptions options) const { return check_of(core_, options); }
Stats Partition::stats() const { return core_of(core_).stats(); }

monterey::Task<Scan> Partition::start_scan(Core core, std::string from, std::optional<std::string> to,
                                           ScanOptions options) {
  co_return Scan(co_await scan_of(std::move(core), std::move(from), std::move(to), options));
}

monterey::Task<Scan> Partition::scan(std::string from, std::optional<std::string> to, ScanOptions options) const {
  return start_scan(core_, std::move(from), std::move(to), options);
}

monterey::Task<Scan> Partition::scan_prefix(std::string prefix, ScanOptions options) const {
  std::optional<std::string> to = end_of_prefix(prefix);
  return start_scan(core_, std::move(prefix), std::move(to), options);
}

}  // namespace store
