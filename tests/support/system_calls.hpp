// Counts system calls from outside: the code under test runs in a forked child that this process traces (ptrace(2)),
// and only the child's first thread is counted. Not the engine's own counters, which could lie.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace store::test {

struct SystemCalls {
  std::map<long, std::uint64_t> by_number;  // SYS_...
  std::vector<std::uint64_t> submitted;     // entries, by each call of io_uring_enter that submitted any
  bool counted = false;                     // false: tracing is refused here, or the child failed
  std::string failure;                      // what went wrong in the child, else empty

  std::uint64_t of(long number) const;
  std::uint64_t total() const;
};

// Marks, within the child, where the counting starts and ends. Callable any number of times.
class SystemCallWindow {
 public:
  void open() const;
  void close() const;
};

// Runs `body` in a child; it returns an empty text, or what failed.
SystemCalls count_system_calls(const std::function<std::string(const SystemCallWindow&)>& body);

}  // namespace store::test
