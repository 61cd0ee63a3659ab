// What the system says this process has used.
#pragma once

#include <cstdint>

namespace comparison {

// Nanoseconds of a clock that only goes forward.
std::uint64_t now_ns();

struct Usage {
  double cpu_seconds = 0;            // user and system, all threads
  std::uint64_t written_bytes = 0;   // caused to be written to a device, the page cache's share included
  std::uint64_t read_bytes = 0;      // fetched from a device
  std::uint64_t resident_bytes = 0;  // now
  std::uint64_t resident_most = 0;   // ever

  static Usage now();
};

}  // namespace comparison
