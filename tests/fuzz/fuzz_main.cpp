// What libFuzzer calls, in the program of the target that STORE_FUZZ_TARGET names.
#include <cstddef>
#include <cstdint>

#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  store::fuzz::STORE_FUZZ_TARGET(store::fuzz::Bytes(data, size));
  return 0;
}
