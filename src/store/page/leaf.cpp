#include "store/page/leaf.hpp"

#include <fmt/format.h>

#include "store/base/assert.hpp"
#include "store/page/slotted.hpp"
#include "store/page/structure.hpp"

namespace store {
namespace {

constexpr std::size_t kBlockBytes = sizeof(std::uint32_t);  // of one of a scattered run's blocks in its cell

std::string check_run(std::string_view payload, Generation generation) {
  constexpr std::size_t kReferenceBytes = sizeof(layout::OverflowReference);
  if (payload.size() < kReferenceBytes) return fmt::format("a reference to a run of {} bytes", payload.size());
  const LeafValue value(load_overflow_ref(reinterpret_cast<const std::byte*>(payload.data())),
                        payload.substr(kReferenceBytes));
  const OverflowRef& run = value.reference();
  if (run.length == 0 || run.length > kMaxValueBytes) return fmt::format("a run of {} bytes", run.length);
  if (!value.others().empty()) {
    const std::uint64_t blocks = run_blocks(run.length);
    if (blocks > kMaxScatteredBlocks || value.others().size() != (blocks - 1) * kBlockBytes) {
      return fmt::format("a scattered run of {} bytes that names {} bytes of blocks", run.length,
                         value.others().size());
    }
  }
  const OverflowRun whole = value.run();
  RunExtents extents(whole);
  for (Extent extent; extents.next(extent);) {
    if (extent.first.value == 0) return "a run in block 0";
    if (extent.end() > kMaxBlocks) return fmt::format("a run past the last block, from {}", extent.first.value);
  }
  if (run.birth > generation) {
    return fmt::format("a run of generation {} in a page of {}", run.birth.value, generation.value);
  }
  return {};
}

}  // namespace

namespace detail {

std::string check_leaf(ConstPageBytes page) {
  if (page_level(page) != 0) return fmt::format("a leaf of level {}", page_level(page));
  if (std::string wrong = check_slots(page, {.fixed = 0, .cell = kLeafCellBytes}); !wrong.empty()) return wrong;
  const LeafView leaf(page.data());
  const std::byte* heads = page.data() + kSlottedHeaderBytes + leaf.prefix().size();
  const std::byte* offsets = heads + kHeadBytes * leaf.count();
  const Generation generation = page_generation(page.data());
  std::string_view previous;
  std::uint32_t previous_head = 0;
  for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
    const std::size_t begin = load<std::uint16_t>(offsets + kOffsetBytes * slot);
    const std::size_t bytes = load<std::uint16_t>(offsets + kOffsetBytes * (slot + 1)) - begin;
    const std::uint16_t lead = load<std::uint16_t>(page.data() + begin);
    const bool is_run = (lead & kCellIsRun) != 0;
    const std::size_t suffix_bytes = lead & static_cast<std::uint16_t>(~kCellIsRun);
    const std::size_t key_bytes = leaf.prefix().size() + suffix_bytes;
    if (kLeafCellBytes + suffix_bytes > bytes) {
      return fmt::format("slot {} has a suffix of {} bytes in a cell of {}", slot, suffix_bytes, bytes);
    }
    if (key_bytes == 0 || key_bytes > kMaxKeyBytes)
      return fmt::format("slot {} has a key of {} bytes", slot, key_bytes);
    const std::size_t value = bytes - kLeafCellBytes - suffix_bytes;
    if (!is_run && value > kMaxInlineValueBytes) return fmt::format("slot {} has {} bytes of value", slot, value);

    // The cell is in bounds: the view may read it now.
    const std::string_view suffix = leaf.suffix(slot);
    const std::uint32_t head = load<std::uint32_t>(heads + kHeadBytes * slot);
    if (head != head_of(suffix)) return fmt::format("slot {} has a wrong head", slot);
    // Ascending heads prove ascending keys; equal ones leave it to the keys.
    if (slot > 0 && (head < previous_head || (head == previous_head && previous >= suffix))) {
      return fmt::format("the key of slot {} is not above the one before", slot);
    }
    if (is_run) {
      const std::string_view payload = text_at(page.data() + begin + kLeafCellBytes + suffix_bytes, value);
      if (std::string wrong = check_run(payload, generation); !wrong.empty()) {
        return fmt::format("slot {} has {}", slot, wrong);
      }
    }
    previous = suffix;
    previous_head = head;
  }
  return {};
}

}  // namespace detail

