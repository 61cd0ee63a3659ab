// The meta page: what it carries comes back, and what is wrong with a block is told apart.
#include "store/page/meta.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "page_samples.hpp"
#include "store/base/crc32c.hpp"

namespace store::test {
namespace {

using testing::HasSubstr;

Meta sample_meta() {
  Meta meta;
  for (std::uint8_t i = 0; i < 16; ++i) meta.uuid[i] = static_cast<std::uint8_t>(0xa0 + i);
  meta.generation = Generation(1000);
  meta.incarnation = 7;
  meta.tree_root = {PageNo(40), 11, Generation(999), branch_info(true)};
  meta.tree_height = 3;
  meta.allocator_root = {PageNo(41), 12, Generation(1000), 0};
  meta.allocator_levels = 1;
  meta.high_water = 5000;
  meta.last_merged = SeqNo(123'456);
  meta.entries = 100;
  meta.tree_pages = 9;
  meta.overflow_blocks = 8;
  meta.lineage = 0x1122334455667788;
  for (std::uint8_t i = 0; i < 16; ++i) meta.origin.uuid[i] = static_cast<std::uint8_t>(0xb0 + i);
  meta.origin.lineage = 0x99aabbccddeeff00;
  meta.origin.generation = Generation(2000);
  meta.origin.tree_root = {PageNo(70), 13, Generation(1999), branch_info(false)};
  meta.log_lsn = 1u << 20;
  meta.log_offset = 4096;
  meta.log_previous_crc = 0x1234567;
  meta.log_segment_count = 2;
  meta.log_segments[0] = {PageNo(100), 16};
  meta.log_segments[1] = {PageNo(4000), 1000};
  return meta;
}

// A copy in slot 0 with some bytes replaced and the CRC made right again.
template <class T>
DecodedMeta decoded_after(std::size_t at, T value) {
  PageBuffer page;
  encode_meta(sample_meta(), 0, page.bytes());
  put(page.data() + at, value);
  put(page.data(), crc32c(ConstPageBytes(page.bytes()).subspan(4)));
  return decode_meta(page.bytes(), 0);
}

TEST(Meta, ComesBackFromEitherSlot) {
  for (std::uint32_t slot = 0; slot < kMetaSlots; ++slot) {
    PageBuffer page;
    encode_meta(sample_meta(), slot, page.bytes());
    const DecodedMeta decoded = decode_meta(page.bytes(), slot);
    ASSERT_EQ(decoded.state, MetaState::good) << decoded.reason;
    EXPECT_EQ(decoded.reason, "");
    EXPECT_EQ(decoded.meta, sample_meta());
    const DecodedMeta elsewhere = decode_meta(page.bytes(), 1 - slot);
    EXPECT_EQ(elsewhere.state, MetaState::damaged);
    EXPECT_THAT(elsewhere.reason, HasSubstr("misdirected"));
  }
}

TEST(Meta, OfAnEmptyStoreAndOfTheLargestOneComeBack) {
  Meta largest = sample_meta();
  largest.generation = kMaxGeneration;
  largest.tree_height = kMaxTreeLevel + 1;
  largest.allocator_levels = 3;
  largest.high_water = kMaxBlocks;
  largest.last_merged = kMaxSeqNo;
  largest.log_lsn = kMaxLogLsn - kMaxLogLsn % kPageBytes;
  largest.log_offset = 0;
  largest.log_segment_count = kMaxLogSegments;
  for (Extent& segment : largest.log_segments) segment = {PageNo(~std::uint32_t{0}), 1};
  for (const Meta& meta : {Meta{}, largest}) {
    PageBuffer page;
    encode_meta(meta, 1, page.bytes());
    const DecodedMeta decoded = decode_meta(page.bytes(), 1);
    ASSERT_EQ(decoded.state, MetaState::good) << decoded.reason;
    EXPECT_EQ(decoded.meta, meta);
  }
}

TEST(Meta, CopiesStandInNeighbouringBlocks) {
  EXPECT_EQ(meta_block(0, 0), PageNo(0));
  EXPECT_EQ(meta_block(0, 1), PageNo(1));
  EXPECT_EQ(meta_block(1, 0), PageNo(2));
  EXPECT_EQ(meta_block(1, 1), PageNo(3));
}

TEST(Meta, TellsSomethingElseFromANewerFormatFromDamage) {
  PageBuffer page;
  std::fill_n(page.data(), kPageBytes, std::byte{0});
  EXPECT_EQ(decode_meta(page.bytes(), 0).state, MetaState::not_a_store);
  EXPECT_EQ(decoded_after(offsetof(layout::MetaPage, magic), 'S').state, MetaState::not_a_store);

  const DecodedMeta version = decoded_after(offsetof(layout::MetaPage, format_version), std::uint32_t{2});
  EXPECT_EQ(version.state, MetaState::newer_format);
  EXPECT_EQ(version.reason, "format version 2, this program knows up to 1");
  const DecodedMeta feature = decoded_after(offsetof(layout::MetaPage, features), std::uint64_t{1} << 40);
  EXPECT_EQ(feature.state, MetaState::newer_format);
  EXPECT_EQ(feature.reason, "features 0x10000000000 unknown here");
  EXPECT_EQ(decoded_after(offsetof(layout::MetaPage, block_bytes), 8192).state, MetaState::newer_format);

  encode_meta(sample_meta(), 0, page.bytes());
  put(page.data() + offsetof(layout::MetaPage, format_version), std::uint32_t{2});  // a flipped bit, not a version
  const DecodedMeta flipped = decode_meta(page.bytes(), 0);
  EXPECT_EQ(flipped.state, MetaState::damaged);
  EXPECT_THAT(flipped.reason, HasSubstr("crc: the page says"));
}

TEST(Meta, FindsEveryFlippedBit) {
  PageBuffer page;
  encode_meta(sample_meta(), 0, page.bytes());
  for (std::size_t bit = 0; bit < 8 * kPageBytes; ++bit) {
    const std::byte mask{static_cast<std::uint8_t>(1u << (bit % 8))};
    page.data()[bit / 8] ^= mask;
    ASSERT_NE(decode_meta(page.bytes(), 0).state, MetaState::good) << bit;
    page.data()[bit / 8] ^= mask;
  }
}

TEST(Meta, RefusesContentThatCannotBe) {
  const auto reason = [](std::size_t at, auto value) {
    const DecodedMeta decoded = decoded_after(at, value);
    EXPECT_EQ(decoded.state, MetaState::damaged);
    return decoded.reason;
  };
  using M = layout::MetaPage;
  constexpr std::size_t kSegmentsAt = offsetof(M, log_segments);
  EXPECT_THAT(reason(offsetof(M, format_version), 0), HasSubstr("format version 0"));
  EXPECT_THAT(reason(offsetof(layout::PageHeader, type), std::uint8_t{1}), HasSubstr("not of type meta"));
  EXPECT_THAT(reason(offsetof(M, high_water), std::uint64_t{3}), HasSubstr("a high-water mark of 3"));
  EXPECT_THAT(reason(offsetof(M, high_water), kMaxBlocks + 1), HasSubstr("a high-water mark of 4294967297"));
  EXPECT_THAT(reason(offsetof(M, tree_height), std::uint8_t{0}), HasSubstr("a root in block 40 of a tree of 0 levels"));
  EXPECT_THAT(reason(offsetof(M, tree_height), std::uint8_t{33}), HasSubstr("a tree of 33 levels"));
  EXPECT_THAT(reason(offsetof(M, tree_root), 0), HasSubstr("a root in block 0 of a tree of 3 levels"));
  EXPECT_THAT(reason(offsetof(M, tree_root), 3), HasSubstr("the tree root is in block 3, outside 4..5000"));
  EXPECT_THAT(reason(offsetof(M, tree_root), 5000), HasSubstr("the tree root is in block 5000"));
  EXPECT_THAT(reason(offsetof(M, tree_root) + 8, std::uint16_t{1001}),
              HasSubstr("the tree root is of generation 1001"));
  EXPECT_THAT(reason(offsetof(M, allocator_root), 5000), HasSubstr("the allocator root is in block 5000"));
  EXPECT_THAT(reason(offsetof(M, allocator_levels), std::uint8_t{4}), HasSubstr("an allocator of 4 levels"));
  EXPECT_THAT(reason(offsetof(M, origin_generation), std::uint64_t{0}), HasSubstr("an origin without a generation"));
  EXPECT_THAT(reason(offsetof(M, origin_generation), std::uint64_t{1998}), HasSubstr("an origin of generation 1998"));
  EXPECT_THAT(reason(offsetof(M, origin_generation), std::uint64_t{1} << 48),
              HasSubstr("an origin of generation 281474"));
  EXPECT_THAT(reason(offsetof(M, log_segment_count), std::uint16_t{129}), HasSubstr("129 log segments"));
  EXPECT_THAT(reason(offsetof(M, log_segment_count), std::uint16_t{3}), HasSubstr("log segment 2 of 0 blocks"));
  EXPECT_THAT(reason(offsetof(M, log_lsn), std::uint64_t{4097}), HasSubstr("a log from LSN 4097"));
  EXPECT_THAT(reason(offsetof(M, log_offset), std::uint64_t{5000}), HasSubstr("at offset 5000, not on a block"));
  EXPECT_THAT(reason(offsetof(M, log_offset), std::uint64_t{16 * 4096}),
              HasSubstr("a log that begins at offset 65536"));
  EXPECT_THAT(reason(kSegmentsAt, 2), HasSubstr("log segment 0 of 16 blocks from 2"));
  EXPECT_THAT(reason(kSegmentsAt + 12, 1001), HasSubstr("log segment 1 of 1001 blocks from 4000"));
}

TEST(Meta, SurvivesAnyBytes) {
  Random random(seed_or(8));
  std::size_t good = 0;
  for (int round = 0; round < 20'000; ++round) {
    PageBuffer page;
    encode_meta(sample_meta(), 0, page.bytes());
    for (std::size_t i = between(random, 1, 3); i > 0; --i) {
      page.data()[between(random, 0, 1) == 0 ? between(random, 24, 216) : between(random, 24, kPageBytes - 1)] =
          static_cast<std::byte>(random());
    }
    put(page.data(), crc32c(ConstPageBytes(page.bytes()).subspan(4)));
    const DecodedMeta decoded = decode_meta(page.bytes(), 0);
    EXPECT_EQ(decoded.reason.empty(), decoded.state == MetaState::good);
    if (decoded.state != MetaState::good) continue;
    ++good;
    PageBuffer again;
    encode_meta(decoded.meta, 0, again.bytes());
    ASSERT_EQ(decode_meta(again.bytes(), 0).meta, decoded.meta);
  }
  EXPECT_GT(good, 100u);
}

}  // namespace
}  // namespace store::test
