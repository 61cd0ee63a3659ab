// The check of a durable state, from the device and past the cache: every page of the tree and of the allocator against
// its pointer, order within and across pages, levels, counts, overflow runs, and that every block below the high-water
// mark is reached once or free. Shares nothing with the code that builds pages but the page layer.
#pragma once

#include <cstdint>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <store/stats.hpp>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/tree/root.hpp"

namespace store {

struct CheckedState {
  TreeRoot tree;
  AllocatorRoot allocator;
  // As the meta page counts them.
  std::uint64_t entries = 0;
  std::uint64_t tree_pages = 0;
  std::uint64_t overflow_blocks = 0;
  std::vector<Extent> log_segments;  // those that lie on the device
};

// Checks `state`, which must outlive the task; its generation must be pinned meanwhile. Findings go into the report, only a device that cannot be
// allocated for or a shutdown is thrown. Memory: two bits for each block below the high-water mark, a page a level, and
// the overflow run being read, whole. `ok` does not depend on max_errors; with 0 the check stops at the first finding.
monterey::Task<CheckReport> check_state(BlockDevice& device, const CheckedState& state,
                                        std::uint64_t first_usable_block, std::size_t max_errors);

}  // namespace store
