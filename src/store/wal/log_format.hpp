// The bytes of the log, without I/O: groups, the fragments in them, and the records that fragments make up. A group is
// what one write makes durable; a record is what applies as a whole or not at all. Groups are linked by their CRCs.
// Decoders take any bytes: what does not hold is an error in words, never a read out of bounds.
// Layout: docs/on-disk-format.md, "Log".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "store/base/ids.hpp"
#include "store/base/units.hpp"
#include "store/page/layout.hpp"
#include "store/page/overflow.hpp"

namespace store {

// A place in the log, in bytes since the store was made; groups begin at multiples of kPageBytes.
using Lsn = StrongId<struct LsnTag, std::uint64_t>;

// Where a group goes on: the LSN, and the CRC of the group before it.
struct LogPosition {
  Lsn lsn;
  std::uint32_t previous_crc = 0;
  constexpr bool operator==(const LogPosition&) const = default;
};

inline constexpr std::size_t kMaxGroupBytes = 256u << 10;
inline constexpr std::size_t kGroupHeaderBytes = sizeof(layout::LogGroupHeader);
inline constexpr std::size_t kFragmentHeaderBytes = sizeof(layout::LogFragmentHeader);
// What a group of its own can carry of one record.
inline constexpr std::size_t kMaxFragmentBytes = kMaxGroupBytes - kGroupHeaderBytes - kFragmentHeaderBytes;

// The whole blocks that a group of `bytes` fills.
constexpr std::uint64_t group_span_bytes(std::uint64_t bytes) noexcept { return blocks_for(bytes) * kPageBytes; }

struct LogGroup {
  std::uint32_t crc = 0;
  std::uint32_t bytes = 0;  // header included
  std::uint32_t previous_crc = 0;
  Lsn lsn;
  Lsn durable_lsn;
  Generation durable_generation;
  std::uint64_t incarnation = 0;
  std::uint64_t store_id = 0;
};

// Completes a group of group.bytes bytes in memory, whose fragments are there: writes the header, zeroes the rest of the
// last block. Returns the CRC. Requires: memory of group_span_bytes(group.bytes).
std::uint32_t seal_group(std::byte* memory, const LogGroup& group) noexcept;

// The header in the first block of what may be a group; nullopt if it cannot be one. The CRC is not checked.
std::optional<LogGroup> decode_group(std::span<const std::byte, kPageBytes> block) noexcept;
// Requires: the whole group.
bool group_crc_holds(std::span<const std::byte> group, std::uint32_t crc) noexcept;

enum class FragmentKind : std::uint32_t { whole = 1, first = 2, middle = 3, last = 4 };

void put_fragment_header(std::byte* at, std::uint32_t bytes, FragmentKind kind, std::uint32_t record_crc) noexcept;

struct LogFragment {
  FragmentKind kind = FragmentKind::whole;
  std::uint32_t record_crc = 0;
  std::span<const std::byte> payload;
};

// Goes through the fragments of a whole group.
class FragmentReader {
 public:
  explicit FragmentReader(std::span<const std::byte> group) noexcept : rest_(group.subspan(kGroupHeaderBytes)) {}

  // The next fragment; nullopt at the end or at damage, which error() tells apart.
  std::optional<LogFragment> next();
  const std::string& error() const noexcept { return error_; }

 private:
  std::span<const std::byte> rest_;
  std::string error_;
};

// One change in a record: a put, an erase (neither value nor run), a value that lies in a run, or a range that is erased.
struct LogEntry {
  std::string_view key;
  std::optional<std::string_view> value;
  std::optional<OverflowRef> run;
  bool is_range = false;  // [key, value), where `key` may be empty; all from `key` on without a value
};

// The exact size of a record.
std::size_t record_bytes(std::span<const LogEntry> entries) noexcept;

// Writes a record piece by piece, so that a long one needs no copy in memory. The entries must outlive it.
class RecordEncoder {
 public:
  RecordEncoder(SeqNo first_seq, std::span<const LogEntry> entries) noexcept;

  // Fills `out` with the next bytes. Requires: that many are left.
  void fill(std::span<std::byte> out) noexcept;

 private:
  void next_piece() noexcept;

  // What is being copied: the record's header, then header, key and value of each entry.
  enum class Piece : std::uint8_t { record_header, entry_header, key, value };

  std::span<const LogEntry> entries_;
  std::size_t entry_ = 0;
  Piece piece_ = Piece::record_header;
  std::span<const std::byte> rest_;  // of the piece
  layout::LogRecordHeader record_header_{};
  layout::LogEntryHeader entry_header_{};
  std::array<std::byte, sizeof(layout::OverflowReference)> run_{};
};

// Reads a whole record. The record's bytes must outlive it and the entries it gives.
class RecordDecoder {
 public:
  explicit RecordDecoder(std::span<const std::byte> record);

  SeqNo first_seq() const noexcept { return first_seq_; }
  std::uint32_t entries() const noexcept { return entries_; }
  // The next entry; nullopt at the end or at damage, which error() tells apart.
  std::optional<LogEntry> next();
  const std::string& error() const noexcept { return error_; }

 private:
  bool sizes_hold(const layout::LogEntryHeader& header) const noexcept;

  std::span<const std::byte> rest_;
  SeqNo first_seq_;
  std::uint32_t entries_ = 0;
  std::uint32_t left_ = 0;
  std::uint32_t ranges_left_ = kMaxBatchRanges;
  std::string error_;
};

}  // namespace store
