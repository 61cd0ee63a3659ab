// How much space a store takes, and what compaction does to reads beside it. On a file in DIR, which is removed again:
// `bench_space [--directory=DIR] [--keys=1000000] [--only=overwrite|insert|latency]`.
//
//  overwrite  100,000 keys overwritten at random, 200 flushes: the file against what is reachable, alone, beside a scan that
//             is held all the time, and after the scan is gone and compact()
//  insert     random inserts: reachable blocks against the raw data, the file against reachable blocks after compact();
//             then nine in ten erased, and compact()
//  latency    cached gets, one at a time, at rest and during compact(): 99.9th percentile and worst
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <random>
#include <store/store.hpp>

#include "workload.hpp"

namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::uint64_t kMetaBlocks = 4;
constexpr std::uint64_t kOverwritten = 100'000;
constexpr int kFlushes = 200;

store::PartitionConfig config_of(std::size_t buffer_bytes) {
  return {.cache_pages = 65'536, .wal_mode = store::WalMode::none, .write_buffer_bytes = buffer_bytes};
}

double reachable_bytes(const store::Stats& stats) {
  return static_cast<double>(kMetaBlocks + stats.tree_pages + stats.overflow_blocks + stats.allocator_pages) *
         kBlockBytes;
}

// The larger of the file's size and of what it has on the disk.
double file_bytes(const std::string& path) {
  struct stat info {};
  ::stat(path.c_str(), &info);
  return static_cast<double>(std::max<std::int64_t>(info.st_size, info.st_blocks * 512));
}

monterey::Task<store::Partition> create(std::string path, store::PartitionConfig config) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  store::CreateOptions options;
  options.overwrite = true;
  co_return co_await store::Partition::create(std::move(device), config, options);
}

// --- overwrite ---

monterey::Task<> overwrite(store::Partition& db, const std::string& path, std::uint64_t puts_a_flush, double& worst) {
  const bench::Values values;
  std::mt19937_64 random(3);
  for (int flush = 0; flush < kFlushes; ++flush) {
    for (std::uint64_t i = 0; i < puts_a_flush; ++i) {
      const bench::Key key(random() % kOverwritten);
      co_await db.put(key.view(), values.of(random()));
    }
    co_await db.flush();
    worst = std::max(worst, file_bytes(path) / reachable_bytes(db.stats()));
  }
}

monterey::Task<> compact(store::Partition& db) {
  for (store::CompactReport report; !report.finished;) report = co_await db.compact();
}

monterey::Task<> report_clean(store::Partition& db) {
  const store::CheckReport report = co_await db.check();
  fmt::print("check: {}\n", report.ok ? "ok, every block is reachable or free" : report.errors.front());
}

monterey::Task<> measure_overwrite(std::string path, store::PartitionConfig config, std::uint64_t puts_a_flush) {
  auto db = co_await create(path, config);
  const bench::Values values;
  for (std::uint64_t i = 0; i < kOverwritten; ++i) {
    const bench::Key key(i);
    co_await db.put(key.view(), values.of(i));
  }
  co_await db.flush();
  double alone = 0;
  co_await overwrite(db, path, puts_a_flush, alone);
  double held = 0;
  {
    auto scan = co_await db.scan("");
    co_await scan.advance();
    co_await overwrite(db, path, puts_a_flush, held);
  }
  co_await compact(db);
  const double after = file_bytes(path) / reachable_bytes(db.stats());
  fmt::print(
      "overwrite, {} puts a flush, buffers of {} KiB: file / reachable at most {:.2f} (2.2), beside a scan {:.2f} "
      "(3.3), after compact {:.3f} (1.15)\n",
      puts_a_flush, config.write_buffer_bytes >> 10, alone, held, after);
  co_await report_clean(db);
  co_await db.close();
}

// --- insert ---

monterey::Task<> measure_insert(std::string path, store::PartitionConfig config, std::uint64_t keys) {
  auto db = co_await create(path, config);
  const bench::Values values;
  for (std::uint64_t i = 0; i < keys; ++i) {
    const bench::Key key(i);
    co_await db.put(key.view(), values.of(i));
  }
  co_await db.flush();
  const double raw = static_cast<double>(keys * (bench::kKeyBytes + bench::kValueBytes));
  const double full = file_bytes(path);
  const double loaded = reachable_bytes(db.stats()) / raw;
  co_await compact(db);
  const double all = file_bytes(path);
  fmt::print(
      "insert {}: reachable / raw {:.3f} (1.25), after compact {:.3f}; file {:.1f} MB, after compact {:.1f} MB, "
      "file / reachable {:.3f} (1.1)\n",
      keys, loaded, reachable_bytes(db.stats()) / raw, full / 1e6, all / 1e6, all / reachable_bytes(db.stats()));
  for (std::uint64_t i = 0; i < keys; ++i) {
    if (i % 10 == 0) continue;
    const bench::Key key(i);
    co_await db.erase(key.view());
  }
  co_await compact(db);
  fmt::print("nine in ten erased: file {:.1f} MB, {:.3f} of before (0.1), file / reachable {:.3f} (1.1)\n",
             file_bytes(path) / 1e6, file_bytes(path) / all, file_bytes(path) / reachable_bytes(db.stats()));
  co_await report_clean(db);
  co_await db.close();
}

