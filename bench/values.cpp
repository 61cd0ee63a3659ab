// Cold reads of big values at random beside fio, which reads pieces of the same size of the same file at the same depth: get_into
// to aligned memory of the core's buffers (zero copy), and plain get beside it. The tree's leaves are in the cache, values never are.
// Rounds alternate, and begin with another contender each time; the ratios are medians of the ratios within a round. Device reads
// are counted at the block device. Both run on one CPU, the same. `bench_values [--directory DIR] [--rounds N] [--seconds S] [--only VALUE_KIB]`; 5 GiB there.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <monterey/fixed_bufs.hpp>
#include <monterey/when_all.hpp>
#include <random>
#include <store/store.hpp>
#include <vector>

#include "counting_device.hpp"
#include "fio.hpp"
#include "rounds.hpp"

namespace {

constexpr double kTarget = 0.9;  // of fio

struct Kind {
  std::uint64_t value_kib;
  std::uint64_t count;
  std::uint64_t depth;  // besides 1
};

constexpr Kind kKinds[] = {{4, 262'144, 16}, {64, 16'384, 16}, {1024, 1024, 16}, {65'536, 32, 4}};

struct Options {
  std::filesystem::path directory = std::filesystem::temp_directory_path();
  int rounds = 5;
  int seconds = 2;
  std::uint64_t only = 0;
};

const store::PartitionConfig kConfig{.wal_mode = store::WalMode::none};

// Keys in the order of their indexes.
class Key {
 public:
  explicit Key(std::uint64_t index) {
    for (std::size_t i = 0; i < sizeof text_; ++i) text_[i] = static_cast<char>(index >> (56 - 8 * i));
  }
  std::string_view view() const { return {text_, sizeof text_}; }

 private:
  char text_[8];
};

// Values that begin with their index.
struct Ascending {
  std::string text;  // of the longest
  std::uint64_t left;
  std::uint64_t index = 0;
  Key name{0};

  bool next(std::string_view& key, std::string_view& value) {
    if (left-- == 0) return false;
    name = Key(index);
    std::memcpy(text.data(), &index, sizeof index);
    ++index;
    key = name.view();
    value = text;
    return true;
  }
};

std::string random_text(std::uint64_t bytes) {
  std::string text(bytes, '\0');
  std::mt19937_64 random(7);
  for (std::uint64_t at = 0; at + 8 <= bytes; at += 8) {
    const std::uint64_t word = random();
    std::memcpy(text.data() + at, &word, sizeof word);
  }
  return text;
}

// What the readers of one measurement share.
struct Reading {
  store::Partition& db;
  const Kind& kind;
  std::chrono::steady_clock::time_point end;
  std::mt19937_64 random;
  std::uint64_t values = 0;

  std::uint64_t value_bytes() const { return kind.value_kib << 10; }
  bool over() const { return std::chrono::steady_clock::now() >= end; }

  void note(std::uint64_t index, std::size_t size, const void* bytes) {
    std::uint64_t begins = 0;
    std::memcpy(&begins, bytes, sizeof begins);
    if (size != value_bytes() || begins != index) throw std::runtime_error("a wrong value");
    ++values;
  }
};

monterey::Task<> read_into(Reading* reading, std::span<std::byte> memory) {
  while (!reading->over()) {
    const std::uint64_t index = reading->random() % reading->kind.count;
    const Key key(index);
    const auto size = co_await reading->db.get_into(key.view(), memory);
    if (!size) throw std::runtime_error("a key is missing");
    reading->note(index, *size, memory.data());
  }
}

monterey::Task<> read_copy(Reading* reading) {
  while (!reading->over()) {
    const std::uint64_t index = reading->random() % reading->kind.count;
    const Key key(index);
    const auto value = co_await reading->db.get(key.view());
    if (!value) throw std::runtime_error("a key is missing");
    reading->note(index, value->size(), value->data());
  }
}

enum class Call : std::uint8_t { get_into, get };

// Bytes a second that `depth` tasks read, each one value at a time.
monterey::Task<double> engine_rate(store::Partition& db, const Kind& kind, std::uint64_t depth, Call call, int seconds,
                                   std::uint64_t& values) {
  const auto begin = std::chrono::steady_clock::now();
  Reading reading{db, kind, begin + std::chrono::seconds(seconds),
                  std::mt19937_64(static_cast<std::uint64_t>(begin.time_since_epoch().count()))};
  const monterey::FixedBuf memory = monterey::FixedBufs::current().allocate(depth * reading.value_bytes());
  std::vector<monterey::Task<>> readers;
  for (std::uint64_t i = 0; i < depth; ++i) {
    if (call == Call::get) {
      readers.push_back(read_copy(&reading));
    } else {
      readers.push_back(read_into(&reading, memory.span().subspan(i * reading.value_bytes(), reading.value_bytes())));
    }
  }
  co_await monterey::when_all(std::move(readers));
  values += reading.values;
  co_return static_cast<double>(reading.values * reading.value_bytes()) / bench::seconds_since(begin);
}

monterey::Task<> measure_depth(store::Partition& db, std::string path, Kind kind, std::uint64_t depth, Options options,
                               const bench::DeviceCounts& counts) {
  std::vector<double> into, copied, fio;
  std::uint64_t values = 0;
  const std::uint64_t reads_before = counts.reads;
  for (int round = 0; round < options.rounds; ++round) {
    for (int turn = 0; turn < 3; ++turn) {
      const int contender = (round + turn) % 3;
      if (contender == 0) {
        into.push_back(co_await engine_rate(db, kind, depth, Call::get_into, options.seconds, values));
      } else if (contender == 1) {
        copied.push_back(co_await engine_rate(db, kind, depth, Call::get, options.seconds, values));
      } else {
        fio.push_back(bench::fio_read_rate(
            path, fmt::format("--rw=randread --bs={}k --iodepth={} --fixedbufs --registerfiles --norandommap "
                              "--randrepeat=0 --time_based --runtime={}",
                              kind.value_kib, depth, options.seconds)));
      }
    }
  }
  const double ratio = bench::median_ratio(into, fio);
  fmt::print(
      "{:>6} KiB, depth {:2}: get_into {:5.0f} MB/s, get {:5.0f}, fio {:5.0f} (q3/q1 {:.2f}); get_into {:.2f} of fio "
      "(target {}): {}; get {:.2f}; {:.3f} device reads a value\n",
      kind.value_kib, depth, bench::median(into) / 1e6, bench::median(copied) / 1e6, bench::median(fio) / 1e6,
      bench::spread(fio), ratio, kTarget, bench::verdict(ratio, kTarget, fio), bench::median_ratio(copied, fio),
      static_cast<double>(counts.reads - reads_before) / static_cast<double>(values));
  std::fflush(stdout);
}

monterey::Task<> load(std::string path, Kind kind) {
  auto device = co_await store::FileBlockDevice::open(path);
  auto db = co_await store::Partition::create(std::move(device), kConfig);
  Ascending source{random_text(kind.value_kib << 10), kind.count};
  co_await db.bulk_load(source);
  co_await db.close();
}

monterey::Task<> measure(std::string path, Kind kind, Options options) {
  co_await load(path, kind);
  bench::DeviceCounts counts;
  auto file = co_await store::FileBlockDevice::open(path);
  std::unique_ptr<store::BlockDevice> device = std::make_unique<bench::CountingDevice>(std::move(file), counts);
  auto db = co_await store::Partition::open(std::move(device), kConfig);
  const std::uint64_t opened = counts.reads;
  {
    const monterey::FixedBuf memory = monterey::FixedBufs::current().allocate(kind.value_kib << 10);
    const Key key(kind.count / 2);
    co_await db.get_into(key.view(), memory.span());
  }
  fmt::print("{:>6} KiB: the first value after open (the root of {} levels is there): {} device reads; all on CPU {}\n",
             kind.value_kib, db.stats().height, counts.reads - opened, bench::use_fastest_cpu(path));
  for (std::uint64_t i = 0; i < kind.count; ++i) {
    const Key key(i);
    const bool found = co_await db.contains(key.view());
    if (!found) throw std::runtime_error("a key is missing");
  }
  for (const std::uint64_t depth : {std::uint64_t{1}, kind.depth}) {
    co_await measure_depth(db, path, kind, depth, options, counts);
  }
  co_await db.close();
  std::filesystem::remove(path);
}

monterey::Task<> run(Options options) {
  for (const Kind& kind : kKinds) {
    if (options.only != 0 && options.only != kind.value_kib) continue;
    co_await measure((options.directory / fmt::format("values-{}.store", ::getpid())).string(), kind, options);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Cold reads of big values beside fio");
  app.add_option("--directory", options.directory, "Where the store lies meanwhile");
  app.add_option("--rounds", options.rounds, "Of each measurement")->check(CLI::PositiveNumber);
  app.add_option("--seconds", options.seconds, "Of each contender in a round")->check(CLI::PositiveNumber);
  app.add_option("--only", options.only, "Only values of so many KiB: 4, 64, 1024 or 65536");
  CLI11_PARSE(app, argc, argv);
  std::uint64_t most = 0;
  for (const Kind& kind : kKinds) most = std::max(most, kind.depth * kind.value_kib << 10);
  monterey::Cluster::builder()
      .cores(1)
      .buffers(kConfig.buffer_config() + monterey::BufferConfig{most})
      .init([options] { monterey::spawn(run(options)); })
      .run();
}
