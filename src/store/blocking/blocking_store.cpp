// The verbs: in memory on the caller's thread, else by the store's own.
#include <store/blocking_store.hpp>

#include <algorithm>
#include <array>
#include <exception>
#include <store/block_device.hpp>
#include <store/error.hpp>
#include <store/nvme_block_device.hpp>
#include <store/partition.hpp>

#include "store/blocking/store_core.hpp"

namespace store {
namespace {

using monterey::Task;

constexpr std::size_t kKeysAtOnce = 16;  // of a get_many, while others wait
// What a scan brings at once: little first, for those that end soon.
constexpr std::size_t kFirstPieceBytes = std::size_t{4} << 10;
constexpr std::size_t kPieceBytes = std::size_t{64} << 10;

// Its entries are counted where they are handed out.
ScanOptions without_limit(ScanOptions options) {
  options.limit = ScanOptions().limit;
  return options;
}

}  // namespace

namespace detail {

// A scan of a partition, whose entries come in pieces.
class StoreScanCore {
 public:
  StoreScanCore(std::shared_ptr<StoreCore> in, std::uint64_t limit) : store(std::move(in)), left(limit) {}
  StoreScanCore(const StoreScanCore&) = delete;
  StoreScanCore& operator=(const StoreScanCore&) = delete;
  ~StoreScanCore() { store->drop_there(scan); }

  // On the store's thread.
  Task<> begin(Task<Scan> start) { scan.emplace(co_await std::move(start)); }

  bool is_ready() const noexcept { return at < ends.size() || last || left == 0; }

  bool next(StoreScan::Entry& entry) {
    store->owner.require_usable();
    if (store->is_closed.load(std::memory_order_relaxed)) {
      throw Error(Errc::closed, "the scan's store is closed; open it again to scan");
    }
    if (left == 0) return false;
    if (at == ends.size()) {
      if (error) std::rethrow_exception(error);
      if (last) return false;
      store->owner.run([this] { return fill(); });
      if (ends.empty() && error) std::rethrow_exception(error);
      if (ends.empty()) return false;
    }
    --left;
    const std::size_t begin = at == 0 ? 0 : ends[at - 1].value;
    entry.key = std::string_view(bytes).substr(begin, ends[at].key - begin);
    entry.value = std::string_view(bytes).substr(ends[at].key, ends[at].value - ends[at].key);
    ++at;
    return true;
  }

  void seek(std::string_view key) {
    forget();
    last = false;
    error = nullptr;
    store->owner.run([this, key]() -> Task<> { co_await scan->seek(std::string(key)); });
    piece_bytes = kFirstPieceBytes;
  }

 private:
  // Where an entry's key and value end in `bytes`.
  struct Ends {
    std::size_t key;
    std::size_t value;
  };

  void forget() {
    bytes.clear();
    ends.clear();
    at = 0;
  }

  // What goes wrong ends the scan, behind the entries before it.
  Task<> fill() {
    forget();
    try {
      while (bytes.size() < piece_bytes && ends.size() < left) {
        const bool there = co_await scan->advance();
        if (!there) {
          last = true;
          break;
        }
        bytes.append(scan->key());
        const std::size_t key_end = bytes.size();
        bytes.append(scan->value());
        ends.push_back({key_end, bytes.size()});
      }
    } catch (...) {
      error = std::current_exception();
    }
    piece_bytes = kPieceBytes;
  }

  const std::shared_ptr<StoreCore> store;
  std::optional<Scan> scan;
  std::string bytes;  // of the entries of a piece
  std::vector<Ends> ends;
  std::size_t at = 0;
  std::size_t piece_bytes = kFirstPieceBytes;
  std::uint64_t left;        // entries up to the limit
  bool last = false;         // there are none behind them
  std::exception_ptr error;  // what came behind them
};

StoreScan StoreCore::scan(Task<Scan> start, std::uint64_t limit) {
  auto core = std::make_unique<StoreScanCore>(shared_from_this(), limit);
  owner.run([&] { return core->begin(std::move(start)); });
  return StoreScan(std::move(core));
}

}  // namespace detail

// --- scans ---

StoreScan::StoreScan(std::unique_ptr<detail::StoreScanCore> core) : core_(std::move(core)) {}
StoreScan::StoreScan(StoreScan&&) noexcept = default;
StoreScan& StoreScan::operator=(StoreScan&&) noexcept = default;
StoreScan::~StoreScan() = default;

bool StoreScan::is_ready() const noexcept { return core_ && core_->is_ready(); }
bool StoreScan::next() {
  if (!core_) throw Error(Errc::closed, "the scan is empty: it was moved from");
  return core_->next(entry_);
}
void StoreScan::seek(std::string_view key) {
  if (!core_) throw Error(Errc::closed, "the scan is empty: it was moved from");
  core_->seek(key);
}

// --- snapshots ---

struct StoreSnapshot::Held {
  ~Held() { store->drop_there(snapshot); }

