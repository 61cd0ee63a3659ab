// What erasing a range costs: 99 % of 10 million keys of 16 + 100 bytes, in one call and the flush after it, from a cold cache.
// Prints the time (at most 1 s) and the share of the leaves that the flush read (below 2 %).
// `bench_erase_range [--directory=DIR] [--keys=10000000]`; takes some 1.5 GB there for the default.
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <store/store.hpp>

#include "workload.hpp"

namespace {

// Keys in the order of their indexes.
std::string key_of(std::uint64_t index) { return fmt::format("{:016}", index); }

double milliseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

monterey::Task<> fill(std::string path, store::PartitionConfig config, std::uint64_t keys) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  auto db = co_await store::Partition::create(std::move(device), config);
  const bench::Values values;
  for (std::uint64_t i = 0; i < keys; ++i) {
    const std::string key = key_of(i);
    co_await db.put(key, values.of(i));
  }
  co_await db.close();
}

monterey::Task<> erase(std::string path, store::PartitionConfig config, std::uint64_t keys) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  auto db = co_await store::Partition::open(std::move(device), config);
  const store::Stats before = db.stats();
  const auto begin = std::chrono::steady_clock::now();
  co_await db.erase_range(key_of(keys / 200), key_of(keys - keys / 200));
  const double erase_ms = milliseconds_since(begin);
  co_await db.flush();
  const double all_ms = milliseconds_since(begin);
  const store::Stats after = db.stats();
  const std::uint64_t dropped = before.tree_pages - after.tree_pages;
  const double leaves_percent =
      100.0 * static_cast<double>(after.flush_pages_read) / static_cast<double>(before.tree_pages);
  const std::uint64_t branches = after.cache_misses - before.cache_misses;
  fmt::print("{} of {} entries and {} of {} tree pages erased in {:.1f} ms, {:.3f} ms of it before the flush\n",
             before.entries - after.entries, before.entries, dropped, before.tree_pages, all_ms, erase_ms);
  fmt::print("{} leaves read, {:.3f} % of the tree's pages (below 2 %); {} waits for branches\n",
             after.flush_pages_read, leaves_percent, branches);
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
  std::uint64_t keys = 10'000'000;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string_view value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.starts_with("--directory=")) {
      directory = value;
    } else if (argument.starts_with("--keys=")) {
      std::from_chars(value.data(), value.data() + value.size(), keys);
    } else {
      fmt::print(stderr, "bench_erase_range: no such option: {}\n", argument);
      return 2;
    }
  }
  const std::string path = (directory / fmt::format("erase-range-{}.store", ::getpid())).string();
  const store::PartitionConfig config{.wal_mode = store::WalMode::none};
  run(config, [&] { return fill(path, config, keys); });
  run(config, [&] { return erase(path, config, keys); });
  std::filesystem::remove(path);
}
