// Builds a whole tree from ascending entries, bottom-up and in one pass: every page is filled to the brim but the last one of
// its level, and written once, behind the pages that it points to. What TreeMerge is for changes to a tree.
//
// Memory: the staging of its writer, two pages' worth of cells a level, and the value being added. Lives for one commit, in its task; the
// writer must outlive it. If it throws, the caller aborts the commit.
#pragma once

#include <cstdint>
#include <monterey/task.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/cache/page_cache.hpp"
#include "store/tree/packer.hpp"
#include "store/tree/root.hpp"
#include "store/tree/sequential_writer.hpp"

namespace store {

class TreeBuilder {
 public:
  // Pages and runs are born in `building`. Branches go into the cache too, if there is one.
  TreeBuilder(SequentialWriter& writer, Generation building, PageCache* cache)
      : writer_(writer), building_(building), cache_(cache) {}
  TreeBuilder(const TreeBuilder&) = delete;
  TreeBuilder& operator=(const TreeBuilder&) = delete;

  // Adds an entry, or does nothing and returns false where that may have to wait: await add() then. Requires, here and below: keys
  // and values within the limits, a key above the last one.
  bool try_add(std::string_view key, std::string_view value);
  // Adds an entry, whose views must live until the task ends. Errors: no_space, io_error. Suspends.
  monterey::Task<> add(std::string_view key, std::string_view value);

  // Writes what is left of the tree, up to its root. Errors: no_space, io_error.
  monterey::Task<TreeRoot> finish();

  std::uint64_t entries() const { return entries_; }
  // Of the entry added last; empty before the first. Until the next call of a member.
  std::string_view last_key() const { return leaves_.empty() ? std::string_view{} : leaves_.last_key(); }
  std::uint64_t tree_pages() const { return tree_pages_; }
  std::uint64_t overflow_blocks() const { return overflow_blocks_; }

 private:
  BranchPacker& branches(unsigned level);
  monterey::Task<> emit_front(unsigned level);

  SequentialWriter& writer_;
  Generation building_;
  PageCache* cache_;
  LeafPacker leaves_;
  std::string last_leaf_key_;  // of the leaf before
  struct Level {
    BranchPacker packer;
    bool has_pages = false;
  };
  std::vector<Level> levels_;  // of branches, [level - 1]
  std::uint64_t entries_ = 0;
  std::uint64_t tree_pages_ = 0;
  std::uint64_t overflow_blocks_ = 0;
};

}  // namespace store
