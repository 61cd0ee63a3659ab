// The allocator of a partition's blocks: which are free, which may be taken now, and the copy-on-write tree of bitmap
// pages that says so on the device. A bitmap page covers a *region* of kRegionBlocks blocks; parent pages over them carry
// pointer, free count and longest run of each child (store/page/bitmap_page.hpp). Blocks at and beyond the high-water
// mark are free and have no bitmap.
//
// Life of a block:
//
//          allocate_*                     committed()
//   free ------------> allocated (commit) -----------> reached by the durable generation
//    ^ ^ \ reserve_run       ^   | give_back, aborted()            | release, seal, committed()
//    | |  `---> reserved ----'   v                                 v
//    | |  cancel |    adopt    free                              held  (a pin S has birth <= S < death)
//    | `---------'                                                 |
//    `-------------------------------------------------------------'  committed(), pins_changed(), settle(): no such pin
//
// Invariants:
//  1. The bitmap of generation G is the exact complement of what G reaches below its high-water mark, the allocator's own
//     pages included: held and reserved blocks are free on the device. After open() nothing is held or reserved.
//  2. A block may be allocated iff it is free in the durable generation, not held, not reserved, and not allocated in the
//     commit in progress (a block allocated and superseded within one commit comes back after it).
//  3. A held extent {extent, birth, death} becomes allocatable when death is durable and no pin S has birth <= S < death;
//     what lies between two pinned generations comes back too.
//  4. seal() takes the blocks of its own pages first, each region's from that region where it has one, else from another
//     region already dirty, to a fixed point; only then is anything serialised, and nothing more is allocated. Only dirty
//     regions and the parents above them are written. (A region's page in the region itself: superseding it dirties
//     nothing else, so that one small commit never pulls in a chain of regions.)
//  5. open() reads the root alone. A region is loaded when a commit touches it or space in it is wanted; memory of clean
//     regions is kept up to a limit. A failed load changes nothing.
//  6. aborted() restores the state before begin(), except reservations made or cancelled since.
//  7. Reservations are volatile: never on the device, and they outlast commits.
//  8. Superseded blocks become held or free a few at a time, so that no step stalls the core however many there are: what
//     committed() and pins_changed() leave waits for settle_some(), and is neither held nor free until then. Whether a pin holds an
//     extent may be asked later than at its commit: pins only go, and nobody pins a generation anew that older ones do not.
//  9. A commit lowers the high-water mark only over blocks that are allocatable when it begins to: free in the durable
//     generation, nobody's. From then on until release_withheld() nobody gets them.
//
// Order of calls: create_empty() or open(), then per commit begin (again for each later cut), allocations and releases,
// seal, and committed or aborted. seal() may only run when no allocation of the commit is suspended. reserve_run, cancel
// and pins_changed may come at any time, also while seal() is suspended or its result is being made durable.
//
// A damaged allocator page is Errc::corruption naming the page; a superseded block that the bitmap has as free too.
// Owner: the partition, on whose core it stays; device and pins outlive it, and no call may be in flight when it ends.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <monterey/task.hpp>
#include <store/block_device.hpp>

#include "store/base/ids.hpp"
#include "store/freelist/allocator_tree.hpp"
#include "store/freelist/extent_list.hpp"
#include "store/freelist/generation_pins.hpp"
#include "store/freelist/held_extents.hpp"
#include "store/freelist/region.hpp"
#include "store/freelist/region_ranking.hpp"
#include "store/page/bitmap_page.hpp"

namespace store {

struct FreeListOptions {
  std::size_t cached_regions = 512;     // bitmaps of clean regions kept in memory, 12 KiB each
  std::size_t settled_at_once = 2'048;  // superseded extents, by committed() and pins_changed(); about 60 ns each
};

class FreeList {
 public:
  static constexpr std::uint32_t kMostLoweredRegions = 64;  // their bitmaps must be in memory: 12 KiB each

  // `first_usable_block`: the blocks before it (the meta pages) are nobody's to allocate.
  FreeList(BlockDevice& device, GenerationPins& pins, std::uint64_t first_usable_block, FreeListOptions options = {});
  FreeList(const FreeList&) = delete;
  FreeList& operator=(const FreeList&) = delete;
  ~FreeList();