// --- latency ---

using Clock = std::chrono::steady_clock;

struct Latencies {
  std::vector<float> us;
  std::string text() {
    if (us.empty()) return "none";
    std::ranges::sort(us);
    return fmt::format("p50 {:.1f} us, p99.9 {:.1f} us, worst {:.1f} us of {}", us[us.size() / 2],
                       us[us.size() * 999 / 1000], us.back(), us.size());
  }
};

// A get, then other tasks' turn, as a server would. The time is from when the get could have begun.
monterey::Task<> get_until(const store::Partition* db, std::uint64_t keys, const bool* done, Latencies* latencies) {
  std::mt19937_64 random(9);
  while (!*done) {
    const bench::Key key(random() % keys);
    const auto begin = Clock::now();
    co_await monterey::yield();
    const auto value = co_await db->get(key.view());
    const auto end = Clock::now();
    if (!value) throw std::runtime_error("a key is missing");
    latencies->us.push_back(std::chrono::duration<float, std::micro>(end - begin).count());
  }
}

monterey::Task<> measure_latency(std::string path, store::PartitionConfig config, std::uint64_t keys) {
  auto db = co_await create(path, config);
  const bench::Values values;
  for (std::uint64_t i = 0; i < keys; ++i) {
    const bench::Key key(i);
    co_await db.put(key.view(), values.of(i));
  }
  co_await db.flush();
  for (std::uint64_t i = 0; i < keys; ++i) {
    const bench::Key key(i);
    static_cast<void>(co_await db.get(key.view()));
  }
  Latencies rest;
  Latencies beside;
  {
    bool done = false;
    auto reader = monterey::spawn(get_until(&db, keys, &done, &rest));
    co_await monterey::sleep_for(std::chrono::seconds(2));
    done = true;
    co_await reader;
  }
  {
    bool done = false;
    auto reader = monterey::spawn(get_until(&db, keys, &done, &beside));
    const auto begin = Clock::now();
    std::uint64_t moved = 0;
    for (store::CompactReport report; !report.finished;) {
      report = co_await db.compact();
      moved += report.bytes_moved;
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    done = true;
    co_await reader;
    fmt::print("compact moved {:.1f} MB in {:.2f} s\n", static_cast<double>(moved) / 1e6, seconds);
  }
  fmt::print("gets at rest: {}\ngets during compact: {} (p99.9 at most 1000 us)\n", rest.text(), beside.text());
  co_await db.close();
}

template <class MakeTask>
void run(store::PartitionConfig config, MakeTask make_task) {
  monterey::Cluster::builder()
      .cores(1)
      .buffers(config.buffer_config())
      .init([&make_task] { monterey::spawn(make_task()); })
      .run();
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  std::uint64_t keys = bench::kKeys;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string_view value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.starts_with("--directory=")) {
      directory = value;
    } else if (argument.starts_with("--keys=")) {
      std::from_chars(value.data(), value.data() + value.size(), keys);
    } else if (argument.starts_with("--only=")) {
      only = value;
    } else {
      fmt::print(stderr, "bench_space: no such option: {}\n", argument);
      return 2;
    }
  }
  const std::string path = (directory / fmt::format("space-{}.store", ::getpid())).string();
  const store::PartitionConfig small = config_of(4u << 20);
  const store::PartitionConfig usual = config_of(32u << 20);
  const auto wanted = [&only](const char* what) { return only.empty() || only == what; };
  if (wanted("overwrite")) {
    run(small, [&] { return measure_overwrite(path, small, 20'000); });
    run(usual, [&] { return measure_overwrite(path, usual, 100'000); });
  }
  if (wanted("insert")) run(usual, [&] { return measure_insert(path, usual, keys); });
  if (wanted("latency")) run(usual, [&] { return measure_latency(path, usual, keys); });
  std::filesystem::remove(path);
}
