#include "tools/formats/tsv.hpp"

#include <gtest/gtest.h>

#include "support/seed.hpp"
#include "unit/tools/format_harness.hpp"

namespace store::tool {
namespace {

using namespace std::string_literals;

std::string error(const std::string& text) { return error_of<TsvReader>(text); }

TEST(Tsv, GivesBackArbitraryBytes) { expect_round_trips<TsvReader, TsvWriter>(test::requested_seed()); }

TEST(Tsv, DamageIsAnErrorOrARecord) { expect_survives_damage<TsvReader, TsvWriter>(test::requested_seed()); }

TEST(Tsv, ReadsAnEmptyInputAndALastLineWithoutNewline) {
  EXPECT_EQ(read_all<TsvReader>(""), Records{});
  EXPECT_EQ(read_all<TsvReader>("a\t1\nb\t"), (Records{{"a", "1"}, {"b", ""}}));
}

TEST(Tsv, EscapesWhatWouldBeMisreadAndNothingElse) {
  const Records records{{"a\tb\\", "line\nnext\r\0\x1b\x7f"s}, {"caf\xc3\xa9 \xff", "\xe2\x82\xac\xe2\x82"}};
  const std::string text = "a\\tb\\\\\tline\\nnext\\r\\x00\\x1b\\x7f\ncaf\xc3\xa9 \\xff\t\xe2\x82\xac\\xe2\\x82\n";
  EXPECT_EQ(write_all<TsvWriter>(records), text);
  EXPECT_EQ(read_all<TsvReader>(text), records);
  EXPECT_EQ(read_all<TsvReader>("\xff\\x4A\t\\xfF\0\n"s), (Records{{"\xffJ", "\xff\0"s}}));
}

TEST(Tsv, ErrorsNameLineExpectedAndFound) {
  EXPECT_EQ(error("a\t1\nb\n"), "line 2: expected a tab between key and value, found none in 'b'");
  EXPECT_EQ(error("a\t1\t2\n"),
            "line 1: expected one tab and \\t for a tab in a record, found a second one in 'a\\x091\\x092'");
  EXPECT_EQ(error("a\t1\n\nb\t2\n"), "line 2: expected a key, a tab and a value, found an empty line");
  EXPECT_EQ(error("\t1\n"), "line 1: expected a key of 1 to 1024 bytes, found an empty one");
  EXPECT_EQ(error(std::string(1025, 'k') + "\t1\n"), "line 1: expected a key of 1 to 1024 bytes, found one of 1025");
  EXPECT_EQ(read_all<TsvReader>(std::string(1024, 'k') + "\t1\n").size(), 1u);
  EXPECT_EQ(error_of<TsvReader>("k\t12345\n", {.max_value_bytes = 4}),
            "line 1: expected a value of at most 4 bytes, found one of 5");
  EXPECT_NE(error("a\t1\r\n").find("found a raw carriage return"), std::string::npos);
  const std::string escape = "expected t, n, r, \\ or x and two hex digits behind a backslash, found ";
  EXPECT_EQ(error("a\t1\nb\\q\t2\n"), "line 2: " + escape + "'q'");
  EXPECT_EQ(error("a\t1\\\n"), "line 1: " + escape + "the end of the line");
  EXPECT_EQ(error("a\t\\x4\n"), "line 1: " + escape + "'x4'");
  EXPECT_EQ(error("a\t\\x4g\n"), "line 1: " + escape + "'x4g'");
}

TEST(Tsv, UnescapesWordsOfACommandLine) {
  EXPECT_EQ(unescape("plain"), "plain");
  EXPECT_EQ(unescape("a\\x00b\\t\\\\"), "a\0b\t\\"s);
  std::string escaped;
  append_escaped(escaped, "a\0b\t\\"s);
  EXPECT_EQ(escaped, "a\\x00b\\t\\\\");
  try {
    unescape("a\\z");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    EXPECT_NE(std::string(e.what()).find("'a\\z': expected t, n, r"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace store::tool