  // Called for every extent when it is allocated or reserved: the cache drops the frames of its former contents.
  void set_on_reuse(std::function<void(Extent)> on_reuse) { on_reuse_ = std::move(on_reuse); }

  // The state of a new store, in memory: everything from first_usable_block on is free.
  void create_empty();
  // The state that the durable meta page names. Reads the root page. Errors: corruption, io_error.
  monterey::Task<> open(AllocatorRoot durable);

  // Starts the commit that builds `building`; called again for each later cut of it, with a greater generation, which
  // then is the birth of pages allocated and the death of extents released from here on.
  void begin(Generation building);

  // Takes 1..wanted contiguous blocks for pages: from the emptiest 1 MiB windows first, past the high-water mark when
  // little below it is left (windows of at most 16 free blocks, 1/64 of the blocks in use in all); to the last block when
  // it cannot rise. Errors: no_space, io_error, corruption; the state is as before the call. Suspends when a
  // region must be loaded or the device must grow.
  monterey::Task<Extent> allocate_pages(std::uint32_t wanted);
  // Takes `blocks` contiguous blocks: the shortest fitting gap of the best region, gaps over several regions for runs of
  // at least 1 MiB, else past the high-water mark. Errors and suspension as allocate_pages().
  monterey::Task<Extent> allocate_run(std::uint32_t blocks);
  // Takes `blocks` contiguous blocks, all below `mark`, from the lowest gap within a region that has them; nullopt if none
  // does. Errors and suspension as allocate_pages(), but no_space.
  monterey::Task<std::optional<Extent>> allocate_run_below(std::uint32_t blocks, std::uint64_t mark);
  // Undoes the allocation of an extent, or of a part, that the commit did not use after all. Requires: no part was
  // adopted, released or given back.
  void give_back(Extent extent);

  // The generation being built supersedes `extent`, whose pages were born in `birth`. Takes effect in seal().
  // Errors: corruption when the extent cannot be one of this store's (the pointer to it came from the device).
  void release(Extent extent, Generation birth);

  // Ends the allocations: takes, fills and writes the dirty allocator pages, without a sync. Between it and committed()
  // or aborted() nothing is allocated or released. Errors: no_space, io_error, corruption; aborted() must follow.
  monterey::Task<AllocatorRoot> seal();
  // Pages of its own that seal() wrote. Until committed() or aborted().
  std::size_t pages_sealed() const noexcept { return placed_.size(); }
  // The meta page that names seal()'s result is durable. Superseded extents become held or free, those of the options'
  // settled_at_once now, the others by settle(). Does not suspend.
  void committed() noexcept;
  // Lets what was superseded, and what pins have let go, become held or free until nothing is left of it. Suspends.
  monterey::Task<> settle();
  // A small part of that, a few microseconds. Returns whether there is more.
  bool settle_some() noexcept;
  // Undoes all since the first begin(); also right when seal() has failed. The caller has waited for its own writes.
  // Cost: about 10 ns for each extent released.
  void aborted() noexcept;
  bool in_commit() const noexcept { return phase_ != Phase::idle; }

  // Takes contiguous blocks as allocate_run() does, for a value that no commit reaches yet.
  monterey::Task<Extent> reserve_run(std::uint32_t blocks);
  // The same as allocate_run_below() does.
  monterey::Task<std::optional<Extent>> reserve_run_below(std::uint32_t blocks, std::uint64_t mark);
  // Takes exactly `extent`, which the log names and no commit reaches. Errors: corruption when it cannot be free; io_error.
  monterey::Task<> reserve(Extent extent);
  // A reservation, as it was returned, becomes an allocation of the commit in progress (again a reservation when that is
  // aborted), or is free again at once.
  void adopt(Extent extent);
  void cancel(Extent extent);

  // Frees the held extents that nothing pins any more, the options' settled_at_once now, the others by settle(). Called when a
  // Pin is dropped; O(1) when no generation became unpinned, else O(pinned generations). What it cannot note for want of memory
  // stays held until the store is opened again.
  void pins_changed() noexcept;

  // --- compaction (free_list_compact.cpp) ---

