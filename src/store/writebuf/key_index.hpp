// The hash index of a write buffer: open addressing over 4-byte slots, sized once for the most keys that the buffer may
// hold, at most two thirds full, never rehashed, nothing ever removed. A slot holds a node and, in the bits that
// references into this arena leave free (10 of 32 for 32 MiB), a part of the key's hash, so that few other keys are
// looked at. The slot comes from the other half of the hash. A slot of 0 is empty, since no node is 0. The slots are
// borrowed, zeroed memory of the buffer.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/writebuf/arena.hpp"

namespace store {

class KeyIndex {
 public:
  using Slot = std::uint32_t;
  static constexpr std::size_t slots_for(std::size_t max_keys) { return max_keys + max_keys / 2 + 1; }

  // Requires slot_count > 0 and that no node lies beyond `arena_units`.
  KeyIndex(Slot* slots, std::size_t slot_count, std::size_t arena_units) noexcept
      : slots_(slots),
        slot_count_(slot_count),
        node_mask_(static_cast<Slot>((std::uint64_t{1} << std::bit_width(arena_units)) - 1)) {}

  static std::uint64_t hash(std::string_view key) noexcept;

  // Where a key is, or, with kNoNode, where it belongs: insert() takes the place as long as nothing else was inserted.
  struct Place {
    NodeRef node;
    std::size_t slot;
    std::uint64_t hash;
  };
  Place find(std::string_view key, std::uint64_t hash, const Arena& arena) const noexcept;
  void insert(const Place& place, NodeRef node) noexcept {
    slots_[place.slot] = (static_cast<Slot>(place.hash) & ~node_mask_) | static_cast<Slot>(node);
  }
  // Empties the stretch of slots in which a key of this hash may be. Only good for emptying all: done for every key
  // it empties the index; a key that is left out may become unfindable.
  void clear_around(std::uint64_t hash) noexcept;
  // Empties the slots from `first` on, at most `count`. Returns the first that was left.
  std::size_t clear(std::size_t first, std::size_t count) noexcept {
    const std::size_t end = first + std::min(count, slot_count_ - first);
    std::fill(slots_ + first, slots_ + end, Slot{0});
    return end;
  }
  std::size_t slot_count() const noexcept { return slot_count_; }

  void prefetch(std::uint64_t hash) const noexcept { __builtin_prefetch(&slots_[home(hash)]); }

 private:
  // The high half of the hash scaled to the number of slots, which need not be a power of two.
  std::size_t home(std::uint64_t hash) const noexcept { return (hash >> 32) * slot_count_ >> 32; }

  Slot* slots_;
  std::size_t slot_count_;
  Slot node_mask_;
};

}  // namespace store
