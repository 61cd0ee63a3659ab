// The handles: what is of this core is done here, everything else goes to the core of its shard.
#include <store/sharded_store.hpp>

#include <algorithm>
#include <array>
#include <store/error.hpp>
#include <utility>

#include "store/partition/scan_core.hpp"
#include "store/sharded/merged_scan.hpp"
#include "store/sharded/shard_set.hpp"

namespace store {

using monterey::Task;

namespace {

constexpr std::size_t kOpeningBytes = std::size_t{1} << 20;  // that opening a shard reads at once, at most

}  // namespace

monterey::BufferConfig ShardedOptions::buffer_config(unsigned cores) const {
  const unsigned all = std::max(shards != 0 ? shards : cores, 1u);
  const unsigned each = (all + cores - 1) / std::max(cores, 1u);
  monterey::BufferConfig config;
  for (unsigned i = 0; i < each; ++i) {
    config += partition.buffer_config();
    // Shards of one core open side by side: what one has for a moment, another may have to lie around.
    if (i > 0) config.bytes += kOpeningBytes;
  }
  return config;
}

namespace detail {
namespace {

constexpr std::size_t kInlineBytes = 1024;       // the most that most values have
constexpr std::size_t kMostGuessed = 64u << 10;  // of memory for values, before it is known how long they are

ShardSet& set_of(ShardSet* set) {
  if (set == nullptr) throw Error(Errc::closed, "the handle is empty: it was moved from");
  return *set;
}

// The state that a verb reads in a shard of this core.
const View* view_of(const ReadSource& source) {
  return source.snapshot != nullptr ? &*source.snapshot->view() : nullptr;
}

// The same, and it keeps the snapshot.
std::shared_ptr<const View> kept_view_of(const ReadSource& source) {
  if (source.snapshot == nullptr) return nullptr;
  return {source.snapshot->shared_from_this(), view_of(source)};
}

}  // namespace

// --- reading ---

bool ShardedGet::try_now() {
  Shard& shard = set_of(source_.set).of(key_);
  if (!ShardSet::is_here(shard)) return false;
  const ReadSource source = shard.source(source_.snapshot);
  PartitionCore& core = *source.partition;
  return core.sample_get([&] { return core.try_get(key_, view_of(source), result_); });
}
Task<std::optional<std::string>> ShardedGet::later() {
  Shard& shard = source_.set->of(key_);
  if (ShardSet::is_here(shard)) {
    const ReadSource source = shard.source(source_.snapshot);
    return source.partition->get(key_, view_of(source), source.partition->take_missed());
  }
  return monterey::call_on(shard.core, [use = ShardSet::Use(*source_.set), &shard, source = source_, key = key_] {
    return shard.get(source.snapshot, key);
  });
}

bool ShardedContains::try_now() {
  Shard& shard = set_of(source_.set).of(key_);
  if (!ShardSet::is_here(shard)) return false;
  const ReadSource source = shard.source(source_.snapshot);
  PartitionCore& core = *source.partition;
  return core.sample_get([&] { return core.try_contains(key_, view_of(source), result_); });
}
Task<bool> ShardedContains::later() {
  Shard& shard = source_.set->of(key_);
  if (ShardSet::is_here(shard)) {
    const ReadSource source = shard.source(source_.snapshot);
    return source.partition->contains(key_, view_of(source), source.partition->take_missed());
  }
  return monterey::call_on(shard.core, [use = ShardSet::Use(*source_.set), &shard, source = source_, key = key_] {
    return shard.contains(source.snapshot, key);
  });
}

namespace {

Task<std::optional<PinnedValue>> get_copy(ShardSet::Use, ShardSet& set, Shard& shard, std::uint64_t snapshot,
                                          std::string_view key) {
  const std::array<std::string_view, 1> keys{key};
  CopiedValues copy(1, kInlineBytes);
  auto read = [&set, &shard, snapshot, &keys, &copy] {
    return shard.get_many_copies(snapshot, keys, &set.of_core().views, &copy);
  };
  co_await monterey::call_on(shard.core, read);
  co_return copy.value(0);
}

}  // namespace

bool ShardedGetPinned::try_now() {
  Shard& shard = set_of(source_.set).of(key_);
  if (!ShardSet::is_here(shard)) return false;
  const ReadSource source = shard.source(source_.snapshot);
  PartitionCore& core = *source.partition;
  return core.sample_get([&] { return core.try_get_pinned(key_, view_of(source), result_); });
}
Task<std::optional<PinnedValue>> ShardedGetPinned::later() {
  Shard& shard = source_.set->of(key_);
  if (ShardSet::is_here(shard)) {
    const ReadSource source = shard.source(source_.snapshot);
    return source.partition->get_pinned(key_, view_of(source), source.partition->take_missed());
  }
  return get_copy(ShardSet::Use(*source_.set), *source_.set, shard, source_.snapshot, key_);
}

bool ShardedGetInto::try_now() {
  Shard& shard = set_of(source_.set).of(key_);
  if (!ShardSet::is_here(shard)) return false;
  const ReadSource source = shard.source(source_.snapshot);
  PartitionCore& core = *source.partition;
  return core.sample_get([&] { return core.try_get_into(key_, view_of(source), into_, options_, result_); });
}
Task<std::optional<std::size_t>> ShardedGetInto::later() {
  Shard& shard = source_.set->of(key_);
  if (ShardSet::is_here(shard)) {
    const ReadSource source = shard.source(source_.snapshot);
    return source.partition->get_into(key_, view_of(source), into_, options_, source.partition->take_missed());
  }
  return monterey::call_on(shard.core,
                           [use = ShardSet::Use(*source_.set), &shard, source = source_, key = key_, into = into_,
                            options = options_] { return shard.get_into(source.snapshot, key, into, options); });
}

namespace {

// The keys of a get_many, those of a shard together.
class GroupedKeys {
 public:
  GroupedKeys(std::span<const std::string_view> all, std::span<const std::uint32_t> shard_of, unsigned shards)
      : keys_(all.size()), numbers_(all.size() + shards + 1) {
    const std::span places = std::span(numbers_).first(all.size());
    const std::span ends = std::span(numbers_).subspan(all.size());
    for (const std::uint32_t shard : shard_of) ++ends[shard + 1];
    for (unsigned i = 0; i < shards; ++i) ends[i + 1] += ends[i];  // where each begins; the filling moves it to its end
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::uint32_t at = ends[shard_of[i]]++;
      keys_[at] = all[i];
      places[at] = static_cast<std::uint32_t>(i);
    }
  }

