// Cells that wait to become a page, packed in memory: key and payload of each lie together, the payload as it stands in the page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "store/page/bytes.hpp"

namespace store {

// The payload: of a leaf's cell the inline value or what names its run, of a branch's the pointer.
struct PackedCell {
  static constexpr std::uint16_t kIsRun = 0x8000;

  PackedCell(std::size_t at_byte, std::size_t key, std::size_t payload, bool is_run_reference) noexcept
      : at(static_cast<std::uint32_t>(at_byte)),
        key_bytes(static_cast<std::uint16_t>(key)),
        payload_info(static_cast<std::uint16_t>(payload | (is_run_reference ? kIsRun : 0u))) {}

  std::size_t payload_bytes() const noexcept { return payload_info & static_cast<std::uint16_t>(~kIsRun); }
  bool is_run() const noexcept { return (payload_info & kIsRun) != 0; }

  std::uint32_t at;  // where its key begins
  std::uint16_t key_bytes;
  std::uint16_t payload_info;
};
static_assert(kMaxKeyBytes < 1u << 16 && kMaxInlineValueBytes < PackedCell::kIsRun);

struct PackedCells {
  const std::byte* bytes = nullptr;
  std::span<const PackedCell> cells;

  std::size_t size() const noexcept { return cells.size(); }
  std::string_view key(std::size_t i) const noexcept { return text_at(bytes + cells[i].at, cells[i].key_bytes); }
  std::string_view last_key() const noexcept { return key(cells.size() - 1); }
  const std::byte* payload(std::size_t i) const noexcept { return bytes + cells[i].at + cells[i].key_bytes; }
};

}  // namespace store
