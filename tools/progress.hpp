// One line on a terminal that says how far a long command is: amount, rate, time left. Says nothing where standard error
// is no terminal, so that pipes and logs stay clean. Belongs to the command that makes it; the line is wiped at its end, unless
// it was finished.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace store::tool {

enum class Unit { bytes, entries };

class Progress {
 public:
  // `what` names the work ("load"); `total` is the amount at its end, 0 when it is not known.
  Progress(std::string what, Unit unit, std::uint64_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  // Reports the amount done so far. Cheap enough for every record: it looks at the clock every 64 calls and draws at
  // most five times a second.
  void at(std::uint64_t done) {
    if (active_ && ++calls_ % 64 == 0) draw(done);
  }
  // Leaves the line standing, with the amount and rate of the whole.
  void finish(std::uint64_t done);

 private:
  using Clock = std::chrono::steady_clock;

  void draw(std::uint64_t done);
  double seconds() const;

  const std::string what_;
  const Unit unit_;
  const std::uint64_t total_;
  const bool active_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point next_draw_ = start_ + std::chrono::milliseconds(500);
  std::uint64_t calls_ = 0;
  bool drawn_ = false;
};

// The line itself, for `done` of `total` after `seconds`.
std::string progress_line(const std::string& what, Unit unit, std::uint64_t done, std::uint64_t total, double seconds);

// "12.3 MiB", "7 B".
std::string human_bytes(double bytes);

}  // namespace store::tool
