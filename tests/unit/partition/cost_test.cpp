// The costs of reading and writing that the performance model promises, counted: allocations by this program's operator
// new, system calls by a tracing parent, I/O by the disk in memory, time by the thread's CPU clock, since other
// programs share the machine.
#include <gtest/gtest.h>

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include <monterey/detail/frames.hpp>
#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "cost_support.hpp"
#include "support/allocations.hpp"
#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"
#include "support/system_calls.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using namespace store::test;
using Completion = MemDisk::Completion;
using PinnedValues = std::vector<std::optional<PinnedValue>>;

// AddressSanitizer's heap calls the kernel when it likes, and its frames are not recycled.
constexpr bool kPlainHeap = MONTEREY_RECYCLE_FRAMES != 0;

monterey::Task<> put_all(Partition& db, const std::vector<std::string>& keys, std::string value) {
  for (const std::string& key : keys) co_await db.put(key, value);
}

// --- hits ---

// Counts how often other tasks suspend: it runs once for each time that they let it.
struct Interleaved {
  std::uint64_t turns = 0;
  bool stop = false;

  static monterey::Task<> run(Interleaved* self) {
    while (!self->stop) {
      ++self->turns;
      co_await monterey::yield();
    }
  }
};

struct HitCost {
  std::uint64_t operations = 0;
  std::uint64_t failures = 0;
  std::uint64_t allocations = 0;  // coroutine frames included
  std::uint64_t suspensions = 0;
  std::uint64_t allowed_suspensions = 0;  // one for each 100 µs that passed
};

enum class Verb { get, get_into, snapshot_get, put };

monterey::Task<HitCost> hit(Partition& db, const std::vector<std::string>& keys, Verb verb,
                            const SystemCallWindow* window) {
  constexpr std::uint64_t kOperations = 100'000;
  const std::string value(kValueBytes, 'w');
  // Newer values are above those that it sees, so that it looks in the buffer for its own.
  std::optional<Snapshot> snapshot;
  if (verb == Verb::snapshot_get) {
    snapshot.emplace(db.snapshot());
    for (std::size_t i = 0; i < keys.size(); i += 2) co_await db.put(keys[i], "newer");
  }
  Interleaved other;
  auto interleaved = monterey::spawn(Interleaved::run(&other));
  co_await monterey::yield();
  HitCost cost;
  cost.operations = kOperations;
  const std::uint64_t turns = other.turns;
  const auto begin = std::chrono::steady_clock::now();
  if (window != nullptr) {
    window->open();
    ::syscall(SYS_getppid);  // shows that this is the thread whose calls are counted
  } else {
    monterey::detail::stop_recycling_frames();  // every frame is an allocation now
  }
  const std::uint64_t allocations_before = allocations();
  if (verb == Verb::get) {
    for (std::uint64_t i = 0; i < kOperations; ++i) {
      const std::optional<std::string> found = co_await db.get(keys[i * 7919 % keys.size()]);
      cost.failures += !found || found->size() != kValueBytes;
    }
  } else if (verb == Verb::get_into) {
    std::array<std::byte, 64> part;
    for (std::uint64_t i = 0; i < kOperations; ++i) {
      const std::optional<std::size_t> size = co_await db.get_into(keys[i * 7919 % keys.size()], part, {.offset = 50});
      cost.failures += size != kValueBytes;
    }
  } else if (verb == Verb::snapshot_get) {
    for (std::uint64_t i = 0; i < kOperations; ++i) {
      const std::optional<std::string> found = co_await snapshot->get(keys[i * 7919 % keys.size()]);
      cost.failures += !found || found->size() != kValueBytes;
    }
  } else {
    for (std::uint64_t i = 0; i < kOperations; ++i) co_await db.put(keys[i * 7919 % keys.size()], value);
  }
  cost.allocations = allocations() - allocations_before;
  if (window != nullptr) {
    window->close();
  } else {
    monterey::detail::start_recycling_frames();
  }
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  cost.suspensions = other.turns - turns;
  cost.allowed_suspensions = static_cast<std::uint64_t>(elapsed / monterey::kTaskBudget) + 1;
  other.stop = true;
  co_await std::move(interleaved);
  co_return cost;
}