OverflowRun LeafValue::run() const noexcept {
  OverflowRun run(run_);
  run.other_count = static_cast<std::uint32_t>(others().size() / kBlockBytes);
  STORE_ASSERT(run.other_count <= run.others.size());
  const auto* at = reinterpret_cast<const std::byte*>(others().data());
  for (std::uint32_t i = 0; i < run.other_count; ++i) run.others[i] = load<std::uint32_t>(at + kBlockBytes * i);
  return run;
}

RunOthers::RunOthers(const OverflowRun& run) noexcept : size_(kBlockBytes * run.other_count) {
  STORE_ASSERT(size_ <= bytes_.size());
  auto* at = reinterpret_cast<std::byte*>(bytes_.data());
  for (std::uint32_t i = 0; i < run.other_count; ++i) put(at + kBlockBytes * i, run.others[i]);
}

void put_leaf_value(std::byte* at, const LeafValue& value) noexcept {
  if (value.is_run()) [[unlikely]] {
    put_overflow_ref(at, value.reference());
    detail::put_text(at + sizeof(layout::OverflowReference), value.others());
  } else {
    detail::put_text(at, value.bytes());
  }
}

bool LeafView::has_overflow() const noexcept {
  for (std::uint32_t slot = 0; slot < count_; ++slot) {
    if (is_run(slot)) return true;
  }
  return false;
}

namespace {

struct Cells {
  std::span<const LeafCell> cells;

  std::size_t size() const noexcept { return cells.size(); }
  std::string_view key(std::size_t i) const noexcept { return cells[i].key; }
  std::size_t payload_bytes(std::size_t i) const noexcept { return value_bytes(cells[i].value); }
  bool is_run(std::size_t i) const noexcept { return cells[i].value.is_run(); }
  // Writes the key from byte `from` on, and the payload behind it.
  void put(std::size_t i, std::size_t from, std::byte* at) const noexcept {
    put_leaf_value(detail::put_text(at, cells[i].key.substr(from)), cells[i].value);
  }
};

struct PackedLeafCells : PackedCells {
  std::size_t payload_bytes(std::size_t i) const noexcept { return cells[i].payload_bytes(); }
  bool is_run(std::size_t i) const noexcept { return cells[i].is_run(); }
  void put(std::size_t i, std::size_t from, std::byte* at) const noexcept {
    std::memcpy(at, bytes + cells[i].at + from, cells[i].key_bytes - from + payload_bytes(i));
  }
};

template <class From>
std::size_t encode(const From& cells, PageBytes page) noexcept {
  static_assert(detail::kCellIsRun == PackedCell::kIsRun);
  std::string_view prefix;
  if (cells.size() > 0) {
    prefix = cells.key(0).substr(0, common_prefix_bytes(cells.key(0), cells.key(cells.size() - 1)));
  }
  detail::SlottedWriter writer(page, {PageType::leaf, 0, cells.size(), 0, prefix});
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string_view key = cells.key(i);
    STORE_ASSERT(!key.empty() && key.size() <= kMaxKeyBytes);
    STORE_ASSERT(cells.payload_bytes(i) <= kMaxInlineValueBytes);
    STORE_VERIFY(i == 0 || cells.key(i - 1) < key);
    const std::string_view suffix = key.substr(prefix.size());
    std::byte* at = writer.next_cell(suffix, detail::kLeafCellBytes + suffix.size() + cells.payload_bytes(i));
    put(at, static_cast<std::uint16_t>(suffix.size() | (cells.is_run(i) ? detail::kCellIsRun : 0u)));
    cells.put(i, prefix.size(), at + detail::kLeafCellBytes);
  }
  return writer.finish();
}

}  // namespace

std::size_t encode_leaf(std::span<const LeafCell> cells, PageBytes page) noexcept { return encode(Cells{cells}, page); }

std::size_t encode_packed_leaf(const PackedCells& cells, PageBytes page) noexcept {
  return encode(PackedLeafCells{cells}, page);
}

}  // namespace store
