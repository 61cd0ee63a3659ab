// Getting out of a damaged store what can still be read. It needs no store that opens: any meta page, branch, leaf, value or
// part of the log may be damaged.
#pragma once

#include <cstdint>
#include <functional>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <store/partition.hpp>
#include <string>
#include <type_traits>

namespace store {

struct SalvageReport {
  std::uint64_t generation = 0;       // of the commit that was read; 0: no meta page was good
  std::uint64_t entries = 0;          // read from its tree
  std::uint64_t entries_counted = 0;  // that the meta page counts there; 0: no meta page was good
  std::uint64_t log_entries = 0;      // changes that the log behind it makes, applied
  std::uint64_t damages = 0;          // places that could not be read, each told to the observer
};

struct SalvageOptions {
  BlockDevice* log_device = nullptr;  // where the log lies, of a store that has it on a device of its own
};
static_assert(std::is_trivially_destructible_v<SalvageOptions>);

// Told, in words, of each place that could not be read and of the keys that it may have held.
using DamageObserver = std::function<void(const std::string& damage)>;

// Puts every entry of the newest commit on `damaged` that can be read into `into`, then what the log has beyond it, as far as it is
// whole; and flushes. Nothing is taken that its checksum does not vouch for.
//
// A damaged leaf, or value, is left out. Where a branch is damaged, or no meta page is good, every block of the device is searched for leaves
// of the keys in question, and of several for one range of keys the newest is taken. Blocks that the commit has as free are left out,
// where its bitmaps can be read; where not, entries that were erased may come back. Without a meta page the log cannot be found. A log that lies
// on a device of its own is left out, and that is told, if the device is not given or is damaged.
//
// Requires: all of them outlive the task; the devices are open for reading, and `into` is empty. Errors: those of `into`; unsupported_format;
// not_a_store when there is neither a meta page nor a leaf; of a log device that the store does not have, or that is another
// store's, invalid_argument, and not_a_store if it is none, before anything is put. What was put until then stays. Memory: two keys for
// each leaf found by searching, and the longest value.
monterey::Task<SalvageReport> salvage(BlockDevice& damaged, Partition& into, DamageObserver on_damage,
                                      SalvageOptions options = {});

}  // namespace store
