// Shards on several cores: cached get_many beside as many processes of one core each, with keys of the core's own and with any keys; durable
// puts on one shard and on all; and what a get from another core costs. Every part of a round runs in processes of its own, all begun at one
// moment; the parts alternate, and medians of the rounds are told.
// `bench_shards [--cores N,..] [--rounds N] [--seconds N] [--directory DIR]`
#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <monterey/monterey.hpp>
#include <random>
#include <store/store.hpp>
#include <thread>
#include <vector>

#include "rounds.hpp"
#include "workload.hpp"

namespace {

using monterey::Task;
using store::ShardedOptions;
using store::ShardedStore;
using store::WalMode;

constexpr std::size_t kBatch = 64;  // keys of a get_many
constexpr unsigned kReaders = 16;   // tasks of a core that read at once
constexpr unsigned kWriters = 16;   // … that put, durably
constexpr double kOwnTarget = 0.9;  // of what the processes reach together
constexpr double kAnyTarget = 0.65;
constexpr std::size_t kDrawn = 1u << 20;  // a multiple of kBatch
constexpr std::uint64_t kKeysACore = bench::kKeys / 2;

struct Options {
  std::vector<unsigned> cores;
  int rounds = 5;
  double seconds = 3;
  std::filesystem::path directory = std::filesystem::temp_directory_path();
};

// What the processes of a part share.
struct Shared {
  pthread_barrier_t begin;
  std::array<std::atomic<double>, 1024> results;
};

enum class Keys { own, any };

ShardedOptions options_of(unsigned shards, WalMode mode) {
  ShardedOptions options;
  options.shards = shards;
  options.partition.cache_pages = 24'576;  // 96 MiB: all of a shard's pages
  options.partition.wal_mode = mode;
  return options;
}

// Runs `body(store)` in a cluster of so many cores on a new store of as many shards, on core 0.
template <class Body>
void with_store(const std::filesystem::path& path, unsigned cores, unsigned first_cpu, WalMode mode, Body body) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (unsigned i = 0; i < cores; ++i) CPU_SET(first_cpu + i, &cpus);
  ::sched_setaffinity(0, sizeof cpus, &cpus);
  const ShardedOptions options = options_of(cores, mode);
  auto main = [&]() -> Task<> {
    const store::CreateOptions replace{.overwrite = true};
    ShardedStore db = co_await ShardedStore::create(path.string(), options, replace);
    co_await body(db);
    co_await db.close();
  };
  monterey::Cluster::builder()
      .cores(cores)
      .pin(true)
      .buffers(options.buffer_config(cores))
      .init([&main] {
        if (monterey::current_core() == 0) monterey::spawn(main());
      })
      .run();
}

// Runs `body(core) -> Task<double>` on every core, and returns the sum.
Task<double> on_cores(std::function<Task<double>(unsigned)> body) {
  std::vector<Task<double>> tasks;
  for (unsigned core = 0; core < monterey::core_count(); ++core) {
    tasks.push_back(monterey::call_on(core, [&body, core] { return body(core); }));
  }
  double sum = 0;
  const std::vector<double> each = co_await monterey::when_all(std::move(tasks));
  for (const double one : each) sum += one;
  co_return sum;
}

// The indexes of the keys of this core.
std::vector<std::uint32_t> own_indexes(const ShardedStore& db, std::uint64_t count) {
  std::vector<std::uint32_t> indexes;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (db.core_of(bench::Key(i).view()) == monterey::current_core()) indexes.push_back(i);
  }
  return indexes;
}

Task<> fill(ShardedStore db, std::uint64_t count) {
  auto fill_own = [db, count](unsigned) mutable -> Task<double> {
    const bench::Values values;
    for (const std::uint32_t i : own_indexes(db, count)) {
      const bench::Key key(i);
      co_await db.put(key.view(), values.of(i));
    }
    co_return 0;
  };
  co_await on_cores(fill_own);
  co_await db.flush();
}

// Keys that a core is to read, in the order in which it does: drawn beforehand, so that all parts draw alike.
std::vector<bench::Key> draw(const ShardedStore& db, Keys keys, std::uint64_t count) {
  std::mt19937_64 random(monterey::current_core() + 1);
  std::vector<bench::Key> drawn;
  drawn.reserve(kDrawn);
  while (drawn.size() < kDrawn) {
    const bench::Key key(random() % count);
    if (keys == Keys::any || db.core_of(key.view()) == monterey::current_core()) drawn.push_back(key);
  }
  return drawn;
}

Task<> read_on(ShardedStore db, const std::vector<bench::Key>* keys, std::size_t* next, const bool* over,
               std::uint64_t* done) {
  std::array<std::string_view, kBatch> views;
  while (!*over) {
    const std::size_t first = *next;
    *next = (first + kBatch) % keys->size();
    for (std::size_t i = 0; i < kBatch; ++i) views[i] = (*keys)[first + i].view();
    const auto values = co_await db.get_many(views);
    if (!values[0]) throw std::runtime_error("a key is missing");
    *done += kBatch;
  }
}

