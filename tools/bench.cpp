// bench: workloads with the names and the meaning that they have in RocksDB's db_bench, on a store of this engine alone. Keys are the 16
// digits of an index below --num; values do not compress. --depth tasks share the operations of a workload on one core. To compare engines there
// is bench/compare.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/commands.hpp"
#include "tools/measure/generators.hpp"
#include "tools/measure/histogram.hpp"
#include "tools/output.hpp"

namespace store::tool {
namespace {

constexpr std::size_t kBlockBytes = 4096;
constexpr std::uint64_t kSyncedShare = 1000;  // fillsync puts one in so many of --num, as db_bench does
constexpr std::uint64_t kLargestValue = 1u << 30;

using Clock = std::chrono::steady_clock;

std::uint64_t ns_since(Clock::time_point begin) {
  return static_cast<std::uint64_t>((Clock::now() - begin) / std::chrono::nanoseconds(1));
}

std::string key_of(std::uint64_t index) { return fmt::format("{:016}", index); }

// One workload as it runs: what its tasks share. They are all on one core.
struct Job {
  Job(Partition& partition, const BenchCommand& options, std::uint64_t count)
      : db(partition), command(options), operations(count), order(count, options.seed) {
    text.resize(command.value_bytes + kBlockBytes);
    measure::Random random(command.seed);
    for (char& c : text) c = static_cast<char>(random.next());
  }

  // Takes up to `want` of the operations that are left. Returns how many; the first is number `first`.
  std::uint64_t take(std::uint64_t want, std::uint64_t& first) {
    first = next;
    next += std::min(want, operations - next);
    return next - first;
  }
  std::string_view value(measure::Random& random) const {
    return std::string_view(text).substr(random.below(kBlockBytes), command.value_bytes);
  }

