// Micro-benchmarks of the engine with LMDB beside it in the same run: cached random get, one by one and 64 at once, and
// random-order puts into an empty store with one flush at the end. The repetitions of all benchmarks are interleaved at random; the ratios at the end are
// of medians. `bench_micro [--directory=DIR] [--benchmark_…]`.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <store/store.hpp>
#include <thread>

#include "lmdb_side.hpp"
#include "workload.hpp"

namespace {

using bench::Key;
using bench::kKeys;

std::filesystem::path g_directory;
const bench::Values g_values;

const store::PartitionConfig kConfig{.cache_pages = 64 * 1024, .wal_mode = store::WalMode::none};

// Runs one task on a core, which is this thread.
template <class MakeTask>
void run(MakeTask make_task) {
  monterey::Cluster::builder()
      .cores(1)
      .buffers(kConfig.buffer_config())
      .init([&make_task] { monterey::spawn(make_task()); })
      .run();
}

std::string store_path(const char* name) { return (g_directory / name).string(); }

monterey::Task<store::Partition> open_store(std::string path) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  co_return co_await store::Partition::open_or_create(std::move(device), kConfig);
}

monterey::Task<> fill_store(std::string path) {
  auto db = co_await open_store(std::move(path));
  for (std::uint64_t i = 0; i < kKeys; ++i) co_await db.put(Key(i).view(), g_values.of(i));
  co_await db.close();
}

enum class Form { copied, pinned, many };
constexpr std::size_t kBatch = 64;

monterey::Task<> get_from_store(benchmark::State& state, Form form) {
  auto db = co_await open_store(store_path("read.store"));
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    const auto value = co_await db.get(Key(i).view());
    if (!value) throw std::runtime_error("a key is missing");
  }
  std::uint64_t random = 1;
  if (form == Form::copied) {
    for ([[maybe_unused]] auto _ : state) {
      auto value = co_await db.get(Key(bench::mix(++random) % kKeys).view());
      benchmark::DoNotOptimize(value);
    }
  } else if (form == Form::many) {
    std::vector<Key> keys(kBatch, Key(0));
    std::vector<std::string_view> views(kBatch);
    for ([[maybe_unused]] auto _ : state) {
      for (std::size_t i = 0; i < kBatch; ++i) {
        keys[i] = Key(bench::mix(++random) % kKeys);
        views[i] = keys[i].view();
      }
      auto values = co_await db.get_many(views);
      benchmark::DoNotOptimize(values);
    }
  } else {
    for ([[maybe_unused]] auto _ : state) {
      auto value = co_await db.get_pinned(Key(bench::mix(++random) % kKeys).view());
      benchmark::DoNotOptimize(value);
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(form == Form::many ? kBatch : 1));
  co_await db.close();
}

void store_get(benchmark::State& state) {
  run([&state] { return get_from_store(state, Form::copied); });
}

void store_get_pinned(benchmark::State& state) {
  run([&state] { return get_from_store(state, Form::pinned); });
}

void store_get_many(benchmark::State& state) {
  run([&state] { return get_from_store(state, Form::many); });
}

void lmdb_get(benchmark::State& state) {
  bench::Lmdb db(store_path("read.lmdb"));
  std::string value;
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    if (!db.get(Key(i).view(), value)) throw std::runtime_error("a key is missing");
  }
  std::uint64_t random = 1;
  for ([[maybe_unused]] auto _ : state) {
    std::string copy;
    benchmark::DoNotOptimize(db.get(Key(bench::mix(++random) % kKeys).view(), copy));
    benchmark::DoNotOptimize(copy);
  }
  state.SetItemsProcessed(state.iterations());
}

monterey::Task<> put_into_store(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) {
    state.PauseTiming();
    std::filesystem::remove(store_path("write.store"));
    auto db = co_await open_store(store_path("write.store"));
    state.ResumeTiming();
    for (std::uint64_t i = 0; i < kKeys; ++i) co_await db.put(Key(i).view(), g_values.of(i));
    co_await db.flush();
    state.PauseTiming();
    co_await db.close();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kKeys));
}

void store_put(benchmark::State& state) {
  run([&state] { return put_into_store(state); });
}

void lmdb_put(benchmark::State& state) {
  for ([[maybe_unused]] auto _ : state) {
    state.PauseTiming();
    std::filesystem::remove_all(store_path("write.lmdb"));
    std::filesystem::create_directory(store_path("write.lmdb"));
    {
      bench::Lmdb db(store_path("write.lmdb"));
      state.ResumeTiming();
      for (std::uint64_t i = 0; i < kKeys; ++i) db.put(Key(i).view(), g_values.of(i));
      db.sync();
      state.PauseTiming();
    }
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kKeys));
}

// Prints as usual, and keeps the rates for the ratios.
class RatioReporter final : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type == Run::RT_Iteration) {
        rates_[run.run_name.function_name].push_back(run.counters.at("items_per_second"));
      }
    }
    ConsoleReporter::ReportRuns(runs);
  }

  void print_ratio(const std::string& ours, const std::string& theirs, double target) {
    const double a = median(ours);
    const double b = median(theirs);
    if (a == 0 || b == 0) return;
    fmt::print("{:<18} {:>9.0f} /s   {:<16} {:>9.0f} /s   ratio {:.2f} (target {:.1f})\n", ours, a, theirs, b, a / b,
               target);
  }

 private:
  double median(const std::string& name) {
    std::vector<double>& rates = rates_[name];
    if (rates.empty()) return 0;
    std::ranges::nth_element(rates, rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2));
    return rates[rates.size() / 2];
  }

  std::map<std::string, std::vector<double>> rates_;
};

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path parent = std::filesystem::temp_directory_path();
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--directory=")) {
      parent = argument.substr(12);
      std::copy(argv + i + 1, argv + argc, argv + i);
      --argc;
      --i;
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  g_directory = parent / fmt::format("store-micro-{}", ::getpid());
  std::filesystem::create_directories(g_directory / "read.lmdb");

  utsname system{};
  uname(&system);
  fmt::print("{} {}, {} CPUs, files in {}; {} keys of {} bytes, values of {}\n", system.sysname, system.release,
             std::thread::hardware_concurrency(), g_directory.string(), kKeys, bench::kKeyBytes, bench::kValueBytes);
  run([] { return fill_store(store_path("read.store")); });
  {
    bench::Lmdb db(store_path("read.lmdb"));
    for (std::uint64_t i = 0; i < kKeys; ++i) db.put(Key(i).view(), g_values.of(i));
    db.sync();
  }

  const auto add = [](const char* name, void (*function)(benchmark::State&)) {
    return benchmark::RegisterBenchmark(name, function)->Repetitions(5)->UseRealTime();
  };
  add("store_get", store_get);
  add("store_get_pinned", store_get_pinned);
  add("store_get_many", store_get_many);
  add("lmdb_get", lmdb_get);
  add("store_put", store_put)->Iterations(1);
  add("lmdb_put", lmdb_put)->Iterations(1);
  RatioReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  fmt::print("\nmedians of the repetitions:\n");
  reporter.print_ratio("store_get", "lmdb_get", 1.5);
  reporter.print_ratio("store_get_pinned", "lmdb_get", 1.5);
  reporter.print_ratio("store_get_many", "lmdb_get", 1.5);
  reporter.print_ratio("store_get_many", "store_get_pinned", 2.0);
  reporter.print_ratio("store_put", "lmdb_put", 2.0);
  std::filesystem::remove_all(g_directory);
}
