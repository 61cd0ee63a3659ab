// This engine: one core, a client a task. Memory: the budget is what PartitionConfig::memory_bytes() says, and the cache gets what is left of
// it. Under a limit (Options::limited) some is left for the program itself, and a write buffer takes an eighth of the memory at most.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <store/store.hpp>
#include <string>
#include <type_traits>

#include "adapter.hpp"

namespace comparison {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kProgramBytes = 20u << 20;  // code, stacks, the heap of the benchmark itself

store::WalMode wal_mode_of(Promise promise) {
  switch (promise) {
    case Promise::batched: return store::WalMode::batched;
    case Promise::durable: return store::WalMode::per_op;
    case Promise::none: break;
  }
  return store::WalMode::none;
}

store::PartitionConfig config_of(const Options& options) {
  store::PartitionConfig config;
  config.wal_mode = wal_mode_of(options.promise);
  if (options.limited) config.write_buffer_bytes = std::min(config.write_buffer_bytes, options.memory_bytes / 8);
  if (options.write_buffer_bytes != 0) config.write_buffer_bytes = options.write_buffer_bytes;
  if (options.cache_bytes != 0) {
    config.cache_pages = options.cache_bytes / kPageBytes;
    return config;
  }
  const std::size_t all = options.memory_bytes - (options.limited ? kProgramBytes : 0);
  config.cache_pages = 64;
  const std::size_t others = config.memory_bytes();
  config.cache_pages += all > others ? (all - others) / kPageBytes : 0;
  while (config.cache_pages > 64 && config.memory_bytes() > all) config.cache_pages -= config.cache_pages / 256 + 1;
  return config;
}

std::string describe(const store::PartitionConfig& config) {
  const char* const mode = config.wal_mode == store::WalMode::none      ? "none"
                           : config.wal_mode == store::WalMode::batched ? "batched"
                                                                        : "per_op";
  return fmt::format("one core, cache_pages={}, write_buffer_bytes={}, write_buffer_count={}, wal_mode={}, io_depth={}",
                     config.cache_pages, config.write_buffer_bytes, config.write_buffer_count, mode, config.io_depth);
}

Report report_of(const store::PartitionConfig& config, const store::Stats& stats) {
  return {.configuration = describe(config),
          .budget_bytes = config.memory_bytes(),
          .counters = {{"cache_misses", static_cast<double>(stats.cache_misses)},
                       {"gets", static_cast<double>(stats.gets)},
                       {"puts", static_cast<double>(stats.puts)},
                       {"flushes", static_cast<double>(stats.flushes)},
                       {"flush_pages_read", static_cast<double>(stats.flush_pages_read)},
                       {"flush_pages_written", static_cast<double>(stats.flush_pages_written)},
                       {"flush_writes", static_cast<double>(stats.flush_writes)},
                       {"tree_pages", static_cast<double>(stats.tree_pages)},
                       {"height", static_cast<double>(stats.height)}}};
}

// What a client's get_into reads into: memory of the core's buffers, as fio's.
std::size_t into_bytes(const Options& options) {
  return (options.value_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

std::string_view view(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class Value>
void tell(Client& client, std::size_t i, const std::optional<Value>& value) {
  if (!value) {
    client.absent(i);
  } else if constexpr (std::is_same_v<Value, std::string>) {
    client.found(i, *value);
  } else {
    client.found(i, value->view());
  }
}

monterey::Task<> get_many(store::Partition& db, Client& client, std::string& copy) {
  const auto values = co_await db.get_many(client.keys());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) {
      client.absent(i);
      continue;
    }
    copy = values[i]->view();
    client.found(i, copy);
  }
}

monterey::Task<> scan(store::Partition& db, Client& client) {
  auto scan = co_await db.scan(std::string(client.key()), std::nullopt, store::ScanOptions{.limit = client.count()});
  while (co_await scan.advance()) {
    if (!client.entry(scan.key(), scan.value())) break;
  }
}

monterey::Task<> perform(store::Partition& db, Client& client) {
  switch (client.verb()) {
    case Verb::scan: co_await scan(db, client); break;
    case Verb::read_modify_write: {
      const std::optional<std::string> value = co_await db.get(client.key());
      tell(client, 0, value);
      co_await db.put(client.key(), client.value());
      break;
    }
    case Verb::flush: co_await db.flush(); break;
    case Verb::rest: co_await monterey::sleep_for(std::chrono::milliseconds(kRestMs)); break;
    default: throw std::logic_error("an operation that work() performs");
  }
}

// The operations that may take less than a microsecond have no coroutine of their own.
monterey::Task<> work(store::Partition& db, Client& client, std::size_t into_bytes) {
  std::string copy;
  const monterey::FixedBuf memory = monterey::FixedBufs::current().allocate(into_bytes);
  while (client.next()) {
    switch (client.verb()) {
      case Verb::get: {
        const std::optional<std::string> value = co_await db.get(client.key());
        tell(client, 0, value);
        break;
      }
      case Verb::get_pinned: {
        const std::optional<store::PinnedValue> value = co_await db.get_pinned(client.key());
        tell(client, 0, value);
        break;
      }
      case Verb::get_into: {
        const auto size = co_await db.get_into(client.key(), memory.span());
        if (size) client.found(0, view(memory.span().first(std::min(*size, memory.size()))));
        if (!size) client.absent(0);
        break;
      }
      case Verb::get_many: co_await get_many(db, client, copy); break;
      case Verb::put: co_await db.put(client.key(), client.value()); break;
      default: co_await perform(db, client); break;
    }
    client.done();
  }
}

// Reads every entry once.
monterey::Task<> warm(store::Partition& db) {
  auto scan = co_await db.scan("");
  while (co_await scan.advance()) {
  }
}

monterey::Task<> run_clients(const store::PartitionConfig& config, Run& run, std::span<Client> clients,
                             Report& report) {
  auto device = co_await store::FileBlockDevice::open(run.options().path, {.create = false});
  auto db = co_await store::Partition::open(std::move(device), config);
  if (run.options().warm) co_await warm(db);
  run.start();
  std::vector<monterey::Task<>> tasks;
  for (Client& client : clients) tasks.push_back(work(db, client, into_bytes(run.options())));
  co_await monterey::when_all(std::move(tasks));
  report = report_of(config, db.stats());
  co_await db.close();
}

monterey::Task<> load_all(const store::PartitionConfig& config, const Options& options, Source& source,
                          const std::function<void()>& settled, Report& report) {
  auto device = co_await store::FileBlockDevice::open(options.path);
  const store::CreateOptions create{.overwrite = true};
  auto db = co_await store::Partition::create(std::move(device), config, create);
  if (is_sorted_load(options)) {
    co_await db.bulk_load(source);
  } else {
    std::string_view key;
    std::string_view value;
    while (source.next(key, value)) co_await db.put(key, value);
    co_await db.flush();
  }
  settled();
  report = report_of(config, db.stats());
  co_await db.close();
}

class StoreAdapter final : public Adapter {
 public:
  Report load(const Options& options, Source& source, const std::function<void()>& settled) override {
    Report report;
    const store::PartitionConfig config = config_of(options);
    in_cluster(config.buffer_config(), [&] { monterey::spawn(load_all(config, options, source, settled, report)); });
    return report;
  }

  Report run(Run& run, std::span<Client> clients) override {
    Report report;
    const store::PartitionConfig config = config_of(run.options());
    const monterey::BufferConfig into{run.options().clients * into_bytes(run.options())};
    in_cluster(config.buffer_config() + into, [&] { monterey::spawn(run_clients(config, run, clients, report)); });
    return report;
  }

 private:
  static void in_cluster(monterey::BufferConfig buffers, const std::function<void()>& start) {
    monterey::Cluster::builder().cores(1).buffers(buffers).init(start).run();
  }
};

}  // namespace

std::unique_ptr<Adapter> make_store_adapter() { return std::make_unique<StoreAdapter>(); }

}  // namespace comparison
