// The byte layout of every fixed part of a block, as structs whose fields lie where the format puts them. All code
// that touches a page takes its offsets from here. STORE_LAYOUT_FIELDS is the one list of (struct, field, offset,
// bytes): the static_asserts below hold the structs to it, and a test holds the tables of docs/on-disk-format.md to
// it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "store/base/units.hpp"

namespace store::layout {

struct PageHeader {
  std::uint32_t crc;
  std::uint32_t page;
  std::uint8_t generation[6];
  std::uint8_t type;
  std::uint8_t level;
};

struct Pointer {
  std::uint32_t page;
  std::uint32_t crc;
  std::uint8_t birth[6];
  std::uint16_t info;
};

// The start of a leaf and of a branch. Behind it: prefix, heads u32[count], offsets u16[count + 1], cells.
struct SlottedHeader {
  PageHeader header;
  std::uint16_t count;
  std::uint16_t prefix_bytes;
};

struct OverflowReference {
  std::uint32_t first;
  std::uint32_t crc;
  std::uint8_t birth[6];
  std::uint8_t length[6];
};

struct BitmapHeader {
  PageHeader header;
  std::uint32_t region;
  std::uint8_t reserved[108];
};

struct BitmapParentHeader {
  PageHeader header;
  std::uint32_t index;
  std::uint32_t count;
  std::uint8_t reserved[40];
};

struct BitmapParentEntry {
  Pointer child;
  std::uint32_t free_blocks;
  std::uint32_t longest_run;
};

struct LogSegment {
  std::uint32_t first;
  std::uint32_t count;
};

struct MetaPage {
  PageHeader header;
  std::uint8_t magic[8];
  std::uint32_t format_version;
  std::uint32_t block_bytes;
  std::uint8_t uuid[16];
  std::uint64_t features;
  std::uint64_t incarnation;
  Pointer tree_root;
  Pointer allocator_root;
  std::uint8_t tree_height;
  std::uint8_t allocator_levels;
  std::uint16_t log_segment_count;
  std::uint32_t reserved_0;
  std::uint64_t high_water;
  std::uint64_t last_merged;
  std::uint64_t entries;
  std::uint64_t tree_pages;
  std::uint64_t overflow_blocks;
  std::uint64_t log_lsn;
  std::uint64_t log_offset;
  std::uint8_t reserved_1[864];
  LogSegment log_segments[128];
  std::uint8_t reserved_2[2048];
};

// clang-format off
#define STORE_LAYOUT_FIELDS(X)                     \
  X(PageHeader, crc, 0, 4)                         \
  X(PageHeader, page, 4, 4)                        \
  X(PageHeader, generation, 8, 6)                  \
  X(PageHeader, type, 14, 1)                       \
  X(PageHeader, level, 15, 1)                      \
  X(Pointer, page, 0, 4)                           \
  X(Pointer, crc, 4, 4)                            \
  X(Pointer, birth, 8, 6)                          \
  X(Pointer, info, 14, 2)                          \
  X(SlottedHeader, header, 0, 16)                  \
  X(SlottedHeader, count, 16, 2)                   \
  X(SlottedHeader, prefix_bytes, 18, 2)            \
  X(OverflowReference, first, 0, 4)                \
  X(OverflowReference, crc, 4, 4)                  \
  X(OverflowReference, birth, 8, 6)                \
  X(OverflowReference, length, 14, 6)              \
  X(BitmapHeader, header, 0, 16)                   \
  X(BitmapHeader, region, 16, 4)                   \
  X(BitmapHeader, reserved, 20, 108)               \
  X(BitmapParentHeader, header, 0, 16)             \
  X(BitmapParentHeader, index, 16, 4)              \
  X(BitmapParentHeader, count, 20, 4)              \
  X(BitmapParentHeader, reserved, 24, 40)          \
  X(BitmapParentEntry, child, 0, 16)               \
  X(BitmapParentEntry, free_blocks, 16, 4)         \
  X(BitmapParentEntry, longest_run, 20, 4)         \
  X(LogSegment, first, 0, 4)                       \
  X(LogSegment, count, 4, 4)                       \
  X(MetaPage, header, 0, 16)                       \
  X(MetaPage, magic, 16, 8)                        \
  X(MetaPage, format_version, 24, 4)               \
  X(MetaPage, block_bytes, 28, 4)                  \
  X(MetaPage, uuid, 32, 16)                        \
  X(MetaPage, features, 48, 8)                     \
  X(MetaPage, incarnation, 56, 8)                  \
  X(MetaPage, tree_root, 64, 16)                   \
  X(MetaPage, allocator_root, 80, 16)              \
  X(MetaPage, tree_height, 96, 1)                  \
  X(MetaPage, allocator_levels, 97, 1)             \
  X(MetaPage, log_segment_count, 98, 2)            \
  X(MetaPage, reserved_0, 100, 4)                  \
  X(MetaPage, high_water, 104, 8)                  \
  X(MetaPage, last_merged, 112, 8)                 \
  X(MetaPage, entries, 120, 8)                     \
  X(MetaPage, tree_pages, 128, 8)                  \
  X(MetaPage, overflow_blocks, 136, 8)             \
  X(MetaPage, log_lsn, 144, 8)                     \
  X(MetaPage, log_offset, 152, 8)                  \
  X(MetaPage, reserved_1, 160, 864)                \
  X(MetaPage, log_segments, 1024, 1024)            \
  X(MetaPage, reserved_2, 2048, 2048)
// clang-format on

#define STORE_LAYOUT_CHECK(type, field, offset, bytes) \
  static_assert(offsetof(type, field) == (offset) && sizeof(type::field) == (bytes), #type "." #field);
STORE_LAYOUT_FIELDS(STORE_LAYOUT_CHECK)
#undef STORE_LAYOUT_CHECK

static_assert(sizeof(PageHeader) == 16 && sizeof(Pointer) == 16 && sizeof(SlottedHeader) == 20);
static_assert(sizeof(OverflowReference) == 20);
static_assert(sizeof(BitmapHeader) == 128 && sizeof(BitmapParentHeader) == 64 && sizeof(BitmapParentEntry) == 24);
static_assert(sizeof(LogSegment) == 8 && sizeof(MetaPage) == kPageBytes);

}  // namespace store::layout
