// The load: several tasks put, erase keys and ranges, and write batches, on some keys all at once, with values of every kind of storage, while
// now and then one of them syncs or flushes. Each operation is in the expected state before the store hears of it.
#include <algorithm>
#include <array>
#include <chrono>
#include <random>
#include <store/store.hpp>
#include <vector>

#include "crash/expected_state.hpp"
#include "crash/names.hpp"
#include "crash/worker.hpp"

namespace store::crash {

namespace {

using Random = std::mt19937_64;
using Promise = ExpectedState::Promise;

constexpr std::uint64_t kCapacityBlocks = 128 * 1024;
constexpr std::size_t kLargeBatch = 300;
constexpr std::uint32_t kHotKeys = 16;

std::uint64_t between(Random& random, std::uint64_t low, std::uint64_t high) {
  return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
}

class Load {
 public:
  Load(Partition& db, ExpectedState& state, const Settings& settings)
      : db_(db), state_(state), left_(settings.operations), random_(settings.seed) {
    commits_ = std::array{0u, 1u, 5u, 25u}[between(random_, 0, 3)];
    acknowledged_ = settings.mode == WalMode::per_op ? Promise::durable : Promise::applied;
  }

  monterey::Task<> run() {
    std::vector<monterey::Task<>> writers;
    for (std::uint64_t i = between(random_, 1, 24); i > 0; --i) writers.push_back(writer(random_()));
    co_await monterey::when_all(std::move(writers));
  }

 private:
  monterey::Task<> writer(std::uint64_t seed) {
    Random random(seed);
    while (left_ > 0 && state_.has_room(kLargeBatch)) {
      --left_;
      const std::uint64_t kind = between(random, 0, 999);
      if (kind < commits_) {
        co_await commit(random);
      } else if (kind < commits_ + 15) {
        const std::chrono::microseconds pause(between(random, 0, 1500));
        co_await monterey::sleep_for(pause);
      } else if (kind < 740) {
        co_await put(random);
      } else if (kind < 830) {
        co_await erase(random);
      } else if (kind < 840) {
        co_await erase_range(random);
      } else {
        co_await batch(random);
      }
    }
  }

  static std::uint32_t key(Random& random) {
    const bool hot = between(random, 0, 9) < 2;
    return static_cast<std::uint32_t>(between(random, 0, hot ? kHotKeys - 1 : ExpectedState::kKeys - 1));
  }

  // In a leaf, in a run of whole blocks, and past the write buffer and the log.
  static std::uint64_t value_bytes(Random& random) {
    const std::uint64_t kind = between(random, 0, 99);
    if (kind < 72) return between(random, kMinValueBytes, 300);
    if (kind < 84) return between(random, 300, 1024);
    if (kind < 95) return between(random, 1025, 8u << 10);
    if (kind < 99) return between(random, 8u << 10, 64u << 10);
    return between(random, (64u << 10) + 1, 300u << 10);
  }

  std::string value(const Change& change) const {
    return value_text({state_.next_operation(), change.key, static_cast<std::uint32_t>(change.bytes)});
  }

  monterey::Task<> put(Random& random) {
    const Change change{key(random), value_bytes(random)};
    const std::string text = value(change);
    const std::string name = key_text(change.key);
    const std::uint64_t ticket = state_.begin({&change, 1});
    co_await db_.put(name, text);
    state_.acknowledge(ticket, acknowledged_);
  }

  monterey::Task<> erase(Random& random) {
    const Change change{key(random), Change::kErased};
    const std::string name = key_text(change.key);
    const std::uint64_t ticket = state_.begin({&change, 1});
    co_await db_.erase(name);
    state_.acknowledge(ticket, acknowledged_);
  }

