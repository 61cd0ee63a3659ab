// The fuzz targets: functions that take any bytes and return. What is wrong ends the process, by a sanitizer, an assertion,
// an exception that escapes, or fail(). They are built twice: into one libFuzzer program each (preset `fuzz`), and into
// fuzz_regression_test, which runs them over the corpus and over every input that once crashed, in all builds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace store::fuzz {

using Bytes = std::span<const std::uint8_t>;

struct Target {
  std::string_view name;
  void (*run)(Bytes input);
};

// All of them. A target's corpus is tests/fuzz/corpus/<name>.
std::span<const Target> targets();

void run_calls(Bytes input);    // a sequence of calls of the C API
void run_image(Bytes input);    // arbitrary bytes as a device
void run_mutated(Bytes input);  // a real store, damaged behind its checksums
void run_log(Bytes input);      // the log's decoders, and replay of damaged logs
void run_pages(Bytes input);    // one page of each kind
void run_formats(Bytes input);  // what `store load` reads

// Ends the process: the engine broke a promise.
[[noreturn]] void fail(const std::string& what);
inline void require(bool condition, const char* what) {
  if (!condition) fail(what);
}

}  // namespace store::fuzz
