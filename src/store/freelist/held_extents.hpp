// Superseded extents that some pinned generation may still read. Those held by the same pins are kept together: pins held
// by an extent are the pinned generations in [birth, death), a contiguous range of them, so a group is named by the first
// and the last of it. When a generation is unpinned, the groups that begin or end with it move to the next pinned
// generation inside, or are free: no extent is looked at twice for nothing, however many there are.
//
// Invariant: first and last of every group are pinned, until a call of drop() that names them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "store/base/ids.hpp"
#include "store/freelist/extent_list.hpp"
#include "store/freelist/generation_pins.hpp"

namespace store {

class HeldExtents {
 public:
  // Keeps `extent` if a pinned S has birth <= S < death, else returns false.
  bool add(Extent extent, Generation birth, Generation death, const GenerationPins& pins);

  // `unpinned` lost its last pin: moves the extents that nothing holds any more to `freed`.
  // Cost: O(pinned generations); of extents, only short lists of them are looked at (ExtentList::take()).
  void drop(Generation unpinned, const GenerationPins& pins, ExtentList& freed);

  std::uint64_t blocks() const noexcept { return blocks_; }
  // For each of these pinned generations, the blocks that it holds, alone or with others. Requires: they ascend.
  // Cost: O(groups · log generations).
  std::vector<std::uint64_t> blocks_held_by(std::span<const Generation> pinned) const;
  std::size_t groups() const noexcept;

 private:
  struct Group {
    ExtentList extents;
    std::uint64_t blocks = 0;
  };

  void move_group(Group group, Generation first, Generation last, const GenerationPins& pins, ExtentList& freed);

  std::map<Generation, std::map<Generation, Group>> groups_;  // by last, then by first
  std::uint64_t blocks_ = 0;
};

}  // namespace store