  Partition& db;
  const BenchCommand& command;
  std::uint64_t operations;
  measure::Permutation order;
  std::string text;
  std::uint64_t next = 0;
  std::uint64_t found = 0;
  measure::Histogram latencies;
};

enum class Order : std::uint8_t { ascending, shuffled, random };

// The index that operation `i` is about.
std::uint64_t index_of(const Job& job, Order order, std::uint64_t i, measure::Random& random) {
  switch (order) {
    case Order::ascending: return i;
    case Order::shuffled: return job.order.at(i);
    case Order::random: break;
  }
  return random.below(job.command.num);
}

monterey::Task<> put_one(Job& job, Order order, std::uint64_t i, measure::Random& random) {
  const std::string key = key_of(index_of(job, order, i, random));
  const auto begin = Clock::now();
  co_await job.db.put(key, job.value(random));
  job.latencies.record(ns_since(begin));
}

monterey::Task<> put_batch(Job& job, Order order, std::uint64_t first, std::uint64_t count, measure::Random& random) {
  WriteBatch batch;
  for (std::uint64_t i = first; i < first + count; ++i) {
    batch.put(key_of(index_of(job, order, i, random)), job.value(random));
  }
  const auto begin = Clock::now();
  co_await job.db.write(std::move(batch));
  job.latencies.record(ns_since(begin));
}

monterey::Task<> put_all(Job& job, Order order, measure::Random random) {
  std::uint64_t first = 0;
  while (const std::uint64_t count = job.take(job.command.batch, first)) {
    if (count == 1) {
      co_await put_one(job, order, first, random);
    } else {
      co_await put_batch(job, order, first, count, random);
    }
  }
}

monterey::Task<> fill_in_order(Job& job, measure::Random random) { return put_all(job, Order::ascending, random); }
monterey::Task<> fill_shuffled(Job& job, measure::Random random) { return put_all(job, Order::shuffled, random); }
monterey::Task<> put_random(Job& job, measure::Random random) { return put_all(job, Order::random, random); }

monterey::Task<> delete_random(Job& job, measure::Random random) {
  std::uint64_t i = 0;
  while (job.take(1, i) != 0) {
    const std::string key = key_of(random.below(job.command.num));
    const auto begin = Clock::now();
    co_await job.db.erase(key);
    job.latencies.record(ns_since(begin));
  }
}

monterey::Task<> get_all(Job& job, const char* suffix, measure::Random random) {
  std::uint64_t i = 0;
  while (job.take(1, i) != 0) {
    const std::string key = key_of(random.below(job.command.num)) + suffix;
    const auto begin = Clock::now();
    const std::optional<std::string> value = co_await job.db.get(key);
    job.latencies.record(ns_since(begin));
    if (value) ++job.found;
  }
}

monterey::Task<> get_random(Job& job, measure::Random random) { return get_all(job, "", random); }
monterey::Task<> get_missing(Job& job, measure::Random random) { return get_all(job, ".", random); }

monterey::Task<> get_many_random(Job& job, measure::Random random) {
  std::uint64_t first = 0;
  while (const std::uint64_t count = job.take(job.command.read_batch, first)) {
    std::vector<std::string> keys;
    for (std::uint64_t i = 0; i < count; ++i) keys.push_back(key_of(random.below(job.command.num)));
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto begin = Clock::now();
    const auto values = co_await job.db.get_many(views);
    job.latencies.record(ns_since(begin));
    for (const auto& value : values) job.found += value ? 1 : 0;
  }
}

// Overwrites until the readers beside it are done.
monterey::Task<> write_beside(Job& job, measure::Random random) {
  while (job.next < job.operations) {
    const std::string key = key_of(random.below(job.command.num));
    co_await job.db.put(key, job.value(random));
  }
}

monterey::Task<> scan_all(Job& job, ScanOptions options) {
  auto scan = co_await job.db.scan("", std::nullopt, options);
  job.operations = 0;
  while (co_await scan.advance()) ++job.found;
  job.operations = job.found;
}

monterey::Task<> read_in_order(Job& job, measure::Random) { return scan_all(job, {}); }
monterey::Task<> read_in_reverse(Job& job, measure::Random) { return scan_all(job, {.reverse = true}); }

monterey::Task<> seek_random(Job& job, measure::Random random) {
  auto scan = co_await job.db.scan("");
  std::uint64_t i = 0;
  while (job.take(1, i) != 0) {
    std::string key = key_of(random.below(job.command.num));
    const auto begin = Clock::now();
    co_await scan.seek(std::move(key));
    const bool there = co_await scan.advance();
    job.latencies.record(ns_since(begin));
    if (there) ++job.found;
  }
}

struct Workload {
  monterey::Task<> (*run)(Job&, measure::Random);
  bool fresh = false;   // begins with an empty store
  bool synced = false;  // each write is durable when it completes
  bool alone = false;   // by one task
  bool writes = false;  // the flush at the end is counted
  bool beside_writer = false;
};

const std::map<std::string, Workload> kWorkloads{
    {"fillseq", {.run = fill_in_order, .fresh = true, .writes = true}},
    {"fillrandom", {.run = fill_shuffled, .fresh = true, .writes = true}},
    {"fillsync", {.run = put_random, .fresh = true, .synced = true, .writes = true}},
    {"overwrite", {.run = put_random, .writes = true}},
    {"deleterandom", {.run = delete_random, .writes = true}},
    {"readrandom", {.run = get_random}},
    {"readmissing", {.run = get_missing}},
    {"multireadrandom", {.run = get_many_random}},
    {"readseq", {.run = read_in_order, .alone = true}},
    {"readreverse", {.run = read_in_reverse, .alone = true}},
    {"seekrandom", {.run = seek_random}},
    {"readwhilewriting", {.run = get_random, .beside_writer = true}},
};

struct Measured {
  std::string name;
  std::uint64_t operations = 0;
  double seconds = 0;
  std::uint64_t found = 0;
  bool reads = false;
  measure::Histogram latencies;