  std::size_t size() const { return keys_.size(); }
  std::span<const std::string_view> keys_of(unsigned shard) const {
    return std::span(keys_).subspan(begin_of(shard), end_of(shard) - begin_of(shard));
  }
  // Where in the whole they stand.
  std::span<const std::uint32_t> places_of(unsigned shard) const {
    return std::span(numbers_).subspan(begin_of(shard), end_of(shard) - begin_of(shard));
  }

 private:
  std::uint32_t begin_of(unsigned shard) const { return shard == 0 ? 0 : end_of(shard - 1); }
  std::uint32_t end_of(unsigned shard) const { return numbers_[keys_.size() + shard]; }

  std::vector<std::string_view> keys_;
  std::vector<std::uint32_t> numbers_;  // the places of all keys, then the end of each shard's
};

void place(PinnedValues& values, std::span<const std::uint32_t> places, PinnedValues& result) {
  for (std::size_t i = 0; i < values.size(); ++i) result[places[i]] = std::move(values[i]);
  values.clear();
}

Task<> get_group_here(ShardSet* set, Shard* shard, std::uint64_t snapshot, const GroupedKeys* all,
                      PinnedValues* result) {
  monterey::detail::publish_messages();  // what other cores were asked for, before this one is busy
  const auto keys = all->keys_of(shard->index);
  const auto places = all->places_of(shard->index);
  const ReadSource source = shard->source(snapshot);
  PinnedValues& found = set->of_core().found;
  if (source.partition->try_get_many(keys, view_of(source), found)) {
    place(found, places, *result);
    co_return;
  }
  Task<PinnedValues> reading =
      source.partition->get_many(keys, kept_view_of(source), std::move(found), source.partition->take_missed_many());
  PinnedValues values = co_await std::move(reading);
  place(values, places, *result);
}

Task<> get_group(ShardSet* set, Shard* shard, std::uint64_t snapshot, const GroupedKeys* all, PinnedValues* result) {
  const auto places = all->places_of(shard->index);
  std::size_t& value_bytes = set->of_core().value_bytes;
  CopiedValues values(places.size(), std::min(kMostGuessed, places.size() * value_bytes * 5 / 4));
  auto read = [set, shard, snapshot, all, &values] {
    return shard->get_many_copies(snapshot, all->keys_of(shard->index), &set->of_core().views, &values);
  };
  co_await monterey::call_on(shard->core, read);
  value_bytes = values.bytes() / places.size();
  for (std::size_t i = 0; i < places.size(); ++i) (*result)[places[i]] = values.value(i);
}

// The shards of other cores first: they work while this one does.
Task<PinnedValues> get_groups(ShardSet::Use, ShardSet& set, std::uint64_t snapshot, GroupedKeys keys) {
  PinnedValues result(keys.size());
  std::vector<Task<>> reads;
  reads.reserve(set.size());
  for (const bool here : {false, true}) {
    for (unsigned i = 0; i < set.size(); ++i) {
      if (keys.keys_of(i).empty() || ShardSet::is_here(set.shard(i)) != here) continue;
      Shard* const shard = &set.shard(i);
      reads.push_back(here ? get_group_here(&set, shard, snapshot, &keys, &result)
                           : get_group(&set, shard, snapshot, &keys, &result));
    }
  }
  co_await monterey::when_all(std::move(reads));
  co_return result;
}

}  // namespace

bool ShardedGetMany::try_now() {
  ShardSet& set = set_of(source_.set);
  shards_.resize(keys_.size());
  bool all_of_one = true;
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    shards_[i] = set.of(keys_[i]).index;
    all_of_one = all_of_one && shards_[i] == shards_[0];
  }
  if (keys_.empty()) return true;
  Shard& shard = set.shard(shards_[0]);
  if (!all_of_one || !ShardSet::is_here(shard)) return false;
  const ReadSource source = shard.source(source_.snapshot);
  return source.partition->try_get_many(keys_, view_of(source), result_);
}
Task<PinnedValues> ShardedGetMany::later() {
  ShardSet& set = *source_.set;
  const bool all_of_one = std::ranges::all_of(shards_, [this](std::uint32_t shard) { return shard == shards_[0]; });
  Shard& first = set.shard(shards_[0]);
  if (all_of_one && ShardSet::is_here(first)) {
    const ReadSource source = first.source(source_.snapshot);
    return source.partition->get_many(keys_, kept_view_of(source), std::move(result_),
                                      source.partition->take_missed_many());
  }
  return get_groups(ShardSet::Use(set), set, source_.snapshot, GroupedKeys(keys_, shards_, set.size()));
}

