// A stable view of the partition at one sequence number, for snapshots and scans: an in-memory root and, above it, the write
// buffers whose entries were not yet merged when the view was taken. When a flush merges the oldest of them, it cuts the merge at
// the view's sequence number and moves the view onto the root of the cut, so a view never holds a merged buffer.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <monterey/time.hpp>
#include <optional>
#include <vector>

#include "store/freelist/generation_pins.hpp"
#include "store/tree/root.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store {

struct View {
  SeqNo at;
  TreeRoot tree;
  GenerationPins::Pin pin;                                  // of tree.generation
  std::vector<std::shared_ptr<const WriteBuffer>> buffers;  // oldest first
  std::uint64_t moves = 0;                                  // how often a flush moved it onto another root
  std::optional<monterey::TimePoint> snapshot_at;           // when the snapshot was taken whose view it is
};

// The live views, ordered by sequence number and by generation: a new one has the newest of both, and one that copies another
// stands behind it.
using ViewList = std::list<View>;

}  // namespace store
