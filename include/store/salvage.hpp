// Getting out of a damaged store what can still be read. It needs no store that opens: any meta page, branch, leaf, value or
// part of the log may be damaged.
#pragma once

#include <cstdint>
#include <functional>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <store/partition.hpp>
#include <string>

namespace store {

struct SalvageReport {
  std::uint64_t generation = 0;       // of the commit that was read; 0: no meta page was good
  std::uint64_t entries = 0;          // read from its tree
  std::uint64_t entries_counted = 0;  // that the meta page counts there; 0: no meta page was good
  std::uint64_t log_entries = 0;      // changes that the log behind it makes, applied
  std::uint64_t damages = 0;          // places that could not be read, each told to the observer
};

// Told, in words, of each place that could not be read and of the keys that it may have held.
using DamageObserver = std::function<void(const std::string& damage)>;

// Puts every entry of the newest commit on `damaged` that can be read into `into`, then what the log on that device has beyond it, as
// far as it is whole; and flushes. Nothing is taken that its checksum does not vouch for.
//
// A damaged leaf, or value, is left out. Where a branch is damaged, or no meta page is good, every block of the device is searched for leaves
// of the keys in question, and of several for one range of keys the newest is taken. Blocks that the commit has as free are left out,
// where its bitmaps can be read; where not, entries that were erased may come back.
//
// Requires: both outlive the task; the device is open for reading, and `into` is empty. Errors: those of `into`; unsupported_format; not_a_store when there
// is neither a meta page nor a leaf. What was put until then stays. Memory: two keys for each leaf found by searching, and the longest value.
monterey::Task<SalvageReport> salvage(BlockDevice& damaged, Partition& into, DamageObserver on_damage);

}  // namespace store
