#include "store/page/branch.hpp"

#include <fmt/format.h>

#include "store/base/assert.hpp"
#include "store/page/slotted.hpp"
#include "store/page/structure.hpp"

namespace store {
namespace detail {
namespace {

std::string check_child(const PagePointer& child, std::uint8_t level, Generation generation) {
  if (child.is_null()) return "a null pointer";
  if (child.birth > generation) {
    return fmt::format("a child of generation {} in a page of {}", child.birth.value, generation.value);
  }
  if (level > 1 && entry_count(child) != 0) return "a count of entries for a branch";
  return {};
}

}  // namespace

std::string check_branch(ConstPageBytes page) {
  const std::uint8_t level = page_level(page);
  if (level == 0 || level > kMaxTreeLevel) return fmt::format("a branch of level {}", level);
  if (std::string wrong = check_slots(page, {.fixed = sizeof(layout::Pointer), .cell = 0}); !wrong.empty())
    return wrong;
  // Every pointer and every cell lies in the page: the view may read all of them.
  const BranchView branch(page.data());
  if (branch.count() == 0) return "a branch without children";
  if (branch.count() == 1 && !branch.prefix().empty()) return "a prefix without separators";
  const std::byte* heads = page.data() + kSlottedHeaderBytes + branch.prefix().size();
  const Generation generation = page_generation(page.data());
  for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
    const std::string_view suffix = branch.suffix(slot);
    const std::size_t separator_bytes = branch.prefix().size() + suffix.size();
    if (slot == 0 && !suffix.empty()) return "slot 0 has a separator";
    if (slot > 0 && (separator_bytes == 0 || separator_bytes > kMaxKeyBytes)) {
      return fmt::format("slot {} has a separator of {} bytes", slot, separator_bytes);
    }
    if (load<std::uint32_t>(heads + kHeadBytes * slot) != head_of(suffix))
      return fmt::format("slot {} has a wrong head", slot);
    if (slot > 1 && branch.suffix(slot - 1) >= suffix) {
      return fmt::format("the separator of slot {} is not above the one before", slot);
    }
    if (std::string wrong = check_child(branch.child(slot), level, generation); !wrong.empty()) {
      return fmt::format("slot {} has {}", slot, wrong);
    }
  }
  return {};
}

}  // namespace detail

bool BranchView::has_overflow() const noexcept {
  for (std::uint32_t slot = 0; slot < count_; ++slot) {
    if (store::has_overflow(child(slot))) return true;
  }
  return false;
}

namespace {

struct Cells {
  std::span<const BranchCell> cells;

  std::size_t size() const noexcept { return cells.size(); }
  std::string_view key(std::size_t i) const noexcept { return cells[i].separator; }
  PagePointer child(std::size_t i) const noexcept { return cells[i].child; }
};

struct PackedBranchCells : PackedCells {
  PagePointer child(std::size_t i) const noexcept { return load_pointer(payload(i)); }
};

template <class From>
std::size_t encode(const From& cells, std::uint8_t level, PageBytes page) noexcept {
  STORE_ASSERT(cells.size() > 0);
  STORE_ASSERT(level >= 1 && level <= kMaxTreeLevel);
  std::string_view prefix;
  if (cells.size() > 1) {
    prefix = cells.key(1).substr(0, common_prefix_bytes(cells.key(1), cells.key(cells.size() - 1)));
  }
  detail::SlottedWriter writer(page, {PageType::branch, level, cells.size(), sizeof(layout::Pointer), prefix});
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::string_view separator = cells.key(i);
    const PagePointer child = cells.child(i);
    STORE_ASSERT(!child.is_null());
    STORE_ASSERT(i == 0 || (!separator.empty() && separator.size() <= kMaxKeyBytes));
    STORE_VERIFY(i < 2 || cells.key(i - 1) < separator);
    const std::string_view suffix = i == 0 ? std::string_view{} : separator.substr(prefix.size());
    detail::put_text(writer.next_cell(suffix, suffix.size()), suffix);
    put_pointer(writer.fixed_part(), child);
  }
  return writer.finish();
}

}  // namespace

std::size_t encode_branch(std::span<const BranchCell> cells, std::uint8_t level, PageBytes page) noexcept {
  return encode(Cells{cells}, level, page);
}

std::size_t encode_packed_branch(const PackedCells& cells, std::uint8_t level, PageBytes page) noexcept {
  return encode(PackedBranchCells{cells}, level, page);
}

}  // namespace store
