// What names one state of the tree. A state is immutable: as long as its generation is durable or pinned, every page
// that it reaches stays in place.
#pragma once

#include <cstdint>
#include <store/types.hpp>

#include "store/page/pointer.hpp"

namespace store {

// The most levels of a tree that is opened or built. Four children fit into a branch whatever their separators; with three
// on the average, 2^32 leaves would make 1 + log3(2^32) = 22 levels. A store that claims more than this is damaged.
inline constexpr unsigned kMaxHeight = 24;

struct TreeRoot {
  PagePointer page;         // null when the tree is empty
  std::uint8_t height = 0;  // levels; the root has level height - 1, leaves have level 0
  Generation generation{};

  bool empty() const { return height == 0; }
};

}  // namespace store
