#include "store/wal/log_space.hpp"

#include <algorithm>

#include "store/base/assert.hpp"

namespace store {

namespace {
std::uint64_t bytes_of(const Extent& segment) noexcept { return std::uint64_t{segment.count} * kPageBytes; }
}  // namespace

std::uint64_t LogLayout::total_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const Extent& segment : segments) bytes += bytes_of(segment);
  return bytes;
}

Extent LogLayout::locate(Lsn lsn, std::uint64_t blocks) const noexcept {
  STORE_ASSERT(lsn >= begin.lsn && lsn < end());
  std::uint64_t at = offset + (lsn.value - begin.lsn.value);
  for (const Extent& segment : segments) {
    if (at >= bytes_of(segment)) {
      at -= bytes_of(segment);
      continue;
    }
    const auto skipped = static_cast<std::uint32_t>(at / kPageBytes);
    const std::uint64_t there = segment.count - skipped;
    return {PageNo(segment.first.value + skipped), static_cast<std::uint32_t>(std::min(blocks, there))};
  }
  STORE_ASSERT(false);
}

LogLayout LogLayout::starting_at(LogPosition from) const {
  STORE_ASSERT(from.lsn >= begin.lsn && from.lsn <= end());
  LogLayout later = *this;
  later.begin = from;
  later.offset += from.lsn.value - begin.lsn.value;
  if (segments.empty()) return later;
  std::size_t passed = 0;
  for (; passed < segments.size() && later.offset >= bytes_of(segments[passed]); ++passed) {
    later.offset -= bytes_of(segments[passed]);
  }
  std::ranges::rotate(later.segments, later.segments.begin() + static_cast<std::ptrdiff_t>(passed % segments.size()));
  return later;
}

LogLayout layout_of(const Meta& meta) {
  LogLayout layout;
  layout.begin = {Lsn(meta.log_lsn), meta.log_previous_crc};
  layout.offset = meta.log_offset;
  layout.segments.assign(meta.log_segments.begin(), meta.log_segments.begin() + meta.log_segment_count);
  return layout;
}

void put_layout(const LogLayout& layout, Meta& meta) noexcept {
  STORE_ASSERT(layout.segments.size() <= kMaxLogSegments);
  meta.log_lsn = layout.begin.lsn.value;
  meta.log_previous_crc = layout.begin.previous_crc;
  meta.log_offset = layout.offset;
  meta.log_segment_count = static_cast<std::uint32_t>(layout.segments.size());
  meta.log_segments = {};
  std::ranges::copy(layout.segments, meta.log_segments.begin());
}

}  // namespace store
