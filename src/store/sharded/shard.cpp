#include "store/sharded/shard.hpp"

#include <algorithm>
#include <store/error.hpp>
#include <utility>

#include "store/base/planted.hpp"

namespace store::detail {

namespace {

constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kPrefetchedLines = 8;  // of a value

}  // namespace

std::unique_ptr<SharedBytes, CopiedValues::Release> CopiedValues::allocate(std::size_t bytes) {
  std::unique_ptr<SharedBytes, Release> memory(SharedBytes::make(bytes));
  memory->users = 1;
  return memory;
}

CopiedValues::CopiedValues(std::size_t values, std::size_t bytes)
    : room_(bytes), memory_(allocate(bytes)), places_(values) {}

void CopiedValues::copy(const Views& values) {
  bytes_ = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) continue;
    const std::string_view value = *values[i];
    places_[i] = {bytes_, static_cast<std::uint32_t>(value.size())};
    bytes_ += value.size();
    const char* const last = value.data() + std::min(value.size(), kPrefetchedLines * kLineBytes);
    for (const char* line = value.data(); line < last; line += kLineBytes) __builtin_prefetch(line);
  }
  if (bytes_ > room_) {
    memory_ = allocate(bytes_);
    room_ = bytes_;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i]) std::ranges::copy(*values[i], memory_->bytes() + places_[i].offset);
  }
}

std::optional<PinnedValue> CopiedValues::value(std::size_t i) const {
  const Place& place = places_[i];
  if (place.bytes == kAbsent) return std::nullopt;
  return PartitionAccess::value({memory_->bytes() + place.offset, place.bytes}, memory_.get());
}

Partition& Shard::partition_to_check() {
  if (!partition_) throw Error(Errc::closed, "the sharded store is closed; open it again to use it");
  return *partition_;
}

Partition& Shard::partition() {
  Partition& all = partition_to_check();
  if (!failure_.empty()) [[unlikely]]
    throw Error(Errc::poisoned, failure_);
  return all;
}

ReadSource Shard::source(std::uint64_t snapshot) {
  PartitionCore& newest = PartitionAccess::core(partition());
  if (snapshot == 0) return {&newest, nullptr};
  const auto it = snapshots_.find(snapshot);
  if (it == snapshots_.end()) throw Error(Errc::closed, "the snapshot is closed");
  return {&newest, PartitionAccess::core(it->second).get()};
}

monterey::Task<std::optional<std::string>> Shard::get(std::uint64_t snapshot, std::string_view key) {
  if (snapshot == 0) co_return co_await partition().get(key);
  source(snapshot);
  co_return co_await snapshots_.at(snapshot).get(key);
}

monterey::Task<bool> Shard::contains(std::uint64_t snapshot, std::string_view key) {
  if (snapshot == 0) co_return co_await partition().contains(key);
  source(snapshot);
  co_return co_await snapshots_.at(snapshot).contains(key);
}

monterey::Task<std::optional<std::size_t>> Shard::get_into(std::uint64_t snapshot, std::string_view key,
                                                           std::span<std::byte> into, GetIntoOptions options) {
  if (snapshot == 0) co_return co_await partition().get_into(key, into, options);
  source(snapshot);
  co_return co_await snapshots_.at(snapshot).get_into(key, into, options);
}

monterey::Task<PinnedValues> Shard::get_many(std::uint64_t snapshot, std::span<const std::string_view> keys) {
  if (snapshot == 0) co_return co_await partition().get_many(keys);
  source(snapshot);
  co_return co_await snapshots_.at(snapshot).get_many(keys);
}

monterey::Task<> Shard::get_many_copies(std::uint64_t snapshot, std::span<const std::string_view> keys,
                                        CopiedValues::Views* views, CopiedValues* into) {
  const ReadSource from = source(snapshot);
  const View* const view = from.snapshot != nullptr ? &*from.snapshot->view() : nullptr;
  views->assign(keys.size(), std::nullopt);
  PinnedValues values;  // of which the views are, if they had to be read
  if (!from.partition->try_view_many(keys, view, *views)) {
    values = co_await get_many(snapshot, keys);
    views->assign(keys.size(), std::nullopt);  // others have used it meanwhile
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i]) (*views)[i] = values[i]->view();
    }
  }
  into->copy(*views);
}

