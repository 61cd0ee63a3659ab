// What the sides of the durable benchmark have in common: their arguments, what they put, and how a rate is measured. Both programs
// are called `NAME fill|run --path PATH [--keys N] [--writers N] [--seconds N] [--warm-up N] [--seed N]`; `fill` makes a
// store with all keys in it, `run` puts random ones of them and prints how many a second were durable.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>

#include "workload.hpp"

namespace bench {

// The same memory for both.
inline constexpr std::size_t kCacheBytes = 256u << 20;
inline constexpr std::size_t kWriteBufferBytes = 64u << 20;

struct DurableOptions {
  std::string path;
  std::uint64_t keys = kKeys;
  unsigned writers = 1;
  double seconds = 5;
  double warm_up = 1;
  std::uint64_t seed = 1;
  std::string mode = "per_op";  // of the store's log
  // Ways to tune RocksDB.
  bool pipelined = false;
  bool recycled = false;
  bool yielding = true;
};

// Reads the arguments. Ends the process where they are wrong. Returns whether to fill.
bool parse_durable_options(int argc, char** argv, DurableOptions& options);

// Keys at random and a value that was never put before, for one writer: no two writers and no two seeds put the same.
class Puts {
 public:
  Puts(const DurableOptions& options, unsigned writer)
      : keys_(options.keys), state_(mix(mix(options.seed) + 0x9E3779B97F4A7C15u * (writer + 1))) {}

  void next() {
    key_ = Key(word() % keys_);
    for (std::size_t at = 0; at < kValueBytes; at += sizeof(std::uint64_t)) {
      const std::uint64_t bytes = word();
      std::memcpy(value_ + at, &bytes, std::min(sizeof(bytes), kValueBytes - at));
    }
  }
  std::string_view key() const { return key_.view(); }
  std::string_view value() const { return {value_, kValueBytes}; }

 private:
  std::uint64_t word() { return mix(state_ += 0x9E3779B97F4A7C15u); }

  std::uint64_t keys_;
  std::uint64_t state_;
  Key key_ = Key(0);
  char value_[kValueBytes];
};

// The time in which puts count, behind a time in which they do not.
class Window {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Window(const DurableOptions& options)
      : from_(Clock::now() + seconds(options.warm_up)), to_(from_ + seconds(options.seconds)) {}
  // Whether a put that completed now counts; `over` is set when nobody shall begin another.
  bool counts(bool& over) const {
    const Clock::time_point now = Clock::now();
    over = now >= to_;
    return now >= from_ && !over;
  }

 private:
  static Clock::duration seconds(double count) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
  }
  Clock::time_point from_;
  Clock::time_point to_;
};

void print_rate(const DurableOptions& options, std::uint64_t puts);

}  // namespace bench
