#include "tools/formats/text.hpp"

#include <gtest/gtest.h>

#include <random>

#include "support/seed.hpp"

namespace store::tool {
namespace {

using namespace std::string_literals;

TEST(Utf8, EveryCodePointAndNothingElse) {
  for (std::uint32_t point = 0; point <= 0x10FFFF; ++point) {
    std::string text;
    append_utf8(text, point);
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    const std::string_view cut = std::string_view(text).substr(0, text.size() - 1);
    if (utf8_sequence_bytes(text + "z") != (surrogate ? 0 : text.size()) || utf8_sequence_bytes(cut) != 0) {
      FAIL() << "code point " << point;
    }
  }
  for (const auto& bad : {"\x80"s, "\xC0\x80"s, "\xC1\xBF"s, "\xE0\x9F\xBF"s, "\xF0\x8F\xBF\xBF"s, "\xF4\x90\x80\x80"s,
                          "\xF5\x80\x80\x80"s, "\xFF"s, "\xC3z"s, "\xE2\x82z"s, ""s}) {
    EXPECT_EQ(utf8_sequence_bytes(bad), 0u);
  }
  EXPECT_TRUE(is_utf8(""));
  EXPECT_FALSE(is_utf8("ok\xFF"));
}

TEST(Base64, KnownPairsOfRfc4648) {
  const std::pair<std::string, std::string> pairs[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"\xFB\xFF", "+/8="}};
  for (const auto& [bytes, text] : pairs) {
    std::string out;
    append_base64(out, bytes);
    EXPECT_EQ(out, text);
    EXPECT_EQ(from_base64(text), bytes);
  }
}

TEST(Base64, RefusesWhatNoEncoderWrites) {
  for (const char* bad :
       {"Z", "Zg", "Zg=", "Zg==Zg==", "Zh==", "Zm9=", "Z===", "====", "Zg-_", "Zm9v\n", " Zm9v", "=m9v", "Z=9v"}) {
    EXPECT_EQ(from_base64(bad), std::nullopt) << bad;
  }
}

TEST(Base64, GivesBackArbitraryBytes) {
  std::mt19937_64 random(test::requested_seed().value_or(1));
  for (std::size_t n = 0; n < 300; ++n) {
    std::string bytes(n, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    std::string text;
    append_base64(text, bytes);
    ASSERT_EQ(from_base64(text), bytes);
  }
}

TEST(Shown, IsShortAndPrintable) {
  EXPECT_EQ(shown("a\tb\xff"), "'a\\x09b\\xff'");
  EXPECT_EQ(shown(std::string(100, 'x')), "'" + std::string(40, 'x') + "...'");
}

}  // namespace
}  // namespace store::tool
