// The workloads of `store bench`, on either kind of store: tasks that share the operations of a Job. A workload is one
// Job on a single partition; on a sharded store one on each core, with a share of the tasks and of the operations, so
// that cores have nothing in common but the store and what is constant.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <store/store.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/commands.hpp"
#include "tools/measure/generators.hpp"
#include "tools/measure/histogram.hpp"

namespace store::tool {

using BenchClock = std::chrono::steady_clock;

inline std::uint64_t ns_since(BenchClock::time_point begin) {
  return static_cast<std::uint64_t>((BenchClock::now() - begin) / std::chrono::nanoseconds(1));
}

// What the operations of a workload are made from. Constant, and shared by all cores.
class BenchInputs {
 public:
  BenchInputs(const BenchCommand& options, std::uint64_t count)
      : command(options), operations(count), order(count, options.seed) {
    text_.resize(command.value_bytes + kTextBytes);
    measure::Random random(command.seed);
    for (char& c : text_) c = static_cast<char>(random.next());
  }

  std::string_view value(measure::Random& random) const {
    return std::string_view(text_).substr(random.below(kTextBytes), command.value_bytes);
  }

  const BenchCommand& command;
  const std::uint64_t operations;
  const measure::Permutation order;

 private:
  static constexpr std::size_t kTextBytes = 4096;
  std::string text_;
};

// What a job has done.
struct BenchResult {
  std::uint64_t operations = 0;
  std::uint64_t found = 0;
  measure::Histogram latencies;

  void add(const BenchResult& other) {
    operations += other.operations;
    found += other.found;
    latencies.add(other.latencies);
  }
};

// The tasks and the operations of one core, as they run.
template <class Db>
struct Job {
  // Takes up to `want` of the operations that are left. Returns how many; the first is number `first`.
  std::uint64_t take(std::uint64_t want, std::uint64_t& first) {
    first = next;
    next += std::min(want, end - next);
    return next - first;
  }

