// The C API: any bytes as a sequence of calls, beside a model (unit/capi/calls.hpp says which calls). Stores are real ones, in files.
#include <gtest/gtest.h>

#include <cstdint>

#include "fuzz/input.hpp"
#include "fuzz/targets.hpp"
#include "support/temp_dir.hpp"
#include "unit/capi/calls.hpp"

namespace store::fuzz {
namespace {

class InputChoices final : public test::Choices {
 public:
  explicit InputChoices(Bytes bytes) : input_(bytes) {}

  std::size_t below(std::size_t end) override { return input_.choice(end); }
  bool more() override { return !input_.empty(); }

 private:
  Input input_;
};

}  // namespace

void run_calls(Bytes bytes) {
  static const test::TempDir directory;
  InputChoices choices(bytes);
  test::make_calls(choices, directory.path());
  require(!testing::Test::HasFailure(), "the C API went another way than its model");
}

}  // namespace store::fuzz
