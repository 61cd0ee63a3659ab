// The half of FreeList that finds room: windows for pages, gaps for runs, and the way past the high-water mark. Every
// search reads only summaries until it has a region; when that is not loaded, or the device must grow, it starts anew
// afterwards, for anything may have been taken meanwhile.
#include <fmt/format.h>

#include <algorithm>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/freelist/extent_parts.hpp"
#include "store/freelist/free_list.hpp"

namespace store {
namespace {

constexpr std::uint64_t kCrumbsShare = 64;  // of the blocks in use, one in so many may be left free in crumbs

}  // namespace

std::uint64_t FreeList::capacity() const { return std::min(device_.capacity_blocks(), kMaxBlocks); }

std::uint64_t FreeList::allocatable_blocks() const {
  const std::uint64_t limit = capacity();
  return free_blocks_ + (limit > high_water_ ? limit - high_water_ : 0);
}

void FreeList::throw_no_space(std::uint64_t wanted) const {
  throw Error(
      Errc::no_space,
      fmt::format("{} is full: no {} free blocks in a row ({} of {} blocks were ever used, {} of these are free); "
                  "erase something, drop snapshots or give it more space",
                  device_.name(), wanted, high_water_, capacity(), free_blocks_));
}

std::optional<std::uint32_t> FreeList::emptiest_region() const noexcept {
  const std::uint8_t best = by_window_.best_class();
  if (best == 0) return std::nullopt;
  if (window_ && window_->region < region_count() && by_window_.rank(window_->region) == best) return window_->region;
  return by_window_.next(best, 0);
}

std::optional<Extent> FreeList::take_from_window(std::uint32_t wanted) {
  if (!window_ || window_->region >= region_count() || !is_loaded(window_->region)) return std::nullopt;
  const auto run = regions_[window_->region]->next_run(window_->next, window_->end, wanted);
  if (!run) return std::nullopt;
  const Extent extent{PageNo(window_->region * kRegionBlocks + run->first), run->count};
  take(extent, Purpose::allocation);
  window_->next = run->first + run->count;
  return extent;
}

monterey::Task<Extent> FreeList::allocate_pages(std::uint32_t wanted) {
  STORE_ASSERT(phase_ == Phase::open);
  STORE_ASSERT(wanted > 0);
  return take_pages(wanted);
}

monterey::Task<Extent> FreeList::take_pages(std::uint32_t wanted) {
  if (!parents_loaded_) co_await load_parents();
  bool may_grow = !withheld_;  // what lies past the mark in memory is past the one that is sealed
  for (;;) {
    if (const auto extent = take_from_window(wanted)) co_return *extent;
    if (ceiling_) {
      const bool found = co_await open_lowest_window();
      if (found) continue;
    }
    const std::uint64_t first = high_water_;
    const std::uint64_t limit = capacity();
    if (first >= limit) may_grow = false;
    const auto region = emptiest_region();
    if (region && !(may_grow && only_crumbs_left(*region))) {
      if (!is_loaded(*region)) {
        co_await load_region(*region, monterey::IoClass::foreground);
        continue;
      }
      const std::uint32_t window = regions_[*region]->emptiest_window() * kWindowBlocks;
      window_ = Window{*region, window, window + kWindowBlocks};
      continue;
    }
    if (!is_settled()) {
      co_await settle();
      continue;
    }
    if (!may_grow) throw_no_space(wanted);
    // Past the mark: what the device has there already, else let it grow.
    const std::uint64_t in_region = kRegionBlocks - first % kRegionBlocks;
    std::uint64_t count = std::min({std::uint64_t{wanted}, limit - first, in_region});
    if (in_region < kRegionBlocks && !is_loaded(region_count() - 1)) {
      co_await load_region(region_count() - 1, monterey::IoClass::foreground);
      continue;
    }
    if (device_.size_blocks() <= first) {
      try {
        co_await device_.grow(first + count);
      } catch (const Error& error) {
        if (error.errc() != Errc::no_space || free_blocks_ == 0) throw;
        may_grow = false;
      }
      continue;
    }
    count = std::min(count, device_.size_blocks() - first);
    raise_high_water(first + count);
    const Extent extent{PageNo(static_cast<std::uint32_t>(first)), static_cast<std::uint32_t>(count)};
    take(extent, Purpose::allocation);
    co_return extent;
  }
}

// Whether the emptiest windows have a few blocks at most, and all together little: then pages rather go past the mark,
// where they lie together, and what is left serves the allocator's own pages and short runs.
bool FreeList::only_crumbs_left(std::uint32_t emptiest) const noexcept {
  return by_window_.rank(emptiest) <= 1 && free_blocks_ <= high_water_ / kCrumbsShare;
}

monterey::Task<Extent> FreeList::allocate_run(std::uint32_t blocks) {
  STORE_ASSERT(phase_ == Phase::open);
  STORE_ASSERT(blocks > 0);
  return take_run(blocks, Purpose::allocation);
}

monterey::Task<Extent> FreeList::reserve_run(std::uint32_t blocks) {
  STORE_ASSERT(blocks > 0);
  return take_run(blocks, Purpose::reservation);
}

monterey::Task<Extent> FreeList::take_run(std::uint32_t blocks, Purpose purpose) {
  if (!parents_loaded_) co_await load_parents();
  if (ceiling_) {
    const std::optional<Extent> low = co_await take_run_below(blocks, *ceiling_, purpose);
    if (low) co_return *low;
  }
  for (;;) {
    const auto region = fitting_region(blocks);
    std::optional<Region::Run> run;
    if (region) {
      if (!is_loaded(*region)) {
        co_await load_region(*region, monterey::IoClass::foreground);
        continue;
      }
      run = regions_[*region]->best_fit(blocks);
      by_run_.set(*region, run_class(longest_in(*region)));
      if (!run) continue;  // its longest run was only a bound, and is exact now
    }
    if (blocks >= kWindowBlocks) {
      // Reading regions only to see whether they have a gap between them is worth it when there is no other.
      Gap gap = find_spanning(blocks, run ? Bounds::skip : Bounds::load);
      if (gap.blocks > 0 && (!run || gap.blocks < run->count)) {
        const Extent extent{PageNo(static_cast<std::uint32_t>(gap.first)), blocks};
        gap.to_load = first_unloaded(extent);
        if (!gap.to_load) {
          take(extent, purpose);
          co_return extent;
        }
      }
      if (gap.to_load) {
        co_await load_region(*gap.to_load, monterey::IoClass::foreground);
        continue;
      }
    }
    if (run) {
      const Extent extent{PageNo(*region * kRegionBlocks + run->first), blocks};
      take(extent, purpose);
      co_return extent;
    }
    if (!is_settled()) {
      co_await settle();
      continue;
    }
    if (high_water_ % kRegionBlocks != 0 && !is_loaded(region_count() - 1)) {
      co_await load_region(region_count() - 1, monterey::IoClass::foreground);
      continue;
    }
    const std::uint64_t first = high_water_ - tail_gap();
    if (first + blocks > capacity()) throw_no_space(blocks);
    if (device_.size_blocks() < first + blocks) {
      co_await device_.grow(first + blocks);
      continue;
    }
    raise_high_water(first + blocks);
    const Extent extent{PageNo(static_cast<std::uint32_t>(first)), blocks};
    take(extent, purpose);
    co_return extent;
  }
}

monterey::Task<> FreeList::reserve(Extent extent) {
  const auto refuse = [&](const char* what) {
    throw Error(Errc::corruption,
                fmt::format("{}: the log names a value in blocks {} to {}, which are {}; restore from a "
                            "backup or salvage the store",
                            device_.name(), extent.first.value, extent.end() - 1, what));
  };
  if (extent.count == 0 || extent.first.value < first_usable_block_ || extent.end() > device_.size_blocks()) {
    refuse("not on the device");
  }
  if (!parents_loaded_) co_await load_parents();
  if (extent.end() > high_water_) {
    if (high_water_ % kRegionBlocks != 0 && !is_loaded(region_count() - 1)) {
      co_await load_region(region_count() - 1, monterey::IoClass::foreground);
    }
    raise_high_water(extent.end());
  }
  while (const auto region = first_unloaded(extent)) co_await load_region(*region, monterey::IoClass::foreground);
  bool free = true;
  for_each_part(extent, [&](std::uint32_t region, Region::Run run) {
    const auto found = regions_[region]->next_run(run.first, run.first + run.count, run.count);
    free = free && found && found->first == run.first && found->count == run.count;
  });
  if (!free) refuse("in use");
  take(extent, Purpose::reservation);
}

// The first region of the lowest class of longest runs in which one fits.
std::optional<std::uint32_t> FreeList::fitting_region(std::uint32_t blocks) const noexcept {
  if (blocks > kRegionBlocks) return std::nullopt;
  const std::uint8_t own = run_class(blocks);
  for (auto region = by_run_.next(own, 0); region; region = by_run_.next(own, *region + 1)) {
    if (longest_in(*region) >= blocks) return region;
  }
  for (auto above = static_cast<std::uint8_t>(own + 1); above < RegionRanking::kClasses; ++above) {
    if (const auto region = by_run_.next(above, 0)) return region;
  }
  return std::nullopt;
}

// The shortest gap of at least `blocks` that reaches from one region into the next or over several. Of a region that is not
// loaded, only an upper bound is known of what is free at its ends: when that would do, it is to be loaded first, or skipped.
FreeList::Gap FreeList::find_spanning(std::uint64_t blocks, Bounds bounds_only) const noexcept {
  Gap best;
  std::uint64_t first = 0;
  std::uint64_t length = 0;            // free up to the end of the region before, from `first` on
  std::optional<std::uint32_t> bound;  // the region whose end `length` begins with, if that is a bound only
  const auto consider = [&](std::uint64_t found) {
    if (found >= blocks && (best.blocks == 0 || found < best.blocks)) best = {first, found, std::nullopt};
  };
  for (std::uint32_t region = 0; region < region_count(); ++region) {
    const std::uint64_t base = std::uint64_t{region} * kRegionBlocks;
    const std::uint32_t all = region_blocks(region);
    if (allocatable_in(region) == all) {
      if (length == 0) first = base;
      length += all;
      continue;
    }
    const bool loaded = is_loaded(region);
    const bool known = loaded || bounds_only == Bounds::skip;
    const std::uint32_t leading = loaded ? regions_[region]->leading() : known ? 0 : longest_in(region);
    if (length > 0 && length + leading >= blocks) {
      if (bound) return {0, 0, bound};
      if (!known && length < blocks) return {0, 0, region};
      consider(length + leading);
    }
    length = loaded ? regions_[region]->trailing(all) : known ? 0 : longest_in(region);
    first = base + all - length;
    bound = known ? std::nullopt : std::optional(region);
  }
  if (length >= blocks) {
    if (bound) return {0, 0, bound};
    consider(length);
  }
  return best;
}

// Allocatable blocks right below the high-water mark, as far as the regions are loaded.
std::uint64_t FreeList::tail_gap() const noexcept {
  std::uint64_t gap = 0;
  for (std::uint32_t region = region_count(); region-- > 0 && is_loaded(region);) {
    const std::uint32_t trailing = regions_[region]->trailing(region_blocks(region));
    gap += trailing;
    if (trailing < region_blocks(region)) break;
  }
  return gap;
}

}  // namespace store
