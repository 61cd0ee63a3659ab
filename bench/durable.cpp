// Durable puts: this engine against the device and against RocksDB. `./dev bench durable [--rounds N] [--seconds N] [--directory
// DIR]` builds this program and bench_durable_rocksdb and runs durable.py, which lets five contenders take turns in each round:
// `fio` with 4 KiB writes, each with fdatasync, over a file that was written before; this engine in WalMode::per_op with one
// writer, and with 64 writers, on one core; and RocksDB with sync, with one thread and with 64. Keys have 16 bytes, values 100, every
// value is a new one, and the keys are drawn from a million that are in the store already, so that what is measured is the steady
// state: logs recycled, buffers flushed beside the writers. It prints every rate, and the medians of the ratios within a round.
#include <fmt/format.h>

#include <stdexcept>
#include <store/store.hpp>
#include <vector>

#include "durable.hpp"

namespace {

using bench::DurableOptions;

store::PartitionConfig config_of(const DurableOptions& options) {
  store::PartitionConfig config;
  config.cache_pages = bench::kCacheBytes / 4096;
  config.write_buffer_bytes = bench::kWriteBufferBytes;
  config.wal_mode = options.mode == "per_op"    ? store::WalMode::per_op
                    : options.mode == "batched" ? store::WalMode::batched
                                                : store::WalMode::none;
  return config;
}

monterey::Task<store::Partition> open_store(std::string path, store::PartitionConfig config) {
  auto device = co_await store::FileBlockDevice::open(std::move(path), {});
  co_return co_await store::Partition::open_or_create(std::move(device), config);
}

monterey::Task<> fill(const DurableOptions& options) {
  auto config = config_of(options);
  config.wal_mode = store::WalMode::none;
  auto db = co_await open_store(options.path, config);
  const bench::Values values;
  for (std::uint64_t i = 0; i < options.keys; ++i) co_await db.put(bench::Key(i).view(), values.of(i));
  co_await db.close();
}

monterey::Task<> writer(store::Partition& db, bench::Puts puts, const bench::Window& window, std::uint64_t& counted) {
  for (bool over = false; !over;) {
    puts.next();
    co_await db.put(puts.key(), puts.value());
    if (window.counts(over)) ++counted;
  }
}

monterey::Task<> run(const DurableOptions& options) {
  auto db = co_await open_store(options.path, config_of(options));
  const bench::Window window(options);
  std::uint64_t counted = 0;
  std::vector<monterey::Task<>> writers;
  for (unsigned i = 0; i < options.writers; ++i) {
    writers.push_back(writer(db, bench::Puts(options, i), window, counted));
  }
  co_await monterey::when_all(std::move(writers));
  bench::print_rate(options, counted);
  co_await db.close();
}

}  // namespace

int main(int argc, char** argv) {
  DurableOptions options;
  const bool filling = bench::parse_durable_options(argc, argv, options);
  monterey::Cluster::builder()
      .cores(1)
      .buffers(config_of(options).buffer_config())
      .init([&] { monterey::spawn(filling ? fill(options) : run(options)); })
      .run();
}
