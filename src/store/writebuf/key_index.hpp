// The hash index of a write buffer: open addressing over 8-byte slots of {32-bit tag, node}, sized once for the most
// keys that the buffer may hold, at most two thirds full, never rehashed, nothing ever removed. The slot is chosen by
// one half of the hash and the tag is the other, so a key is compared only when its tag matches: one time in 2^32 in
// vain. The slots are borrowed, zeroed memory of the buffer; a slot of zero is empty, since no node is 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/writebuf/arena.hpp"

namespace store {

class KeyIndex {
 public:
  static constexpr std::size_t slots_for(std::size_t max_keys) { return max_keys + max_keys / 2 + 1; }

  KeyIndex(std::uint64_t* slots, std::size_t slot_count) noexcept : slots_(slots), slot_count_(slot_count) {}

  static std::uint64_t hash(std::string_view key) noexcept;

  // Where a key is, or where it belongs: insert() takes the latter as long as nothing was inserted in between.
  struct Place {
    NodeRef node;
    std::size_t slot;
    std::uint32_t tag;
  };
  Place find(std::string_view key, const Arena& arena) const noexcept;
  void insert(const Place& place, NodeRef node) noexcept {
    slots_[place.slot] = std::uint64_t{place.tag} << 32 | static_cast<std::uint32_t>(node);
  }

 private:
  std::uint64_t* slots_;
  std::size_t slot_count_;
};

}  // namespace store
