#include "store/page/slotted.hpp"

#include <fmt/format.h>

#include "store/base/assert.hpp"

namespace store::detail {

SlottedWriter::SlottedWriter(PageBytes page, const Shape& shape) noexcept
    : page_(page), count_(shape.count), fixed_bytes_(shape.fixed_bytes) {
  const std::size_t cells = kSlottedHeaderBytes + shape.prefix.size() +
                            shape.count * (kHeadBytes + shape.fixed_bytes + kOffsetBytes) + kOffsetBytes;
  STORE_ASSERT(cells <= kPageBytes);
  std::memset(page.data(), 0, sizeof(layout::PageHeader));
  page[offsetof(layout::PageHeader, type)] = static_cast<std::byte>(shape.type);
  page[offsetof(layout::PageHeader, level)] = static_cast<std::byte>(shape.level);
  put(page.data() + offsetof(layout::SlottedHeader, count), static_cast<std::uint16_t>(shape.count));
  put(page.data() + offsetof(layout::SlottedHeader, prefix_bytes), static_cast<std::uint16_t>(shape.prefix.size()));
  heads_ = put_text(page.data() + kSlottedHeaderBytes, shape.prefix);
  fixed_ = heads_ + kHeadBytes * shape.count;
  offsets_ = fixed_ + shape.fixed_bytes * shape.count;
  end_ = cells;
  put(offsets_, static_cast<std::uint16_t>(end_));
}

std::size_t SlottedWriter::finish() noexcept {
  STORE_ASSERT(slot_ == count_);
  std::memset(page_.data() + end_, 0, kPageBytes - end_);
  return end_;
}

std::string check_slots(ConstPageBytes page, SlotBytes least) {
  const std::size_t count = load<std::uint16_t>(page.data() + offsetof(layout::SlottedHeader, count));
  const std::size_t prefix = load<std::uint16_t>(page.data() + offsetof(layout::SlottedHeader, prefix_bytes));
  if (prefix > kMaxKeyBytes) return fmt::format("a prefix of {} bytes, over {}", prefix, kMaxKeyBytes);
  const std::size_t offsets = kSlottedHeaderBytes + prefix + count * (kHeadBytes + least.fixed);
  const std::size_t cells = offsets + (count + 1) * kOffsetBytes;
  if (cells > kPageBytes) return fmt::format("{} slots do not fit behind a prefix of {} bytes", count, prefix);

  std::size_t begin = load<std::uint16_t>(page.data() + offsets);
  if (begin != cells) return fmt::format("the first cell is at {}, not at {}", begin, cells);
  for (std::size_t slot = 0; slot < count; ++slot) {
    const std::size_t end = load<std::uint16_t>(page.data() + offsets + (slot + 1) * kOffsetBytes);
    if (end < begin + least.cell || end > kPageBytes) {
      return fmt::format("the cell of slot {} goes from {} to {}", slot, begin, end);
    }
    begin = end;
  }
  return {};
}

}  // namespace store::detail
