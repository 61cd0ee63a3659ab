#include "store/partition/limits.hpp"

#include <fmt/format.h>

#include "store/partition/key_text.hpp"

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

void throw_out_of_order(std::string_view last, std::string_view key) {
  throw Error(Errc::invalid_argument,
              fmt::format("the keys of a bulk load must ascend: \"{}\" follows \"{}\"{}; nothing was loaded",
                          shown_key(key), shown_key(last), key == last ? ", the same key" : ""));
}

}  // namespace store
