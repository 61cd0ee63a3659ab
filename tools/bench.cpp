// bench: workloads with the names and the meaning that they have in RocksDB's db_bench, on a store of this engine
// alone. Keys are the 16 digits of an index below --num; values do not compress. --depth tasks share the operations of
// a workload: all on one core, or, of a sharded store, spread over its cores. To compare engines there is
// bench/compare.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tools/bench_workloads.hpp"
#include "tools/commands.hpp"
#include "tools/layout.hpp"
#include "tools/output.hpp"

namespace store::tool {
namespace {

constexpr std::size_t kBlockBytes = 4096;
constexpr std::uint64_t kSyncedShare = 1000;  // fillsync puts one in so many of --num, as db_bench does
constexpr std::uint64_t kLargestValue = 1u << 30;

struct Measured {
  std::string name;
  double seconds = 0;
  bool reads = false;
  BenchResult result;

  double rate() const { return seconds > 0 ? static_cast<double>(result.operations) / seconds : 0; }
  double us(double percent) const { return static_cast<double>(result.latencies.percentile(percent)) / 1e3; }
};

std::string as_json(const Measured& m) {
  return fmt::format(
      "{{\"name\": \"{}\", \"operations\": {}, \"seconds\": {:.6f}, \"operations_per_second\": {:.1f}, \"found\": {}, "
      "\"p50_us\": {:.3f}, "
      "\"p99_us\": {:.3f}, \"p99.9_us\": {:.3f}, \"p99.99_us\": {:.3f}, \"max_us\": {:.3f}}}",
      m.name, m.result.operations, m.seconds, m.rate(), m.result.found, m.us(50), m.us(99), m.us(99.9), m.us(99.99),
      m.us(100));
}

std::string as_text(const Measured& m) {
  std::string line = fmt::format("{:<17}{:>12.0f} ops/s", m.name, m.rate());
  if (m.result.latencies.count() > 0) {
    line += fmt::format("  us: p50 {:.2f}, p99 {:.2f}, p99.9 {:.1f}, p99.99 {:.1f}, max {:.1f}", m.us(50), m.us(99),
                        m.us(99.9), m.us(99.99), m.us(100));
  }
  if (m.reads) line += fmt::format("  ({} of {} found)", m.result.found, m.result.operations);
  return line + '\n';
}

// --- running a workload ---

// A store of this command's own is made anew for a workload that begins with an empty one.
monterey::Task<Partition> open_for(const BenchCommand& command, bool anew, PartitionConfig config) {
  auto device = co_await open_device(command.path, {}, command.window);
  if (!anew) co_return co_await Partition::open_or_create(std::move(device), config);
  const CreateOptions create{.overwrite = true};
  co_return co_await Partition::create(std::move(device), config, create);
}
monterey::Task<ShardedStore> open_for(const BenchCommand& command, bool anew, ShardedOptions options) {
  if (!anew) co_return co_await ShardedStore::open_or_create(command.path, options);
  const CreateOptions create{.overwrite = true};
  co_return co_await ShardedStore::create(command.path, options, create);
}

// A number divided evenly; if it does not divide, the first parts have one more.
struct Division {
  std::uint64_t whole = 0;
  std::uint64_t parts = 1;

