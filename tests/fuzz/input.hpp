// A fuzzer's input, taken apart from the front: numbers, choices and stretches of bytes. When it runs dry everything is 0, so
// that every input means something and a prefix of an input means almost the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>

namespace store::fuzz {

class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  std::size_t left() const { return bytes_.size(); }

  std::span<const std::uint8_t> take(std::size_t bytes) {
    const auto taken = bytes_.first(std::min(bytes, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }
  template <class T>
  T number() {
    T value = 0;
    const auto bytes = take(sizeof value);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  std::uint8_t byte() { return number<std::uint8_t>(); }
  // In [0, count). Requires: 1 <= count <= 65536.
  std::size_t choice(std::size_t count) {
    return (count <= 256 ? std::size_t{byte()} : std::size_t{number<std::uint16_t>()}) % count;
  }
  // One of several, of which the first is chosen by 0.
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return *(values.begin() + choice(values.size()));
  }
  // A value for a number on the device: one near a limit, or any.
  std::uint64_t hostile_number() {
    constexpr std::uint64_t k48Bits = (std::uint64_t{1} << 48) - 1;
    constexpr std::uint64_t kLimits[] = {
        0,          1,           2,       3,          4,          5,         8,        16,
        31,         32,          127,     128,        168,        255,       0x7fff,   0x8000,
        0xffff,     31'743,      31'744,  65'536,     1u << 18,   1u << 30,  1u << 31, 0xffffffff,
        1ull << 32, k48Bits - 1, k48Bits, 1ull << 62, 1ull << 63, ~0ull - 1, ~0ull};
    const std::uint8_t which = byte();
    return which < std::size(kLimits) ? kLimits[which] : number<std::uint64_t>();
  }
  // A length byte and so many bytes.
  std::string text() {
    const auto bytes = take(byte());
    return {bytes.begin(), bytes.end()};
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace store::fuzz
