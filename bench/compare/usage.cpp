#include "usage.hpp"

#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <string>

namespace comparison {
namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// The number behind `name` in a file of /proc; 0 when it is not there.
std::uint64_t proc_number(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  std::uint64_t number = 0;
  while (file >> word) {
    if (word == name && file >> number) return number;
  }
  return 0;
}

}  // namespace

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

Usage Usage::now() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return {.cpu_seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime),
          .written_bytes = proc_number("/proc/self/io", "write_bytes:"),
          .read_bytes = proc_number("/proc/self/io", "read_bytes:"),
          .resident_bytes = proc_number("/proc/self/status", "VmRSS:") * 1024,
          .resident_most = proc_number("/proc/self/status", "VmHWM:") * 1024};
}

}  // namespace comparison
