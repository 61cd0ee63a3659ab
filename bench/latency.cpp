// How long a cached get takes while other tasks of the same core are at work: at rest, and beside puts with their flushes, a long
// scan, check, backup, compact, erase_range with its flush, and the flush that gives up many overflow values. A get is timed from when it could have begun, in
// the turn after the last one, so that whatever holds the core is in it. Beside the clock's time stands the time that this thread
// itself ran: on a machine that others use as well, only that is the engine's doing.
// `bench_latency [--directory DIR] [--seconds S] [--only NAME]`; 256 MiB of memory, 1.5 GiB in DIR.
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <monterey/spawn.hpp>
#include <monterey/time.hpp>
#include <random>
#include <store/store.hpp>
#include <vector>

#include "rounds.hpp"
#include "workload.hpp"

namespace {

constexpr double kTargetUs = 1000;  // of the 99.9th percentile
constexpr std::uint64_t kPutsAFlush = 200'000;
constexpr std::uint64_t kOverflowValues = 200'000;
constexpr std::size_t kOverflowBytes = 3000;

const store::PartitionConfig kConfig{.cache_pages = 65'536, .wal_mode = store::WalMode::none};

struct Options {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  int seconds = 3;
  std::string only;
};

std::int64_t nanoseconds(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

struct Latencies {
  std::vector<float> clock_us;
  std::vector<float> own_us;

  // Sorts `us` and returns its percentiles in words, the longest last.
  static std::string text(std::vector<float>& us) {
    std::ranges::sort(us);
    const auto at = [&us](double share) {
      return us[std::min(us.size() - 1, static_cast<std::size_t>(share * static_cast<double>(us.size())))];
    };
    return fmt::format("{:7.1f} {:7.1f} {:7.1f} {:8.1f} {:8.1f}", at(0.5), at(0.99), at(0.999), at(0.9999), us.back());
  }
};

// What the tasks of the benchmark share.
struct Bench {
  store::Partition db;
  Options options;
  std::string copy_path;
  Latencies* noted = nullptr;  // where the reader notes its gets now
  bool over = false;
  std::mt19937_64 random{5};
};

// Gets keys that nothing erases, one at a time, and lets the others have their turn before each.
monterey::Task<> read_on(Bench* bench) {
  std::mt19937_64 random(9);
  while (!bench->over) {
    const bench::Key key(random() % bench::kKeys);
    const std::int64_t begin = nanoseconds(CLOCK_MONOTONIC);
    const std::int64_t own_begin = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    co_await monterey::yield();
    const auto value = co_await bench->db.get(key.view());
    const std::int64_t own_end = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    const std::int64_t end = nanoseconds(CLOCK_MONOTONIC);
    if (!value) throw std::runtime_error("a key is missing");
    if (bench->noted == nullptr) continue;
    bench->noted->clock_us.push_back(static_cast<float>(end - begin) / 1000);
    bench->noted->own_us.push_back(static_cast<float>(own_end - own_begin) / 1000);
  }
}

monterey::Task<> put_keys(Bench* bench, std::uint64_t puts) {
  const bench::Values values;
  for (std::uint64_t i = 0; i < puts; ++i) {
    const bench::Key key(bench->random() % bench::kKeys);
    co_await bench->db.put(key.view(), values.of(bench->random()));
  }
}

// Keys that the reader does not look for: behind all of the others.
std::string other_key(std::uint64_t index) { return fmt::format("z{:015}", index); }

// --- what is done beside the reader: each part is begun anew until the time is over ---

using Work = monterey::Task<> (*)(Bench*);

monterey::Task<> nothing(Bench*) { co_await monterey::yield(); }

monterey::Task<> rest(Bench*) { co_await monterey::sleep_for(std::chrono::milliseconds(100)); }

monterey::Task<> put_and_flush(Bench* bench) {
  co_await put_keys(bench, kPutsAFlush);
  co_await bench->db.flush();
}

monterey::Task<> flush(Bench* bench) { co_await bench->db.flush(); }
monterey::Task<> put_some(Bench* bench) { co_await put_keys(bench, kPutsAFlush / 2); }

monterey::Task<> scan(Bench* bench) {
  auto scan = co_await bench->db.scan("");
  for (bool more = true; more;) more = co_await scan.advance();
}

monterey::Task<> check(Bench* bench) {
  const store::CheckReport report = co_await bench->db.check();
  if (!report.ok) throw std::runtime_error(report.errors.front());
}

monterey::Task<> backup(Bench* bench) {
  auto target = co_await store::FileBlockDevice::open(bench->copy_path);
  const store::BackupOptions replace{.overwrite = true};
  co_await bench->db.backup(std::move(target), replace);
}

// Pages with room: puts of short-lived neighbours, erased again.
monterey::Task<> scatter(Bench* bench) {
  const bench::Values values;
  for (std::uint64_t i = 0; i < bench::kKeys / 2; ++i) {
    const std::string key = std::string(bench::Key(i).view()) + "+";
    co_await bench->db.put(key, values.of(i));
  }
  co_await bench->db.flush();
  for (std::uint64_t i = 0; i < bench::kKeys / 2; ++i) {
    const std::string key = std::string(bench::Key(i).view()) + "+";
    co_await bench->db.erase(key);
  }
  co_await bench->db.flush();
}

monterey::Task<> compact(Bench* bench) {
  for (store::CompactReport report; !report.finished;) report = co_await bench->db.compact();
}

monterey::Task<> put_others(Bench* bench) {
  const bench::Values values;
  for (std::uint64_t i = 0; i < bench::kKeys; ++i) {
    const std::string key = other_key(i);
    co_await bench->db.put(key, values.of(i));
  }
  co_await bench->db.flush();
}

monterey::Task<> erase_others(Bench* bench) {
  co_await bench->db.erase_range("z");
  co_await bench->db.flush();
}

// Overflow values, of which then every other is erased: their blocks do not lie together.
monterey::Task<> put_overflow(Bench* bench) {
  const std::string value(kOverflowBytes, 'v');
  for (std::uint64_t i = 0; i < kOverflowValues; ++i) {
    const std::string key = other_key(i);
    co_await bench->db.put(key, value);
  }
  co_await bench->db.flush();
  for (std::uint64_t i = 0; i < kOverflowValues; i += 2) {
    const std::string key = other_key(i);
    co_await bench->db.erase(key);
  }
}

struct Scenario {
  const char* name;
  Work prepare;  // before each part; the reader's gets do not count meanwhile
  Work work;
};

constexpr Scenario kScenarios[] = {
    {"rest", nothing, rest},
    {"put+flush", nothing, put_and_flush},
    {"flush", put_some, flush},
    {"scan", nothing, scan},
    {"check", nothing, check},
    {"backup", nothing, backup},
    {"compact", scatter, compact},
    {"erase_range", put_others, erase_others},
    {"free-many", put_overflow, flush},
};

monterey::Task<> measure(Bench* bench, const Scenario& scenario) {
  Latencies latencies;
  double worked = 0;
  int parts = 0;
  for (; parts == 0 || worked < bench->options.seconds; ++parts) {
    co_await scenario.prepare(bench);
    const auto begin = std::chrono::steady_clock::now();
    bench->noted = &latencies;
    co_await scenario.work(bench);
    bench->noted = nullptr;
    worked += bench::seconds_since(begin);
  }
  const std::size_t gets = latencies.own_us.size();
  const std::string clock = Latencies::text(latencies.clock_us);
  const std::string own = Latencies::text(latencies.own_us);
  const float p999 = latencies.own_us[gets * 999 / 1000];
  fmt::print("{:>11} {} | {} | {} gets in {} x {:.2f} s: {}\n", scenario.name, clock, own, gets, parts, worked / parts,
             p999 <= kTargetUs ? "reached" : "missed");
  std::fflush(stdout);
}

monterey::Task<> run(Options options) {
  const std::string path = (options.directory / fmt::format("latency-{}.store", ::getpid())).string();
  auto device = co_await store::FileBlockDevice::open(path);
  auto db = co_await store::Partition::create(std::move(device), kConfig);
  Bench bench{std::move(db), options, path + ".copy"};
  const bench::Values values;
  for (std::uint64_t i = 0; i < bench::kKeys; ++i) {
    const bench::Key key(i);
    co_await bench.db.put(key.view(), values.of(i));
  }
  co_await bench.db.flush();
  for (std::uint64_t i = 0; i < bench::kKeys; ++i) {
    const bench::Key key(i);
    static_cast<void>(co_await bench.db.get(key.view()));
  }
  fmt::print(
      "microseconds of a cached get; p99.9 at most {} by the thread's own time\n{:>11} {:>41} | {:>41} |\n{:>11}",
      kTargetUs, "beside", "by the clock", "while this thread ran", "");
  for (int i = 0; i < 2; ++i) fmt::print(" {:>7} {:>7} {:>7} {:>8} {:>8} |", "p50", "p99", "p99.9", "p99.99", "most");
  fmt::print("\n");
  auto reader = monterey::spawn(read_on(&bench));
  for (const Scenario& scenario : kScenarios) {
    if (options.only.empty() || options.only == scenario.name) co_await measure(&bench, scenario);
  }
  bench.over = true;
  co_await reader;
  co_await bench.db.close();
  std::filesystem::remove(path);
  std::filesystem::remove(bench.copy_path);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Cached gets beside other work of the same core");
  app.add_option("--directory", options.directory, "Where the stores lie meanwhile");
  app.add_option("--seconds", options.seconds, "Of work in each scenario, at least")->check(CLI::PositiveNumber);
  app.add_option("--only", options.only, "Only the scenario of this name");
  CLI11_PARSE(app, argc, argv);
  monterey::Cluster::builder()
      .cores(1)
      .buffers(kConfig.buffer_config())
      .init([options] { monterey::spawn(run(options)); })
      .run();
}
