// What `store load` reads: any text gives records or an error that names a line, and the records survive being dumped and
// read again, in every format.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/input.hpp"
#include "fuzz/targets.hpp"
#include "tools/formats/jsonl.hpp"
#include "tools/formats/mdb_dump.hpp"
#include "tools/formats/text.hpp"
#include "tools/formats/tsv.hpp"

namespace store::fuzz {
namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

constexpr tool::RecordLimits kLimits{.max_key_bytes = 1024, .max_value_bytes = 64u << 10};

// Hands out `text` in pieces of at most `piece` bytes.
tool::ReadBytes read_from(std::string_view text, std::size_t piece) {
  return [text, piece, at = std::size_t{0}](std::span<char> into) mutable {
    const std::size_t n = std::min({piece, into.size(), text.size() - at});
    if (n > 0) std::memcpy(into.data(), text.data() + at, n);
    at += n;
    return n;
  };
}

// The records up to the end, or up to the first that is malformed.
template <class AnyReader>
Records read(std::string_view text, std::size_t piece, bool& complete) {
  Records records;
  AnyReader reader(read_from(text, piece), kLimits);
  complete = false;
  try {
    std::string key;
    std::string value;
    while (reader.next(key, value)) {
      require(!key.empty() && key.size() <= kLimits.max_key_bytes && value.size() <= kLimits.max_value_bytes,
              "a record is beyond the limits");
      records.emplace_back(key, value);
    }
    complete = true;
  } catch (const tool::FormatError& error) {
    require(error.line() > 0 && error.line() <= reader.line() + 1, "an error names a line that was not read");
  }
  return records;
}

template <class AnyReader, class AnyWriter>
void expect_survives(const Records& records) {
  std::string text;
  {
    AnyWriter writer([&text](std::string_view bytes) { text += bytes; });
    for (const auto& [key, value] : records) writer.write(key, value);
    writer.finish();
  }
  bool complete = false;
  require(read<AnyReader>(text, 4096, complete) == records && complete, "records changed on the way out and in");
}

void use_text(std::string_view text) {
  static_cast<void>(tool::shown(text));
  std::string escaped;
  tool::append_escaped(escaped, text);
  require(tool::unescape(escaped) == text, "escaping changes a text");
  try {
    static_cast<void>(tool::unescape(text));
  } catch (const Error& error) {
    require(error.errc() == Errc::invalid_argument, "a wrong code for a wrong escape");
  }
  std::string base64;
  tool::append_base64(base64, text);
  require(tool::from_base64(base64) == text, "base64 changes a text");
  if (const auto decoded = tool::from_base64(text)) {
    base64.clear();
    tool::append_base64(base64, *decoded);
    require(base64 == text, "two texts in base64 stand for the same bytes");
  }
}

}  // namespace

void run_formats(Bytes bytes) {
  Input input(bytes);
  const std::size_t format = input.choice(4);
  const std::size_t piece = 1 + input.byte();
  const auto rest = input.take(input.left());
  const std::string text(rest.begin(), rest.end());
  Records records;
  bool complete = false;
  switch (format) {
    case 0: records = read<tool::TsvReader>(text, piece, complete); break;
    case 1: records = read<tool::JsonlReader>(text, piece, complete); break;
    case 2: records = read<tool::MdbDumpReader>(text, piece, complete); break;
    default: use_text(text); return;
  }
  expect_survives<tool::TsvReader, tool::TsvWriter>(records);
  expect_survives<tool::JsonlReader, tool::JsonlWriter>(records);
  expect_survives<tool::MdbDumpReader, tool::MdbDumpWriter>(records);
}

}  // namespace store::fuzz
