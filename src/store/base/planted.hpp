// Planted bugs: known mistakes, each switched on by name, that the simulation must catch (`./dev sim --control`). They
// prove the checker: one that misses any of them would miss the same mistake made by accident.
//
// A build that ships has nothing of this: without the CMake option STORE_PLANT, planted() is constant false, and what it
// guards is dropped by the compiler. With it, at most one bug of the process is on; only the simulation sets it.
#pragma once

#include <cstdint>

namespace store {

// name | what is done wrong
#define STORE_PLANTED_BUGS(BUG) \
  BUG(no_sync_before_meta, "the meta page is written without a sync of what it names") \
  BUG(no_sync_after_meta, "a flush is acknowledged before its meta page is durable") \
  BUG(meta_slots_swapped, "a commit overwrites the newer meta slot") \
  BUG(page_crc_skipped, "a page's checksum is not computed when it is read") \
  BUG(run_crc_skipped, "an overflow run's checksum is not compared when it is read") \
  BUG(birth_not_checked, "a page is not held against the birth and checksum that its pointer gives") \
  BUG(reader_not_pinned, "a suspended reader does not pin the generation it reads") \
  BUG(block_reused_early, "superseded blocks are free before the commit that frees them is durable") \
  BUG(allocator_page_after_serialisation, "the allocator's bitmap is written before its own page's bit") \
  BUG(meta_write_error_ignored, "a failed write of a meta page is ignored") \
  BUG(sync_error_retried, "a failed sync is tried again, and the second success believed") \
  BUG(poison_ignored, "a failed sync or meta write does not poison") \
  BUG(damage_rolled_back, "damage to the newest state falls back to the older one without being asked") \
  BUG(unreadable_slot_ignored, "a meta slot that cannot be read is taken for absent") \
  BUG(expectation_not_rechecked, "a batch's expectations are not looked at again once it holds the queue") \
  BUG(log_accepted_past_tear, "the chain of checksums of log groups is not compared") \
  BUG(stale_incarnation_replayed, "a log group of an older incarnation is replayed") \
  BUG(log_acknowledged_before_sync, "a write is acknowledged when its log group is written, not synced") \
  BUG(half_batch_replayed, "a batch is replayed entry by entry, whole or not") \
  BUG(recovery_not_idempotent, "recovery gives up the log before what it replayed is durable") \
  BUG(fragments_without_last, "a record's fragments are accepted without the last one") \
  BUG(segment_recycled_early, "a log segment is recycled before the flush that covers it is durable") \
  BUG(inherited_range_not_rewritten, "a leaf that gets the keys of a lost neighbour is carried over as it is") \
  BUG(decided_before_prepared, "a batch across shards is decided before all its parts are prepared durably") \
  BUG(decision_forgotten_early, "a decision is forgotten before every part of its batch is applied durably") \
  BUG(acknowledged_during_snapshot, "a write is acknowledged while a snapshot across shards is being taken")

enum class Planted : std::uint8_t {
  none,
#define STORE_PLANTED_NAME(name, text) name,
  STORE_PLANTED_BUGS(STORE_PLANTED_NAME)
#undef STORE_PLANTED_NAME
};

#ifdef STORE_PLANT
namespace detail {
extern Planted planted_bug;
}

inline bool planted(Planted bug) noexcept { return detail::planted_bug == bug; }
void plant(Planted bug) noexcept;
#else
constexpr bool planted(Planted) noexcept { return false; }
#endif

}  // namespace store
