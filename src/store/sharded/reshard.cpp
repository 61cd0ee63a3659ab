// Dividing a store anew: all entries go, in key order, into shards that are made beside the old ones; one write of the manifest puts them in
// their place. Before it the store is the old one, whatever there is of the new shards; after it the new one, whatever is left of the old.
#include <numeric>
#include <utility>

#include "store/sharded/merged_scan.hpp"
#include "store/sharded/shard_set.hpp"

namespace store::detail {
namespace {

using monterey::Task;

constexpr std::uint64_t kEntriesPerReport = 1024;

// The entries of a scan, for a bulk load.
class ScanSource final : public AnyBulkSource {
 public:
  ScanSource(MergedScan& scan, std::uint64_t all, ReshardObserver observer)
      : scan_(scan), all_(all), observer_(std::move(observer)) {}

  bool next(std::string_view& key, std::string_view& value) override {
    bool there = std::exchange(stands_, false);
    if (!there && !scan_.try_advance(there)) return false;
    if (!there) return false;
    key = scan_.key();
    value = scan_.value();
    if (++entries_ % kEntriesPerReport == 0 && observer_) observer_(entries_, all_);
    return true;
  }
  Task<bool> more() override {
    stands_ = co_await scan_.advance();
    co_return stands_;
  }

 private:
  MergedScan& scan_;
  const std::uint64_t all_;
  const ReshardObserver observer_;
  std::uint64_t entries_ = 0;
  bool stands_ = false;  // at an entry that next() has not given yet
};

}  // namespace

Task<std::uint64_t> ShardSet::reshard(Devices devices, ShardedOptions options, ReshardObserver observer) {
  Routing routing = new_routing(options);  // the points of the router live until the first suspension
  options.partition.wal_mode = WalMode::none;
  options.router = Router();
  options.shards = 0;
  const std::shared_ptr<ShardSet> from = co_await open(devices, options, OpenOptions{});
  co_await from->remove_leftovers();
  if (routing == from->routing()) {
    co_await from->close();
    co_return 0;
  }
  const auto to = std::make_shared<ShardSet>(devices, from->options_, std::move(routing));
  to->manifest_.epoch = from->manifest_.epoch + 1;
  std::uint64_t copied = 0;
  std::exception_ptr error;
  try {
    copied = co_await to->copy_all_of(*from, std::move(observer));
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    co_await to->drop_all();
    co_await remove_shards(*devices, to->manifest_.epoch);
    try {
      co_await from->close();
    } catch (const std::exception&) {
      // The first error is thrown.
    }
    std::rethrow_exception(error);
  }
  to->manifest_.sequence = from->manifest_.sequence;
  try {
    co_await write_manifest(*from->manifest_device_, to->manifest_);
  } catch (...) {
    error = std::current_exception();
  }
  co_await from->drop_all();
  from->manifest_device_.reset();  // of this core; whoever drops a snapshot elsewhere may keep `from` a while longer
  // When the manifest could not be written nobody knows which of the two the store is: both stay.
  if (error) std::rethrow_exception(error);
  co_await remove_shards(*devices, from->manifest_.epoch);
  co_return copied;
}

Task<> ShardSet::drop_all() {
  auto drop = [](Shard& shard) -> Task<> {
    shard.drop();
    co_return;
  };
  co_await on_all(drop);
}

// Makes these shards, and fills them. They are closed then, and in the manifest.
Task<std::uint64_t> ShardSet::copy_all_of(ShardSet& from, ReshardObserver observer) {
  const CreateOptions create{.overwrite = true};
  auto create_one = [this, create](Shard& shard) { return create_shard(shard, create); };
  manifest_.shards = co_await on_all(create_one);
  manifest_.routing = routing_.kind();
  manifest_.points = routing_.points();
  auto count = [](Shard& shard) -> Task<std::uint64_t> { co_return shard.partition().stats().entries; };
  const std::vector<std::uint64_t> counts = co_await from.on_all(count);
  std::uint64_t copied = 0;
  {
    const std::uint64_t snapshot = co_await from.take_snapshot();
    auto hold = std::make_shared<SnapshotHold>(from.shared_from_this(), snapshot);
    const auto scan = co_await MergedScan::start(std::move(hold), std::string(), std::nullopt, ScanOptions{});
    ScanSource source(*scan, std::reduce(counts.begin(), counts.end()), std::move(observer));
    copied = co_await fill(source);
  }
  auto close_one = [](Shard& shard) { return shard.close(); };
  const std::vector<std::uint64_t> generations = co_await on_all(close_one);
  for (unsigned i = 0; i < size(); ++i) manifest_.shards[i].generation = generations[i];
  co_return copied;
}

// What a crash has left of the shards before these, and of copies.
Task<> ShardSet::remove_leftovers() {
  if (manifest_.epoch > 0) co_await remove_shards(*devices_, manifest_.epoch - 1);
  co_await remove_shards(*devices_, manifest_.epoch + 1);
}

}  // namespace store::detail
