// The judge of the crash test, on histories written down by hand: what it must refuse, and what it must let pass.
#include "crash/history.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crash/names.hpp"

namespace store::crash {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kErased = Change::kErased;
constexpr std::uint32_t kA = 0;
constexpr std::uint32_t kB = 1;
constexpr std::uint32_t kC = 2;

// Three keys. Operations are numbered from 101, their values have 20 bytes.
class CrashHistory : public testing::Test {
 protected:
  CrashHistory() { history_.before.resize(3); }

  struct When {
    std::uint64_t began;
    std::uint64_t completed;  // 0: never
  };
  enum class Durable { no, yes };

  void add(When when, std::vector<Change> changes, Durable durable = Durable::no) {
    Operation operation;
    operation.number = 101 + history_.operations.size();
    operation.began = when.began;
    operation.completed = when.completed;
    operation.durable = durable == Durable::yes;
    operation.changes = std::move(changes);
    history_.operations.push_back(std::move(operation));
  }

  std::vector<std::string> judge_found(std::vector<std::uint64_t> operations) const {
    std::vector<Held> found;
    for (const std::uint64_t operation : operations) found.push_back({operation, operation == 0 ? 0 : kBytes});
    return judge(history_, found);
  }

  static constexpr std::uint64_t kBytes = 20;
  History history_;
};

TEST_F(CrashHistory, LetsEveryPrefixPass) {
  add({1, 2}, {{kA, kBytes}});
  add({3, 4}, {{kB, kBytes}});
  add({5, 6}, {{kA, kBytes}, {kC, kBytes}});
  add({7, 0}, {{kB, kErased}});
  EXPECT_THAT(judge_found({0, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({101, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({101, 102, 0}), IsEmpty());
  EXPECT_THAT(judge_found({103, 102, 103}), IsEmpty());
  EXPECT_THAT(judge_found({103, 0, 103}), IsEmpty());
}

TEST_F(CrashHistory, RefusesWhatIsNoPrefix) {
  add({1, 2}, {{kA, kBytes}});
  add({3, 4}, {{kB, kBytes}});
  EXPECT_THAT(judge_found({0, 102, 0}), ElementsAre(HasSubstr("not a prefix")));
}

TEST_F(CrashHistory, LetsOperationsSideBySideGoInEitherOrder) {
  add({1, 4}, {{kA, kBytes}});
  add({2, 3}, {{kB, kBytes}});
  EXPECT_THAT(judge_found({101, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({0, 102, 0}), IsEmpty());
}

TEST_F(CrashHistory, RefusesTheLossOfWhatIsDurable) {
  add({1, 2}, {{kA, kBytes}}, Durable::yes);
  EXPECT_THAT(judge_found({101, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({0, 0, 0}), ElementsAre(HasSubstr("holds nothing, but")));
  history_.before[kA] = {7, kBytes};
  EXPECT_THAT(judge_found({7, 0, 0}), ElementsAre(HasSubstr("acknowledged as durable, and lost")));
}

TEST_F(CrashHistory, RefusesTheLossOfADurableErasure) {
  history_.before[kA] = {7, kBytes};
  add({1, 2}, {{kA, kErased}}, Durable::yes);
  EXPECT_THAT(judge_found({0, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({7, 0, 0}), ElementsAre(HasSubstr("acknowledged as durable, and lost")));
}

TEST_F(CrashHistory, LetsADurableWriteBeOverwritten) {
  add({1, 2}, {{kA, kBytes}}, Durable::yes);
  add({3, 0}, {{kA, kBytes}});
  add({4, 0}, {{kA, kErased}});
  EXPECT_THAT(judge_found({102, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({0, 0, 0}), IsEmpty());
}

TEST_F(CrashHistory, RefusesHalfABatch) {
  add({1, 0}, {{kA, kBytes}, {kB, kBytes}});
  EXPECT_THAT(judge_found({101, 101, 0}), IsEmpty());
  EXPECT_THAT(judge_found({0, 0, 0}), IsEmpty());
  history_.before[kB] = {7, kBytes};
  EXPECT_THAT(judge_found({101, 7, 0}), ElementsAre(HasSubstr("half of a batch of 2")));
  history_.before[kB] = {};
  EXPECT_THAT(judge_found({101, 0, 0}), ElementsAre(HasSubstr("known to have survived")));
}

TEST_F(CrashHistory, RefusesWhatWasNeverWritten) {
  add({1, 2}, {{kA, kBytes}});
  EXPECT_THAT(judge_found({0, 101, 0}), ElementsAre(HasSubstr("never wrote that")));
  EXPECT_THAT(judge_found({55, 0, 0}), ElementsAre(HasSubstr("before the last verification")));
  history_.before[kC] = {7, kBytes};
  EXPECT_THAT(judge_found({0, 0, 0}), ElementsAre(HasSubstr("its value is gone")));
}

TEST_F(CrashHistory, FindsTheErasureThatSuits) {
  add({1, 2}, {{kA, kErased}});
  add({3, 4}, {{kB, kBytes}});
  add({5, 6}, {{kA, kBytes}});
  add({7, 8}, {{kA, kErased}});
  add({9, 10}, {{kC, kBytes}});
  EXPECT_THAT(judge_found({0, 0, 0}), IsEmpty());
  EXPECT_THAT(judge_found({0, 102, 0}), IsEmpty());
  EXPECT_THAT(judge_found({0, 102, 105}), IsEmpty());
  EXPECT_THAT(judge_found({103, 102, 105}), ElementsAre(HasSubstr("not a prefix")));
}

// Neither empty key is wrong by itself: one wants the cut before the moment 3, the other after 6.
TEST_F(CrashHistory, RefusesEmptyKeysThatNoMomentSuits) {
  history_.before[kB] = {7, kBytes};
  add({1, 2}, {{kC, kBytes}});
  add({3, 4}, {{kA, kBytes}});
  add({5, 6}, {{kB, kErased}});
  EXPECT_THAT(judge_found({0, 0, 101}), ElementsAre(HasSubstr("not a prefix: no moment")));
  EXPECT_THAT(judge_found({102, 0, 101}), IsEmpty());
}

TEST(CrashNames, TellEveryByte) {
  for (const std::uint32_t bytes : {16u, 17u, 100u, 5000u}) {
    std::string text = value_text({12, 34, bytes});
    const auto name = value_name(text);
    ASSERT_TRUE(name);
    EXPECT_EQ(name->operation, 12u);
    EXPECT_EQ(name->key, 34u);
    for (std::size_t at = 0; at < text.size(); at += 7) {
      text[at] = static_cast<char>(text[at] ^ 1);
      EXPECT_TRUE(bytes == 16 || !value_name(text)) << at;
      text[at] = static_cast<char>(text[at] ^ 1);
    }
    text.pop_back();
    EXPECT_FALSE(value_name(text));
  }
  for (std::uint32_t key = 0; key < 5000; ++key) EXPECT_EQ(key_number(key_text(key)), key);
  EXPECT_FALSE(key_number(key_text(17) + "x"));
}

}  // namespace
}  // namespace store::crash
