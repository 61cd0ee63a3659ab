// Scans of a store that lies in the cache, with peers beside it in the same run: all of it in order, and 100 entries from a random
// key on. And the first entry of a scan right after 100,000 puts that are not flushed. Rounds alternate between the engines; the
// ratios are medians of the ratios within a round. Then all of a store of N MiB that is not in the cache, beside what fio reads of
// the same file in order. `bench_scan [--directory=DIR] [--rounds=N] [--cold-mib=N] [--part=cached|cold]`.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <store/store.hpp>
#include <vector>

#include "fio.hpp"
#include "rounds.hpp"
#include "scan_side.hpp"
#include "workload.hpp"

namespace {

using bench::Key;
using bench::kKeys;
using bench::median;
using bench::ScanSum;
using bench::seconds_since;

constexpr std::size_t kCacheBytes = 256u << 20;
constexpr std::uint64_t kShort = 100;
constexpr std::uint64_t kShortScans = 20'000;  // a round
constexpr std::uint64_t kUnflushed = 100'000;
constexpr double kTarget = 1.2;      // times the best peer
constexpr double kColdTarget = 0.9;  // of fio

const store::PartitionConfig kConfig{.cache_pages = kCacheBytes / 4096, .wal_mode = store::WalMode::none};

struct Options {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  int rounds = 5;
  std::uint64_t cold_mib = 2048;
  std::string_view part;  // the only one that is measured
};

// The rates of all rounds, by engine.
using Rates = std::map<std::string, std::vector<double>>;

void report(const char* title, const Rates& rates) {
  for (const auto& [name, rounds] : rates) fmt::print("{:12} {:12} {:12.0f} entries/s\n", title, name, median(rounds));
  const std::vector<double>& ours = rates.at("store");
  std::vector<double> ratios;
  for (std::size_t round = 0; round < ours.size(); ++round) {
    double best = 0;
    for (const auto& [name, rounds] : rates) best = name == "store" ? best : std::max(best, rounds[round]);
    ratios.push_back(ours[round] / best);
  }
  fmt::print("{:12} against the best peer of each round: {:.2f} (target {})\n", title, median(ratios), kTarget);
}

void require_same(const ScanSum& a, const ScanSum& b) {
  if (!(a == b)) throw std::runtime_error("the engines do not hold the same entries");
}

// Reads `count` entries of a scan.
monterey::Task<ScanSum> read(store::Scan scan, std::uint64_t count) {
  ScanSum sum;
  while (sum.entries < count) {
    const bool more = co_await scan.advance();
    if (!more) break;
    sum.add(scan.key(), scan.value());
  }
  co_return sum;
}

monterey::Task<ScanSum> scan_store(store::Partition& db, std::string from, std::uint64_t count) {
  auto scan = co_await db.scan(std::move(from), std::nullopt, store::ScanOptions{.limit = count});
  co_return co_await read(std::move(scan), count);
}

monterey::Task<> first_entries(store::Partition& db, int rounds) {
  const bench::Values values;
  std::vector<double> microseconds;
  for (int round = 0; round < rounds; ++round) {
    for (std::uint64_t i = 0; i < kUnflushed; ++i) {
      co_await db.put(Key(bench::mix(i + static_cast<std::uint64_t>(round) * kUnflushed) % kKeys).view(), values.of(i));
    }
    const auto begin = std::chrono::steady_clock::now();
    auto scan = co_await db.scan("8");
    const bool found = co_await scan.advance();
    microseconds.push_back(seconds_since(begin) * 1e6);
    if (!found) throw std::runtime_error("a scan found nothing");
  }
  fmt::print("first entry of a scan after {} unflushed puts: median {:.1f} us, worst {:.1f} us (target 50)\n",
             kUnflushed, median(microseconds), std::ranges::max(microseconds));
}

monterey::Task<> measure(store::Partition& db, const std::map<std::string, std::unique_ptr<bench::ScanSide>>& peers,
                         int rounds) {
  Rates full, brief;
  const ScanSum all = co_await scan_store(db, "", kKeys);  // and warms the cache
  const ScanSum warm = co_await scan_store(db, "", kKeys);
  require_same(all, warm);
  for (int round = 0; round < rounds; ++round) {
    auto begin = std::chrono::steady_clock::now();
    require_same(co_await scan_store(db, "", kKeys), all);
    full["store"].push_back(static_cast<double>(kKeys) / seconds_since(begin));
    for (const auto& [name, peer] : peers) {
      begin = std::chrono::steady_clock::now();
      require_same(peer->scan("", kKeys), all);
      full[name].push_back(static_cast<double>(kKeys) / seconds_since(begin));
    }
    ScanSum ours;
    const std::uint64_t seed = static_cast<std::uint64_t>(round) * kShortScans;
    begin = std::chrono::steady_clock::now();
    for (std::uint64_t i = 0; i < kShortScans; ++i) {
      const ScanSum one = co_await scan_store(db, std::string(Key(bench::mix(seed + i) % kKeys).view()), kShort);
      ours.entries += one.entries;
      ours.sum += one.sum;
    }
    brief["store"].push_back(static_cast<double>(ours.entries) / seconds_since(begin));
    for (const auto& [name, peer] : peers) {
      ScanSum theirs;
      begin = std::chrono::steady_clock::now();
      for (std::uint64_t i = 0; i < kShortScans; ++i) {
        const ScanSum one = peer->scan(Key(bench::mix(seed + i) % kKeys).view(), kShort);
        theirs.entries += one.entries;
        theirs.sum += one.sum;
      }
      brief[name].push_back(static_cast<double>(theirs.entries) / seconds_since(begin));
      require_same(ours, theirs);
    }
  }
  report("full scan", full);
  report("100 entries", brief);
}

// What fio reads of a file in order, in bytes a second: the better of two ways to keep 4 MiB in flight and more.
double fio_read_rate(const std::string& path) {
  double best = 0;
  for (const char* shape : {"--rw=read --bs=256k --iodepth=16", "--rw=read --bs=1m --iodepth=8"}) {
    best = std::max(best, bench::fio_read_rate(path, shape));
  }
  return best;
}

struct Ascending {
  const bench::Values& values;
  std::uint64_t left;
  std::uint64_t index = 0;
  std::string text{};

