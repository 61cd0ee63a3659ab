// One run of the comparison: `bench_compare ENGINE load|run --path PATH [...]` prints what it measured as one JSON object.
// `./dev bench compare` runs it many times (compare.py); docs/benchmarks.md says what for.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>

#include "adapter.hpp"

namespace comparison {
namespace {

const std::map<std::string, Promise> kPromises{
    {"none", Promise::none}, {"batched", Promise::batched}, {"durable", Promise::durable}};

std::unique_ptr<Adapter> make_adapter(const std::string& engine) {
  if (engine == "store") return make_store_adapter();
#ifdef STORE_BENCH_PEERS
  if (engine == "lmdb") return make_peer_adapter(open_lmdb);
  if (engine == "rocksdb") return make_peer_adapter(open_rocksdb);
  if (engine == "wiredtiger") return make_peer_adapter(open_wiredtiger);
#endif
  throw std::runtime_error("this program was built without the engine " + engine);
}

std::string json_of(const measure::Histogram& histogram) {
  const auto us = [&](double percent) { return static_cast<double>(histogram.percentile(percent)) / 1e3; };
  return fmt::format(
      R"({{"count": {}, "mean_us": {:.3f}, "p50_us": {:.3f}, "p90_us": {:.3f}, "p99_us": {:.3f}, "p99.9_us": {:.3f}, )"
      R"("p99.99_us": {:.3f}, "max_us": {:.3f}}})",
      histogram.count(), histogram.mean() / 1e3, us(50), us(90), us(99), us(99.9), us(99.99),
      static_cast<double>(histogram.max()) / 1e3);
}

std::string json_of(const Report& report) {
  std::string counters;
  for (const auto& [name, value] : report.counters) {
    counters += fmt::format(R"({}"{}": {:.6g})", counters.empty() ? "" : ", ", name, value);
  }
  std::string configuration;
  for (const char c : report.configuration)
    configuration += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return fmt::format(R"("configuration": "{}", "budget_bytes": {}, "counters": {{{}}})", configuration,
                     report.budget_bytes, counters);
}

// What both kinds of run say of the process.
std::string json_of(const Usage& usage, std::uint64_t put_bytes) {
  return fmt::format(R"("resident_bytes": {}, "resident_most_bytes": {}, "written_bytes": {}, "put_bytes": {})",
                     usage.resident_bytes, usage.resident_most, usage.written_bytes, put_bytes);
}

void load(const Options& options) {
  const Values values(options.value_bytes);
  std::unique_ptr<Source> source = std::make_unique<RandomOrder>(options.keys, values);
  if (is_sorted_load(options)) source = std::make_unique<SortedOrder>(options.keys, values);
  if (options.seconds > 0) source->limit_to(static_cast<std::uint64_t>(options.seconds * 1e9));
  const std::uint64_t begin = now_ns();
  std::uint64_t end = 0;
  const std::unique_ptr<Adapter> adapter = make_adapter(options.engine);
  const Report report = adapter->load(options, *source, [&] { end = now_ns(); });
  // From the first record on: an engine is opened once, and how long that takes is told beside.
  const double open_seconds = static_cast<double>(source->begin_ns() - begin) / 1e9;
  const double seconds = static_cast<double>(end - source->begin_ns() - source->sorting_ns()) / 1e9;
  const Usage usage = Usage::now();
  const auto records = static_cast<double>(source->given());
  fmt::print(
      R"({{"rate": {:.1f}, "seconds": {:.3f}, "open_seconds": {:.4f}, "records": {}, "complete": {}, "cpu_us_per_operation": {:.4f}, {}, {}}})"
      "\n",
      records / seconds, seconds, open_seconds, source->given(), source->given() == options.keys,
      usage.cpu_seconds / records * 1e6, json_of(usage, source->given() * (bench::kKeyBytes + values.bytes())),
      json_of(report));
}

// What the clients of a run have counted together.
struct Total {
  std::uint64_t operations = 0;
  std::uint64_t puts = 0;
  std::uint64_t checked = 0;
  std::uint64_t longest_write = 0;
  std::vector<std::uint64_t> each_second;
  measure::Histogram reads;
  measure::Histogram writes;
  measure::Histogram at_rest;

