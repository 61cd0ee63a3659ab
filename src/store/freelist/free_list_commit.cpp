// The half of FreeList that ends a commit: superseded blocks, the fixed point over the allocator's own pages, their
// writing, and what becomes of it all when the meta page is durable or the commit is given up.
#include <fmt/format.h>

#include <algorithm>
#include <monterey/preempt.hpp>
#include <monterey/when_all.hpp>
#include <new>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/planted.hpp"
#include "store/freelist/aligned_page.hpp"
#include "store/freelist/extent_parts.hpp"
#include "store/freelist/free_list.hpp"

namespace store {
namespace {

constexpr std::size_t kPagesAtOnce = 64;        // written together, 256 KiB
constexpr std::size_t kReleasesPerYield = 256;  // a few microseconds of work

}  // namespace

void FreeList::begin(Generation building) {
  STORE_ASSERT(phase_ == Phase::idle || phase_ == Phase::open);
  STORE_ASSERT(phase_ == Phase::idle || building > building_);
  STORE_ASSERT(phase_ == Phase::open || !withheld_);
  pins_changed();
  phase_ = Phase::open;
  building_ = building;
}

void FreeList::release(Extent extent, Generation birth) {
  STORE_ASSERT(phase_ == Phase::open);
  if (extent.count == 0 || extent.first.value < first_usable_block_ || extent.end() > high_water_ ||
      birth > building_) {
    throw Error(
        Errc::corruption,
        fmt::format("blocks {} to {}, born in generation {}, are superseded in {}, but only blocks {} to {} are in "
                    "use; run check, restore a backup or salvage the store",
                    extent.first.value, extent.end(), birth.value, building_.value, first_usable_block_, high_water_));
  }
  // Neighbours that come and go together are one: a large part of a tree was often written in one piece.
  if (!released_.empty()) {
    Released& last = released_.back();
    if (last.birth == birth && last.death == building_ && last.extent.end() == extent.first.value) {
      last.extent.count += extent.count;
      return;
    }
  }
  released_.push_back({extent, birth, building_});
}

// Sets the bits of what was released since the last call, as soon as their regions are loaded.
monterey::Task<> FreeList::apply_releases() {
  std::vector<std::uint32_t> missing;
  std::vector<bool> is_missing(region_count());
  for (std::size_t i = applied_; i < released_.size(); ++i) {
    for_each_part(released_[i].extent, [&](std::uint32_t region, Region::Run) {
      if (is_loaded(region) || is_missing[region]) return;
      missing.push_back(region);
      is_missing[region] = true;
    });
    if ((i + 1) % kReleasesPerYield == 0) co_await monterey::maybe_yield();
  }
  std::ranges::sort(missing);
  co_await load_regions(std::move(missing));
  while (applied_ < released_.size()) {
    const std::size_t end = std::min(applied_ + kReleasesPerYield, released_.size());
    for (; applied_ < end; ++applied_) apply_release(released_[applied_]);
    co_await monterey::maybe_yield();
  }
}

void FreeList::apply_release(const Released& released) {
  for_each_part(released.extent, [&](std::uint32_t region, Region::Run run) {
    if (!regions_[region]->any_free(run)) return;
    throw Error(
        Errc::corruption,
        fmt::format("some of the blocks {} to {} is superseded in generation {}, but free already: two pointers lead "
                    "to it; run check, restore a backup or salvage the store",
                    released.extent.first.value, released.extent.end(), released.death.value));
  });
  for_each_part(released.extent, [&](std::uint32_t region, Region::Run) { touch(region); });
  for_each_part(released.extent, [&](std::uint32_t region, Region::Run run) { regions_[region]->release(run); });
}

const BitmapParentCell* FreeList::stored(PageKey key) const noexcept {
  const auto& cells = stored_[key.first];
  if (key.second >= cells.size() || cells[key.second].child.is_null()) return nullptr;
  return &cells[key.second];
}

// The allocator pages that the state in memory makes dirty, children before parents: regions with changed bits, those
// that the high-water mark rose over, all that have no page yet, and whatever is above one of these.
std::vector<FreeList::PageKey> FreeList::dirty_pages() const {
  std::vector<std::uint32_t> dirty = touched_;
  const std::uint32_t regions = regions_below(mark_to_seal());
  if (mark_to_seal() > durable_.high_water) {
    const auto first = static_cast<std::uint32_t>(durable_.high_water / kRegionBlocks);
    for (std::uint32_t region = first; region < regions; ++region) dirty.push_back(region);
  }
  std::vector<PageKey> keys;
  const std::uint8_t root = root_level(regions);
  for (std::uint8_t level = 0;; ++level) {
    std::ranges::sort(dirty);
    const auto repeated = std::ranges::unique(dirty);
    dirty.erase(repeated.begin(), repeated.end());
    for (const std::uint32_t index : dirty) keys.emplace_back(level, index);
    if (level == root) return keys;
    for (std::uint32_t& index : dirty) index /= static_cast<std::uint32_t>(kBitmapFanout);
    const std::uint32_t pages = pages_of_level(regions, static_cast<std::uint8_t>(level + 1));
    const auto& above = stored_[level + 1u];
    if (above.empty()) dirty.push_back(0);  // a new level; what else it has is above new regions
    STORE_ASSERT(dirty.empty() || dirty.back() < pages || above.empty());
  }
}

// A block for a page of the allocator from a region that is dirty already: the region's own, if it has one. It comes from
// the fullest window, so that the emptier ones stay whole for the merge.
std::optional<PageNo> FreeList::take_own_page(PageKey key) {
  if (ceiling_) return std::nullopt;  // the lowest there is, then
  while (own_region_ < touched_.size() && regions_[touched_[own_region_]]->allocatable() == 0) ++own_region_;
  std::uint32_t from = 0;
  if (key.first == 0 && regions_[key.second]->allocatable() > 0) {
    from = key.second;
  } else if (own_region_ < touched_.size()) {
    from = touched_[own_region_];
  } else {
    return std::nullopt;
  }
  const Region& region = *regions_[from];
  const std::uint32_t first = region.fullest_window() * kWindowBlocks;
  const auto run = region.next_run(first, first + kWindowBlocks, 1);
  STORE_ASSERT(run.has_value());
  const Extent extent{PageNo(from * kRegionBlocks + run->first), 1};
  take(extent, Purpose::allocation);
  return extent.first;
}

// Gives a dirty page its new block.
monterey::Task<> FreeList::place(PageKey key) {
  std::optional<PageNo> page = take_own_page(key);
  if (!page) {
    const Extent extent = co_await take_pages(1);
    page = extent.first;
  }
  placed_[key].page = *page;
}

// Notes what is dirty and was not known to be, and supersedes its old pages. Returns whether there was anything.
bool FreeList::supersede_dirty() {
  bool found = false;
  for (const PageKey& key : dirty_pages()) {
    if (!placed_.try_emplace(key).second) continue;
    found = true;
    if (const BitmapParentCell* old = stored(key)) {
      released_.push_back({Extent{old->child.page, 1}, old->child.birth, building_});
    }
  }
  return found;
}

monterey::Task<AllocatorRoot> FreeList::seal() {
  STORE_ASSERT(phase_ == Phase::open);
  phase_ = Phase::sealing;
  if (!parents_loaded_) co_await load_parents();
  co_await settle();  // what is left of the commit before
  co_await apply_releases();
  // A page superseded may dirty a region, and then its page; so may one placed where nothing dirty has a block left. Both
  // only add to what is dirty, so this ends. The last round finds nothing to do and does not suspend: what it saw is what
  // is serialised.
  for (;;) {
    if (supersede_dirty()) {
      co_await apply_releases();
      continue;
    }
    bool complete = true;
    for (const auto& [key, placed] : placed_) {
      if (placed.page != PageNo()) continue;
      complete = false;
      co_await place(key);
    }
    if (complete) break;
  }
  phase_ = Phase::sealed;
  if (placed_.empty()) {
    sealed_ = durable_;
    co_return sealed_;
  }
  sealed_.high_water = mark_to_seal();
  sealed_.levels = root_level(regions_below(sealed_.high_water));
  // committed() must not fail for want of memory.
  for (std::uint8_t level = 0; level <= sealed_.levels; ++level) {
    stored_[level].reserve(pages_of_level(region_count(), level));
  }
  co_await write_placed();
  const auto root = placed_.find(PageKey(sealed_.levels, 0));
  STORE_ASSERT(root != placed_.end());
  sealed_.root = root->second.cell.child;
  co_return sealed_;
}

monterey::Task<> FreeList::write_placed() {
  const auto pages = std::make_unique_for_overwrite<AlignedPage[]>(std::min(kPagesAtOnce, placed_.size()));
  // Placements are ordered by level, so that a parent finds its children's checksums. The map does not change here.
  for (auto at = placed_.begin(); at != placed_.end();) {
    std::vector<monterey::Task<>> writes;
    PageNo first;           // of the write being gathered
    std::size_t begin = 0;  // its first page in memory
    std::size_t end = 0;
    const auto issue = [&] {
      if (begin == end) return;
      const std::span<const std::byte> bytes(pages[begin].bytes, (end - begin) * kPageBytes);
      writes.push_back(device_.write(first, bytes, monterey::IoClass::background));
      begin = end;
    };
    for (; at != placed_.end() && end < kPagesAtOnce; ++at) {
      const PageNo page = at->second.page;
      if (begin != end && page.value != first.value + (end - begin)) issue();
      if (begin == end) first = page;
      encode_placed(at->first, at->second, PageBytes(pages[end].bytes));
      ++end;
      co_await monterey::maybe_yield();
    }
    issue();
    co_await monterey::when_all(std::move(writes));
  }
}

void FreeList::encode_placed(PageKey key, Placement& placed, PageBytes page) const {
  const auto [level, index] = key;
  if (level == 0) {
    std::array<std::uint64_t, kBitmapWords> words;
    std::ranges::copy(regions_[index]->free_words(), words.begin());
    // The mark may have risen since for a reservation; what is beyond the sealed one has no bits.
    const std::uint64_t base = std::uint64_t{index} * kRegionBlocks;
    const auto blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(sealed_.high_water - base, kRegionBlocks));
    if (blocks < kRegionBlocks) {
      words[blocks / 64] &= (std::uint64_t{1} << (blocks % 64)) - 1;
      std::fill(words.begin() + blocks / 64 + 1, words.end(), 0);
    }
    if (planted(Planted::allocator_page_after_serialisation) && placed.page.value / kRegionBlocks == index) {
      words[placed.page.value % kRegionBlocks / 64] |= std::uint64_t{1} << (placed.page.value % 64);
    }
    placed.cell.free = summarize(words);
    encode_bitmap(index, words, page);
  } else {
    const auto below = static_cast<std::uint8_t>(level - 1);
    const auto first = static_cast<std::uint32_t>(index * kBitmapFanout);
    const std::uint32_t children = pages_of_level(regions_below(sealed_.high_water), below);
    const auto end = std::min<std::uint32_t>(first + kBitmapFanout, children);
    std::vector<BitmapParentCell> cells(stored_[below].begin() + std::min<std::size_t>(first, stored_[below].size()),
                                        stored_[below].begin() + std::min<std::size_t>(end, stored_[below].size()));
    cells.resize(end - first);
    for (auto child = placed_.lower_bound(PageKey(below, first)); child != placed_.end(); ++child) {
      if (child->first.first != below || child->first.second >= end) break;
      cells[child->first.second - first] = child->second.cell;
    }
    placed.cell.free = {};
    for (const BitmapParentCell& cell : cells) {
      STORE_ASSERT(!cell.child.is_null());
      placed.cell.free.free_blocks += cell.free.free_blocks;
      placed.cell.free.longest_run = std::max(placed.cell.free.longest_run, cell.free.longest_run);
    }
    encode_bitmap_parent(level, index, cells, page);
  }
  placed.cell.child = seal_page(page, placed.page, building_);
}

