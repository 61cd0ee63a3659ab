// Where the log lies: its segments, laid end to end from the one in which replay begins, and so the map from LSNs to
// blocks. A meta page names one such layout; with the next commit the segments before its replay position go to the end.
// Invariant: an LSN at or behind `begin` keeps its block in every later layout that still contains it.
#pragma once

#include <cstdint>
#include <vector>

#include "store/page/meta.hpp"
#include "store/wal/log_format.hpp"

namespace store {

struct LogLayout {
  LogPosition begin;             // where replay begins
  std::uint64_t offset = 0;      // where that is, in bytes into the first segment
  std::vector<Extent> segments;  // in the order in which they are used

  std::uint64_t total_bytes() const noexcept;
  // The LSN behind the last byte.
  Lsn end() const noexcept { return Lsn(begin.lsn.value + total_bytes() - offset); }
  // The longest piece of [lsn, lsn + blocks * kPageBytes) whose blocks are neighbours, from its start on.
  // Requires: begin <= lsn < end().
  Extent locate(Lsn lsn, std::uint64_t blocks) const noexcept;
  // The layout in which replay begins at `from`: what lies before it is used again. Requires: begin <= from <= end().
  LogLayout starting_at(LogPosition from) const;
};

LogLayout layout_of(const Meta& meta);
// Requires: at most kMaxLogSegments segments.
void put_layout(const LogLayout& layout, Meta& meta) noexcept;

}  // namespace store
