// Which generations of the tree are still being read. An operation that may suspend, a snapshot and a scan each hold a
// Pin on the generation they read; a page born in B and superseded in D stays where it is while any S with B <= S < D is
// pinned (docs/architecture.md).
//
// Invariant: the generations pinned anew never grow into the past: pin() takes either the generation readers currently
// start from, or one that is pinned already. What the free list once found unpinned therefore stays unpinned.
// Owner: the partition; it outlives every Pin and the FreeList. Bound to one core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "store/base/ids.hpp"

namespace store {

class GenerationPins {
 public:
  // Keeps one generation readable while it lives. Movable; an empty one holds nothing.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept : pins_(std::exchange(other.pins_, nullptr)), generation_(other.generation_) {}
    Pin& operator=(Pin&& other) noexcept {
      if (this != &other) {
        reset();
        pins_ = std::exchange(other.pins_, nullptr);
        generation_ = other.generation_;
      }
      return *this;
    }
    ~Pin() { reset(); }

    explicit operator bool() const noexcept { return pins_ != nullptr; }
    Generation generation() const noexcept { return generation_; }
    // Lets go early. The free list learns of it by FreeList::pins_changed().
    void reset() noexcept {
      if (pins_ != nullptr) std::exchange(pins_, nullptr)->unpin(generation_);
    }

   private:
    friend class GenerationPins;
    Pin(GenerationPins& pins, Generation generation) : pins_(&pins), generation_(generation) {}

    GenerationPins* pins_ = nullptr;
    Generation generation_;
  };

  GenerationPins() = default;
  GenerationPins(const GenerationPins&) = delete;
  GenerationPins& operator=(const GenerationPins&) = delete;

  // Pins `generation`; see the invariant above. Cost: O(1) for the newest generation, else O(log pinned generations).
  Pin pin(Generation generation);

  // Whether a pinned S has first <= S < end.
  bool any_in(Generation first, Generation end) const noexcept;
  // The first pinned generation at or after `from`; the last one before `end`.
  std::optional<Generation> first_from(Generation from) const noexcept;
  std::optional<Generation> last_before(Generation end) const noexcept;
  std::optional<Generation> oldest() const noexcept { return first_from(Generation{}); }

  // Pins alive, several on one generation counted each.
  std::size_t count() const noexcept { return count_; }

  // The generations whose last pin went since the last call. For the free list, its only caller.
  std::vector<Generation> take_unpinned();
  bool has_unpinned() const noexcept { return unpinned_; }

 private:
  struct Entry {
    Generation generation;
    std::uint64_t pins;  // 0: unpinned, kept until take_unpinned() so that unpin() allocates nothing
  };

  std::vector<Entry>::const_iterator at_or_after(Generation generation) const noexcept;
  void unpin(Generation generation) noexcept;

  std::vector<Entry> entries_;  // ascending
  std::size_t count_ = 0;
  bool unpinned_ = false;  // an entry with no pins exists
};

}  // namespace store
