// Point lookup: from a root down to the leaf whose range holds a key. The resident part is synchronous and pins nothing;
// what is missing is loaded by find_leaf(), which holds at most one pin and none while it waits. The caller keeps the
// generation of the root pinned across a suspension.
#pragma once

#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <string_view>

#include "store/cache/page_cache.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/tree/root.hpp"

namespace store {

[[noreturn]] void throw_wrong_level(PageNo page, unsigned expected, unsigned found);

// Where a descent stands: before `page`, which has this level.
struct Descent {
  PagePointer page;
  unsigned level = 0;
};

// The page at `at` if it is resident, else null; readable until the next call on the cache or suspension. Counts the hit in `hits`.
// Errors: corruption when the page is not of its level.
inline const std::byte* visit(const PageCache& cache, const Descent& at, std::uint64_t& hits) {
  const std::byte* page = cache.peek(at.page, hits);
  if (page != nullptr && page_level(page) != at.level) [[unlikely]]
    throw_wrong_level(at.page.page, at.level, page_level(page));
  return page;
}

// The same for the child of a branch, by its hint.
inline const std::byte* visit(const PageCache& cache, const Descent& at, PageCache::Hint hint, std::uint64_t& hits) {
  const std::byte* page = cache.peek(at.page, hint, hits);
  if (page != nullptr && page_level(page) != at.level) [[unlikely]]
    throw_wrong_level(at.page.page, at.level, page_level(page));
  return page;
}

inline void prefetch_for_search(const std::byte* page, unsigned level) noexcept {
  level == 0 ? LeafView::prefetch(page) : BranchView::prefetch(page);
}

// Goes down from `at` while pages are resident. Returns the leaf's bytes, readable until the next call on the cache or
// suspension, or null: then `at` names the page that is missing. Counts what it visits in `hits`. Requires: a tree that is not empty.
// Errors: corruption when a page is not of its parent's level less one.
inline const std::byte* descend(const PageCache& cache, std::string_view key, Descent& at, std::uint64_t& hits) {
  Descent here = at;  // in registers
  const std::byte* page = visit(cache, here, hits);
  while (page != nullptr && here.level > 0) {
    const BranchView branch(page);
    const std::uint32_t slot = branch.find_child(key);
    const PageCache::Hint hint = cache.hint(page, slot);
    --here.level;
    prefetch_for_search(cache.guess(hint), here.level);
    here.page = branch.child(slot);
    page = visit(cache, here, hint, hits);
  }
  at = here;
  return page;
}

// The leaf that may hold `key`, pinned; loads what is missing from `at` on. `key` must live until the task ends.
// Errors: corruption, io_error.
monterey::Task<PageCache::Pin> find_leaf(PageCache& cache, std::string_view key, Descent at,
                                         monterey::IoClass io_class);

}  // namespace store
