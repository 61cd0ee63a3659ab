#include "store/wal/log_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/page/bytes.hpp"

namespace store {

namespace {

constexpr std::array<std::uint8_t, 4> kMagic = {'s', 'l', 'o', 'g'};

enum class EntryTag : std::uint8_t { put = 1, erase = 2, run = 3, range = 4 };

template <class T>
std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

std::span<const std::byte> bytes_of(std::string_view text) noexcept {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

EntryTag tag_of(const LogEntry& entry) noexcept {
  if (entry.is_range) return EntryTag::range;
  if (entry.run) return EntryTag::run;
  return entry.value ? EntryTag::put : EntryTag::erase;
}

std::size_t value_bytes_of(const LogEntry& entry) noexcept {
  if (entry.run) return sizeof(layout::OverflowReference);
  return entry.value ? entry.value->size() : 0;
}

}  // namespace

std::uint32_t seal_group(std::byte* memory, const LogGroup& group) noexcept {
  STORE_ASSERT(group.bytes >= kGroupHeaderBytes && group.bytes <= kMaxGroupBytes);
  layout::LogGroupHeader raw{};
  raw.bytes = group.bytes;
  std::copy(kMagic.begin(), kMagic.end(), std::begin(raw.magic));
  raw.previous_crc = group.previous_crc;
  raw.lsn = group.lsn.value;
  raw.durable_lsn = group.durable_lsn.value;
  raw.durable_generation = group.durable_generation.value;
  raw.incarnation = group.incarnation;
  raw.store_id = group.store_id;
  std::memcpy(memory, &raw, sizeof raw);
  std::memset(memory + group.bytes, 0, group_span_bytes(group.bytes) - group.bytes);
  raw.crc = crc32c({memory + sizeof raw.crc, group.bytes - sizeof raw.crc});
  std::memcpy(memory, &raw.crc, sizeof raw.crc);
  return raw.crc;
}

std::optional<LogGroup> decode_group(std::span<const std::byte, kPageBytes> block) noexcept {
  layout::LogGroupHeader raw;
  std::memcpy(&raw, block.data(), sizeof raw);
  if (!std::equal(kMagic.begin(), kMagic.end(), std::begin(raw.magic))) return std::nullopt;
  if (raw.bytes < kGroupHeaderBytes || raw.bytes > kMaxGroupBytes) return std::nullopt;
  LogGroup group;
  group.crc = raw.crc;
  group.bytes = raw.bytes;
  group.previous_crc = raw.previous_crc;
  group.lsn = Lsn(raw.lsn);
  group.durable_lsn = Lsn(raw.durable_lsn);
  group.durable_generation = Generation(raw.durable_generation);
  group.incarnation = raw.incarnation;
  group.store_id = raw.store_id;
  return group;
}

bool group_crc_holds(std::span<const std::byte> group, std::uint32_t crc) noexcept {
  return crc32c(group.subspan(sizeof(std::uint32_t))) == crc;
}

void put_fragment_header(std::byte* at, std::uint32_t bytes, FragmentKind kind, std::uint32_t record_crc) noexcept {
  const layout::LogFragmentHeader raw{bytes, static_cast<std::uint32_t>(kind), record_crc};
  std::memcpy(at, &raw, sizeof raw);
}

std::optional<LogFragment> FragmentReader::next() {
  if (rest_.empty()) return std::nullopt;
  layout::LogFragmentHeader raw;
  if (rest_.size() < sizeof raw) {
    error_ = fmt::format("{} bytes behind the last fragment", rest_.size());
    return std::nullopt;
  }
  std::memcpy(&raw, rest_.data(), sizeof raw);
  rest_ = rest_.subspan(sizeof raw);
  if (raw.bytes > rest_.size() || raw.kind < 1 || raw.kind > 4) {
    error_ = fmt::format("a fragment of kind {} and {} bytes, {} are left", raw.kind, raw.bytes, rest_.size());
    rest_ = {};
    return std::nullopt;
  }
  const LogFragment fragment{static_cast<FragmentKind>(raw.kind), raw.record_crc, rest_.first(raw.bytes)};
  rest_ = rest_.subspan(raw.bytes);
  return fragment;
}

std::size_t record_bytes(std::span<const LogEntry> entries) noexcept {
  std::size_t bytes = sizeof(layout::LogRecordHeader);
  for (const LogEntry& entry : entries) {
    bytes += sizeof(layout::LogEntryHeader) + entry.key.size() + value_bytes_of(entry);
  }
  return bytes;
}

RecordEncoder::RecordEncoder(SeqNo first_seq, std::span<const LogEntry> entries) noexcept : entries_(entries) {
  record_header_.first_seq = first_seq.value;
  record_header_.entries = static_cast<std::uint32_t>(entries.size());
  rest_ = bytes_of(record_header_);
}

void RecordEncoder::fill(std::span<std::byte> out) noexcept {
  while (!out.empty()) {
    while (rest_.empty()) next_piece();
    const std::size_t bytes = std::min(out.size(), rest_.size());
    std::memcpy(out.data(), rest_.data(), bytes);
    out = out.subspan(bytes);
    rest_ = rest_.subspan(bytes);
  }
}

void RecordEncoder::next_piece() noexcept {
  if (piece_ == Piece::value) ++entry_;
  STORE_ASSERT(entry_ < entries_.size());
  const LogEntry& entry = entries_[entry_];
  switch (piece_) {
    case Piece::record_header:
    case Piece::value:
      piece_ = Piece::entry_header;
      entry_header_.kind = static_cast<std::uint8_t>(tag_of(entry));
      entry_header_.key_bytes = static_cast<std::uint16_t>(entry.key.size());
      entry_header_.value_bytes = static_cast<std::uint32_t>(value_bytes_of(entry));
      rest_ = bytes_of(entry_header_);
      break;
    case Piece::entry_header:
      piece_ = Piece::key;
      rest_ = bytes_of(entry.key);
      break;
    case Piece::key:
      piece_ = Piece::value;
      if (entry.run) {
        put_overflow_ref(run_.data(), *entry.run);
        rest_ = run_;
      } else {
        rest_ = entry.value ? bytes_of(*entry.value) : std::span<const std::byte>{};
      }
      break;
  }
}

RecordDecoder::RecordDecoder(std::span<const std::byte> record) {
  layout::LogRecordHeader raw;
  if (record.size() < sizeof raw) {
    error_ = fmt::format("a record of {} bytes", record.size());
    return;
  }
  std::memcpy(&raw, record.data(), sizeof raw);
  rest_ = record.subspan(sizeof raw);
  first_seq_ = SeqNo(raw.first_seq);
  entries_ = left_ = raw.entries;
  if (raw.entries == 0 || raw.first_seq == 0 || raw.entries > kMaxSeqNo.value - raw.first_seq) {
    error_ = fmt::format("a record of {} entries from sequence number {}", raw.entries, raw.first_seq);
    left_ = 0;
  }
}

bool RecordDecoder::sizes_hold(const layout::LogEntryHeader& header) const noexcept {
  if (header.key_bytes > kMaxKeyBytes) return false;
  const bool has_key = header.key_bytes > 0;
  switch (static_cast<EntryTag>(header.kind)) {
    case EntryTag::put: return has_key && header.value_bytes <= kMaxBufferedValueBytes;
    case EntryTag::erase: return has_key && header.value_bytes == 0;
    case EntryTag::run: return has_key && header.value_bytes == sizeof(layout::OverflowReference);
    case EntryTag::range: return header.value_bytes <= kMaxKeyBytes;
  }
  return false;
}

std::optional<LogEntry> RecordDecoder::next() {
  if (left_ == 0) {
    if (error_.empty() && !rest_.empty()) error_ = fmt::format("{} bytes behind the last entry", rest_.size());
    return std::nullopt;
  }
  const auto refuse = [this](std::string what) -> std::optional<LogEntry> {
    error_ = std::move(what);
    left_ = 0;
    return std::nullopt;
  };
  layout::LogEntryHeader raw;
  if (rest_.size() < sizeof raw) return refuse(fmt::format("{} entries missing", left_));
  std::memcpy(&raw, rest_.data(), sizeof raw);
  rest_ = rest_.subspan(sizeof raw);
  const auto tag = static_cast<EntryTag>(raw.kind);
  if (!sizes_hold(raw) || rest_.size() < std::size_t{raw.key_bytes} + raw.value_bytes) {
    return refuse(fmt::format("an entry of kind {}, a key of {} and a value of {} bytes, {} are left", raw.kind,
                              raw.key_bytes, raw.value_bytes, rest_.size()));
  }
  const auto* text = reinterpret_cast<const char*>(rest_.data());
  LogEntry entry;
  entry.key = {text, raw.key_bytes};
  const std::string_view value(text + raw.key_bytes, raw.value_bytes);
  if (tag == EntryTag::put) entry.value = value;
  if (tag == EntryTag::range) {
    entry.is_range = true;
    if (!value.empty()) entry.value = value;
    if (!value.empty() && value <= entry.key) return refuse("a range that ends before it begins");
    if (ranges_left_-- == 0) return refuse(fmt::format("more than {} ranges", kMaxBatchRanges));
  }
  if (tag == EntryTag::run) {
    entry.run = load_overflow_ref(rest_.data() + raw.key_bytes);
    if (entry.run->length <= kMaxBufferedValueBytes || entry.run->length > kMaxValueBytes) {
      return refuse(fmt::format("a run of {} bytes", entry.run->length));
    }
  }
  rest_ = rest_.subspan(std::size_t{raw.key_bytes} + raw.value_bytes);
  --left_;
  return entry;
}

}  // namespace store
