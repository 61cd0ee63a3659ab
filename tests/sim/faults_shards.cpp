// Power cuts over a sharded store: the power goes on all disks at once, and each keeps what it likes. Clients on simulated cores write single
// keys, batches over several shards, conditional ones too, and take snapshots. Of what is found afterwards:
//
// * A batch is whole or absent: each writes one value to all keys of its group, and nothing else writes there.
// * What was acknowledged as durable is there: a batch always, a single put under per_op.
// * Nothing is there that was never written.
// * A snapshot, taken meanwhile, that has a write has all writes that had completed before it began: pairs of keys of which one is written when
//   the other has been. And batches whole.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>
#include <store/sharded_store.hpp>
#include <vector>

#include "sim/fault_entries.hpp"
#include "support/sim_cluster.hpp"
#include "support/sim_disk.hpp"

namespace store::test {

namespace {

using monterey::Task;

constexpr unsigned kMostCores = 3;
constexpr unsigned kGroups = 3;
constexpr unsigned kKeysAGroup = 6;
constexpr unsigned kPairs = 4;
constexpr unsigned kMostOfAPair = 200;
constexpr std::uint64_t kDiskBlocks = 4'096;

std::string group_key(unsigned group, unsigned number) { return fmt::format("group{}/{}", group, number); }
std::string pair_key(unsigned pair, bool second) { return fmt::format("pair{}/{}", pair, second ? "b" : "a"); }

// A value that says its number, of a length that depends on it.
std::string value_of(std::uint64_t number) {
  std::string value = fmt::format("{:08}/", number);
  const std::size_t bytes = number % 7 == 0 ? 70'000 : number % 5 == 0 ? 3'000 : number % 40;
  value.resize(value.size() + bytes, static_cast<char>('a' + number % 26));
  return value;
}

std::optional<std::uint64_t> number_of(const std::optional<std::string>& value) {
  if (!value) return 0;
  const std::uint64_t number = std::strtoull(value->c_str(), nullptr, 10);
  if (value_of(number) != *value) return std::nullopt;
  return number;
}

// What was begun and what was acknowledged of what is written in ascending numbers.
struct Progress {
  std::uint64_t begun = 0;
  std::uint64_t acknowledged = 0;
};

struct Promise {
  std::array<Progress, kGroups> groups;
  std::array<Progress, kPairs * 2> singles;
};

struct ShardImages {
  SimImage manifest;
  std::vector<SimImage> disks;
  Promise promise;
};

struct ShardPlan {
  std::uint64_t seed = 1;
  WalMode mode = WalMode::per_op;
  unsigned shards = 2;
  unsigned cores = 1;
  unsigned operations = 0;  // of each client
  unsigned images = 0;      // to be taken
  SimSchedule schedule;
};

std::span<monterey::FixedBufs* const> arenas_of(unsigned cores) {
  static std::vector<std::unique_ptr<monterey::FixedBufs>> arenas;
  static std::vector<monterey::FixedBufs*> views;
  while (arenas.size() < kMostCores) {
    arenas.push_back(std::make_unique<monterey::FixedBufs>(4 * Life::arena_bytes()));
    views.push_back(arenas.back().get());
  }
  return std::span(views).first(cores);
}

class ShardLife;

class LifeDevices final : public ShardDevices {
 public:
  explicit LifeDevices(ShardLife& life) : life_(life) {}
  Task<std::unique_ptr<BlockDevice>> open_manifest(Access access, bool create) const override;
  Task<std::unique_ptr<BlockDevice>> open_shard(ShardPlace place, Access access, bool) const override;
  Task<> remove_shard(ShardPlace) const override { co_return; }

 private:
  ShardLife& life_;
};

class ShardLife {
 public:
  ShardLife(const ShardPlan& plan, const ShardImages* from)
      : plan_(plan), random_(plan.seed), cluster_(plan.schedule, arenas_of(plan.cores)) {
    for (unsigned i = 0; i <= plan.shards; ++i) {
      SimDisk::Options options;
      options.seed = random_.next();
      options.capacity_blocks = kDiskBlocks;
      options.durable_writes = random_.one_in(2);
      SimImage image;
      if (from != nullptr) image = i < plan.shards ? from->disks[i] : from->manifest;
      disks_.push_back(std::make_unique<SimDisk>(cluster_, options, std::move(image)));
      if (plan.images > 0) disks_.back()->on_step = [this](const Operation&, SimDisk::Step) { maybe_cut(); };
    }
    if (from != nullptr) promise_ = from->promise;
  }

  void run() {
    cluster_.run(body());
    for (const auto& disk : disks_) {
      if (wrong_.empty()) wrong_ = disk->complaint();
    }
  }
  const std::string& wrong() const { return wrong_; }
  const std::vector<ShardImages>& images() const { return images_; }
  SimDisk& disk(unsigned index) { return *disks_[index]; }
  SimDisk& manifest() { return *disks_.back(); }

