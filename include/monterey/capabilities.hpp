// Which kernel facilities a core uses for its I/O, found out when the cluster starts. What the kernel, RLIMIT_MEMLOCK
// or a seccomp filter refuses is left out feature by feature and recorded here; nothing of it is fatal.
#pragma once

#include <cstdint>
#include <string>

namespace monterey {

enum class Backend : std::uint8_t {
  automatic,  // io_uring, or threads where io_uring is refused
  io_uring,   // io_uring, or an error
  threads,    // preadv/pwritev/fdatasync on worker threads
};

struct Capabilities {
  Backend backend = Backend::automatic;  // what is in use: io_uring or threads
  bool single_issuer = false;
  bool defer_taskrun = false;
  bool registered_buffers = false;  // the whole arena is registered (true only if there is an arena)
  bool registered_files = false;
  bool ring_wakes = false;  // cores wake others by messages between rings (MSG_RING), else by an eventfd
  // File::command() works (true only if Cluster::builder().device_commands() asked for it).
  bool device_commands = false;
  // Such commands may be polled (true only if Cluster::builder().polled_commands() asked for it).
  bool polled_commands = false;
  // Why each of the above that is off, of the last two when asked for, is off, "; "-separated; empty if all are on.
  std::string reason;
};

// Whether the kernel is Linux of this version or later; false too if it does not say.
bool linux_is_at_least(int major, int minor);

// Returns what the calling core uses.
// Requires: a core of a running Cluster.
const Capabilities& capabilities();

}  // namespace monterey
