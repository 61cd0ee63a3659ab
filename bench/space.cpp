// How much space a store takes, and how much a small commit writes in a large one. On a file in DIR, which is removed again:
// `bench_space [--directory=DIR] [--keys=1000000] [--only=overwrite|insert|commit] [--full]`.
//
//  overwrite  100,000 keys overwritten at random, 200 flushes: the file against what is reachable, alone, beside a scan that
//             is held all the time, and after the scan is gone and compact()
//  insert     random inserts: reachable blocks against the raw data, the file against reachable blocks after compact();
//             then nine in ten erased, and compact()
//  commit     what a commit of 100 changed keys writes in a store of 1.3 GB with 100,000 free extents, with --full of 13 GB with a
//             million: tree pages against those it touches, and blocks in all
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <random>
#include <store/store.hpp>

#include "counting_device.hpp"
#include "workload.hpp"

namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::uint64_t kMetaBlocks = 4;
constexpr std::uint64_t kOverwritten = 100'000;
constexpr int kFlushes = 200;

store::PartitionConfig config_of(std::size_t buffer_bytes, store::WalMode wal_mode = store::WalMode::none) {
  return {.cache_pages = 65'536, .wal_mode = wal_mode, .write_buffer_bytes = buffer_bytes};
}

double reachable_bytes(const store::Stats& stats) {
  return static_cast<double>(kMetaBlocks + stats.tree_pages + stats.overflow_blocks + stats.allocator_pages) *
         kBlockBytes;
}

// What the file may be measured against: the log's segments come on top of the factor, not under it.
double file_ratio(double file, const store::Stats& stats) {
  return (file - static_cast<double>(stats.log_bytes)) / reachable_bytes(stats);
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
    worst = std::max(worst, file_ratio(file_bytes(path), db.stats()));
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
  const store::Stats stats = db.stats();
  fmt::print(
      "overwrite, {} puts a flush, buffers of {} KiB, log of {} MiB: file without the log / reachable at most {:.2f} "
      "(2.2), beside a scan {:.2f} (3.3), after compact {:.3f} (1.15)\n",
      puts_a_flush, config.write_buffer_bytes >> 10, stats.log_bytes >> 20, alone, held,
      file_ratio(file_bytes(path), stats));
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

// --- commit ---

constexpr std::size_t kErasedBytes = 2 * kBlockBytes;  // of a value whose run of two blocks becomes a free extent
constexpr std::size_t kKeptBytes = kBlockBytes;        // of the one behind it
constexpr std::size_t kChangedBytes = 500;             // of those in leaves, some of which are changed
constexpr std::uint64_t kChanged = 100;

std::string commit_key(std::uint64_t index) { return fmt::format("{:016}", index); }

// For each extent three values: one to be erased, one that keeps its neighbours apart, and one in a leaf.
struct Scattered {
  std::string text;
  std::uint64_t extents;
  std::uint64_t index = 0;
  std::string name{};

  bool next(std::string_view& key, std::string_view& value) {
    if (index == extents * 3) return false;
    constexpr std::size_t kBytes[] = {kErasedBytes, kKeptBytes, kChangedBytes};
    name = commit_key(index);
    key = name;
    value = std::string_view(text).substr(0, kBytes[index % 3]);
    ++index;
    return true;
  }
};

monterey::Task<> measure_commit(std::string path, store::PartitionConfig config, std::uint64_t extents) {
  bench::DeviceCounts counts;
  auto file = co_await store::FileBlockDevice::open(path, {});
  std::unique_ptr<store::BlockDevice> device = std::make_unique<bench::CountingDevice>(std::move(file), counts);
  store::CreateOptions options;
  options.overwrite = true;
  auto db = co_await store::Partition::create(std::move(device), config, options);
  Scattered source{std::string(kErasedBytes, 'v'), extents};
  co_await db.bulk_load(source);
  for (std::uint64_t i = 0; i < extents; ++i) {
    const std::string key = commit_key(3 * i);
    co_await db.erase(key);
  }
  co_await db.flush();
  const store::Stats before = db.stats();
  const bench::DeviceCounts counted = counts;
  std::mt19937_64 random(11);
  for (std::uint64_t i = 0; i < kChanged; ++i) {
    const std::string key = commit_key(3 * (random() % extents) + 2);
    co_await db.put(key, std::string_view(source.text).substr(0, kChangedBytes));
  }
  co_await db.flush();
  const store::Stats after = db.stats();
  const std::uint64_t all = counts.blocks_written - counted.blocks_written;
  const std::uint64_t tree = after.flush_pages_written - before.flush_pages_written;
  const std::uint64_t touched = before.tree_pages + tree - after.tree_pages;  // those that others took the place of
  constexpr std::uint64_t kMetaCopies = 2;
  fmt::print(
      "commit of {} changed keys in {:.1f} GB with {} free extents of two blocks: {} tree pages written for {} "
      "touched, {:.2f} times (2), {} allocator pages, {} meta pages; {:.2f} MiB in all (2.5)\n",
      kChanged, static_cast<double>(after.device_blocks * kBlockBytes) / 1e9, extents, tree, touched,
      static_cast<double>(tree) / static_cast<double>(touched), all - tree - kMetaCopies, kMetaCopies,
      static_cast<double>(all * kBlockBytes) / (1 << 20));
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
  bool full = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string_view value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.starts_with("--directory=")) {
      directory = value;
    } else if (argument.starts_with("--keys=")) {
      std::from_chars(value.data(), value.data() + value.size(), keys);
    } else if (argument.starts_with("--only=")) {
      only = value;
    } else if (argument == "--full") {
      full = true;
    } else {
      fmt::print(stderr, "bench_space: no such option: {}\n", argument);
      return 2;
    }
  }
  const std::string path = (directory / fmt::format("space-{}.store", ::getpid())).string();
  const store::PartitionConfig small = config_of(4u << 20);
  const store::PartitionConfig usual = config_of(32u << 20);
  const store::PartitionConfig logged = config_of(4u << 20, store::WalMode::batched);
  const auto wanted = [&only](const char* what) { return only.empty() || only == what; };
  if (wanted("overwrite")) {
    run(small, [&] { return measure_overwrite(path, small, 20'000); });
    run(usual, [&] { return measure_overwrite(path, usual, 100'000); });
    run(logged, [&] { return measure_overwrite(path, logged, 20'000); });
  }
  if (wanted("insert")) run(usual, [&] { return measure_insert(path, usual, keys); });
  if (wanted("commit")) run(usual, [&] { return measure_commit(path, usual, full ? 1'000'000 : 100'000); });
  std::filesystem::remove(path);
}