 private:
  ShardedOptions options() const {
    ShardedOptions options;
    options.shards = plan_.shards;
    options.partition.cache_pages = 32;
    options.partition.wal_mode = plan_.mode;
    options.partition.write_buffer_bytes = 32u << 10;
    options.partition.wal_batch_interval = std::chrono::microseconds(plan_.seed % 3 * 500);
    return options;
  }

  void complain(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

  // All disks at one moment.
  void maybe_cut() {
    if (images_.size() >= plan_.images || !random_.one_in(12)) return;
    ShardImages image;
    for (unsigned i = 0; i < plan_.shards; ++i) image.disks.push_back(disks_[i]->power_cut(random_));
    image.manifest = disks_.back()->power_cut(random_);
    image.promise = promise_;
    images_.push_back(std::move(image));
  }

  Task<> body() {
    try {
      co_await live();
    } catch (const std::exception& error) {
      complain(error.what());
    }
  }

  Task<> live() {
    auto devices = std::make_shared<LifeDevices>(*this);
    ShardedStore db = co_await ShardedStore::open_or_create(devices, options());
    co_await judge(db);
    if (wrong_.empty() && plan_.operations > 0) {
      std::vector<Task<>> clients;
      for (unsigned group = 0; group < kGroups; ++group) {
        auto write = [this, db, group] { return write_group(db, group); };
        clients.push_back(monterey::call_on(group % plan_.cores, write));
      }
      for (unsigned pair = 0; pair < kPairs; ++pair) {
        auto write = [this, db, pair] { return write_pair(db, pair); };
        clients.push_back(monterey::call_on(static_cast<unsigned>((pair + plan_.seed) % plan_.cores), write));
      }
      auto look = [this, db] { return take_snapshots(db); };
      clients.push_back(monterey::call_on(static_cast<unsigned>(plan_.seed / 7 % plan_.cores), look));
      co_await monterey::when_all(std::move(clients));
    }
    co_await db.close();
  }

  Task<> write_group(ShardedStore db, unsigned group) {
    Progress& progress = promise_.groups[group];
    for (unsigned i = 0; i < plan_.operations; ++i) {
      const std::uint64_t number = progress.begun + 1;
      WriteBatch batch;
      // Half of them conditional, which holds; and now and then one that does not.
      const std::string before = value_of(number - 1);
      const bool conflicts = i % 9 == 4;
      if (number % 2 == 0 && number > 1)
        batch.expect(group_key(group, static_cast<unsigned>(number) % kKeysAGroup), before);
      if (conflicts) batch.expect(group_key(group, 0), "never");
      const std::string value = value_of(number);
      for (unsigned key = 0; key < kKeysAGroup; ++key) batch.put(group_key(group, key), value);
      // A number whose batch is refused is not written, and used again.
      if (!conflicts) progress.begun = number;
      bool refused = false;
      try {
        co_await db.write(std::move(batch));
      } catch (const Error& error) {
        if (error.errc() != Errc::conflict) throw;
        refused = true;
      }
      if (refused != conflicts) complain("an expectation that holds was refused, or one that does not was accepted");
      if (!refused) progress.acknowledged = number;
    }
  }

  // The second is written when the first one is acknowledged.
  Task<> write_pair(ShardedStore db, unsigned pair) {
    for (unsigned i = 0; i < plan_.operations || (looking_ && i < kMostOfAPair); ++i) {
      for (const bool second : {false, true}) {
        Progress& progress = promise_.singles[pair * 2 + (second ? 1 : 0)];
        const std::uint64_t number = progress.begun + 1;
        progress.begun = number;
        const std::string key = pair_key(pair, second);
        const std::string value = value_of(number);
        co_await db.put(key, value);
        progress.acknowledged = number;
      }
    }
  }

  Task<> take_snapshots(ShardedStore db) {
    for (unsigned i = 0; i < plan_.operations; ++i) {
      auto snapshot = co_await db.snapshot();
      for (unsigned pair = 0; pair < kPairs; ++pair) {
        const std::string ahead_key = pair_key(pair, false);
        const std::string behind_key = pair_key(pair, true);
        const auto ahead = number_of(co_await snapshot.get(ahead_key));
        const auto behind = number_of(co_await snapshot.get(behind_key));
        // What an earlier power cut has left of them is in no order.
        const bool in_order = ahead && behind && (*ahead >= *behind || *behind <= left_behind_[pair]);
        if (!in_order) complain(fmt::format("a snapshot has pair {} in the wrong order", pair));
      }
      co_await judge_groups(snapshot, "a snapshot");
    }
    looking_ = false;
  }

  template <class Source>
  Task<> judge_groups(const Source& source, const char* where) {
    for (unsigned group = 0; group < kGroups; ++group) {
      std::optional<std::uint64_t> first;
      for (unsigned number = 0; number < kKeysAGroup; ++number) {
        const std::string key = group_key(group, number);
        const auto found = number_of(co_await source.get(key));
        if (!found) complain(fmt::format("{}: {} has what nobody wrote", where, key));
        if (number == 0) first = found;
        if (found && first && *found != *first) {
          complain(
              fmt::format("{}: {} is of batch {}, {} of batch {}", where, group_key(group, 0), *first, key, *found));
        }
      }
    }
  }

  // What is found at the beginning, against what was promised of it.
  Task<> judge(ShardedStore db) {
    co_await judge_groups(db, "after a power cut");
    for (unsigned group = 0; group < kGroups; ++group) {
      Progress& progress = promise_.groups[group];
      const std::string key = group_key(group, 0);
      const std::uint64_t found = number_of(co_await db.get(key)).value_or(0);
      require_within(key, found, progress, true);
      progress = {found, found};
    }
    for (unsigned single = 0; single < kPairs * 2; ++single) {
      Progress& progress = promise_.singles[single];
      const std::string key = pair_key(single / 2, single % 2 == 1);
      const auto found = number_of(co_await db.get(key));
      if (!found) complain(fmt::format("after a power cut: {} has what nobody wrote", key));
      require_within(key, found.value_or(0), progress, plan_.mode == WalMode::per_op);
      progress = {found.value_or(0), found.value_or(0)};
    }
    for (unsigned pair = 0; pair < kPairs; ++pair) {
      // Each goes on from where it is, so that the second stays behind the first.
      Progress& ahead = promise_.singles[pair * 2];
      const Progress& behind = promise_.singles[pair * 2 + 1];
      left_behind_[pair] = behind.begun;
      if (ahead.begun < behind.begun) ahead = behind;
    }
    const auto checks = co_await db.check();
    for (const ShardCheck& check : checks) {
      if (!check.report.ok) complain(fmt::format("check of {}: {}", check.name, check.report.errors.front()));
    }
  }

  void require_within(const std::string& key, std::uint64_t found, const Progress& progress, bool durable) {
    if (found > progress.begun || (durable && found < progress.acknowledged)) {
      complain(fmt::format("{} is {} after a power cut; {} were begun and {} acknowledged", key, found, progress.begun,
                           progress.acknowledged));
    }
  }

  const ShardPlan plan_;
  SimRandom random_;
  SimCluster cluster_;
  std::vector<std::unique_ptr<SimDisk>> disks_;  // the last one has the manifest
  Promise promise_;
  std::vector<ShardImages> images_;
  std::array<std::uint64_t, kPairs> left_behind_{};
  bool looking_ = true;  // snapshots are being taken
  std::string wrong_;
};

std::unique_ptr<BlockDevice> device_on(SimDisk& disk, ShardDevices::Access access) {
  return std::make_unique<SimBlockDevice>(disk, access == ShardDevices::Access::read_only);
}

Task<std::unique_ptr<BlockDevice>> LifeDevices::open_manifest(Access access, bool) const {
  co_return device_on(life_.manifest(), access);
}

Task<std::unique_ptr<BlockDevice>> LifeDevices::open_shard(ShardPlace place, Access access, bool) const {
  co_return device_on(life_.disk(place.shard), access);
}

}  // namespace

std::string run_shards(FaultContext& context, std::uint64_t seed) {
  SimRandom random(seed);
  ShardPlan plan;
  plan.seed = random.next();
  plan.mode = context.mode == WalMode::none ? WalMode::batched : context.mode;
  plan.shards = static_cast<unsigned>(random.between(2, 4));
  plan.cores = static_cast<unsigned>(random.between(1, kMostCores));
  plan.operations = static_cast<unsigned>(random.between(4, 12));
  plan.images = static_cast<unsigned>(std::min<std::uint64_t>(context.most_images, 60));
  plan.schedule = {.seed = random.next(),
                   .disorder_percent = random.pick<unsigned>({0, 20, 60}),
                   .suspend_percent = random.pick<unsigned>({0, 10, 50}),
                   .stall_percent = random.pick<unsigned>({0, 2, 10})};
  ShardLife life(plan, nullptr);
  life.run();
  if (!life.wrong().empty()) return life.wrong();
  for (const ShardImages& image : life.images()) {
    ShardPlan next = plan;
    next.seed = random.next();
    next.schedule.seed = random.next();
    next.cores = static_cast<unsigned>(random.between(1, kMostCores));
    next.images = 0;
    next.operations = random.one_in(5) ? 3 : 0;
    ShardLife after(next, &image);
    after.run();
    ++context.images;
    if (!after.wrong().empty()) return after.wrong();
  }
  return {};
}

}  // namespace store::test
