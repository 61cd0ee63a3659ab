#include "store/freelist/allocator_tree.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <store/error.hpp>
#include <utility>
#include <vector>

#include "store/base/assert.hpp"
#include "store/freelist/aligned_page.hpp"

namespace store {
namespace {

[[noreturn]] void throw_damaged(const BlockDevice& device, const PagePointer& pointer, const std::string& what) {
  throw Error(Errc::corruption,
              fmt::format("{}: allocator page {} is damaged: {}; restore a backup or salvage the store", device.name(),
                          pointer.page.value, what));
}

bool inside(const PagePointer& pointer, AllocatorBounds bounds) noexcept {
  return pointer.page.value >= bounds.first_usable && pointer.page.value < bounds.high_water;
}

// The first free bit of a region outside the bounds, or kRegionBlocks.
std::uint32_t free_bit_outside(const BitmapView& bitmap, AllocatorBounds bounds) noexcept {
  const std::uint64_t base = std::uint64_t{bitmap.region()} * kRegionBlocks;
  const auto index = [base](std::uint64_t block) {
    return block <= base ? 0 : static_cast<std::uint32_t>(std::min<std::uint64_t>(block - base, kRegionBlocks));
  };
  const std::uint32_t first = index(bounds.first_usable);
  for (std::uint32_t i = 0; i < first; ++i) {
    if (bitmap.is_free(i)) return i;
  }
  for (std::uint32_t i = index(bounds.high_water); i < kRegionBlocks; ++i) {
    if (bitmap.is_free(i)) return i;
  }
  return kRegionBlocks;
}

// Empty, or what is wrong with a page that passed verify().
std::string check_place(const std::byte* page, std::uint8_t level, std::uint32_t index, AllocatorBounds bounds) {
  if (page_level(page) != level) return fmt::format("its level is {}, expected {}", page_level(page), level);
  if (level == 0) {
    const BitmapView bitmap(page);
    if (page_type(page) != PageType::bitmap) return "it is no bitmap";
    if (bitmap.region() != index) return fmt::format("it is of region {}, expected {}", bitmap.region(), index);
    const std::uint32_t outside = free_bit_outside(bitmap, bounds);
    if (outside == kRegionBlocks) return {};
    return fmt::format("block {} is free in it, outside of blocks {} to {}",
                       std::uint64_t{index} * kRegionBlocks + outside, bounds.first_usable, bounds.high_water);
  }
  const BitmapParentView parent(page);
  if (page_type(page) != PageType::bitmap_parent) return "it is no parent of bitmaps";
  if (parent.index() != index) return fmt::format("its index is {}, expected {}", parent.index(), index);
  const std::uint32_t below = pages_of_level(regions_below(bounds.high_water), static_cast<std::uint8_t>(level - 1));
  const std::uint64_t first = std::uint64_t{index} * kBitmapFanout;
  const auto expected = first >= below ? 0 : std::min<std::uint64_t>(kBitmapFanout, below - first);
  if (parent.count() != expected) return fmt::format("it has {} children, expected {}", parent.count(), expected);
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) {
    const PagePointer child = parent.child(slot).child;
    if (!inside(child, bounds)) {
      return fmt::format("its child {} is page {}, outside of blocks {} to {}", slot, child.page.value,
                         bounds.first_usable, bounds.high_water);
    }
  }
  return {};
}

}  // namespace

void check_allocator_root(const BlockDevice& device, const AllocatorRoot& root, AllocatorBounds bounds) {
  if (bounds.high_water < bounds.first_usable || bounds.high_water > kMaxBlocks) {
    throw Error(Errc::corruption, fmt::format("{}: the high-water mark is {}, outside of {} to {}", device.name(),
                                              bounds.high_water, bounds.first_usable, kMaxBlocks));
  }
  if (root.root.is_null()) {
    if (bounds.high_water == bounds.first_usable && root.levels == 0) return;
    throw Error(Errc::corruption, fmt::format("{}: there is no allocator root, but the high-water mark is {}",
                                              device.name(), bounds.high_water));
  }
  if (!inside(root.root, bounds)) throw_damaged(device, root.root, "it lies outside of the blocks in use");
  const std::uint8_t expected = root_level(regions_below(bounds.high_water));
  if (root.levels != expected) {
    throw_damaged(device, root.root, fmt::format("the root's level is {}, expected {}", root.levels, expected));
  }
}

monterey::Task<> read_allocator_page(BlockDevice& device, PagePointer pointer, std::uint8_t level, std::uint32_t index,
                                     AllocatorBounds bounds, PageBytes page, monterey::IoClass io_class) {
  if (!inside(pointer, bounds)) throw_damaged(device, pointer, "it lies outside of the blocks in use");
  co_await device.read(pointer.page, page, io_class);
  if (const std::string wrong = verify(page, pointer, PageFamily::allocator); !wrong.empty()) {
    throw_damaged(device, pointer, wrong);
  }
  if (const std::string wrong = check_place(page.data(), level, index, bounds); !wrong.empty()) {
    throw_damaged(device, pointer, wrong);
  }
}

FreeSummary summarize(const BitmapParentView& parent) noexcept {
  FreeSummary sum;
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) {
    const FreeSummary below = parent.child(slot).free;
    sum.free_blocks += below.free_blocks;
    sum.longest_run = std::max(sum.longest_run, below.longest_run);
  }
  return sum;
}

monterey::Task<> walk_allocator(BlockDevice& device, AllocatorRoot root, std::uint64_t first_usable_block,
                                AllocatorVisitor& visitor) {
  const AllocatorBounds bounds{first_usable_block, root.high_water};
  check_allocator_root(device, root, bounds);
  if (root.root.is_null()) co_return;

  struct Step {
    PagePointer pointer;
    std::uint8_t level;
    std::uint32_t index;
    bool root;
    FreeSummary expected;  // what its parent says, of all but the root
  };
  const auto buffer = std::make_unique<AlignedPage>();
  const PageBytes page(buffer->bytes);
  std::vector<Step> stack;  // at most the fan-out for each level
  stack.push_back({root.root, root.levels, 0, true, {}});
  while (!stack.empty()) {
    const Step step = stack.back();
    stack.pop_back();
    std::string damage;
    try {
      co_await read_allocator_page(device, step.pointer, step.level, step.index, bounds, page,
                                   monterey::IoClass::background);
    } catch (const Error& error) {
      damage = error.what();
    }
    if (!damage.empty()) {
      visitor.on_damage(step.pointer, damage);
      continue;
    }
    std::uint64_t words[kBitmapWords];
    FreeSummary found;
    if (step.level == 0) {
      BitmapView(page.data()).copy_to(words);
      found = summarize(ConstBitmapWords(words));
    } else {
      found = summarize(BitmapParentView(page.data()));
    }
    if (!step.root && found != step.expected) {
      visitor.on_damage(
          step.pointer,
          fmt::format("allocator page {} has {} free blocks and a longest run of {}, its parent says {} and {}",
                      step.pointer.page.value, found.free_blocks, found.longest_run, step.expected.free_blocks,
                      step.expected.longest_run));
    }
    visitor.on_page(step.pointer);
    if (step.level == 0) {
      visitor.on_region(step.index, ConstBitmapWords(words));
      continue;
    }
    const BitmapParentView parent(page.data());
    for (std::uint32_t slot = parent.count(); slot-- > 0;) {
      const BitmapParentCell cell = parent.child(slot);
      stack.push_back({cell.child, static_cast<std::uint8_t>(step.level - 1),
                       static_cast<std::uint32_t>(step.index * kBitmapFanout + slot), false, cell.free});
    }
  }
}

}  // namespace store
