#include "store/writebuf/key_index.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace store {

std::uint64_t KeyIndex::hash(std::string_view key) noexcept { return XXH3_64bits(key.data(), key.size()); }

KeyIndex::Place KeyIndex::find(std::string_view key, std::uint64_t hash, const Arena& arena) const noexcept {
  std::size_t slot = home(hash);
  for (Slot content; (content = slots_[slot]) != 0;) {
    if (((content ^ static_cast<Slot>(hash)) & ~node_mask_) == 0) {
      const NodeRef node{content & node_mask_};
      if (arena.key(node) == key) return {node, slot, hash};
    }
    if (++slot == slot_count_) slot = 0;
  }
  return {kNoNode, slot, hash};
}

void KeyIndex::clear_around(std::uint64_t hash) noexcept {
  for (std::size_t slot = home(hash); slots_[slot] != 0;) {
    slots_[slot] = 0;
    if (++slot == slot_count_) slot = 0;
  }
}

}  // namespace store
