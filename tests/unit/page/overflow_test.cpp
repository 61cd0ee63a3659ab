// Overflow runs: sizes at the edges, whole values and parts verified, every damage found.
#include "store/page/overflow.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "page_samples.hpp"
#include "store/base/crc32c.hpp"

namespace store::test {
namespace {

constexpr std::uint64_t kChunk = kCrcChunkBytes;

struct SealedRun {
  std::vector<std::byte> bytes;
  OverflowRef ref;
};

SealedRun make_run(std::uint64_t length) {
  SealedRun run;
  run.bytes.assign(run_blocks(length) * kPageBytes, std::byte{0xa5});
  for (std::size_t i = 0; i < length; ++i) run.bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
  run.ref = {PageNo(50), length, seal_run(run.bytes, length), Generation(1)};
  return run;
}

TEST(Overflow, RunsAreAsLongAsValueAndTableNeed) {
  EXPECT_EQ(run_blocks(1025), 1u);
  EXPECT_EQ(run_blocks(4096), 1u);
  EXPECT_EQ(run_blocks(4097), 2u);
  EXPECT_EQ(table_bytes(kChunk), 0u);
  EXPECT_EQ(run_blocks(kChunk), 16u);
  EXPECT_EQ(table_bytes(kChunk + 1), 8u);
  EXPECT_EQ(run_blocks(kChunk + 1), 17u);
  EXPECT_EQ(table_offset(kChunk + 1), 17 * kPageBytes - 8);
  EXPECT_EQ(run_blocks(17 * kPageBytes - 8), 17u);
  EXPECT_EQ(run_blocks(17 * kPageBytes - 7), 18u) << "the table no longer fits behind the value";
  EXPECT_EQ(table_bytes(kMaxValueBytes), 65'536u);
  EXPECT_EQ(run_blocks(kMaxValueBytes), 262'144u + 16u);
  EXPECT_EQ(run_extent({PageNo(9), 4097, 0, {}}), (Extent{PageNo(9), 2}));
}

TEST(Overflow, SealedRunsVerifyAndEndInZerosOrTheTable) {
  for (const std::uint64_t length : {std::uint64_t{1}, std::uint64_t{1025}, std::uint64_t{4096}, kChunk, kChunk + 1,
                                     2 * kChunk, std::uint64_t{17 * kPageBytes - 8}, 3 * kChunk - 1}) {
    const SealedRun run = make_run(length);
    EXPECT_EQ(verify_run(run.bytes, run.ref), "") << length;
    const std::size_t table = has_crc_table(length) ? table_offset(length) : run.bytes.size();
    EXPECT_TRUE(std::all_of(run.bytes.begin() + static_cast<std::ptrdiff_t>(length),
                            run.bytes.begin() + static_cast<std::ptrdiff_t>(table),
                            [](std::byte b) { return b == std::byte{0}; }))
        << length;
    std::vector<std::byte> apart(table_bytes(length));
    if (!apart.empty()) {
      EXPECT_EQ(build_crc_table(std::span(run.bytes).first(length), apart), run.ref.crc);
    }
  }
}

TEST(Overflow, FindsDamageInValueAndTable) {
  for (const std::uint64_t length : {std::uint64_t{5000}, 2 * kChunk + 5}) {
    SealedRun run = make_run(length);
    std::vector<std::size_t> places = {0, 1, static_cast<std::size_t>(length / 2),
                                       static_cast<std::size_t>(length - 1)};
    if (has_crc_table(length))
      places.insert(places.end(), {static_cast<std::size_t>(table_offset(length)), run.bytes.size() - 1});
    for (const std::size_t at : places) {
      run.bytes[at] ^= std::byte{4};
      EXPECT_THAT(verify_run(run.bytes, run.ref), testing::HasSubstr("of the run at block 50 gives")) << at;
      run.bytes[at] ^= std::byte{4};
    }
    ++run.ref.crc;
    EXPECT_NE(verify_run(run.bytes, run.ref), "");
  }
}

TEST(Overflow, PartsCoverWhatIsAskedInWholeChunks) {
  const auto part = [](std::uint64_t length, std::uint64_t offset, std::uint64_t bytes) {
    const RunPart p = covering_part(length, offset, bytes);
    return std::pair(p.offset, p.bytes);
  };
  const std::uint64_t length = 3 * kChunk + 10;
  EXPECT_EQ(part(length, 0, 1), std::pair(0ul, kChunk));
  EXPECT_EQ(part(length, kChunk - 1, 1), std::pair(0ul, kChunk));
  EXPECT_EQ(part(length, kChunk - 1, 2), std::pair(0ul, 2 * kChunk));
  EXPECT_EQ(part(length, kChunk, kChunk), std::pair(kChunk, kChunk));
  EXPECT_EQ(part(length, 3 * kChunk, 1), std::pair(3 * kChunk, 10ul));
  EXPECT_EQ(part(length, 2 * kChunk + 1, ~0ul), std::pair(2 * kChunk, kChunk + 10));
  EXPECT_EQ(part(length, length, 1).second, 0u);
  EXPECT_EQ(part(length, 5, 0).second, 0u);
  EXPECT_EQ(part(5000, 4999, 1), std::pair(0ul, 5000ul)) << "without a table only the whole value can be verified";
}

TEST(Overflow, PartsVerifyByThemselves) {
  const std::uint64_t length = 3 * kChunk + 10;
  SealedRun run = make_run(length);
  const auto table = std::span<const std::byte>(run.bytes).last(table_bytes(length));
  ASSERT_EQ(verify_crc_table(table, run.ref), "");
  Random random(seed_or(1));
  const std::size_t damaged = 2 * kChunk + 77;
  run.bytes[damaged] ^= std::byte{1};
  for (int i = 0; i < 50; ++i) {
    const RunPart part = covering_part(length, between(random, 0, length - 1), between(random, 1, 2 * kChunk));
    const std::string wrong = verify_part(std::span(run.bytes).subspan(part.offset, part.bytes), part, table, run.ref);
    const bool has_damage = part.offset <= damaged && damaged < part.offset + part.bytes;
    EXPECT_EQ(!wrong.empty(), has_damage) << part.offset << ' ' << part.bytes << ' ' << wrong;
  }
}

}  // namespace
}  // namespace store::test
