#include "store/page/header.hpp"

#include <fmt/format.h>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/planted.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/structure.hpp"

namespace store {
namespace {

std::uint32_t compute_crc(ConstPageBytes page) noexcept { return crc32c(page.subspan(sizeof(std::uint32_t))); }

std::string check_structure(ConstPageBytes page) {
  switch (page_type(page)) {
    case PageType::leaf: return detail::check_leaf(page);
    case PageType::branch: return detail::check_branch(page);
    case PageType::bitmap: return detail::check_bitmap(page);
    case PageType::bitmap_parent: return detail::check_bitmap_parent(page);
    case PageType::meta: break;
  }
  return fmt::format("page type {} is no page of a tree", static_cast<unsigned>(page_type(page)));
}

bool is_of_family(PageType type, PageFamily family) noexcept {
  switch (family) {
    case PageFamily::tree: return type == PageType::leaf || type == PageType::branch;
    case PageFamily::allocator: return type == PageType::bitmap || type == PageType::bitmap_parent;
  }
  return false;
}

}  // namespace

std::uint32_t seal(PageBytes page, PageNo number, Generation generation) noexcept {
  STORE_ASSERT(generation <= kMaxGeneration);
  put(page.data() + offsetof(layout::PageHeader, page), number.value);
  put48(page.data() + offsetof(layout::PageHeader, generation), generation.value);
  const std::uint32_t crc = compute_crc(page);
  put(page.data() + offsetof(layout::PageHeader, crc), crc);
  return crc;
}

PagePointer seal_page(PageBytes page, PageNo number, Generation generation) noexcept {
  return {number, seal(page, number, generation), generation, page_info(page)};
}

std::uint16_t page_info(ConstPageBytes page) noexcept {
  switch (page_type(page)) {
    case PageType::leaf: {
      const LeafView leaf(page.data());
      return leaf_info(leaf.count(), leaf.has_overflow());
    }
    case PageType::branch: return branch_info(BranchView(page.data()).has_overflow());
    case PageType::bitmap:
    case PageType::bitmap_parent:
    case PageType::meta: break;
  }
  return 0;
}

std::string verify(ConstPageBytes page, const PagePointer& pointer, PageFamily family) {
  const std::uint32_t stored = page_crc(page.data());
  const std::uint32_t computed = planted(Planted::page_crc_skipped) ? stored : compute_crc(page);
  if (stored != computed) {
    return fmt::format("crc: the page says {:#010x}, its bytes give {:#010x}, the pointer expects {:#010x}", stored,
                       computed, pointer.crc);
  }
  // The page is whole. Is it the one that was pointed to?
  if (page_number(page.data()) != pointer.page) {
    return fmt::format("page number: written for block {}, read from block {} (a misdirected write)",
                       page_number(page.data()).value, pointer.page.value);
  }
  if (page_generation(page.data()) != pointer.birth && !planted(Planted::birth_not_checked)) {
    return fmt::format("generation: the page is of {}, the pointer expects {} (a lost or stale write)",
                       page_generation(page.data()).value, pointer.birth.value);
  }
  if (computed != pointer.crc && !planted(Planted::birth_not_checked)) {
    return fmt::format("crc: the page is whole with {:#010x}, the pointer expects {:#010x} (a lost or stale write)",
                       computed, pointer.crc);
  }
  if (!is_of_family(page_type(page), family)) {
    return fmt::format("structure: page type {} where a page of the {} belongs", static_cast<unsigned>(page_type(page)),
                       family == PageFamily::tree ? "tree" : "allocator");
  }
  if (std::string wrong = check_structure(page); !wrong.empty()) return "structure: " + wrong;
  if (page_info(page) != pointer.info && !planted(Planted::birth_not_checked)) {
    return fmt::format("structure: the page gives info {:#06x}, the pointer expects {:#06x}", page_info(page),
                       pointer.info);
  }
  return {};
}

std::string verify_alone(ConstPageBytes page, PageNo block) {
  if (page_crc(page.data()) != compute_crc(page)) return "crc: it is not that of the page's bytes";
  if (page_number(page.data()) != block) return "page number: written for another block";
  if (!is_of_family(page_type(page), PageFamily::tree)) return "structure: no page of a tree";
  return check_structure(page);
}

}  // namespace store
