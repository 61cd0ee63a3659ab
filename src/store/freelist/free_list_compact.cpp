// The half of FreeList that makes room at the end: blocks are taken from the lowest places, the allocator's own pages are
// moved out of the tail, and a commit that finds the tail free lowers the high-water mark.
//
// Lowering takes a commit of its own behind the one that freed the tail: only what is free in the durable generation may be
// left without a bitmap. While it is under way the tail is withheld, so that it can be given up without a suspension when
// the commit is durable, and is as it was when the commit is given up.
#include <algorithm>

#include "store/base/assert.hpp"
#include "store/freelist/extent_parts.hpp"
#include "store/freelist/free_list.hpp"

namespace store {

void FreeList::prefer_below(std::optional<std::uint64_t> mark) noexcept {
  ceiling_ = mark;
  window_.reset();
}

// The first region at or after `from` that begins below the ceiling and has an allocatable block.
std::optional<std::uint32_t> FreeList::lowest_region(std::uint32_t from) const noexcept {
  const std::uint32_t end = std::min(regions_below(*ceiling_), region_count());
  for (std::uint32_t region = from; region < end; ++region) {
    if (allocatable_in(region) > 0) return region;
  }
  return std::nullopt;
}

// Lets the next pages come from the lowest allocatable blocks below the ceiling. False if there is none.
monterey::Task<bool> FreeList::open_lowest_window() {
  for (auto region = lowest_region(0); region;) {
    if (!is_loaded(*region)) {
      co_await load_region(*region, monterey::IoClass::background);
      region = ceiling_ ? lowest_region(0) : std::nullopt;  // anything may have been taken meanwhile
      continue;
    }
    const auto run = gap_below(*region, 1, *ceiling_);
    if (run) {
      const std::uint64_t base = std::uint64_t{*region} * kRegionBlocks;
      const auto end = static_cast<std::uint32_t>(std::min<std::uint64_t>(*ceiling_ - base, kRegionBlocks));
      window_ = Window{*region, run->first, end};
      co_return true;
    }
    region = lowest_region(*region + 1);
  }
  co_return false;
}

// The lowest `blocks` allocatable blocks of the region that lie together below `mark`. Requires: the region is loaded.
std::optional<Region::Run> FreeList::gap_below(std::uint32_t region, std::uint32_t blocks,
                                               std::uint64_t mark) const noexcept {
  const std::uint64_t base = std::uint64_t{region} * kRegionBlocks;
  if (mark <= base) return std::nullopt;
  const auto end = static_cast<std::uint32_t>(std::min<std::uint64_t>(mark - base, kRegionBlocks));
  for (std::uint32_t at = 0;;) {
    const auto run = regions_[region]->next_run(at, end, blocks);
    if (!run || run->count == blocks) return run;
    at = run->first + run->count;
  }
}

monterey::Task<std::optional<Extent>> FreeList::take_run_below(std::uint32_t blocks, std::uint64_t mark,
                                                               Purpose purpose) {
  for (std::uint32_t region = 0; region < std::min(regions_below(mark), region_count()); ++region) {
    if (longest_in(region) < blocks) continue;
    if (!is_loaded(region)) co_await load_region(region, monterey::IoClass::background);
    if (region >= region_count() || !is_loaded(region)) break;  // the mark has fallen, or a commit has ended, meanwhile
    const auto run = gap_below(region, blocks, mark);
    if (!run) {
      regions_[region]->measure();  // it was an upper bound
      rank(region);
      continue;
    }
    const Extent extent{PageNo(region * kRegionBlocks + run->first), blocks};
    take(extent, purpose);
    co_return extent;
  }
  co_return std::nullopt;
}

monterey::Task<std::optional<Extent>> FreeList::allocate_run_below(std::uint32_t blocks, std::uint64_t mark) {
  STORE_ASSERT(phase_ == Phase::open);
  STORE_ASSERT(blocks > 0);
  if (!parents_loaded_) co_await load_parents();
  co_return co_await take_run_below(blocks, mark, Purpose::allocation);
}

monterey::Task<std::optional<Extent>> FreeList::reserve_run_below(std::uint32_t blocks, std::uint64_t mark) {
  STORE_ASSERT(blocks > 0);
  if (!parents_loaded_) co_await load_parents();
  co_return co_await take_run_below(blocks, mark, Purpose::reservation);
}

// Makes the commit write the region's page, and those above it.
monterey::Task<> FreeList::touch_loaded(std::uint32_t region) {
  if (!is_loaded(region)) co_await load_region(region, monterey::IoClass::background);
  touch(region);
}

monterey::Task<bool> FreeList::rewrite_own_pages(std::uint64_t mark) {
  STORE_ASSERT(phase_ == Phase::open);
  if (!parents_loaded_) co_await load_parents();
  bool found = false;
  std::uint64_t regions_each = 1;  // below a page of the level
  for (std::uint8_t level = 0; level <= durable_.levels; ++level) {
    const auto pages = static_cast<std::uint32_t>(stored_[level].size());
    for (std::uint32_t index = 0; index < pages; ++index) {
      const PagePointer& page = stored_[level][index].child;
      if (page.is_null() || page.page.value < mark) continue;
      co_await touch_loaded(static_cast<std::uint32_t>(index * regions_each));
      found = true;
    }
    regions_each *= kBitmapFanout;
  }
  co_return found;
}

monterey::Task<bool> FreeList::lower_high_water() {
  STORE_ASSERT(phase_ == Phase::open && touched_.empty() && released_.empty());
  STORE_ASSERT(!withheld_);
  if (!parents_loaded_) co_await load_parents();
  co_await settle();
  // Nothing is kept back of what a reservation raised the mark over: it has no page, and falls by itself.
  std::uint64_t to = high_water_;
  for (std::uint32_t region = region_count(); region-- > 0 && region + kMostLoweredRegions > region_count();) {
    if (!is_loaded(region)) {
      const std::uint64_t before = high_water_;
      co_await load_region(region, monterey::IoClass::background);
      if (high_water_ != before) co_return false;  // a reservation went past the mark
    }
    const std::uint32_t end = region_blocks(region);
    const std::uint32_t trailing = regions_[region]->trailing(end);
    to = std::max(std::uint64_t{region} * kRegionBlocks + end - trailing, first_usable_block_);
    if (trailing < end) break;
  }
  // Someone may have taken of the first regions looked at while the last were read.
  to = std::max(to, high_water_ - tail_gap());
  // Below the mark there must be blocks for all the pages that the commit may write.
  std::uint64_t missing = 0;
  do {
    to += missing;
    if (to >= durable_.high_water) co_return false;
    const std::uint64_t free_below = free_blocks_ - (high_water_ - to);
    std::uint64_t pages = 0;
    for (std::uint8_t level = 0; level <= root_level(regions_below(to)); ++level) {
      pages += pages_of_level(regions_below(to), level);
    }
    missing = pages - std::min(pages, free_below);
  } while (missing > 0);
  const std::uint32_t kept = regions_below(to);
  if (!is_loaded(kept - 1)) {
    co_await load_region(kept - 1, monterey::IoClass::background);
    if (high_water_ - tail_gap() > to) co_return false;
  }
  // From here on without a suspension. The last region that stays loses bits, and the pages above it lose children.
  touch(kept - 1);
  withheld_ = Extent{PageNo(static_cast<std::uint32_t>(to)), static_cast<std::uint32_t>(high_water_ - to)};
  const std::uint8_t root = root_level(kept);
  for (std::uint8_t level = 0; level <= durable_.levels; ++level) {
    const std::uint32_t pages = level <= root ? pages_of_level(kept, level) : 0;
    for (std::size_t index = pages; index < stored_[level].size(); ++index) {
      const PagePointer& page = stored_[level][index].child;
      if (!page.is_null()) released_.push_back({Extent{page.page, 1}, page.birth, building_});
    }
  }
  for_each_part(*withheld_, [&](std::uint32_t region, Region::Run run) {
    regions_[region]->reserve(run);
    regions_[region]->kept_blocks += run.count;
    rank(region);
  });
  free_blocks_ -= withheld_->count;
  window_.reset();
  co_return true;
}

void FreeList::release_withheld() noexcept {
  STORE_ASSERT(phase_ == Phase::idle);
  if (!withheld_) return;
  const Extent extent = *withheld_;
  withheld_.reset();
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) { regions_[region]->kept_blocks -= run.count; });
  make_allocatable(extent);
  trim_high_water();
}

}  // namespace store
