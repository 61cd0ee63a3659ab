// The way from handles to what is behind them, for the layers above the partition.
#pragma once

#include <memory>
#include <store/partition.hpp>
#include <store/pinned_value.hpp>
#include <store/scan.hpp>
#include <store/snapshot.hpp>
#include <string_view>
#include <utility>

#include "store/partition/partition_core.hpp"
#include "store/partition/snapshot_core.hpp"

namespace store::detail {

struct PartitionAccess {
  static PartitionCore& core(const Partition& partition) { return core_of(ReadSource{partition.core_.get(), nullptr}); }
  static std::shared_ptr<SnapshotCore> core(const Snapshot& snapshot) { return snapshot.core_; }

  // A step of a scan that does not suspend. Returns whether it was made; `there` says whether the scan stands at an entry.
  static bool try_advance(Scan& scan, bool& there) {
    AdvanceOperation step(*scan.core_);
    const bool made = step.try_now();
    if (made) there = step.take();
    return made;
  }

  // Goes on where try_advance() stopped: nothing may run between them.
  static monterey::Task<bool> advance_later(Scan& scan) { return AdvanceOperation(*scan.core_).later(); }

  // A part of `memory`, which has a user more.
  static PinnedValue value(std::string_view view, SharedBytes* memory) {
    ++memory->users;
    return PinnedValue(view, RawPin{memory, nullptr});
  }
};

}  // namespace store::detail
