// Overflow runs: contiguous blocks that hold one value. The value lies raw from the run's first byte on; the bytes
// behind it are zero. What names the run is an OverflowRef in a leaf's cell. Where no free blocks lie in a row any more, a run of
// up to kMaxScatteredBlocks is scattered instead: each block lies for itself, and the cell names the others behind the reference.
//
//   length <= 64 KiB   run_blocks = blocks of the value; the reference's CRC is the value's.
//   length  > 64 KiB   the run's last table_bytes() hold a table of CRC32C (u32), one for each 64 KiB chunk of the
//                      value, the last one for what is left; the reference's CRC is the table's. So a part can be read
//                      and verified.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "store/base/ids.hpp"
#include "store/base/units.hpp"

namespace store {

struct OverflowRef {
  PageNo first;              // the run's first block
  std::uint64_t length = 0;  // of the value, in bytes
  std::uint32_t crc = 0;     // of the value, or of its table of CRCs
  Generation birth{};  // the generation whose commit first reached the run; what a release of its blocks is gated by

  constexpr bool operator==(const OverflowRef&) const = default;
};

// The blocks of the longest value that a write buffer takes, which must find room wherever blocks are free.
inline constexpr std::size_t kMaxScatteredBlocks = blocks_for(kMaxBufferedValueBytes);

// A run as a leaf names it.
struct OverflowRun : OverflowRef {
  OverflowRun() noexcept = default;
  OverflowRun(const OverflowRef& ref) noexcept : OverflowRef(ref) {}  // in a row; a plain reference is one

  bool is_scattered() const noexcept { return other_count > 0; }
  // Of a scattered one: its i-th block.
  std::uint32_t block(std::uint32_t i) const noexcept { return i == 0 ? first.value : others[i - 1]; }
  void set_block(std::uint32_t i, std::uint32_t block) noexcept {
    if (i == 0) first = PageNo(block);
    if (i > 0) others[i - 1] = block;
  }

  std::uint32_t other_count = 0;  // of a scattered one the blocks behind the first, else 0
  std::array<std::uint32_t, kMaxScatteredBlocks - 1> others{};  // those, in the value's order
};

// A reference as it stands in a leaf's cell and in a log record: sizeof(layout::OverflowReference) bytes.
void put_overflow_ref(std::byte* at, const OverflowRef& ref) noexcept;
OverflowRef load_overflow_ref(const std::byte* at) noexcept;

constexpr bool has_crc_table(std::uint64_t length) noexcept { return length > kCrcChunkBytes; }

// Chunks of kCrcChunkBytes of a value, the last one short.
constexpr std::uint64_t chunk_count(std::uint64_t length) noexcept {
  return (length + kCrcChunkBytes - 1) / kCrcChunkBytes;
}

// Bytes of the table of CRCs; 0 when there is none.
constexpr std::uint64_t table_bytes(std::uint64_t length) noexcept {
  return has_crc_table(length) ? chunk_count(length) * sizeof(std::uint32_t) : 0;
}

// Blocks of the run of a value of `length` bytes, table included.
constexpr std::uint64_t run_blocks(std::uint64_t length) noexcept { return blocks_for(length + table_bytes(length)); }

// Where the table begins, in bytes from the run's start: it ends with the run.
constexpr std::uint64_t table_offset(std::uint64_t length) noexcept {
  return run_blocks(length) * kPageBytes - table_bytes(length);
}

// The blocks of the run that `ref` names, which is not scattered.
constexpr Extent run_extent(const OverflowRef& ref) noexcept {
  return {ref.first, static_cast<std::uint32_t>(run_blocks(ref.length))};
}
Extent run_extent(const OverflowRun& run) = delete;

// The blocks of a run in the value's order, those that follow each other as one extent.
class RunExtents {
 public:
  // Refers to `run`.
  explicit RunExtents(const OverflowRun& run) noexcept : run_(run) {}

  bool next(Extent& extent) noexcept;

 private:
  const OverflowRun& run_;
  std::uint32_t passed_ = 0;  // blocks
};

// Where the last of its blocks ends.
std::uint64_t run_end(const OverflowRun& run) noexcept;

// Completes a run in memory. `run` is run_blocks(length) blocks that begin with the value; the bytes behind the value
// are zeroed and the table is written. Returns the CRC for the reference.
std::uint32_t seal_run(std::span<std::byte> run, std::uint64_t length) noexcept;

// Builds the table of CRCs of a whole value (for writers that send the value from the caller's memory).
// Requires: has_crc_table(value.size()), table.size() == table_bytes(value.size()). Returns the CRC for the
// reference.
std::uint32_t build_crc_table(std::span<const std::byte> value, std::span<std::byte> table) noexcept;

// Checks a chunk by the CRC that its bytes give, or the value that has no table and is chunk 0. Requires: the table is good.
// Returns an empty string or which check failed.
std::string verify_chunk(std::uint32_t computed, std::uint64_t chunk, std::span<const std::byte> table,
                         const OverflowRef& ref);

// Checks a whole run as read: `run` is run_blocks(ref.length) blocks. Returns an empty string or which check failed.
std::string verify_run(std::span<const std::byte> run, const OverflowRef& ref);

// Checks the table of CRCs alone, before parts are held to it. Requires: has_crc_table(ref.length),
// table.size() == table_bytes(ref.length).
std::string verify_crc_table(std::span<const std::byte> table, const OverflowRef& ref);

// A range of a value that can be verified by itself, in bytes from the value's start.
struct RunPart {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// The smallest part that covers bytes [offset, offset + bytes) of the value, cut off at the value's end. Without a
// table that is the whole value; with one it is whole chunks. Empty when the range is.
RunPart covering_part(std::uint64_t length, std::uint64_t offset, std::uint64_t bytes) noexcept;

// Checks whole chunks against a verified table. Requires: has_crc_table(ref.length); `part` as covering_part() made
// it; bytes.size() == part.bytes.
std::string verify_part(std::span<const std::byte> bytes, RunPart part, std::span<const std::byte> table,
                        const OverflowRef& ref);

}  // namespace store
