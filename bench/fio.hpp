// fio as the yardstick of what the device can do, with direct I/O on an io_uring.
#pragma once

#include <fmt/format.h>
#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace bench {

// Bytes a second that fio reads of the file at `path`. `shape` are its options for what is read and how.
inline double fio_read_rate(const std::string& path, const std::string& shape) {
  const std::string command =
      fmt::format("fio --name=bench --filename={} --direct=1 --ioengine=io_uring --readonly --minimal {}", path, shape);
  std::FILE* const output = ::popen(command.c_str(), "r");
  if (output == nullptr) throw std::runtime_error("cannot run fio");
  char line[8192] = "";
  const bool answered = std::fgets(line, sizeof line, output) != nullptr;
  if (::pclose(output) != 0 || !answered) throw std::runtime_error("fio failed: " + command);
  const char* field = line;
  for (int i = 0; i < 6 && field != nullptr; ++i) {  // the seventh: KiB/s read
    field = std::strchr(field, ';');
    if (field != nullptr) ++field;
  }
  if (field == nullptr) throw std::runtime_error("fio answered something else");
  return std::strtod(field, nullptr) * 1024;
}

// Binds this thread, and each fio that it starts, to the CPU on which reads of the file at `path` take least: where the device has one
// interrupt, that CPU sees a completion some 20 us before the others. Returns it.
inline int use_fastest_cpu(const std::string& path) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) throw std::runtime_error("cannot tell the CPUs");
  int fastest = -1;
  double best = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const double rate = fio_read_rate(
        path, fmt::format("--rw=randread --bs=4k --iodepth=1 --time_based --runtime=1 --cpus_allowed={}", cpu));
    if (rate <= best) continue;
    best = rate;
    fastest = cpu;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(fastest, &one);
  if (fastest < 0 || ::sched_setaffinity(0, sizeof one, &one) != 0) throw std::runtime_error("cannot choose a CPU");
  return fastest;
}

}  // namespace bench
