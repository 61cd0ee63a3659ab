// verify() as the gate: each kind of damage is refused by the check that is meant for it, and whatever bytes get
// through, with CRCs repaired as an attacker would, can be read through every accessor (AddressSanitizer watches) and
// found again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "page_samples.hpp"
#include "store/base/crc32c.hpp"

namespace store::test {
namespace {

using testing::HasSubstr;

constexpr PageNo kNumber{77};
constexpr Generation kBorn{1000};
constexpr std::size_t kCountAt = offsetof(layout::SlottedHeader, count);
constexpr std::size_t kPrefixAt = offsetof(layout::SlottedHeader, prefix_bytes);
constexpr std::size_t kHeadsAt = sizeof(layout::SlottedHeader);

// Three entries without a common prefix: heads at 20, offsets at 32, cells from 40 on.
PagePointer small_leaf(PageBuffer& page) {
  const OverflowRef run{PageNo(30), 5000, 1, Generation(2)};
  encode_leaf(std::vector<LeafCell>{{"apple", LeafValue("red")}, {"berry", LeafValue(run)}, {"cherry", LeafValue("")}},
              page.bytes());
  return seal_page(page.bytes(), kNumber, kBorn);
}

PagePointer small_branch(PageBuffer& page) {
  const PagePointer child{PageNo(30), 1, Generation(2), leaf_info(3, true)};
  encode_branch(std::vector<BranchCell>{{"", child}, {"m", child}, {"t", child}}, 1, page.bytes());
  return seal_page(page.bytes(), kNumber, kBorn);
}

// Changes the page, repairs its CRC and says what verify() finds; the pointer's info stays that of the unchanged
// page.
template <class T>
std::string after(PagePointer (*make)(PageBuffer&), std::size_t at, T value, PageFamily family = PageFamily::tree) {
  PageBuffer page;
  PagePointer pointer = make(page);
  put(page.data() + at, value);
  pointer.crc = seal(page.bytes(), kNumber, kBorn);
  return verify(page.bytes(), pointer, family);
}

TEST(Verify, TellsDamageFromAPageThatIsNotTheOnePointedTo) {
  PageBuffer page;
  const PagePointer pointer = small_leaf(page);
  EXPECT_EQ(verify(page.bytes(), pointer), "");

  PagePointer other = pointer;
  other.page = PageNo(78);
  EXPECT_THAT(verify(page.bytes(), other), HasSubstr("page number: written for block 77, read from block 78"));
  other = pointer;
  other.birth = Generation(1001);
  EXPECT_THAT(verify(page.bytes(), other), HasSubstr("generation: the page is of 1000, the pointer expects 1001"));
  other = pointer;
  ++other.crc;
  EXPECT_THAT(verify(page.bytes(), other), HasSubstr("the page is whole"));
  other = pointer;
  other.info = leaf_info(2, true);
  EXPECT_THAT(verify(page.bytes(), other), HasSubstr("structure: the page gives info"));
  other.info = leaf_info(3, false);
  EXPECT_THAT(verify(page.bytes(), other), HasSubstr("structure: the page gives info"));
}

TEST(Verify, FindsEveryFlippedBit) {
  PageBuffer page;
  const PagePointer pointer = small_leaf(page);
  for (std::size_t bit = 0; bit < 8 * kPageBytes; ++bit) {
    const std::byte mask{static_cast<std::uint8_t>(1u << (bit % 8))};
    page.data()[bit / 8] ^= mask;
    ASSERT_THAT(verify(page.bytes(), pointer), testing::StartsWith("crc: ")) << bit;
    page.data()[bit / 8] ^= mask;
  }
}

TEST(Verify, KeepsTheFamiliesApart) {
  PageBuffer page;
  const PagePointer leaf = small_leaf(page);
  EXPECT_THAT(verify(page.bytes(), leaf, PageFamily::allocator),
              HasSubstr("page type 1 where a page of the allocator"));
  std::vector<std::uint64_t> words(kBitmapWords, 0);
  encode_bitmap(3, ConstBitmapWords(words), page.bytes());
  const PagePointer bitmap = seal_page(page.bytes(), kNumber, kBorn);
  EXPECT_EQ(verify(page.bytes(), bitmap, PageFamily::allocator), "");
  EXPECT_THAT(verify(page.bytes(), bitmap), HasSubstr("page type 3 where a page of the tree"));
  encode_meta(Meta{}, 0, page.bytes());
  const PagePointer meta{PageNo(0), page_crc(page.data()), Generation(0), 0};
  EXPECT_NE(verify(page.bytes(), meta), "");
  EXPECT_NE(verify(page.bytes(), meta, PageFamily::allocator), "");
}

TEST(Verify, RefusesLeavesOfWrongStructure) {
  const auto leaf = [](std::size_t at, auto value) { return after(small_leaf, at, value); };
  constexpr std::size_t kOffsetsAt = kHeadsAt + 12;
  constexpr std::size_t kCellsAt = kOffsetsAt + 8;
  constexpr std::size_t kSecondCellAt = kCellsAt + 2 + 5 + 3;
  constexpr std::size_t kRunAt = kSecondCellAt + 2 + 5;
  using u16 = std::uint16_t;
  EXPECT_EQ(leaf(kCountAt, u16{3}), "") << "the unchanged page";
  EXPECT_THAT(leaf(offsetof(layout::PageHeader, level), std::uint8_t{1}), HasSubstr("a leaf of level 1"));
  EXPECT_THAT(leaf(kCountAt, u16{700}), HasSubstr("700 slots do not fit"));
  EXPECT_THAT(leaf(kCountAt, u16{0xffff}), HasSubstr("65535 slots do not fit"));
  EXPECT_THAT(leaf(kPrefixAt, u16{1025}), HasSubstr("a prefix of 1025 bytes"));
  EXPECT_THAT(leaf(kCountAt, u16{2}), HasSubstr("the first cell is at"));
  EXPECT_THAT(leaf(kOffsetsAt, u16{kCellsAt + 1}), HasSubstr("the first cell is at 41, not at 40"));
  EXPECT_THAT(leaf(kOffsetsAt + 2, u16{kCellsAt + 1}), HasSubstr("the cell of slot 0 goes from 40 to 41"));
  EXPECT_THAT(leaf(kOffsetsAt + 2, u16{4097}), HasSubstr("the cell of slot 0 goes from 40 to 4097"));
  EXPECT_THAT(leaf(kOffsetsAt + 6, u16{0}), HasSubstr("the cell of slot 2"));
  EXPECT_THAT(leaf(kOffsetsAt + 6, u16{4000}), HasSubstr("slot 2 has 3915 bytes of value"));
  EXPECT_THAT(leaf(kCellsAt, u16{9}), HasSubstr("slot 0 has a suffix of 9 bytes in a cell of 10"));
  EXPECT_THAT(leaf(kCellsAt, u16{0x7fff}), HasSubstr("slot 0 has a suffix of 32767 bytes"));
  EXPECT_THAT(leaf(kCellsAt, u16{0}), HasSubstr("slot 0 has a key of 0 bytes"));
  EXPECT_THAT(leaf(kCellsAt, u16{0x8005}), HasSubstr("slot 0 has a reference to a run of 3 bytes"));
  EXPECT_THAT(leaf(kCellsAt + 2, 'b'), HasSubstr("slot 0 has a wrong head"));
  EXPECT_THAT(leaf(kHeadsAt, 1), HasSubstr("slot 0 has a wrong head"));
  EXPECT_THAT(leaf(kRunAt, std::uint32_t{0}), HasSubstr("slot 1 has a run in block 0"));
  EXPECT_THAT(leaf(kRunAt, ~std::uint32_t{0}), HasSubstr("slot 1 has a run past the last block"));
  EXPECT_THAT(leaf(kRunAt + 8, std::uint16_t{1001}),
              HasSubstr("slot 1 has a run of generation 1001 in a page of 1000"));
  EXPECT_THAT(leaf(kRunAt + 14, std::uint16_t{0}), HasSubstr("slot 1 has a run of 0 bytes"));
  EXPECT_THAT(leaf(kRunAt + 18, std::uint16_t{1}), HasSubstr("slot 1 has a run of 4294972296 bytes"));
}

TEST(Verify, RefusesScatteredRunsThatAreNone) {
  const auto damage_of = [](OverflowRun run) {
    PageBuffer page;
    encode_leaf(std::vector<LeafCell>{{"berry", LeafValue(run, RunOthers(run).view())}}, page.bytes());
    const PagePointer pointer = seal_page(page.bytes(), PageNo(9), Generation(1'000));
    return verify(page.bytes(), pointer);
  };
  OverflowRun run(OverflowRef{PageNo(30), 9'000, 1, Generation(2)});
  run.other_count = 2;
  run.others = {28, 29};
  EXPECT_EQ(damage_of(run), "");
  OverflowRun wrong = run;
  wrong.length = 4'096;
  EXPECT_THAT(damage_of(wrong), HasSubstr("slot 0 has a scattered run of 4096 bytes that names 8 bytes of blocks"));
  wrong.length = 12'289;
  EXPECT_THAT(damage_of(wrong), HasSubstr("slot 0 has a scattered run of 12289 bytes that names 8 bytes of blocks"));
  wrong.length = kMaxBufferedValueBytes + 1;
  wrong.other_count = 15;
  EXPECT_THAT(damage_of(wrong), HasSubstr("slot 0 has a scattered run of 65537 bytes that names 60 bytes of blocks"));
  wrong = run;
  wrong.others[1] = 0;
  EXPECT_THAT(damage_of(wrong), HasSubstr("slot 0 has a run in block 0"));
}

TEST(Verify, RefusesKeysOutOfOrder) {
  // Encoded in order, then made equal or swapped behind equal heads.
  PageBuffer page;
  encode_leaf(std::vector<LeafCell>{{"zabcdx", LeafValue("")}, {"zabcdy", LeafValue("")}, {"zzzzz", LeafValue("")}},
              page.bytes());
  PagePointer pointer = seal_page(page.bytes(), kNumber, kBorn);
  ASSERT_EQ(verify(page.bytes(), pointer), "");
  std::byte* x = std::find(page.data(), page.data() + kPageBytes, std::byte{'x'});
  *x = std::byte{'y'};
  pointer.crc = seal(page.bytes(), kNumber, kBorn);
  EXPECT_THAT(verify(page.bytes(), pointer), HasSubstr("the key of slot 1 is not above the one before"));
  *x = std::byte{'z'};
  pointer.crc = seal(page.bytes(), kNumber, kBorn);
  EXPECT_THAT(verify(page.bytes(), pointer), HasSubstr("the key of slot 1 is not above the one before"));
}

TEST(Verify, RefusesBranchesOfWrongStructure) {
  const auto branch = [](std::size_t at, auto value) { return after(small_branch, at, value); };
  constexpr std::size_t kPointersAt = kHeadsAt + 12;
  constexpr std::size_t kOffsetsAt = kPointersAt + 48;
  constexpr std::size_t kSuffixesAt = kOffsetsAt + 8;
  using u16 = std::uint16_t;
  EXPECT_EQ(branch(kCountAt, u16{3}), "") << "the unchanged page";
  EXPECT_THAT(branch(offsetof(layout::PageHeader, level), std::uint8_t{0}), HasSubstr("a branch of level 0"));
  EXPECT_THAT(branch(offsetof(layout::PageHeader, level), std::uint8_t{32}), HasSubstr("a branch of level 32"));
  EXPECT_THAT(branch(offsetof(layout::PageHeader, level), std::uint8_t{2}),
              HasSubstr("a count of entries for a branch"));
  EXPECT_THAT(branch(kCountAt, u16{300}), HasSubstr("300 slots do not fit"));
  EXPECT_THAT(branch(kPointersAt, std::uint32_t{0}), HasSubstr("slot 0 has a null pointer"));
  EXPECT_THAT(branch(kPointersAt + 24, u16{1001}),
              HasSubstr("slot 1 has a child of generation 1001 in a page of 1000"));
  EXPECT_THAT(branch(kOffsetsAt + 2, u16{kSuffixesAt + 1}), HasSubstr("slot 0 has a separator"));
  EXPECT_THAT(branch(kOffsetsAt + 4, u16{kSuffixesAt}), HasSubstr("slot 1 has a separator of 0 bytes"));
  EXPECT_THAT(branch(kOffsetsAt + 4, u16{kSuffixesAt - 1}), HasSubstr("the cell of slot 1"));
  EXPECT_THAT(branch(kOffsetsAt + 6, u16{2000}), HasSubstr("slot 2 has a separator of"));
  EXPECT_THAT(branch(kOffsetsAt + 6, u16{4097}), HasSubstr("the cell of slot 2"));
  EXPECT_THAT(branch(kSuffixesAt, 'n'), HasSubstr("slot 1 has a wrong head"));
  EXPECT_THAT(branch(kHeadsAt, 1), HasSubstr("slot 0 has a wrong head"));

  // A branch of no children: only the end of no cells, right behind it.
  EXPECT_THAT(after(
                  [](PageBuffer& page) {
                    const PagePointer pointer = small_branch(page);
                    put(page.data() + kHeadsAt, u16{kHeadsAt + 2});
                    return pointer;
                  },
                  kCountAt, u16{0}),
              HasSubstr("a branch without children"));
  // One child and a prefix of one byte: everything behind the header moves by one.
  EXPECT_THAT(after(
                  [](PageBuffer& page) {
                    encode_branch(std::vector<BranchCell>{{"", {PageNo(30), 1, Generation(2), 0}}}, 1, page.bytes());
                    std::memmove(page.data() + kHeadsAt + 1, page.data() + kHeadsAt, 24);
                    put(page.data() + kHeadsAt + 21, u16{kHeadsAt + 25});
                    put(page.data() + kHeadsAt + 23, u16{kHeadsAt + 25});
                    return seal_page(page.bytes(), kNumber, kBorn);
                  },
                  kPrefixAt, u16{1}),
              HasSubstr("a prefix without separators"));

  PageBuffer page;
  PagePointer pointer = small_branch(page);
  put(page.data() + kHeadsAt + 8, detail::head_of("m"));
  page.data()[kSuffixesAt + 1] = std::byte{'m'};
  pointer.crc = seal(page.bytes(), kNumber, kBorn);
  EXPECT_THAT(verify(page.bytes(), pointer), HasSubstr("the separator of slot 2 is not above the one before"));
}

PagePointer small_parent(PageBuffer& page) {
  const PagePointer child{PageNo(30), 1, Generation(2), 0};
  encode_bitmap_parent(1, 5, std::vector<BitmapParentCell>{{child, {100, 50}}, {child, {0, 0}}}, page.bytes());
  return seal_page(page.bytes(), kNumber, kBorn);
}

PagePointer small_bitmap(PageBuffer& page) {
  std::vector<std::uint64_t> words(kBitmapWords, 5);
  encode_bitmap(12, ConstBitmapWords(words), page.bytes());
  return seal_page(page.bytes(), kNumber, kBorn);
}

TEST(Verify, RefusesAllocatorPagesOfWrongStructure) {
  const auto bitmap = [](std::size_t at, auto value) { return after(small_bitmap, at, value, PageFamily::allocator); };
  const auto parent = [](std::size_t at, auto value) { return after(small_parent, at, value, PageFamily::allocator); };
  constexpr std::size_t kEntriesAt = sizeof(layout::BitmapParentHeader);
  constexpr std::size_t kLevelAt = offsetof(layout::PageHeader, level);
  constexpr std::size_t kIndexAt = offsetof(layout::BitmapParentHeader, index);
  constexpr std::size_t kParentCountAt = offsetof(layout::BitmapParentHeader, count);
  using u32 = std::uint32_t;
  EXPECT_EQ(bitmap(offsetof(layout::BitmapHeader, region), u32{12}), "") << "the unchanged page";
  EXPECT_THAT(bitmap(kLevelAt, std::uint8_t{1}), HasSubstr("a bitmap of level 1"));
  EXPECT_EQ(bitmap(offsetof(layout::BitmapHeader, region), u32{kMaxRegions - 1}), "");
  EXPECT_THAT(bitmap(offsetof(layout::BitmapHeader, region), u32{kMaxRegions}), HasSubstr("a bitmap of region 135301"));
  EXPECT_EQ(parent(kParentCountAt, u32{2}), "") << "the unchanged page";
  EXPECT_THAT(parent(kLevelAt, std::uint8_t{0}), HasSubstr("a bitmap parent of level 0"));
  EXPECT_THAT(parent(kLevelAt, std::uint8_t{4}), HasSubstr("a bitmap parent of level 4"));
  EXPECT_THAT(parent(kParentCountAt, u32{169}), HasSubstr("a bitmap parent of 169 children"));
  EXPECT_THAT(parent(kIndexAt, u32{806}), HasSubstr("a bitmap parent of index 806 on level 1"));
  EXPECT_THAT(parent(kIndexAt, ~u32{0}), HasSubstr("a bitmap parent of index 4294967295"));
  EXPECT_THAT(parent(kParentCountAt, u32{3}), HasSubstr("slot 2 has a null pointer"));
  EXPECT_THAT(parent(kEntriesAt + 8, std::uint16_t{1001}), HasSubstr("slot 0 has a child of generation 1001"));
  EXPECT_THAT(parent(kEntriesAt + 16, u32{31'745}), HasSubstr("slot 0 has 31745 free blocks"));
  EXPECT_THAT(parent(kEntriesAt + 20, u32{101}), HasSubstr("slot 0 has 100 free blocks, 101 in a row"));
}

// Reads a verified page through everything its view offers. Returns a sum over what was seen, so that nothing is left out
// by the optimiser; fails when a key is not found where it stands.
std::uint64_t sum_of(std::string_view bytes) {
  // Both ends of a range are in the page's memory: so is what lies between.
  if (bytes.empty()) return 0;
  return bytes.size() + static_cast<unsigned char>(bytes.front()) + static_cast<unsigned char>(bytes.back());
}

std::uint64_t read_leaf(const std::byte* page, Random& random) {
  const LeafView leaf(page);
  std::uint64_t sum = leaf.bytes_used() + leaf.has_overflow() + sum_of(leaf.prefix());
  for (int i = 0; i < 4; ++i) sum += leaf.find(random_bytes(random, between(random, 1, 12))).slot;
  sum += leaf.find(leaf.prefix()).slot + leaf.find(std::string(leaf.prefix()) + "\xff\xff").slot;
  std::string key;
  const std::size_t first = between(random, 0, 7);  // every slot is read, one in eight looked for
  for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
    key.clear();
    leaf.append_key(slot, key);
    if (slot % 8 == first % 8) {
      EXPECT_EQ(leaf.find(key), (Lookup{slot, true}));
    }
    const LeafValue value = leaf.value(slot);
    sum += sum_of(leaf.suffix(slot)) + value.length() + (value.is_run() ? run_end(value.run()) : sum_of(value.bytes()));
  }
  return sum;
}

std::uint64_t read_branch(const std::byte* page, Random& random) {
  const BranchView branch(page);
  std::uint64_t sum = branch.bytes_used() + branch.has_overflow() + branch.level();
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t slot = branch.find_child(random_bytes(random, between(random, 1, 12)));
    EXPECT_LT(slot, branch.count());
    sum += branch.child(slot).crc;
  }
  std::string separator;
  const std::size_t first = between(random, 0, 7);
  for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
    separator.clear();
    branch.append_separator(slot, separator);
    if (slot > 0 && slot % 8 == first % 8) {
      EXPECT_EQ(branch.find_child(separator), slot);
    }
    sum += branch.child(slot).page.value + sum_of(branch.suffix(slot));
  }
  return sum;
}

std::uint64_t read_allocator(const std::byte* page) {
  if (page_type(page) == PageType::bitmap) {
    const BitmapView bitmap(page);
    std::vector<std::uint64_t> words(kBitmapWords);
    bitmap.copy_to(BitmapWords(words));
    return summarize(ConstBitmapWords(words)).free_blocks + bitmap.region() + bitmap.is_free(kRegionBlocks - 1);
  }
  const BitmapParentView parent(page);
  std::uint64_t sum = parent.index();
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) {
    sum += parent.child(slot).child.crc + parent.child(slot).free.free_blocks;
  }
  return sum;
}

std::uint64_t read_all(const std::byte* page, Random& random) {
  switch (page_type(page)) {
    case PageType::leaf: return read_leaf(page, random);
    case PageType::branch: return read_branch(page, random);
    default: return read_allocator(page);
  }
}

// Bytes that decide how the page is read: header, prefix, heads, pointers, offsets, cell leads.
void mutate(PageBytes page, std::size_t used, Random& random) {
  static constexpr std::uint16_t kTelling[] = {0,      1,      2,      15,     16,   17,   20,
                                               0x7fff, 0x8000, 0x8005, 0xffff, 1024, 4095, 4096};
  const std::size_t times = between(random, 1, 3);
  for (std::size_t i = 0; i < times; ++i) {
    const std::size_t limit = between(random, 0, 2) == 0 ? kPageBytes : std::max<std::size_t>(used, 64);
    const std::size_t at = between(random, 0, std::min(limit, kPageBytes) - 2);
    switch (between(random, 0, 6)) {
      case 0: page[at] ^= std::byte{static_cast<std::uint8_t>(1u << between(random, 0, 7))}; break;
      case 1: page[at] = static_cast<std::byte>(random()); break;
      case 2: put(page.data() + at, kTelling[between(random, 0, std::size(kTelling) - 1)]); break;
      case 3: put(page.data() + between(random, 7, 9) * 2, static_cast<std::uint16_t>(between(random, 0, 200))); break;
      case 4:
        put(page.data() + at,
            static_cast<std::uint16_t>(load<std::uint16_t>(page.data() + at) + between(random, 0, 4) - 2));
        break;
      case 5: {
        const std::size_t from = between(random, 0, kPageBytes - 64);
        std::memmove(page.data() + std::min(at, kPageBytes - 64), page.data() + from, between(random, 1, 64));
        break;
      }
      default: std::swap(page[at], page[at + 1]); break;
    }
  }
}

// Makes `rounds` mutants of random pages of one kind. Each is sealed anew, so that only the structure can give it
// away. Returns how many were let through, and read.
std::size_t attack(const std::function<std::size_t(PageBytes, Random&)>& make, PageFamily family, std::size_t rounds) {
  const std::uint64_t seed = seed_or(6);
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Random random(seed);
  PageBuffer original;
  PageBuffer page;
  std::size_t passed = 0;
  std::uint64_t sum = 0;
  std::size_t used = 0;
  for (std::size_t round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    if (round % 100 == 0) used = make(original.bytes(), random);
    std::copy_n(original.data(), kPageBytes, page.data());
    mutate(page.bytes(), used, random);
    PagePointer pointer{kNumber, seal(page.bytes(), kNumber, kBorn), kBorn, 0};
    // The attacker's parent has the right info as well.
    const std::size_t count =
        page_type(page.bytes()) == PageType::leaf ? load<std::uint16_t>(page.data() + kCountAt) : 0;
    for (const bool with_overflow : {false, true}) {
      pointer.info = leaf_info(count, with_overflow);
      if (!verify(page.bytes(), pointer, family).empty()) continue;
      ++passed;
      sum += read_all(page.data(), random);
    }
  }
  EXPECT_NE(sum, 0u);
  return passed;
}

// AddressSanitizer is the judge of whether a page that was let through can be read.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kMutants = 100'000;
#else
constexpr std::size_t kMutants = 15'000;
#endif

TEST(Mutants, OfLeavesAreRefusedOrReadable) {
  const auto make = [](PageBytes page, Random& random) {
    return encode_leaf(cells_of(random_leaf(random, kBorn)), page);
  };
  EXPECT_GT(attack(make, PageFamily::tree, kMutants), kMutants / 100);
}

TEST(Mutants, OfBranchesAreRefusedOrReadable) {
  const auto make = [](PageBytes page, Random& random) {
    const auto level = static_cast<std::uint8_t>(between(random, 1, 3));
    return encode_branch(cells_of(random_branch(random, kBorn, level)), level, page);
  };
  EXPECT_GT(attack(make, PageFamily::tree, kMutants), kMutants / 100);
}

TEST(Mutants, OfBitmapsAreRefusedOrReadable) {
  const auto make = [](PageBytes page, Random& random) {
    std::vector<std::uint64_t> words(kBitmapWords);
    for (std::uint64_t& word : words) word = random();
    encode_bitmap(static_cast<std::uint32_t>(between(random, 0, kMaxRegions - 1)), ConstBitmapWords(words), page);
    return std::size_t{32};
  };
  EXPECT_GT(attack(make, PageFamily::allocator, kMutants / 10), kMutants / 1000);
}

TEST(Mutants, OfBitmapParentsAreRefusedOrReadable) {
  const auto make = [](PageBytes page, Random& random) {
    std::vector<BitmapParentCell> cells(between(random, 0, kBitmapFanout));
    for (BitmapParentCell& cell : cells) cell = {random_child(random, kBorn, false), {100, 10}};
    encode_bitmap_parent(static_cast<std::uint8_t>(between(random, 1, 3)), 0, cells, page);
    return sizeof(layout::BitmapParentHeader) + cells.size() * sizeof(layout::BitmapParentEntry);
  };
  EXPECT_GT(attack(make, PageFamily::allocator, kMutants), kMutants / 100);
}

TEST(Mutants, OfNoiseAreRefused) {
  Random random(seed_or(7));
  PageBuffer page;
  for (int round = 0; round < 2000; ++round) {
    for (std::size_t at = 0; at < kPageBytes; at += 8) put(page.data() + at, static_cast<std::uint64_t>(random()));
    page.data()[offsetof(layout::PageHeader, type)] = static_cast<std::byte>(between(random, 0, 6));
    page.data()[offsetof(layout::PageHeader, level)] = static_cast<std::byte>(between(random, 0, 3));
    const PagePointer pointer{kNumber, seal(page.bytes(), kNumber, kBorn), kBorn, 0};
    EXPECT_NE(verify(page.bytes(), pointer), "");
  }
}

}  // namespace
}  // namespace store::test
