// The part of a merge that has to do with erased ranges: which pages lie in one, and how a subtree is dropped.
#include <algorithm>
#include <monterey/preempt.hpp>

#include "store/tree/merge.hpp"

namespace store {

namespace {

constexpr std::uint32_t kBranchesAhead = 16;  // of a dropped subtree, read ahead

}  // namespace

TreeMerge::Erased TreeMerge::erased_in(std::string_view lower, const UpperBound& upper) const {
  if (ranges_ == nullptr) return Erased::nothing;
  const auto stretch = ranges_->next_stretch(lower, at_, after_);
  if (!stretch || !stretch->begins_before(upper)) return Erased::nothing;
  return stretch->covers(lower, upper) ? Erased::all : Erased::some;
}

bool TreeMerge::is_erased(std::string_view key) const {
  const auto stretch = ranges_->next_stretch(key, at_, after_);
  return stretch && stretch->from <= key;
}

bool TreeMerge::erases_any_of(LeafView leaf) const {
  std::string key;
  for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
    key.clear();
    leaf.append_key(slot, key);
    if (is_erased(key)) return true;
  }
  return false;
}

monterey::Task<> TreeMerge::pass_over_erased(WriteBuffer::Iterator* input) {
  for (std::size_t passed = 1; input->valid() && input->entry().by_range; ++passed) {
    input->next();
    if (passed % 64 == 0) co_await monterey::maybe_yield();
  }
}

// Supersedes a page of which nothing stays, and all below it.
monterey::Task<> TreeMerge::drop(PagePointer pointer, unsigned level) {
  co_await monterey::maybe_yield();
  supersede(pointer);
  if (level == 0) {
    counts_.entries -= entry_count(pointer);
    if (!has_overflow(pointer)) co_return;
    const LeafReader::Leaf leaf = co_await take_leaf(pointer);
    const LeafView view(leaf.bytes);
    for (std::uint32_t slot = 0; slot < view.count(); ++slot) drop_value(view.value(slot));
    co_return;
  }
  const auto page = std::make_unique<Page>();
  co_await load_branch(pointer, level, page.get(), Reuse::unlikely);
  const BranchView view(page->data());
  const auto ahead =
      static_cast<std::uint32_t>(std::min<std::size_t>(kBranchesAhead, with_.cache.transient_window() / 2));
  std::uint32_t asked_for = level > 1 ? 0 : view.count();
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    for (; asked_for < view.count() && asked_for <= slot + ahead; ++asked_for) {
      with_.cache.prefetch(view.child(asked_for), with_.io_class, Reuse::unlikely);
    }
    const PagePointer child = view.child(slot);
    if (level == 1 && !has_overflow(child)) {
      supersede(child);
      counts_.entries -= entry_count(child);
    } else {
      co_await drop(child, level - 1);
    }
  }
}

}  // namespace store
