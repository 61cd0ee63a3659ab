// What the histograms of Stats count and which times they take, on a simulated core, whose clock moves only while something waits: the
// times are those by the core's clock, to a turn of its loop.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <store/partition.hpp>

#include "store/partition/timing.hpp"
#include "support/sim_cluster.hpp"
#include "support/sim_disk.hpp"

namespace store {
namespace {

using std::chrono::nanoseconds;
using test::DeviceOp;
using test::SimBlockDevice;
using test::SimCluster;
using test::SimDisk;

constexpr std::uint32_t kOneIn = detail::SampledTiming::kOneIn;
constexpr std::int64_t kTurns =
    20'000;  // nanoseconds that the loop's turns around an operation take, a microsecond each

class Timing : public testing::Test {
 public:
  void run(monterey::Task<> (*body)(Timing&)) { cluster.run(body(*this)); }

  monterey::Task<Partition> open(WalMode mode = WalMode::none) {
    co_return co_await Partition::open_or_create(std::make_unique<SimBlockDevice>(disk), config(mode));
  }
  // How long `task` takes by the core's clock.
  monterey::Task<std::int64_t> time_of(monterey::Task<> task) {
    const nanoseconds begin = cluster.now();
    co_await std::move(task);
    co_return (cluster.now() - begin).count();
  }
  static PartitionConfig config(WalMode mode) {
    return {.cache_pages = 64, .wal_mode = mode, .write_buffer_bytes = 1u << 20, .io_depth = 16};
  }

  monterey::FixedBufs arena{config(WalMode::batched).buffer_config().bytes};
  SimCluster cluster{{}, arena};
  SimDisk disk{cluster, {.capacity_blocks = 16 * 1024}};
};

// That the histogram has counted one, of that time.
void expect_one(const LatencyHistogram& histogram, std::int64_t taken) {
  EXPECT_EQ(histogram.count(), 1u);
  const auto sum = static_cast<std::int64_t>(histogram.sum_ns());
  EXPECT_GT(taken, kTurns) << "it did wait";
  EXPECT_LE(sum, taken);
  EXPECT_GE(sum, taken - kTurns);
}

std::string key_of(int i) { return "key" + std::to_string(100'000 + i); }

monterey::Task<> get_of(Partition& db, std::string key) { static_cast<void>(co_await db.get(key)); }
monterey::Task<> put_of(Partition& db, std::string key) { co_await db.put(key, "value"); }

TEST_F(Timing, GetsThatReadAreAllCountedAndOthersAreSampled) {
  run([](Timing& test) -> monterey::Task<> {
    auto db = co_await test.open();
    for (int i = 0; i < 5000; ++i) co_await db.put(key_of(i), std::string(100, 'v'));
    co_await db.close();
    db = co_await test.open();
    EXPECT_EQ(db.stats().get_read.count(), 0u) << "since it was opened";

    const std::int64_t taken = co_await test.time_of(get_of(db, key_of(0)));
    expect_one(db.stats().get_read, taken);
    EXPECT_EQ(db.stats().get_cached.count(), 0u);

    std::array<std::byte, 100> into{};
    const Snapshot snapshot = db.snapshot();
    for (std::uint32_t i = 0; i < kOneIn; ++i) {
      static_cast<void>(co_await db.get(key_of(0)));
      static_cast<void>(co_await db.contains(key_of(0)));
      static_cast<void>(co_await db.get_pinned(key_of(0)));
      static_cast<void>(co_await db.get_into(key_of(0), into));
      static_cast<void>(co_await snapshot.get(key_of(0)));
    }
    EXPECT_EQ(db.stats().get_cached.count(), 5u);
    EXPECT_EQ(db.stats().get_read.count(), 1u);

    const std::string last = key_of(4999);
    const std::array<std::string_view, 1> keys{last};
    static_cast<void>(co_await db.get_many(keys));
    EXPECT_EQ(db.stats().get_read.count(), 1u) << "get_many is not counted";

    test.disk.inject({.op = DeviceOp::read, .number = test.disk.count(DeviceOp::read), .for_good = true});
    bool failed = false;
    try {
      static_cast<void>(co_await db.get(key_of(2500)));
    } catch (const Error& error) {
      failed = error.errc() == Errc::io_error;
    }
    EXPECT_TRUE(failed);
    EXPECT_EQ(db.stats().get_read.count(), 2u) << "what fails is counted too";
    co_await db.close();
  });
}

TEST_F(Timing, PutsThatWaitForNothingAreSampled) {
  run([](Timing& test) -> monterey::Task<> {
    co_await SimBlockDevice(test.disk).grow(1024);  // else the puts wait for it to grow
    auto db = co_await test.open();
    for (std::uint32_t i = 0; i < kOneIn; ++i) {
      co_await db.put("key", "value");
      co_await db.erase("key");
      static_cast<void>(co_await db.compare_and_put("key", std::nullopt, "value"));
      co_await db.erase("key");
    }
    EXPECT_EQ(db.stats().put_buffered.count(), 3u) << "a compare_and_put is not counted";
    EXPECT_EQ(db.stats().put_waited.count(), 0u);
    co_await db.close();
  });
}

TEST_F(Timing, PutsThatWaitForTheLogAreAllCounted) {
  run([](Timing& test) -> monterey::Task<> {
    auto db = co_await test.open(WalMode::per_op);
    const std::int64_t taken = co_await test.time_of(put_of(db, "key"));
    expect_one(db.stats().put_waited, taken);
    for (std::uint32_t i = 0; i < kOneIn; ++i) co_await db.put("key", "value");
    EXPECT_EQ(db.stats().put_waited.count(), kOneIn + 1u);
    EXPECT_EQ(db.stats().put_buffered.count(), 0u);
    co_await db.close();
  });
}

TEST_F(Timing, FlushesAndSyncs) {
  run([](Timing& test) -> monterey::Task<> {
    auto db = co_await test.open(WalMode::batched);
    co_await db.put("key", "value");
    const std::int64_t synced = co_await test.time_of(db.sync());
    expect_one(db.stats().sync, synced);
    EXPECT_EQ(db.stats().flush.count(), 0u);
    const std::int64_t flushed = co_await test.time_of(db.flush());
    expect_one(db.stats().flush, flushed);
    EXPECT_EQ(db.stats().flush.count(), db.stats().flushes);
    EXPECT_EQ(db.stats().sync.count(), 1u);
    co_await db.flush();
    EXPECT_EQ(db.stats().flush.count(), 1u) << "nothing to flush";
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
