// How long opening takes after a crash with a full log: from open until the first get has returned, with 128 MiB of log in the
// kernel's page cache. A child process writes and ends without closing; each round opens a fresh copy of what it left, with write
// buffers that hold all of the log, and with those of the default configuration, which have to be flushed in between. Medians of
// five. `bench_reopen [--directory=DIR] [--log-mib=128]`.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <store/store.hpp>

#include "workload.hpp"

namespace {

constexpr int kRounds = 5;
constexpr std::uint64_t kKeysBetweenLooks = 1000;

store::PartitionConfig config_with(std::size_t write_buffer_bytes) {
  store::PartitionConfig config;
  config.write_buffer_bytes = write_buffer_bytes;
  return config;
}

// Ends the process once the log is full.
monterey::Task<> fill_log_and_die(std::string path, store::PartitionConfig config, std::uint64_t log_bytes) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  auto db = co_await store::Partition::create(std::move(device), config);
  const bench::Values values;
  std::uint64_t keys = 0;
  while (db.stats().log_used_bytes < log_bytes) {
    for (std::uint64_t i = 0; i < kKeysBetweenLooks; ++i, ++keys) {
      co_await db.put(bench::Key(keys).view(), values.of(keys));
    }
    co_await db.sync();
  }
  const store::Stats stats = db.stats();
  fmt::print("{} keys, {} MiB of log, {} flushes before the crash\n", keys, stats.log_used_bytes >> 20, stats.flushes);
  std::fflush(nullptr);
  ::_exit(0);
}

struct Opened {
  double milliseconds = 0;
  double cpu_milliseconds = 0;  // of the process, the kernel's share included
  store::Stats stats;
};

double cpu_milliseconds() {
  timespec spent{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) * 1e3 + static_cast<double>(spent.tv_nsec) / 1e6;
}

monterey::Task<> open_and_get(std::string path, store::PartitionConfig config, Opened& opened) {
  const double cpu_begin = cpu_milliseconds();
  const auto begin = std::chrono::steady_clock::now();
  auto device = co_await store::FileBlockDevice::open(std::move(path), {.direct = false});
  auto db = co_await store::Partition::open(std::move(device), config);
  const auto value = co_await db.get(bench::Key(17).view());
  const auto end = std::chrono::steady_clock::now();
  if (!value) throw std::runtime_error("a key is missing");
  opened.milliseconds = std::chrono::duration<double, std::milli>(end - begin).count();
  opened.cpu_milliseconds = cpu_milliseconds() - cpu_begin;
  opened.stats = db.stats();
}

template <class MakeTask>
void run(store::PartitionConfig config, MakeTask make_task) {
  monterey::Cluster::builder()
      .cores(1)
      .buffers(config.buffer_config())
      .init([&make_task] { monterey::spawn(make_task()); })
      .run();
}

// A copy in the kernel's page cache with nothing left to write out: opening would wait for that in its first sync.
void copy_and_sync(const std::string& from, const std::string& to) {
  std::filesystem::copy_file(from, to);
  const int fd = ::open(to.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  ::close(fd);
  if (!synced) throw std::runtime_error("cannot sync " + to);
}

void measure(const std::string& path, const char* title, store::PartitionConfig config) {
  std::vector<Opened> rounds;
  for (int round = 0; round < kRounds; ++round) {
    const std::string copy = path + ".copy";
    copy_and_sync(path, copy);
    run(config, [&] { return open_and_get(copy, config, rounds.emplace_back()); });
    std::filesystem::remove(copy);
  }
  std::ranges::sort(rounds, {}, &Opened::milliseconds);
  const Opened& median = rounds[kRounds / 2];
  fmt::print(
      "{}: {} MiB and {} entries replayed, {} flushes: {:.0f} ms, {:.0f} ms of CPU (at most 1000 ms for 128 MiB)\n",
      title, median.stats.replayed_bytes >> 20, median.stats.replayed_entries, median.stats.flushes,
      median.milliseconds, median.cpu_milliseconds);
}

}  // namespace

int main(int argc, char** argv) {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  std::uint64_t log_mib = 128;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string_view value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    if (argument.starts_with("--directory=")) {
      directory = value;
    } else if (argument.starts_with("--log-mib=")) {
      std::from_chars(value.data(), value.data() + value.size(), log_mib);
    } else {
      fmt::print(stderr, "bench_reopen: no such option: {}\n", argument);
      return 2;
    }
  }
  const std::string path = (directory / fmt::format("reopen-{}.store", ::getpid())).string();
  const store::PartitionConfig roomy = config_with(log_mib << 21);
  const pid_t child = ::fork();
  if (child == 0) {
    run(roomy, [&] { return fill_log_and_die(path, roomy, log_mib << 20); });
    return 1;
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) return 1;
  measure(path, "buffers that hold the log", roomy);
  measure(path, "default buffers", store::PartitionConfig{});
  std::filesystem::remove(path);
}
