#include "fuzz/mend.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "store/base/crc32c.hpp"
#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "store/page/slotted.hpp"

namespace store::fuzz {
namespace {

constexpr std::uint64_t kLongestRunMended = 1u << 20;

void put_crc(PageBytes page) { put(page.data(), crc32c(ConstPageBytes(page).subspan(sizeof(std::uint32_t)))); }

bool slots_are_inside(ConstPageBytes page) {
  const bool is_leaf = page_type(page) == PageType::leaf;
  const detail::SlotBytes least{.fixed = is_leaf ? 0 : sizeof(layout::Pointer),
                                .cell = is_leaf ? detail::kLeafCellBytes : 0};
  return detail::check_slots(page, least).empty();
}

// The suffix of a leaf's slot, cut off where the cell ends. Requires: slots_are_inside().
std::string_view leaf_suffix(const std::byte* page, const std::byte* offsets, std::uint32_t slot) {
  const std::size_t begin = load<std::uint16_t>(offsets + detail::kOffsetBytes * slot);
  const std::size_t end = load<std::uint16_t>(offsets + detail::kOffsetBytes * (slot + 1));
  const std::size_t suffix = load<std::uint16_t>(page + begin) & static_cast<std::uint16_t>(~detail::kCellIsRun);
  return text_at(page + begin + detail::kLeafCellBytes, std::min(suffix, end - begin - detail::kLeafCellBytes));
}

}  // namespace

void mend_heads(PageBytes page) {
  if (!slots_are_inside(page)) return;
  const bool is_leaf = page_type(page) == PageType::leaf;
  const auto count = load<std::uint16_t>(page.data() + offsetof(layout::SlottedHeader, count));
  const auto prefix = load<std::uint16_t>(page.data() + offsetof(layout::SlottedHeader, prefix_bytes));
  std::byte* const heads = page.data() + detail::kSlottedHeaderBytes + prefix;
  for (std::uint32_t slot = 0; slot < count; ++slot) {
    const std::string_view suffix = is_leaf ? leaf_suffix(page.data(), heads + detail::kHeadBytes * count, slot)
                                            : BranchView(page.data()).suffix(slot);
    put(heads + detail::kHeadBytes * slot, detail::head_of(suffix));
  }
}

void Mender::mend_all() {
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      if (meta_block(slot, copy).value >= disk_.size_blocks()) return;
      const auto page = disk_.block(meta_block(slot, copy));
      if (page_type(page.data()) != PageType::meta) continue;  // as create() leaves one slot
      mend_pointer(page.data() + offsetof(layout::MetaPage, tree_root));
      mend_pointer(page.data() + offsetof(layout::MetaPage, allocator_root));
      put_crc(page);
    }
  }
}

bool Mender::is_page(PageNo page) const { return page.value >= kMetaBlocks && page.value < disk_.size_blocks(); }

void Mender::mend_pointer(std::byte* at) {
  PagePointer pointer = load_pointer(at);
  if (!is_page(pointer.page)) return;
  const auto [state, is_new] = pages_.try_emplace(pointer.page.value, State::begun);
  if (is_new) {
    mend_page(pointer.page);
    pages_[pointer.page.value] = State::done;
  } else if (state->second == State::begun) {
    return;  // a page above itself: no CRC fits that
  }
  const auto page = disk_.block(pointer.page);
  pointer.crc = page_crc(page.data());
  if (!leave_.births) pointer.birth = page_generation(page.data());
  const bool is_slotted = page_type(page.data()) == PageType::leaf || page_type(page.data()) == PageType::branch;
  if (!leave_.infos && (!is_slotted || slots_are_inside(page))) pointer.info = page_info(page);
  put_pointer(at, pointer);
}

void Mender::mend_page(PageNo number) {
  const auto page = disk_.block(number);
  switch (page_type(page.data())) {
    case PageType::leaf: mend_leaf(page); break;
    case PageType::branch: mend_branch(page); break;
    case PageType::bitmap_parent: mend_bitmap_parent(page); break;
    default: break;
  }
  put(page.data() + offsetof(layout::PageHeader, page), number.value);
  put_crc(page);
}

void Mender::mend_branch(PageBytes page) {
  if (!slots_are_inside(page)) return;
  if (!leave_.heads) mend_heads(page);
  const BranchView branch(page.data());
  std::byte* const pointers =
      page.data() + detail::kSlottedHeaderBytes + branch.prefix().size() + detail::kHeadBytes * branch.count();
  for (std::uint32_t slot = 0; slot < branch.count(); ++slot) mend_pointer(pointers + sizeof(layout::Pointer) * slot);
}