  std::shared_ptr<detail::StoreCore> store;
  std::optional<Snapshot> snapshot;
};

StoreSnapshot detail::StoreCore::snapshot() {
  auto held = std::make_unique<StoreSnapshot::Held>();
  held->store = shared_from_this();
  owner.require_usable();
  const Owner::Inside inside(owner);
  held->snapshot.emplace(db->snapshot());
  return StoreSnapshot(std::move(held));
}

StoreSnapshot::StoreSnapshot(std::unique_ptr<Held> held) : held_(std::move(held)) {}
StoreSnapshot::StoreSnapshot(StoreSnapshot&&) noexcept = default;
StoreSnapshot& StoreSnapshot::operator=(StoreSnapshot&&) noexcept = default;
StoreSnapshot::~StoreSnapshot() = default;

namespace {

// The verbs that read, of the newest state or a snapshot: `source` is a Partition or a Snapshot, and `view` what it sees.
template <class Source>
std::optional<std::string> get_from(detail::StoreCore& store, Source& source, const View* view, std::string_view key) {
  std::optional<std::string> value;
  const bool done = store.read(view, [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    return partition.try_get(key, view, value, reader);
  });
  if (done) return value;
  return store.owner.run([&]() -> Task<std::optional<std::string>> { co_return co_await source.get(key); });
}

template <class Source>
bool contains_in(detail::StoreCore& store, Source& source, const View* view, std::string_view key) {
  bool there = false;
  const bool done = store.read(view, [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    return partition.try_contains(key, view, there, reader);
  });
  if (done) return there;
  return store.owner.run([&]() -> Task<bool> { co_return co_await source.contains(key); });
}

template <class Source>
std::vector<std::optional<std::string>> get_many_from(detail::StoreCore& store, Source& source, const View* view,
                                                      std::span<const std::string_view> keys) {
  store.owner.require_usable();
  std::vector<std::optional<std::string>> values(keys.size());
  std::array<std::optional<std::string_view>, kKeysAtOnce> views;
  std::size_t done = 0;
  const auto copy_some = [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    const auto some = keys.subspan(done, std::min(kKeysAtOnce, keys.size() - done));
    views.fill(std::nullopt);
    if (!partition.try_view_many(some, view, std::span(views).first(some.size()), reader)) return false;
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (views[i]) values[done + i].emplace(*views[i]);
    }
    done += some.size();
    return true;
  };
  while (done < keys.size() && store.read(view, copy_some)) {
  }
  if (done == keys.size()) return values;
  return store.owner.run([&]() -> Task<std::vector<std::optional<std::string>>> {
    const auto found = co_await source.get_many(keys);
    co_return detail::copies_of(found);
  });
}

// Errors: closed for a handle that was moved from.
template <class Held>
auto& require(const std::unique_ptr<Held>& held) {
  if (!held) throw Error(Errc::closed, "the snapshot is empty: it was moved from");
  return *held;
}

const View* view_of(const Snapshot& snapshot) { return &*detail::PartitionAccess::core(snapshot)->view(); }

}  // namespace

std::optional<std::string> StoreSnapshot::get(std::string_view key) const {
  Held& held = require(held_);
  return get_from(*held.store, *held.snapshot, view_of(*held.snapshot), key);
}
bool StoreSnapshot::contains(std::string_view key) const {
  Held& held = require(held_);
  return contains_in(*held.store, *held.snapshot, view_of(*held.snapshot), key);
}
std::vector<std::optional<std::string>> StoreSnapshot::get_many(std::span<const std::string_view> keys) const {
  Held& held = require(held_);
  return get_many_from(*held.store, *held.snapshot, view_of(*held.snapshot), keys);
}
StoreScan StoreSnapshot::scan(std::string_view from, std::optional<std::string> to, ScanOptions options) const {
  Held& held = require(held_);
  held.store->owner.require_usable();
  return held.store->scan(held.snapshot->scan(std::string(from), std::move(to), without_limit(options)), options.limit);
}
StoreScan StoreSnapshot::scan_prefix(std::string_view prefix, ScanOptions options) const {
  Held& held = require(held_);
  held.store->owner.require_usable();
  return held.store->scan(held.snapshot->scan_prefix(std::string(prefix), without_limit(options)), options.limit);
}

// --- the store ---

Store::Store(std::shared_ptr<detail::StoreCore> core) : core_(std::move(core)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&& other) noexcept {
  if (this == &other) return *this;
  const Store closed(std::move(*this));
  core_ = std::move(other.core_);
  return *this;
}

Store Store::open(std::string path, StoreOptions options) {
  return Store(detail::StoreCore::open(std::move(path), options, false));
}
Store Store::open_read_only(std::string path, StoreOptions options) {
  return Store(detail::StoreCore::open(std::move(path), options, true));
}

Store::~Store() {
  if (!core_) return;
  try {
    core_->close();
  } catch (const std::exception&) {
    // It was closed, or nobody is told.
  }
}

detail::StoreCore& Store::core() const {
  if (!core_) throw Error(Errc::closed, "the store is empty: it was moved from");
  return *core_;
}