  // From now on the lowest blocks below `mark` are taken first, for whatever purpose, and others only when there are none
  // (for a run: no gap); until it is called with nullopt. A commit then moves the allocator pages that it writes.
  void prefer_below(std::optional<std::uint64_t> mark) noexcept;
  // Makes the commit in progress rewrite every page of the allocator that lies at or above `mark`. Returns whether there is
  // any. Errors: io_error, corruption.
  monterey::Task<bool> rewrite_own_pages(std::uint64_t mark);
  // Makes the commit in progress, which must not have changed anything yet, lower the high-water mark as far as the blocks
  // below it are allocatable, by kMostLoweredRegions regions at most, and withholds those. Returns whether it does.
  // Errors: io_error, corruption.
  monterey::Task<bool> lower_high_water();
  // Behind a committed lower_high_water(): the blocks that the state in memory still has beyond the durable mark.
  std::optional<Extent> withheld() const noexcept { return withheld_; }
  // Lets the mark in memory fall over what is withheld.
  void release_withheld() noexcept;

  // Blocks allocatable now below the high-water mark.
  std::uint64_t free_blocks() const noexcept { return free_blocks_; }
  // Those, and what the device's capacity leaves beyond the mark. In pages; runs may find less.
  std::uint64_t allocatable_blocks() const;
  // Superseded in a durable generation, kept for a pin.
  std::uint64_t held_blocks() const noexcept { return held_.blocks(); }
  // Of those, what each of these pinned generations keeps, alone or with others. Requires: they ascend.
  std::vector<std::uint64_t> blocks_held_by(std::span<const Generation> pinned) const {
    return held_.blocks_held_by(pinned);
  }
  std::uint64_t reserved_blocks() const noexcept { return reserved_blocks_; }
  // Blocks below the mark that are not free in the durable generation, or kept for pins or reservations.
  std::uint64_t used_blocks() const noexcept { return high_water_ - free_blocks_; }
  // Of the state in memory; the durable one's stands in its AllocatorRoot.
  std::uint64_t high_water() const noexcept { return high_water_; }
  // Bitmaps in memory.
  std::size_t loaded_regions() const noexcept { return loaded_count_; }

 private:
  enum class Phase : std::uint8_t {
    idle,
    open,     // between begin() and seal()
    sealing,  // looking for the fixed point
    sealed,   // serialised or being so; nothing is allocated
  };
  enum class Purpose : std::uint8_t { allocation, reservation };

  struct Released {
    Extent extent;
    Generation birth;
    Generation death;
  };

  // An allocator page that the commit writes: its new place, and what its parent is to hold.
  struct Placement {
    PageNo page;  // 0 until it has one
    BitmapParentCell cell;
  };
  using PageKey = std::pair<std::uint8_t, std::uint32_t>;  // level, index

  // Where the next pages come from, while it has any.
  struct Window {
    std::uint32_t region;
    std::uint32_t next;  // the first index in the region not yet looked at
    std::uint32_t end;
  };

  // What a search over several regions found, or the region it must see first.
  struct Gap {
    std::uint64_t first = 0;
    std::uint64_t blocks = 0;  // 0: nothing found
    std::optional<std::uint32_t> to_load;
  };

  // Loading.
  monterey::Task<> load_parents();
  monterey::Task<> load_parent(std::uint8_t level, std::uint32_t index, BitmapParentCell cell,
                               std::vector<BitmapParentCell>& children);
  monterey::Task<> load_region(std::uint32_t region, monterey::IoClass io_class);
  monterey::Task<> load_regions(std::vector<std::uint32_t> regions);
  void install_region(std::uint32_t region, ConstBitmapWords words);
  void evict_clean_regions() noexcept;
  bool is_loaded(std::uint32_t region) const noexcept { return regions_[region] != nullptr; }
  std::optional<std::uint32_t> first_unloaded(Extent extent) const noexcept;
  AllocatorBounds bounds() const noexcept { return {first_usable_block_, durable_.high_water}; }

  // Bits.
  std::uint32_t region_count() const noexcept { return static_cast<std::uint32_t>(regions_.size()); }
  std::uint32_t region_blocks(std::uint32_t region) const noexcept;  // below the high-water mark
  std::uint32_t allocatable_in(std::uint32_t region) const noexcept;
  std::uint32_t longest_in(std::uint32_t region) const noexcept;
  void take(Extent extent, Purpose purpose);
  void make_allocatable(Extent extent) noexcept;
  void settle_at_once() noexcept;
  void settle_released(const Released& released) noexcept;
  bool is_settled() const noexcept { return settling_.empty() && freed_.empty(); }
  void touch(std::uint32_t region);
  void rank_window(std::uint32_t region) noexcept;
  void rank(std::uint32_t region) noexcept;
  void remeasure(Extent extent) noexcept;
  void raise_high_water(std::uint64_t to);
  void trim_high_water() noexcept;

