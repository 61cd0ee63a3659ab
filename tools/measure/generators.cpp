#include "tools/measure/generators.hpp"

#include <algorithm>
#include <cmath>

namespace measure {
namespace {

constexpr std::uint64_t kScrambledItems = 10'000'000'000;
constexpr double kScrambledZeta = 26.46902820178302;  // of so many items; YCSB has it as a constant, too

double zeta_part(std::uint64_t from, std::uint64_t to) {
  double sum = 0;
  for (std::uint64_t i = from; i < to; ++i) sum += 1 / std::pow(static_cast<double>(i + 1), Zipfian::kTheta);
  return sum;
}

std::uint64_t fnv_hash(std::uint64_t x) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (int i = 0; i < 8; ++i, x >>= 8) hash = (hash ^ (x & 0xFF)) * 1099511628211u;
  const auto as_signed = static_cast<std::int64_t>(hash);
  return as_signed < 0 ? 0 - hash : hash;
}

}  // namespace

Zipfian::Zipfian(std::uint64_t count) : Zipfian(count, zeta_part(0, count)) {}

Zipfian::Zipfian(std::uint64_t count, double zeta) : count_(count), zeta_(zeta) { derive(); }

void Zipfian::grow_to(std::uint64_t count) {
  if (count <= count_) return;
  zeta_ += zeta_part(count_, count);
  count_ = count;
  derive();
}

void Zipfian::derive() {
  const double zeta_of_two = 1 + std::pow(0.5, kTheta);
  eta_ = (1 - std::pow(2 / static_cast<double>(count_), 1 - kTheta)) / (1 - zeta_of_two / zeta_);
}

std::uint64_t Zipfian::next(Random& random) const noexcept {
  const double u = random.fraction();
  const double uz = u * zeta_;
  if (uz < 1 || count_ < 2) return 0;
  if (uz < 1 + std::pow(0.5, kTheta) || count_ < 3) return 1;
  const double rank = static_cast<double>(count_) * std::pow(eta_ * u - eta_ + 1, 1 / (1 - kTheta));
  return std::min(static_cast<std::uint64_t>(rank), count_ - 1);
}

ScrambledZipfian::ScrambledZipfian() : ranks_(kScrambledItems, kScrambledZeta) {}

std::uint64_t ScrambledZipfian::next(Random& random, std::uint64_t count) const noexcept {
  return place(ranks_.next(random), count);
}

std::uint64_t ScrambledZipfian::place(std::uint64_t rank, std::uint64_t count) noexcept {
  return fnv_hash(rank) % count;
}

Permutation::Permutation(std::uint64_t count, std::uint64_t seed) noexcept : count_(count), seed_(seed) {
  while (half_bits_ < 31 && (std::uint64_t{1} << (2 * half_bits_)) < count) ++half_bits_;
}

std::uint64_t Permutation::at(std::uint64_t i) const noexcept {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = i >> half_bits_;
    std::uint64_t right = i & mask;
    for (std::uint64_t round = 1; round <= 4; ++round) {
      const std::uint64_t mixed = left ^ (mix(right + mix(seed_ + round)) & mask);
      left = right;
      right = mixed;
    }
    i = left << half_bits_ | right;
  } while (i >= count_);
  return i;
}

}  // namespace measure
