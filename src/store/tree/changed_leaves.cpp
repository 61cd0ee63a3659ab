#include "store/tree/changed_leaves.hpp"

#include <fmt/format.h>

#include <cstring>
#include <store/error.hpp>
#include <utility>

#include "store/tree/lookup.hpp"

namespace store {

ChangedLeaves::ChangedLeaves(PageCache& cache, monterey::IoClass io_class, TreeRoot tree, Generation since)
    : cache_(cache), io_class_(io_class), tree_(tree), since_(since) {}

monterey::Task<> ChangedLeaves::enter(ChangedLeaf page, unsigned level) {
  Level entered{std::make_unique<Page>(), level, 0, std::move(page.lower), std::move(page.upper)};
  {
    const PageCache::Pin pin = co_await cache_.pin(page.pointer, io_class_, Reuse::unlikely);
    if (page_level(pin.data()) != level) throw_wrong_level(page.pointer.page, level, page_level(pin.data()));
    std::memcpy(entered.page->data(), pin.data(), kPageBytes);
  }
  levels_.push_back(std::move(entered));
}

monterey::Task<std::optional<ChangedLeaf>> ChangedLeaves::next() {
  if (!std::exchange(begun_, true) && !tree_.empty()) {
    ChangedLeaf root{tree_.page, std::string(), std::nullopt};
    if (tree_.height == 1) co_return std::move(root);
    co_await enter(std::move(root), tree_.height - 1u);
  }
  while (!levels_.empty()) {
    Level& at = levels_.back();
    const BranchView view(at.page->data());
    if (at.next == view.count()) {
      levels_.pop_back();
      continue;
    }
    const std::uint32_t slot = at.next++;
    ChangedLeaf child{view.child(slot), std::string(), at.upper};
    if (slot + 1 < view.count()) {
      child.upper.emplace();
      view.append_separator(slot + 1, *child.upper);
    }
    if (child.pointer.birth <= since_ && child.upper) continue;
    if (slot == 0) {
      child.lower = at.lower;
    } else {
      view.append_separator(slot, child.lower);
    }
    if (child.upper && child.lower >= *child.upper) {
      throw Error(Errc::corruption,
                  fmt::format("page {}: the range of keys that its place in the tree gives it is empty; "
                              "run check, restore from a backup or salvage the store",
                              child.pointer.page.value));
    }
    if (at.level == 1) co_return std::move(child);
    co_await enter(std::move(child), at.level - 1);
  }
  co_return std::nullopt;
}

}  // namespace store
