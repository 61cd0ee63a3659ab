// How long opening takes, from open until the first get has returned, of a small and of a large file, both full of reachable
// data and neither in the kernel's page cache. Rounds alternate; medians of nine. `bench_open [--directory=DIR]
// [--small-mib=40] [--large-mib=4096]`.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <store/store.hpp>

#include "workload.hpp"

namespace {

constexpr int kRounds = 9;
constexpr std::size_t kValueBytes = 1000;
constexpr store::PartitionConfig kConfig{.cache_pages = 4096, .wal_mode = store::WalMode::none};

std::string key(std::uint64_t i) { return fmt::format("{:016x}", i); }

monterey::Task<> fill(std::string path, std::uint64_t mib) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  auto db = co_await store::Partition::open_or_create(std::move(device), kConfig);
  const std::string value(kValueBytes, 'v');
  const std::uint64_t entries = (mib << 20) / (kValueBytes + bench::kKeyBytes);
  for (std::uint64_t i = 0; i < entries; ++i) co_await db.put(key(i), value);
  co_await db.close();
}

monterey::Task<> open_and_get(std::string path, double& milliseconds) {
  const auto begin = std::chrono::steady_clock::now();
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  auto db = co_await store::Partition::open(std::move(device), kConfig);
  const auto value = co_await db.get(key(17));
  const auto end = std::chrono::steady_clock::now();
  if (!value) throw std::runtime_error("a key is missing");
  milliseconds = std::chrono::duration<double, std::milli>(end - begin).count();
  co_await db.close();
}

template <class MakeTask>
void run(MakeTask make_task) {
  monterey::Cluster::builder()
      .cores(1)
      .buffers(kConfig.buffer_config())
      .init([&make_task] { monterey::spawn(make_task()); })
      .run();
}

void drop_from_page_cache(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ::fdatasync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  std::uint64_t mib[] = {40, 4096};
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string_view value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.starts_with("--directory=")) {
      directory = value;
    } else if (argument.starts_with("--small-mib=") || argument.starts_with("--large-mib=")) {
      std::from_chars(value.data(), value.data() + value.size(), mib[argument.starts_with("--large") ? 1 : 0]);
    } else {
      fmt::print(stderr, "bench_open: no such option: {}\n", argument);
      return 2;
    }
  }
  std::string paths[2];
  for (int i = 0; i < 2; ++i) {
    paths[i] = (directory / fmt::format("open-{}-{}.store", ::getpid(), mib[i])).string();
    run([&, i] { return fill(paths[i], mib[i]); });
    fmt::print("file {}: {} MiB\n", i, std::filesystem::file_size(paths[i]) >> 20);
  }
  std::vector<double> times[2];
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 2; ++i) {
      drop_from_page_cache(paths[i]);
      double milliseconds = 0;
      run([&, i] { return open_and_get(paths[i], milliseconds); });
      times[i].push_back(milliseconds);
    }
  }
  for (const std::string& path : paths) std::filesystem::remove(path);
  const double small = median(times[0]);
  const double large = median(times[1]);
  fmt::print("open until the first get, median of {}: small {:.3f} ms, large {:.3f} ms, ratio {:.2f} (at most 1.5)\n",
             kRounds, small, large, large / small);
}
