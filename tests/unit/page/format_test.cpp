// The format does not change by accident: the tables of docs/on-disk-format.md are held to the structs that the code
// reads and writes through, and an image of each kind of page, made once and kept in golden/, is held to what the
// encoders write now.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>

#include "page_samples.hpp"

namespace store::test {
namespace {

struct Field {
  std::size_t offset;
  std::size_t bytes;
  std::string name;
  bool operator==(const Field&) const = default;
};
void PrintTo(const Field& field, std::ostream* out) { *out << field.offset << "+" << field.bytes << " " << field.name; }

struct Table {
  std::size_t bytes = 0;
  std::vector<Field> fields;
};

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

std::map<std::string, Table> tables_of_the_code() {
  std::map<std::string, Table> tables;
#define STORE_COLLECT(type, field, offset, size) \
  tables[#type].bytes = sizeof(layout::type); \
  tables[#type].fields.push_back({offset, size, #field});
  STORE_LAYOUT_FIELDS(STORE_COLLECT)
#undef STORE_COLLECT
  return tables;
}

// A table belongs to the last "(`Struct`, N bytes" before it.
std::map<std::string, Table> tables_of_the_docs() {
  std::map<std::string, Table> tables;
  std::string name;
  for (const std::string& line : lines_of(STORE_FORMAT_DOCUMENT)) {
    char word[64];
    std::size_t offset = 0;
    std::size_t bytes = 0;
    const std::size_t title = line.find("(`");
    if (title != std::string::npos &&
        std::sscanf(line.c_str() + title, "(`%63[A-Za-z]`, %zu bytes", word, &bytes) == 2) {
      name = word;
      tables[name].bytes = bytes;
    } else if (std::sscanf(line.c_str(), "| %zu | %zu | `%63[a-z0-9_]` |", &offset, &bytes, word) == 3) {
      tables[name].fields.push_back({offset, bytes, word});
    }
  }
  return tables;
}

TEST(Format, TablesOfTheDocumentAreThoseOfTheCode) {
  const auto code = tables_of_the_code();
  const auto docs = tables_of_the_docs();
  EXPECT_EQ(code.size(), docs.size());
  for (const auto& [name, table] : code) {
    ASSERT_TRUE(docs.contains(name)) << name << " has no table";
    EXPECT_EQ(docs.at(name).bytes, table.bytes) << name;
    EXPECT_EQ(docs.at(name).fields, table.fields) << name;
  }
}

TEST(Format, FieldsFollowEachOtherWithoutGaps) {
  for (const auto& [name, table] : tables_of_the_code()) {
    std::size_t at = 0;
    for (const Field& field : table.fields) {
      EXPECT_EQ(field.offset, at) << name << "." << field.name;
      at += field.bytes;
    }
    EXPECT_EQ(at, table.bytes) << name;
  }
}

// A line for each 16 bytes that are not all zero: "0010: 00 01 ...".
std::string dump(ConstPageBytes page) {
  std::string text;
  for (std::size_t at = 0; at < kPageBytes; at += 16) {
    const auto line = page.subspan(at, 16);
    if (std::all_of(line.begin(), line.end(), [](std::byte b) { return b == std::byte{0}; })) continue;
    text += fmt::format("{:04x}:", at);
    for (const std::byte b : line) text += fmt::format(" {:02x}", static_cast<unsigned>(b));
    text += '\n';
  }
  return text;
}

void undump(const std::vector<std::string>& lines, PageBytes page) {
  std::fill(page.begin(), page.end(), std::byte{0});
  for (const std::string& line : lines) {
    std::istringstream in(line);
    std::size_t at = 0;
    char colon = 0;
    in >> std::hex >> at >> colon;
    for (unsigned value = 0; in >> value; ++at) page[at] = static_cast<std::byte>(value);
  }
}

// Holds an encoded page to its image, and brings the image itself into `page`, which the caller then reads: what an
// earlier version wrote must stay readable. A wanted change is a new format version with images of its own.
void compare_with_golden(const std::string& name, PageBuffer& page) {
  const std::vector<std::string> lines = lines_of(std::string(STORE_GOLDEN_DIR) + "/" + name + ".hex");
  std::string image;
  for (const std::string& line : lines) image += line + '\n';
  EXPECT_EQ(dump(page.bytes()), image) << name;
  undump(lines, page.bytes());
}

const OverflowRef kRun{PageNo(0x11223344), 0x12345678, 0xcafef00d, Generation(0x0a0b0c0d0e)};

TEST(Golden, Leaf) {
  PageBuffer page;
  encode_leaf(std::vector<LeafCell>{{"apple", LeafValue("red")},
                                    {std::string_view("apple\0", 6), LeafValue("")},
                                    {"apricot", LeafValue(kRun)},
                                    {"april", LeafValue("first")}},
              page.bytes());
  PagePointer pointer = seal_page(page.bytes(), PageNo(0x99), Generation(0x010203040506));
  EXPECT_EQ(pointer.crc, 0x46800ebfu);
  compare_with_golden("leaf", page);
  ASSERT_EQ(verify(page.bytes(), pointer), "");
  const LeafView leaf(page.data());
  EXPECT_EQ(leaf.value(leaf.find("apple").slot).bytes(), "red");
  EXPECT_EQ(leaf.value(leaf.find("apricot").slot).reference(), kRun);
  EXPECT_FALSE(leaf.value(leaf.find("apricot").slot).run().is_scattered());
  EXPECT_EQ(leaf.find("b"), (Lookup{4, false}));
}

TEST(Golden, LeafWithAScatteredRun) {
  OverflowRun run(OverflowRef{PageNo(0x11223344), 9'000, 0xcafef00d, Generation(0x0a0b0c0d0e)});
  run.other_count = 2;
  run.others = {0x00334455, 0x11223345};
  PageBuffer page;
  encode_leaf(std::vector<LeafCell>{{"apple", LeafValue("red")}, {"apricot", LeafValue(run, RunOthers(run).view())}},
              page.bytes());
  const PagePointer pointer = seal_page(page.bytes(), PageNo(0x99), Generation(0x010203040506));
  compare_with_golden("leaf_scattered", page);
  ASSERT_EQ(verify(page.bytes(), pointer), "");
  const OverflowRun read = LeafView(page.data()).value(1).run();
  EXPECT_EQ(static_cast<const OverflowRef&>(read), run);
  EXPECT_EQ(read.other_count, 2u);
  EXPECT_EQ(read.others, run.others);
}

TEST(Golden, Branch) {
  const PagePointer child{PageNo(0x55667788), 0xdeadbeef, Generation(0x010203040505), leaf_info(33, false)};
  const PagePointer other{PageNo(5), 6, Generation(7), leaf_info(1, true)};
  PageBuffer page;
  encode_branch(std::vector<BranchCell>{{"", child}, {"mango", other}, {"melon", child}, {"mush", other}}, 1,
                page.bytes());
  PagePointer pointer = seal_page(page.bytes(), PageNo(0x99), Generation(0x010203040506));
  compare_with_golden("branch", page);
  ASSERT_EQ(verify(page.bytes(), pointer), "");
  const BranchView branch(page.data());
  EXPECT_EQ(branch.child(branch.find_child("apple")), child);
  EXPECT_EQ(branch.find_child("melon"), 2u);
  EXPECT_EQ(branch.child(3), other);
}

TEST(Golden, Bitmap) {
  std::vector<std::uint64_t> words(kBitmapWords, 0);
  words[0] = 0xfffffffffffffff0;
  words[kBitmapWords - 1] = 1;
  PageBuffer page;
  encode_bitmap(0x1234, ConstBitmapWords(words), page.bytes());
  PagePointer pointer = seal_page(page.bytes(), PageNo(0x99), Generation(0x010203040506));
  compare_with_golden("bitmap", page);
  ASSERT_EQ(verify(page.bytes(), pointer, PageFamily::allocator), "");
  EXPECT_FALSE(BitmapView(page.data()).is_free(3));
  EXPECT_TRUE(BitmapView(page.data()).is_free(4));
}

TEST(Golden, BitmapParent) {
  const PagePointer child{PageNo(0x55667788), 0xdeadbeef, Generation(0x010203040505), 0};
  PageBuffer page;
  encode_bitmap_parent(1, 0x123, std::vector<BitmapParentCell>{{child, {31'744, 31'744}}, {child, {100, 7}}},
                       page.bytes());
  PagePointer pointer = seal_page(page.bytes(), PageNo(0x99), Generation(0x010203040506));
  compare_with_golden("bitmap_parent", page);
  ASSERT_EQ(verify(page.bytes(), pointer, PageFamily::allocator), "");
  EXPECT_EQ(BitmapParentView(page.data()).child(1).free, (FreeSummary{100, 7}));
}

TEST(Golden, Meta) {
  Meta meta;
  for (std::uint8_t i = 0; i < 16; ++i) meta.uuid[i] = static_cast<std::uint8_t>(0xf0 + i);
  meta.generation = Generation(0x010203040506);
  meta.incarnation = 0x1111;
  meta.tree_root = {PageNo(0x55667788), 0xdeadbeef, Generation(0x010203040505), branch_info(true)};
  meta.tree_height = 4;
  meta.allocator_root = {PageNo(5), 6, Generation(7), 0};
  meta.allocator_levels = 2;
  meta.high_water = 0x80000000;
  meta.last_merged = SeqNo(0x2222);
  meta.entries = 0x3333;
  meta.tree_pages = 0x4444;
  meta.overflow_blocks = 0x5555;
  meta.lineage = 0x9999;
  for (std::uint8_t i = 0; i < 16; ++i) meta.origin.uuid[i] = static_cast<std::uint8_t>(0xe0 + i);
  meta.origin.lineage = 0xaaaa;
  meta.origin.generation = Generation(0x060504030201);
  meta.origin.tree_root = {PageNo(8), 9, Generation(0x060504030200), branch_info(false)};
  meta.log_lsn = 0x6666000;
  meta.log_previous_crc = 0x8888;
  meta.log_offset = 0x7000;
  meta.log_segment_count = 2;
  meta.log_segments[0] = {PageNo(0x100), 0x10};
  meta.log_segments[1] = {PageNo(0x200), 0x20};
  PageBuffer page;
  encode_meta(meta, 1, page.bytes());
  compare_with_golden("meta", page);
  EXPECT_EQ(decode_meta(page.bytes(), 1).meta, meta);
}

// The example of the document is what the encoder writes, but for the CRC, which it leaves open.
TEST(Format, ExampleOfTheDocumentIsRight) {
  PageBuffer page;
  encode_leaf(std::vector<LeafCell>{{"apple", LeafValue("red")}, {"apricot", LeafValue("orange")}}, page.bytes());
  seal(page.bytes(), PageNo(9), Generation(5));
  std::size_t compared = 0;
  for (const std::string& line : lines_of(STORE_FORMAT_DOCUMENT)) {
    std::size_t at = 0;
    int end = 0;
    if (std::sscanf(line.c_str(), " %4zx  %n", &at, &end) != 1 || end != 7) continue;
    std::istringstream bytes(line.substr(7, 48));
    for (std::string byte; bytes >> byte; ++at) {
      if (byte == "..") continue;
      EXPECT_EQ(fmt::format("{:02x}", static_cast<unsigned>(page.data()[at])), byte) << "at " << at;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 60u);
}

}  // namespace
}  // namespace store::test
