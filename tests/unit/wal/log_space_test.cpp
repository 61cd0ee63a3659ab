// The map from LSNs to blocks, and what a commit does to it.
#include <gtest/gtest.h>

#include "store/wal/log_space.hpp"

namespace store {
namespace {

LogLayout three_segments() {
  LogLayout layout;
  layout.begin = {Lsn(40 * kPageBytes), 5};
  layout.offset = kPageBytes;
  layout.segments = {{PageNo(100), 4}, {PageNo(200), 2}, {PageNo(50), 8}};
  return layout;
}

Lsn block(std::uint64_t n) { return Lsn(n * kPageBytes); }

TEST(LogSpace, LsnsRunThroughTheSegmentsInTheirOrder) {
  const LogLayout layout = three_segments();
  EXPECT_EQ(layout.total_bytes(), 14 * kPageBytes);
  EXPECT_EQ(layout.end(), block(53));
  EXPECT_EQ(layout.locate(block(40), 10), (Extent{PageNo(101), 3}));
  EXPECT_EQ(layout.locate(block(42), 10), (Extent{PageNo(103), 1}));
  EXPECT_EQ(layout.locate(block(43), 1), (Extent{PageNo(200), 1}));
  EXPECT_EQ(layout.locate(block(45), 3), (Extent{PageNo(50), 3}));
  EXPECT_EQ(layout.locate(block(52), 9), (Extent{PageNo(57), 1}));
}

TEST(LogSpace, SegmentsThatAreMergedGoToTheEnd) {
  const LogLayout layout = three_segments();
  EXPECT_EQ(layout.starting_at({block(42), 6}).segments, layout.segments);
  EXPECT_EQ(layout.starting_at({block(42), 6}).offset, 3 * kPageBytes);
  const LogLayout later = layout.starting_at({block(44), 7});
  EXPECT_EQ(later.segments, (std::vector<Extent>{{PageNo(200), 2}, {PageNo(50), 8}, {PageNo(100), 4}}));
  EXPECT_EQ(later.offset, kPageBytes);
  EXPECT_EQ(later.end(), block(57));
  for (std::uint64_t n = 44; n < 53; ++n) EXPECT_EQ(later.locate(block(n), 1), layout.locate(block(n), 1)) << n;
}

TEST(LogSpace, ALogThatIsMergedToItsEndBeginsAnew) {
  const LogLayout layout = three_segments();
  const LogLayout later = layout.starting_at({layout.end(), 8});
  EXPECT_EQ(later.offset, 0u);
  EXPECT_EQ(later.segments, layout.segments);
  EXPECT_EQ(later.end(), block(67));
  const LogLayout none = LogLayout{}.starting_at({});
  EXPECT_EQ(none.end(), Lsn());
}

TEST(LogSpace, AMetaPageKeepsIt) {
  Meta meta;
  put_layout(three_segments(), meta);
  const LogLayout layout = layout_of(meta);
  EXPECT_EQ(layout.begin, three_segments().begin);
  EXPECT_EQ(layout.offset, three_segments().offset);
  EXPECT_EQ(layout.segments, three_segments().segments);
}

}  // namespace
}  // namespace store
