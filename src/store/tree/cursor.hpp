// A position in one state of the tree, for ordered reading in both directions. Pins the leaf it stands in, as a user's
// pin where the cache's half for users has room, else by a copy of its own. Holds no pin while it waits. The caller keeps
// the state's generation pinned as long as the cursor is used.
//
// Every move goes as far as pages are resident, in one step without a suspension, and says whether it arrived; if not,
// arrive() reads what is missing and ends the move.
//
// Every page that the cursor enters has to hold keys of its own range only, which its parents' separators bound: so keys ascend
// from leaf to leaf and a walk ends, whatever pointers a crafted store has.
//
// Read-ahead: none for the first leaves; then a window of the following leaves, over the borders of branches, neighbouring
// blocks by one read. It is filled again when half of it or 128 are used, twice as wide each time up to the limit, but only as
// far as the entries that are wanted reach, and half as wide where all it asks for is resident. Branches are asked for ahead of
// their leaves.
#pragma once

#include <algorithm>
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
#include "store/page/leaf_steps.hpp"
#include "store/tree/root.hpp"

namespace store {

class TreeCursor {
 public:
  // `entries`: as many are wanted on the way, about; reads ahead for no more.
  TreeCursor(PageCache& cache, TreeRoot root, std::uint32_t prefetch_pages, std::uint64_t entries);

  // To the first entry >= key, or, for seek_before, to the last entry < key (nullopt: the last of all). Returns whether it
  // has arrived. Errors: corruption; the cursor is then invalid.
  bool try_seek(std::string_view key);
  bool try_seek_before(std::optional<std::string_view> key);
  // To the next entry in key order or the one before; behind the last one the cursor is not valid. Requires: valid().
  bool try_next() {
    if (slot_ + 1 >= count_) return leave_leaf(+1);
    ++slot_;
    return true;
  }
  bool try_prev() {
    if (slot_ == 0) return leave_leaf(-1);
    --slot_;
    return true;
  }
  // Behind the last entry, without going there: not valid.
  void leave() { leaf_.reset(); }
  // Ends the move that has not arrived. Errors: corruption, io_error; the cursor is then invalid.
  monterey::Task<> arrive();

  // Steps to the entries of the leaf that lie in `direction` (+1 or -1), at most so many. The cursor stays where it is: skip()
  // tells it how many were taken. Requires: valid(). They live until the cursor moves.
  LeafSteps steps(int direction, std::uint64_t most) const {
    const std::uint32_t left = direction > 0 ? count_ - 1 - slot_ : slot_;
    return {LeafView(leaf_.data()), slot_, direction, static_cast<std::uint32_t>(std::min<std::uint64_t>(left, most))};
  }
  void skip(int direction, std::uint32_t entries) {
    slot_ += static_cast<std::uint32_t>(direction) * entries;
    STORE_ASSERT(slot_ < count_);
  }

  bool valid() const { return leaf_.data() != nullptr; }
  // The entry at the cursor. Requires: valid(). Views live until the cursor moves.
  std::string_view prefix() const { return LeafView(leaf_.data()).prefix(); }  // of all keys of the leaf
  LeafView::Entry entry() const { return LeafView(leaf_.data()).entry(slot_); }
  // Whether all keys of the leaf are in [from, to).
  bool leaf_is_within(std::string_view from, const std::optional<std::string>& to) const;
  // Counts the leaves that it stood in: while it is the same, so is prefix().
  std::uint64_t leaves() const { return leaves_; }

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
  // Where a move enters the pages on its way down.
  enum class Toward : std::uint8_t { key, before_key, first, last };

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

  bool start_at_root(Toward toward);
  bool leave_leaf(int direction);
  bool go_on(PageCache::Pin pin);
  void climb(const BranchView& branch);
  bool enter(PageCache::Pin pin);
  void enter_branch(const BranchView& branch);
  bool settle_in_leaf();
  void climb_from_leaf(int direction);
  void want_parent();
  void want_leaf(const BranchView& branch, std::uint32_t slot);
  void touch_beside(const BranchView& branch, std::uint32_t slot) const;
  void read_ahead(int direction);
  void start_read_ahead(int direction);
  std::optional<PagePointer> next_ahead();
  void ask_for(const PagePointer& leaf);
  void ask_for_branches(const BranchView& parent, std::uint32_t slot);
  void ask_for_gathered();

  PageCache& cache_;
  TreeRoot root_;
  std::uint32_t prefetch_limit_;
  std::uint32_t prefetch_pages_ = 0;
  std::uint64_t entries_;           // wanted
  std::uint64_t entries_left_ = 0;  // … that lie beyond the leaves asked for
  bool reads_ = false;              // some of what was asked for last was not resident
  std::uint32_t resident_ = 0;      // leaves in a row that were, since the cursor last waited for a page
  std::uint32_t leaves_in_a_row_ = 0;
  int direction_ = +1;                 // of the last leaves
  std::vector<Place> ahead_path_;      // of the leaf asked for last
  std::uint32_t ahead_ = 0;            // leaves between it, included, and the cursor
  std::vector<PagePointer> gathered_;  // leaves to ask for together: each in the block next to the one before
  std::vector<Step> path_;
  Range child_;  // of the page that is entered next, then of the leaf
  Leaf leaf_;
  std::uint32_t slot_ = 0;
  std::uint32_t count_ = 0;  // of the leaf's entries
  std::uint64_t leaves_ = 0;

  // The move under way: the page that it needs next, the last branch of path_ when it climbs, else one to be entered.
  PagePointer wanted_;
  unsigned wanted_level_ = 0;
  bool climbs_ = false;
  bool at_end_ = false;  // it ended where no leaf is left
  Toward toward_ = Toward::key;
  std::string target_;  // the key of a seek
};

}  // namespace store
