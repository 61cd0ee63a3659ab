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
  std::vector<OverflowRun> runs(view.count());  // of those that move, by slot
  if (view.has_overflow()) co_await move_runs(view, runs);
  std::string key;
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    if (runs[slot].length > 0) {
      key.clear();
      view.append_key(slot, key);
      leaves_.add(LeafCell{key, LeafValue(runs[slot], RunOthers(runs[slot]).view())});
    } else {
      leaves_.add(view.prefix(), view.suffix(slot), view.payload_bytes(slot), view.is_run(slot));
    }
    if (leaves_.front_is_settled()) co_await emit_front(0);
  }
}

// Copies runs that end above the mark to lower places, if there are any; the references keep their checksums, so what is copied
// is not looked at.
monterey::Task<> TreeMerge::move_runs(LeafView view, std::vector<OverflowRun>& runs) {
  std::vector<RunCopy> copies;
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    if (!view.is_run(slot)) continue;
    const OverflowRun run = view.value(slot).run();
    if (run.length > kMaxValueBytes || run_end(run) <= runs_to_move_.above) continue;
    const auto blocks = static_cast<std::uint32_t>(run_blocks(run.length));
    if (counts_.run_blocks_moved + blocks > runs_to_move_.most_blocks) continue;
    const OverflowRun moved = co_await allocate_lower(run);
    if (moved.length == 0) continue;
    RunExtents extents(run);
    std::uint32_t copied = 0;
    for (Extent from; extents.next(from); copied += from.count) {
      with_.free_list.release(from, run.birth);  // refuses what cannot be a run of this store
      if (!moved.is_scattered()) copies.push_back({from.first, {PageNo(moved.first.value + copied), from.count}});
    }
    for (std::uint32_t i = 0; moved.is_scattered() && i < blocks; ++i) {
      copies.push_back({PageNo(run.block(i)), {PageNo(moved.block(i)), 1}});
    }
    runs[slot] = moved;
    counts_.run_blocks_moved += blocks;
  }
  if (!copies.empty()) co_await copy_runs(with_.device, copies, with_.io_class);
}

// Blocks for the same run in lower places, all of them; a run of no bytes where there are none. What lies in a row stays so, and what is
// scattered comes to lie in a row if it can.
monterey::Task<OverflowRun> TreeMerge::allocate_lower(OverflowRun run) {
  FreeList& free_list = with_.free_list;
  const auto blocks = static_cast<std::uint32_t>(run_blocks(run.length));
  const std::uint64_t below = run.is_scattered() ? runs_to_move_.above : run.first.value;
  OverflowRun moved(OverflowRef{PageNo{}, run.length, run.crc, building_});
  const std::optional<Extent> row = co_await free_list.allocate_run_below(blocks, below);
  if (row) {
    moved.first = row->first;
    co_return moved;
  }
  if (!run.is_scattered()) co_return OverflowRun{};
  for (std::uint32_t taken = 0; taken < blocks; ++taken) {
    const std::optional<Extent> block = co_await free_list.allocate_run_below(1, below);
    if (!block) {
      for (std::uint32_t i = 0; i < taken; ++i) free_list.give_back({PageNo(moved.block(i)), 1});
      co_return OverflowRun{};
    }
    moved.set_block(taken, block->first.value);
  }
  moved.other_count = blocks - 1;
  co_return moved;
}

}  // namespace store
