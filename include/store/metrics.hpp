// The numbers and the histograms of Stats by name, and as text for Prometheus. docs/metrics.md has the same lists.
#pragma once

#include <cstdint>
#include <span>
#include <store/stats.hpp>
#include <string>

namespace store {

struct Metric {
  // A counter counts since the store was opened; a gauge is of the moment.
  enum class Kind : std::uint8_t { gauge, counter };

  const char* name;  // that of the member
  std::uint64_t Stats::*value;
  Kind kind;
  const char* help;
};

// All of them, in the order of the members.
std::span<const Metric> metrics() noexcept;

// How long an operation took.
struct LatencyMetric {
  const char* name;  // that of the member
  LatencyHistogram Stats::*histogram;
  const char* help;
};

// All of them, in the order of the members.
std::span<const LatencyMetric> latency_metrics() noexcept;

// One number of a histogram, for who wants no buckets. Of each there are NAME_count, NAME_sum_ns, NAME_p50_ns, NAME_p99_ns and NAME_p999_ns: how
// many, nanoseconds in all, and quantiles in nanoseconds, 0 while nothing was counted.
struct LatencyFigure {
  const char* name;
  LatencyHistogram Stats::*histogram;
  std::uint64_t (*value)(const LatencyHistogram& histogram) noexcept;
};

// Those of all histograms.
std::span<const LatencyFigure> latency_figures() noexcept;

// Stats of a store, or of one shard of several.
struct MetricSource {
  std::string
      labels;  // name="value" pairs with commas in between, other ones for each source; empty for a single one. metric_label() makes one
  Stats stats;
};

// One label with its value, in which quotes, backslashes and newlines are escaped.
std::string metric_label(const std::string& name, const std::string& value);

// The text exposition format of Prometheus (version 0.0.4): each metric as store_NAME, a counter with _total behind it, once for each source;
// store_poisoned, 1 where writes are refused; and each histogram as store_NAME_seconds, with buckets whose bounds are the powers of two of
// nanoseconds from 128 ns to 8.6 s. Every line ends with a newline.
std::string prometheus_text(std::span<const MetricSource> sources);

}  // namespace store
