// The randomness of a simulation: small, fast, and the same on every machine (the standard's distributions are not).
// A child() stream depends on its label alone, so that leaving out one decision does not change the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace store::test {

inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class SimRandom {
 public:
  explicit SimRandom(std::uint64_t seed) : seed_(mix(seed)), state_(seed_) {}

  SimRandom child(std::uint64_t label) const { return SimRandom(seed_ ^ mix(label + 1)); }
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15u;
    return mix(state_);
  }
  // 0 .. n - 1. Requires: n > 0.
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  std::uint64_t between(std::uint64_t first, std::uint64_t last) { return first + below(last - first + 1); }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  bool percent(std::uint64_t p) { return below(100) < p; }
  template <class T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + below(from.size()));
  }

 private:
  std::uint64_t seed_;
  std::uint64_t state_;
};

}  // namespace store::test
