#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <store/error.hpp>
#include <string>

#include "store/base/crc32c.hpp"
#include "store/base/ids.hpp"
#include "store/base/units.hpp"

namespace store {
namespace {

std::span<const std::byte> bytes(const std::string& s) { return std::as_bytes(std::span(s)); }

TEST(Crc32c, MatchesTheCheckValueOfRfc3720) {
  EXPECT_EQ(crc32c(bytes("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c(bytes(std::string(32, '\0'))), 0x8A9136AAu);
}

TEST(Crc32c, OfTwoPartsIsThatOfTheWhole) {
  const std::string text = "the parent vouches for the child";
  EXPECT_EQ(crc32c(bytes(text.substr(5)), crc32c(bytes(text.substr(0, 5)))), crc32c(bytes(text)));
}

TEST(Error, CarriesItsCodeAndItsMessageAlone) {
  const Error error(Errc::conflict, "key 'a' changed");
  EXPECT_EQ(error.code(), Errc::conflict);
  EXPECT_STREQ(error.what(), "key 'a' changed");
  EXPECT_EQ(error.os_error(), 0);
}

TEST(Error, FromErrnoTellsAFullDiskFromAFailedOne) {
  for (const int full : {ENOSPC, EDQUOT, EFBIG}) EXPECT_EQ(Error::from_errno(full, "write").errc(), Errc::no_space);
  const Error io = Error::from_errno(EIO, "read of block 7");
  EXPECT_EQ(io.errc(), Errc::io_error);
  EXPECT_EQ(io.os_error(), EIO);
  EXPECT_STREQ(io.what(), "read of block 7: Input/output error");
}

TEST(Units, BlocksForRoundsUp) {
  EXPECT_EQ(blocks_for(0), 0u);
  EXPECT_EQ(blocks_for(1), 1u);
  EXPECT_EQ(blocks_for(kPageBytes), 1u);
  EXPECT_EQ(blocks_for(kPageBytes + 1), 2u);
}

}  // namespace
}  // namespace store
