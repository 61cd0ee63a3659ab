// One command, one cluster of one core, one open store. with_store() opens the store, runs the command's coroutine on it
// and closes it; what the coroutine throws comes out of with_store(), with the store left as after a crash, at its last
// commit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <store/store.hpp>
#include <string>
#include <vector>

#include "tools/device.hpp"

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
  std::uint64_t cache_bytes = std::uint64_t{16} << 20;
  std::uint64_t capacity_bytes = 0;  // of commands that write, of a file; 0: what the format allows
  Window window;
  std::vector<std::string> others;  // paths of devices that the command opens besides
  std::size_t write_buffer_bytes = std::size_t{1} << 20;
};

using Work = std::function<monterey::Task<ExitCode>(Partition&, const BlockDevice&)>;

// Called with the number of blocks that each read of the device asks for.
using ReadObserver = std::function<void(std::uint64_t blocks)>;

struct SessionHooks {
  ReadObserver on_read;
  std::function<monterey::Task<>()> before_open;  // what must have gone well before the store is touched, or made
};

// Errors: store::Error.
ExitCode with_store(const SessionOptions& options, Access access, const Work& work, const SessionHooks& hooks = {});

}  // namespace store::tool