void FreeList::committed() noexcept {
  STORE_ASSERT(phase_ == Phase::sealed);
  for (std::uint8_t level = 0; level <= kMaxBitmapLevel; ++level) {
    // Regions above the sealed mark, there for reservations alone, keep their null cells.
    const std::uint32_t sealed_pages =
        level <= sealed_.levels ? pages_of_level(regions_below(sealed_.high_water), level) : 0;
    stored_[level].resize(level == 0 ? region_count() : sealed_pages);
    if (level == 0) std::fill(stored_[0].begin() + sealed_pages, stored_[0].end(), BitmapParentCell{});
  }
  for (const auto& [key, placed] : placed_) stored_[key.first][key.second] = placed.cell;
  durable_ = sealed_;

  for (const std::uint32_t region : touched_) regions_[region]->keep_fresh();
  STORE_ASSERT(settling_.empty());
  settling_.swap(released_);
  end_commit();
  settle_at_once();
  if (settling_.empty()) evict_clean_regions();
}

void FreeList::aborted() noexcept {
  STORE_ASSERT(phase_ != Phase::idle);
  for (std::size_t i = applied_; i-- > 0;) {
    for_each_part(released_[i].extent,
                  [&](std::uint32_t region, Region::Run run) { regions_[region]->unrelease(run); });
  }
  for (const auto& [first, count] : adopted_) {
    for_each_part(first, first + count, [&](std::uint32_t region, Region::Run run) {
      regions_[region]->unadopt(run);
      regions_[region]->kept_blocks += run.count;
    });
    reserved_blocks_ += count;
  }
  reservations_.merge(adopted_);
  STORE_ASSERT(adopted_.empty());
  for (const std::uint32_t region : touched_) free_blocks_ += regions_[region]->drop_fresh();
  end_commit();
  release_withheld();
  trim_high_water();
}

void FreeList::end_commit() noexcept {
  for (const std::uint32_t region : touched_) {
    regions_[region]->touched = false;
    regions_[region]->measure();
    rank(region);
  }
  touched_.clear();
  own_region_ = 0;
  released_.clear();
  applied_ = 0;
  adopted_.clear();
  placed_.clear();
  sealed_ = {};
  window_.reset();
  phase_ = Phase::idle;
}

}  // namespace store
