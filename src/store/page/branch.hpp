// Branch pages: pointers to children, each with the separator that begins its range of keys. A page is encoded once
// and never changed.
//
//   header (20) | prefix | heads u32[count] | Pointer[count] | offsets u16[count + 1] | suffixes | zeros
//
// Pointers have fixed places, so that a search which the heads decide goes straight from the slot to the child.
// Child i holds the keys k with separator(i) <= k < separator(i + 1). The first separator is minus infinity: stored
// empty, with head 0, and never compared. The prefix is what all other separators have in common. At least one cell.
// Layout: docs/on-disk-format.md, "Branch".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "store/page/header.hpp"
#include "store/page/packed_cell.hpp"
#include "store/page/search.hpp"

namespace store {

struct BranchCell {
  std::string_view separator;  // of the first cell: ignored
  PagePointer child;
};

// Reads a branch. Refers to the page's bytes, which must stay; copying a view is cheap.
// Requires: a page encoded by encode_branch(), or one that verify() passed and that is a branch.
class BranchView {
 public:
  explicit BranchView(const std::byte* page) noexcept
      : page_(page),
        count_(load<std::uint16_t>(page + offsetof(layout::SlottedHeader, count))),
        prefix_bytes_(load<std::uint16_t>(page + offsetof(layout::SlottedHeader, prefix_bytes))) {}

  // Starts loading the heads of some 150 children, which the search would otherwise wait for line by line. For the
  // moment the page's address is known; measured, it takes a tenth off a lookup through four levels.
  static void prefetch(const std::byte* page) noexcept { detail::prefetch_lines<10>(page); }

  std::uint32_t count() const noexcept { return count_; }  // at least 1
  std::uint8_t level() const noexcept { return page_level(page_); }
  // What all separators but the first have in common.
  std::string_view prefix() const noexcept { return text_at(page_ + detail::kSlottedHeaderBytes, prefix_bytes_); }

  // The last slot whose separator is <= `key`: the child whose range holds it.
  std::uint32_t find_child(std::string_view key) const noexcept {
    const Lookup at =
        detail::find_slot(heads(), 1, count_, prefix(), key, [this](std::uint32_t slot) { return suffix(slot); });
    return at.slot - 1 + static_cast<std::uint32_t>(at.found);
  }

  // Requires, here and below: slot < count().
  PagePointer child(std::uint32_t slot) const noexcept {
    return load_pointer(pointers() + sizeof(layout::Pointer) * slot);
  }
  // Starts loading what child() reads.
  void prefetch_child(std::uint32_t slot) const noexcept {
    __builtin_prefetch(pointers() + sizeof(layout::Pointer) * slot);
  }
  // A separator without the prefix.
  std::string_view suffix(std::uint32_t slot) const noexcept {
    const std::size_t begin = offset_at(slot);
    return text_at(page_ + begin, offset_at(slot + 1) - begin);
  }
  // Appends a whole separator: nothing for slot 0.
  void append_separator(std::uint32_t slot, std::string& separator) const {
    if (slot == 0) return;
    separator.append(prefix());
    separator.append(suffix(slot));
  }
  // Whether any value below lies in an overflow run.
  bool has_overflow() const noexcept;
  // Bytes of the page that are in use, header included.
  std::size_t bytes_used() const noexcept { return offset_at(count_); }

 private:
  const std::byte* heads() const noexcept { return page_ + detail::kSlottedHeaderBytes + prefix_bytes_; }
  const std::byte* pointers() const noexcept { return heads() + detail::kHeadBytes * count_; }
  std::uint16_t offset_at(std::uint32_t slot) const noexcept {
    return load<std::uint16_t>(pointers() + sizeof(layout::Pointer) * count_ + detail::kOffsetBytes * slot);
  }

  const std::byte* page_;
  std::uint32_t count_;
  std::uint32_t prefix_bytes_;
};

// The exact size of a branch of `count` >= 1 cells. sum_separator_bytes and prefix_bytes are of the separators of all
// cells but the first: whole lengths, and what the second and the last one have in common (0 when there is one cell).
constexpr std::size_t branch_bytes(std::size_t count, std::size_t sum_separator_bytes,
                                   std::size_t prefix_bytes) noexcept {
  return detail::kSlottedHeaderBytes + prefix_bytes + detail::kOffsetBytes +
         count * (detail::kHeadBytes + detail::kOffsetBytes + sizeof(layout::Pointer)) +
         (sum_separator_bytes - (count - 1) * prefix_bytes);
}

// Four children fit whatever their separators.
static_assert(branch_bytes(4, 3 * kMaxKeyBytes, 0) <= kPageBytes);

// Encodes a branch, not yet sealed; unused bytes are zero. Returns the bytes used, as branch_bytes() counts them.
// Requires: at least one cell; separators from the second on of 1..kMaxKeyBytes, strictly ascending; children not
// null; level 1..kMaxTreeLevel; it fits. `cells` must not point into `page`.
std::size_t encode_branch(std::span<const BranchCell> cells, std::uint8_t level, PageBytes page) noexcept;
// The same of cells that are packed already, as the merge has them.
std::size_t encode_packed_branch(const PackedCells& cells, std::uint8_t level, PageBytes page) noexcept;

// The shortest separator s with left_last_key < s <= right_first_key: a prefix of the right key, and a view of it.
// Requires: left_last_key < right_first_key.
inline std::string_view shortest_separator(std::string_view left_last_key, std::string_view right_first_key) noexcept {
  return right_first_key.substr(0, common_prefix_bytes(left_last_key, right_first_key) + 1);
}

}  // namespace store
