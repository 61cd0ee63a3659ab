// What leaves and branches share when they are encoded and checked:
//   header | prefix | heads u32[count] | one fixed part a slot (branches: the pointer) | offsets u16[count + 1] | cells
#pragma once

#include <string>
#include <string_view>

#include "store/base/assert.hpp"
#include "store/page/header.hpp"
#include "store/page/search.hpp"

namespace store::detail {

// Writes a slotted page front to back. Cells are appended in slot order; finish() fills what is behind them with
// zeros.
class SlottedWriter {
 public:
  struct Shape {
    PageType type;
    std::uint8_t level;
    std::size_t count;
    std::size_t fixed_bytes;  // a slot
    std::string_view prefix;
  };
  // Requires: the page has room for everything before the cells.
  SlottedWriter(PageBytes page, const Shape& shape) noexcept;

  // Begins the next cell, of `bytes`, whose key behind the prefix is `suffix`. Returns where the cell goes.
  std::byte* next_cell(std::string_view suffix, std::size_t bytes) noexcept {
    STORE_ASSERT(slot_ < count_);
    STORE_ASSERT(bytes <= kPageBytes - end_);
    std::byte* cell = page_.data() + end_;
    put(heads_ + kHeadBytes * slot_, head_of(suffix));
    ++slot_;
    end_ += bytes;
    put(offsets_ + kOffsetBytes * slot_, static_cast<std::uint16_t>(end_));
    return cell;
  }
  // The fixed part of the cell begun last.
  std::byte* fixed_part() noexcept { return fixed_ + fixed_bytes_ * (slot_ - 1); }
  // Requires: `count` cells were written. Returns the bytes used.
  std::size_t finish() noexcept;

 private:
  PageBytes page_;
  std::size_t count_;
  std::size_t fixed_bytes_;
  std::byte* heads_;
  std::byte* fixed_;
  std::byte* offsets_;
  std::size_t slot_ = 0;
  std::size_t end_;  // of the last cell
};

// Checks count, prefix and offsets against the page's bounds: cells are packed behind the offsets, in order, and each
// has at least its size. After it, everything before the cells may be read.
struct SlotBytes {
  std::size_t fixed;
  std::size_t cell;
};
std::string check_slots(ConstPageBytes page, SlotBytes least);

inline std::byte* put_text(std::byte* at, std::string_view text) noexcept {
  // An empty view may have a null pointer, which memcpy does not take.
  if (!text.empty()) std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

}  // namespace store::detail
