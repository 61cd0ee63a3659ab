// Compaction: a series of small commits in the flusher's place, each of which leaves the store whole; a flush that waits goes
// first. No state of it is on the device: a store that crashed meanwhile is compacted from the start, which costs reads only
// where nothing is left to do.
//
//  1. pack: neighbouring leaves with room are written anew as fewer.
//  2. move: pages and runs above the mark (blocks in use, and a little) are written to the lowest free blocks; until
//     the tail is free, or nothing moves any more. Then the allocator's own pages.
//  3. log: a log that lies there is begun anew with other segments.
//  4. lower: the high-water mark falls over the free tail, which is given back to the device.
//
// All the while every allocation, a flush's too, takes the lowest blocks, so that nothing new settles in the tail. New
// copies take free blocks and never more than half of them at once, so that the file does not grow for it; what readers of
// older states hold comes back only when they let go, and until then there is less to move with.
#include <fmt/format.h>

#include <algorithm>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/partition/partition_core.hpp"

namespace store::detail {

namespace {

constexpr std::uint64_t kMostBlocksACommit = 1024;  // 4 MiB
constexpr std::size_t kMostLeavesATurn = 4096;      // looked at while a flush may come to wait
constexpr std::uint64_t kLeastGain = 16;            // of what lies above the mark, a round is to free one in so many
constexpr int kMostLogMoves = 8;                    // by one call, beside writers that make it grow
constexpr std::uint64_t kFewBlocks = 64;            // a commit may take from a store that has none free

}  // namespace

// How many blocks the device may have when it is compacted: room for a commit to work with, which the log needs none of.
std::uint64_t PartitionCore::compact_mark() const {
  const std::uint64_t used = free_list_.used_blocks();
  const bool log_lies_here = (meta_.features & kFeatureLogDevice) == 0;
  const std::uint64_t log = log_lies_here ? log_layout().total_bytes() / kPageBytes : 0;
  return used + (used - std::min(used, log)) / 32 + 32;
}

// One commit of a compaction, from the one who wants it to the flusher and back.
struct PartitionCore::CompactTurn {
  CompactStep step = CompactStep::pack;
  std::string from;          // pack, move: where in the tree to go on
  std::uint64_t blocks = 0;  // … about how many to write
  std::uint64_t mark = 0;    // move, own_pages: what lies above is to go

