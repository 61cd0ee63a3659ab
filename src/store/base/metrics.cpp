#include <fmt/format.h>

#include <iterator>
#include <store/metrics.hpp>

namespace store {
namespace {

using Kind = Metric::Kind;

constexpr Metric kMetrics[] = {
    {"generation", &Stats::generation, Kind::gauge, "Number of the last durable commit."},
    {"entries", &Stats::entries, Kind::gauge, "Entries in the tree, as of that commit."},
    {"height", &Stats::height, Kind::gauge, "Levels of the tree."},
    {"tree_pages", &Stats::tree_pages, Kind::gauge, "Pages of the tree, of 4096 bytes."},
    {"overflow_blocks", &Stats::overflow_blocks, Kind::gauge, "Blocks of values over 1 KiB, of 4096 bytes."},
    {"allocator_pages", &Stats::allocator_pages, Kind::gauge, "Pages that say which blocks are free."},
    {"high_water_blocks", &Stats::high_water_blocks, Kind::gauge, "Blocks from here on were never used."},
    {"free_blocks", &Stats::free_blocks, Kind::gauge, "Blocks below the high-water mark that may be reused now."},
    {"held_blocks", &Stats::held_blocks, Kind::gauge, "Superseded blocks that readers of older states hold."},
    {"device_blocks", &Stats::device_blocks, Kind::gauge, "Blocks that the device has now."},
    {"capacity_blocks", &Stats::capacity_blocks, Kind::gauge, "Blocks that the device may have."},
    {"buffered_entries", &Stats::buffered_entries, Kind::gauge, "Writes in memory that are not in the tree yet."},
    {"buffered_bytes", &Stats::buffered_bytes, Kind::gauge, "Bytes of these writes."},
    {"last_sequence", &Stats::last_sequence, Kind::gauge, "Sequence number of the last write."},
    {"incarnation", &Stats::incarnation, Kind::gauge, "How often the store was opened for writing with a log."},
    {"log_segments", &Stats::log_segments, Kind::gauge, "Segments of the log."},
    {"log_bytes", &Stats::log_bytes, Kind::gauge, "Bytes of all segments of the log."},
    {"log_used_bytes", &Stats::log_used_bytes, Kind::gauge, "Bytes that a crash now would have to replay, at most."},
    {"log_groups", &Stats::log_groups, Kind::counter, "Groups of writes made durable in the log."},
    {"log_records", &Stats::log_records, Kind::counter, "Records written to the log."},
    {"log_bytes_written", &Stats::log_bytes_written, Kind::counter, "Bytes written to the log."},
    {"replayed_bytes", &Stats::replayed_bytes, Kind::gauge, "Bytes of the log that opening has read."},
    {"replayed_records", &Stats::replayed_records, Kind::gauge, "Records of these that were not in the tree yet."},
    {"replayed_entries", &Stats::replayed_entries, Kind::gauge, "Changes that these records made."},
    {"cache_frames", &Stats::cache_frames, Kind::gauge, "Frames of the page cache, of 4096 bytes."},
    {"cache_hits", &Stats::cache_hits, Kind::counter, "Pages found in the cache."},
    {"cache_misses", &Stats::cache_misses, Kind::counter, "Pages that had to be read."},
    {"cache_evictions", &Stats::cache_evictions, Kind::counter, "Pages given up for others."},
    {"cache_pinned", &Stats::cache_pinned, Kind::gauge, "Frames that readers hold."},
    {"gets", &Stats::gets, Kind::counter, "Keys looked up."},
    {"puts", &Stats::puts, Kind::counter, "Puts, erases and erased ranges."},
    {"flushes", &Stats::flushes, Kind::counter, "Flushes of write buffers into the tree."},
    {"flush_pages_read", &Stats::flush_pages_read, Kind::counter, "Pages that flushes have read."},
    {"flush_pages_written", &Stats::flush_pages_written, Kind::counter, "Pages that flushes have written."},
    {"flush_writes", &Stats::flush_writes, Kind::counter, "Writes to the device of flushes."},
};

constexpr LatencyMetric kLatencies[] = {
    {"get_cached", &Stats::get_cached, "Gets on a core that read nothing from the device, one in 251 of them."},
    {"get_read", &Stats::get_read, "Gets that read from the device, from when they begin to."},
    {"put_buffered", &Stats::put_buffered, "Puts and erases that waited for nothing, one in 251 of them."},
    {"put_waited", &Stats::put_waited,
     "Puts and erases that waited, for the log or for room, from when they begin to."},
    {"flush", &Stats::flush, "Flushes of a write buffer into the tree, with their commit."},
    {"sync", &Stats::sync, "Calls of sync(), and the syncs of batches across shards."},
};

std::uint64_t count_of(const LatencyHistogram& histogram) noexcept { return histogram.count(); }
std::uint64_t sum_of(const LatencyHistogram& histogram) noexcept { return histogram.sum_ns(); }
template <int kPerMille>
std::uint64_t quantile_of(const LatencyHistogram& histogram) noexcept {
  return histogram.quantile_ns(kPerMille / 1000.0);
}

#define STORE_FIGURE(name, what, value) \
  LatencyFigure { #name "_" #what, &Stats::name, value }
#define STORE_FIGURES(name) \
  STORE_FIGURE(name, count, count_of), STORE_FIGURE(name, sum_ns, sum_of), \
      STORE_FIGURE(name, p50_ns, quantile_of<500>), STORE_FIGURE(name, p99_ns, quantile_of<990>), \
      STORE_FIGURE(name, p999_ns, quantile_of<999>)
constexpr LatencyFigure kLatencyFigures[] = {STORE_FIGURES(get_cached),   STORE_FIGURES(get_read),
                                             STORE_FIGURES(put_buffered), STORE_FIGURES(put_waited),
                                             STORE_FIGURES(flush),        STORE_FIGURES(sync)};
#undef STORE_FIGURES
#undef STORE_FIGURE
static_assert(std::size(kLatencyFigures) == 5 * std::size(kLatencies));

// Of the buckets that Prometheus gets: so many as make quantiles of whole fleets useful, and not a series each for all that there are.
constexpr std::uint64_t kFirstBoundNs = std::uint64_t{1} << 7;
constexpr std::uint64_t kLastBoundNs = std::uint64_t{1} << 33;

double seconds_of(std::uint64_t ns) { return static_cast<double>(ns) / 1e9; }

std::string braced(const std::string& labels) { return labels.empty() ? std::string() : '{' + labels + '}'; }

void append_head(std::string& text, const std::string& name, const char* help, const char* type) {
  text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void append_histogram(std::string& text, const std::string& name, const std::string& labels,
                      const LatencyHistogram& histogram) {
  const std::string before = labels.empty() ? std::string() : labels + ',';
  for (std::uint64_t bound = kFirstBoundNs; bound <= kLastBoundNs; bound *= 2) {
    text += fmt::format("{}_bucket{{{}le=\"{}\"}} {}\n", name, before, seconds_of(bound), histogram.count_up_to(bound));
  }
  text += fmt::format("{}_bucket{{{}le=\"+Inf\"}} {}\n", name, before, histogram.count());
  text += fmt::format("{}_sum{} {}\n", name, braced(labels), seconds_of(histogram.sum_ns()));
  text += fmt::format("{}_count{} {}\n", name, braced(labels), histogram.count());
}

}  // namespace

std::span<const Metric> metrics() noexcept { return kMetrics; }
std::span<const LatencyMetric> latency_metrics() noexcept { return kLatencies; }
std::span<const LatencyFigure> latency_figures() noexcept { return kLatencyFigures; }

std::string metric_label(const std::string& name, const std::string& value) {
  std::string text = name + "=\"";
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + '"';
}

std::string prometheus_text(std::span<const MetricSource> sources) {
  std::string text;
  for (const Metric& metric : metrics()) {
    const std::string name = fmt::format("store_{}{}", metric.name, metric.kind == Kind::counter ? "_total" : "");
    append_head(text, name, metric.help, metric.kind == Kind::counter ? "counter" : "gauge");
    for (const MetricSource& source : sources) {
      text += fmt::format("{}{} {}\n", name, braced(source.labels), source.stats.*metric.value);
    }
  }
  append_head(text, "store_poisoned", "1 if writes are refused after a failure.", "gauge");
  for (const MetricSource& source : sources) {
    text += fmt::format("store_poisoned{} {}\n", braced(source.labels), source.stats.poisoned.empty() ? 0 : 1);
  }
  for (const LatencyMetric& metric : latency_metrics()) {
    const std::string name = fmt::format("store_{}_seconds", metric.name);
    append_head(text, name, metric.help, "histogram");
    for (const MetricSource& source : sources)
      append_histogram(text, name, source.labels, source.stats.*metric.histogram);
  }
  return text;
}

}  // namespace store
