// What is behind a Snapshot: its view, and the partition's core, kept alive. Lives as long as the handle, the operations of it
// that need the view after a suspension, and the scans that have not begun.
#pragma once

#include <memory>

#include "store/partition/partition_core.hpp"

namespace store::detail {

class SnapshotCore : public std::enable_shared_from_this<SnapshotCore> {
 public:
  // Errors: closed, poisoned.
  explicit SnapshotCore(std::shared_ptr<PartitionCore> partition);
  SnapshotCore(const SnapshotCore&) = delete;
  SnapshotCore& operator=(const SnapshotCore&) = delete;
  ~SnapshotCore();

  const std::shared_ptr<PartitionCore>& partition() const { return partition_; }
  ViewList::iterator view() const { return view_; }

 private:
  std::shared_ptr<PartitionCore> partition_;
  ViewList::iterator view_;
};

// What the handle of a verb leads to. Errors: closed, of a handle that was moved from.
PartitionCore& core_of(ReadSource source);

}  // namespace store::detail
