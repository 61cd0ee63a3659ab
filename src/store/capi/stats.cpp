// What a store says about itself: numbers and texts by name, and the text for Prometheus.
#include <array>
#include <cstdint>
#include <span>
#include <store/metrics.hpp>
#include <store/stats.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/capi/call.hpp"

namespace store::capi {
namespace {

std::string uuid_of(const Stats& stats) { return stats.uuid; }
std::string origin_of(const Stats& stats) {
  if (stats.origin.uuid.empty()) return {};
  return stats.origin.uuid + ' ' + std::to_string(stats.origin.generation);
}
std::string notes_of(const Stats& stats) {
  std::string text;
  for (const std::string& note : stats.open_notes) text += note + '\n';
  return text;
}
std::string poison_of(const Stats& stats) { return stats.poisoned; }
std::string snapshots_of(const Stats& stats) {
  std::string text;
  for (const SnapshotStats& snapshot : stats.snapshots) {
    text += std::to_string(snapshot.sequence) + ' ' + std::to_string(snapshot.age.count()) + ' ' +
            std::to_string(snapshot.held_blocks) + '\n';
  }
  return text;
}

struct StatText {
  const char* name;
  std::string (*of)(const Stats& stats);
};
constexpr std::array kTexts{StatText{"uuid", uuid_of}, StatText{"origin", origin_of}, StatText{"open_notes", notes_of},
                            StatText{"poisoned", poison_of}, StatText{"snapshots", snapshots_of}};

[[noreturn]] void throw_no_statistic(const char* name, const char* other) {
  throw Error(Errc::invalid_argument, std::string("there is no statistic `") + name + "`; " + other + " lists them");
}

}  // namespace
}  // namespace store::capi

using namespace store::capi;

store_code store_stat(store_db* db, const char* name, std::uint64_t* value) noexcept {
  return guarded([&] {
    require_out(value, "value");
    require(name, "name");
    const DbTable::Use use(dbs, db);
    for (const store::Metric& stat : store::metrics()) {
      if (std::string_view(stat.name) != name) continue;
      *value = use->stats().*stat.value;
      return STORE_OK;
    }
    for (const store::LatencyFigure& figure : store::latency_figures()) {
      if (std::string_view(figure.name) != name) continue;
      *value = figure.value(use->stats().*figure.histogram);
      return STORE_OK;
    }
    throw_no_statistic(name, "store_stat_name()");
  });
}

const char* store_stat_name(std::size_t index) noexcept {
  const std::span numbers = store::metrics();
  if (index < numbers.size()) return numbers[index].name;
  index -= numbers.size();
  return index < store::latency_figures().size() ? store::latency_figures()[index].name : nullptr;
}

store_code store_stat_text(store_db* db, const char* name, char** text) noexcept {
  return guarded([&] {
    require_out(text, "text");
    require(name, "name");
    const DbTable::Use use(dbs, db);
    for (const StatText& stat : kTexts) {
      if (std::string_view(stat.name) != name) continue;
      *text = text_for_caller(stat.of(use->stats()));
      return STORE_OK;
    }
    throw_no_statistic(name, "store_stat_text_name()");
  });
}

const char* store_stat_text_name(std::size_t index) noexcept {
  return index < kTexts.size() ? kTexts[index].name : nullptr;
}

store_code store_prometheus(std::size_t count, store_db* const* stores, const char* const* names,
                            char** text) noexcept {
  return guarded([&] {
    require_out(text, "text");
    if (count != 0) require(stores, "dbs");
    if (count > 1) require(names, "names");
    std::vector<store::MetricSource> sources;
    for (std::size_t i = 0; i < count; ++i) {
      store::MetricSource& source = sources.emplace_back();
      if (names != nullptr) {
        require(names[i], "names[i]");
        for (std::size_t other = 0; other < i; ++other) {
          if (std::string_view(names[i]) != names[other]) continue;
          throw store::Error(store::Errc::invalid_argument, std::string("two stores have the name `") + names[i] + "`");
        }
        source.labels = store::metric_label("store", names[i]);
      }
      const DbTable::Use use(dbs, stores[i]);
      source.stats = use->stats();
    }
    *text = text_for_caller(store::prometheus_text(sources));
    return STORE_OK;
  });
}
