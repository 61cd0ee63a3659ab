// Merges a write buffer into the tree: builds a new state beside the old one, bottom-up, and leaves the old untouched.
//
// The walk goes down only where the buffer has entries. Each touched leaf is read once, ahead and at depth, and written
// once; untouched subtrees are carried over by their pointers. Every level has one packer, which takes the cells of the
// level's rewritten neighbours and divides them into pages; it is emptied whenever an untouched page of its level
// follows. Memory stays within the staging that the caller gives, one page copy and some pages' cells per level, and a view of
// each change to the leaf being merged.
//
// What the buffer's ranges erase is dropped by its pointers: of a subtree that lies in a range the branches are read, for they
// name what becomes free, but of its leaves only those with overflow values, whose runs become free, too. A leaf at the border
// of a range is merged like one with changes. What is released takes 24 bytes of memory a page until the commit, less where
// neighbouring blocks were written together.
//
// Where three fifths of a branch's leaves get entries, and the cut has no ranges, the others are written anew with them: the branch's leaves then lie
// together, so that the next merge reads them in large pieces and what it supersedes is free in large pieces.
//
// A leaf that shrank below a third of a page draws its untouched right neighbour into the merge, and so does a branch; an
// empty one disappears, and its range of keys goes to the leaf behind it, which is written anew for that, or to a leaf before it
// that this merge wrote. So, whatever was merged and rewritten since generation S:
//
//   Of each leaf born in S or before, but the last of the tree, both the range of keys (from its separator to the next one's) and
//   the entries are those that it had in S.
//
// An incremental copy may skip such leaves. The last one may have got the range of others behind it.
//
// Superseded pages and runs are released to the free list as of the generation being built; if the merge throws, the caller
// aborts the commit, which undoes that.
//
// Lives for one cut of one flush, in the flusher's task. drain() must have completed before it is destroyed.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <monterey/sync.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <string>
#include <vector>

#include "store/base/planted.hpp"
#include "store/cache/page_cache.hpp"
#include "store/freelist/free_list.hpp"
#include "store/tree/leaf_reader.hpp"
#include "store/tree/packer.hpp"
#include "store/tree/page_writer.hpp"
#include "store/tree/rewrite_plan.hpp"
#include "store/tree/root.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store {

struct MergeCounts {
  std::int64_t entries = 0;          // change of the number of entries in the tree
  std::int64_t tree_pages = 0;       // … of tree pages
  std::int64_t overflow_blocks = 0;  // … of blocks in overflow runs
  std::uint64_t pages_read = 0;      // leaves read from the device
  std::uint64_t pages_touched = 0;   // pages of the old tree that were replaced
  std::uint64_t run_blocks_moved = 0;
  std::uint64_t keys = 0;  // of the buffer, that it has come past

  MergeCounts& operator+=(const MergeCounts& other);
};

// Which runs of the leaves that are rewritten go to lower places, where there is one: those that end above `above`, of so many
// blocks at most; those after that stay where they are.
struct RunsToMove {
  std::uint64_t above = ~std::uint64_t{0};
  std::uint64_t most_blocks = 0;
};

class TreeMerge {
 public:
  struct Resources {
    BlockDevice& device;
    PageCache& cache;
    FreeList& free_list;
    PageWriter& writer;
    std::span<std::byte> read_slots;
    monterey::IoClass io_class;
    monterey::Event* progress = nullptr;  // pulsed when counts().keys has grown
  };

  // `durable` is the generation that readers of the write buffer pin: the birth of runs that move from there to the tree.
  TreeMerge(const Resources& resources, TreeRoot from, Generation building, Generation durable);
  TreeMerge(const TreeMerge&) = delete;
  TreeMerge& operator=(const TreeMerge&) = delete;

  // Applies the newest version of every key with after < sequence number <= at, and the ranges of that age to what is older.
  // Errors: corruption, io_error, no_space.
  monterey::Task<TreeRoot> run(std::shared_ptr<const WriteBuffer> buffer, SeqNo at, SeqNo after);
  // Writes the pages of the plan anew, and moves runs of its leaves. The plan is of the state that this merge starts from, and
  // outlives the task. Errors: as run().
  monterey::Task<TreeRoot> rewrite(const RewritePlan* plan, RunsToMove runs);
  monterey::Task<> drain();

  const MergeCounts& counts() const { return counts_; }
  // The first blocks of the reserved runs that moved from the buffer into the tree.
  const std::vector<std::uint32_t>& adopted_runs() const { return adopted_runs_; }

 private:
  using Page = std::array<std::byte, kPageBytes>;
  using UpperBound = std::optional<std::string>;  // nullopt: no bound
  // How much of a page's range of keys the ranges of this cut erase.
  enum class Erased : std::uint8_t { nothing, some, all };

  static constexpr std::chrono::microseconds kLeafRound{30};  // what a leaf costs, about

  // The part of the descent that finds the leaves to read: walks the buffer with an iterator of its own, ahead of the merge.
  struct PlanLevel {
    std::unique_ptr<Page> page;
    unsigned level = 0;
    std::string lower;  // kept only with ranges
    UpperBound upper;
    // Without ranges, of a branch over leaves: those to be read, ascending, and how many of them were.
    std::vector<std::uint16_t> slots;
    std::size_t slots_done = 0;
  };
  // A branch over leaves that the plan has been through.
  struct PlannedBranch {
    PageNo page;
    bool whole = false;  // all its leaves are written anew
  };

