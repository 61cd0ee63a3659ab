// A real store, damaged behind its checksums: the input chooses a store, changes pages of it, and what vouches for the
// changed pages is written anew (mend.hpp). So the damage is met by what comes after the checksums.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/base_images.hpp"
#include "fuzz/core.hpp"
#include "fuzz/exercise.hpp"
#include "fuzz/input.hpp"
#include "fuzz/mend.hpp"
#include "fuzz/targets.hpp"
#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/structure.hpp"

namespace store::fuzz {
namespace {

constexpr int kMostChanges = 24;

// A key: one that is there, changed at its end, or any.
std::string hostile_key(Input& input, std::string key) {
  switch (input.byte() % 6) {
    case 0: key += '\0'; break;
    case 1: key.pop_back(); break;
    case 2: key.back() = static_cast<char>(key.back() + 1); break;
    case 3: key.assign(1, '\0'); break;
    case 4: key.assign(kMaxKeyBytes, '\xff'); break;
    default: key = input.text(); break;
  }
  if (key.empty() || key.size() > kMaxKeyBytes) key = "k";
  return key;
}

class Damage {
 public:
  Damage(test::MemDisk& disk, const BaseImage& image, Input& input) : disk_(disk), image_(image), input_(input) {}

  void change() {
    const PageNo number = any_page();
    const auto page = disk_.block(number);
    switch (input_.byte() % 8) {
      case 0: poke(page); break;
      case 1: put_number(page); break;
      case 2: redirect(page); break;
      case 3: edit_leaf(page); break;
      case 4: edit_branch(page); break;
      case 5: set_free(page); break;
      case 6: replace(number); break;
      default: poke_header(page); break;
    }
  }

 private:
  PageNo any_page() { return image_.pages[input_.choice(image_.pages.size())]; }

  // Bytes at any place.
  void poke(PageBytes page) {
    const std::size_t at = input_.choice(kPageBytes);
    const auto bytes = input_.take(1 + input_.byte() % 8);
    for (std::size_t i = 0; i < bytes.size() && at + i < kPageBytes; ++i) page[at + i] = std::byte{bytes[i]};
  }

  // A number of 1, 2, 4, 6 or 8 bytes at any place: a field of a meta page, a count, an offset, a length.
  void put_number(PageBytes page) {
    const std::size_t at = input_.choice(kPageBytes - sizeof(std::uint64_t));
    constexpr std::size_t kWidths[] = {1, 2, 4, 6, 8};
    const std::size_t width = kWidths[input_.byte() % std::size(kWidths)];
    const std::uint64_t value = input_.hostile_number();
    std::memcpy(page.data() + at, &value, width);
  }

  void poke_header(PageBytes page) {
    std::byte* const at = page.data();
    switch (input_.byte() % 4) {
      case 0: at[offsetof(layout::PageHeader, type)] = std::byte{input_.byte()}; break;
      case 1: at[offsetof(layout::PageHeader, level)] = std::byte{input_.byte()}; break;
      case 2: put48(at + offsetof(layout::PageHeader, generation), input_.hostile_number() & kMask48); break;
      default: put(at + sizeof(layout::PageHeader), static_cast<std::uint16_t>(input_.hostile_number())); break;
    }
  }

  // One of the pointers on the page leads to another page.
  void redirect(PageBytes page) {
    std::size_t first = 0;
    std::size_t stride = sizeof(layout::Pointer);
    std::size_t count = 0;
    switch (page_type(page.data())) {
      case PageType::meta:
        first = offsetof(layout::MetaPage, tree_root);
        count = 2;
        break;
      case PageType::branch: {
        if (!detail::check_branch(page).empty()) return;
        const BranchView branch(page.data());
        first = detail::kSlottedHeaderBytes + branch.prefix().size() + detail::kHeadBytes * branch.count();
        count = branch.count();
        break;
      }
      case PageType::bitmap_parent:
        first = sizeof(layout::BitmapParentHeader);
        stride = sizeof(layout::BitmapParentEntry);
        count = std::min<std::size_t>(BitmapParentView(page.data()).count(), kBitmapFanout);
        break;
      default: return;
    }
    if (count == 0) return;
    const std::size_t at = first + stride * input_.choice(count);
    put(page.data() + at, any_page().value);
  }

  struct Value {
    std::string bytes;  // of a run its other blocks
    std::optional<OverflowRef> run;
  };
  using Entries = std::map<std::string, Value>;

  static bool read_leaf(ConstPageBytes page, Entries& entries) {
    if (page_type(page) != PageType::leaf || !detail::check_leaf(page).empty()) return false;
    const LeafView leaf(page.data());
    for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
      std::string key;
      leaf.append_key(slot, key);
      const LeafValue value = leaf.value(slot);
      entries[key] = value.is_run() ? Value{std::string(value.others()), value.reference()}
                                    : Value{std::string(value.bytes()), std::nullopt};
    }
    return true;
  }

