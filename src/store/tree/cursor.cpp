#include "store/tree/cursor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <store/error.hpp>

#include "store/tree/lookup.hpp"

namespace store {

namespace {

constexpr std::uint32_t kLeavesBeforeReadAhead = 2;
constexpr std::uint32_t kFirstWindow = 4;                       // leaves
constexpr std::uint32_t kRefill = 2 * PageCache::kMaxTogether;  // leaves asked for at a time where the window is wide
constexpr std::uint32_t kLeavesOfSparseBranch = 64;
constexpr std::uint32_t kResidentLeaves = 16;  // in a row: where so many were asked for in vain, the next ones are too

// Compares a key in two parts.
int compare(std::string_view prefix, std::string_view suffix, std::string_view other) {
  const int order = prefix.compare(other.substr(0, prefix.size()));
  return order != 0 ? order : suffix.compare(other.substr(prefix.size()));
}

[[noreturn]] void throw_out_of_range(const PagePointer& page, const char* what) {
  throw Error(Errc::corruption, fmt::format("page {}: {} lie outside the range that the separators above it give it; "
                                            "restore from a backup or salvage the store",
                                            page.page.value, what));
}

}  // namespace

void TreeCursor::Range::assign_child(const Range& parent, const BranchView& branch, std::uint32_t slot) {
  lower.assign(slot == 0 ? parent.lower : std::string_view());
  branch.append_separator(slot, lower);
  const bool has_next = slot + 1 < branch.count();
  upper.assign(has_next ? std::string_view() : parent.upper);
  if (has_next) branch.append_separator(slot + 1, upper);
  has_upper = has_next || parent.has_upper;
}

bool TreeCursor::Range::covers(std::string_view prefix, std::string_view first, std::string_view last) const {
  return compare(prefix, first, lower) >= 0 && (!has_upper || compare(prefix, last, upper) < 0);
}

TreeCursor::TreeCursor(PageCache& cache, TreeRoot root, std::uint32_t prefetch_pages, std::uint64_t entries)
    : cache_(cache),
      root_(root),
      prefetch_limit_(static_cast<std::uint32_t>(std::min<std::size_t>(prefetch_pages, cache.transient_window() / 2))),
      entries_(entries) {}

void TreeCursor::Leaf::hold(PageCache& cache, PageCache::Pin pin) {
  pin_ = cache.try_user_pin(pin);
  if (pin_) {
    copy_in_use_ = false;
    return;
  }
  if (!copy_) copy_ = std::make_unique<std::array<std::byte, kPageBytes>>();
  std::memcpy(copy_->data(), pin.data(), kPageBytes);
  copy_in_use_ = true;
}

bool TreeCursor::leaf_is_within(std::string_view from, const std::optional<std::string>& to) const {
  const LeafView leaf(leaf_.data());
  return compare(leaf.prefix(), leaf.suffix(0), from) >= 0 &&
         (!to || compare(leaf.prefix(), leaf.suffix(count_ - 1), *to) < 0);
}

bool TreeCursor::try_seek(std::string_view key) {
  target_.assign(key);
  return start_at_root(Toward::key);
}

bool TreeCursor::try_seek_before(std::optional<std::string_view> key) {
  if (key) target_.assign(*key);
  return start_at_root(key ? Toward::before_key : Toward::last);
}

bool TreeCursor::start_at_root(Toward toward) {
  leaf_.reset();
  path_.clear();
  path_.reserve(root_.height);
  gathered_.clear();
  at_end_ = false;
  resident_ = kResidentLeaves;
  start_read_ahead(0);
  if (root_.empty()) return true;
  child_ = Range{};
  toward_ = toward;
  wanted_ = root_.page;
  wanted_level_ = root_.height - 1u;
  climbs_ = false;
  return go_on({});
}

// To the nearest leaf with an entry on that side.
bool TreeCursor::leave_leaf(int direction) {
  climb_from_leaf(direction);
  return go_on({});
}

void TreeCursor::climb_from_leaf(int direction) {
  leaf_.reset();
  toward_ = direction > 0 ? Toward::first : Toward::last;
  climbs_ = true;
  want_parent();
}

void TreeCursor::want_parent() {
  at_end_ = path_.empty();
  if (!at_end_) wanted_ = path_.back().branch;
}

monterey::Task<> TreeCursor::arrive() {
  resident_ = 0;
  for (PageCache::Pin pin;; pin.reset()) {
    pin = co_await cache_.pin(wanted_, monterey::IoClass::foreground,
                              !climbs_ && wanted_level_ == 0 ? Reuse::unlikely : Reuse::likely);
    const bool arrived = go_on(std::move(pin));
    if (arrived) co_return;
  }
}

// Goes on with the move, from `pin` if that is the wanted page. Returns false where wanted_ must be read.
bool TreeCursor::go_on(PageCache::Pin pin) {
  for (; !at_end_; pin.reset()) {
    if (!pin) pin = cache_.try_pin(wanted_, !climbs_ && wanted_level_ == 0 ? Reuse::unlikely : Reuse::likely);
    if (!pin) return false;
    if (climbs_) {
      climb(BranchView(pin.data()));
    } else if (enter(std::move(pin))) {
      return true;
    }
  }
  return true;
}

// In the last branch of path_: to the child beside the one that the move comes from, or further up.
void TreeCursor::climb(const BranchView& branch) {
  const bool forward = toward_ == Toward::first;
  Step& step = path_.back();
  const bool at_end = forward ? step.slot + 1 >= branch.count() : step.slot == 0;
  if (at_end) {
    path_.pop_back();
    want_parent();
    return;
  }
  step.slot = forward ? step.slot + 1 : step.slot - 1;
  wanted_ = branch.child(step.slot);
  wanted_level_ = step.level - 1;
  climbs_ = false;
  child_.assign_child(step.range, branch, step.slot);
  if (wanted_level_ == 0) want_leaf(branch, step.slot);
}

// The leaf in this slot is wanted. Every leaf that the cursor goes on to passes here once: read-ahead counts them.
void TreeCursor::want_leaf(const BranchView& branch, std::uint32_t slot) {
  touch_beside(branch, slot);
  if (toward_ == Toward::first) read_ahead(+1);
  if (toward_ == Toward::last) read_ahead(-1);
}

// Brings the leaf behind this one, and where the one after that is found, into the CPU's caches while this one is read.
void TreeCursor::touch_beside(const BranchView& branch, std::uint32_t slot) const {
  const std::uint32_t step = toward_ == Toward::last || toward_ == Toward::before_key ? ~0u : 1u;
  if (slot + step < branch.count()) {
    const std::byte* page = cache_.guess(branch.child(slot + step).page);
    if (page != nullptr) LeafView::prefetch_entries(page);
  }
  if (slot + 2 * step < branch.count()) cache_.touch(branch.child(slot + 2 * step).page);
}

// Into the wanted page. Returns whether the move ends there.
bool TreeCursor::enter(PageCache::Pin pin) {
  if (page_level(pin.data()) != wanted_level_) throw_wrong_level(wanted_.page, wanted_level_, page_level(pin.data()));
  if (wanted_level_ > 0) {
    enter_branch(BranchView(pin.data()));
    return false;
  }
  const LeafView leaf(pin.data());
  if (leaf.count() > 0 && !child_.covers(leaf.prefix(), leaf.suffix(0), leaf.suffix(leaf.count() - 1))) {
    throw_out_of_range(wanted_, "keys");
  }
  leaf_.hold(cache_, std::move(pin));
  ++leaves_;
  return settle_in_leaf();
}

void TreeCursor::enter_branch(const BranchView& branch) {
  if (branch.count() > 1 && !child_.covers(branch.prefix(), branch.suffix(1), branch.suffix(branch.count() - 1))) {
    throw_out_of_range(wanted_, "separators");
  }
  std::uint32_t slot = 0;
  if (toward_ == Toward::key || toward_ == Toward::before_key) slot = branch.find_child(target_);
  if (toward_ == Toward::last) slot = branch.count() - 1;
  path_.push_back(Step{{wanted_, wanted_level_, slot}, child_});
  child_.assign_child(path_.back().range, branch, slot);
  wanted_ = branch.child(slot);
  if (--wanted_level_ == 0) want_leaf(branch, slot);
}

// To the entry in the leaf where the move ends; on to the next leaf if it is not in this one. Returns whether it has ended.
bool TreeCursor::settle_in_leaf() {
  const LeafView leaf(leaf_.data());
  count_ = leaf.count();
  const bool forward = toward_ == Toward::key || toward_ == Toward::first;
  std::uint32_t end = forward ? 0 : count_;  // forward the first that may be it, else one behind the last
  if (toward_ == Toward::key || toward_ == Toward::before_key) end = leaf.find(target_).slot;
  if (forward ? end < count_ : end > 0) {
    slot_ = forward ? end : end - 1;
    return true;
  }
  climb_from_leaf(forward ? +1 : -1);
  return false;
}

// The cursor goes to the next leaf, which path_ leads to already.
void TreeCursor::read_ahead(int direction) {
  if (direction != direction_) start_read_ahead(direction);
  const auto passes = [this](const PagePointer& leaf) {
    entries_left_ -= std::min<std::uint64_t>(entries_left_, entry_count(leaf));
  };
  if (ahead_ > 0) {
    --ahead_;
  } else {
    if (entries_left_ == 0) {  // the way is longer: a buffer has erased some of what the leaves hold
      entries_ += std::min(entries_, std::numeric_limits<std::uint64_t>::max() - entries_);
      entries_left_ = entries_;
    }
    passes(wanted_);
  }
  if (++leaves_in_a_row_ <= kLeavesBeforeReadAhead || prefetch_limit_ == 0) return;
  if (resident_ >= kResidentLeaves) return;  // until the cursor has to wait for a page
  if (ahead_ == 0) ahead_path_.assign(path_.begin(), path_.end());
  if (ahead_ + std::min(prefetch_pages_ / 2, kRefill) > prefetch_pages_ || entries_left_ == 0) return;
  prefetch_pages_ = std::clamp(reads_ ? prefetch_pages_ * 2 : prefetch_pages_ / 2, kFirstWindow,
                               std::max(prefetch_limit_, kFirstWindow));
  reads_ = false;
  while (ahead_ < prefetch_pages_ && entries_left_ > 0) {
    const std::optional<PagePointer> leaf = next_ahead();
    if (!leaf) break;
    passes(*leaf);
    ask_for(*leaf);
    ++ahead_;
  }
  ask_for_gathered();
}

void TreeCursor::start_read_ahead(int direction) {
  direction_ = direction;
  leaves_in_a_row_ = 0;
  prefetch_pages_ = 0;
  ahead_ = 0;
  entries_left_ = entries_;
  reads_ = false;
}

void TreeCursor::ask_for(const PagePointer& leaf) {
  const std::uint32_t step = direction_ > 0 ? 1u : ~0u;
  const bool goes_on = !gathered_.empty() && gathered_.size() < PageCache::kMaxTogether &&
                       leaf.page.value == gathered_.back().page.value + step;
  if (!goes_on) ask_for_gathered();
  gathered_.push_back(leaf);
}

void TreeCursor::ask_for_gathered() {
  if (gathered_.empty()) return;
  if (direction_ < 0) std::ranges::reverse(gathered_);
  const bool reads = cache_.prefetch_together(gathered_, monterey::IoClass::background, Reuse::unlikely) > 0;
  reads_ = reads || reads_;
  resident_ = reads ? 0 : resident_ + static_cast<std::uint32_t>(gathered_.size());
  gathered_.clear();
}

// The branch in this slot comes next; and those behind it, whose leaves the window may reach, or it would end at each
// border.
void TreeCursor::ask_for_branches(const BranchView& parent, std::uint32_t slot) {
  const std::uint32_t left = direction_ > 0 ? parent.count() - 1 - slot : slot;
  const std::uint64_t reach = std::min<std::uint64_t>(prefetch_pages_, entries_left_) / kLeavesOfSparseBranch;
  const auto last = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, reach));
  for (std::uint32_t i = 0; i <= last; ++i) {
    cache_.prefetch(parent.child(direction_ > 0 ? slot + i : slot - i), monterey::IoClass::background);
  }
}

