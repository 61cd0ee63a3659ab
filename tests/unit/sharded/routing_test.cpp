// Which shard a key belongs to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <store/error.hpp>

#include "store/sharded/routing.hpp"

namespace store::detail {
namespace {

using testing::HasSubstr;

std::string refusal(Router::Kind kind, unsigned shards, std::vector<std::string> points) {
  try {
    Routing(kind, shards, std::move(points));
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
    return error.what();
  }
  return "";
}

// The map is part of the format: these must never change.
TEST(Routing, HashIsOfTheFormat) {
  const Routing routing(Router::Kind::hash, 8, {});
  EXPECT_EQ(routing.shard_of("a"), 4u);
  EXPECT_EQ(routing.shard_of("key000001"), 5u);
  EXPECT_EQ(routing.shard_of("key000002"), 4u);
  EXPECT_EQ(routing.shard_of(std::string(1024, 'x')), 5u);
}

TEST(Routing, HashIsEven) {
  for (const unsigned shards : {2u, 3u, 8u}) {
    const Routing routing(Router::Kind::hash, shards, {});
    std::vector<int> counts(shards);
    constexpr int kKeys = 30'000;
    for (int i = 0; i < kKeys; ++i) ++counts[routing.shard_of(fmt::format("user{:08}", i))];
    for (const int count : counts) EXPECT_NEAR(count, kKeys / shards, kKeys / shards / 20) << shards << " shards";
  }
}

TEST(Routing, RangesBeginAtTheirPoints) {
  const Routing routing(Router::Kind::ranges, 3, {"g", "p"});
  EXPECT_EQ(routing.shard_of("a"), 0u);
  EXPECT_EQ(routing.shard_of("fzz"), 0u);
  EXPECT_EQ(routing.shard_of("g"), 1u);
  EXPECT_EQ(routing.shard_of("ozz"), 1u);
  EXPECT_EQ(routing.shard_of("p"), 2u);
  EXPECT_EQ(routing.shard_of("\xff\xff"), 2u);
}

TEST(Routing, TellsTheShardsOfARange) {
  const Routing routing(Router::Kind::ranges, 3, {"g", "p"});
  const auto range = [&](std::string from, std::optional<std::string> to) {
    const ShardRange shards = routing.shards_of(from, to);
    return std::array<unsigned, 2>{shards.first, shards.end};
  };
  EXPECT_EQ(range("", std::nullopt), (std::array<unsigned, 2>{0, 3}));
  EXPECT_EQ(range("a", "g"), (std::array<unsigned, 2>{0, 1})) << "the end is not of the range";
  EXPECT_EQ(range("a", "ga"), (std::array<unsigned, 2>{0, 2}));
  EXPECT_EQ(range("g", "p"), (std::array<unsigned, 2>{1, 2}));
  EXPECT_EQ(range("h", "z"), (std::array<unsigned, 2>{1, 3}));
  EXPECT_EQ(range("q", std::nullopt), (std::array<unsigned, 2>{2, 3}));
  const Routing hash(Router::Kind::hash, 4, {});
  EXPECT_EQ(hash.shards_of("a", "b").end, 4u);
}

TEST(Routing, RefusesWhatCannotBe) {
  EXPECT_THAT(refusal(Router::Kind::hash, 0, {}), HasSubstr("0 shards"));
  EXPECT_THAT(refusal(Router::Kind::hash, 1025, {}), HasSubstr("1 to 1024"));
  EXPECT_THAT(refusal(Router::Kind::ranges, 3, {"a"}), HasSubstr("1 split points for 3 shards"));
  EXPECT_THAT(refusal(Router::Kind::ranges, 3, {"b", "a"}), HasSubstr("split point 2 does not come behind"));
  EXPECT_THAT(refusal(Router::Kind::ranges, 3, {"a", "a"}), HasSubstr("split point 2 does not come behind"));
  EXPECT_THAT(refusal(Router::Kind::ranges, 2, {""}), HasSubstr("split point 1 has 0 bytes"));
  EXPECT_THAT(refusal(Router::Kind::ranges, 2, {std::string(1025, 'a')}), HasSubstr("split point 1 has 1025 bytes"));
}

TEST(UserKey, MayNotBeOfTheStoresOwn) {
  EXPECT_NO_THROW(check_user_key(std::string(63, '\xff')));
  EXPECT_THROW(check_user_key(std::string(64, '\xff')), Error);
  EXPECT_THROW(check_user_key(""), Error);
  EXPECT_THROW(check_user_key(std::string(1025, 'a')), Error);
  EXPECT_EQ(end_of_users(std::nullopt), std::string(64, '\xff'));
  EXPECT_EQ(end_of_users(std::string(70, '\xff')), std::string(64, '\xff'));
  EXPECT_EQ(end_of_users("b"), "b");
}

}  // namespace
}  // namespace store::detail
