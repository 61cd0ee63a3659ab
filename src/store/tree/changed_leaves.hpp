// Finds what an incremental copy has to send: a walk over the leaves of a tree that were born after a generation, with the ranges
// of keys that they stand for. Subtrees born before are skipped unread: the invariant of store/tree/merge.hpp says that
// their ranges and entries are those of that generation, but for the last leaf of the tree, which is always among those found.
//
// Branches are read through the cache, leaves are not read. Lives for one walk, in its task; the caller pins the tree.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <monterey/task.hpp>
#include <optional>
#include <string>
#include <vector>

#include "store/cache/page_cache.hpp"
#include "store/page/branch.hpp"
#include "store/tree/root.hpp"

namespace store {

struct ChangedLeaf {
  PagePointer pointer;
  std::string lower;
  std::optional<std::string> upper;  // nullopt: no bound
};

class ChangedLeaves {
 public:
  ChangedLeaves(PageCache& cache, monterey::IoClass io_class, TreeRoot tree, Generation since);

  // The next one in key order, none at the end. Errors: corruption, io_error.
  monterey::Task<std::optional<ChangedLeaf>> next();

 private:
  using Page = std::array<std::byte, kPageBytes>;

  // A branch on the way down to where the walk stands.
  struct Level {
    std::unique_ptr<Page> page;
    unsigned level = 0;
    std::uint32_t next = 0;  // the slot to go on with
    std::string lower;       // of the branch's range
    std::optional<std::string> upper;
  };

  monterey::Task<> enter(ChangedLeaf page, unsigned level);

  PageCache& cache_;
  const monterey::IoClass io_class_;
  const TreeRoot tree_;
  const Generation since_;
  bool begun_ = false;
  std::vector<Level> levels_;  // from the root down
};

}  // namespace store
