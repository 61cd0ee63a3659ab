#include "fuzz/base_images.hpp"

#include <algorithm>
#include <memory>
#include <store/partition.hpp>
#include <string>

#include "fuzz/core.hpp"
#include "fuzz/exercise.hpp"
#include "fuzz/targets.hpp"
#include "store/base/units.hpp"
#include "store/freelist/free_list.hpp"
#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "store/partition/meta_io.hpp"

namespace store::fuzz {
namespace {

using Disk = std::shared_ptr<test::MemDisk>;

// --- which pages a state reaches ---

void add_run(const OverflowRun& run, std::vector<PageNo>& pages) {
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) {
    pages.push_back(extent.first);
    if (extent.count > 1) pages.push_back(PageNo(extent.first.value + extent.count - 1));
  }
}

void add_pages(test::MemDisk& disk, const PagePointer& pointer, std::vector<PageNo>& pages) {
  if (pointer.is_null()) return;
  pages.push_back(pointer.page);
  const std::byte* const page = disk.block(pointer.page).data();
  if (page_type(page) == PageType::branch) {
    const BranchView branch(page);
    for (std::uint32_t slot = 0; slot < branch.count(); ++slot) add_pages(disk, branch.child(slot), pages);
  }
  if (page_type(page) == PageType::bitmap_parent) {
    const BitmapParentView parent(page);
    for (std::uint32_t slot = 0; slot < parent.count(); ++slot) add_pages(disk, parent.child(slot).child, pages);
  }
  if (page_type(page) != PageType::leaf) return;
  const LeafView leaf(page);
  for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
    if (leaf.is_run(slot)) add_run(leaf.value(slot).run(), pages);
  }
}

Meta newest_meta(test::MemDisk& disk) {
  Meta newest;
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    const DecodedMeta decoded = decode_meta(disk.block(meta_block(slot, 0)), slot);
    if (decoded.state == MetaState::good && decoded.meta.generation >= newest.generation) newest = decoded.meta;
  }
  return newest;
}

std::vector<PageNo> pages_of(test::MemDisk& disk) {
  std::vector<PageNo> pages;
  for (std::uint32_t block = 0; block < kMetaBlocks; ++block) pages.emplace_back(block);
  const Meta meta = newest_meta(disk);
  add_pages(disk, meta.allocator_root, pages);
  add_pages(disk, meta.tree_root, pages);
  return pages;
}

// --- the stores ---

using Fill = monterey::Task<> (*)(Partition& db);

monterey::Task<> make(Disk disk, Fill fill) {
  Partition db = co_await Partition::create(std::make_unique<test::MemBlockDevice>(disk), small_config());
  co_await fill(db);
  co_await db.close();
}

monterey::Task<> fill_nothing(Partition&) { co_return; }

monterey::Task<> fill_one_leaf(Partition& db) {
  for (const char* key : {"a", "key000003", "key000004", "m", "z"}) co_await db.put(key, "value");
}

// Within a group keys differ at their ends, so that a branch holds few of their separators.
monterey::Task<> fill_three_levels(Partition& db) {
  const std::string value(600, 'v');
  for (char group = 'a'; group < 'm'; ++group) {
    for (char digit = '0'; digit <= '9'; ++digit) {
      const std::string key = group + std::string(900, '-') + digit;
      co_await db.put(key, value);
    }
  }
  co_await db.flush();
  require(db.stats().height >= 3, "the image has fewer than three levels");
}

monterey::Task<> fill_runs(Partition& db) {
  for (int i = 0; i < 8; ++i) {
    const std::string key = "r" + std::to_string(i);
    const std::string value(i == 5 ? kMaxBufferedValueBytes + 9000 : static_cast<std::size_t>(700 + 900 * i), 'r');
    co_await db.put(key, value);
  }
}

// Holes in the bitmap, births of all ages, a small second state.
monterey::Task<> fill_many_generations(Partition& db) {
  for (int i = 0; i < 40; ++i) {
    for (int j = 0; j < 6; ++j) {
      const std::string key = "g" + std::to_string((i * 7 + j * 11) % 60);
      const std::string value(static_cast<std::size_t>(100 + 37 * j), 'g');
      co_await db.put(key, value);
    }
    const std::string gone = "g" + std::to_string(i);
    if (i % 5 == 4) co_await db.erase(gone);
    co_await db.flush();
  }
}

// No tree, but an allocator of three levels over 20 GiB that nothing was ever written to.
monterey::Task<> make_tall_allocator(Disk disk) {
  test::MemBlockDevice device(disk);
  GenerationPins pins;
  FreeList list(device, pins, kMetaBlocks);
  list.create_empty();
  list.begin(Generation(1));
  const Extent extent = co_await list.allocate_run(static_cast<std::uint32_t>(kBitmapFanout * kRegionBlocks));
  list.give_back({PageNo(extent.first.value + 1000), 2000});
  const AllocatorRoot root = co_await list.seal();
  Meta meta;
  meta.generation = Generation(1);
  meta.incarnation = 1;
  meta.allocator_root = root.root;
  meta.allocator_levels = root.levels;
  meta.high_water = root.high_water;
  co_await write_meta_slot(device, meta, 0);
  list.committed();
}

BaseImage finished(const char* name, Disk disk) {
  disk->set_capacity_blocks(disk->size_blocks() + 64);
  std::vector<PageNo> pages = pages_of(*disk);
  return {name, std::move(disk), std::move(pages)};
}

BaseImage made(const char* name, Fill fill) {
  auto disk = std::make_shared<test::MemDisk>();
  run_on_core(make(disk, fill));
  return finished(name, disk);
}

std::vector<BaseImage> make_images() {
  std::vector<BaseImage> images;
  images.push_back(made("empty", fill_nothing));
  images.push_back(made("one leaf", fill_one_leaf));
  images.push_back(made("three levels", fill_three_levels));
  images.push_back(made("runs", fill_runs));
  images.push_back(made("many generations", fill_many_generations));
  const auto tall = std::make_shared<test::MemDisk>(test::MemDisk::Options{.capacity_blocks = std::uint64_t{1} << 23});
  run_on_core(make_tall_allocator(tall));
  images.push_back(finished("tall allocator", tall));
  return images;
}

}  // namespace

std::span<const BaseImage> base_images() {
  static const std::vector<BaseImage> images = make_images();
  return images;
}

}  // namespace store::fuzz
