// Calls of the C API that somebody chooses, a random generator or a fuzzer: on handles that are alive, closed, NULL or of another kind, with arguments
// that are right or cannot be, beside a model in maps.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>

namespace store::test {

class Choices {
 public:
  Choices() = default;
  Choices(const Choices&) = delete;
  Choices& operator=(const Choices&) = delete;
  virtual ~Choices() = default;

  // A number in [0, end). Requires: end > 0.
  virtual std::size_t below(std::size_t end) = 0;
  // Whether there is to be another call.
  virtual bool more() = 0;
};

// Makes the calls, on stores in files of the directory, which it removes. What goes another way than the model is a failed expectation
// of the running test, after which it ends.
void make_calls(Choices& choices, const std::string& directory);

// The functions of store.h that were called so far.
const std::set<std::string_view>& functions_called();

}  // namespace store::test
