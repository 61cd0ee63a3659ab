// Leaf pages: sorted entries of whole values or references to overflow runs. A page is encoded once and never
// changed.
//
//   header (20) | prefix | heads u32[count] | offsets u16[count + 1] | cells | zeros
//   cell: suffix length u16 (bit 15: the value is an OverflowReference) | suffix | value up to the next cell
//   of a scattered run: OverflowReference | u32 of each block behind the first
//
// Cells are packed in slot order; offsets[count] is their end. The prefix is what all keys have in common, stored
// once; with one entry that is its whole key. The encoding is a pure function of the entries. A leaf of no entries is
// legal. Layout: docs/on-disk-format.md, "Leaf".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "store/page/header.hpp"
#include "store/page/overflow.hpp"
#include "store/page/packed_cell.hpp"
#include "store/page/search.hpp"

namespace store {

namespace detail {
inline constexpr std::size_t kLeafCellBytes = 2;  // of a cell before its suffix
inline constexpr std::uint16_t kCellIsRun = 0x8000;
}  // namespace detail

// A value as a leaf holds it: the bytes themselves, or where they are.
class LeafValue {
 public:
  LeafValue() = default;
  explicit LeafValue(std::string_view bytes) noexcept : bytes_(bytes) {}
  // `others`: of a scattered run, its blocks behind the first as they stand in a cell.
  explicit LeafValue(const OverflowRef& run, std::string_view others = {}) noexcept
      : bytes_(others), run_(run), is_run_(true) {}
  explicit LeafValue(const OverflowRun& run) = delete;  // it would lose the others

  bool is_run() const noexcept { return is_run_; }
  std::string_view bytes() const noexcept { return bytes_; }  // Requires: !is_run()
  std::uint64_t length() const noexcept { return is_run_ ? run_.length : bytes_.size(); }
  // Requires, here and below: is_run()
  OverflowRun run() const noexcept;
  const OverflowRef& reference() const noexcept { return run_; }
  std::string_view others() const noexcept { return bytes_; }

 private:
  std::string_view bytes_;  // others() of a run
  OverflowRef run_;
  bool is_run_ = false;
};

// Of a scattered run, its blocks behind the first as they stand in a cell; empty for one in a row.
class RunOthers {
 public:
  explicit RunOthers(const OverflowRun& run) noexcept;

  std::string_view view() const noexcept { return {bytes_.data(), size_}; }

 private:
  std::array<char, (kMaxScatteredBlocks - 1) * sizeof(std::uint32_t)> bytes_;
  std::size_t size_ = 0;
};

struct LeafCell {
  std::string_view key;  // whole
  LeafValue value;
};

// Reads a leaf. Refers to the page's bytes, which must stay; copying a view is cheap.
// Requires: a page encoded by encode_leaf(), or one that verify() passed and that is a leaf.
class LeafView {
 public:
  explicit LeafView(const std::byte* page) noexcept
      : page_(page),
        count_(load<std::uint16_t>(page + offsetof(layout::SlottedHeader, count))),
        prefix_bytes_(load<std::uint16_t>(page + offsetof(layout::SlottedHeader, prefix_bytes))) {}

  // Starts loading heads and offsets of some 40 entries, which find() would otherwise wait for line by line. For the moment
  // the page's address is known; prefetch_entry() then brings the one entry. Measured with a million keys: 16 lines, with
  // which entries come along by chance, take a fifth longer when lookups go down together.
  static void prefetch(const std::byte* page) noexcept { detail::prefetch_lines<5>(page); }
  // The same for who reads entry after entry: this many lines also set the hardware off towards the rest.
  static void prefetch_entries(const std::byte* page) noexcept { detail::prefetch_lines<16>(page); }

  std::uint32_t count() const noexcept { return count_; }
  std::string_view prefix() const noexcept { return text_at(page_ + detail::kSlottedHeaderBytes, prefix_bytes_); }

  // The first slot whose key is not below `key`, by unsigned bytes.
  // Cost: a few cache lines of heads, one whole compare.
  Lookup find(std::string_view key) const noexcept {
    return detail::find_slot(heads(), 0, count_, prefix(), key, [this](std::uint32_t slot) { return suffix(slot); });
  }

  // Starts loading the cell that find() will compare.
  void prefetch_entry(std::string_view key) const noexcept {
    if (key.size() < prefix_bytes_) return;
    const std::uint32_t head = detail::head_of(key.substr(prefix_bytes_));
    __builtin_prefetch(cell_at(static_cast<std::uint32_t>(detail::heads_below(heads(), count_, head))));
  }

