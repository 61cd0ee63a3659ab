// One page of any bytes, sealed so that its checksum holds. What passes its check may be read through its view to the last
// byte and no further: the page lies alone in its allocation. And it can be encoded again, to the same contents.
#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/input.hpp"
#include "fuzz/mend.hpp"
#include "fuzz/targets.hpp"
#include "store/base/crc32c.hpp"
#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "store/page/overflow.hpp"
#include "store/page/structure.hpp"

namespace store::fuzz {
namespace {

// Exactly one page on the heap.
class HeapPage {
 public:
  HeapPage() : memory_(std::make_unique<std::byte[]>(kPageBytes)) {}
  PageBytes bytes() { return PageBytes(memory_.get(), kPageBytes); }
  std::byte* data() { return memory_.get(); }

 private:
  std::unique_ptr<std::byte[]> memory_;
};

void fill(HeapPage& page, Input& input) {
  const auto bytes = input.take(kPageBytes);
  std::transform(bytes.begin(), bytes.end(), page.data(), [](std::uint8_t b) { return std::byte{b}; });
}

void use_leaf(HeapPage& page) {
  const LeafView leaf(page.data());
  require(leaf.bytes_used() <= kPageBytes, "a leaf uses more than a page");
  std::vector<std::string> keys(leaf.count());
  std::vector<LeafCell> cells;
  bool any_run = false;
  for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
    leaf.append_key(slot, keys[slot]);
    const LeafValue value = leaf.value(slot);
    any_run |= value.is_run();
    require(leaf.find(keys[slot]) == Lookup{slot, true}, "a leaf's key is not found where it is");
    static_cast<void>(leaf.find(keys[slot] + '\0'));
    static_cast<void>(leaf.find(keys[slot].substr(0, keys[slot].size() / 2)));
    cells.push_back({keys[slot], value});
  }
  require(leaf.has_overflow() == any_run, "a leaf is wrong about its runs");
  static_cast<void>(leaf.find(std::string(kMaxKeyBytes, '\xff')));
  static_cast<void>(leaf.find("k"));
  HeapPage again;
  require(encode_leaf(cells, again.bytes()) <= leaf.bytes_used(), "a leaf grows when it is encoded again");
  const LeafView copy(again.data());
  require(copy.count() == leaf.count(), "a leaf changes when it is encoded again");
  for (std::uint32_t slot = 0; slot < copy.count(); ++slot) {
    std::string key;
    copy.append_key(slot, key);
    const LeafValue value = copy.value(slot);
    const LeafValue& was = cells[slot].value;
    require(key == keys[slot] && value.is_run() == was.is_run(), "an entry changes when it is encoded again");
    require(value.is_run() ? value.reference() == was.reference() && value.others() == was.others()
                           : value.bytes() == was.bytes(),
            "a value changes when it is encoded again");
  }
}

void use_branch(HeapPage& page) {
  const BranchView branch(page.data());
  require(branch.bytes_used() <= kPageBytes, "a branch uses more than a page");
  std::vector<std::string> separators(branch.count());
  std::vector<BranchCell> cells;
  for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
    branch.append_separator(slot, separators[slot]);
    require(branch.find_child(separators[slot]) == slot, "a separator is not found where it is");
    static_cast<void>(branch.find_child(separators[slot] + '\0'));
    cells.push_back({separators[slot], branch.child(slot)});
  }
  require(branch.find_child(std::string(kMaxKeyBytes + 1, '\xff')) == branch.count() - 1,
          "the last child is not found");
  static_cast<void>(branch.has_overflow());
  HeapPage again;
  require(encode_branch(cells, branch.level(), again.bytes()) <= branch.bytes_used(),
          "a branch grows when it is encoded again");
  const BranchView copy(again.data());
  require(copy.count() == branch.count() && copy.level() == branch.level(),
          "a branch changes when it is encoded again");
  for (std::uint32_t slot = 0; slot < copy.count(); ++slot) {
    std::string separator;
    copy.append_separator(slot, separator);
    require(separator == separators[slot] && copy.child(slot) == cells[slot].child,
            "a child changes when it is encoded again");
  }
}

void use_bitmap(HeapPage& page) {
  const BitmapView bitmap(page.data());
  std::array<std::uint64_t, kBitmapWords> words;
  bitmap.copy_to(words);
  FreeSummary counted;
  std::uint32_t run = 0;
  for (std::uint32_t i = 0; i < kRegionBlocks; ++i) {
    run = bitmap.is_free(i) ? run + 1 : 0;
    counted.free_blocks += bitmap.is_free(i);
    counted.longest_run = std::max(counted.longest_run, run);
  }
  require(summarize(words) == counted, "a bitmap is summed up wrongly");
  HeapPage again;
  encode_bitmap(bitmap.region(), words, again.bytes());
  require(BitmapView(again.data()).region() == bitmap.region(), "a bitmap changes when it is encoded again");
}

