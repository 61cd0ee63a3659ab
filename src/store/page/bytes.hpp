// Reading and writing little-endian integers at any address of a page. memcpy keeps unaligned access defined;
// compilers turn each of these into one instruction.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "store/base/units.hpp"

namespace store {

static_assert(std::endian::native == std::endian::little, "the format is little endian and read without swapping");

inline constexpr std::uint64_t kMask48 = (std::uint64_t{1} << 48) - 1;

template <class T>
inline T load(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <class T>
inline void put(std::byte* at, T value) noexcept {
  std::memcpy(at, &value, sizeof value);
}

// Six bytes. Reads exactly six, since a field may end the buffer.
inline std::uint64_t load48(const std::byte* at) noexcept {
  return load<std::uint32_t>(at) | (std::uint64_t{load<std::uint16_t>(at + 4)} << 32);
}

inline void put48(std::byte* at, std::uint64_t value) noexcept {
  put(at, static_cast<std::uint32_t>(value));
  put(at + 4, static_cast<std::uint16_t>(value >> 32));
}

// Keys are short, and often just written word by word: copied in words they need neither a call nor, as one wide load would, to
// wait until those words have left the core's store buffer.
inline std::byte* copy_key(std::byte* to, std::string_view key) noexcept {
  const char* from = key.data();
  const std::size_t bytes = key.size();
  const auto copy = [&]<class T>(T word, std::size_t at) {
    std::memcpy(&word, from + at, sizeof word);
    std::memcpy(to + at, &word, sizeof word);
  };
  if (bytes >= 8) {
    for (std::size_t at = 0; at < bytes - 8; at += 8) copy(std::uint64_t{}, at);
    copy(std::uint64_t{}, bytes - 8);
  } else if (bytes >= 4) {
    copy(std::uint32_t{}, 0);
    copy(std::uint32_t{}, bytes - 4);
  } else {
    for (std::size_t at = 0; at < bytes; ++at) to[at] = static_cast<std::byte>(from[at]);
  }
  return to + bytes;
}

inline std::string_view text_at(const std::byte* at, std::size_t bytes) noexcept {
  return {reinterpret_cast<const char*>(at), bytes};
}

}  // namespace store
