// What one run of bench_compare is told. A run is one process, one engine, one workload: what the system says of the process (time of its
// CPUs, resident memory, bytes written) is then the engine's, its background threads included. compare.py starts the runs.
#pragma once

#include <cstdint>
#include <string>

namespace comparison {

// What is promised of a put when it completes. Each engine is configured for the same promise (see its adapter).
enum class Promise : std::uint8_t {
  none,     // durable after a flush or checkpoint
  batched,  // in a log, which is synced later or never
  durable,  // survives a power cut
};

struct Options {
  std::string engine;
  std::string path;      // the store: a file or a folder
  std::string workload;  // see workload.cpp
  std::uint64_t keys = 1'000'000;
  std::uint64_t value_bytes = 100;
  std::uint64_t memory_bytes = std::uint64_t{1} << 30;  // for caches and buffers together
  bool limited = false;                                 // the process may use no more than that: a cgroup sees to it
  std::uint64_t cache_bytes = 0;                        // 0: the adapter divides memory_bytes
  std::uint64_t write_buffer_bytes = 0;                 // 0: the engine's default, or what the adapter finds right
  Promise promise = Promise::none;
  unsigned clients = 1;  // tasks of the store, threads of a peer
  unsigned batch = 64;   // keys of a get_many
  double warm_up = 1;    // seconds that do not count, before
  double seconds = 5;    // those that do; of a load: the longest it may take, 0 for no limit
  bool warm = false;     // read everything once before
  unsigned sample = 1;   // look at the clock in one of so many operations
  std::uint64_t seed = 1;
  std::string tuning;  // more for the adapter, see there
};

}  // namespace comparison
