// Random calls, as calls.hpp has them. The seed is printed; STORE_SEED or --seed=N replays it.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <regex>
#include <set>
#include <string>

#include "support/seed.hpp"
#include "support/temp_dir.hpp"
#include "unit/capi/calls.hpp"

namespace store::test {
namespace {

class RandomChoices final : public Choices {
 public:
  RandomChoices(std::uint64_t seed, int calls) : random_(seed), left_(calls) {}
  std::size_t below(std::size_t end) override { return random_() % end; }
  bool more() override { return left_-- > 0; }

 private:
  std::mt19937_64 random_;
  int left_;
};

std::set<std::string> declared_functions() {
  std::ifstream file(STORE_H);
  const std::string header((std::istreambuf_iterator<char>(file)), {});
  const std::regex declaration(R"(STORE_API [^;(]*?(store_\w+)\()");
  std::set<std::string> names;
  for (auto at = std::sregex_iterator(header.begin(), header.end(), declaration); at != std::sregex_iterator(); ++at) {
    names.insert((*at)[1]);
  }
  return names;
}

TEST(CapiRandomCalls, DoAsTheModelAndLeaveNoFunctionOut) {
  const std::uint64_t seed = requested_seed().value_or(std::random_device()());
  std::printf("seed: %llu (STORE_SEED replays it)\n", static_cast<unsigned long long>(seed));
  const TempDir temp;
  RandomChoices choices(seed, 5000);
  make_calls(choices, temp.path());
  const std::set<std::string> called(functions_called().begin(), functions_called().end());
  EXPECT_EQ(called, declared_functions());
}

}  // namespace
}  // namespace store::test
