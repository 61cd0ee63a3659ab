// main() of every test program: GoogleTest plus --seed=N, which randomised tests read through requested_seed().
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "support/seed.hpp"

namespace store::test {
namespace {
std::optional<std::uint64_t> g_seed;
}

std::optional<std::uint64_t> requested_seed() { return g_seed; }

}  // namespace store::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const char* text = std::getenv("STORE_SEED")) store::test::g_seed = std::strtoull(text, nullptr, 0);
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg.starts_with("--seed=")) store::test::g_seed = std::strtoull(argv[i] + 7, nullptr, 0);
  }
  return RUN_ALL_TESTS();
}
