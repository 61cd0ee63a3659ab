// Two classes of I/O. Foreground operations are submitted as soon as they are queued; background ones (flush,
// compaction, read-ahead) add at most kBackgroundEntriesPerTurn entries and kBackgroundBytesPerTurn bytes to one loop
// turn, so that a point read beside them never waits for a long submission.
#pragma once

#include <cstddef>
#include <cstdint>

namespace monterey {

enum class IoClass : std::uint8_t { foreground, background };

inline constexpr std::size_t kBackgroundEntriesPerTurn = 16;
inline constexpr std::size_t kBackgroundBytesPerTurn = 256u << 10;

}  // namespace monterey