// The leaf behind the one asked for last. nullopt at the end of the tree, and when a branch must be read first.
std::optional<PagePointer> TreeCursor::next_ahead() {
  while (!ahead_path_.empty()) {
    Place& step = ahead_path_.back();
    const PageCache::Pin pin = cache_.try_pin(step.branch);
    if (!pin) {
      cache_.prefetch(step.branch, monterey::IoClass::background);
      reads_ = true;
      resident_ = 0;
      return std::nullopt;
    }
    // Damage is for the cursor to report, when it comes here.
    if (page_level(pin.data()) != step.level) return std::nullopt;
    const BranchView branch(pin.data());
    const std::uint32_t outermost = direction_ > 0 ? branch.count() - 1 : 0;
    if (step.slot == outermost) {
      ahead_path_.pop_back();
      continue;
    }
    if (step.slot == kNoSlot) {
      step.slot = direction_ > 0 ? 0 : branch.count() - 1;
    } else {
      step.slot = direction_ > 0 ? step.slot + 1 : step.slot - 1;
    }
    const PagePointer child = branch.child(step.slot);
    if (step.level == 1) return child;
    if (step.level == 2) ask_for_branches(branch, step.slot);
    ahead_path_.push_back(Place{child, step.level - 1, kNoSlot});
  }
  return std::nullopt;
}

}  // namespace store
