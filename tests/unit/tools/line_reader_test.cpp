#include "tools/formats/line_reader.hpp"

#include <gtest/gtest.h>

#include <random>

#include "support/seed.hpp"
#include "unit/tools/format_harness.hpp"

namespace store::tool {
namespace {

std::vector<std::string> lines_of(const std::string& text, std::size_t piece) {
  LineReader reader(read_from(text, piece), std::size_t{10} << 20);
  std::vector<std::string> lines;
  std::string_view line;
  while (reader.next(line)) {
    lines.emplace_back(line);
    EXPECT_EQ(reader.number(), lines.size());
  }
  EXPECT_FALSE(reader.next(line));
  return lines;
}

TEST(LineReader, SplitsAtNewlinesWhereverTheInputBreaks) {
  for (const std::size_t piece : {1u, 2u, 3u, 100u}) {
    EXPECT_EQ(lines_of("", piece), std::vector<std::string>{});
    EXPECT_EQ(lines_of("\n", piece), std::vector<std::string>{""});
    EXPECT_EQ(lines_of("a\n\nbc", piece), (std::vector<std::string>{"a", "", "bc"}));
    EXPECT_EQ(lines_of("a\nbc\n", piece), (std::vector<std::string>{"a", "bc"}));
  }
}

TEST(LineReader, GivesLinesOfAllLengthsBack) {
  const std::uint64_t seed = test::requested_seed().value_or(1);
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::vector<std::string> lines;
  std::string text;
  for (int i = 0; i < 300; ++i) {
    lines.emplace_back(i % 50 == 0 ? random() % 1'000'000 : random() % 5000, static_cast<char>('a' + i % 26));
    text += lines.back() + "\n";
  }
  EXPECT_EQ(lines_of(text, 65'536), lines);
  EXPECT_EQ(lines_of(text, 300'001), lines);
}

TEST(LineReader, RefusesALineThatIsTooLongWithoutReadingAllOfIt) {
  std::size_t given = 0;
  LineReader reader(
      [&given](std::span<char> into) {
        std::fill(into.begin(), into.end(), 'x');
        given += into.size();
        return into.size();
      },
      1000);
  std::string_view line;
  try {
    reader.next(line);
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_STREQ(error.what(), "line 1: expected a line of at most 1000 bytes, found a longer one");
  }
  EXPECT_LT(given, std::size_t{1} << 20);
}

TEST(LineReader, PassesOnWhatTheInputThrows) {
  LineReader reader([](std::span<char>) -> std::size_t { throw Error(Errc::io_error, "read failed"); }, 1000);
  std::string_view line;
  EXPECT_THROW(reader.next(line), Error);
}

}  // namespace
}  // namespace store::tool
