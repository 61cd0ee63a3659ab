#include <fmt/format.h>

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

std::string braced(const std::string& labels) { return labels.empty() ? std::string() : '{' + labels + '}'; }

void append_head(std::string& text, const std::string& name, const char* help, Kind kind) {
  text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, kind == Kind::counter ? "counter" : "gauge");
}

}  // namespace

std::span<const Metric> metrics() noexcept { return kMetrics; }

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
    append_head(text, name, metric.help, metric.kind);
    for (const MetricSource& source : sources) {
      text += fmt::format("{}{} {}\n", name, braced(source.labels), source.stats.*metric.value);
    }
  }
  append_head(text, "store_poisoned", "1 if writes are refused after a failure.", Kind::gauge);
  for (const MetricSource& source : sources) {
    text += fmt::format("store_poisoned{} {}\n", braced(source.labels), source.stats.poisoned.empty() ? 0 : 1);
  }
  return text;
}

}  // namespace store
