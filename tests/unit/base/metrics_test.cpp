// The numbers of Stats by name, and what Prometheus reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <store/metrics.hpp>

#include "unit/base/exposition_reader.hpp"

namespace store {
namespace {

using testing::HasSubstr;

TEST(Metrics, EachHasANameAndAMemberOfItsOwn) {
  std::set<std::string> names;
  for (const Metric& metric : metrics()) {
    EXPECT_TRUE(names.insert(metric.name).second) << metric.name;
    EXPECT_THAT(metric.help, testing::EndsWith("."));
    Stats stats;
    stats.*metric.value = 7;
    for (const Metric& other : metrics()) EXPECT_EQ(stats.*other.value, other.name == metric.name ? 7u : 0u);
  }
}

TEST(Metrics, ArePrometheusText) {
  Stats one;
  one.entries = 5;
  one.gets = 12;
  Stats two;
  two.entries = 6;
  two.poisoned = "why";
  const std::vector<MetricSource> sources{{metric_label("store", "a\"b\\c\n"), one}, {"", two}};
  const std::string text = prometheus_text(sources);
  EXPECT_THAT(text, HasSubstr("# HELP store_entries Entries in the tree, as of that commit.\n"
                              "# TYPE store_entries gauge\n"
                              "store_entries{store=\"a\\\"b\\\\c\\n\"} 5\n"
                              "store_entries 6\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE store_gets_total counter\n"));
  EXPECT_THAT(text, HasSubstr("store_gets_total 0\n"));
  EXPECT_THAT(text, HasSubstr("store_poisoned{store=\"a\\\"b\\\\c\\n\"} 0\nstore_poisoned 1\n"));
  EXPECT_EQ(text.back(), '\n');
}

TEST(Metrics, EachFigureIsOfTheHistogramThatItNames) {
  std::set<std::string> names;
  for (const LatencyMetric& metric : latency_metrics()) {
    Stats stats;
    for (int i = 0; i < 2; ++i) (stats.*metric.histogram).record(std::chrono::nanoseconds(1000));
    for (const LatencyFigure& figure : latency_figures()) {
      const std::uint64_t value = figure.value(stats.*figure.histogram);
      const std::string_view name = figure.name;
      const bool named = name.starts_with(std::string(metric.name) + '_');
      if (!named) {
        EXPECT_EQ(value, 0u) << name;
        continue;
      }
      names.emplace(name);
      const double want = name.ends_with("_count") ? 2 : name.ends_with("_sum_ns") ? 2000 : 1000;
      EXPECT_NEAR(static_cast<double>(value), want, name.ends_with("_ns") ? want / 16 : 0) << name;
    }
  }
  EXPECT_EQ(names.size(), latency_figures().size());
}

TEST(Metrics, AScraperTakesTheText) {
  Stats one;
  for (const int ns : {100, 128, 129, 1'000'000}) one.get_read.record(std::chrono::nanoseconds(ns));
  one.get_read.record(std::chrono::minutes(1));
  const std::string label = metric_label("store", "a\"b\\c,}\n");
  const std::vector<MetricSource> sources{{label, one}, {"", Stats()}};
  const auto families = test::ExpositionReader::read(prometheus_text(sources));
  EXPECT_EQ(families.size(), metrics().size() + 1 + latency_metrics().size());
  for (const auto& [name, family] : families) {
    EXPECT_TRUE(family.has_help && !family.type.empty()) << name;
    EXPECT_EQ(name.ends_with("_total"), family.type == "counter") << name;
    if (family.type != "histogram") {
      EXPECT_EQ(family.samples.size(), sources.size()) << name;
    }
  }

  const test::Family& family = families.at("store_get_read_seconds");
  EXPECT_EQ(family.type, "histogram");
  std::size_t series = 0;
  double last_bound = 0;
  double last_value = 0;
  for (const test::Sample& sample : family.samples) {
    const bool is_one = sample.labels.contains("store");
    if (sample.name.ends_with("_bucket")) {
      const std::string& bound_text = sample.labels.at("le");
      const double bound = bound_text == "+Inf" ? std::numeric_limits<double>::infinity() : std::stod(bound_text);
      EXPECT_GT(bound, last_bound) << "bounds ascend";
      EXPECT_GE(sample.value, last_value) << "what is within a bound is within the next";
      if (is_one && bound_text == "1.28e-07") {
        EXPECT_EQ(sample.value, 2) << "a bound is within";
      }
      if (is_one && bound_text == "8.589934592") {
        EXPECT_EQ(sample.value, 4);
      }
      last_bound = bound;
      last_value = sample.value;
    } else if (sample.name.ends_with("_sum")) {
      EXPECT_NEAR(sample.value, is_one ? 60.001000357 : 0, 1e-12);
    } else {
      EXPECT_EQ(sample.value, is_one ? 5 : 0);
      EXPECT_EQ(sample.value, last_value) << "the last bucket has all";
      EXPECT_EQ(last_bound, std::numeric_limits<double>::infinity());
      last_bound = last_value = 0;
      ++series;
    }
  }
  EXPECT_EQ(series, sources.size());
}

TEST(Metrics, TheReaderOfTheTestsIsStrict) {
  const std::string head = "# HELP a A.\n# TYPE a gauge\n";
  EXPECT_NO_THROW(test::ExpositionReader::read(head + "a{b=\"c\\n\"} 1\na 2e-07\n"));
  for (const char* bad :
       {"a 1", "b 1\n", "a_total 1\n", "a  1\n", "a 1 \n", "a x\n", "a 1\na 1\n", "a{b=c} 1\n", "a{b=\"\\t\"} 1\n",
        "a{b=\"c\"d=\"e\"} 1\n", "a{b=\"c\"} 1\na{b=\"c\"} 2\n", "# TYPE a counter\n", "\n", "a{le=\"1\"} 1\n"}) {
    EXPECT_THROW(test::ExpositionReader::read(head + bad), std::exception) << bad;
  }
}

}  // namespace
}  // namespace store
