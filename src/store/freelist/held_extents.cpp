#include "store/freelist/held_extents.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "store/base/assert.hpp"

namespace store {

bool HeldExtents::add(Extent extent, Generation birth, Generation death, const GenerationPins& pins) {
  const auto first = pins.first_from(birth);
  if (!first || !(*first < death)) return false;
  const auto last = pins.last_before(death);
  STORE_ASSERT(last.has_value() && *first <= *last);
  Group& group = groups_[*last][*first];
  group.extents.push(extent);
  group.blocks += extent.count;
  blocks_ += extent.count;
  return true;
}

void HeldExtents::drop(Generation unpinned, const GenerationPins& pins, ExtentList& freed) {
  if (const auto ending = groups_.find(unpinned); ending != groups_.end()) {
    std::map<Generation, Group> moving = std::move(ending->second);
    groups_.erase(ending);
    for (auto& [first, group] : moving) move_group(std::move(group), first, unpinned, pins, freed);
  }
  for (auto by_last = groups_.upper_bound(unpinned); by_last != groups_.end();) {
    auto& by_first = by_last->second;
    const Generation last = by_last->first;
    const auto beginning = by_first.find(unpinned);
    if (beginning == by_first.end()) {
      ++by_last;
      continue;
    }
    Group group = std::move(beginning->second);
    by_first.erase(beginning);
    ++by_last;
    move_group(std::move(group), unpinned, last, pins, freed);
    if (const auto left = groups_.find(last); left->second.empty()) groups_.erase(left);
  }
}

void HeldExtents::move_group(Group group, Generation first, Generation last, const GenerationPins& pins,
                             ExtentList& freed) {
  const auto new_first = pins.first_from(first);
  if (!new_first || *new_first > last) {
    freed.take(group.extents);  // may fail: then some stay held
    blocks_ -= group.blocks;
    return;
  }
  const auto new_last = pins.last_before(last.next());
  STORE_ASSERT(new_last.has_value() && *new_first <= *new_last);
  Group& into = groups_[*new_last][*new_first];
  into.extents.take(group.extents);
  into.blocks += group.blocks;
}

std::vector<std::uint64_t> HeldExtents::blocks_held_by(std::span<const Generation> pinned) const {
  // First by how much each holds more than the one before it.
  std::vector<std::uint64_t> held(pinned.size() + 1);
  for (const auto& [last, by_first] : groups_) {
    const auto end = std::ranges::upper_bound(pinned, last) - pinned.begin();
    for (const auto& [first, group] : by_first) {
      held[static_cast<std::size_t>(std::ranges::lower_bound(pinned, first) - pinned.begin())] += group.blocks;
      held[static_cast<std::size_t>(end)] -= group.blocks;
    }
  }
  std::partial_sum(held.begin(), held.end(), held.begin());
  held.pop_back();
  return held;
}

std::size_t HeldExtents::groups() const noexcept {
  std::size_t count = 0;
  for (const auto& [last, by_first] : groups_) count += by_first.size();
  return count;
}

}  // namespace store