// --- writing ---

bool ShardedPut::try_now() {
  Shard& shard = set_of(set_).of(key_);
  if (!ShardSet::is_here(shard)) return false;
  PartitionCore& core = PartitionAccess::core(shard.partition());
  return shard.is_free() && core.try_put(key_, value_);
}
Task<> ShardedPut::later() {
  Shard& shard = set_->of(key_);
  return monterey::call_on(
      shard.core, [use = ShardSet::Use(*set_), &shard, key = key_, value = value_] { return shard.put(key, value); });
}

bool ShardedCompareAndPut::try_now() {
  Shard& shard = set_of(set_).of(key_);
  if (!ShardSet::is_here(shard)) return false;
  PartitionCore& core = PartitionAccess::core(shard.partition());
  if (!shard.is_free()) return false;
  const std::optional<bool> result = core.try_compare_and_put(key_, expected_, desired_);
  if (result) result_ = *result;
  return result.has_value();
}
Task<bool> ShardedCompareAndPut::later() {
  Shard& shard = set_->of(key_);
  return monterey::call_on(shard.core, [use = ShardSet::Use(*set_), &shard, key = key_, expected = expected_,
                                        desired = desired_] { return shard.compare_and_put(key, expected, desired); });
}

// --- scans ---

bool ShardedAdvance::try_now() { return scan_.try_advance(result_); }
Task<bool> ShardedAdvance::later() {
  try {
    return scan_.advance();
  } catch (...) {  // no memory for the task, in the midst of a step
    scan_.fail(std::current_exception());
    throw;
  }
}

}  // namespace detail

