// What a benchmark makes of its rounds: the ratio of two contenders is the median of the ratios within a round, and nothing is
// concluded where the yardstick's own quartiles lie further apart than a factor of two: the machine changed under the run.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace bench {

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Requires of all: at least one value.
inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// The median of ours / theirs, round by round. Requires: as many rounds of both.
inline double median_ratio(const std::vector<double>& ours, const std::vector<double>& theirs) {
  std::vector<double> ratios;
  for (std::size_t round = 0; round < ours.size(); ++round) ratios.push_back(ours[round] / theirs[round]);
  return median(ratios);
}

// The factor between the quartiles.
inline double spread(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t quarter = values.size() / 4;
  return values[values.size() - 1 - quarter] / values[quarter];
}

inline const char* verdict(double ratio, double target, const std::vector<double>& yardstick) {
  if (spread(yardstick) > 2) return "inconclusive";
  return ratio >= target ? "reached" : "missed";
}

}  // namespace bench
