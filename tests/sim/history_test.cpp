// The judge of the simulation, by itself: what must be called wrong, and what must not.
#include <gtest/gtest.h>

#include "sim/history.hpp"

namespace store::test {
namespace {

using Kind = History::Kind;
using Outcome = History::Outcome;
using std::chrono::nanoseconds;

// Writes by name: `value(op)` puts key 0.
class HistoryTest : public testing::Test {
 protected:
  static ValueId value(std::uint32_t op, std::uint32_t part = 0) { return {op, part, 16}; }
  std::uint32_t begin(std::vector<History::Change> changes) { return history.begin(Kind::write, std::move(changes)); }
  void end(std::uint32_t op, Outcome outcome = Outcome::applied) { history.end(op, outcome, nanoseconds(0)); }
  std::uint32_t put(std::uint32_t key) {
    const std::uint32_t op = begin({{key, value(history.next_op())}});
    end(op);
    return op;
  }
  std::string check(std::vector<Seen> seen, std::uint64_t must_before) {
    return history.check_view(seen, must_before, history.now());
  }

  KeySpace keys{8};
  History history{keys, 1};
};

TEST_F(HistoryTest, AValueIsItsName) {
  const ValueId id{7, 3, 1000};
  std::string text = make_value(id);
  EXPECT_EQ(parse_value(text), id);
  text[900] = static_cast<char>(text[900] ^ 1);
  EXPECT_EQ(parse_value(text), std::nullopt);
}

TEST_F(HistoryTest, APrefixIsRight) {
  const std::uint32_t first = put(0);
  const std::uint32_t second = put(1);
  EXPECT_EQ(check({{0, {}}, {1, {}}}, 0), "");
  EXPECT_EQ(check({{0, value(first)}, {1, {}}}, 0), "");
  EXPECT_EQ(check({{0, value(first)}, {1, value(second)}}, 0), "");
}

TEST_F(HistoryTest, AGapIsWrong) {
  put(0);
  const std::uint32_t second = put(1);
  EXPECT_NE(check({{0, {}}, {1, value(second)}}, 0), "");
}

TEST_F(HistoryTest, WhatIsDurableMustBeThere) {
  put(0);
  const std::uint64_t durable = history.tick();
  EXPECT_NE(check({{0, {}}}, durable), "");
}

TEST_F(HistoryTest, AnOlderValueIsWrongOnceTheNewerIsDurable) {
  const std::uint32_t first = put(0);
  put(0);
  EXPECT_EQ(check({{0, value(first)}}, 0), "");
  EXPECT_NE(check({{0, value(first)}}, history.tick()), "");
}

TEST_F(HistoryTest, HalfABatchIsWrong) {
  const std::uint32_t batch = begin({{0, value(1, 0)}, {1, value(1, 1)}});
  EXPECT_EQ(check({{0, value(batch, 0)}, {1, value(batch, 1)}}, 0), "") << "it may survive unacknowledged";
  EXPECT_NE(check({{0, value(batch, 0)}, {1, {}}}, 0), "");
}

TEST_F(HistoryTest, BatchesThatCrossAreWrong) {
  const std::uint32_t a = begin({{0, value(1, 0)}, {1, value(1, 1)}});
  const std::uint32_t b = begin({{0, value(2, 0)}, {1, value(2, 1)}});
  end(a);
  end(b);
  EXPECT_EQ(check({{0, value(a, 0)}, {1, value(a, 1)}}, history.tick()), "");
  EXPECT_EQ(check({{0, value(b, 0)}, {1, value(b, 1)}}, history.tick()), "");
  EXPECT_NE(check({{0, value(a, 0)}, {1, value(b, 1)}}, 0), "");
}

TEST_F(HistoryTest, AnAbsentKeyNeedsAnErase) {
  put(0);
  const std::uint64_t durable = history.tick();
  const std::uint32_t erase = begin({{0, {}}});
  EXPECT_EQ(check({{0, {}}}, durable), "") << "the erase in flight may have come first";
  end(erase);
  put(0);
  EXPECT_NE(check({{0, {}}}, history.tick()), "");
}

TEST_F(HistoryTest, WhatFailedWithNothingAppliedIsSeenByNobody) {
  const std::uint32_t op = begin({{0, value(1)}});
  end(op, Outcome::nothing);
  EXPECT_NE(check({{0, value(op)}}, 0), "");
}

TEST_F(HistoryTest, WhatFailedOtherwiseMayBeSeen) {
  const std::uint32_t op = begin({{0, value(1)}});
  end(op, Outcome::unknown);
  EXPECT_EQ(check({{0, value(op)}}, 0), "");
  EXPECT_EQ(check({{0, {}}}, history.tick()), "");
}

TEST_F(HistoryTest, ReadsDoNotGoBack) {
  const std::uint32_t first = put(0);
  const std::uint32_t second = put(0);
  history.add_read({0, value(second)}, history.tick(), history.tick());
  EXPECT_EQ(history.check_reads(), "");
  history.add_read({0, value(first)}, history.tick(), history.tick());
  EXPECT_NE(history.check_reads(), "");
}

TEST_F(HistoryTest, AReadOfNothingNeedsAnErase) {
  put(0);
  history.add_read({0, {}}, history.tick(), history.tick());
  EXPECT_NE(history.check_reads(), "");
}

TEST_F(HistoryTest, OneValueIsReplacedOnce) {
  const std::uint32_t first = put(0);
  history.add_replaced({0, value(first)}, put(0));
  EXPECT_EQ(history.check_reads(), "");
  history.add_replaced({0, value(first)}, put(0));
  EXPECT_NE(history.check_reads(), "");
}

}  // namespace
}  // namespace store::test