ShardedScan::ShardedScan(std::unique_ptr<detail::MergedScan> scan) : scan_(std::move(scan)) {}
ShardedScan::ShardedScan(ShardedScan&&) noexcept = default;
ShardedScan& ShardedScan::operator=(ShardedScan&&) noexcept = default;
ShardedScan::~ShardedScan() = default;

detail::ShardedAdvance ShardedScan::advance() {
  if (!scan_) throw Error(Errc::closed, "the scan is empty: it was moved from");
  return detail::ShardedAdvance(*scan_);
}
std::string_view ShardedScan::key() const noexcept { return scan_->key(); }
std::string_view ShardedScan::value() const noexcept { return scan_->value(); }
Task<> ShardedScan::seek(std::string key) {
  if (!scan_) throw Error(Errc::closed, "the scan is empty: it was moved from");
  return scan_->seek(std::move(key));
}

namespace {

using Hold = std::shared_ptr<detail::SnapshotHold>;
using Set = std::shared_ptr<detail::ShardSet>;

Task<Hold> hold_snapshot(Set set) {
  const std::uint64_t number = co_await set->take_snapshot();
  co_return std::make_shared<detail::SnapshotHold>(set, number);
}

}  // namespace

ShardedSnapshot::ShardedSnapshot(Hold hold) : hold_(std::move(hold)) {}
ShardedSnapshot::ShardedSnapshot(ShardedSnapshot&&) noexcept = default;
ShardedSnapshot& ShardedSnapshot::operator=(ShardedSnapshot&&) noexcept = default;
ShardedSnapshot::~ShardedSnapshot() = default;

detail::ShardSource ShardedSnapshot::source() const {
  if (!hold_) throw Error(Errc::closed, "the snapshot is empty: it was moved from");
  return {hold_->set.get(), hold_->number};
}

Task<ShardedScan> ShardedSnapshot::scan(std::string from, std::optional<std::string> to, ScanOptions options) const {
  source();
  return ShardedScan::start(hold_, std::move(from), std::move(to), options);
}

Task<ShardedScan> ShardedSnapshot::scan_prefix(std::string prefix, ScanOptions options) const {
  std::optional<std::string> to = detail::end_of_prefix(prefix);
  return scan(std::move(prefix), std::move(to), options);
}

// --- the store ---

ShardedStore::ShardedStore(Set set) : set_(std::move(set)) {}

