// One command, one cluster, one open store: a file or a namespace on one core, or, where the path is a directory, a
// sharded store on several. with_store() opens the store, runs the command's coroutine on it, on core 0, and closes it;
// what the coroutine throws comes out of with_store(), with the store left as after a crash, at its last commit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <store/store.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tools/device.hpp"
#include "tools/layout.hpp"
#include "tools/observed.hpp"

namespace store::tool {

// What the program ends with.
enum class ExitCode : int {
  done = 0,
  negative = 1,  // the key is not there; the check found damage
  usage = 2,
  failed = 3,  // bad input, I/O, or the store
};

enum class Access : std::uint8_t { read, write, open_or_create, create, overwrite };

// What every command takes.
struct SessionOptions {
  std::string path;
  std::uint64_t cache_bytes = std::uint64_t{16} << 20;  // of all shards together, as what follows
  std::uint64_t capacity_bytes = 0;                     // of commands that write, of files; 0: what the format allows
  Window window;
  LayoutOptions layout;             // of commands that make stores
  std::vector<std::string> others;  // paths of devices that the command opens besides
  std::size_t write_buffer_bytes = std::size_t{1} << 20;
};

// The coroutine of a command, for either kind of store.
struct Work {
  std::function<monterey::Task<ExitCode>(Partition&, const BlockDevice&)> on_file;
  std::function<monterey::Task<ExitCode>(ShardedStore&)> on_shards;
};

// Work that is the same for both: `verb(db)` with a Partition or a ShardedStore.
template <class Verb>
Work for_any(Verb verb) {
  return {.on_file = [verb](Partition& db, const BlockDevice&) { return verb(db); }, .on_shards = verb};
}

struct SessionHooks {
  ReadObserver on_read;                           // called on core 0 alone, with what was read on all cores meanwhile
  std::function<monterey::Task<>()> before_open;  // what must have gone well before the store is touched, or made
};

// Errors: store::Error.
ExitCode with_store(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks = {});

}  // namespace store::tool
