// A position in one state of the tree, for ordered reading in both directions. Pins the leaf it stands in, as a user's
// pin where the cache's half for users has room, else by a copy of its own. Holds no pin while it waits. The caller keeps
// the state's generation pinned as long as the cursor is used.
//
// Every page that the cursor enters has to hold keys of its own range only, which its parents' separators bound: so keys ascend
// from leaf to leaf and a walk ends, whatever pointers a crafted store has.
//
// Read-ahead: none for the first leaves; then twice as many of the following leaves at each step, up to the limit, over the
// borders of branches. A branch that is not resident is asked for first, and its leaves at a later step.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <monterey/task.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/base/units.hpp"
#include "store/cache/page_cache.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/tree/root.hpp"

namespace store {

class TreeCursor {
 public:
  TreeCursor(PageCache& cache, TreeRoot root, std::uint32_t prefetch_pages);

  // Stands at the first entry >= key, or, for seek_before, at the last entry < key (nullopt: the last of all).
  // Errors: corruption, io_error; the cursor is then invalid.
  monterey::Task<> seek(std::string key);
  monterey::Task<> seek_before(std::optional<std::string> key);

  bool valid() const { return leaf_.data() != nullptr; }
  // The entry at the cursor. Requires: valid(). Views live until the cursor moves.
  void append_key(std::string& key) const { LeafView(leaf_.data()).append_key(slot_, key); }
  LeafValue value() const { return LeafView(leaf_.data()).value(slot_); }

  // Moves within the leaf; false when the next entry is in another leaf or there is none: await next() or prev().
  bool try_next();
  bool try_prev();
  monterey::Task<> next();
  monterey::Task<> prev();

  // Lets go of the leaf; valid() is then false.
  void reset();

 private:
  // The keys that belong below a page: from `lower` on, below `upper` if that is set. Assigning keeps the strings' memory.
  struct Range {
    std::string lower;
    std::string upper;
    bool has_upper = false;

    void assign_child(const Range& parent, const BranchView& branch, std::uint32_t slot);
    bool covers(std::string_view prefix, std::string_view first, std::string_view last) const;
  };

  // A branch on the way down, and the child taken.
  struct Place {
    PagePointer branch;
    unsigned level = 0;
    std::uint32_t slot = 0;  // kNoSlot: none yet
  };
  struct Step : Place {
    Range range;  // of the branch
  };
  static constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
  enum class Toward { key, first, last };

  // What the cursor reads its leaf through.
  class Leaf {
   public:
    const std::byte* data() const { return copy_in_use_ ? copy_->data() : pin_.data(); }
    void hold(PageCache& cache, PageCache::Pin pin);
    void reset() {
      pin_.reset();
      copy_in_use_ = false;
    }

   private:
    PageCache::UserPin pin_;
    std::unique_ptr<std::array<std::byte, kPageBytes>> copy_;
    bool copy_in_use_ = false;
  };

  // To a leaf below `page`, whose range is in child_.
  monterey::Task<> descend(PagePointer page, unsigned level, Toward toward, std::string_view key);
  monterey::Task<> leave_leaf(int direction);
  void read_ahead(int direction);
  std::optional<PagePointer> next_ahead();

  PageCache& cache_;
  TreeRoot root_;
  std::uint32_t prefetch_limit_;
  std::uint32_t prefetch_pages_ = 0;
  std::uint32_t leaves_in_a_row_ = 0;
  int direction_ = +1;             // of the last leaves
  std::vector<Place> ahead_path_;  // of the leaf asked for last
  std::uint32_t ahead_ = 0;        // leaves between it, included, and the cursor
  std::vector<Step> path_;
  Range child_;  // of the page that is entered next, then of the leaf
  Leaf leaf_;
  std::uint32_t slot_ = 0;
};

}  // namespace store
