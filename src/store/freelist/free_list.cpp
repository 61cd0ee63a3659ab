#include "store/freelist/free_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <monterey/preempt.hpp>
#include <monterey/when_all.hpp>
#include <new>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/freelist/aligned_page.hpp"
#include "store/freelist/extent_parts.hpp"

namespace store {
namespace {

constexpr std::size_t kLoadsAtOnce = 32;
constexpr std::size_t kSettledTogether = 64;  // extents; a few microseconds of work

// The least that the emptiest window of a region must have, by its summary alone: a run of 511 covers a whole window,
// a shorter one lies in two at most.
std::uint32_t emptiest_window_at_least(FreeSummary free) noexcept {
  const std::uint32_t by_run = std::min(kWindowBlocks, (free.longest_run + 1) / 2);
  return std::max(by_run, (free.free_blocks + kRegionWindows - 1) / kRegionWindows);
}

// What a page holds must be what its parent says of it; every search relies on that.
void require_summary(const BlockDevice& device, const BitmapParentCell& cell, FreeSummary found) {
  if (found == cell.free) return;
  throw Error(
      Errc::corruption,
      fmt::format("{}: allocator page {} has {} free blocks and a longest run of {}, but its parent says {} and {}; "
                  "restore a backup or salvage the store",
                  device.name(), cell.child.page.value, found.free_blocks, found.longest_run, cell.free.free_blocks,
                  cell.free.longest_run));
}

}  // namespace

FreeList::FreeList(BlockDevice& device, GenerationPins& pins, std::uint64_t first_usable_block, FreeListOptions options)
    : device_(device), pins_(pins), first_usable_block_(first_usable_block), options_(options) {
  STORE_ASSERT(first_usable_block > 0 && first_usable_block < kRegionBlocks);
}

FreeList::~FreeList() = default;

void FreeList::create_empty() {
  STORE_ASSERT(regions_.empty());
  durable_ = {};  // its mark at 0 makes the first region dirty: the first commit writes it
  parents_loaded_ = true;
  raise_high_water(first_usable_block_);
  // The meta pages are nobody's.
  regions_[0]->remove_free({0, static_cast<std::uint32_t>(first_usable_block_)});
  free_blocks_ = 0;
  rank(0);
}

monterey::Task<> FreeList::open(AllocatorRoot durable) {
  STORE_ASSERT(regions_.empty());
  check_allocator_root(device_, durable, {first_usable_block_, durable.high_water});
  if (durable.high_water > device_.size_blocks()) {
    throw Error(Errc::corruption, fmt::format("{} has {} blocks, but the store on it uses {}: it was cut off",
                                              device_.name(), device_.size_blocks(), durable.high_water));
  }
  if (durable.root.is_null()) {
    create_empty();
    co_return;
  }
  durable_ = durable;
  const auto page = std::make_unique<AlignedPage>();
  co_await read_allocator_page(device_, durable.root, durable.levels, 0, bounds(), PageBytes(page->bytes),
                               monterey::IoClass::foreground);
  high_water_ = durable.high_water;
  if (durable.levels > 0) {
    const BitmapParentView parent(page->bytes);
    auto& children = stored_[durable.levels - 1u];
    for (std::uint32_t slot = 0; slot < parent.count(); ++slot) children.push_back(parent.child(slot));
    const FreeSummary free = summarize(parent);
    stored_[durable.levels].push_back({durable.root, free});
    free_blocks_ = free.free_blocks;
    if (durable.levels == 1) co_await load_parents();
    co_return;
  }
  std::array<std::uint64_t, kBitmapWords> words;
  BitmapView(page->bytes).copy_to(words);
  const FreeSummary free = summarize(words);
  stored_[0].push_back({durable.root, free});
  free_blocks_ = free.free_blocks;
  co_await load_parents();
  install_region(0, words);
}

// Reads the parents below the root, once; there is one for each 20 GiB. Sets up what is kept for each region.
monterey::Task<> FreeList::load_parents() {
  auto cells = stored_;
  for (std::uint8_t level = durable_.levels; level-- > 1;) {
    const auto pages = static_cast<std::uint32_t>(cells[level].size());
    std::vector<std::vector<BitmapParentCell>> children(pages);
    for (std::uint32_t first = 0; first < pages; first += kLoadsAtOnce) {
      std::vector<monterey::Task<>> loads;
      for (std::uint32_t i = first; i < std::min<std::size_t>(first + kLoadsAtOnce, pages); ++i) {
        loads.push_back(load_parent(level, i, cells[level][i], children[i]));
      }
      co_await monterey::when_all(std::move(loads));
    }
    auto& below = cells[level - 1u];
    below.clear();
    for (const auto& part : children) below.insert(below.end(), part.begin(), part.end());
  }
  if (parents_loaded_) co_return;  // by another task meanwhile
  const auto regions = regions_below(durable_.high_water);
  STORE_ASSERT(cells[0].size() == regions);
  regions_.resize(regions);
  by_window_.resize(regions);
  by_run_.resize(regions);
  stored_ = std::move(cells);
  for (std::uint32_t region = 0; region < regions; ++region) rank(region);
  parents_loaded_ = true;
}

monterey::Task<> FreeList::load_parent(std::uint8_t level, std::uint32_t index, BitmapParentCell cell,
                                       std::vector<BitmapParentCell>& children) {
  const auto page = std::make_unique<AlignedPage>();
  co_await read_allocator_page(device_, cell.child, level, index, bounds(), PageBytes(page->bytes),
                               monterey::IoClass::foreground);
  const BitmapParentView parent(page->bytes);
  require_summary(device_, cell, summarize(parent));
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) children.push_back(parent.child(slot));
}

