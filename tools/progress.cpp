#include "tools/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace store::tool {
namespace {

std::string amount(Unit unit, double value) {
  return unit == Unit::bytes ? human_bytes(value) : fmt::format("{:.0f} entries", value);
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
  return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
}

}  // namespace

std::string human_bytes(double bytes) {
  constexpr std::array kUnits{"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{:.0f} B", bytes);
  std::size_t unit = 0;
  for (bytes /= 1024; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  return fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string progress_line(const std::string& what, Unit unit, std::uint64_t done, std::uint64_t total, double seconds) {
  const auto amount_done = static_cast<double>(done);
  const double rate = seconds > 0 ? amount_done / seconds : 0;
  std::string line = fmt::format("{}: {}", what, amount(unit, amount_done));
  if (total > 0) {
    const auto all = static_cast<double>(total);
    line += fmt::format(" of {} ({:.0f} %)", amount(unit, all), std::min(100.0, 100 * amount_done / all));
  }
  line += fmt::format(", {}/s", amount(unit, rate));
  if (total > done && rate > 0) line += fmt::format(", {} left", duration(static_cast<double>(total - done) / rate));
  return line;
}

Progress::Progress(std::string what, Unit unit, std::uint64_t total)
    : what_(std::move(what)), unit_(unit), total_(total), active_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

void Progress::finish(std::uint64_t done) {
  if (!active_) return;
  fmt::print(stderr, "\r{} in {:.1f} s\x1b[K\n", progress_line(what_, unit_, done, 0, seconds()), seconds());
  drawn_ = false;
}

void Progress::draw(std::uint64_t done) {
  const Clock::time_point now = Clock::now();
  if (now < next_draw_) return;
  next_draw_ = now + std::chrono::milliseconds(200);
  fmt::print(stderr, "\r{}\x1b[K", progress_line(what_, unit_, done, total_, seconds()));
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace store::tool
