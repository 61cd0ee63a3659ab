// A fuzzer's input, taken apart from the front: numbers, choices and stretches of bytes. When it runs dry everything is 0, so
// that every input means something and a prefix of an input means almost the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
  // A length byte and so many bytes.
  std::string text() {
    const auto bytes = take(byte());
    return {bytes.begin(), bytes.end()};
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace store::fuzz
