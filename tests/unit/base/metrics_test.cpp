// The numbers of Stats by name, and what Prometheus reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include <store/metrics.hpp>

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

}  // namespace
}  // namespace store
