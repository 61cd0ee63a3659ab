// Which pages of a tree compaction writes anew, found by a walk over a part of the tree in key order:
//
//  * pack(): leaves that have room. A group of up to kMostTogether neighbours counts if its cells are sure to fit into one
//    leaf less: with short cells, if the group is filled to less than about 0.9. So what was packed is not found again.
//  * above(): pages, and leaves with runs, that lie at or above a block.
//
// Branches are read through the cache; leaves only if what is asked for does not show in the pointer, past the cache and at
// depth. A plan holds for the state it was made of. Lives for one plan, in its task; drain() must have completed before it
// is destroyed.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <monterey/task.hpp>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "store/cache/page_cache.hpp"
#include "store/page/leaf.hpp"
#include "store/tree/leaf_reader.hpp"
#include "store/tree/root.hpp"

namespace store {

struct RewritePlan {
  std::vector<PagePointer> leaves;          // to be written anew, in key order
  std::unordered_set<std::uint32_t> pages;  // those, branches to be written anew, and all that lies above one of either
  std::uint64_t run_blocks = 0;             // of the runs that are to move
  std::optional<std::string> next;          // where the next part begins; none if this one ends with the tree
};

class RewritePlanner {
 public:
  static constexpr std::size_t kMostTogether = 16;

  struct Limits {
    std::size_t blocks = 0;  // a part ends when so much is to be written
    std::size_t leaves = 0;  // … or so many leaves were looked at
  };

  // The bytes of `read_slots` are one slot for each 4096.
  RewritePlanner(BlockDevice& device, PageCache& cache, std::span<std::byte> read_slots, monterey::IoClass io_class,
                 TreeRoot tree);

  // The part that begins with the leaf whose range holds `from`. Call one of them, once. Errors: corruption, io_error.
  monterey::Task<RewritePlan> pack(std::string from, Limits limits);
  monterey::Task<RewritePlan> above(std::uint64_t block, std::string from, Limits limits);
  monterey::Task<> drain() { return reader_.drain(); }

 private:
  using Page = std::array<std::byte, kPageBytes>;
  static constexpr std::size_t kNoBranch = ~std::size_t{0};
  static constexpr std::size_t kMostPending = 256;

  // A branch on the way down to where the walk stands.
  struct Level {
    std::unique_ptr<Page> page;
    unsigned level = 0;
    std::uint32_t next = 0;  // the slot to go on with
    std::string lower;       // of the branch's range
    std::size_t branch = 0;  // in branches_
  };
  struct Branch {
    std::uint32_t page;
    std::size_t above;
  };
  struct Leaf {
    PagePointer pointer;
    std::string lower;
    std::size_t branch = kNoBranch;
    bool is_read = false;
  };
  // A leaf that may be packed together with its neighbours.
  struct Candidate {
    PagePointer pointer;
    std::size_t branch;
    std::string first_key, last_key;
    std::size_t cells, cell_bytes, largest_cell;  // as if they had no prefix in common
  };

  monterey::Task<RewritePlan> walk(std::string from, Limits limits);
  monterey::Task<> push(PagePointer pointer, unsigned level, std::string lower, std::size_t above);
  monterey::Task<std::optional<Leaf>> next_leaf(const std::string& from);
  void judge_room(const Leaf& leaf, LeafView view);
  void judge_place(const Leaf& leaf, const std::byte* bytes);
  void choose(const PagePointer& leaf, std::size_t branch);
  void choose_branch(std::size_t branch);

  PageCache& cache_;
  monterey::IoClass io_class_;
  const TreeRoot tree_;
  LeafReader reader_;
  std::optional<std::uint64_t> mark_;  // of above()
  bool begun_ = false;
  std::vector<Level> levels_;     // from the root down
  std::vector<Branch> branches_;  // all that were met
  std::deque<Candidate> neighbours_;
  RewritePlan plan_;
};

}  // namespace store