// A core's gets a second.
Task<double> read_for(ShardedStore db, Keys which, std::uint64_t count, double seconds) {
  const std::vector<bench::Key> keys = draw(db, which, count);
  std::size_t next = 0;
  bool over = false;
  std::uint64_t done = 0;
  std::vector<Task<>> readers;
  for (unsigned i = 0; i < kReaders; ++i) readers.push_back(read_on(db, &keys, &next, &over, &done));
  auto time = [&over, seconds]() -> Task<> {
    co_await monterey::sleep_for(std::chrono::milliseconds(static_cast<int>(seconds * 1000)));
    over = true;
  };
  readers.push_back(time());
  const auto begin = std::chrono::steady_clock::now();
  co_await monterey::when_all(std::move(readers));
  co_return static_cast<double>(done) / bench::seconds_since(begin);
}

// --- the parts, each in processes of its own ---

using Part = std::function<double(Shared&, unsigned process)>;

// Runs the part in so many processes; the sum of what they say.
double in_processes(unsigned processes, const Part& part) {
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory to share");
  auto& shared = *::new (memory) Shared{};
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&shared.begin, &attributes, processes);
  std::vector<pid_t> children;
  for (unsigned i = 0; i < processes; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 0;
      try {
        shared.results[i] = part(shared, i);
      } catch (const std::exception& error) {
        fmt::print(stderr, "bench_shards: {}\n", error.what());
        code = 1;
      }
      std::_Exit(code);
    }
    children.push_back(child);
  }
  double sum = 0;
  bool failed = false;
  for (std::size_t i = 0; i < children.size(); ++i) {
    int status = 0;
    ::waitpid(children[i], &status, 0);
    failed = failed || status != 0;
    if (status != 0) {  // the others wait at the barrier
      for (const pid_t child : children) ::kill(child, SIGKILL);
    }
    sum += shared.results[i];
  }
  ::munmap(memory, sizeof(Shared));
  if (failed) throw std::runtime_error("a part failed");
  return sum;
}

double alone(const Options& options, Shared& shared, unsigned process) {
  double rate = 0;
  with_store(options.directory / fmt::format("alone{}", process), 1, process, WalMode::none,
             [&](ShardedStore db) -> Task<> {
               co_await fill(db, kKeysACore);
               pthread_barrier_wait(&shared.begin);
               rate = co_await read_for(db, Keys::own, kKeysACore, options.seconds);
             });
  return rate;
}

double sharded(const Options& options, unsigned cores, Keys keys) {
  double rate = 0;
  with_store(options.directory / "sharded", cores, 0, WalMode::none, [&](ShardedStore db) -> Task<> {
    co_await fill(db, kKeysACore * cores);
    auto read = [&](unsigned) { return read_for(db, keys, kKeysACore * cores, options.seconds); };
    rate = co_await on_cores(read);
  });
  return rate;
}

Task<> put_on(ShardedStore db, std::uint64_t seed, const bool* over, std::uint64_t* done) {
  const bench::Values values;
  for (std::uint64_t i = seed; !*over; i += 1'000) {
    const bench::Key key(i);
    co_await db.put(key.view(), values.of(i));
    ++*done;
  }
}

// Puts a second, each durable, from all cores and to all shards.
double durable_puts(const Options& options, unsigned cores) {
  double rate = 0;
  with_store(options.directory / "durable", cores, 0, WalMode::per_op, [&](ShardedStore db) -> Task<> {
    auto put = [&](unsigned core) -> Task<double> {
      bool over = false;
      std::uint64_t done = 0;
      std::vector<Task<>> tasks;
      for (unsigned i = 0; i < kWriters; ++i) tasks.push_back(put_on(db, core * kWriters + i, &over, &done));
      auto time = [&over, seconds = options.seconds]() -> Task<> {
        co_await monterey::sleep_for(std::chrono::milliseconds(static_cast<int>(seconds * 1000)));
        over = true;
      };
      tasks.push_back(time());
      const auto begin = std::chrono::steady_clock::now();
      co_await monterey::when_all(std::move(tasks));
      co_return static_cast<double>(done) / bench::seconds_since(begin);
    };
    rate = co_await on_cores(put);
  });
  return rate;
}

struct RemoteCost {
  double us = 0;
  double messages = 0;
};

Task<> get_there(ShardedStore db, const std::vector<std::uint32_t>* indexes, std::uint64_t seed, const bool* over,
                 std::uint64_t* done) {
  std::mt19937_64 random(seed);
  while (!*over) {
    const bench::Key key((*indexes)[random() % indexes->size()]);
    const auto value = co_await db.get(key.view());
    if (!value) throw std::runtime_error("a key is missing");
    ++*done;
  }
}