  // The texts of keys are in the order of their numbers.
  monterey::Task<> erase_range(Random& random) {
    const std::uint32_t first = key(random);
    const auto count = static_cast<std::uint32_t>(between(random, 1, 30));
    const std::uint32_t end = std::min(first + count, ExpectedState::kKeys);
    std::vector<Change> changes;
    for (std::uint32_t k = first; k < end; ++k) changes.push_back({k});
    std::optional<std::string> to;
    if (end < ExpectedState::kKeys) to = key_text(end);
    const std::uint64_t ticket = state_.begin(changes);
    co_await db_.erase_range(key_text(first), to);
    state_.acknowledge(ticket, acknowledged_);
  }

  monterey::Task<> batch(Random& random) {
    const bool large = between(random, 0, 19) == 0;
    std::vector<Change> changes(between(random, 2, large ? kLargeBatch : 20));
    for (Change& change : changes) {
      change.key = key(random);
      if (between(random, 0, 4) != 0) change.bytes = value_bytes(random);
    }
    std::ranges::sort(changes, {}, &Change::key);
    const auto doubles = std::ranges::unique(changes, {}, &Change::key);
    changes.erase(doubles.begin(), doubles.end());
    std::ranges::shuffle(changes, random);
    WriteBatch batch;
    for (const Change& change : changes) {
      if (change.bytes == Change::kErased) {
        batch.erase(key_text(change.key));
      } else {
        batch.put(key_text(change.key), value(change));
      }
    }
    const std::uint64_t ticket = state_.begin(changes);
    co_await db_.write(std::move(batch));
    state_.acknowledge(ticket, acknowledged_);
  }

  monterey::Task<> commit(Random& random) {
    const bool flush = between(random, 0, 2) == 0;
    const std::uint64_t began = state_.now();
    if (flush) {
      co_await db_.flush();
    } else {
      co_await db_.sync();
    }
    state_.acknowledge_sync(began);
  }

  Partition& db_;
  ExpectedState& state_;
  std::uint64_t left_;
  Random random_;
  std::uint64_t commits_;  // of a thousand operations
  Promise acknowledged_;
};

monterey::Task<Partition> open_store(const Settings& settings, PartitionConfig config) {
  announce(Phase::opening);
  auto device = co_await FileBlockDevice::open(settings.store, {.capacity_blocks = kCapacityBlocks});
  co_return co_await Partition::open_or_create(std::move(device), config);
}

monterey::Task<> load(const Settings& settings, PartitionConfig config) {
  ExpectedState state(settings.state);
  Partition db = co_await open_store(settings, config);
  announce(Phase::working);
  Load load(db, state, settings);
  co_await load.run();
  announce(Phase::closing);
  co_await db.close();
  state.acknowledge_close();
}

monterey::Task<> recovery(const Settings& settings, PartitionConfig config) {
  Partition db = co_await open_store(settings, config);
  announce(Phase::working);
  Random random(settings.seed);
  const std::uint64_t then = between(random, 0, 2);
  if (then == 0) co_return;
  if (then == 1) co_await db.flush();
  announce(Phase::closing);
  co_await db.close();
}

}  // namespace

PartitionConfig random_config(WalMode mode, std::uint64_t seed) {
  Random random(mix(seed));
  const auto power = [&random](unsigned low, unsigned high) { return std::size_t{1} << between(random, low, high); };
  PartitionConfig config;
  config.wal_mode = mode;
  config.wal_batch_interval = std::chrono::microseconds(between(random, 50, 5000));
  config.cache_pages = power(6, 11);
  config.write_buffer_bytes = power(15, 24);
  config.write_buffer_count = between(random, 2, 4);
  config.io_depth = power(3, 7);
  return config;
}

void run_load(const Settings& settings) {
  const PartitionConfig config = random_config(settings.mode, settings.seed);
  const auto start = [&] { monterey::spawn(load(settings, config)); };
  monterey::Cluster::builder().cores(1).buffers(config.buffer_config()).init(start).run();
}

void run_recovery(const Settings& settings) {
  const PartitionConfig config = random_config(settings.mode, settings.seed);
  const auto start = [&] { monterey::spawn(recovery(settings, config)); };
  monterey::Cluster::builder().cores(1).buffers(config.buffer_config()).init(start).run();
}

}  // namespace store::crash