  double rate() const { return seconds > 0 ? static_cast<double>(operations) / seconds : 0; }
  double us(double percent) const { return static_cast<double>(latencies.percentile(percent)) / 1e3; }
};

std::string as_json(const Measured& m) {
  return fmt::format(
      "{{\"name\": \"{}\", \"operations\": {}, \"seconds\": {:.6f}, \"operations_per_second\": {:.1f}, \"found\": {}, "
      "\"p50_us\": {:.3f}, "
      "\"p99_us\": {:.3f}, \"p99.9_us\": {:.3f}, \"p99.99_us\": {:.3f}, \"max_us\": {:.3f}}}",
      m.name, m.operations, m.seconds, m.rate(), m.found, m.us(50), m.us(99), m.us(99.9), m.us(99.99), m.us(100));
}

std::string as_text(const Measured& m) {
  std::string line = fmt::format("{:<17}{:>12.0f} ops/s", m.name, m.rate());
  if (m.latencies.count() > 0) {
    line += fmt::format("  us: p50 {:.2f}, p99 {:.2f}, p99.9 {:.1f}, p99.99 {:.1f}, max {:.1f}", m.us(50), m.us(99),
                        m.us(99.9), m.us(99.99), m.us(100));
  }
  if (m.reads) line += fmt::format("  ({} of {} found)", m.found, m.operations);
  return line + '\n';
}

PartitionConfig config_of(const BenchCommand& command, const Workload& workload) {
  return {.cache_pages = std::max<std::size_t>(64, command.cache_bytes / kBlockBytes),
          .wal_mode = workload.synced ? WalMode::per_op : command.wal_mode};
}

// Opens the store as a workload wants it: a file of this command's own is made anew where that begins with an empty store.
monterey::Task<Partition> open_for(const BenchCommand& command, const Workload& workload) {
  auto device = co_await open_device(command.path, {}, command.window);
  const PartitionConfig config = config_of(command, workload);
  if (command.existing || !workload.fresh) co_return co_await Partition::open_or_create(std::move(device), config);
  const CreateOptions create{.overwrite = true};
  co_return co_await Partition::create(std::move(device), config, create);
}

monterey::Task<> run_tasks(Job& job, const Workload& workload) {
  std::vector<monterey::Task<>> tasks;
  const std::uint64_t depth = workload.alone ? 1 : job.command.depth;
  for (std::uint64_t i = 0; i < depth; ++i) tasks.push_back(workload.run(job, measure::Random(job.command.seed + i)));
  if (workload.beside_writer) tasks.push_back(write_beside(job, measure::Random(job.command.seed + depth)));
  co_await monterey::when_all(std::move(tasks));
  if (workload.writes) co_await job.db.flush();
}

// Reads everything once, so that the workload finds in the cache what the cache has room for.
monterey::Task<> warm(Partition& db) {
  auto scan = co_await db.scan("");
  while (co_await scan.advance()) {
  }
}

monterey::Task<> measure_one(const BenchCommand& command, const Workload& workload, Measured& measured) {
  Partition db = co_await open_for(command, workload);
  co_await warm(db);
  Job job(db, command, workload.synced ? std::max<std::uint64_t>(1, command.num / kSyncedShare) : command.num);
  const auto begin = Clock::now();
  co_await run_tasks(job, workload);
  measured.seconds = static_cast<double>(ns_since(begin)) / 1e9;
  measured.operations = job.operations;
  measured.found = job.found;
  measured.reads = !workload.writes;
  measured.latencies = job.latencies;
  co_await db.close();
}

Measured measure(const BenchCommand& command, const std::string& name) {
  const Workload& workload = kWorkloads.at(name);
  Measured measured;
  measured.name = name;
  const auto start = [&] { monterey::spawn(measure_one(command, workload, measured)); };
  cluster_for({command.path}).buffers(config_of(command, workload).buffer_config()).init(start).run();
  return measured;
}

// The file of a bench that made it; gone with it unless it is to be kept.
class OwnFile {
 public:
  explicit OwnFile(const BenchCommand& command) : command_(command) {
    if (command.existing) return;
    if (command.path.starts_with("/dev/")) {
      throw Error(Errc::invalid_argument,
                  command.path + ": bench makes a file; --existing measures the store on a device");
    }
    const int fd = ::open(command.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
      throw Error(Errc::already_exists,
                  command.path + " exists; --existing lets the workloads write to the store in it");
    }
    if (fd < 0) throw Error::from_errno(errno, "cannot make " + command.path);
    ::close(fd);
  }
  OwnFile(const OwnFile&) = delete;
  OwnFile& operator=(const OwnFile&) = delete;
  ~OwnFile() {
    if (!command_.existing && !command_.keep) ::unlink(command_.path.c_str());
  }

 private:
  const BenchCommand& command_;
};

}  // namespace

bool is_bench_workload(const std::string& name) { return kWorkloads.contains(name); }

ExitCode run(const BenchCommand& command) {
  if (command.value_bytes > kLargestValue) throw Error(Errc::invalid_argument, "--value-size is 1 GiB at most");
  const OwnFile file(command);
  Output output;
  std::string separator = "[";
  for (const std::string& name : command.workloads) {
    const Measured measured = measure(command, name);
    output.write(command.json ? std::exchange(separator, ",\n ") + as_json(measured) : as_text(measured));
    if (!command.json) output.finish();  // a line as soon as it is known
  }
  if (command.json) output.write("]\n");
  output.finish();
  return ExitCode::done;
}

}  // namespace store::tool