// Gets on core 0 of keys of core 1, so many at once: microseconds from one end to the next, and messages of both cores.
RemoteCost remote_gets(const Options& options, unsigned depth) {
  RemoteCost cost;
  with_store(options.directory / "sharded", 2, 0, WalMode::none, [&](ShardedStore db) -> Task<> {
    co_await fill(db, kKeysACore);
    std::vector<std::uint32_t> indexes;
    for (std::uint32_t i = 0; i < kKeysACore; ++i) {
      if (db.core_of(bench::Key(i).view()) == 1) indexes.push_back(i);
    }
    const auto messages = [](unsigned) -> Task<double> {
      co_return static_cast<double>(monterey::core_counters().messages);
    };
    bool over = false;
    std::uint64_t done = 0;
    std::vector<Task<>> tasks;
    const double before = co_await on_cores(messages);
    for (unsigned i = 0; i < depth; ++i) tasks.push_back(get_there(db, &indexes, i, &over, &done));
    auto time = [&over, seconds = options.seconds]() -> Task<> {
      co_await monterey::sleep_for(std::chrono::milliseconds(static_cast<int>(seconds * 1000)));
      over = true;
    };
    tasks.push_back(time());
    const auto begin = std::chrono::steady_clock::now();
    co_await monterey::when_all(std::move(tasks));
    cost.us = bench::seconds_since(begin) * 1e6 * depth / static_cast<double>(done);
    const double after = co_await on_cores(messages);
    cost.messages = (after - before) / static_cast<double>(done);
  });
  return cost;
}

void compare_gets(const Options& options, unsigned cores) {
  std::vector<double> processes;
  std::vector<double> own;
  std::vector<double> any;
  for (int round = 0; round < options.rounds; ++round) {
    processes.push_back(
        in_processes(cores, [&](Shared& shared, unsigned process) { return alone(options, shared, process); }));
    own.push_back(in_processes(1, [&](Shared&, unsigned) { return sharded(options, cores, Keys::own); }));
    any.push_back(in_processes(1, [&](Shared&, unsigned) { return sharded(options, cores, Keys::any); }));
  }
  fmt::print("get_many cores={} processes={:.2f} M/s\n", cores, bench::median(processes) / 1e6);
  const auto print = [&](const char* keys, const std::vector<double>& rates, double target) {
    const double ratio = bench::median_ratio(rates, processes);
    fmt::print("get_many cores={} keys={} sharded={:.2f} M/s ratio={:.3f} target={} {}\n", cores, keys,
               bench::median(rates) / 1e6, ratio, target, bench::verdict(ratio, target, processes));
  };
  print("own", own, kOwnTarget);
  print("any", any, kAnyTarget);
}

int run(const Options& options) {
  for (const unsigned cores : options.cores) compare_gets(options, cores);
  for (const unsigned cores : options.cores) {
    std::vector<double> rates;
    for (int round = 0; round < options.rounds; ++round) {
      rates.push_back(in_processes(1, [&](Shared&, unsigned) { return durable_puts(options, cores); }));
    }
    fmt::print("durable puts shards={} writers={} {:.1f} k/s\n", cores, cores * kWriters, bench::median(rates) / 1e3);
  }
  if (options.cores.back() < 2) return 0;
  for (const unsigned depth : {1u, 64u}) {
    std::vector<double> us;
    double messages = 0;
    for (int round = 0; round < options.rounds; ++round) {
      us.push_back(in_processes(1, [&](Shared&, unsigned) { return remote_gets(options, depth).us; }));
      if (round == 0)
        messages = in_processes(1, [&](Shared&, unsigned) { return remote_gets(options, depth).messages; });
    }
    fmt::print("get from another core depth={} us={:.2f} us_an_operation={:.2f} messages_an_operation={:.2f}\n", depth,
               bench::median(us), bench::median(us) / depth, messages);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  const unsigned all = std::max(1u, std::thread::hardware_concurrency());
  CLI::App app("Shards on several cores beside processes of one core each");
  app.add_option("--cores", options.cores, "how many; 1, 2, 4 .. up to all of the machine")->delimiter(',');
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--seconds", options.seconds, "of each part")->check(CLI::Range(0.1, 1000.0));
  app.add_option("--directory", options.directory, "where the stores lie");
  CLI11_PARSE(app, argc, argv);
  if (options.cores.empty()) {
    for (unsigned cores = 1; cores < all; cores *= 2) options.cores.push_back(cores);
    options.cores.push_back(all);
  }
  options.directory /= fmt::format("bench_shards.{}", ::getpid());
  std::filesystem::create_directories(options.directory);
  int code = 1;
  try {
    code = run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_shards: {}\n", error.what());
  }
  std::filesystem::remove_all(options.directory);
  return code;
}
