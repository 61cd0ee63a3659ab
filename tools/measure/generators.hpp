// Which record comes next, as YCSB draws it (B. F. Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010, and the
// generators of its source). The zipfian numbers are those of J. Gray et al., "Quickly Generating Billion-Record Synthetic
// Databases", SIGMOD 1994. Every generator is a function of its seed.
#pragma once

#include <cstdint>

namespace measure {

// A bijection on 64 bits, and what Random is made of (splitmix64).
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(mix(seed + 0x9E3779B97F4A7C15u)) {}
  std::uint64_t next() noexcept { return mix(state_ += 0x9E3779B97F4A7C15u); }
  // Below `bound`, which is not 0 and at most 2^53.
  std::uint64_t below(std::uint64_t bound) noexcept {
    return static_cast<std::uint64_t>(fraction() * static_cast<double>(bound));
  }
  // In [0, 1).
  double fraction() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

// Ranks below `count`, 0 the most frequent: rank r comes with a share of 1 / (r + 1)^0.99. The number of items may grow.
class Zipfian {
 public:
  static constexpr double kTheta = 0.99;

  explicit Zipfian(std::uint64_t count);
  // With sum over i < count of 1 / (i + 1)^0.99 known already.
  Zipfian(std::uint64_t count, double zeta);

  std::uint64_t next(Random& random) const noexcept;
  // Requires: `count` is not less than it was.
  void grow_to(std::uint64_t count);

 private:
  void derive();

  std::uint64_t count_;
  double zeta_;
  double eta_ = 0;
};

// Zipfian frequencies, the frequent ones spread over all of [0, count) by a hash: YCSB's zipfian requests. Ranks are
// drawn of 10^10 items, so that the same records stay frequent when their number grows.
class ScrambledZipfian {
 public:
  ScrambledZipfian();
  std::uint64_t next(Random& random, std::uint64_t count) const noexcept;
  // Where YCSB's hash (FNV-1a of 64 bits, its sign dropped) puts a rank.
  static std::uint64_t place(std::uint64_t rank, std::uint64_t count) noexcept;

 private:
  Zipfian ranks_;
};

// The numbers below `count`, each once, in an order that looks random: a Feistel network over the next even power of two, gone
// through again until it is below (cycle walking).
class Permutation {
 public:
  Permutation(std::uint64_t count, std::uint64_t seed) noexcept;
  // Requires: i < count.
  std::uint64_t at(std::uint64_t i) const noexcept;

 private:
  std::uint64_t count_;
  std::uint64_t seed_;
  unsigned half_bits_ = 1;
};

// The newest of [0, count) most often: YCSB's latest requests.
class Latest {
 public:
  explicit Latest(std::uint64_t count) : ages_(count) {}
  // Requires: `count` is not less than it was in an earlier call.
  std::uint64_t next(Random& random, std::uint64_t count) {
    ages_.grow_to(count);
    return count - 1 - ages_.next(random);
  }

 private:
  Zipfian ages_;
};

}  // namespace measure