  Db& db;
  const BenchInputs& inputs;
  std::uint64_t next = 0;  // of the operations of the whole workload
  std::uint64_t end = 0;
  BenchResult result = {};
};

namespace bench {

enum class Order : std::uint8_t { ascending, shuffled, random };

inline std::string key_of(std::uint64_t index) { return fmt::format("{:016}", index); }

// The index that operation `i` is about.
inline std::uint64_t index_of(const BenchInputs& inputs, Order order, std::uint64_t i, measure::Random& random) {
  switch (order) {
    case Order::ascending: return i;
    case Order::shuffled: return inputs.order.at(i);
    case Order::random: break;
  }
  return random.below(inputs.command.num);
}

template <class Db>
monterey::Task<> put_one(Job<Db>& job, Order order, std::uint64_t i, measure::Random& random) {
  const std::string key = key_of(index_of(job.inputs, order, i, random));
  const auto begin = BenchClock::now();
  co_await job.db.put(key, job.inputs.value(random));
  job.result.latencies.record(ns_since(begin));
}

template <class Db>
monterey::Task<> put_batch(Job<Db>& job, Order order, std::uint64_t first, std::uint64_t count,
                           measure::Random& random) {
  WriteBatch batch;
  for (std::uint64_t i = first; i < first + count; ++i) {
    batch.put(key_of(index_of(job.inputs, order, i, random)), job.inputs.value(random));
  }
  const auto begin = BenchClock::now();
  co_await job.db.write(std::move(batch));
  job.result.latencies.record(ns_since(begin));
}

template <class Db>
monterey::Task<> put_all(Job<Db>& job, Order order, measure::Random random) {
  std::uint64_t first = 0;
  while (const std::uint64_t count = job.take(job.inputs.command.batch, first)) {
    if (count == 1) {
      co_await put_one(job, order, first, random);
    } else {
      co_await put_batch(job, order, first, count, random);
    }
  }
}

template <class Db>
monterey::Task<> fill_in_order(Job<Db>& job, measure::Random random) {
  return put_all(job, Order::ascending, random);
}
template <class Db>
monterey::Task<> fill_shuffled(Job<Db>& job, measure::Random random) {
  return put_all(job, Order::shuffled, random);
}
template <class Db>
monterey::Task<> put_random(Job<Db>& job, measure::Random random) {
  return put_all(job, Order::random, random);
}

template <class Db>
monterey::Task<> delete_random(Job<Db>& job, measure::Random random) {
  std::uint64_t i = 0;
  while (job.take(1, i) != 0) {
    const std::string key = key_of(random.below(job.inputs.command.num));
    const auto begin = BenchClock::now();
    co_await job.db.erase(key);
    job.result.latencies.record(ns_since(begin));
  }
}

template <class Db>
monterey::Task<> get_all(Job<Db>& job, const char* suffix, measure::Random random) {
  std::uint64_t i = 0;
  while (job.take(1, i) != 0) {
    const std::string key = key_of(random.below(job.inputs.command.num)) + suffix;
    const auto begin = BenchClock::now();
    const std::optional<std::string> value = co_await job.db.get(key);
    job.result.latencies.record(ns_since(begin));
    if (value) ++job.result.found;
  }
}

template <class Db>
monterey::Task<> get_random(Job<Db>& job, measure::Random random) {
  return get_all(job, "", random);
}
template <class Db>
monterey::Task<> get_missing(Job<Db>& job, measure::Random random) {
  return get_all(job, ".", random);
}

template <class Db>
monterey::Task<> get_many_random(Job<Db>& job, measure::Random random) {
  std::uint64_t first = 0;
  while (const std::uint64_t count = job.take(job.inputs.command.read_batch, first)) {
    std::vector<std::string> keys;
    for (std::uint64_t i = 0; i < count; ++i) keys.push_back(key_of(random.below(job.inputs.command.num)));
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto begin = BenchClock::now();
    const auto values = co_await job.db.get_many(views);
    job.result.latencies.record(ns_since(begin));
    for (const auto& value : values) job.result.found += value ? 1 : 0;
  }
}

template <class Db>
monterey::Task<> scan_all(Job<Db>& job, ScanOptions options) {
  auto scan = co_await job.db.scan("", std::nullopt, options);
  while (co_await scan.advance()) ++job.result.found;
  job.result.operations = job.result.found;
}

template <class Db>
monterey::Task<> read_in_order(Job<Db>& job, measure::Random) {
  return scan_all(job, {});
}
template <class Db>
monterey::Task<> read_in_reverse(Job<Db>& job, measure::Random) {
  return scan_all(job, {.reverse = true});
}

template <class Db>
monterey::Task<> seek_random(Job<Db>& job, measure::Random random) {
  auto scan = co_await job.db.scan("");
  std::uint64_t i = 0;
  while (job.take(1, i) != 0) {
    std::string key = key_of(random.below(job.inputs.command.num));
    const auto begin = BenchClock::now();
    co_await scan.seek(std::move(key));
    const bool there = co_await scan.advance();
    job.result.latencies.record(ns_since(begin));
    if (there) ++job.result.found;
  }
}

// Overwrites until those beside it are done. `done` is of this core.
template <class Db>
monterey::Task<> write_beside(Db& db, const BenchInputs& inputs, const bool& done, measure::Random random) {
  while (!done) {
    const std::string key = key_of(random.below(inputs.command.num));
    co_await db.put(key, inputs.value(random));
  }
}

}  // namespace bench

template <class Db>
struct Workload {
  monterey::Task<> (*run)(Job<Db>&, measure::Random);
  bool fresh = false;   // begins with an empty store
  bool synced = false;  // each write is durable when it completes
  bool alone = false;   // by one task, which counts its operations itself
  bool writes = false;  // the flush at the end is counted
  bool beside_writer = false;
};

template <class Db>
const std::map<std::string, Workload<Db>>& bench_workloads() {
  static const std::map<std::string, Workload<Db>> workloads{
      {"fillseq", {.run = bench::fill_in_order<Db>, .fresh = true, .writes = true}},
      {"fillrandom", {.run = bench::fill_shuffled<Db>, .fresh = true, .writes = true}},
      {"fillsync", {.run = bench::put_random<Db>, .fresh = true, .synced = true, .writes = true}},
      {"overwrite", {.run = bench::put_random<Db>, .writes = true}},
      {"deleterandom", {.run = bench::delete_random<Db>, .writes = true}},
      {"readrandom", {.run = bench::get_random<Db>}},
      {"readmissing", {.run = bench::get_missing<Db>}},
      {"multireadrandom", {.run = bench::get_many_random<Db>}},
      {"readseq", {.run = bench::read_in_order<Db>, .alone = true}},
      {"readreverse", {.run = bench::read_in_reverse<Db>, .alone = true}},
      {"seekrandom", {.run = bench::seek_random<Db>}},
      {"readwhilewriting", {.run = bench::get_random<Db>, .beside_writer = true}},
  };
  return workloads;
}

}  // namespace store::tool