  // The key of a slot without the prefix. Requires, here and below: slot < count().
  std::string_view suffix(std::uint32_t slot) const noexcept {
    const std::byte* cell = cell_at(slot);
    return text_at(cell + detail::kLeafCellBytes, suffix_bytes(cell));
  }
  void append_key(std::uint32_t slot, std::string& key) const {
    key.append(prefix());
    key.append(suffix(slot));
  }
  // Inline bytes and a run's others() point into the page.
  LeafValue value(std::uint32_t slot) const noexcept {
    const std::byte* cell = cell_at(slot);
    const std::byte* value = cell + detail::kLeafCellBytes + suffix_bytes(cell);
    const std::string_view payload = text_at(value, static_cast<std::size_t>(cell_at(slot + 1) - value));
    if (is_run(slot)) [[unlikely]]
      return run_value(payload);
    return LeafValue(payload);
  }
  // Both of a slot, for who reads one after the other.
  struct Entry {
    std::string_view suffix;
    LeafValue value;
  };
  Entry entry(std::uint32_t slot) const noexcept {
    const std::byte* cell = cell_at(slot);
    const auto head = load<std::uint16_t>(cell);
    const std::size_t suffix_bytes = head & static_cast<std::uint16_t>(~detail::kCellIsRun);
    const std::byte* suffix = cell + detail::kLeafCellBytes;
    const std::byte* value = suffix + suffix_bytes;
    const std::string_view payload = text_at(value, static_cast<std::size_t>(cell_at(slot + 1) - value));
    if ((head & detail::kCellIsRun) != 0) [[unlikely]]
      return {text_at(suffix, suffix_bytes), run_value(payload)};
    return {text_at(suffix, suffix_bytes), LeafValue(payload)};
  }
  // Bytes of the value of a slot in the page, inline or what names its run; they follow the suffix.
  std::size_t payload_bytes(std::uint32_t slot) const noexcept {
    const std::byte* cell = cell_at(slot);
    return static_cast<std::size_t>(cell_at(slot + 1) - cell) - detail::kLeafCellBytes - suffix_bytes(cell);
  }
  // For LeafSteps: the page, and where the offset of a slot stands in it.
  const std::byte* page() const noexcept { return page_; }
  const std::byte* offset_place(std::uint32_t slot) const noexcept {
    return heads() + detail::kHeadBytes * count_ + detail::kOffsetBytes * slot;
  }
  // Whether the value lies in an overflow run.
  bool is_run(std::uint32_t slot) const noexcept {
    return (load<std::uint16_t>(cell_at(slot)) & detail::kCellIsRun) != 0;
  }
  // Whether any value does.
  bool has_overflow() const noexcept;
  // Bytes of the page that are in use, header included.
  std::size_t bytes_used() const noexcept { return offset_at(count_); }

 private:
  static LeafValue run_value(std::string_view payload) noexcept {
    return LeafValue(load_overflow_ref(reinterpret_cast<const std::byte*>(payload.data())),
                     payload.substr(sizeof(layout::OverflowReference)));
  }
  const std::byte* heads() const noexcept { return page_ + detail::kSlottedHeaderBytes + prefix_bytes_; }
  std::uint16_t offset_at(std::uint32_t slot) const noexcept { return load<std::uint16_t>(offset_place(slot)); }
  const std::byte* cell_at(std::uint32_t slot) const noexcept { return page_ + offset_at(slot); }
  static std::size_t suffix_bytes(const std::byte* cell) noexcept {
    return load<std::uint16_t>(cell) & static_cast<std::uint16_t>(~detail::kCellIsRun);
  }

  const std::byte* page_;
  std::uint32_t count_;
  std::uint32_t prefix_bytes_;
};

// A value's share of a leaf, in bytes.
inline std::size_t value_bytes(const LeafValue& value) noexcept {
  return value.is_run() ? sizeof(layout::OverflowReference) + value.others().size() : value.bytes().size();
}
// Writes it, value_bytes().
void put_leaf_value(std::byte* at, const LeafValue& value) noexcept;

// The exact size of a leaf of `count` entries: sum_key_bytes of whole keys, sum_value_bytes of value_bytes(), and the
// common prefix of all keys, which is that of the first and the last one (common_prefix_bytes()). It fits when <=
// kPageBytes.
constexpr std::size_t leaf_bytes(std::size_t count, std::size_t sum_key_bytes, std::size_t sum_value_bytes,
                                 std::size_t prefix_bytes) noexcept {
  return detail::kSlottedHeaderBytes + prefix_bytes + detail::kOffsetBytes +
         count * (detail::kHeadBytes + detail::kOffsetBytes + detail::kLeafCellBytes) +
         (sum_key_bytes - count * prefix_bytes) + sum_value_bytes;
}

// One cell of the longest key and the longest inline value fits.
static_assert(leaf_bytes(1, kMaxKeyBytes, kMaxInlineValueBytes, 0) <= kPageBytes);

// Encodes a leaf, not yet sealed; unused bytes are zero. Returns the bytes used, as leaf_bytes() counts them.
// Requires: keys of 1..kMaxKeyBytes, strictly ascending; inline values of at most kMaxInlineValueBytes; it fits.
// `cells` must not point into `page`.
std::size_t encode_leaf(std::span<const LeafCell> cells, PageBytes page) noexcept;
// The same of cells that are packed already, as the merge has them.
std::size_t encode_packed_leaf(const PackedCells& cells, PageBytes page) noexcept;

}  // namespace store
