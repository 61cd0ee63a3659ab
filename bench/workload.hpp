// The keys and values that all sides of a benchmark use: keys of 16 bytes, the hex digits of a mixed index, values of 100
// bytes that do not compress.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace bench {

inline constexpr std::uint64_t kKeys = 1'000'000;
inline constexpr std::size_t kKeyBytes = 16;
inline constexpr std::size_t kValueBytes = 100;

// A bijection, so that keys in the order of their indexes are in random order.
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class Key {
 public:
  explicit Key(std::uint64_t index) {
    const std::uint64_t mixed = mix(index);
    for (std::size_t i = 0; i < kKeyBytes; ++i) text_[i] = "0123456789abcdef"[(mixed >> (60 - 4 * i)) & 15];
  }
  std::string_view view() const { return {text_, kKeyBytes}; }

 private:
  char text_[kKeyBytes];
};

// Values are slices of one random text.
class Values {
 public:
  Values() {
    std::mt19937_64 random(42);
    text_.resize(64u << 10);
    for (char& c : text_) c = static_cast<char>(random());
  }
  std::string_view of(std::uint64_t index) const {
    return std::string_view(text_).substr(mix(index) % (text_.size() - kValueBytes), kValueBytes);
  }

 private:
  std::string text_;
};

}  // namespace bench