monterey::Task<> FreeList::load_region(std::uint32_t region, monterey::IoClass io_class) {
  const auto page = std::make_unique<AlignedPage>();
  while (!is_loaded(region)) {
    const BitmapParentCell cell = stored_[0][region];
    co_await read_allocator_page(device_, cell.child, 0, region, bounds(), PageBytes(page->bytes), io_class);
    // Meanwhile another task may have loaded it, and a commit changed, written and evicted it.
    if (is_loaded(region)) co_return;
    if (stored_[0][region].child != cell.child) continue;
    std::array<std::uint64_t, kBitmapWords> words;
    BitmapView(page->bytes).copy_to(words);
    require_summary(device_, cell, summarize(words));
    install_region(region, words);
  }
}

monterey::Task<> FreeList::load_regions(std::vector<std::uint32_t> regions) {
  for (std::size_t first = 0; first < regions.size(); first += kLoadsAtOnce) {
    std::vector<monterey::Task<>> loads;
    for (std::size_t i = first; i < std::min(first + kLoadsAtOnce, regions.size()); ++i) {
      loads.push_back(load_region(regions[i], monterey::IoClass::background));
    }
    co_await monterey::when_all(std::move(loads));
  }
}

void FreeList::install_region(std::uint32_t region, ConstBitmapWords words) {
  regions_[region] = std::make_unique<Region>(words);
  ++loaded_count_;
  rank(region);
}

// Requires: no commit in progress, and nothing of the last one to be settled. A region that differs from its page in memory alone stays.
void FreeList::evict_clean_regions() noexcept {
  const auto first_grown = static_cast<std::uint32_t>(durable_.high_water / kRegionBlocks);
  for (std::uint32_t looked = 0; looked < region_count() && loaded_count_ > options_.cached_regions; ++looked) {
    if (evict_next_ >= region_count()) evict_next_ = 0;
    const std::uint32_t region = evict_next_++;
    if (!is_loaded(region) || regions_[region]->kept_blocks > 0) continue;
    if (high_water_ > durable_.high_water && region >= first_grown) continue;
    STORE_ASSERT(!regions_[region]->touched);
    STORE_ASSERT(regions_[region]->allocatable() == stored_[0][region].free.free_blocks);
    regions_[region].reset();
    --loaded_count_;
  }
}

