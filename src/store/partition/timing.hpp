// How the histograms of Stats get their times: by the core's clock, which a simulation replaces.
#pragma once

#include <cstdint>
#include <monterey/time.hpp>
#include <store/latency_histogram.hpp>

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

// Takes the time of one in kOneIn steps: two looks at the clock cost a third of a cached get. A prime, which a workload does not keep step with.
class SampledTiming {
 public:
  static constexpr std::uint32_t kOneIn = 61;

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