std::optional<std::string> Store::get(std::string_view key) const {
  detail::StoreCore& store = core();
  return get_from(store, *store.db, nullptr, key);
}
bool Store::contains(std::string_view key) const {
  detail::StoreCore& store = core();
  return contains_in(store, *store.db, nullptr, key);
}
std::vector<std::optional<std::string>> Store::get_many(std::span<const std::string_view> keys) const {
  detail::StoreCore& store = core();
  return get_many_from(store, *store.db, nullptr, keys);
}
std::optional<std::size_t> Store::get_into(std::string_view key, std::span<std::byte> into,
                                           GetIntoOptions options) const {
  detail::StoreCore& store = core();
  std::optional<std::size_t> size;
  const bool done = store.read(nullptr, [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    return partition.try_get_into(key, nullptr, into, options, size, reader);
  });
  if (done) return size;
  return store.owner.run(
      [&]() -> Task<std::optional<std::size_t>> { co_return co_await store.db->get_into(key, into, options); });
}
std::optional<std::optional<std::size_t>> Store::try_get_into(std::string_view key, std::span<std::byte> into,
                                                              GetIntoOptions options) const {
  std::optional<std::size_t> size;
  const bool done = core().try_read([&](const detail::PartitionCore& partition, detail::Reader& reader) {
    return partition.try_get_into(key, nullptr, into, options, size, reader);
  });
  if (!done) return std::nullopt;
  return size;
}

void Store::put(std::string_view key, std::string_view value) {
  detail::StoreCore& store = core();
  store.owner.require_usable();
  {
    const detail::OwnerThread::Inside inside(store.owner);
    if (store.partition().try_put(key, value)) return;
  }
  store.owner.run([&]() -> Task<> { co_await store.db->put(key, value); });
}
void Store::erase(std::string_view key) {
  detail::StoreCore& store = core();
  store.owner.require_usable();
  {
    const detail::OwnerThread::Inside inside(store.owner);
    if (store.partition().try_put(key, std::nullopt)) return;
  }
  store.owner.run([&]() -> Task<> { co_await store.db->erase(key); });
}
bool Store::compare_and_put(std::string_view key, std::optional<std::string_view> expected,
                            std::optional<std::string_view> desired) {
  detail::StoreCore& store = core();
  store.owner.require_usable();
  {
    const detail::OwnerThread::Inside inside(store.owner);
    const std::optional<bool> done = store.partition().try_compare_and_put(key, expected, desired);
    if (done) return *done;
  }
  return store.owner.run([&]() -> Task<bool> { co_return co_await store.db->compare_and_put(key, expected, desired); });
}
void Store::write(WriteBatch batch) {
  core().owner.run([&]() -> Task<> { co_await core_->db->write(std::move(batch)); });
}
void Store::erase_range(std::string_view from, std::optional<std::string> to) {
  core().owner.run([&]() -> Task<> { co_await core_->db->erase_range(std::string(from), std::move(to)); });
}
std::uint64_t Store::bulk_load_from(detail::AnyBulkSource& source) {
  return core().owner.run([&]() -> Task<std::uint64_t> { co_return co_await core_->partition().bulk_load(source); });
}

StoreScan Store::scan(std::string_view from, std::optional<std::string> to, ScanOptions options) const {
  core().owner.require_usable();
  return core_->scan(core_->db->scan(std::string(from), std::move(to), without_limit(options)), options.limit);
}
StoreScan Store::scan_prefix(std::string_view prefix, ScanOptions options) const {
  core().owner.require_usable();
  return core_->scan(core_->db->scan_prefix(std::string(prefix), without_limit(options)), options.limit);
}
StoreSnapshot Store::snapshot() const { return core().snapshot(); }
RangeEstimate Store::approximate_range(std::string_view from, std::optional<std::string> to) const {
  return core().owner.run([&]() -> Task<RangeEstimate> {
    co_return co_await core_->db->approximate_range(std::string(from), std::move(to));
  });
}

void Store::sync() {
  core().owner.run([&]() -> Task<> { co_await core_->db->sync(); });
}
void Store::flush() {
  core().owner.run([&]() -> Task<> { co_await core_->db->flush(); });
}
CompactReport Store::compact(CompactOptions options) {
  return core().owner.run([&]() -> Task<CompactReport> { co_return co_await core_->db->compact(options); });
}
BackupReport Store::backup(std::string target, BackupOptions options) const {
  return core().owner.run([&]() -> Task<BackupReport> {
    if (core_->is_closed.load(std::memory_order_relaxed)) {  // before the target is made
      throw Error(Errc::closed, "the store is closed; open it again to copy it");
    }
    const FileBlockDeviceOptions how{.create = !options.since};
    std::unique_ptr<BlockDevice> device = co_await detail::open_device(std::move(target), how);
    co_return co_await core_->db->backup(std::move(device), options);
  });
}
CheckReport Store::check(CheckOptions options) const {
  return core().owner.run([&]() -> Task<CheckReport> { co_return co_await core_->db->check(options); });
}
Stats Store::stats() const { return core().stats(); }
void Store::close() {
  core().owner.require_usable();
  core_->close();
}

}  // namespace store