void use_bitmap_parent(HeapPage& page) {
  const BitmapParentView parent(page.data());
  std::vector<BitmapParentCell> cells;
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) cells.push_back(parent.child(slot));
  HeapPage again;
  encode_bitmap_parent(parent.level(), parent.index(), cells, again.bytes());
  require(BitmapParentView(again.data()).count() == parent.count(), "a parent changes when it is encoded again");
}

void use_page(Input& input) {
  HeapPage page;
  fill(page, input);
  const PageNo number = page_number(page.data());
  const Generation generation = page_generation(page.data());
  const PageType type = page_type(page.bytes());
  const bool of_tree = type == PageType::leaf || type == PageType::branch;
  if (of_tree) mend_heads(page.bytes());
  PagePointer pointer{number, seal(page.bytes(), number, generation), generation, 0};
  const PageFamily family = of_tree ? PageFamily::tree : PageFamily::allocator;
  static_cast<void>(verify(page.bytes(), pointer, family));
  bool good = false;
  switch (type) {
    case PageType::leaf: good = detail::check_leaf(page.bytes()).empty(); break;
    case PageType::branch: good = detail::check_branch(page.bytes()).empty(); break;
    case PageType::bitmap: good = detail::check_bitmap(page.bytes()).empty(); break;
    case PageType::bitmap_parent: good = detail::check_bitmap_parent(page.bytes()).empty(); break;
    case PageType::meta: break;
  }
  if (!good) return;
  pointer.info = page_info(page.bytes());
  require(verify(page.bytes(), pointer, family).empty(), "a page of good structure is refused");
  switch (type) {
    case PageType::leaf: use_leaf(page); break;
    case PageType::branch: use_branch(page); break;
    case PageType::bitmap: use_bitmap(page); break;
    case PageType::bitmap_parent: use_bitmap_parent(page); break;
    case PageType::meta: break;
  }
}

// --- meta pages ---

void use_meta(Input& input) {
  HeapPage page;
  const std::uint32_t slot = input.byte() % kMetaSlots;
  fill(page, input);
  static_cast<void>(decode_meta(page.bytes(), slot));
  seal(page.bytes(), page_number(page.data()), page_generation(page.data()));
  const DecodedMeta decoded = decode_meta(page.bytes(), slot);
  require((decoded.state == MetaState::good) == decoded.reason.empty(), "a meta page is refused without a reason");
  if (decoded.state != MetaState::good) return;
  HeapPage again;
  encode_meta(decoded.meta, slot, again.bytes());
  const DecodedMeta copy = decode_meta(again.bytes(), slot);
  require(copy.state == MetaState::good && copy.meta == decoded.meta, "a meta page changes when it is encoded again");
}

// --- overflow runs ---

void use_run(Input& input) {
  constexpr std::uint64_t kLongest = 4 * kCrcChunkBytes;
  OverflowRef ref;
  ref.first = PageNo(kMetaBlocks);
  ref.length = 1 + input.number<std::uint32_t>() % kLongest;
  const std::uint64_t offset = input.number<std::uint32_t>() % (2 * kLongest);
  const std::uint64_t length = input.number<std::uint32_t>() % (2 * kLongest);
  const std::size_t bytes = run_blocks(ref.length) * kPageBytes;
  const auto memory = std::make_unique<std::byte[]>(bytes);
  const std::span<std::byte> run(memory.get(), bytes);
  const auto content = input.take(kPageBytes);
  // The end of a run has its table.
  const std::size_t at = bytes - std::min<std::size_t>(content.size(), bytes);
  for (std::size_t i = at; i < bytes; ++i) run[i] = std::byte{content[i - at]};

  ref.crc = crc32c(has_crc_table(ref.length) ? run.last(table_bytes(ref.length)) : run.first(ref.length));
  const std::string wrong = verify_run(run, ref);
  require(wrong.empty() || has_crc_table(ref.length), "a run whose checksum holds is refused");
  const RunPart part = covering_part(ref.length, offset, length);
  if (has_crc_table(ref.length)) {
    const auto table = run.last(table_bytes(ref.length));
    require(verify_crc_table(table, ref).empty(), "a table whose checksum holds is refused");
    const std::string of_part = verify_part(run.subspan(part.offset, part.bytes), part, table, ref);
    require(of_part.empty() || !wrong.empty(), "a part of a good run is refused");
  }
  ref.crc = seal_run(run, ref.length);
  require(verify_run(run, ref).empty(), "a run that was sealed is refused");
}

}  // namespace

void run_pages(Bytes bytes) {
  Input input(bytes);
  switch (input.byte() % 8) {
    case 0: use_meta(input); break;
    case 1: use_run(input); break;
    default: use_page(input); break;
  }
}

}  // namespace store::fuzz
