// What the tests of all formats share: records in and out of memory, and random ones.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tools/formats/format.hpp"

namespace store::tool {

using Records = std::vector<std::pair<std::string, std::string>>;

// Hands out `text` in pieces of at most `piece` bytes.
inline ReadBytes read_from(std::string text, std::size_t piece = 7) {
  return [text = std::move(text), piece, at = std::size_t{0}](std::span<char> into) mutable {
    const std::size_t n = std::min({piece, into.size(), text.size() - at});
    std::memcpy(into.data(), text.data() + at, n);
    at += n;
    return n;
  };
}

inline WriteBytes write_to(std::string& text) {
  return [&text](std::string_view bytes) { text += bytes; };
}

template <class AnyReader>
Records read_all(const std::string& text, RecordLimits limits = {}) {
  AnyReader reader(read_from(text), limits);
  Records records;
  std::string key;
  std::string value;
  while (reader.next(key, value)) records.emplace_back(key, value);
  EXPECT_FALSE(reader.next(key, value));
  return records;
}

template <class AnyWriter>
std::string write_all(const Records& records) {
  std::string text;
  AnyWriter writer(write_to(text));
  for (const auto& [key, value] : records) writer.write(key, value);
  writer.finish();
  return text;
}

// The message of the error that reading `text` ends with.
template <class AnyReader>
std::string error_of(const std::string& text, RecordLimits limits = {}) {
  try {
    read_all<AnyReader>(text, limits);
  } catch (const FormatError& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
    EXPECT_EQ(std::string(error.what()).find("line " + std::to_string(error.line()) + ": "), 0u);
    return error.what();
  }
  return "no error";
}

// Records of any bytes, of text in several alphabets, and of what the formats treat specially.
inline Records random_records(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  static const std::vector<std::string> kPieces = {"a",
                                                   "b c",
                                                   "\t",
                                                   "\n",
                                                   "\r",
                                                   "\\",
                                                   "\"",
                                                   "/",
                                                   "\\x41",
                                                   "\\u0041",
                                                   "{",
                                                   "=",
                                                   "DATA=END",
                                                   std::string(1, '\0'),
                                                   "\x1b",
                                                   "\x7f",
                                                   "\xc3\xa9",
                                                   "\xe2\x82\xac",
                                                   "\xf0\x9f\x98\x80",
                                                   "\xff",
                                                   "\xc3",
                                                   "\xed\xa0\x80",
                                                   "\xe2\x80\xa8"};
  const auto bytes = [&](std::size_t least, std::size_t most) {
    std::string text;
    const std::size_t wanted = least + below(most - least + 1);
    const bool any = below(3) == 0;
    while (text.size() < wanted)
      text += any ? std::string(1, static_cast<char>(below(256))) : kPieces[below(kPieces.size())];
    text.resize(wanted);
    return text;
  };
  Records records(below(40));
  for (auto& [key, value] : records) {
    key = bytes(1, 40);
    value = bytes(0, below(8) == 0 ? 3000 : 60);
  }
  return records;
}

// Writes and reads random records, and checks what comes back.
template <class AnyReader, class AnyWriter>
void expect_round_trips(std::optional<std::uint64_t> asked) {
  const std::uint64_t first = asked.value_or(1);
  for (std::uint64_t seed = first; seed <= (asked ? first : first + 199); ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    const Records records = random_records(seed);
    const std::string text = write_all<AnyWriter>(records);
    ASSERT_EQ(read_all<AnyReader>(text), records) << text;
  }
}

// Damages written records at random: reading gives records or an error that names a line, nothing else.
template <class AnyReader, class AnyWriter>
void expect_survives_damage(std::optional<std::uint64_t> asked) {
  const std::uint64_t first = asked.value_or(1);
  for (std::uint64_t seed = first; seed <= (asked ? first : first + 499); ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::string text = write_all<AnyWriter>(random_records(seed));
    for (std::size_t changes = 1 + random() % 4; changes > 0 && !text.empty(); --changes) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text.erase(at, 1 + random() % 20); break;
        default: text.insert(at, text.substr(random() % text.size(), random() % 20)); break;
      }
    }
    AnyReader reader(read_from(text, 100));
    std::string key;
    std::string value;
    try {
      while (reader.next(key, value)) ASSERT_FALSE(key.empty());
    } catch (const FormatError& error) {
      ASSERT_GE(error.line(), 1u);
      ASSERT_LE(error.line(), static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n')) + 2);
    }
  }
}

}  // namespace store::tool