std::optional<std::uint32_t> FreeList::first_unloaded(Extent extent) const noexcept {
  std::optional<std::uint32_t> found;
  for_each_part(extent, [&](std::uint32_t region, Region::Run) {
    if (!found && !is_loaded(region)) found = region;
  });
  return found;
}

std::uint32_t FreeList::region_blocks(std::uint32_t region) const noexcept {
  const std::uint64_t base = std::uint64_t{region} * kRegionBlocks;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(high_water_ - base, kRegionBlocks));
}

std::uint32_t FreeList::allocatable_in(std::uint32_t region) const noexcept {
  return is_loaded(region) ? regions_[region]->allocatable() : stored_[0][region].free.free_blocks;
}

std::uint32_t FreeList::longest_in(std::uint32_t region) const noexcept {
  return is_loaded(region) ? regions_[region]->longest() : stored_[0][region].free.longest_run;
}

void FreeList::rank_window(std::uint32_t region) noexcept {
  const std::uint32_t emptiest = is_loaded(region)
                                     ? regions_[region]->allocatable_in_window(regions_[region]->emptiest_window())
                                     : emptiest_window_at_least(stored_[0][region].free);
  by_window_.set(region, window_class(emptiest));
}

void FreeList::rank(std::uint32_t region) noexcept {
  rank_window(region);
  by_run_.set(region, run_class(longest_in(region)));
}

// After blocks of `extent` became allocatable.
void FreeList::remeasure(Extent extent) noexcept {
  for_each_part(extent, [&](std::uint32_t region, Region::Run) {
    regions_[region]->measure();
    rank(region);
  });
}

void FreeList::touch(std::uint32_t region) {
  if (regions_[region]->touched) return;
  touched_.push_back(region);
  regions_[region]->touched = true;
}

// Requires: all of it is allocatable, its regions loaded.
void FreeList::take(Extent extent, Purpose purpose) {
  if (purpose == Purpose::allocation) {
    for_each_part(extent, [&](std::uint32_t region, Region::Run) { touch(region); });
  } else {
    reservations_.emplace(extent.first.value, extent.count);
    reserved_blocks_ += extent.count;
  }
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) {
    Region& bits = *regions_[region];
    if (purpose == Purpose::allocation) {
      bits.allocate(run);
    } else {
      bits.reserve(run);
      bits.kept_blocks += run.count;
    }
    rank_window(region);  // the longest run stays as an upper bound
  });
  free_blocks_ -= extent.count;
  if (on_reuse_) on_reuse_(extent);
}

void FreeList::make_allocatable(Extent extent) noexcept {
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) {
    regions_[region]->make_allocatable(run);
    rank(region);
  });
  free_blocks_ += extent.count;
}

// The blocks up to `to` become allocatable. Requires: the region of the old mark is loaded, if any begins below it.
void FreeList::raise_high_water(std::uint64_t to) {
  STORE_ASSERT(to > high_water_ && to <= kMaxBlocks);
  const std::uint32_t before = region_count();
  const std::uint32_t after = regions_below(to);
  std::vector<std::unique_ptr<Region>> added;
  for (std::uint32_t region = before; region < after; ++region) added.push_back(std::make_unique<Region>());
  by_window_.resize(after);
  by_run_.resize(after);
  stored_[0].resize(after);
  regions_.reserve(after);
  for (auto& region : added) regions_.push_back(std::move(region));
  loaded_count_ += after - before;
  const std::uint64_t old = std::exchange(high_water_, to);
  for_each_part(old, to, [&](std::uint32_t region, Region::Run run) {
    regions_[region]->add_free(run);
    regions_[region]->measure();
    rank(region);
  });
  free_blocks_ += to - old;
}