  bool next(std::string_view& key, std::string_view& value) {
    if (left-- == 0) return false;
    text = fmt::format("{:016x}", index);
    key = text;
    value = values.of(index++);
    return true;
  }
};

monterey::Task<> measure_cold(std::string path, Options options) {
  const bench::Values values;
  const std::uint64_t entries = (options.cold_mib << 20) / (bench::kKeyBytes + bench::kValueBytes);
  std::uint64_t pages = 0;
  {
    auto device = co_await store::FileBlockDevice::open(path);
    auto db = co_await store::Partition::create(std::move(device), kConfig);
    Ascending source{values, entries};
    co_await db.bulk_load(source);
    pages = db.stats().tree_pages;
    co_await db.close();
  }
  std::vector<double> ratios;
  for (int round = 0; round < options.rounds; ++round) {
    auto device = co_await store::FileBlockDevice::open(path);
    auto db = co_await store::Partition::open(std::move(device), kConfig);
    const auto begin = std::chrono::steady_clock::now();
    const ScanSum all = co_await scan_store(db, "", entries);
    const double rate = static_cast<double>(pages * 4096) / seconds_since(begin);
    if (all.entries != entries) throw std::runtime_error("entries are missing");
    co_await db.close();
    const double fio = fio_read_rate(path);
    fmt::print("cold scan of {} MiB: {:.0f} MB/s, fio {:.0f} MB/s\n", pages * 4096 >> 20, rate / 1e6, fio / 1e6);
    ratios.push_back(rate / fio);
  }
  fmt::print("cold scan against fio: {:.2f} (target {})\n", median(ratios), kColdTarget);
}

monterey::Task<> measure_cached(Options options) {
  const bench::Values values;
  std::map<std::string, std::unique_ptr<bench::ScanSide>> peers;
  peers["LMDB"] = bench::make_lmdb_scan((options.directory / "lmdb").string());
#ifdef STORE_BENCH_PEERS
  peers["RocksDB"] = bench::make_rocksdb_scan((options.directory / "rocksdb").string(), kCacheBytes);
  peers["WiredTiger"] = bench::make_wiredtiger_scan((options.directory / "wiredtiger").string(), kCacheBytes);
#endif
  for (const auto& [name, peer] : peers) {
    for (std::uint64_t i = 0; i < kKeys; ++i) peer->put(Key(i).view(), values.of(i));
    peer->settle();
  }
  const std::string path = (options.directory / "store").string();
  {
    auto device = co_await store::FileBlockDevice::open(path);
    auto db = co_await store::Partition::create(std::move(device), kConfig);
    for (std::uint64_t i = 0; i < kKeys; ++i) co_await db.put(Key(i).view(), values.of(i));
    co_await db.close();
  }
  auto device = co_await store::FileBlockDevice::open(path);
  auto db = co_await store::Partition::open(std::move(device), kConfig);
  co_await measure(db, peers, options.rounds);
  co_await first_entries(db, options.rounds);
  co_await db.close();
}

monterey::Task<> run(Options options) {
  if (options.part != "cold") co_await measure_cached(options);
  if (options.part != "cached") co_await measure_cold((options.directory / "cold").string(), options);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string_view value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.starts_with("--directory=")) {
      options.directory = value;
    } else if (argument.starts_with("--rounds=")) {
      std::from_chars(value.data(), value.data() + value.size(), options.rounds);
    } else if (argument.starts_with("--cold-mib=")) {
      std::from_chars(value.data(), value.data() + value.size(), options.cold_mib);
    } else if (argument == "--part=cached" || argument == "--part=cold") {
      options.part = value;
    } else {
      fmt::print(stderr, "bench_scan: no such option: {}\n", argument);
      return 2;
    }
  }
  options.directory /= fmt::format("scan-{}", ::getpid());
  std::filesystem::create_directories(options.directory);
  monterey::Cluster::builder()
      .cores(1)
      .buffers(kConfig.buffer_config())
      .init([&options] { monterey::spawn(run(options)); })
      .run();
  std::filesystem::remove_all(options.directory);
}