monterey::Task<> Shard::acknowledge() {
  while (withholding_ && !planted(Planted::acknowledged_during_snapshot)) co_await acknowledging_.wait();
}

monterey::Task<> Shard::put(std::string_view key, std::optional<std::string_view> value) {
  {
    const monterey::Semaphore::Units inside = co_await writes.hold();
    if (value) {
      co_await partition().put(key, *value);
    } else {
      co_await partition().erase(key);
    }
  }
  co_await acknowledge();
}

monterey::Task<bool> Shard::compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                                            std::optional<std::string_view> desired) {
  bool done = false;
  {
    const monterey::Semaphore::Units inside = co_await writes.hold();
    done = co_await partition().compare_and_put(key, expected, desired);
  }
  co_await acknowledge();
  co_return done;
}

monterey::Task<> Shard::write(WriteBatch batch) {
  {
    const monterey::Semaphore::Units inside = co_await writes.hold();
    co_await partition().write(std::move(batch));
  }
  co_await acknowledge();
}

monterey::Task<> Shard::erase_range(std::string from, std::string to) {
  {
    const monterey::Semaphore::Units inside = co_await writes.hold();
    co_await partition().erase_range(std::move(from), std::move(to));
  }
  co_await acknowledge();
}

monterey::Task<> Shard::take_snapshot(std::uint64_t number) {
  snapshots_.emplace(number, partition().snapshot());
  withholding_ = true;
  co_return;
}

monterey::Task<> Shard::begin_scan(std::uint64_t number, std::uint64_t snapshot, std::string from, std::string to,
                                   ScanOptions options) {
  source(snapshot);
  const auto it = snapshots_.find(snapshot);
  monterey::Task<Scan> start = it == snapshots_.end() ? partition().scan(std::move(from), std::move(to), options)
                                                      : it->second.scan(std::move(from), std::move(to), options);
  Scan scan = co_await std::move(start);
  scans_.emplace(number, std::make_shared<Scan>(std::move(scan)));
}

std::shared_ptr<Scan> Shard::scan(std::uint64_t number) {
  const auto it = scans_.find(number);
  if (it == scans_.end()) throw Error(Errc::closed, "the scan ended with the sharded store, which was closed");
  return it->second;
}

monterey::Task<EntryPiece> Shard::read_scan(std::uint64_t number, std::size_t bytes) {
  EntryPiece piece;
  try {
    const std::shared_ptr<Scan> from = scan(number);  // kept, whoever drops it meanwhile
    while (piece.entries.empty() || piece.bytes.size() < bytes) {
      const bool there = co_await from->advance();
      if (!there) {
        piece.last = true;
        break;
      }
      piece.add(from->key(), from->value());
    }
  } catch (...) {
    piece.error = std::current_exception();
  }
  co_return piece;
}

monterey::Task<> Shard::seek_scan(std::uint64_t number, std::string key) {
  const std::shared_ptr<Scan> in = scan(number);
  co_await in->seek(std::move(key));
}

monterey::Task<std::uint64_t> Shard::close() {
  if (!partition_) partition();
  Partition closing = *std::exchange(partition_, std::nullopt);
  const PartitionCore& behind = PartitionAccess::core(closing);
  std::exception_ptr error;
  try {
    co_await closing.close();
  } catch (...) {
    error = std::current_exception();
  }
  const std::uint64_t generation = behind.durable_generation().value;
  drop();
  if (error) std::rethrow_exception(error);
  co_return generation;
}

void Shard::drop() {
  scans_.clear();
  snapshots_.clear();
  partition_.reset();
}

}  // namespace store::detail