  bool running = false;
  bool done = false;
  std::uint64_t may_take = 0;          // while it runs: blocks kept for it, so that no write is accepted for them
  const PageWriter* writer = nullptr;  // … who has taken some of those
  const TreeMerge* merge = nullptr;    // … and who others
  std::exception_ptr error;
  bool committed = false;           // something was there to do
  std::optional<std::string> next;  // pack, move: where the next turn begins; none at the tree's end
  std::uint64_t blocks_moved = 0;
};

// Where a call stands.
struct PartitionCore::Compaction {
  CompactReport report;
  std::uint64_t blocks_left = 0;  // of max_bytes_moved
  bool stopped = false;           // before everything was looked at
};

// Of the free blocks, so many may be taken: what was accepted must find its blocks also if a reader holds what is superseded.
std::uint64_t PartitionCore::compact_room() const {
  const std::uint64_t available = blocks_available(Purpose::relief);
  const std::uint64_t needed = blocks_needed({}, states_to_build());
  return std::min(free_list_.free_blocks() / 2, available - std::min(available, needed));
}

// About how many blocks the next commit may write, `most` at most; 0 if none.
std::uint64_t PartitionCore::compact_budget(std::uint64_t most) const {
  const auto spare = [needed = blocks_needed({}, states_to_build())](std::uint64_t blocks) {
    return blocks - std::min(blocks, needed);
  };
  const std::uint64_t blocks = std::min(most, compact_room());
  if (blocks >= kFewBlocks || free_list_.held_blocks() > 0) return blocks;
  // Few are free. As nobody holds any, the device may grow by a little for what comes back with the commit.
  return std::min({most, kFewBlocks, spare(free_list_.allocatable_blocks()) / 2});
}

monterey::Task<CompactReport> PartitionCore::compact(CompactOptions options) {
  require_open();
  require_writable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  const monterey::Mutex::Guard turn = co_await compacting_.lock();
  co_await flush_all();
  const std::uint64_t size_before = device_->size_blocks();
  Compaction compaction;
  compaction.blocks_left = std::max<std::uint64_t>(options.max_bytes_moved / kPageBytes, 1);
  std::exception_ptr error;
  try {
    co_await compact_all(compaction);
  } catch (...) {
    error = std::current_exception();
  }
  free_list_.prefer_below(std::nullopt);
  if (error) std::rethrow_exception(error);
  compaction.report.bytes_freed =
      (size_before - std::min<std::uint64_t>(size_before, device_->size_blocks())) * kPageBytes;
  co_return compaction.report;
}

monterey::Task<> PartitionCore::compact_all(Compaction& compaction) {
  if (!packed_) {
    free_list_.prefer_below(compact_mark());
    co_await compact_tree(compaction, CompactStep::pack, 0);
    packed_ = !compaction.stopped;
  }
  bool is_low = false;
  int log_moves = 0;
  std::uint64_t reach = 0;  // quarters of the blocks below the mark that are moved, too
  while (!compaction.stopped) {
    const std::uint64_t mark = compact_mark();
    const std::uint64_t before = free_list_.high_water();
    is_low = before <= mark;
    if (is_low) break;
    free_list_.prefer_below(mark);
    co_await compact_tree(compaction, CompactStep::move, mark - mark / 4 * reach);
    CompactTurn own_pages;
    own_pages.step = CompactStep::own_pages;
    own_pages.mark = mark;
    co_await take_turn(own_pages);
    if (log_lies_above(mark) && log_moves < kMostLogMoves) {
      CompactTurn log;
      log.step = CompactStep::log;
      log.mark = mark;
      co_await take_turn(log);
      log_moves += log.committed ? 1 : 0;
    }
    co_await lower_high_water();
    is_low = free_list_.high_water() <= mark;
    // A round that gains little is not worth another like it.
    const std::uint64_t least_gain = std::max((before - mark) / kLeastGain, kFewBlocks / 8);
    if (free_list_.high_water() + least_gain <= before) {
      reach = 0;
      continue;
    }
    // The last runs have found no gap. What lies before them is pushed together then, from further and further down.
    if (meta_.overflow_blocks == 0 || free_list_.held_blocks() > 0 || ++reach == 4) break;
  }
  co_await lower_high_water();
  // What cannot be moved for want of a gap cannot be moved the next time either; what readers hold can, when they are gone.
  const bool is_held = !is_low && (free_list_.held_blocks() > 0 || free_list_.reserved_blocks() > 0);
  compaction.report.finished = !compaction.stopped && !is_held;
  if (!compaction.stopped) packed_ = false;  // the next call looks at everything anew
}

// Walks the tree from where the last walk stopped to its end, or until there is a reason to stop.
monterey::Task<> PartitionCore::compact_tree(Compaction& compaction, CompactStep step, std::uint64_t mark) {
  for (;;) {
    CompactTurn turn;
    turn.step = step;
    turn.from = compact_from_;
    turn.mark = mark;
    turn.blocks = compact_budget(std::min(kMostBlocksACommit, compaction.blocks_left));
    compaction.stopped = turn.blocks == 0 || !is_open();
    if (compaction.stopped) co_return;
    co_await take_turn(turn);
    compaction.stopped = turn.blocks == 0;  // others have taken them before it began
    if (compaction.stopped) co_return;
    compaction.blocks_left -= std::min(compaction.blocks_left, turn.blocks_moved);
    compaction.report.bytes_moved += turn.blocks_moved * kPageBytes;
    if (!turn.next) break;
    if (*turn.next <= compact_from_) {
      throw Error(Errc::corruption,
                  fmt::format("{}: the tree's separators are out of order; run check, restore from a backup or salvage "
                              "the store",
                              device_->name()));
    }
    compact_from_ = std::move(*turn.next);
  }
  compact_from_.clear();
}

// Lowers the mark as far as it goes, and gives the device what lies beyond.
monterey::Task<> PartitionCore::lower_high_water() {
  for (bool more = true; more;) {
    CompactTurn turn;
    turn.step = CompactStep::lower;
    try {
      co_await take_turn(turn);
    } catch (const Error& thrown) {
      // Somebody took the blocks that the commit's own pages were to have. A mark that stays high does no harm.
      if (thrown.errc() != Errc::no_space) throw;
    }
    more = turn.committed;
  }
}

bool PartitionCore::compact_turn_runs() const { return compact_turn_ != nullptr && compact_turn_->running; }
// Of what is kept for the turn that runs, what it has not taken yet.
std::uint64_t PartitionCore::kept_for_compact_turn() const {
  if (!compact_turn_runs()) return 0;
  const CompactTurn& turn = *compact_turn_;
  std::uint64_t taken = turn.writer != nullptr ? turn.writer->blocks_written() : 0;
  if (turn.merge != nullptr) taken += turn.merge->counts().run_blocks_moved;
  return turn.may_take - std::min(turn.may_take, taken);
}

bool PartitionCore::wants_compact_turn() const { return compact_turn_ != nullptr && !compact_turn_->done; }

// Has the flusher do the turn, behind the flushes that wait. Errors: the turn's, or that of a flush that came before it.
monterey::Task<> PartitionCore::take_turn(CompactTurn& turn) {
  STORE_ASSERT(compact_turn_ == nullptr);
  compact_turn_ = &turn;
  std::exception_ptr error;
  try {
    while (!turn.done) co_await wait_for_flush();
  } catch (...) {
    error = std::current_exception();
  }
  while (turn.running) co_await flush_ended_.wait();
  compact_turn_ = nullptr;
  if (turn.error) std::rethrow_exception(turn.error);
  if (error && !turn.done) std::rethrow_exception(error);
}

// --- in the flusher's task ---

monterey::Task<> PartitionCore::do_compact_turn(CompactTurn& turn) {
  const bool takes = turn.step == CompactStep::pack || turn.step == CompactStep::move;
  if (takes) turn.blocks = turn.may_take = compact_budget(turn.blocks);
  turn.running = true;
  try {
    co_await compact_one(turn);
  } catch (...) {
    turn.error = std::current_exception();
  }
  turn.running = false;
  turn.done = true;
}

monterey::Task<RewritePlan> PartitionCore::plan_rewrite(const CompactTurn& turn) {
  const std::span<std::byte> read_slots = staging_.span().subspan(PageWriter::kStagingBytes);
  RewritePlanner planner(*device_, cache_, read_slots, monterey::IoClass::background, tree_);
  monterey::Task<> drain = planner.drain();  // made here: it must not fail for want of memory
  const RewritePlanner::Limits limits{.blocks = turn.blocks, .leaves = kMostLeavesATurn};
  RewritePlan plan;
  std::exception_ptr error;
  try {
    if (turn.step == CompactStep::pack) {
      plan = co_await planner.pack(turn.from, limits);
    } else {
      plan = co_await planner.above(turn.mark, turn.from, limits);
    }
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(drain);
  if (error) std::rethrow_exception(error);
  co_return std::move(plan);
}

monterey::Task<TreeRoot> PartitionCore::rewrite(const RewritePlan& plan, CompactTurn& turn, Generation building,
                                                PageWriter& writer, MergeCounts& counts) {
  const std::span<std::byte> read_slots = staging_.span().subspan(PageWriter::kStagingBytes);
  const TreeMerge::Resources resources{*device_, cache_, free_list_, writer, read_slots, monterey::IoClass::background};
  TreeMerge merge(resources, tree_, building, tree_.generation);
  monterey::Task<> drain = merge.drain();  // made here: it must not fail for want of memory
  RunsToMove runs;
  if (turn.step == CompactStep::move) runs = {turn.mark, turn.may_take - std::min(turn.may_take, plan.pages.size())};
  TreeRoot tree;
  std::exception_ptr error;
  turn.merge = &merge;
  try {
    tree = co_await merge.rewrite(&plan, runs);
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(drain);
  turn.merge = nullptr;
  if (error) std::rethrow_exception(error);
  counts = merge.counts();
  co_return tree;
}

// Steps (1) to (5) of a commit, as in flush.cpp, without a buffer.
monterey::Task<> PartitionCore::compact_one(CompactTurn& turn) {
  if (turn.step == CompactStep::log) {
    turn.committed = co_await move_log_below(turn.mark);
    co_return;
  }
  RewritePlan plan;
  if (turn.step == CompactStep::pack || turn.step == CompactStep::move) {
    if (turn.blocks == 0) co_return;
    plan = co_await plan_rewrite(turn);
    turn.next = plan.next;
    if (plan.pages.empty()) co_return;
    // One leaf may have more in runs than that. What there is no room for stays where it is.
    const std::uint64_t wanted = plan.pages.size() + plan.run_blocks;
    if (wanted > turn.may_take) turn.may_take += std::min(wanted - turn.may_take, compact_room());
  }
  PageWriter writer(*device_, free_list_, staging_.span().first(PageWriter::kStagingBytes),
                    monterey::IoClass::background);
  Meta meta;
  const std::uint32_t slot = 1 - meta_slot_;
  // Made here: they must not fail for want of memory.
  monterey::Task<> drain = writer.drain();
  monterey::Task<> commit = commit_meta(meta, slot);
  monterey::Task<> settle = free_list_.settle();
  TreeRoot tree = tree_;
  MergeCounts counts;
  AllocatorRoot allocator;
  LogLayout layout;
  bool changes = true;
  std::exception_ptr error;
  turn.writer = &writer;
  try {
    tree.generation = take_generation();
    free_list_.begin(tree.generation);
    if (turn.step == CompactStep::own_pages) {
      changes = co_await free_list_.rewrite_own_pages(turn.mark);
    } else if (turn.step == CompactStep::lower) {
      changes = co_await free_list_.lower_high_water();
    } else {
      tree = co_await rewrite(plan, turn, tree.generation, writer, counts);
    }
    co_await writer.finish();
    if (changes) allocator = co_await free_list_.seal();
    layout = log_layout().starting_at(log_keep_from(0));
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(drain);
  turn.may_take = 0;
  turn.writer = nullptr;
  if ((error || !changes) && free_list_.in_commit()) free_list_.aborted();
  if (error) std::rethrow_exception(error);
  if (!changes) {
    if (turn.step == CompactStep::lower) co_await give_back_tail();
    co_return;
  }

  meta = next_meta();
  meta.generation = tree.generation;
  meta.tree_root = tree.page;
  meta.tree_height = tree.height;
  meta.allocator_root = allocator.root;
  meta.allocator_levels = allocator.levels;
  meta.high_water = allocator.high_water;
  meta.tree_pages += static_cast<std::uint64_t>(counts.tree_pages);
  put_layout(layout, meta);
  co_await std::move(commit);

  // No suspension from here to the end of the commit.
  meta_ = meta;
  meta_slot_ = slot;
  tree_ = tree;
  free_list_.committed();
  log_committed(std::move(layout), meta.generation);
  turn.committed = true;
  turn.blocks_moved = writer.blocks_written() + counts.run_blocks_moved;
  co_await std::move(settle);
  if (turn.step == CompactStep::lower) co_await give_back_tail();
}

// Gives the device back what lies beyond the mark, but for what the entries accepted may need. What a commit withholds, if one has
// lowered the mark, is nobody's until this is done.
monterey::Task<> PartitionCore::give_back_tail() {
  const std::optional<Extent> withheld = free_list_.withheld();
  std::uint64_t keep = free_list_.high_water();
  if (withheld && withheld->end() == keep) keep = withheld->first.value;
  keep += blocks_needed({}, states_to_build());
  std::exception_ptr error;
  try {
    if (keep < device_->size_blocks()) co_await device_->shrink(keep);
    if (withheld && device_->size_blocks() >= withheld->end()) co_await device_->trim(*withheld);
  } catch (...) {
    error = std::current_exception();
  }
  size_at_open_ = std::min(size_at_open_, device_->size_blocks());
  free_list_.release_withheld();
  if (error) std::rethrow_exception(error);
}

}  // namespace store::detail
