// The blocking store: cached gets of one thread beside LMDB's, through the C API beside those in C++, of four threads beside those of one, and
// what a call costs that the store's own thread does. The parts of a round alternate; medians of the rounds are told.
// `bench_blocking [--rounds N] [--seconds N] [--directory DIR]`
#include <fmt/format.h>
#include <unistd.h>

#include <store/store.h>
#include <CLI/CLI.hpp>
#include <atomic>
#include <filesystem>
#include <functional>
#include <random>
#include <store/store.hpp>
#include <thread>
#include <vector>

#include "lmdb_side.hpp"
#include "rounds.hpp"
#include "workload.hpp"

namespace {

constexpr std::size_t kDrawn = 1u << 20;
constexpr unsigned kThreads = 4;
constexpr double kLmdbTarget = 1.0;
constexpr double kThreadsTarget = 0.8;
constexpr double kCTarget = 0.9;

struct Options {
  int rounds = 5;
  double seconds = 2;
  std::filesystem::path directory = std::filesystem::temp_directory_path();
};

std::vector<bench::Key> draw(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<bench::Key> keys;
  keys.reserve(kDrawn);
  while (keys.size() < kDrawn) keys.emplace_back(random() % bench::kKeys);
  return keys;
}

using Get = std::function<bool(std::string_view key)>;

// How many calls of `get` this thread makes until `over`.
std::uint64_t read_until(const std::atomic<bool>& over, const std::vector<bench::Key>& keys, const Get& get) {
  std::uint64_t done = 0;
  while (!over.load(std::memory_order_relaxed)) {
    for (int i = 0; i < 64; ++i, ++done) {
      if (!get(keys[done % kDrawn].view())) throw std::runtime_error("a key is missing");
    }
  }
  return done;
}

// Calls of `get` a second, by so many threads, each of which calls `end` at its end.
double rate(
    const Options& options, unsigned threads, const std::vector<std::vector<bench::Key>>& keys, const Get& get,
    const std::function<void()>& end = [] {}) {
  std::atomic<bool> over{false};
  std::vector<std::uint64_t> done(threads);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> readers;
  for (unsigned i = 0; i < threads; ++i) {
    readers.emplace_back([&, i] {
      done[i] = read_until(over, keys[i], get);
      end();
    });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
  over = true;
  for (std::thread& reader : readers) reader.join();
  double sum = 0;
  for (const std::uint64_t count : done) sum += static_cast<double>(count);
  return sum / bench::seconds_since(begin);
}

// Microseconds of a call that the store's thread does, and that has nothing to do there.
double hop(const Options& options, store::Store& db) {
  std::uint64_t calls = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (bench::seconds_since(begin) < options.seconds / 4) {
    for (int i = 0; i < 64; ++i, ++calls) db.write(store::WriteBatch());
  }
  return bench::seconds_since(begin) * 1e6 / static_cast<double>(calls);
}

constexpr std::uint64_t kCacheBytes = 512u << 20;

// A store with the same entries, by the C API. Closes it.
class StoreInC {
 public:
  StoreInC(const std::string& path, const bench::Values& values) {
    store_options options;
    require(store_options_init(&options));
    options.cache_bytes = kCacheBytes;
    options.wal_mode = STORE_WAL_NONE;
    require(store_open(path.c_str(), &options, &db_));
    for (std::uint64_t i = 0; i < bench::kKeys; ++i) {
      const bench::Key key(i);
      const std::string_view value = values.of(i);
      require(store_put(db_, key.view().data(), key.view().size(), value.data(), value.size()));
    }
    require(store_flush(db_));
    for (std::uint64_t i = 0; i < bench::kKeys; ++i) {  // everything is in the cache
      if (!get(bench::Key(i).view())) throw std::runtime_error("a key is missing");
    }
  }
  StoreInC(const StoreInC&) = delete;
  StoreInC& operator=(const StoreInC&) = delete;
  ~StoreInC() { static_cast<void>(store_close(db_)); }

  bool get(std::string_view key) const {
    void* value = nullptr;
    std::size_t value_len = 0;
    const bool found = store_get(db_, key.data(), key.size(), &value, &value_len) == STORE_OK;
    store_free(value);
    return found;
  }

 private:
  static void require(store_code code) {
    if (code != STORE_OK) throw std::runtime_error(store_last_error());
  }

  store_db* db_ = nullptr;
};

int run(const Options& options) {
  const bench::Values values;
  store::Store db =
      store::Store::open(options.directory / "store", {.cache_bytes = kCacheBytes, .wal_mode = store::WalMode::none});
  std::filesystem::create_directories(options.directory / "lmdb");
  bench::Lmdb lmdb(options.directory / "lmdb");
  for (std::uint64_t i = 0; i < bench::kKeys; ++i) {
    const bench::Key key(i);
    db.put(key.view(), values.of(i));
    lmdb.put(key.view(), values.of(i));
  }
  db.flush();
  lmdb.sync();
  for (const store::StoreScan::Entry& entry : db.scan()) static_cast<void>(entry);  // everything is in the cache
  std::vector<std::vector<bench::Key>> keys;
  for (unsigned i = 0; i < kThreads; ++i) keys.push_back(draw(i));

  const auto get = [&db](std::string_view key) { return db.get(key).has_value(); };
  const StoreInC in_c(options.directory / "c", values);
  const auto get_in_c = [&in_c](std::string_view key) { return in_c.get(key); };
  const auto get_lmdb = [&lmdb](std::string_view key) {
    std::string value;
    return lmdb.get(key, value);
  };
  std::vector<double> one;
  std::vector<double> one_in_c;
  std::vector<double> many;
  std::vector<double> many_in_c;
  std::vector<double> peer;
  std::vector<double> hops;
  for (int round = 0; round < options.rounds; ++round) {
    peer.push_back(rate(options, 1, keys, get_lmdb, [&lmdb] { lmdb.end_reading(); }));
    one.push_back(rate(options, 1, keys, get));
    one_in_c.push_back(rate(options, 1, keys, get_in_c));
    many.push_back(rate(options, kThreads, keys, get));
    many_in_c.push_back(rate(options, kThreads, keys, get_in_c));
    hops.push_back(hop(options, db));
  }
  const double to_peer = bench::median_ratio(one, peer);
  fmt::print("get threads=1 store={:.2f} M/s lmdb={:.2f} M/s ratio={:.3f} target={} {}\n", bench::median(one) / 1e6,
             bench::median(peer) / 1e6, to_peer, kLmdbTarget, bench::verdict(to_peer, kLmdbTarget, peer));
  const double to_one = bench::median_ratio(many, one);
  fmt::print("get threads={} store={:.2f} M/s of_one_thread={:.3f} target={} {}\n", kThreads, bench::median(many) / 1e6,
             to_one, kThreadsTarget, bench::verdict(to_one, kThreadsTarget, one));
  const auto print_in_c = [](unsigned threads, const std::vector<double>& ours, const std::vector<double>& in_cpp) {
    const double ratio = bench::median_ratio(ours, in_cpp);
    fmt::print("get through C threads={} store={:.2f} M/s of_cpp={:.3f} target={} {}\n", threads,
               bench::median(ours) / 1e6, ratio, kCTarget, bench::verdict(ratio, kCTarget, in_cpp));
  };
  print_in_c(1, one_in_c, one);
  print_in_c(kThreads, many_in_c, many);
  fmt::print("hop to the store's thread us={:.2f}\n", bench::median(hops));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("The blocking store beside LMDB");
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--seconds", options.seconds, "of each part")->check(CLI::Range(0.1, 1000.0));
  app.add_option("--directory", options.directory, "where the stores lie");
  CLI11_PARSE(app, argc, argv);
  options.directory /= fmt::format("bench_blocking.{}", ::getpid());
  std::filesystem::create_directories(options.directory);
  int code = 1;
  try {
    code = run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_blocking: {}\n", error.what());
  }
  std::filesystem::remove_all(options.directory);
  return code;
}
