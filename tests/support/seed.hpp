// The seed of a randomised test: --seed=N on the command line or STORE_SEED in the environment replays a run.
#pragma once

#include <cstdint>
#include <optional>

namespace store::test {

// The seed asked for, if one was.
std::optional<std::uint64_t> requested_seed();

}  // namespace store::test
