// fio as the yardstick of what the device can do, with direct I/O on an io_uring.
#pragma once

#include <fmt/format.h>

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

}  // namespace bench