// Lowers the high-water mark over allocatable blocks that no durable or sealed state has below its own mark.
void FreeList::trim_high_water() noexcept {
  // While the fixed point is sought, the regions there are must stay.
  if (phase_ == Phase::sealing) return;
  const std::uint64_t floor = std::max({durable_.high_water, sealed_.high_water, first_usable_block_});
  while (high_water_ > floor) {
    const std::uint32_t region = region_count() - 1;
    const std::uint64_t base = std::uint64_t{region} * kRegionBlocks;
    const std::uint32_t end = region_blocks(region);
    const std::uint64_t gap = std::min<std::uint64_t>(regions_[region]->trailing(end), high_water_ - floor);
    if (gap == 0) break;
    const auto count = static_cast<std::uint32_t>(gap);
    regions_[region]->remove_free({end - count, count});
    high_water_ -= gap;
    free_blocks_ -= gap;
    if (high_water_ > base) {
      regions_[region]->measure();
      rank(region);
      if (count < end) break;
    } else {
      if (regions_[region]->touched) std::erase(touched_, region);
      regions_.pop_back();
      stored_[0].pop_back();
      --loaded_count_;
      by_window_.resize(region);
      by_run_.resize(region);
      if (window_ && window_->region == region) window_.reset();
    }
  }
}

void FreeList::give_back(Extent extent) {
  STORE_ASSERT(phase_ == Phase::open);
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) {
    STORE_ASSERT(region < region_count() && is_loaded(region));
    regions_[region]->give_back(run);
  });
  free_blocks_ += extent.count;
  remeasure(extent);
  if (extent.end() == high_water_) trim_high_water();
}

void FreeList::adopt(Extent extent) {
  STORE_ASSERT(phase_ == Phase::open);
  const auto reservation = reservations_.find(extent.first.value);
  STORE_ASSERT(reservation != reservations_.end() && reservation->second == extent.count);
  for_each_part(extent, [&](std::uint32_t region, Region::Run) { touch(region); });
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) {
    regions_[region]->adopt(run);
    regions_[region]->kept_blocks -= run.count;
  });
  reserved_blocks_ -= extent.count;
  adopted_.insert(reservations_.extract(reservation));
}

void FreeList::cancel(Extent extent) {
  const auto reservation = reservations_.find(extent.first.value);
  STORE_ASSERT(reservation != reservations_.end() && reservation->second == extent.count);
  reservations_.erase(reservation);
  reserved_blocks_ -= extent.count;
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) { regions_[region]->kept_blocks -= run.count; });
  make_allocatable(extent);
  if (extent.end() == high_water_) trim_high_water();
}

void FreeList::pins_changed() noexcept {
  if (!pins_.has_unpinned()) return;
  try {
    for (const Generation generation : pins_.take_unpinned()) held_.drop(generation, pins_, freed_);
  } catch (const std::bad_alloc&) {
    // Destructors call this. What was found free so far is free.
  }
  settle_at_once();
}

void FreeList::settle_at_once() noexcept {
  for (std::size_t settled = 0; settled < options_.settled_at_once; settled += kSettledTogether) {
    if (!settle_some()) return;
  }
}

monterey::Task<> FreeList::settle() {
  while (settle_some()) co_await monterey::maybe_yield();
}

bool FreeList::settle_some() noexcept {
  for (std::size_t i = 0; i < kSettledTogether && !freed_.empty(); ++i) {
    const Extent extent = freed_.pop();
    for_each_part(extent, [&](std::uint32_t region, Region::Run run) { regions_[region]->kept_blocks -= run.count; });
    make_allocatable(extent);
  }
  const bool was_settling = !settling_.empty();
  for (std::size_t i = 0; i < kSettledTogether && !settling_.empty(); ++i) {
    settle_released(settling_.front());
    settling_.pop_front();
  }
  if (was_settling && settling_.empty() && phase_ == Phase::idle) evict_clean_regions();
  return !is_settled();
}

void FreeList::settle_released(const Released& released) noexcept {
  bool held = false;
  try {
    held = held_.add(released.extent, released.birth, released.death, pins_);
  } catch (const std::bad_alloc&) {
    held = true;  // not remembered: it comes back when the store is opened again
  }
  if (held) {
    for_each_part(released.extent,
                  [&](std::uint32_t region, Region::Run run) { regions_[region]->kept_blocks += run.count; });
  } else {
    make_allocatable(released.extent);
  }
}

}  // namespace store
