#include "store/tree/cursor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <store/error.hpp>

#include "store/tree/lookup.hpp"

namespace store {

namespace {

constexpr std::uint32_t kLeavesBeforeReadAhead = 2;

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

TreeCursor::TreeCursor(PageCache& cache, TreeRoot root, std::uint32_t prefetch_pages)
    : cache_(cache),
      root_(root),
      prefetch_limit_(static_cast<std::uint32_t>(std::min<std::size_t>(prefetch_pages, cache.transient_window() / 2))) {
}

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

void TreeCursor::reset() {
  leaf_.reset();
  path_.clear();
}

monterey::Task<> TreeCursor::descend(PagePointer page, unsigned level, Toward toward, std::string_view key) {
  leaf_.reset();
  for (;; --level) {
    PageCache::Pin pin =
        co_await cache_.pin(page, monterey::IoClass::foreground, level == 0 ? Reuse::unlikely : Reuse::likely);
    if (page_level(pin.data()) != level) throw_wrong_level(page, level, page_level(pin.data()));
    if (level == 0) {
      const LeafView leaf(pin.data());
      if (leaf.count() > 0 && !child_.covers(leaf.prefix(), leaf.suffix(0), leaf.suffix(leaf.count() - 1))) {
        throw_out_of_range(page, "keys");
      }
      leaf_.hold(cache_, std::move(pin));
      co_return;
    }
    const BranchView branch(pin.data());
    if (branch.count() > 1 && !child_.covers(branch.prefix(), branch.suffix(1), branch.suffix(branch.count() - 1))) {
      throw_out_of_range(page, "separators");
    }
    std::uint32_t slot = 0;
    if (toward == Toward::key) slot = branch.find_child(key);
    if (toward == Toward::last) slot = branch.count() - 1;
    path_.push_back(Step{{page, level, slot}, child_});
    child_.assign_child(path_.back().range, branch, slot);
    page = branch.child(slot);
  }
}

monterey::Task<> TreeCursor::seek(std::string key) {
  reset();
  leaves_in_a_row_ = 0;
  prefetch_pages_ = 0;
  ahead_ = 0;
  if (root_.empty()) co_return;
  child_ = Range{};
  co_await descend(root_.page, root_.height - 1u, Toward::key, key);
  const LeafView leaf(leaf_.data());
  slot_ = leaf.find(key).slot;
  if (slot_ == leaf.count()) co_await leave_leaf(+1);
}

monterey::Task<> TreeCursor::seek_before(std::optional<std::string> key) {
  reset();
  leaves_in_a_row_ = 0;
  prefetch_pages_ = 0;
  ahead_ = 0;
  if (root_.empty()) co_return;
  child_ = Range{};
  co_await descend(root_.page, root_.height - 1u, key ? Toward::key : Toward::last, key ? *key : std::string_view());
  const LeafView leaf(leaf_.data());
  slot_ = key ? leaf.find(*key).slot : leaf.count();
  if (slot_ == 0) {
    co_await leave_leaf(-1);
  } else {
    --slot_;
  }
}

bool TreeCursor::try_next() {
  if (slot_ + 1 >= LeafView(leaf_.data()).count()) return false;
  ++slot_;
  return true;
}

bool TreeCursor::try_prev() {
  if (slot_ == 0) return false;
  --slot_;
  return true;
}

monterey::Task<> TreeCursor::next() {
  if (try_next()) return [](void) -> monterey::Task<> { co_return; }();
  return leave_leaf(+1);
}

monterey::Task<> TreeCursor::prev() {
  if (try_prev()) return [](void) -> monterey::Task<> { co_return; }();
  return leave_leaf(-1);
}

// The cursor goes to the next leaf, which path_ leads to already.
void TreeCursor::read_ahead(int direction) {
  if (direction != direction_) {
    direction_ = direction;
    leaves_in_a_row_ = 0;
    prefetch_pages_ = 0;
    ahead_ = 0;
  }
  if (++leaves_in_a_row_ <= kLeavesBeforeReadAhead || prefetch_limit_ == 0) return;
  prefetch_pages_ = std::clamp(prefetch_pages_ * 2, 4u, std::max(prefetch_limit_, 4u));
  if (ahead_ > 0) --ahead_;
  if (ahead_ == 0) ahead_path_.assign(path_.begin(), path_.end());
  if (ahead_ > prefetch_pages_ / 2) return;
  while (ahead_ < prefetch_pages_) {
    const std::optional<PagePointer> leaf = next_ahead();
    if (!leaf) return;
    cache_.prefetch(*leaf, monterey::IoClass::background, Reuse::unlikely);
    ++ahead_;
  }
}

// The leaf behind the one asked for last. nullopt at the end of the tree, and when a branch must be read first.
std::optional<PagePointer> TreeCursor::next_ahead() {
  while (!ahead_path_.empty()) {
    Place& step = ahead_path_.back();
    const PageCache::Pin pin = cache_.try_pin(step.branch);
    if (!pin) {
      cache_.prefetch(step.branch, monterey::IoClass::background);
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
    ahead_path_.push_back(Place{child, step.level - 1, kNoSlot});
  }
  return std::nullopt;
}

// To the nearest leaf with an entry on that side; an empty leaf is passed over.
monterey::Task<> TreeCursor::leave_leaf(int direction) {
  do {
    leaf_.reset();
    PagePointer child;
    unsigned level = 0;
    while (!path_.empty() && child.is_null()) {
      Step& step = path_.back();
      PageCache::Pin pin = co_await cache_.pin(step.branch, monterey::IoClass::foreground);
      const BranchView branch(pin.data());
      const bool at_end = direction > 0 ? step.slot + 1 >= branch.count() : step.slot == 0;
      if (at_end) {
        path_.pop_back();
        continue;
      }
      step.slot = direction > 0 ? step.slot + 1 : step.slot - 1;
      child = branch.child(step.slot);
      child_.assign_child(step.range, branch, step.slot);
      level = step.level - 1;
      if (level == 0) read_ahead(direction);
    }
    if (child.is_null()) co_return;  // the end
    co_await descend(child, level, direction > 0 ? Toward::first : Toward::last, {});
    slot_ = direction > 0 ? 0 : LeafView(leaf_.data()).count() - 1;
  } while (LeafView(leaf_.data()).count() == 0);
}

}  // namespace store
