// The commands of `store`, each a function of its options. Results go to standard output, everything else to standard
// error. Errors: store::Error, which main() turns into a message and ExitCode::failed.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "tools/session.hpp"

namespace store::tool {

enum class Format : std::uint8_t { tsv, jsonl, mdb };

struct CreateCommand {
  SessionOptions session;
  bool overwrite = false;
};

struct PutCommand {
  SessionOptions session;
  std::string key;
  std::optional<std::string> value;  // nullopt: from standard input
  bool escaped = false;
};

struct GetCommand {
  SessionOptions session;
  std::string key;
  bool escaped = false;
};

struct DelCommand {
  SessionOptions session;
  std::string key;
  std::vector<std::string> range;  // instead of the key: its bounds, the second one "" for none
  bool escaped = false;
};

struct ScanCommand {
  SessionOptions session;
  std::optional<std::string> from;
  std::optional<std::string> to;
  std::optional<std::string> prefix;
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  bool keys_only = false;
  bool escaped = false;
  Format format = Format::tsv;
};

struct LoadCommand {
  SessionOptions session;
  std::string input = "-";
  Format format = Format::tsv;
  bool partial = false;
  bool sorted = false;
  bool json = false;
};

struct DumpCommand {
  SessionOptions session;
  Format format = Format::tsv;
};

struct InfoCommand {
  SessionOptions session;
  bool json = false;
};

struct StatCommand {
  SessionOptions session;
  bool json = false;
  bool prometheus = false;
  std::optional<double> watch_seconds;                              // again and again, so long apart
  std::uint64_t count = std::numeric_limits<std::uint64_t>::max();  // of --watch
};

struct SnapshotsCommand {
  SessionOptions session;
  bool json = false;
};

struct PagesCommand {
  SessionOptions session;
  bool json = false;
  bool list = false;  // each page, not only the counts
};

struct PageCommand {
  SessionOptions session;
  std::uint64_t page = 0;
  bool json = false;
};

struct WalCommand {
  SessionOptions session;
  std::optional<std::string> log;  // the file of a log device
  bool json = false;
  bool list = false;  // each record's entries
};

struct CheckCommand {
  SessionOptions session;
  bool json = false;
  std::uint64_t max_errors = 100;
};

struct BackupCommand {
  SessionOptions session;
  std::string target;
  bool overwrite = false;
  std::optional<std::uint64_t> since;
  bool incremental = false;  // since what the target says
  bool json = false;
};

struct SalvageCommand {
  SessionOptions session;
  std::string target;
  std::optional<std::string> log;  // the file of a log device
  bool overwrite = false;
  bool json = false;
};

struct CompactCommand {
  SessionOptions session;
  bool json = false;
  std::uint64_t max_bytes = std::numeric_limits<std::uint64_t>::max();
};

struct ReshardCommand {
  SessionOptions session;
  bool json = false;
};

struct DevicesCommand {
  bool json = false;
};

struct BenchCommand {
  std::string path;
  Window window;
  std::optional<std::uint64_t> shards;  // of a store in a directory that is made
  std::optional<unsigned> cores;        // of a sharded store; nullopt: as many as there are CPUs or shards
  std::uint64_t cache_bytes = std::uint64_t{256} << 20;
  std::vector<std::string> workloads{"fillsync",    "fillseq",         "fillrandom",       "overwrite",
                                     "readrandom",  "multireadrandom", "readmissing",      "readseq",
                                     "readreverse", "seekrandom",      "readwhilewriting", "deleterandom"};
  std::uint64_t num = 1'000'000;
  std::uint64_t value_bytes = 100;
  std::uint64_t batch = 1;        // puts of one write
  std::uint64_t read_batch = 64;  // keys of one get_many
  std::uint64_t depth = 1;        // tasks
  std::uint64_t seed = 1;
  WalMode wal_mode = WalMode::batched;
  bool existing = false;
  bool keep = false;
  bool json = false;
};

// Whether `store bench` knows a workload of this name.
bool is_bench_workload(const std::string& name);

// stat --watch. Requires: watch_seconds.
ExitCode watch(const StatCommand&);

ExitCode run(const CreateCommand&);
ExitCode run(const PutCommand&);
ExitCode run(const GetCommand&);
ExitCode run(const DelCommand&);
ExitCode run(const ScanCommand&);
ExitCode run(const LoadCommand&);
ExitCode run(const DumpCommand&);
ExitCode run(const InfoCommand&);
ExitCode run(const StatCommand&);
ExitCode run(const SnapshotsCommand&);
ExitCode run(const PagesCommand&);
ExitCode run(const PageCommand&);
ExitCode run(const WalCommand&);
ExitCode run(const CheckCommand&);
ExitCode run(const BackupCommand&);
ExitCode run(const SalvageCommand&);
ExitCode run(const CompactCommand&);
ExitCode run(const ReshardCommand&);
ExitCode run(const DevicesCommand&);
ExitCode run(const BenchCommand&);

}  // namespace store::tool