Task<ShardedStore> ShardedStore::create(std::string directory, ShardedOptions options, CreateOptions create) {
  return ShardedStore::create(shard_files(std::move(directory)), options, create);
}
Task<ShardedStore> ShardedStore::create(std::shared_ptr<const ShardDevices> devices, ShardedOptions options,
                                        CreateOptions create) {
  co_return ShardedStore(co_await detail::ShardSet::create(std::move(devices), options, create));
}
Task<ShardedStore> ShardedStore::open(std::string directory, ShardedOptions options, OpenOptions open) {
  return ShardedStore::open(shard_files(std::move(directory)), options, open);
}
Task<ShardedStore> ShardedStore::open(std::shared_ptr<const ShardDevices> devices, ShardedOptions options,
                                      OpenOptions open) {
  co_return ShardedStore(co_await detail::ShardSet::open(std::move(devices), options, open));
}
Task<std::uint64_t> ShardedStore::reshard(std::shared_ptr<const ShardDevices> devices, ShardedOptions options,
                                          ReshardObserver observer) {
  return detail::ShardSet::reshard(std::move(devices), options, std::move(observer));
}
Task<ShardedLayout> ShardedStore::layout(std::shared_ptr<const ShardDevices> devices) {
  return detail::ShardSet::layout(std::move(devices));
}
Task<ShardedStore> ShardedStore::open_or_create(std::string directory, ShardedOptions options) {
  return open_or_create(shard_files(std::move(directory)), options);
}
Task<ShardedStore> ShardedStore::open_or_create(std::shared_ptr<const ShardDevices> devices, ShardedOptions options) {
  co_return ShardedStore(co_await detail::ShardSet::open_or_create(std::move(devices), options));
}

namespace {

detail::ShardSet& set_of(const Set& set) {
  if (!set) throw Error(Errc::closed, "the handle is empty: it was moved from");
  return *set;
}

Task<> write_to(Set set, WriteBatch batch) { co_await set_of(set).write(std::move(batch)); }

Task<> erase_range_of(Set set, std::string from, std::optional<std::string> to) {
  set_of(set);
  if (set->has_log()) {
    WriteBatch batch;
    batch.erase_range(from, to);
    co_await set->write(std::move(batch));
    co_return;
  }
  const std::string end = detail::end_of_users(std::move(to));
  if (from >= end) co_return;
  auto erase = [&from, &end](detail::Shard& shard) { return shard.erase_range(from, end); };
  co_await set->on_range(set->routing().shards_of(from, end), erase);
}

Task<RangeEstimate> approximate_range_of(Set set, std::string from, std::optional<std::string> to) {
  const std::string end = detail::end_of_users(std::move(to));
  RangeEstimate sum;
  if (from >= end) co_return sum;
  auto estimate = [&from, &end](detail::Shard& shard) { return shard.partition().approximate_range(from, end); };
  const auto each = co_await set_of(set).on_range(set->routing().shards_of(from, end), estimate);
  for (const RangeEstimate& one : each) {
    sum.entries += one.entries;
    sum.bytes += one.bytes;
  }
  co_return sum;
}

Task<CompactReport> compact_all(Set set, CompactOptions options) {
  CompactReport sum{.finished = true, .bytes_moved = 0, .bytes_freed = 0};
  auto compact = [options](detail::Shard& shard) { return shard.partition().compact(options); };
  const auto each = co_await set_of(set).on_all(compact);
  for (const CompactReport& one : each) {
    sum.finished = sum.finished && one.finished;
    sum.bytes_moved += one.bytes_moved;
    sum.bytes_freed += one.bytes_freed;
  }
  co_return sum;
}

Task<std::vector<ShardCheck>> check_all(Set set, CheckOptions options) {
  auto check = [options](detail::Shard& shard) -> Task<ShardCheck> {
    ShardCheck one;  // named: g++ 12 destroys an aggregate with a co_await in it twice
    one.name = shard.name;
    one.report = co_await shard.partition_to_check().check(options);
    co_return one;
  };
  co_return co_await set_of(set).on_all(check);
}

Task<ShardedStats> stats_of(Set set) {
  auto look = [](detail::Shard& shard) -> Task<ShardStats> {
    ShardStats one{.name = shard.name, .core = shard.core, .stats = std::nullopt, .failure = {}};
    try {
      one.stats = shard.partition().stats();
      one.failure = one.stats->poisoned;
    } catch (const Error& error) {
      one.failure = error.what();
    }
    co_return one;
  };
  ShardedStats stats;
  stats.routing = set_of(set).routing().kind();
  stats.shards = co_await set->on_all(look);
  co_return stats;
}

Task<> close_all(Set set) { co_await set_of(set).close(); }

}  // namespace