  std::uint64_t begin_of(std::uint64_t part) const { return whole / parts * part + std::min(part, whole % parts); }
};

// Some of the tasks of a workload.
struct TaskRange {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  std::uint64_t of_all = 1;
};

// Runs some of the tasks, with their part of the operations.
template <class Db>
monterey::Task<BenchResult> run_job(Db& db, const BenchInputs& inputs, const Workload<Db>& workload, TaskRange range) {
  const Division operations{.whole = inputs.operations, .parts = range.of_all};
  Job<Db> job{
      .db = db, .inputs = inputs, .next = operations.begin_of(range.first), .end = operations.begin_of(range.end)};
  if (!workload.alone) job.result.operations = job.end - job.next;
  std::vector<monterey::Task<>> tasks;
  for (std::uint64_t i = range.first; i < range.end; ++i) {
    tasks.push_back(workload.run(job, measure::Random(inputs.command.seed + i)));
  }
  co_await monterey::when_all(std::move(tasks));
  co_return job.result;
}

// A job on each core that has a task to do; the ones on other cores first, which work while this one does. Sets `done`
// at its end.
template <class Db>
monterey::Task<> run_jobs(Db& db, const BenchInputs& inputs, const Workload<Db>& workload, BenchResult& result,
                          bool& done) {
  struct SetAtTheEnd {
    bool& flag;
    ~SetAtTheEnd() { flag = true; }
  };
  const SetAtTheEnd set_done{done};
  const std::uint64_t depth = workload.alone ? 1 : inputs.command.depth;
  const std::uint64_t cores = std::min<std::uint64_t>(depth, monterey::core_count());
  std::vector<monterey::Task<BenchResult>> jobs;
  const Division tasks{.whole = depth, .parts = cores};
  for (std::uint64_t core = cores; core-- > 0;) {
    const TaskRange range{.first = tasks.begin_of(core), .end = tasks.begin_of(core + 1), .of_all = depth};
    jobs.push_back(monterey::call_on(static_cast<unsigned>(core), [&db, &inputs, &workload, range] {
      return run_job(db, inputs, workload, range);
    }));
  }
  const std::vector<BenchResult> results = co_await monterey::when_all(std::move(jobs));
  for (const BenchResult& one : results) result.add(one);
}

template <class Db>
monterey::Task<BenchResult> run_workload(Db& db, const BenchInputs& inputs, const Workload<Db>& workload) {
  BenchResult result;
  bool done = false;
  std::vector<monterey::Task<>> tasks;
  tasks.push_back(run_jobs(db, inputs, workload, result, done));
  if (workload.beside_writer) {
    const measure::Random random(inputs.command.seed + inputs.command.depth);
    tasks.push_back(bench::write_beside(db, inputs, done, random));
  }
  co_await monterey::when_all(std::move(tasks));
  if (workload.writes) co_await db.flush();
  co_return result;
}

// Reads everything once, so that the workload finds in the cache what the cache has room for.
template <class Db>
monterey::Task<> warm(Db& db) {
  auto scan = co_await db.scan("");
  while (co_await scan.advance()) {
  }
}

template <class Db, class Config>
monterey::Task<> measure_one(const BenchCommand& command, const Workload<Db>& workload, Config how,
                             Measured& measured) {
  Db db = co_await open_for(command, workload.fresh && !command.existing, how);
  co_await warm(db);
  const BenchInputs inputs(command,
                           workload.synced ? std::max<std::uint64_t>(1, command.num / kSyncedShare) : command.num);
  const auto begin = BenchClock::now();
  measured.result = co_await run_workload(db, inputs, workload);
  measured.seconds = static_cast<double>(ns_since(begin)) / 1e9;
  measured.reads = !workload.writes;
  co_await db.close();
}

// Runs a workload on a cluster that can open the store in the way that `how` says.
template <class Db, class Config>
void measure_on(monterey::Cluster::Builder cluster, const BenchCommand& command, const Workload<Db>& workload,
                Config how, Measured& measured) {
  const auto start = [&] {
    if (monterey::current_core() == 0) monterey::spawn(measure_one(command, workload, how, measured));
  };
  cluster.init(start).run();
}

PartitionConfig config_of(const BenchCommand& command, bool synced) {
  return {.cache_pages = std::max<std::size_t>(64, command.cache_bytes / kBlockBytes),
          .wal_mode = synced ? WalMode::per_op : command.wal_mode};
}

// `shards` is 0 for a single partition.
Measured measure(const BenchCommand& command, unsigned shards, const std::string& name) {
  Measured measured;
  measured.name = name;
  monterey::Cluster::Builder cluster = cluster_for({command.path});
  if (shards == 0) {
    const auto& workload = bench_workloads<Partition>().at(name);
    const PartitionConfig how = config_of(command, workload.synced);
    measure_on(cluster.buffers(how.buffer_config()), command, workload, how, measured);
  } else {
    const auto& workload = bench_workloads<ShardedStore>().at(name);
    const ShardedOptions how{
        .shards = shards, .partition = share_of(config_of(command, workload.synced), shards), .router = {}};
    const unsigned cores = command.cores.value_or(cores_for(shards));
    measure_on(cluster.cores(cores).buffers(how.buffer_config(cores)), command, workload, how, measured);
  }
  return measured;
}

// --- the store ---

// The file or directory of a bench that made it; gone with it unless it is to be kept.
class OwnStore {
 public:
  explicit OwnStore(const BenchCommand& command) : command_(command) {
    if (command.existing) return;
    if (command.path.starts_with("/dev/")) {
      throw Error(Errc::invalid_argument,
                  command.path + ": bench makes a file; --existing measures the store on a device");
    }
    if (make()) return;
    if (errno == EEXIST) {
      throw Error(Errc::already_exists,
                  command.path + " exists; --existing lets the workloads write to the store in it");
    }
    throw Error::from_errno(errno, "cannot make " + command.path);
  }
  OwnStore(const OwnStore&) = delete;
  OwnStore& operator=(const OwnStore&) = delete;
  ~OwnStore() {
    std::error_code ignored;
    if (!command_.existing && !command_.keep) std::filesystem::remove_all(command_.path, ignored);
  }

 private:
  // Makes an empty file or directory, if nothing is there.
  bool make() const {
    if (command_.shards) return ::mkdir(command_.path.c_str(), 0700) == 0;
    const int fd = ::open(command_.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }

  const BenchCommand& command_;
};

// How many shards the store has; 0: it is a single partition. Errors: invalid_argument for what the options say of
// another kind.
unsigned shards_of(const BenchCommand& command) {
  if (command.shards) return static_cast<unsigned>(*command.shards);
  if (command.existing && is_sharded(command.path, {})) {
    require_no_window(command.path, command.window);
    return read_layout(command.path).shards;
  }
  if (command.cores) {
    throw Error(Errc::invalid_argument, command.path + ": --cores is for a sharded store; a file is used by one core");
  }
  return 0;
}

}  // namespace

bool is_bench_workload(const std::string& name) { return bench_workloads<Partition>().contains(name); }

ExitCode run(const BenchCommand& command) {
  if (command.value_bytes > kLargestValue) throw Error(Errc::invalid_argument, "--value-size is 1 GiB at most");
  const unsigned shards = shards_of(command);
  const OwnStore own(command);
  Output output;
  std::string separator = "[";
  for (const std::string& name : command.workloads) {
    const Measured measured = measure(command, shards, name);
    output.write(command.json ? std::exchange(separator, ",\n ") + as_json(measured) : as_text(measured));
    if (!command.json) output.finish();  // a line as soon as it is known
  }
  if (command.json) output.write("]\n");
  output.finish();
  return ExitCode::done;
}

}  // namespace store::tool
