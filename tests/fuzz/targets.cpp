#include "fuzz/targets.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>

namespace store::fuzz {

std::span<const Target> targets() {
  static constexpr std::array kTargets{Target{"calls", run_calls},     Target{"formats", run_formats},
                                       Target{"image", run_image},     Target{"log", run_log},
                                       Target{"mutated", run_mutated}, Target{"pages", run_pages}};
  return kTargets;
}

void fail(const std::string& what) {
  std::fprintf(stderr, "fuzz: %s\n", what.c_str());
  std::abort();
}

}  // namespace store::fuzz
