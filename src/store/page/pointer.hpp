// A pointer from a page to a child: where the child lies, which bytes it has, when it was born, and what is below it.
// The parent vouches for the child: a lost, stale or misdirected write of the child shows as a mismatch with its
// pointer. 16 bytes on the device (docs/on-disk-format.md, "Pointer").
#pragma once

#include <cstddef>
#include <cstdint>

#include "store/base/ids.hpp"
#include "store/page/bytes.hpp"
#include "store/page/layout.hpp"

namespace store {

inline constexpr std::uint16_t kInfoHasOverflow = 0x8000;
inline constexpr std::uint16_t kInfoCountMask = 0x7fff;

struct PagePointer {
  PageNo page;             // 0 (a meta block, never a child) is the null pointer
  std::uint32_t crc = 0;   // CRC32C of the child, the same value as in its header
  Generation birth;        // the generation that wrote the child
  std::uint16_t info = 0;  // of a leaf: entry count and has-overflow; of a branch: has-overflow; else 0

  constexpr bool is_null() const noexcept { return page.value == 0; }
  constexpr bool operator==(const PagePointer&) const = default;
};

// The info of a pointer to a leaf of `count` entries (at most kInfoCountMask), any of which has its value in a run.
constexpr std::uint16_t leaf_info(std::size_t count, bool has_overflow) noexcept {
  return static_cast<std::uint16_t>((count & kInfoCountMask) | (has_overflow ? kInfoHasOverflow : 0u));
}

// The info of a pointer to a branch, below which some leaf has a value in a run.
constexpr std::uint16_t branch_info(bool has_overflow) noexcept { return has_overflow ? kInfoHasOverflow : 0; }

// Entries of the leaf that `pointer` points to; 0 for a branch.
constexpr std::uint32_t entry_count(const PagePointer& pointer) noexcept { return pointer.info & kInfoCountMask; }

// Whether any value in or below the child lies in an overflow run.
constexpr bool has_overflow(const PagePointer& pointer) noexcept { return (pointer.info & kInfoHasOverflow) != 0; }

inline PagePointer load_pointer(const std::byte* at) noexcept {
  const auto low = load<std::uint64_t>(at);
  const auto high = load<std::uint64_t>(at + 8);
  return {PageNo(static_cast<std::uint32_t>(low)), static_cast<std::uint32_t>(low >> 32), Generation(high & kMask48),
          static_cast<std::uint16_t>(high >> 48)};
}

inline void put_pointer(std::byte* at, const PagePointer& pointer) noexcept {
  put(at, pointer.page.value | (std::uint64_t{pointer.crc} << 32));
  put(at + 8, (pointer.birth.value & kMask48) | (std::uint64_t{pointer.info} << 48));
}

}  // namespace store
