// The numbers of Stats by name, and as text for Prometheus.
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

// Stats of a store, or of one shard of several.
struct MetricSource {
  std::string labels;  // name="value" pairs with commas in between; may be empty. metric_label() makes one
  Stats stats;
};

// One label with its value, in which quotes, backslashes and newlines are escaped.
std::string metric_label(const std::string& name, const std::string& value);

// The text exposition format of Prometheus (version 0.0.4): each metric as store_NAME, a counter with _total behind it, once for each source; and
// store_poisoned, 1 where writes are refused. Every line ends with a newline.
std::string prometheus_text(std::span<const MetricSource> sources);

}  // namespace store
