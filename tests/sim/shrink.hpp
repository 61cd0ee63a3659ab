// Looks for the fewest operations of a life with which a seed still shows a violation.
#pragma once

#include <cstdint>
#include <monterey/fixed_bufs.hpp>
#include <vector>

#include "sim/faults.hpp"

namespace store::test {

// How many operations a life can have: those of plan_of().
inline constexpr std::size_t kMostOperations = 8 * 24;

// Leaves out operations, in ever smaller stretches, as long as the seed violates without them. Every try is a process of its
// own, since a violation may be an assertion. Returns those that are left.
std::vector<char> shrink(const FaultEntry& fault, const FaultContext& context, std::uint64_t seed);

}  // namespace store::test
