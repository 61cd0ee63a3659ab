// Keys and values that say what they are: a key's text gives back its number, and a value names the operation that wrote it, its key
// and its length, and fills the rest from them. So whatever is found in a store can be told from what was never written there,
// byte by byte, without a copy of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace store::crash {

inline constexpr std::uint32_t kMinValueBytes = 16;  // the name itself

// A bijection that scatters.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Most keys are short, some of a hundred bytes, a few near the limit of 1 KiB.
std::string key_text(std::uint32_t key);
// The key with this text, if it is one.
std::optional<std::uint32_t> key_number(std::string_view text);

struct ValueName {
  std::uint64_t operation = 0;
  std::uint32_t key = 0;
  std::uint32_t bytes = 0;  // at least kMinValueBytes
};

std::string value_text(ValueName name);
// Whose value this is; nothing if a single byte is not what value_text() gives.
std::optional<ValueName> value_name(std::string_view text);

}  // namespace store::crash