  std::optional<std::string_view> next_to_plan() const;
  void note_planned(const UpperBound& upper);
  monterey::Task<std::optional<PagePointer>> plan_next();
  monterey::Task<> plan_branch(PlanLevel* branch, PageNo page);
  monterey::Task<bool> is_rewritten_whole(PagePointer branch);
  monterey::Task<> read_ahead();
  monterey::Task<> load_branch(PagePointer pointer, unsigned level, Page* into, Reuse reuse = Reuse::likely);
  monterey::Task<LeafReader::Leaf> take_leaf(PagePointer pointer);

  monterey::Task<> merge_page(PagePointer pointer, unsigned level, std::string lower, UpperBound upper);
  monterey::Task<> merge_branch(PagePointer pointer, unsigned level, std::string lower, UpperBound upper);
  monterey::Task<> merge_leaf(PagePointer pointer, std::string lower, UpperBound upper);
  monterey::Task<> pack_leaf(LeafView leaf, Erased erased);
  monterey::Task<> pack_changes();
  // A page whose range begins at `lower` is superseded: it begins a run of leaves, if there is none.
  void join_run(const std::string& lower);
  // What is added to the packer from here on was in a leaf that the cache had, or not.
  void begin_leaf(bool is_hot);
  // Whether pages were superseded for which no leaf was written: the next leaf gets their range.
  bool inherits() const { return run_lower_ && leaves_.empty() && !planted(Planted::inherited_range_not_rewritten); }

  // Ranges (merge_ranges.cpp).
  Erased erased_in(std::string_view lower, const UpperBound& upper) const;
  bool is_erased(std::string_view key) const;
  bool erases_any_of(LeafView leaf) const;
  static monterey::Task<> pass_over_erased(WriteBuffer::Iterator* input);
  monterey::Task<> drop(PagePointer pointer, unsigned level);

  monterey::Task<> rewrite_page(PagePointer pointer, unsigned level, std::string lower, UpperBound upper);
  monterey::Task<> rewrite_branch(PagePointer pointer, unsigned level, std::string lower, UpperBound upper);
  monterey::Task<> rewrite_leaf(PagePointer pointer, std::string lower, UpperBound upper);
  monterey::Task<> move_runs(LeafView view, std::vector<OverflowRun>& runs);
  monterey::Task<OverflowRun> allocate_lower(OverflowRun run);

  bool wants_neighbour(unsigned level) const;
  bool changes_below(const UpperBound& upper) const;
  monterey::Task<> collect_changes(const UpperBound& upper);
  void require_in_range(const PagePointer& pointer, bool in_range) const;
  void require_leaf_in_range(const PagePointer& pointer, LeafView leaf, std::string_view lower,
                             const UpperBound& upper) const;
  void require_branch_in_range(const PagePointer& pointer, BranchView branch, std::string_view lower,
                               const UpperBound& upper) const;

  bool add_entry(const EntryView& entry);
  monterey::Task<> add_long_entry(EntryView entry);
  monterey::Task<> add_child(unsigned level, std::string_view separator, PagePointer child);
  monterey::Task<> carry_over(unsigned level, std::string_view separator, PagePointer child);
  monterey::Task<> end_run(unsigned level);
  monterey::Task<> emit_front(unsigned level);
  monterey::Task<TreeRoot> finish();

  BranchPacker& branches(unsigned level);
  void drop_value(const LeafValue& value);
  void supersede(const PagePointer& pointer);

  Resources with_;
  TreeRoot from_;
  Generation building_;
  Generation durable_;
  LeafReader reader_;
  // Neither iterator ever stands at what a range of the same cut has erased.
  std::optional<WriteBuffer::Iterator> input_;
  std::optional<WriteBuffer::Iterator> plan_input_;
  const RangeTombstones* ranges_ = nullptr;  // null if none is of this cut
  SeqNo at_;
  SeqNo after_;
  std::string planned_;  // with ranges: the plan has the keys before it
  std::vector<PlanLevel> plan_;
  std::deque<PlannedBranch> planned_branches_;  // that the merge has not come to
  bool rewrites_whole_ = false;                 // the branch whose leaves are being merged
  bool plan_done_ = false;
  std::vector<EntryView> changes_;        // for the leaf being merged
  std::unique_ptr<Page> unplanned_leaf_;  // what take_leaf() read by itself
  const RewritePlan* plan_to_rewrite_ = nullptr;
  std::size_t next_to_rewrite_ = 0;  // of its leaves, the first that is not being read
  RunsToMove runs_to_move_;

  LeafPacker leaves_;
  std::optional<std::string> run_lower_;  // where the range of the run's first page begins, until that is emitted
  std::string last_leaf_key_;             // of the page before, within the run
  bool run_has_pages_ = false;
  std::uint64_t leaves_emitted_ = 0;
  // The leaves that hold entries of one that was in the cache, counted like those emitted.
  std::uint64_t hot_from_ = 0;
  std::uint64_t hot_until_ = 0;
  std::vector<BranchPacker> branches_;       // [level - 1]
  std::vector<std::uint64_t> branch_pages_;  // emitted, by level - 1
  MergeCounts counts_;
  std::vector<std::uint32_t> adopted_runs_;
};

}  // namespace store
