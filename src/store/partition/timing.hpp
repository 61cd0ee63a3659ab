// How the histograms of Stats get their times: by the core's clock, which a simulation replaces.
#pragma once

#include <cstdint>
#include <monterey/time.hpp>
#include <store/latency_histogram.hpp>
#include <string_view>

#include "store/base/probes.hpp"

namespace store::detail {

// Counts the time from its making to its end, that of an operation which may suspend, whether it succeeds or throws.
class Timed {
 public:
  explicit Timed(LatencyHistogram& into) noexcept : into_(into), begin_(monterey::now()) {}
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;
  ~Timed() { into_.record(monterey::now() - begin_); }

 private:
  LatencyHistogram& into_;
  const monterey::TimePoint begin_;
};

// The same, of a get that has to read; the step before it has said get_start.
class TimedGet {
 public:
  TimedGet(LatencyHistogram& into, std::string_view key) noexcept : timed_(into), key_(key.data()) {}
  TimedGet(const TimedGet&) = delete;
  TimedGet& operator=(const TimedGet&) = delete;
  ~TimedGet() { STORE_PROBE(get_done, key_); }

 private:
  const Timed timed_;
  const char* const key_;
};

// … of a put that has to wait.
class TimedPut {
 public:
  TimedPut(LatencyHistogram& into, std::string_view key) noexcept : timed_(into), key_(key.data()) {}
  TimedPut(const TimedPut&) = delete;
  TimedPut& operator=(const TimedPut&) = delete;
  ~TimedPut() { STORE_PROBE(put_done, key_); }

 private:
  const Timed timed_;
  const char* const key_;
};

// … of a sync, all of it.
class TimedSync {
 public:
  explicit TimedSync(LatencyHistogram& into) noexcept : timed_(into) { STORE_PROBE(sync_start, this); }
  TimedSync(const TimedSync&) = delete;
  TimedSync& operator=(const TimedSync&) = delete;
  ~TimedSync() { STORE_PROBE(sync_done, this); }

 private:
  const Timed timed_;
};

// Takes the time of one in kOneIn steps: two looks at the clock cost half of a cached get. A prime, which a workload does not keep step with.
class SampledTiming {
 public:
  static constexpr std::uint32_t kOneIn = 251;

  // Makes a step, which returns whether it did all the work; one that did not is not counted.
  template <class Step>
  bool run(LatencyHistogram& into, Step step) {
    if (--left_ > 0) [[likely]]
      return step();
    left_ = kOneIn;
    const monterey::TimePoint begin = monterey::now();
    const bool done = step();
    if (done) into.record(monterey::now() - begin);
    return done;
  }

 private:
  std::uint32_t left_ = kOneIn;
};

}  // namespace store::detail
