#include "sim/faults.hpp"

#include "sim/fault_entries.hpp"

namespace store::test {

namespace {

constexpr FaultEntry kFaults[] = {
    {"power_cut", "power cut: any subset of unsynced sectors, in any order", true, 100'000, run_power_cut},
    {"torn_write", "every write torn after every sector", true, 20'000, run_torn_write},
    {"crash_chain", "crashes during creation, recovery, growth, flush and close, three deep", true, 20'000,
     run_crash_chain},
    {"extension_lost", "the file's extension since the last sync is lost", true, 5'000, run_extension_lost},
    {"write_error", "write or growth number i fails with EIO or ENOSPC, once or for good", true, 10'000,
     run_write_error},
    {"sync_error", "sync number i fails and later ones succeed; its data are kept, or dropped", true, 3'000,
     run_sync_error},
    {"read_error", "read number i fails", true, 5'000, run_read_error},
    {"bit_rot", "a bit is flipped", true, 100'000, run_bit_rot},
    {"every_bit", "each bit of a store of 64 blocks is flipped", true, 64 * 4096 * 8, run_every_bit},
    {"lying_device", "a write is lost or misdirected, a read misdirected, and acknowledged", true, 10'000,
     run_lying_device},
    {"meta_block", "one meta block is lost, damaged or unreadable", true, 2'000, run_meta_block},
    {"refused", "all meta blocks, or the newest root of tree or allocator, are damaged", true, 2'000, run_refused},
    {"short_io", "on a file: short, interrupted and reordered completions; an image is one of them", false, 200'000,
     run_short_io},
    {"log_damage", "groups of the log, or the meta page that they attest, are damaged, stale or foreign", true, 10'000,
     run_log_damage},
    {"increment", "power cut of source or target while an incremental copy is made, or between two", false, 10'000,
     run_increment},
    {"shards", "power cuts of all disks of a sharded store at once", false, 20'000, run_shards},
    {"two_faults", "two of these at once", true, 20'000, run_two_faults},
};

}  // namespace

std::span<const FaultEntry> all_faults() { return kFaults; }

WalMode mode_of(std::uint64_t seed) {
  constexpr WalMode kModes[] = {WalMode::none, WalMode::batched, WalMode::per_op};
  return kModes[seed % 3];
}

const char* name_of(WalMode mode) {
  switch (mode) {
    case WalMode::none: return "none";
    case WalMode::batched: return "batched";
    case WalMode::per_op: return "per_op";
  }
  return "?";
}

}  // namespace store::test
