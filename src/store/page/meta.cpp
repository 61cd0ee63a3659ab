#include "store/page/meta.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/page/bitmap_page.hpp"

namespace store {
namespace {

constexpr std::array<std::uint8_t, 8> kMagic = {'s', 't', 'o', 'r', 'e', '\r', '\n', 0x1a};

layout::Pointer to_disk(const PagePointer& pointer) noexcept {
  layout::Pointer raw{};
  put_pointer(reinterpret_cast<std::byte*>(&raw), pointer);
  return raw;
}

PagePointer from_disk(const layout::Pointer& raw) noexcept {
  return load_pointer(reinterpret_cast<const std::byte*>(&raw));
}

Meta fields_of(const layout::MetaPage& raw, Generation generation) noexcept {
  Meta meta;
  std::copy(std::begin(raw.uuid), std::end(raw.uuid), meta.uuid.begin());
  meta.features = raw.features;
  meta.generation = generation;
  meta.incarnation = raw.incarnation;
  meta.tree_root = from_disk(raw.tree_root);
  meta.tree_height = raw.tree_height;
  meta.allocator_root = from_disk(raw.allocator_root);
  meta.allocator_levels = raw.allocator_levels;
  meta.high_water = raw.high_water;
  meta.last_merged = SeqNo(raw.last_merged);
  meta.entries = raw.entries;
  meta.tree_pages = raw.tree_pages;
  meta.overflow_blocks = raw.overflow_blocks;
  meta.lineage = raw.lineage;
  std::copy(std::begin(raw.origin_uuid), std::end(raw.origin_uuid), meta.origin.uuid.begin());
  meta.origin.lineage = raw.origin_lineage;
  meta.origin.generation = Generation(raw.origin_generation);
  meta.origin.tree_root = from_disk(raw.origin_root);
  meta.log_lsn = raw.log_lsn;
  meta.log_offset = raw.log_offset;
  meta.log_previous_crc = raw.log_previous_crc;
  meta.log_segment_count = raw.log_segment_count;
  const std::size_t segments = std::min<std::size_t>(raw.log_segment_count, kMaxLogSegments);
  for (std::size_t i = 0; i < segments; ++i) {
    meta.log_segments[i] = {PageNo(raw.log_segments[i].first), raw.log_segments[i].count};
  }
  return meta;
}

std::string check_root(const char* name, const PagePointer& root, const Meta& meta) {
  if (root.is_null()) return {};
  if (root.page.value < kMetaBlocks || root.page.value >= meta.high_water) {
    return fmt::format("the {} root is in block {}, outside {}..{}", name, root.page.value, kMetaBlocks,
                       meta.high_water);
  }
  if (root.birth > meta.generation) {
    return fmt::format("the {} root is of generation {}, after {}", name, root.birth.value, meta.generation.value);
  }
  return {};
}

std::string check_origin(const Origin& origin) {
  if (!origin.is_set()) return origin == Origin{} ? std::string() : "an origin without a generation";
  if (origin.generation > kMaxGeneration || origin.tree_root.birth > origin.generation) {
    return fmt::format("an origin of generation {} with a root of {}", origin.generation.value,
                       origin.tree_root.birth.value);
  }
  return {};
}

std::string check_fields(const Meta& meta) {
  if (meta.high_water < kMetaBlocks || meta.high_water > kMaxBlocks) {
    return fmt::format("a high-water mark of {}", meta.high_water);
  }
  if (meta.tree_height > kMaxTreeLevel + 1) return fmt::format("a tree of {} levels", meta.tree_height);
  if (meta.tree_root.is_null() != (meta.tree_height == 0)) {
    return fmt::format("a root in block {} of a tree of {} levels", meta.tree_root.page.value, meta.tree_height);
  }
  if (meta.allocator_levels > kMaxBitmapLevel) return fmt::format("an allocator of {} levels", meta.allocator_levels);
  if (std::string wrong = check_root("tree", meta.tree_root, meta); !wrong.empty()) return wrong;
  if (std::string wrong = check_root("allocator", meta.allocator_root, meta); !wrong.empty()) return wrong;
  if (std::string wrong = check_origin(meta.origin); !wrong.empty()) return wrong;
  if (meta.log_segment_count > kMaxLogSegments) return fmt::format("{} log segments", meta.log_segment_count);
  const bool own_device = (meta.features & kFeatureLogDevice) != 0;
  const std::uint64_t begin = own_device ? 1 : kMetaBlocks;
  const std::uint64_t end = own_device ? kMaxBlocks : meta.high_water;
  for (std::size_t i = 0; i < meta.log_segment_count; ++i) {
    const Extent& segment = meta.log_segments[i];
    if (segment.count == 0 || segment.first.value < begin || segment.end() > end) {
      return fmt::format("log segment {} of {} blocks from {}", i, segment.count, segment.first.value);
    }
  }
  if (meta.log_lsn % kPageBytes != 0 || meta.log_offset % kPageBytes != 0) {
    return fmt::format("a log from LSN {} at offset {}, not on a block", meta.log_lsn, meta.log_offset);
  }
  if (meta.log_lsn > kMaxLogLsn) return fmt::format("a log from LSN {}", meta.log_lsn);
  const std::uint64_t first_bytes = meta.log_segment_count == 0 ? 1 : meta.log_segments[0].count * kPageBytes;
  if (meta.log_offset >= first_bytes) return fmt::format("a log that begins at offset {}", meta.log_offset);
  return {};
}

}  // namespace

std::string uuid_text(const Uuid& uuid) {
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

void encode_meta(const Meta& meta, std::uint32_t slot, PageBytes page) noexcept {
  STORE_ASSERT(slot < kMetaSlots);
  STORE_VERIFY(check_fields(meta).empty());
  layout::MetaPage raw{};
  raw.header.type = static_cast<std::uint8_t>(PageType::meta);
  std::copy(kMagic.begin(), kMagic.end(), std::begin(raw.magic));
  raw.format_version = kFormatVersion;
  raw.block_bytes = kPageBytes;
  std::copy(meta.uuid.begin(), meta.uuid.end(), std::begin(raw.uuid));
  raw.features = meta.features;
  raw.incarnation = meta.incarnation;
  raw.tree_root = to_disk(meta.tree_root);
  raw.allocator_root = to_disk(meta.allocator_root);
  raw.tree_height = meta.tree_height;
  raw.allocator_levels = meta.allocator_levels;
  raw.log_segment_count = static_cast<std::uint16_t>(meta.log_segment_count);
  raw.high_water = meta.high_water;
  raw.last_merged = meta.last_merged.value;
  raw.entries = meta.entries;
  raw.tree_pages = meta.tree_pages;
  raw.overflow_blocks = meta.overflow_blocks;
  raw.lineage = meta.lineage;
  std::copy(meta.origin.uuid.begin(), meta.origin.uuid.end(), std::begin(raw.origin_uuid));
  raw.origin_lineage = meta.origin.lineage;
  raw.origin_generation = meta.origin.generation.value;
  raw.origin_root = to_disk(meta.origin.tree_root);
  raw.log_lsn = meta.log_lsn;
  raw.log_offset = meta.log_offset;
  raw.log_previous_crc = meta.log_previous_crc;
  for (std::size_t i = 0; i < meta.log_segment_count; ++i) {
    raw.log_segments[i] = {meta.log_segments[i].first.value, meta.log_segments[i].count};
  }
  std::memcpy(page.data(), &raw, sizeof raw);
  seal(page, meta_block(slot, 0), meta.generation);
}

DecodedMeta decode_meta(ConstPageBytes page, std::uint32_t slot) {
  layout::MetaPage raw;
  std::memcpy(&raw, page.data(), sizeof raw);
  if (!std::equal(kMagic.begin(), kMagic.end(), std::begin(raw.magic))) {
    return {MetaState::not_a_store, "no magic number of a store", {}};
  }
  // CRC before version: a flipped bit must not pass for a newer format.
  const std::uint32_t computed = crc32c(page.subspan(sizeof(std::uint32_t)));
  if (computed != raw.header.crc) {
    return {MetaState::damaged,
            fmt::format("crc: the page says {:#010x}, its bytes give {:#010x}", raw.header.crc, computed),
            {}};
  }
  if (raw.format_version > kFormatVersion) {
    return {MetaState::newer_format,
            fmt::format("format version {}, this program knows up to {}", raw.format_version, kFormatVersion),
            {}};
  }
  if (raw.format_version == 0) return {MetaState::damaged, "structure: format version 0", {}};
  if ((raw.features & ~kKnownFeatures) != 0) {
    return {MetaState::newer_format, fmt::format("features {:#x} unknown here", raw.features & ~kKnownFeatures), {}};
  }
  if (raw.block_bytes != kPageBytes) {
    return {MetaState::newer_format, fmt::format("blocks of {} bytes, not {}", raw.block_bytes, kPageBytes), {}};
  }
  if (page_type(page) != PageType::meta) return {MetaState::damaged, "structure: not of type meta", {}};
  if (page_number(page.data()) != meta_block(slot, 0)) {
    return {MetaState::damaged,
            fmt::format("page number: written for block {}, read from the slot of block {} (a misdirected write)",
                        raw.header.page, meta_block(slot, 0).value),
            {}};
  }
  const Meta meta = fields_of(raw, page_generation(page.data()));
  if (std::string wrong = check_fields(meta); !wrong.empty()) return {MetaState::damaged, "structure: " + wrong, {}};
  return {MetaState::good, {}, meta};
}

}  // namespace store
