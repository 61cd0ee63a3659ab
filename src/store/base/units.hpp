// Sizes and limits of the format and of the API, each named once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace store {

inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::size_t kMaxKeyBytes = 1024;
inline constexpr std::size_t kMaxInlineValueBytes = 1024;         // longer values live in overflow runs
inline constexpr std::size_t kMaxBufferedValueBytes = 64u << 10;  // longer values go to their run at put
inline constexpr std::uint64_t kMaxValueBytes = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kMaxBatchBytes = std::uint64_t{1} << 30;
inline constexpr std::size_t kMaxBatchRanges = 64;                   // erase_range in a batch, hence in a log record
inline constexpr std::uint64_t kMaxBlocks = std::uint64_t{1} << 32;  // 16 TiB
inline constexpr std::size_t kCrcChunkBytes = 64u << 10;             // one CRC of a long value's table

// Blocks that hold `bytes`.
constexpr std::uint64_t blocks_for(std::uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes; }

}  // namespace store