  // As many of the entries as fit.
  static void write_leaf(PageBytes page, const Entries& entries) {
    std::vector<LeafCell> cells;
    std::size_t key_bytes = 0;
    std::size_t values = 0;
    for (const auto& [key, value] : entries) {
      const LeafCell cell{key, value.run ? LeafValue(*value.run, value.bytes) : LeafValue(value.bytes)};
      key_bytes += key.size();
      values += value_bytes(cell.value);
      if (leaf_bytes(cells.size() + 1, key_bytes, values, 0) > kPageBytes) break;
      cells.push_back(cell);
    }
    const Generation generation = page_generation(page.data());
    encode_leaf(cells, page);
    put48(page.data() + offsetof(layout::PageHeader, generation), generation.value);
  }

  // A leaf anew, with other entries.
  void edit_leaf(PageBytes page) {
    Entries entries;
    if (!read_leaf(page, entries)) return;
    const std::uint8_t what = input_.byte() % 5;
    if (what == 0) entries.clear();
    if (what == 1) read_leaf(disk_.block(any_page()), entries);
    if (what > 1 && !entries.empty()) {
      const auto at = std::next(entries.begin(), static_cast<std::ptrdiff_t>(input_.choice(entries.size())));
      if (what == 2) entries.erase(at);
      if (what == 3) {
        auto node = entries.extract(at);
        node.key() = hostile_key(input_, node.key());
        entries.insert(std::move(node));
      }
      if (what == 4) {
        const std::uint64_t length = input_.hostile_number();
        const PageNo first = input_.byte() % 4 == 0 ? PageNo(input_.number<std::uint32_t>()) : any_page();
        at->second.run = OverflowRef{first, length, 0, page_generation(page.data())};
      }
    }
    write_leaf(page, entries);
  }

  // A branch anew, with other separators or children.
  void edit_branch(PageBytes page) {
    if (page_type(page.data()) != PageType::branch || !detail::check_branch(page).empty()) return;
    const BranchView branch(page.data());
    std::map<std::string, PagePointer> children;  // the first under the empty separator
    for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
      std::string separator;
      branch.append_separator(slot, separator);
      children[separator] = branch.child(slot);
    }
    const auto at = std::next(children.begin(), static_cast<std::ptrdiff_t>(input_.choice(children.size())));
    const std::uint8_t what = input_.byte() % 4;
    if (what == 0) at->second.page = PageNo(std::max(any_page().value, 1u));  // the null pointer cannot be encoded
    if (what == 1) children.insert_or_assign(hostile_key(input_, at->first.empty() ? "k" : at->first), at->second);
    if (what == 2 && !at->first.empty()) children.erase(at);
    if (what == 3) children = {{std::string(), at->second}};
    std::vector<BranchCell> cells;
    std::size_t bytes = 0;
    for (const auto& [separator, child] : children) {
      bytes += separator.size();
      if (branch_bytes(cells.size() + 1, bytes, 0) > kPageBytes) break;
      cells.push_back({separator, child});
    }
    const std::uint8_t level = branch.level();
    const Generation generation = page_generation(page.data());
    std::array<std::byte, kPageBytes> built;
    encode_branch(cells, level, built);
    std::ranges::copy(built, page.begin());
    put48(page.data() + offsetof(layout::PageHeader, generation), generation.value);
  }

  // Blocks become free or used in a bitmap.
  void set_free(PageBytes page) {
    if (page_type(page.data()) != PageType::bitmap) return;
    const bool free = input_.byte() % 2 == 0;
    const std::size_t first = input_.choice(kRegionBlocks);
    const std::size_t end = std::min<std::size_t>(first + 1 + input_.byte(), kRegionBlocks);
    for (std::size_t i = first; i < end; ++i) {
      std::byte& byte = page[sizeof(layout::BitmapHeader) + i / 8];
      const auto bit = static_cast<std::byte>(1u << (i % 8));
      byte = free ? byte | bit : byte & ~bit;
    }
  }

  // Another page's bytes lie here too.
  void replace(PageNo page) {
    const auto from = disk_.block(any_page());
    std::memmove(disk_.block(page).data(), from.data(), kPageBytes);
  }

  test::MemDisk& disk_;
  const BaseImage& image_;
  Input& input_;
};

}  // namespace

// Bytes 0 to 2: the store, how it is opened, what is not mended; then the changes.
void run_mutated(Bytes bytes) {
  Input input(bytes);
  const BaseImage& image = base_images()[input.choice(base_images().size())];
  const HowToOpen how = how_to_open(input.byte());
  const std::uint8_t left = input.byte();
  const Unmended unmended{(left & 1) != 0, (left & 2) != 0, (left & 4) != 0, (left & 8) != 0, (left & 16) != 0};
  const auto disk = image.disk->copy();
  Damage damage(*disk, image, input);
  for (int i = 0; i < kMostChanges && !input.empty(); ++i) damage.change();
  Mender(*disk, unmended).mend_all();
  run_on_core(exercise(disk, how));
}

}  // namespace store::fuzz