  // Searching.
  std::optional<std::uint32_t> lowest_region(std::uint32_t from) const noexcept;
  std::optional<Region::Run> gap_below(std::uint32_t region, std::uint32_t blocks, std::uint64_t mark) const noexcept;
  monterey::Task<bool> open_lowest_window();
  monterey::Task<std::optional<Extent>> take_run_below(std::uint32_t blocks, std::uint64_t mark, Purpose purpose);
  std::optional<std::uint32_t> emptiest_region() const noexcept;
  bool only_crumbs_left(std::uint32_t emptiest) const noexcept;
  std::optional<Extent> take_from_window(std::uint32_t wanted);
  monterey::Task<Extent> take_pages(std::uint32_t wanted);
  monterey::Task<Extent> take_run(std::uint32_t blocks, Purpose purpose);
  std::optional<std::uint32_t> fitting_region(std::uint32_t blocks) const noexcept;
  enum class Bounds : std::uint8_t { load, skip };
  Gap find_spanning(std::uint64_t blocks, Bounds bounds_only) const noexcept;
  std::uint64_t tail_gap() const noexcept;
  std::uint64_t capacity() const;
  [[noreturn]] void throw_no_space(std::uint64_t wanted) const;

  // Sealing.
  std::uint64_t mark_to_seal() const noexcept { return withheld_ ? withheld_->first.value : high_water_; }
  monterey::Task<> touch_loaded(std::uint32_t region);
  monterey::Task<> apply_releases();
  void apply_release(const Released& released);
  std::vector<PageKey> dirty_pages() const;
  const BitmapParentCell* stored(PageKey key) const noexcept;
  bool supersede_dirty();
  monterey::Task<> place(PageKey key);
  std::optional<PageNo> take_own_page(PageKey key);
  monterey::Task<> write_placed();
  void encode_placed(PageKey key, Placement& placed, PageBytes page) const;
  void end_commit() noexcept;

  BlockDevice& device_;
  GenerationPins& pins_;
  const std::uint64_t first_usable_block_;
  const FreeListOptions options_;
  std::function<void(Extent)> on_reuse_;

  // The durable state. Cells by level: [0] of the bitmaps, of the root alone in the last.
  AllocatorRoot durable_;
  std::array<std::vector<BitmapParentCell>, kMaxBitmapLevel + 1> stored_;
  bool parents_loaded_ = false;

  // The state in memory. Regions between the durable high-water mark and the one in memory are always loaded.
  std::vector<std::unique_ptr<Region>> regions_;  // null: not loaded, all as stored_ says
  std::size_t loaded_count_ = 0;
  std::uint32_t evict_next_ = 0;
  RegionRanking by_window_;  // by the emptiest window of each region
  RegionRanking by_run_;     // by its longest run
  std::uint64_t high_water_ = 0;
  std::uint64_t free_blocks_ = 0;
  std::uint64_t reserved_blocks_ = 0;
  HeldExtents held_;
  std::deque<Released> settling_;                        // of the last commit, not looked at since
  ExtentList freed_;                                     // no pin holds them any more; counted as kept in their regions
  std::map<std::uint64_t, std::uint32_t> reservations_;  // first block, blocks
  std::optional<Window> window_;
  std::optional<std::uint64_t> ceiling_;  // prefer_below()
  std::optional<Extent> withheld_;        // up to the mark in memory as it was when the commit lowered it

  // The commit in progress.
  Phase phase_ = Phase::idle;
  Generation building_;
  std::vector<std::uint32_t> touched_;  // regions whose bits changed
  std::size_t own_region_ = 0;          // of touched_, the first that may have a block for the allocator's own pages
  std::deque<Released> released_;
  std::size_t applied_ = 0;  // of released_, those whose bits are set already
  std::map<std::uint64_t, std::uint32_t> adopted_;
  std::map<PageKey, Placement> placed_;
  AllocatorRoot sealed_;
};

}  // namespace store
