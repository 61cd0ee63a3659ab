// How much a range of keys holds in one state of the tree, from its branches alone: a pointer to a leaf says how many entries
// the leaf has, and whether it names overflow runs. No leaf is read.
#pragma once

#include <cstdint>
#include <monterey/task.hpp>
#include <optional>
#include <string>

#include "store/cache/page_cache.hpp"
#include "store/tree/root.hpp"

namespace store {

struct LeafCount {
  std::uint64_t leaves = 0;           // whose part of the keys the range meets
  std::uint64_t entries = 0;          // in these, within the range or not
  std::uint64_t overflow_leaves = 0;  // of the leaves, those with values in runs
};

// Counts the leaves that [from, to) meets; without `to` all from `from` on. The caller keeps the root's generation pinned.
// Errors: corruption, io_error. Cost: the branches above these leaves, read ahead, each once.
monterey::Task<LeafCount> count_leaves(PageCache& cache, TreeRoot root, std::string from, std::optional<std::string> to,
                                       monterey::IoClass io_class);

}  // namespace store
