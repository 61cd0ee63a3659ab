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

// The start of a log group. Behind it: fragments, each with its header.
struct LogGroupHeader {
  std::uint32_t crc;
  std::uint32_t bytes;
  std::uint8_t magic[4];
  std::uint32_t previous_crc;
  std::uint64_t lsn;
  std::uint64_t durable_lsn;
  std::uint64_t durable_generation;
  std::uint64_t incarnation;
  std::uint64_t store_id;
  std::uint64_t reserved;
};

// The first block of a log device of its own; zeros behind it.
struct LogDeviceHeader {
  std::uint32_t crc;
  std::uint32_t format_version;
  std::uint8_t magic[8];
  std::uint8_t uuid[16];
};

struct LogFragmentHeader {
  std::uint32_t bytes;
  std::uint32_t kind;
  std::uint32_t record_crc;
};

// The start of a log record. Behind it: entries, each a header, its key and its value.
struct LogRecordHeader {
  std::uint64_t first_seq;
  std::uint32_t entries;
  std::uint32_t reserved;
};

struct LogEntryHeader {
  std::uint8_t kind;
  std::uint8_t reserved;
  std::uint16_t key_bytes;
  std::uint32_t value_bytes;
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
  std::uint32_t log_previous_crc;
  std::uint64_t high_water;
  std::uint64_t last_merged;
  std::uint64_t entries;
  std::uint64_t tree_pages;
  std::uint64_t overflow_blocks;
  std::uint64_t log_lsn;
  std::uint64_t log_offset;
  std::uint64_t lineage;
  std::uint8_t origin_uuid[16];
  std::uint64_t origin_lineage;
  std::uint64_t origin_generation;
  Pointer origin_root;
  std::uint8_t reserved_1[808];
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
  X(LogGroupHeader, crc, 0, 4)                     \
  X(LogGroupHeader, bytes, 4, 4)                   \
  X(LogGroupHeader, magic, 8, 4)                   \
  X(LogGroupHeader, previous_crc, 12, 4)           \
  X(LogGroupHeader, lsn, 16, 8)                    \
  X(LogGroupHeader, durable_lsn, 24, 8)            \
  X(LogGroupHeader, durable_generation, 32, 8)     \
  X(LogGroupHeader, incarnation, 40, 8)            \
  X(LogGroupHeader, store_id, 48, 8)               \
  X(LogGroupHeader, reserved, 56, 8)               \
  X(LogDeviceHeader, crc, 0, 4)                    \
  X(LogDeviceHeader, format_version, 4, 4)         \
  X(LogDeviceHeader, magic, 8, 8)                  \
  X(LogDeviceHeader, uuid, 16, 16)                 \
  X(LogFragmentHeader, bytes, 0, 4)                \
  X(LogFragmentHeader, kind, 4, 4)                 \
  X(LogFragmentHeader, record_crc, 8, 4)           \
  X(LogRecordHeader, first_seq, 0, 8)              \
  X(LogRecordHeader, entries, 8, 4)                \
  X(LogRecordHeader, reserved, 12, 4)              \
  X(LogEntryHeader, kind, 0, 1)                    \
  X(LogEntryHeader, reserved, 1, 1)                \
  X(LogEntryHeader, key_bytes, 2, 2)               \
  X(LogEntryHeader, value_bytes, 4, 4)             \
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
  X(MetaPage, log_previous_crc, 100, 4)            \
  X(MetaPage, high_water, 104, 8)                  \
  X(MetaPage, last_merged, 112, 8)                 \
  X(MetaPage, entries, 120, 8)                     \
  X(MetaPage, tree_pages, 128, 8)                  \
  X(MetaPage, overflow_blocks, 136, 8)             \
  X(MetaPage, log_lsn, 144, 8)                     \
  X(MetaPage, log_offset, 152, 8)                  \
  X(MetaPage, lineage, 160, 8)                     \
  X(MetaPage, origin_uuid, 168, 16)                \
  X(MetaPage, origin_lineage, 184, 8)              \
  X(MetaPage, origin_generation, 192, 8)           \
  X(MetaPage, origin_root, 200, 16)                \
  X(MetaPage, reserved_1, 216, 808)                \
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
static_assert(sizeof(LogGroupHeader) == 64 && sizeof(LogFragmentHeader) == 12 && sizeof(LogRecordHeader) == 16);
static_assert(sizeof(LogEntryHeader) == 8 && sizeof(LogDeviceHeader) == 32);

}  // namespace store::layout
