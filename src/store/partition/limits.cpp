#include "store/partition/limits.hpp"

#include <fmt/format.h>

namespace store {

void throw_bad_key(std::size_t key_bytes) {
  throw Error(Errc::invalid_argument, fmt::format("key of {} bytes: a key has 1 to {} bytes", key_bytes, kMaxKeyBytes));
}

void throw_bad_bound(std::size_t bytes) {
  throw Error(Errc::invalid_argument,
              fmt::format("bound of {} bytes: the bounds of a range have at most {} bytes", bytes, kMaxKeyBytes));
}

void throw_bad_value(std::size_t value_bytes) {
  throw Error(Errc::invalid_argument,
              fmt::format("value of {} bytes: a value has at most {} bytes", value_bytes, kMaxValueBytes));
}

}  // namespace store
