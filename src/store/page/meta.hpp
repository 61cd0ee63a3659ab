// The meta page: the one place that names a whole state of the store. Blocks 0..3 are two slots of two identical
// copies; a commit writes both copies of the older slot, so that the newer state stays whole until the next one is
// durable. A copy's header carries the first block of its slot as page number, which makes the copies equal byte for
// byte. Magic, version and CRC stay where they are in every future version. Layout: docs/on-disk-format.md, "Meta
// page".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "store/base/ids.hpp"
#include "store/page/header.hpp"
#include "store/page/pointer.hpp"

namespace store {

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint64_t kFeatureLogDevice = 1;  // the log's segments lie on a device of their own
inline constexpr std::uint64_t kKnownFeatures = kFeatureLogDevice;
inline constexpr std::uint32_t kMetaSlots = 2;
inline constexpr std::uint32_t kMetaCopies = 2;
inline constexpr std::uint32_t kMetaBlocks = kMetaSlots * kMetaCopies;  // the first block that may hold anything else
inline constexpr std::size_t kMaxLogSegments = 128;
inline constexpr std::uint64_t kMaxLogLsn = std::uint64_t{1}
                                            << 63;  // replay begins before it; what follows cannot run over

// The block of a copy of a slot.
constexpr PageNo meta_block(std::uint32_t slot, std::uint32_t copy) noexcept {
  return PageNo(slot * kMetaCopies + copy);
}

using Uuid = std::array<std::uint8_t, 16>;

// As RFC 4122 writes it.
std::string uuid_text(const Uuid& uuid);

// Which state of another store this one is a copy of.
struct Origin {
  Uuid uuid{};
  std::uint64_t lineage = 0;
  Generation generation;  // 0: of none
  PagePointer tree_root;  // there, in that generation

  bool is_set() const noexcept { return generation != Generation(); }
  bool operator==(const Origin&) const = default;
};

struct Meta {
  Uuid uuid{};
  std::uint64_t features = 0;     // what a reader must know to read the rest; an unknown bit is a newer format
  Generation generation;          // of the committed state
  std::uint64_t incarnation = 0;  // counts writable opens
  PagePointer tree_root;          // null when the store is empty
  std::uint8_t tree_height = 0;   // levels, leaves included; 0 when the store is empty
  PagePointer allocator_root;
  std::uint8_t allocator_levels = 0;       // levels of parents above the bitmaps: the root's level
  std::uint64_t high_water = kMetaBlocks;  // from here on every block is free
  SeqNo last_merged;                       // every write up to here is in the tree
  std::uint64_t entries = 0;
  std::uint64_t tree_pages = 0;
  std::uint64_t overflow_blocks = 0;
  std::uint64_t lineage = 0;           // another one after each loss of commits; 0 before the first
  Origin origin;                       // as long as the entries are the copy's
  std::uint64_t log_lsn = 0;           // where replay begins
  std::uint32_t log_previous_crc = 0;  // of the group before it
  std::uint64_t log_offset = 0;        // where that is, in bytes into the segments laid end to end
  std::uint32_t log_segment_count = 0;
  std::array<Extent, kMaxLogSegments> log_segments{};

  bool operator==(const Meta&) const = default;
};

enum class MetaState : std::uint8_t {
  good,
  not_a_store,   // no magic: something else, or nothing
  newer_format,  // intact, but of a later version or with features unknown here
  damaged,       // CRC, place or content is wrong
};

struct DecodedMeta {
  MetaState state = MetaState::not_a_store;
  std::string reason;  // empty when good
  Meta meta;           // meaningful when good
};

// Encodes and seals one copy; both copies of a slot are the same bytes. Requires: slot < kMetaSlots, fields within
// limits.
void encode_meta(const Meta& meta, std::uint32_t slot, PageBytes page) noexcept;

// Reads one copy found in a block of `slot`, whatever the bytes. A good meta has its pointers and segments between
// kMetaBlocks and high_water, births not after its generation, a root exactly when it has a height, and an origin that is
// whole or not there.
DecodedMeta decode_meta(ConstPageBytes page, std::uint32_t slot);

}  // namespace store
