// The I/O suite: one program of file operations whose results are written down line by line. It must give the same
// lines on every rung, for every user, and whatever completions are injected; the test programs beside it compare
// them.
#pragma once

#include <cstdint>
#include <monterey/fixed_bufs.hpp>
#include <string>
#include <vector>

#include "monterey/io_backend.hpp"

namespace monterey::test {

// Runs the suite with files in `directory`. Failed expectations against the model in memory are lines of their own,
// "WRONG ...".
std::vector<std::string> io_trace(detail::IoBackend& backend, FixedBufs& arena, const std::string& directory,
                                  std::uint64_t seed);

// The lines in which two traces differ first, or an empty text.
std::string first_difference(const std::vector<std::string>& expected, const std::vector<std::string>& actual);

}  // namespace monterey::test
