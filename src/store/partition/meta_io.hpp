// The meta slots on the device: reading all four blocks and choosing the state to open, writing one slot for a commit.
//
// * A commit writes both copies of the older slot, so that the newer state stays whole until the next one is durable.
// * The state to open is the newest of which one copy is good. A bad twin is reported and mended by a writable open.
// * A slot both copies of which are bad is a commit that did not complete, or rot that nothing attests; the other one is
//   then the newest. When no copy at all is good, nothing is opened.
// * A slot that cannot be read may be the newest: it is told, and only a rollback opens the other one.
#pragma once

#include <array>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <store/config.hpp>
#include <string>
#include <vector>

#include "store/page/meta.hpp"

namespace store {

struct MetaCandidate {
  Meta meta;
  std::uint32_t slot = 0;
};

struct MetaSlots {
  bool blank = false;                     // no device yet, or zeros where the meta pages go
  std::vector<MetaCandidate> candidates;  // newest first; at least one unless blank
  std::vector<std::string> notes;         // damage that does not keep the store from opening
  std::vector<MetaCandidate> to_mend;     // slots one copy of which is bad
  bool one_lost = false;                  // a slot has no good copy, though it had one once
  std::string unreadable;                 // why a slot could not be read at all, which may be the newest; empty if none
};

// Errors: not_a_store, unsupported_format, corruption (all copies damaged), io_error.
monterey::Task<MetaSlots> read_meta_slots(BlockDevice& device);

// Refuses a device that a new store would replace, unless told to. Errors: read_only; already_exists when it holds a store and
// not_a_store when it holds something else; io_error.
monterey::Task<> require_replaceable(BlockDevice& device, CreateOptions options);

// A name for a new store. Errors: io_error.
Uuid random_uuid();
// A name for what is committed from now on. Errors: io_error.
std::uint64_t random_lineage();

// What a device that is too short, or a tree that is too high, for what its meta page says is refused with. Errors: corruption.
void require_fitting(const BlockDevice& device, const Meta& meta);

// Writes the slots anew of which one copy is bad, durably.
monterey::Task<> mend_meta_slots(BlockDevice& device, const MetaSlots& slots);

// Writes both copies of a slot. Durability: with the next sync of the device.
monterey::Task<> write_meta_slot(BlockDevice& device, Meta meta, std::uint32_t slot);

// A sync that ends a step of a commit. It is never tried again: the kernel may have dropped what it could not write and
// report success the next time.
monterey::Task<> sync_device(BlockDevice& device);

// What is wrong with the meta pages of a store open in state `open`, which lies in `slot`: every copy of both slots must be
// good and equal to its twin, and no slot may hold a state younger than `youngest`. Errors: those of the device but io_error,
// which is a finding.
monterey::Task<std::vector<std::string>> check_meta_slots(BlockDevice& device, Meta open, std::uint32_t slot,
                                                          Generation youngest);

// Makes the four meta blocks zeros: nothing that was on the device before can be taken for a state of the new store.
monterey::Task<> clear_meta_slots(BlockDevice& device);

}  // namespace store