Task<> ShardedStore::write(WriteBatch batch) { return write_to(set_, std::move(batch)); }
Task<> ShardedStore::erase_range(std::string from, std::optional<std::string> to) {
  return erase_range_of(set_, std::move(from), std::move(to));
}
Task<ShardedScan> ShardedScan::start(Hold snapshot, std::string from, std::optional<std::string> to,
                                     ScanOptions options) {
  auto scan = co_await detail::MergedScan::start(std::move(snapshot), std::move(from), std::move(to), options);
  co_return ShardedScan(std::move(scan));
}
Task<ShardedScan> ShardedStore::scan_of(Set set, std::string from, std::optional<std::string> to, ScanOptions options) {
  set_of(set);
  Hold hold = co_await hold_snapshot(std::move(set));
  co_return co_await ShardedScan::start(std::move(hold), std::move(from), std::move(to), options);
}
Task<ShardedScan> ShardedStore::scan(std::string from, std::optional<std::string> to, ScanOptions options) const {
  return scan_of(set_, std::move(from), std::move(to), options);
}
Task<ShardedScan> ShardedStore::scan_prefix(std::string prefix, ScanOptions options) const {
  std::optional<std::string> to = detail::end_of_prefix(prefix);
  return scan_of(set_, std::move(prefix), std::move(to), options);
}
Task<ShardedSnapshot> ShardedStore::snapshot_of(Set set) {
  set_of(set);
  co_return ShardedSnapshot(co_await hold_snapshot(std::move(set)));
}
Task<ShardedSnapshot> ShardedStore::snapshot() const { return snapshot_of(set_); }
Task<RangeEstimate> ShardedStore::approximate_range(std::string from, std::optional<std::string> to) const {
  return approximate_range_of(set_, std::move(from), std::move(to));
}
Task<> ShardedStore::sync() {
  return [](Set set) -> Task<> {
    co_await set_of(set).on_all([](detail::Shard& shard) { return shard.partition().sync(); });
  }(set_);
}
Task<> ShardedStore::flush() {
  return [](Set set) -> Task<> {
    co_await set_of(set).on_all([](detail::Shard& shard) { return shard.partition().flush(); });
  }(set_);
}
Task<CompactReport> ShardedStore::compact(CompactOptions options) { return compact_all(set_, options); }
Task<std::vector<ShardCheck>> ShardedStore::check(CheckOptions options) const { return check_all(set_, options); }
Task<std::uint64_t> ShardedStore::start_bulk_load(Set set, std::unique_ptr<detail::AnyBulkSource> source) {
  co_return co_await set_of(set).bulk_load(*source);
}
Task<ShardedBackupReport> ShardedStore::backup(std::shared_ptr<const ShardDevices> target,
                                               BackupOptions options) const {
  return [](Set set, std::shared_ptr<const ShardDevices> to, BackupOptions how) -> Task<ShardedBackupReport> {
    co_return co_await set_of(set).backup(std::move(to), how);
  }(set_, std::move(target), options);
}
Task<SalvageReport> salvage(std::shared_ptr<const ShardDevices> damaged, ShardedStore& into, DamageObserver on_damage) {
  return [](Set set, std::shared_ptr<const ShardDevices> from, DamageObserver tell) -> Task<SalvageReport> {
    co_return co_await set_of(set).salvage(std::move(from), std::move(tell));
  }(into.set_, std::move(damaged), std::move(on_damage));
}
Task<ShardedStats> ShardedStore::stats() const { return stats_of(set_); }
Task<> ShardedStore::close() { return close_all(set_); }

unsigned ShardedStore::shards() const { return set_of(set_).size(); }
unsigned ShardedStore::shard_of(std::string_view key) const { return set_of(set_).of(key).index; }
unsigned ShardedStore::core_of(std::string_view key) const { return set_of(set_).of(key).core; }

}  // namespace store
