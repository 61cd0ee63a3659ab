// What every page of the tree and of the allocator begins with, and the check a page must pass before anything reads
// it. A page says which block and generation it was written for, and carries a CRC32C over bytes 4..4095.
//
// verify() is the gate: after it passed, every access through the page's view is in bounds and terminates, whatever
// the bytes are. What one page cannot show is left to whoever walks from page to page: that a child's level is one
// less than its parent's (so a descent ends), and that its keys lie between the separators around it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "store/base/ids.hpp"
#include "store/base/units.hpp"
#include "store/page/bytes.hpp"
#include "store/page/layout.hpp"
#include "store/page/pointer.hpp"

namespace store {

using PageBytes = std::span<std::byte, kPageBytes>;
using ConstPageBytes = std::span<const std::byte, kPageBytes>;

enum class PageType : std::uint8_t { leaf = 1, branch = 2, bitmap = 3, bitmap_parent = 4, meta = 5 };

// Which pages a reader can use: what it holds a pointer to is one of a family, never of another.
enum class PageFamily : std::uint8_t { tree, allocator };

// The highest level of a branch. A branch of the longest keys has four children, so 2^32 blocks need 16.
inline constexpr std::uint8_t kMaxTreeLevel = 31;

inline PageType page_type(const std::byte* page) noexcept {
  return static_cast<PageType>(page[offsetof(layout::PageHeader, type)]);
}
// 0 for a leaf and for a bitmap.
inline std::uint8_t page_level(const std::byte* page) noexcept {
  return static_cast<std::uint8_t>(page[offsetof(layout::PageHeader, level)]);
}
inline Generation page_generation(const std::byte* page) noexcept {
  return Generation(load48(page + offsetof(layout::PageHeader, generation)));
}
inline PageNo page_number(const std::byte* page) noexcept {
  return PageNo(load<std::uint32_t>(page + offsetof(layout::PageHeader, page)));
}
inline std::uint32_t page_crc(const std::byte* page) noexcept {
  return load<std::uint32_t>(page + offsetof(layout::PageHeader, crc));
}
inline PageType page_type(ConstPageBytes page) noexcept { return page_type(page.data()); }
inline std::uint8_t page_level(ConstPageBytes page) noexcept { return page_level(page.data()); }

// Writes page number, generation and CRC into an encoded page, which is then ready for the device.
// Returns the CRC.
std::uint32_t seal(PageBytes page, PageNo number, Generation generation) noexcept;

// Seals an encoded page and returns the pointer its parent is to hold, info included (read from a leaf's cells or
// from a branch's children; 0 for other pages).
PagePointer seal_page(PageBytes page, PageNo number, Generation generation) noexcept;

// The info of a pointer to this leaf or branch; 0 for other pages. Requires: encoded here, or verified.
std::uint16_t page_info(ConstPageBytes page) noexcept;

// Checks a page as read against the pointer that led to it: CRC, page number, generation, the pointer's own CRC and
// info, and the whole structure. Returns an empty string, or which check failed and with which values.
// Cost: one CRC and one pass over the slots; about a microsecond.
std::string verify(ConstPageBytes page, const PagePointer& pointer, PageFamily family = PageFamily::tree);

// The same for a page of a tree that no pointer led to, as far as it vouches for itself: whether it is whole, was written for `block`,
// and may be read.
std::string verify_alone(ConstPageBytes page, PageNo block);

}  // namespace store
