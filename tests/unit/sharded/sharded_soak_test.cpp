// Cores that write, read and take snapshots of one store until a shutdown at a random moment; then the store is opened anew and held to what
// was acknowledged. STORE_SOAK_SECONDS says how long (30); STORE_SEED or --seed=N repeats a run's choices, not its schedule.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <monterey/monterey.hpp>
#include <store/error.hpp>

#include "sharded_support.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using monterey::Task;
using test::MemShards;

constexpr unsigned kCores = 2;
constexpr unsigned kShards = 3;
constexpr unsigned kWriters = 3;  // of each core

std::chrono::seconds soak_time() {
  const char* text = std::getenv("STORE_SOAK_SECONDS");
  return std::chrono::seconds(text == nullptr ? 30 : std::atoi(text));
}

// What a writer has been told of. It is the only one that writes its keys.
struct Writer {
  std::uint64_t begun = 0;
  std::uint64_t acknowledged = 0;
};
using Writers = std::array<std::array<Writer, kWriters>, kCores>;

std::string key_of(unsigned core, unsigned writer, unsigned number) {
  return fmt::format("core{}/writer{}/{}", core, writer, number);
}
constexpr unsigned kKeysOfABatch = 5;

// Errors of a core that stops are the end; any other is the test's.
template <class Fn>
Task<> until_shutdown(Fn fn) {
  try {
    co_await fn();
  } catch (const Error& error) {
    // A batch that was cut off as it was decided is of unknown outcome, and blocks its shards.
    if (error.errc() != Errc::aborted && !(monterey::shutdown_requested() && error.errc() == Errc::poisoned)) throw;
  }
}

Task<> write_batches(ShardedStore db, unsigned core, unsigned writer, Writer* progress) {
  while (!monterey::shutdown_requested()) {
    const std::uint64_t number = progress->begun + 1;
    progress->begun = number;
    const std::string value = fmt::format("{:010}", number);
    WriteBatch batch;
    if (number % 3 == 0) batch.expect(key_of(core, writer, 0), fmt::format("{:010}", number - 1));
    for (unsigned key = 0; key < kKeysOfABatch; ++key) batch.put(key_of(core, writer, key), value);
    co_await db.write(std::move(batch));
    progress->acknowledged = number;
  }
}

Task<> read_snapshots(ShardedStore db) {
  while (!monterey::shutdown_requested()) {
    auto snapshot = co_await db.snapshot();
    auto scan = co_await snapshot.scan("core");
    std::string last_writer;
    std::string value;
    while (co_await scan.advance()) {
      const std::string writer(scan.key().substr(0, scan.key().rfind('/')));
      if (writer != last_writer) value = scan.value();
      last_writer = writer;
      EXPECT_EQ(scan.value(), value) << "half of a batch: " << scan.key();
    }
  }
}

// Of single keys, many at once, and of other cores.
Task<> get_and_put(ShardedStore db, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!monterey::shutdown_requested()) {
    std::vector<std::string> keys;
    for (int i = 0; i < 20; ++i) keys.push_back(fmt::format("any{}", random() % 500));
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto values = co_await db.get_many(views);
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(!values[i] || values[i]->view().starts_with(keys[i]));
    }
    const std::string value = keys[0] + "/" + std::to_string(random() % 100);
    co_await db.put(keys[0], value);
  }
}

TEST(ShardedSoak, HoldsWhatItAcknowledgedThroughShutdowns) {
  const std::uint64_t seed = test::requested_seed().value_or(std::random_device{}());
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto disks = std::make_shared<MemShards>(kShards);
  Writers writers{};
  const auto end = std::chrono::steady_clock::now() + soak_time();
  int rounds = 0;
  for (; std::chrono::steady_clock::now() < end && !testing::Test::HasFailure(); ++rounds) {
    const ShardedOptions options = test::small_options(kShards, rounds % 2 == 0 ? WalMode::per_op : WalMode::batched);
    const auto lasts = std::chrono::microseconds(random() % 30'000);
    const std::uint64_t round_seed = random();
    test::on_cores(kCores, options.buffer_config(kCores), [&]() -> Task<> {
      auto db = co_await ShardedStore::open_or_create(disks, options);
      for (unsigned core = 0; core < kCores; ++core) {
        for (unsigned writer = 0; writer < kWriters; ++writer) {
          Writer& progress = writers[core][writer];
          std::string found;
          for (unsigned key = 0; key < kKeysOfABatch; ++key) {
            const std::string name = key_of(core, writer, key);
            const auto value = co_await db.get(name);
            if (key == 0) found = value.value_or("0");
            EXPECT_EQ(value.value_or("0"), found) << "half of a batch: " << name;
          }
          const std::uint64_t number = std::strtoull(found.c_str(), nullptr, 10);
          EXPECT_GE(number, progress.acknowledged);
          EXPECT_LE(number, progress.begun);
          progress = {number, number};
        }
      }
      for (unsigned core = 0; core < kCores; ++core) {
        auto begin = [&, db, core]() -> Task<> {
          for (unsigned writer = 0; writer < kWriters; ++writer) {
            Writer* const progress = &writers[core][writer];
            monterey::spawn(
                until_shutdown([db, core, writer, progress] { return write_batches(db, core, writer, progress); }));
          }
          monterey::spawn(until_shutdown([db] { return read_snapshots(db); }));
          monterey::spawn(until_shutdown([db, s = round_seed + core] { return get_and_put(db, s); }));
          co_return;
        };
        co_await monterey::call_on(core, begin);
      }
      try {
        co_await monterey::sleep_for(lasts);
      } catch (const Error&) {
      }
      monterey::request_shutdown();
    });
  }
  std::printf("rounds=%d\n", rounds);
  EXPECT_GT(rounds, 3);
}

}  // namespace
}  // namespace store
