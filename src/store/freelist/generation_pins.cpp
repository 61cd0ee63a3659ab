#include "store/freelist/generation_pins.hpp"

#include <algorithm>

#include "store/base/assert.hpp"

namespace store {

std::vector<GenerationPins::Entry>::const_iterator GenerationPins::at_or_after(Generation generation) const noexcept {
  if (!entries_.empty() && entries_.back().generation < generation) return entries_.end();
  return std::ranges::lower_bound(entries_, generation, {}, &Entry::generation);
}

GenerationPins::Pin GenerationPins::pin(Generation generation) {
  if (!entries_.empty() && entries_.back().generation == generation) {
    ++entries_.back().pins;
  } else {
    const auto at = entries_.begin() + (at_or_after(generation) - entries_.cbegin());
    if (at != entries_.end() && at->generation == generation) {
      ++at->pins;
    } else {
      entries_.insert(at, Entry{generation, 1});
    }
  }
  ++count_;
  return Pin(*this, generation);
}

void GenerationPins::unpin(Generation generation) noexcept {
  const auto at = entries_.begin() + (at_or_after(generation) - entries_.cbegin());
  STORE_ASSERT(at != entries_.end() && at->generation == generation);
  STORE_ASSERT(at->pins > 0);
  --count_;
  if (--at->pins == 0) unpinned_ = true;
}

bool GenerationPins::any_in(Generation first, Generation end) const noexcept {
  const auto found = first_from(first);
  return found.has_value() && *found < end;
}

std::optional<Generation> GenerationPins::first_from(Generation from) const noexcept {
  if (count_ == 0) return std::nullopt;
  for (auto at = at_or_after(from); at != entries_.end(); ++at) {
    if (at->pins > 0) return at->generation;
  }
  return std::nullopt;
}

std::optional<Generation> GenerationPins::last_before(Generation end) const noexcept {
  for (auto at = at_or_after(end); at != entries_.begin();) {
    --at;
    if (at->pins > 0) return at->generation;
  }
  return std::nullopt;
}

std::vector<Generation> GenerationPins::take_unpinned() {
  std::vector<Generation> taken;
  if (!unpinned_) return taken;
  for (const Entry& entry : entries_) {
    if (entry.pins == 0) taken.push_back(entry.generation);
  }
  std::erase_if(entries_, [](const Entry& entry) { return entry.pins == 0; });
  unpinned_ = false;
  return taken;
}

}  // namespace store
