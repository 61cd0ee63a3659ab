// The fault programme in small: every fault for a few seeds, and 2,000 images of power cuts; and that a run is a function of
// its seed. `store_sim` runs the programme at length.
#include <gtest/gtest.h>

#include "sim/faults.hpp"
#include "support/seed.hpp"

namespace store::test {
namespace {

monterey::FixedBufs& arena() {
  static monterey::FixedBufs memory(Life::arena_bytes());
  return memory;
}

class SimFaults : public testing::TestWithParam<FaultEntry> {};

TEST_P(SimFaults, FindNoViolation) {
  const FaultEntry& fault = GetParam();
  const std::uint64_t images = std::string_view(fault.name) == "power_cut" ? 2'000 : 300;
  FaultContext context{.arena = arena()};
  context.most_images = 400;
  for (std::uint64_t seed = requested_seed().value_or(1); context.images < images; ++seed) {
    context.mode = mode_of(seed);
    const std::string wrong = fault.run(context, seed);
    ASSERT_EQ(wrong, "") << "replay with store_sim --fault " << fault.name << " --wal " << name_of(context.mode)
                         << " --seed " << seed;
    if (requested_seed()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(Sim, SimFaults, testing::ValuesIn(all_faults().begin(), all_faults().end()),
                         [](const auto& fault) { return std::string(fault.param.name); });

std::uint64_t trace_of(WalMode mode, std::uint64_t seed) {
  FaultContext context{.arena = arena()};
  context.mode = mode;
  LifePlan plan = plan_of(context, seed);
  const KeySpace keys(plan.keys);
  plan.images = 20;
  Life life(plan, {}, 1, keys);
  life.run(arena());
  EXPECT_EQ(life.judge(), "");
  EXPECT_FALSE(life.open_error());
  return life.trace_hash();
}

TEST(Sim, OneSeedHasOneTrace) {
  for (const WalMode mode : {WalMode::none, WalMode::batched, WalMode::per_op}) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      EXPECT_EQ(trace_of(mode, seed), trace_of(mode, seed)) << name_of(mode) << ", seed " << seed;
    }
    EXPECT_NE(trace_of(mode, 1), trace_of(mode, 2));
  }
}

}  // namespace
}  // namespace store::test