  void add(const Client& client) {
    operations += client.operations();
    puts += client.puts_ever();
    checked += client.checked();
    longest_write = std::max(longest_write, client.longest_write_ever());
    each_second.resize(std::max(each_second.size(), client.each_second().size()));
    for (std::size_t i = 0; i < client.each_second().size(); ++i) each_second[i] += client.each_second()[i];
    reads.add(client.reads());
    writes.add(client.writes());
    at_rest.add(client.at_rest());
  }
};

void run(const Options& options) {
  Run run(options);
  std::vector<Client> clients;
  for (unsigned i = 0; i < options.clients; ++i) clients.emplace_back(run, i);
  const std::unique_ptr<Adapter> adapter = make_adapter(options.engine);
  const Report report = adapter->run(run, clients);
  Total total;
  for (const Client& client : clients) total.add(client);
  const auto operations = static_cast<double>(total.operations);
  total.each_second.resize(static_cast<std::size_t>(options.seconds));  // whole ones
  Usage usage = Usage::now();
  usage.resident_bytes = run.after.resident_bytes;  // not what is left when the store is closed
  fmt::print(
      R"({{"rate": {:.1f}, "operations": {}, "cpu_us_per_operation": {:.4f}, "read_bytes_per_operation": {:.1f}, )",
      operations / options.seconds, total.operations,
      (run.after.cpu_seconds - run.before.cpu_seconds) / operations * 1e6,
      static_cast<double>(run.after.read_bytes - run.before.read_bytes) / operations);
  fmt::print(R"("checked": {}, "records_after": {}, "longest_write_us": {:.1f}, "each_second": [{}], )", total.checked,
             run.records(), static_cast<double>(total.longest_write) / 1e3, fmt::join(total.each_second, ", "));
  fmt::print(R"("reads": {}, "writes": {}, "at_rest": {}, {}, {}}})"
             "\n",
             json_of(total.reads), json_of(total.writes), json_of(total.at_rest),
             json_of(usage, total.puts * (bench::kKeyBytes + run.values().bytes())), json_of(report));
}

void declare(CLI::App& app, Options& options) {
  app.require_subcommand(1);
  app.add_option("engine", options.engine, "store, lmdb, rocksdb or wiredtiger")->required();
  for (CLI::App* command : {app.add_subcommand("load", "Fill a new store; a workload is load_sorted or load_random"),
                            app.add_subcommand("run", "Let clients work on a store that was loaded")}) {
    command->add_option("--path", options.path, "The store")->required();
    command->add_option("--workload", options.workload, "What is done")->required();
    command->add_option("--keys", options.keys, "Records that are loaded, or were");
    command->add_option("--value-bytes", options.value_bytes, "At least 16");
    command->add_option("--memory", options.memory_bytes, "Bytes for caches and buffers together");
    command->add_flag("--limited", options.limited, "The process itself must do with that memory, too");
    command->add_option("--cache", options.cache_bytes, "Bytes of the cache, instead of what is left of --memory");
    command->add_option("--write-buffer", options.write_buffer_bytes, "Bytes of a write buffer");
    command->add_option("--promise", options.promise, "none, batched or durable")
        ->transform(CLI::CheckedTransformer(kPromises));
    command->add_option("--clients", options.clients, "Tasks of the store, threads of a peer");
    command->add_option("--batch", options.batch, "Keys of a get_many");
    command->add_option("--seconds", options.seconds, "That count; of a load, the longest it may take, 0 for no limit");
    command->add_option("--warm-up", options.warm_up, "Seconds before that do not count");
    command->add_flag("--warm", options.warm, "Read everything once before");
    command->add_option("--sample", options.sample, "Time one of so many operations")->check(CLI::PositiveNumber);
    command->add_option("--seed", options.seed, "Chooses keys and values");
    command->add_option("--tuning", options.tuning, "More for the engine, see its adapter");
  }
}

}  // namespace

bool is_sorted_load(const Options& options) { return options.workload == "load_sorted"; }

}  // namespace comparison

int main(int argc, char** argv) {
  CLI::App app("One run of the comparison");
  comparison::Options options;
  comparison::declare(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    if (app.got_subcommand("load")) {
      comparison::load(options);
    } else {
      comparison::run(options);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_compare: {}: {}\n", options.engine, error.what());
    return 1;
  }
}