// A store whose pages are all cached, and room for all puts in the active buffer.
HitCost run_hits(Verb verb, const SystemCallWindow* window) {
  const PartitionConfig config{.cache_pages = 4096, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 20};
  HitCost cost;
  const auto task = [&]() -> monterey::Task<> {
    // Large enough: a put that must let the device grow waits for that.
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(32 * 1024), config);
    const std::vector<std::string> keys = keys_up_to(20'000);
    co_await put_all(db, keys, std::string(kValueBytes, 'v'));
    co_await db.flush();
    for (const std::string& key : keys) {
      const bool present = co_await db.contains(key);
      EXPECT_TRUE(present);
    }
    cost = co_await hit(db, keys, verb, window);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
  return cost;
}

void expect_only_results(const HitCost& cost) {
  EXPECT_EQ(cost.failures, 0u);
  if (kCountsAllocations) {
    EXPECT_EQ(cost.allocations, cost.operations);  // 100 bytes do not fit into a std::string
  }
  EXPECT_LE(cost.suspensions, cost.allowed_suspensions);
}

TEST(Cost, CachedGetAllocatesItsResultAndSuspendsOnlyToLetOthersRun) {
  const HitCost cost = run_hits(Verb::get, nullptr);
  expect_only_results(cost);
  RecordProperty("suspensions", static_cast<int>(cost.suspensions));
}

TEST(Cost, CachedGetIntoAllocatesNothingAndSuspendsOnlyToLetOthersRun) {
  const HitCost cost = run_hits(Verb::get_into, nullptr);
  EXPECT_EQ(cost.failures, 0u);
  EXPECT_EQ(cost.allocations, 0u);
  EXPECT_LE(cost.suspensions, cost.allowed_suspensions);
}

TEST(Cost, CachedGetOfASnapshotAllocatesItsResultAndSuspendsOnlyToLetOthersRun) {
  expect_only_results(run_hits(Verb::snapshot_get, nullptr));
}

TEST(Cost, PutIntoTheBufferAllocatesNothingAndSuspendsOnlyToLetOthersRun) {
  const HitCost cost = run_hits(Verb::put, nullptr);
  EXPECT_EQ(cost.allocations, 0u);
  EXPECT_LE(cost.suspensions, cost.allowed_suspensions);
  RecordProperty("suspensions", static_cast<int>(cost.suspensions));
}

// Writers of durable puts share a group; what each of them waits in comes from recycled frames.
TEST(Cost, ADurablePutAllocatesNothingButFrames) {
  if (!kCountsAllocations) GTEST_SKIP() << "operator new cannot be replaced here";
  const PartitionConfig config{.cache_pages = 256, .wal_mode = WalMode::per_op, .write_buffer_bytes = 16u << 20};
  constexpr std::uint64_t kWriters = 64;
  constexpr std::uint64_t kRounds = 200;
  const auto task = [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 32 * 1024});
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    disk->complete(Completion::yield);
    const std::vector<std::string> keys = keys_up_to(kWriters);
    std::uint64_t allocated = 0;
    std::uint64_t groups = 0;
    for (const bool counts : {false, true}) {  // the first time fills the recycler
      groups = db.stats().log_groups;
      std::vector<monterey::Task<>> writers;
      for (const std::string& key : keys) {
        writers.push_back([](Partition* to, const std::string* name) -> monterey::Task<> {
          for (std::uint64_t i = 0; i < kRounds; ++i) co_await to->put(*name, "a value of some length");
        }(&db, &key));
      }
      const std::uint64_t started = allocations();
      const double begin = thread_cpu_us();
      co_await monterey::when_all(std::move(writers));
      allocated = allocations() - started;
      if (counts) {
        std::printf("%.3f us of CPU time a put\n", (thread_cpu_us() - begin) / double{kWriters * kRounds});
      }
    }
    EXPECT_LE(db.stats().log_groups - groups, kRounds + 2);
    std::printf("%lu allocations for %lu puts in %lu groups\n", static_cast<unsigned long>(allocated),
                static_cast<unsigned long>(kWriters * kRounds),
                static_cast<unsigned long>(db.stats().log_groups - groups));
    if (kPlainHeap) {
      EXPECT_LE(allocated, 3 * kWriters);  // of each task, not of each put
    }
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

void expect_no_system_calls(Verb verb) {
  const SystemCalls calls = count_system_calls([verb](const SystemCallWindow& window) -> std::string {
    const HitCost cost = run_hits(verb, &window);
    return cost.failures == 0 ? "" : "values are missing";
  });
  ASSERT_TRUE(calls.counted) << calls.failure;
  EXPECT_EQ(calls.of(SYS_getppid), 1u) << "the calls of another thread were counted";
  // The reactor looks for completions every 64 turns, but with nothing in flight it does that without the kernel.
  EXPECT_EQ(calls.of(SYS_io_uring_enter), 0u);
  if (kPlainHeap) {
    EXPECT_EQ(calls.total(), 1u);
  }
}

TEST(Cost, CachedGetsMakeNoSystemCall) { expect_no_system_calls(Verb::get); }
TEST(Cost, PutsIntoTheBufferMakeNoSystemCall) { expect_no_system_calls(Verb::put); }

// --- fairness ---

#if defined(__OPTIMIZE__) && MONTEREY_RECYCLE_FRAMES
constexpr double kLongestHoldUpUs = 1000;
#else
constexpr double kLongestHoldUpUs = 50'000;  // 64 gets, after which a task looks at the clock, take that much longer
#endif

// A task that never waits for anything. Ends by itself, so that a runtime that lets nobody else run fails the test
// instead of hanging it.
monterey::Task<> get_for_ever(Partition& db, const std::vector<std::string>& keys, const bool* stop) {
  for (std::uint64_t i = 0; !*stop && i < 5'000'000; ++i) {
    static_cast<void>(co_await db.get(keys[i * 7919 % keys.size()]));
  }
}

// What a host takes from this machine is counted as the thread's CPU time. It does not come three times in a row; a
// runtime that holds others up does.
template <class Measure>
double smallest_of_three(Measure measure) {
  double smallest = measure();
  for (int i = 1; i < 3 && smallest >= kLongestHoldUpUs; ++i) smallest = std::min(smallest, measure());
  return smallest;
}

double longest_hold_up_of_a_timer() {
  const PartitionConfig config{.cache_pages = 4096, .wal_mode = WalMode::none, .write_buffer_bytes = 4u << 20};
  double longest_us = 0;
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(), config);
    const std::vector<std::string> keys = keys_up_to(10'000);
    co_await put_all(db, keys, std::string(kValueBytes, 'v'));
    co_await db.flush();
    bool stop = false;
    auto busy = monterey::spawn(get_for_ever(db, keys, &stop));
    // How many gets the other task does in its turn depends on how much of the machine it has, at least one.
    constexpr std::uint64_t kGets = 300 * monterey::kBudgetUnits;
    constexpr int kMostTimers = 300 * 100;
    for (int i = 0; i < 300 || (i < kMostTimers && db.stats().gets < kGets); ++i) {
      // Due at once, so all the CPU time that this thread uses until then is what the timer was held up.
      const double before = thread_cpu_us();
      co_await monterey::sleep_for(std::chrono::nanoseconds(1));
      longest_us = std::max(longest_us, thread_cpu_us() - before);
    }
    EXPECT_GE(db.stats().gets, kGets) << "the other task did not run in between";
    stop = true;
    co_await std::move(busy);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
  return longest_us;
}

TEST(Cost, ALoopOverCachedGetsHoldsUpNoTimer) {
  const double longest_us = smallest_of_three(longest_hold_up_of_a_timer);
  EXPECT_LT(longest_us, kLongestHoldUpUs);
  std::printf("a timer was held up for at most %.0f us of CPU time\n", longest_us);
}

// The time that the ready queue takes to come round: what anyone in it waits before it runs.
struct Rounds {
  double longest_us = 0;
  std::uint64_t count = 0;
  bool stop = false;

  static monterey::Task<> watch(Rounds* self) {
    double last = thread_cpu_us();
    while (!self->stop) {
      co_await monterey::yield();
      const double now = thread_cpu_us();
      self->longest_us = std::max(self->longest_us, now - last);
      last = now;
      ++self->count;
    }
  }
};

double longest_hold_up_of_a_flush() {
  const PartitionConfig config{.cache_pages = 4096, .wal_mode = WalMode::none, .write_buffer_bytes = 256u << 10};
  const auto disk = std::make_shared<MemDisk>();
  constexpr std::uint64_t kFlushes = 50;
  Rounds rounds;
  std::uint64_t steps = 0;
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    const std::vector<std::string> keys = keys_up_to(10'000);
    co_await put_all(db, keys, std::string(kValueBytes, 'v'));
    co_await db.flush();
    auto watching = monterey::spawn(Rounds::watch(&rounds));
    co_await monterey::yield();  // it watches before the other begins
    bool stop = false;
    auto busy = monterey::spawn(get_for_ever(db, keys, &stop));
    // Every operation of a flush puts it back into the ready queue once more.
    disk->complete(Completion::yield);
    disk->reset_counts();
    const std::uint64_t gets = db.stats().gets;
    for (std::uint64_t i = 0; i < kFlushes; ++i) {
      for (std::uint64_t k = 0; k < 4; ++k) co_await db.put(keys[(i * 101 + k * 2503) % keys.size()], "changed");
      co_await db.flush();
    }
    EXPECT_GT(db.stats().gets - gets, kFlushes * 64) << "the other task did not run in between";
    steps = disk->counts().writes + disk->counts().syncs;
    rounds.stop = true;
    stop = true;
    co_await std::move(busy);
    co_await std::move(watching);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
  EXPECT_GE(steps, kFlushes * 6);
  // A flush of four leaves goes through the queue a few times for each of its operations.
  EXPECT_LE(rounds.count, steps * 8);
  std::printf("a step of a flush was held up for at most %.0f us of CPU time; %.1f rounds a flush, %.1f operations\n",
              rounds.longest_us, static_cast<double>(rounds.count) / kFlushes, static_cast<double>(steps) / kFlushes);
  return rounds.longest_us;
}

TEST(Cost, ALoopOverCachedGetsHoldsUpNoFlush) {
  EXPECT_LT(smallest_of_three(longest_hold_up_of_a_flush), kLongestHoldUpUs);
}

// --- misses ---

// A store of three levels of which all branches, and few leaves, are cached.
struct ColdLeaves {
  static constexpr std::uint64_t kKeys = 35'000;
  static constexpr std::uint64_t kStep = 500;  // some 15 leaves, and a branch has more than 100
  static PartitionConfig config() {
    return {.cache_pages = 4096, .wal_mode = WalMode::none, .write_buffer_bytes = 8u << 20};
  }

  static monterey::Task<> write(std::unique_ptr<BlockDevice> device) {
    auto db = co_await Partition::create(std::move(device), config());
    const std::vector<std::string> keys = keys_up_to(kKeys);
    co_await put_all(db, keys, std::string(kValueBytes, 'v'));
    co_await db.close();
  }
  static monterey::Task<Partition> open(std::unique_ptr<BlockDevice> device) {
    auto db = co_await Partition::open(std::move(device), config());
    EXPECT_EQ(db.stats().height, 3u);
    for (std::uint64_t i = 0; i < kKeys; i += kStep) {
      const bool present = co_await db.contains(key_of(i));
      EXPECT_TRUE(present);
    }
    co_return std::move(db);
  }
  // A key of a leaf that open() has not read; each `index` another leaf.
  static std::string key(std::uint64_t index) { return key_of(index * kStep + kStep / 2); }
};

TEST(Cost, AColdGetIsOneReadOfOneBlock) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    co_await ColdLeaves::write(std::make_unique<MemBlockDevice>(disk));
    auto db = co_await ColdLeaves::open(std::make_unique<MemBlockDevice>(disk));
    for (std::uint64_t i = 0; i < 60; ++i) {
      for (const std::uint64_t expected : {1u, 0u}) {  // cold, then cached
        disk->reset_counts();
        const std::uint64_t hits = db.stats().cache_hits;
        const std::optional<std::string> value = co_await db.get(ColdLeaves::key(i));
        EXPECT_EQ(db.stats().cache_hits - hits, expected == 1 ? 2u : 3u) << "a page was looked for twice";
        EXPECT_EQ(value, std::string(kValueBytes, 'v'));
        EXPECT_EQ(disk->counts().reads, expected);
        EXPECT_EQ(disk->counts().blocks_read, expected);
      }
    }
    co_await db.close();
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

monterey::Task<PinnedValues> get_cold(Partition& db) {
  std::vector<std::string> keys;
  for (std::uint64_t i = 0; i < 64; ++i) keys.push_back(ColdLeaves::key(i));
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  co_return co_await db.get_many(views);
}

bool all_are_there(const PinnedValues& values) {
  return values.size() == 64 && std::ranges::all_of(values, [](const std::optional<PinnedValue>& value) {
           return value && value->view() == std::string(kValueBytes, 'v');
         });
}

TEST(Cost, GetManyOf64MissesHasAllReadsInFlightAtOnce) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    co_await ColdLeaves::write(std::make_unique<MemBlockDevice>(disk));
    auto db = co_await ColdLeaves::open(std::make_unique<MemBlockDevice>(disk));
    disk->reset_counts();
    disk->complete(Completion::held);
    const std::uint64_t hits = db.stats().cache_hits;
    auto reading = monterey::spawn(get_cold(db));
    co_await monterey::yield();  // one turn: what is in flight after it goes to the kernel in one submission
    EXPECT_EQ(disk->held(DeviceOp::read), 64u);
    disk->complete(Completion::at_once);
    disk->release_all();
    const PinnedValues values = co_await std::move(reading);
    EXPECT_TRUE(all_are_there(values));
    EXPECT_GE(disk->counts().max_reads_in_flight, 60u);
    EXPECT_EQ(disk->counts().blocks_read, 64u);
    // The root once for each 16 lookups that go down together, each leaf once.
    EXPECT_EQ(db.stats().cache_hits - hits, 64u / 16 + 64u) << "a page was looked for twice";
    co_await db.close();
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

TEST(Cost, GetManyOf64MissesInAFileTakesFewSystemCalls) {
  const TempDir dir;
  const std::string path = dir.file("db");
  const SystemCalls calls = count_system_calls([&path](const SystemCallWindow& window) -> std::string {
    std::string failure;
    const auto task = [&]() -> monterey::Task<> {
      if (monterey::capabilities().backend != monterey::Backend::io_uring) {
        failure = "no io_uring";
        co_return;
      }
      co_await ColdLeaves::write(co_await FileBlockDevice::open(path));
      auto db = co_await ColdLeaves::open(co_await FileBlockDevice::open(path));
      co_await monterey::yield();
      window.open();
      const PinnedValues values = co_await get_cold(db);
      window.close();
      if (!all_are_there(values)) failure = "values are missing";
      co_await db.close();
    };
    run_in_cluster(ColdLeaves::config().buffer_config(), task);
    return failure;
  });
  if (calls.failure == "no io_uring") GTEST_SKIP() << "worker threads make a call for every operation";
  ASSERT_TRUE(calls.counted) << calls.failure;
  // One call submits; the others wait, and how many it takes to see all completions is up to the disk.
  const std::uint64_t most = calls.submitted.empty() ? 0 : std::ranges::max(calls.submitted);
  std::printf("64 misses took %lu calls of io_uring_enter; one submitted %lu\n",
              static_cast<unsigned long>(calls.of(SYS_io_uring_enter)), static_cast<unsigned long>(most));
  EXPECT_GE(most, 60u);
  EXPECT_LE(calls.submitted.size(), 5u);
  if (kPlainHeap) {
    EXPECT_LE(calls.total() - calls.of(SYS_io_uring_enter), 4u);
  }
}

// --- large I/O ---

// What a disk has recorded: the reads that somebody waited for, and the blocks read ahead, in how many reads.
struct Reads {
  std::uint64_t waited = 0;
  std::uint64_t ahead = 0;
  std::uint64_t reads_ahead = 0;
};
Reads recorded_reads(MemDisk& disk) {
  disk.record(false);
  Reads reads;
  for (const test::Operation& operation : disk.take_trace()) {
    reads.waited += operation.io_class == monterey::IoClass::foreground;
    if (operation.io_class != monterey::IoClass::background) continue;
    reads.ahead += operation.blocks;
    ++reads.reads_ahead;
  }
  return reads;
}

// Read-ahead keeps its distance over the borders of a hundred branches, and fills large reads.
TEST(Cost, ALongScanStaysBehindItsReadAhead) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    constexpr std::uint64_t kKeys = 40'000;  // three or four a leaf
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      co_await put_all(db, keys_up_to(kKeys), std::string(1000, 'v'));
      co_await db.close();
    }
    for (const bool reverse : {false, true}) {
      auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      disk->record(true);
      ScanOptions options;
      options.reverse = reverse;
      options.prefetch_pages = 32;  // fewer than there are branches
      auto scan = co_await db.scan("", std::nullopt, options);
      std::uint64_t entries = 0;
      while (co_await scan.advance()) ++entries;
      EXPECT_EQ(entries, kKeys);
      const auto [waited, ahead, reads_ahead] = recorded_reads(*disk);
      EXPECT_LE(waited, 10u);
      EXPECT_EQ(waited + ahead + 1, db.stats().tree_pages) << "each page once";
      EXPECT_GT(ahead, 8 * reads_ahead);
      co_await db.close();
    }
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

// On a device that answers late the whole window is asked for, not only what the branches that happen to be resident lead to.
TEST(Cost, ALongScanHasItsWindowInFlight) {
  const auto disk = std::make_shared<MemDisk>();
  PartitionConfig config = ColdLeaves::config();
  config.cache_pages = 16'384;
  const auto task = [&]() -> monterey::Task<> {
    constexpr std::uint64_t kKeys = 20'000;  // three or four a leaf, in some forty branches
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
      co_await put_all(db, keys_up_to(kKeys), std::string(1000, 'v'));
      co_await db.close();
    }
    for (const bool reverse : {false, true}) {
      auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
      auto scan = co_await db.scan("", std::nullopt, {.reverse = reverse, .prefetch_pages = 1024});
      std::uint64_t entries = 0;
      for (; entries < kKeys / 4; ++entries) EXPECT_TRUE(co_await scan.advance());
      disk->complete(MemDisk::Completion::held);
      auto rest = monterey::spawn([](Scan& from, std::uint64_t& count) -> monterey::Task<> {
        while (co_await from.advance()) ++count;
      }(scan, entries));
      std::uint64_t seen = 0;
      do {
        seen = entries;
        for (int turn = 0; turn < 20; ++turn) co_await monterey::yield();
      } while (entries != seen);
      std::uint64_t blocks = 0;
      for (std::size_t i = 0; i < disk->held(); ++i) blocks += disk->held_operation(i).blocks;
      EXPECT_GE(blocks, 800u);
      EXPECT_LT(entries, kKeys);
      disk->complete(MemDisk::Completion::at_once);
      disk->release_all();
      co_await std::move(rest);
      EXPECT_EQ(entries, kKeys);
      co_await db.close();
    }
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(Cost, AScanWaitsForNoLeafBehindItsFirstOnes) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    co_await ColdLeaves::write(std::make_unique<MemBlockDevice>(disk));
    for (const bool reverse : {false, true}) {
      auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      disk->record(true);
      ScanOptions options;
      options.reverse = reverse;
      auto scan = co_await db.scan("", std::nullopt, options);
      std::uint64_t entries = 0;
      while (co_await scan.advance()) ++entries;
      EXPECT_EQ(entries, ColdLeaves::kKeys);
      const auto [waited, ahead, reads_ahead] = recorded_reads(*disk);
      // A branch, and the leaves before read-ahead begins; the root was read by open(). Over the borders of branches too.
      EXPECT_LE(waited, 5u);
      EXPECT_GT(ahead, 900u);
      EXPECT_EQ(waited + ahead + 1, db.stats().tree_pages) << "each page once";
      EXPECT_GT(ahead, 16 * reads_ahead) << "leaves in neighbouring blocks are read together";
      co_await db.close();
    }
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

TEST(Cost, AScanReadsNoFurtherThanItsLimit) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      co_await put_all(db, keys_up_to(4'000), std::string(1000, 'v'));  // three or four a leaf
      co_await db.close();
    }
    for (const bool reverse : {false, true}) {
      auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      disk->reset_counts();
      auto scan = co_await db.scan("", std::nullopt, {.reverse = reverse, .limit = 300});
      std::uint64_t entries = 0;
      while (co_await scan.advance()) ++entries;
      EXPECT_EQ(entries, 300u);
      // Its share of the leaves, a few branches, and a leaf or two too many.
      EXPECT_LE(disk->counts().blocks_read, db.stats().tree_pages * 300 / 4'000 + 12);
      co_await db.close();
    }
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

// Wherever in a leaf it begins: its last leaf is no reason to ask for more.
TEST(Cost, AShortScanAsksForNoLeafBehindItsLast) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    std::vector<std::string> keys = keys_up_to(4'000);
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      co_await put_all(db, keys, std::string(1000, 'v'));  // three or four a leaf
      co_await db.close();
    }
    std::ranges::sort(keys);
    for (std::size_t first = 1'000; first < 1'008; ++first) {
      auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      disk->reset_counts();
      auto scan = co_await db.scan(keys[first], std::nullopt, {.limit = 30});
      std::uint64_t entries = 0;
      while (co_await scan.advance()) ++entries;
      EXPECT_EQ(entries, 30u);
      EXPECT_LE(disk->counts().blocks_read, 10u) << "two branches and eight leaves of four";
      co_await db.close();
    }
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

// Where all was resident nothing was asked for; the first leaf that is not changes that.
TEST(Cost, AScanThatComesOutOfTheCacheReadsAhead) {
  const auto disk = std::make_shared<MemDisk>();
  PartitionConfig config = ColdLeaves::config();
  config.cache_pages = 4'096;
  const auto task = [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
      co_await put_all(db, keys_up_to(8'000), std::string(1000, 'v'));  // three or four a leaf
      co_await db.close();
    }
    for (const bool reverse : {false, true}) {
      auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
      for (const std::uint64_t limit : {2'000, 8'000}) {
        disk->record(true);
        auto scan = co_await db.scan("", std::nullopt, {.reverse = reverse, .limit = limit});
        std::uint64_t entries = 0;
        while (co_await scan.advance()) ++entries;
        EXPECT_EQ(entries, limit);
        const std::uint64_t waited = recorded_reads(*disk).waited;
        EXPECT_LE(waited, 6u) << "of some 600 leaves, then 1,800";
      }
      co_await db.close();
    }
  };
  run_in_cluster(config.buffer_config(), task);
}

// The leaves on the way hold many entries that are erased in the buffer.
TEST(Cost, AScanThatGoesFurtherThanItsLimitReadsAheadAgain) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    std::vector<std::string> keys = keys_up_to(4'000);
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
      co_await put_all(db, keys, std::string(1000, 'v'));  // three or four a leaf
      co_await db.close();
    }
    std::ranges::sort(keys);
    auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), ColdLeaves::config());
    for (std::size_t i = 0; i < 2'000; ++i) co_await db.erase(keys[i]);
    disk->record(true);
    auto scan = co_await db.scan("", std::nullopt, {.limit = 50});
    EXPECT_TRUE(co_await scan.advance());
    EXPECT_EQ(scan.key(), keys[2'000]);
    const std::uint64_t waited = recorded_reads(*disk).waited;
    EXPECT_LE(waited, 20u) << "of some 600 leaves";
    co_await db.close();
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

// What is resident is not looked for ahead.
TEST(Cost, AShortCachedScanWithoutALimitLooksAtFewPages) {
  const auto task = [&]() -> monterey::Task<> {
    PartitionConfig config = ColdLeaves::config();
    config.cache_pages = 4'096;
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(std::make_shared<MemDisk>()), config);
    co_await put_all(db, keys_up_to(8'000), std::string(1000, 'v'));
    co_await db.flush();
    for (const bool is_warm : {false, true}) {
      auto scan = co_await db.scan("", std::nullopt, {});
      const std::uint64_t hits = db.stats().cache_hits;
      for (int entries = 0; entries < (is_warm ? 100 : 8'000); ++entries) EXPECT_TRUE(co_await scan.advance());
      if (!is_warm) continue;
      EXPECT_LE(db.stats().cache_hits - hits, 60u) << "of some 30 leaves";
    }
    co_await db.close();
  };
  PartitionConfig config = ColdLeaves::config();
  config.cache_pages = 4'096;
  run_in_cluster(config.buffer_config(), task);
}

monterey::Task<> put_value(Partition& db, std::string value) { co_await db.put("long", value); }

TEST(Cost, ALongValueIsWrittenBySeveralWritesAtOnce) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = ColdLeaves::config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
    std::string value(3'000'000, 'l');
    for (std::size_t i = 0; i < value.size(); i += 1'000) value[i] = static_cast<char>(i / 1'000);
    disk->complete(Completion::held);
    auto putting = monterey::spawn(put_value(db, value));
    for (int turn = 0; turn < 100 && disk->held() < 4; ++turn) {
      if (disk->held(DeviceOp::grow) > 0) disk->release_all();
      co_await monterey::yield();
    }
    EXPECT_EQ(disk->held(DeviceOp::write), 4u);
    disk->complete(Completion::at_once);
    disk->release_all();
    co_await std::move(putting);
    const std::optional<std::string> found = co_await db.get("long");
    EXPECT_TRUE(found == value);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// The turns that another task got while `verb` ran.
monterey::Task<std::uint64_t> turns_beside(monterey::Task<> verb) {
  bool done = false;
  std::uint64_t turns = 0;
  auto watching = monterey::spawn([](const bool* stop, std::uint64_t* count) -> monterey::Task<> {
    for (; !*stop; ++*count) co_await monterey::yield();
  }(&done, &turns));
  co_await std::move(verb);
  done = true;
  co_await std::move(watching);
  co_return turns;
}

monterey::Task<> get_value(Partition& db) {
  const std::optional<std::string> value = co_await db.get("long");
  EXPECT_TRUE(value.has_value());
}

monterey::Task<> pin_value(Partition& db) {
  const std::optional<PinnedValue> value = co_await db.get_pinned("long");
  EXPECT_TRUE(value.has_value());
}

monterey::Task<> scan_value(Partition& db) {
  auto scan = co_await db.scan("long");
  const bool there = co_await scan.advance();
  EXPECT_TRUE(there);
}

monterey::Task<> get_value_into(Partition& db, std::span<std::byte> into) {
  const std::optional<std::size_t> bytes = co_await db.get_into("long", into);
  EXPECT_TRUE(bytes.has_value());
}

// The checksums of 64 MiB take some 5 ms, and so does a copy; a turn is due every 100 µs.
TEST(Cost, ALongValueHoldsUpNobody) {
  constexpr std::size_t kBytes = 64u << 20;
  constexpr std::uint64_t kTurns = 15;
  const PartitionConfig config = ColdLeaves::config();
  const auto task = [&]() -> monterey::Task<> {
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(std::make_shared<MemDisk>()), config);
    const std::uint64_t of_put = co_await turns_beside(put_value(db, std::string(kBytes, 'l')));
    EXPECT_GT(of_put, kTurns);
    co_await db.flush();
    const std::uint64_t of_get = co_await turns_beside(get_value(db));
    EXPECT_GT(of_get, kTurns);
    const std::uint64_t of_pin = co_await turns_beside(pin_value(db));
    EXPECT_GT(of_pin, kTurns);
    const std::uint64_t of_scan = co_await turns_beside(scan_value(db));
    EXPECT_GT(of_scan, kTurns);
    std::vector<std::byte> into(kBytes + 1);
    const std::uint64_t of_get_into = co_await turns_beside(get_value_into(db, std::span(into).subspan(1)));
    EXPECT_GT(of_get_into, kTurns);
    std::printf("turns beside put %lu, get %lu, get_pinned %lu, scan %lu, get_into %lu\n", of_put, of_get, of_pin,
                of_scan, of_get_into);
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

// --- beside a flush ---

TEST(Cost, ReadsAndPutsCompleteBetweenTwoWritesOfAFlush) {
  const auto disk = std::make_shared<MemDisk>();
  const auto task = [&]() -> monterey::Task<> {
    co_await ColdLeaves::write(std::make_unique<MemBlockDevice>(disk));
    auto db = co_await ColdLeaves::open(std::make_unique<MemBlockDevice>(disk));
    for (std::uint64_t i = 0; i < 20'000; ++i) co_await db.put(key_of(i), std::string(kValueBytes, 'w'));
    disk->complete_by([](const test::Operation& operation) {
      return operation.op == DeviceOp::write ? Completion::held : Completion::at_once;
    });
    auto flushing = monterey::spawn(db.flush());
    const std::uint64_t flushes = db.stats().flushes;
    std::uint64_t gaps = 0;
    while (db.stats().flushes == flushes) {
      while (disk->held() == 0 && db.stats().flushes == flushes) co_await monterey::yield();
      if (disk->held() == 0) break;
      // A write of the flush is in flight and will not end before this task says so.
      ++gaps;
      const std::uint64_t reads = disk->counts().reads;
      const std::optional<std::string> cold = co_await db.get(ColdLeaves::key(41 + gaps));
      EXPECT_EQ(cold, std::string(kValueBytes, 'v'));
      EXPECT_GE(disk->counts().reads, reads + 1);
      const std::optional<std::string> being_merged = co_await db.get(key_of(1));
      EXPECT_EQ(being_merged, std::string(kValueBytes, 'w'));
      const std::string fresh = "fresh" + std::to_string(gaps);
      co_await db.put(fresh, "value");
      const std::optional<std::string> written = co_await db.get(fresh);
      EXPECT_EQ(written, "value");
      EXPECT_EQ(db.stats().flushes, flushes);
      disk->release();
    }
    disk->complete_by(nullptr);
    co_await std::move(flushing);
    EXPECT_GE(gaps, 8u);
    EXPECT_LE(41 + gaps, 69u) << "the cold keys ran out";
    co_await db.close();
  };
  run_in_cluster(ColdLeaves::config().buffer_config(), task);
}

}  // namespace
}  // namespace store