void Mender::mend_leaf(PageBytes page) {
  if (!slots_are_inside(page)) return;
  if (!leave_.heads) mend_heads(page);
  if (leave_.runs) return;
  const auto count = load<std::uint16_t>(page.data() + offsetof(layout::SlottedHeader, count));
  const auto prefix = load<std::uint16_t>(page.data() + offsetof(layout::SlottedHeader, prefix_bytes));
  const std::byte* const offsets = page.data() + detail::kSlottedHeaderBytes + prefix + detail::kHeadBytes * count;
  for (std::uint32_t slot = 0; slot < count; ++slot) {
    const std::size_t end = load<std::uint16_t>(offsets + detail::kOffsetBytes * (slot + 1));
    std::byte* const cell = page.data() + load<std::uint16_t>(offsets + detail::kOffsetBytes * slot);
    const std::size_t bytes = end - static_cast<std::size_t>(cell - page.data());
    const auto lead = load<std::uint16_t>(cell);
    const bool is_run = (lead & detail::kCellIsRun) != 0;
    const std::size_t key = detail::kLeafCellBytes + (lead & static_cast<std::uint16_t>(~detail::kCellIsRun));
    if (is_run && bytes >= key + sizeof(layout::OverflowReference)) mend_run(cell + key, bytes - key);
  }
}

void Mender::mend_run(std::byte* reference, std::size_t payload_bytes) {
  const OverflowRef ref = load_overflow_ref(reference);
  if (ref.length == 0 || ref.length > kLongestRunMended) return;
  const std::size_t other_bytes = payload_bytes - sizeof(layout::OverflowReference);
  const std::uint64_t blocks = run_blocks(ref.length);
  if (other_bytes > 0 && (blocks > kMaxScatteredBlocks || other_bytes != (blocks - 1) * sizeof(std::uint32_t))) return;
  const std::byte* const others = reference + sizeof(layout::OverflowReference);
  const OverflowRun run = LeafValue(ref, {reinterpret_cast<const char*>(others), other_bytes}).run();
  std::vector<std::byte> bytes;
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) {
    if (extent.first.value < kMetaBlocks || extent.end() > disk_.size_blocks()) return;
    for (std::uint32_t i = 0; i < extent.count; ++i) {
      const auto block = disk_.block(PageNo(extent.first.value + i));
      bytes.insert(bytes.end(), block.begin(), block.end());
    }
  }
  const auto whole = std::span<const std::byte>(bytes);
  const std::uint32_t crc =
      has_crc_table(run.length) ? crc32c(whole.last(table_bytes(run.length))) : crc32c(whole.first(run.length));
  put(reference + offsetof(layout::OverflowReference, crc), crc);
}

void Mender::mend_bitmap_parent(PageBytes page) {
  const BitmapParentView parent(page.data());
  const std::size_t count = std::min<std::size_t>(parent.count(), kBitmapFanout);
  for (std::size_t slot = 0; slot < count; ++slot) {
    std::byte* const entry =
        page.data() + sizeof(layout::BitmapParentHeader) + sizeof(layout::BitmapParentEntry) * slot;
    mend_pointer(entry);
    const PagePointer pointer = load_pointer(entry);
    if (leave_.summaries || !is_page(pointer.page)) continue;
    const auto child = disk_.block(pointer.page);
    FreeSummary free;
    if (page_type(child.data()) == PageType::bitmap) {
      std::array<std::uint64_t, kBitmapWords> words;
      BitmapView(child.data()).copy_to(words);
      free = summarize(words);
    } else if (page_type(child.data()) == PageType::bitmap_parent) {
      const BitmapParentView below(child.data());
      for (std::uint32_t i = 0; i < std::min<std::size_t>(below.count(), kBitmapFanout); ++i) {
        free.free_blocks += below.child(i).free.free_blocks;
        free.longest_run = std::max(free.longest_run, below.child(i).free.longest_run);
      }
    }
    put(entry + offsetof(layout::BitmapParentEntry, free_blocks), free.free_blocks);
    put(entry + offsetof(layout::BitmapParentEntry, longest_run), free.longest_run);
  }
}

}  // namespace store::fuzz
