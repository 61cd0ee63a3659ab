#include "store/tree/rewrite_plan.hpp"

#include <algorithm>
#include <cstring>
#include <monterey/preempt.hpp>
#include <utility>

#include "store/base/assert.hpp"
#include "store/page/branch.hpp"
#include "store/tree/lookup.hpp"

namespace store {

namespace {

// What a leaf has beside its cells, but for the prefix.
constexpr std::size_t kLeafOverhead = leaf_bytes(0, 0, 0, 0);
constexpr std::size_t kCellOverhead = leaf_bytes(1, 0, 0, 0) - kLeafOverhead;

}  // namespace

RewritePlanner::RewritePlanner(BlockDevice& device, PageCache& cache, std::span<std::byte> read_slots,
                               monterey::IoClass io_class, TreeRoot tree)
    : cache_(cache), io_class_(io_class), tree_(tree), reader_(device, cache, read_slots, io_class) {}

monterey::Task<RewritePlan> RewritePlanner::pack(std::string from, Limits limits) {
  return walk(std::move(from), limits);
}

monterey::Task<RewritePlan> RewritePlanner::above(std::uint64_t block, std::string from, Limits limits) {
  mark_ = block;
  return walk(std::move(from), limits);
}

monterey::Task<RewritePlan> RewritePlanner::walk(std::string from, Limits limits) {
  std::deque<Leaf> pending;  // met, not yet judged
  bool more = !tree_.empty();
  for (std::size_t judged = 0;; ++judged) {
    while (more && pending.size() < kMostPending && !reader_.full()) {
      std::optional<Leaf> leaf = co_await next_leaf(from);
      more = leaf.has_value();
      if (!more) break;
      leaf->is_read = !mark_ || has_overflow(leaf->pointer);
      if (leaf->is_read) reader_.start(leaf->pointer);
      pending.push_back(std::move(*leaf));
    }
    if (!more) reader_.no_more();
    if (pending.empty()) break;
    // One leaf at least, or the next part would begin where this one did: branches above it may have used up the limit.
    const bool enough = plan_.pages.size() + plan_.run_blocks >= limits.blocks || judged >= limits.leaves;
    if (judged > 0 && enough) {
      plan_.next = std::move(pending.front().lower);
      break;
    }
    const Leaf leaf = std::move(pending.front());
    pending.pop_front();
    const std::byte* bytes = nullptr;
    if (leaf.is_read) {
      const LeafReader::Leaf read = co_await reader_.take();
      bytes = read.bytes;
    }
    if (mark_) {
      judge_place(leaf, bytes);
    } else {
      judge_room(leaf, LeafView(bytes));
    }
    co_await monterey::maybe_yield();
  }
  co_await reader_.drain();
  co_return std::move(plan_);
}

monterey::Task<> RewritePlanner::push(PagePointer pointer, unsigned level, std::string lower, std::size_t above) {
  Level entered{std::make_unique<Page>(), level, 0, std::move(lower), branches_.size()};
  {
    const PageCache::Pin pin = co_await cache_.pin(pointer, io_class_);
    if (page_level(pin.data()) != level) throw_wrong_level(pointer.page, level, page_level(pin.data()));
    std::memcpy(entered.page->data(), pin.data(), kPageBytes);
  }
  branches_.push_back({pointer.page.value, above});
  if (mark_ && pointer.page.value >= *mark_) choose_branch(entered.branch);
  levels_.push_back(std::move(entered));
}

// The next leaf in key order; the first time the one that `from` belongs to.
monterey::Task<std::optional<RewritePlanner::Leaf>> RewritePlanner::next_leaf(const std::string& from) {
  const bool first = !std::exchange(begun_, true);
  if (first) {
    if (tree_.height == 1) co_return Leaf{tree_.page, std::string(), kNoBranch};
    co_await push(tree_.page, tree_.height - 1u, std::string(), kNoBranch);
    levels_.back().next = BranchView(levels_.back().page->data()).find_child(from);
  }
  while (!levels_.empty()) {
    Level& at = levels_.back();
    const BranchView view(at.page->data());
    if (at.next == view.count()) {
      levels_.pop_back();
      continue;
    }
    const std::uint32_t slot = at.next++;
    std::string lower = slot == 0 ? at.lower : std::string();
    view.append_separator(slot, lower);
    const PagePointer child = view.child(slot);
    if (at.level == 1) co_return Leaf{child, std::move(lower), at.branch};
    co_await push(child, at.level - 1, std::move(lower), at.branch);
    if (first) levels_.back().next = BranchView(levels_.back().page->data()).find_child(from);
  }
  co_return std::nullopt;
}

void RewritePlanner::judge_place(const Leaf& leaf, const std::byte* bytes) {
  bool moves = leaf.pointer.page.value >= *mark_;
  if (bytes != nullptr) {
    const LeafView view(bytes);
    for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
      if (!view.is_run(slot)) continue;
      const OverflowRun run = view.value(slot).run();
      if (run.length > kMaxValueBytes || run_end(run) <= *mark_) continue;
      plan_.run_blocks += run_blocks(run.length);
      moves = true;
    }
  }
  if (moves) choose(leaf.pointer, leaf.branch);
}

void RewritePlanner::judge_room(const Leaf& leaf, LeafView view) {
  Candidate next{leaf.pointer, leaf.branch, {}, {}, view.count(), 0, 0};
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    const std::size_t bytes =
        kCellOverhead + view.prefix().size() + view.suffix(slot).size() + value_bytes(view.value(slot));
    next.cell_bytes += bytes;
    next.largest_cell = std::max(next.largest_cell, bytes);
  }
  if (view.count() > 0) {
    view.append_key(0, next.first_key);
    view.append_key(view.count() - 1, next.last_key);
  }
  neighbours_.push_back(std::move(next));
  if (neighbours_.size() > kMostTogether) neighbours_.pop_front();

  // A page is left only when the next cell does not fit, so each but the last is filled to within the largest cell.
  std::size_t cells = 0;
  std::size_t cell_bytes = 0;
  std::size_t largest = 0;
  for (std::size_t together = 1; together <= neighbours_.size(); ++together) {
    const Candidate& first = neighbours_[neighbours_.size() - together];
    cells += first.cells;
    cell_bytes += first.cell_bytes;
    largest = std::max(largest, first.largest_cell);
    if (together == 1 || kLeafOverhead + largest >= kPageBytes) continue;
    const std::size_t prefix = common_prefix_bytes(first.first_key, neighbours_.back().last_key);
    const std::size_t room = kPageBytes - kLeafOverhead - largest;
    if (cell_bytes - cells * prefix > (together - 1) * room) continue;
    for (std::size_t i = neighbours_.size() - together; i < neighbours_.size(); ++i) {
      choose(neighbours_[i].pointer, neighbours_[i].branch);
    }
    neighbours_.clear();
    return;
  }
}

void RewritePlanner::choose(const PagePointer& leaf, std::size_t branch) {
  plan_.leaves.push_back(leaf);
  plan_.pages.insert(leaf.page.value);
  choose_branch(branch);
}

void RewritePlanner::choose_branch(std::size_t branch) {
  for (; branch != kNoBranch && plan_.pages.insert(branches_[branch].page).second; branch = branches_[branch].above) {
  }
}

}  // namespace store
