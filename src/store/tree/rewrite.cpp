// The merge without a buffer: pages that a plan names are written anew, their cells as they are, neighbours packed together,
// and their runs moved down where there is room. Everything else is carried over.
#include <fmt/format.h>

#include <cstring>
#include <monterey/preempt.hpp>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/tree/merge.hpp"
#include "store/tree/overflow_io.hpp"

namespace store {

monterey::Task<TreeRoot> TreeMerge::rewrite(const RewritePlan* plan, RunsToMove runs) {
  plan_to_rewrite_ = plan;
  runs_to_move_ = runs;
  if (!plan->pages.contains(from_.page.page.value)) {
    TreeRoot same = from_;
    same.generation = building_;
    co_return same;
  }
  co_await rewrite_page(from_.page, from_.height - 1u, std::string(), std::nullopt);
  counts_.pages_read = reader_.pages_read();
  co_return co_await finish();
}

monterey::Task<> TreeMerge::rewrite_page(PagePointer pointer, unsigned level, std::string lower, UpperBound upper) {
  if (level == 0) return rewrite_leaf(pointer, std::move(lower), std::move(upper));
  return rewrite_branch(pointer, level, std::move(lower), std::move(upper));
}

monterey::Task<> TreeMerge::rewrite_branch(PagePointer pointer, unsigned level, std::string lower, UpperBound upper) {
  const auto page = std::make_unique<Page>();
  co_await load_branch(pointer, level, page.get());
  supersede(pointer);
  const BranchView view(page->data());
  require_branch_in_range(pointer, view, lower, upper);
  std::string separator = lower;
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    UpperBound child_upper = upper;
    if (slot + 1 < view.count()) {
      child_upper.emplace();
      view.append_separator(slot + 1, *child_upper);
    }
    const PagePointer child = view.child(slot);
    if (plan_to_rewrite_->pages.contains(child.page.value)) {
      co_await rewrite_page(child, level - 1, separator, child_upper);
    } else {
      co_await carry_over(level, separator, child);
    }
    if (child_upper) separator = std::move(*child_upper);
  }
}

monterey::Task<> TreeMerge::rewrite_leaf(PagePointer pointer, std::string lower, UpperBound upper) {
  co_await monterey::maybe_yield(kLeafRound);
  const std::vector<PagePointer>& leaves = plan_to_rewrite_->leaves;
  while (!reader_.full() && next_to_rewrite_ < leaves.size()) reader_.start(leaves[next_to_rewrite_++]);
  if (next_to_rewrite_ == leaves.size()) reader_.no_more();
  if (!reader_.next_is(pointer)) {
    throw Error(Errc::corruption, fmt::format("{}: page {}: two pointers lead to it; restore from a backup or salvage "
                                              "the store",
                                              with_.device.name(), pointer.page.value));
  }
  const LeafReader::Leaf leaf = co_await reader_.take();
  const LeafView view(leaf.bytes);
  require_leaf_in_range(pointer, view, lower, upper);
  join_run(lower);
  begin_leaf(leaf.was_resident);
  supersede(pointer);
  std::vector<OverflowRef> runs(view.count());  // of those that move, by slot
  if (view.has_overflow()) co_await move_runs(view, runs);
  std::string key;
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    if (runs[slot].length > 0) {
      key.clear();
      view.append_key(slot, key);
      leaves_.add(LeafCell{key, LeafValue(runs[slot])});
    } else {
      leaves_.add(view.prefix(), view.suffix(slot), view.payload_bytes(slot), view.is_run(slot));
    }
    if (leaves_.front_is_settled()) co_await emit_front(0);
  }
}

// Copies runs that end above the mark to lower places, if there are any; the references keep their checksums, so what is copied
// is not looked at.
monterey::Task<> TreeMerge::move_runs(LeafView view, std::vector<OverflowRef>& runs) {
  std::vector<RunCopy> copies;
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    if (!view.is_run(slot)) continue;
    OverflowRef run = view.value(slot).run();
    if (run.length > kMaxValueBytes || run_extent(run).end() <= runs_to_move_.above) continue;
    const Extent from = run_extent(run);
    if (counts_.run_blocks_moved + from.count > runs_to_move_.most_blocks) continue;
    const std::optional<Extent> to = co_await with_.free_list.allocate_run_below(from.count, from.first.value);
    if (!to) continue;
    with_.free_list.release(from, run.birth);  // refuses what cannot be a run of this store
    run.first = to->first;
    run.birth = building_;
    runs[slot] = run;
    copies.push_back({from.first, *to});
    counts_.run_blocks_moved += to->count;
  }
  if (!copies.empty()) co_await copy_runs(with_.device, copies, with_.io_class);
}

}  // namespace store
