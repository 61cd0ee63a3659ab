// What names one state of the tree. A state is immutable: as long as its generation is durable or pinned, every page
// that it reaches stays in place.
#pragma once

#include <cstdint>
#include <store/types.hpp>

#include "store/page/pointer.hpp"

namespace store {

// A tree of 4 KiB pages with at least two children a branch has fewer levels than this at 2^32 pages; a page that
// claims more is damage.
inline constexpr unsigned kMaxHeight = 32;

struct TreeRoot {
  PagePointer page;         // null when the tree is empty
  std::uint8_t height = 0;  // levels; the root has level height - 1, leaves have level 0
  Generation generation{};

  bool empty() const { return height == 0; }
};

}  // namespace store
