#include "tools/formats/jsonl.hpp"

#include <gtest/gtest.h>

#include "support/seed.hpp"
#include "unit/tools/format_harness.hpp"

namespace store::tool {
namespace {

using namespace std::string_literals;

std::string error(const std::string& text) { return error_of<JsonlReader>(text); }

TEST(Jsonl, GivesBackArbitraryBytes) { expect_round_trips<JsonlReader, JsonlWriter>(test::requested_seed()); }

TEST(Jsonl, DamageIsAnErrorOrARecord) { expect_survives_damage<JsonlReader, JsonlWriter>(test::requested_seed()); }

TEST(Jsonl, WritesTextAsTextAndOtherBytesAsBase64) {
  const Records records{{"caf\xc3\xa9", "a\"b\\c\n\x01\x7f\0"s}, {"\xff", ""}, {"k", "\xed\xa0\x80"}};
  const std::string text =
      "{\"key\": \"caf\xc3\xa9\", \"value\": \"a\\\"b\\\\c\\n\\u0001\\u007f\\u0000\"}\n"
      "{\"key_base64\": \"/w==\", \"value\": \"\"}\n"
      "{\"key\": \"k\", \"value_base64\": \"7aCA\"}\n";
  EXPECT_EQ(write_all<JsonlWriter>(records), text);
  EXPECT_EQ(read_all<JsonlReader>(text), records);
}

TEST(Jsonl, ReadsWhatOthersWrite) {
  EXPECT_EQ(read_all<JsonlReader>(" { \"value\" :\"1\" ,\t\"key\": \"\\u00e9\\ud83d\\ude00\\/\\b\\f\" } \r\n"),
            (Records{{"\xc3\xa9\xf0\x9f\x98\x80/\b\f", "1"}}));
  EXPECT_EQ(read_all<JsonlReader>("{\"key_base64\":\"YQ==\",\"value_base64\":\"\"}"), (Records{{"a", ""}}));
  EXPECT_EQ(read_all<JsonlReader>(""), Records{});
}

TEST(Jsonl, ErrorsNameLineExpectedAndFound) {
  const std::string good = "{\"key\":\"a\",\"value\":\"1\"}\n";
  EXPECT_EQ(error(good + "nonsense\n"), "line 2: expected '{' at the start of a record, found 'n'");
  EXPECT_EQ(error(good + "\n" + good), "line 2: expected '{' at the start of a record, found the end of the line");
  EXPECT_EQ(error("{}\n"), "line 1: expected the name of a member, found '}'");
  EXPECT_EQ(error("{\"key\" \"a\"}\n"), "line 1: expected ':' behind the name of a member, found '\"'");
  EXPECT_EQ(error("{\"key\":1}\n"), "line 1: expected a string, found '1'");
  EXPECT_EQ(error("{\"key\":\"a\"}\n"), "line 1: expected a member value or value_base64, found none");
  EXPECT_EQ(error("{\"value\":\"a\"}\n"), "line 1: expected a member key or key_base64, found none");
  EXPECT_EQ(error("{\"key\":\"a\" \"value\":\"\"}\n"), "line 1: expected ',' or '}' behind a member, found '\"'");
  EXPECT_EQ(error("{\"key\":\"a\",\"value\":\"1\"} x\n"), "line 1: expected nothing behind the record, found 'x'");
  EXPECT_EQ(error("{\"key\":\"a\",\"id\":\"1\"}\n"),
            "line 1: expected a member named key, key_base64, value or value_base64, found 'id'");
  EXPECT_EQ(error("{\"key\":\"a\",\"key_base64\":\"YQ==\"}\n"),
            "line 1: expected the key once, found it again as 'key_base64'");
  EXPECT_EQ(error("{\"key\":\"a"), "line 1: expected '\"' at the end of a string, found the end of the line");
  EXPECT_EQ(error("{\"key\":\"\x01\"}\n"),
            "line 1: expected an escape for a control character in a string, found '\\x01'");
  EXPECT_EQ(error("{\"key\":\"\xff\"}\n"),
            "line 1: expected UTF-8 (other bytes as key_base64 or value_base64), found '\\xff'");
  EXPECT_EQ(error("{\"key\":\"\\q\"}\n"), "line 1: expected one of \" \\ / b f n r t u behind a backslash, found 'q'");
  EXPECT_EQ(error("{\"key\":\"\\u00g0\"}\n"), "line 1: expected four hex digits behind \\u, found '00g0'");
  EXPECT_EQ(error("{\"key\":\"\\u00"), "line 1: expected four hex digits behind \\u, found '00'");
  for (const char* half : {"\\ud83d", "\\ud83dx", "\\ud83d\\n", "\\ud83d\\u0041", "\\ude00"}) {
    EXPECT_EQ(error("{\"key\":\""s + half + "\"}\n"), "line 1: expected both halves of a surrogate pair, found one")
        << half;
  }
  EXPECT_EQ(error("{\"key_base64\":\"Y\"}\n"),
            "line 1: expected standard base64 with padding in key_base64, found 'Y'");
  EXPECT_EQ(error("{\"key\":\"\",\"value\":\"\"}\n"), "line 1: expected a key of 1 to 1024 bytes, found an empty one");
}

}  // namespace
}  // namespace store::tool
