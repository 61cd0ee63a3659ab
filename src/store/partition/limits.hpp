// The limits of keys and values, checked in one place: every verb that takes a key or a value comes through here before
// it changes anything.
#pragma once

#include <store/error.hpp>
#include <string>
#include <string_view>

#include "store/base/units.hpp"

namespace store {

[[noreturn]] void throw_bad_key(std::size_t key_bytes);
[[noreturn]] void throw_bad_bound(std::size_t bytes);
[[noreturn]] void throw_bad_value(std::size_t value_bytes);
[[noreturn]] void throw_out_of_order(std::string_view last, std::string_view key);

inline void check_key(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) [[unlikely]]
    throw_bad_key(key.size());
}
// The bound of a range to be erased: "" is before every key.
inline void check_bound(std::string_view bound) {
  if (bound.size() > kMaxKeyBytes) [[unlikely]]
    throw_bad_bound(bound.size());
}
inline void check_value(std::string_view value) {
  if (value.size() > kMaxValueBytes) [[unlikely]]
    throw_bad_value(value.size());
}
// The keys of a bulk load, each once: `last` is the one before, "" before the first.
inline void check_ascends(std::string_view last, std::string_view key) {
  if (key <= last) [[unlikely]]
    throw_out_of_order(last, key);
}

}  // namespace store
