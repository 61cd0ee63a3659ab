#include "tools/formats/mdb_dump.hpp"

#include <array>
#include <utility>

#include "tools/formats/text.hpp"

namespace store::tool {
namespace {

constexpr std::string_view kHeaderEnd = "HEADER=END";
constexpr std::string_view kDataEnd = "DATA=END";

// Words of the header that say something which a store cannot keep when they are not 0, and what that is.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kRefused{{
    {"duplicates", "a database with several values for a key (DUPSORT)"},
    {"dupsort", "a database with several values for a key (DUPSORT)"},
    {"dupfixed", "a database with several values for a key (DUPFIXED)"},
    {"integerdup", "a database with several values for a key (INTEGERDUP)"},
    {"reversedup", "a database with several values for a key (REVERSEDUP)"},
    {"integerkey", "a database ordered by integers (INTEGERKEY)"},
    {"reversekey", "a database ordered by the ends of its keys (REVERSEKEY)"},
    {"recnum", "a database with record numbers"},
}};

}  // namespace

MdbDumpReader::MdbDumpReader(ReadBytes input, RecordLimits limits)
    : lines_(std::move(input), max_line_bytes(limits)), limits_(limits) {}

bool MdbDumpReader::next(std::string& key, std::string& value) {
  if (state_ == State::before_header) read_header();
  if (state_ == State::at_end) return false;
  std::string_view line;
  if (!lines_.next(line)) {
    throw FormatError(lines_.number() + 1, "expected a key or DATA=END, found the end of the input: it is cut off");
  }
  if (line == kDataEnd) {
    expect_end();
    return false;
  }
  decode(line, key);
  check_limits(lines_.number(), key, {}, limits_);
  if (!lines_.next(line)) {
    throw FormatError(lines_.number() + 1, "expected the value of the key before, found the end of the input");
  }
  if (line == kDataEnd) throw FormatError(lines_.number(), "expected the value of the key before, found DATA=END");
  decode(line, value);
  check_limits(lines_.number(), key, value, limits_);
  return true;
}

void MdbDumpReader::read_header() {
  std::string_view line;
  bool has_version = false;
  while (lines_.next(line)) {
    if (line == kHeaderEnd) {
      state_ = State::in_data;
      return;
    }
    const std::size_t equals = line.find('=');
    if (!has_version && !line.starts_with("VERSION=")) {
      throw FormatError(lines_.number(), "expected VERSION=3, the start of an mdb_dump, found " + shown(line));
    }
    has_version = true;
    if (equals == std::string_view::npos) {
      throw FormatError(lines_.number(), "expected NAME=VALUE or HEADER=END in the header, found " + shown(line));
    }
    read_header_line(line.substr(0, equals), line.substr(equals + 1));
  }
  throw FormatError(lines_.number() + 1, std::string("expected ") + (has_version ? "HEADER=END" : "VERSION=3") +
                                             ", found the end of the input");
}

void MdbDumpReader::read_header_line(std::string_view name, std::string_view value) {
  const auto expect = [&](bool fine, const char* expected) {
    if (fine) return;
    throw FormatError(lines_.number(), std::string("expected ") + expected + ", found " +
                                           shown(std::string(name) + "=" + std::string(value)));
  };
  if (name == "VERSION") expect(value == "3", "VERSION=3");
  if (name == "type") expect(value == "btree", "type=btree");
  if (name == "keys") expect(value == "1", "keys=1, since records without keys cannot be stored");
  if (name == "format") {
    expect(value == "bytevalue" || value == "print", "format=bytevalue or format=print");
    encoding_ = value == "print" ? Encoding::print : Encoding::bytevalue;
  }
  if (name == "database") expect(false, "the main database, since a named database cannot be loaded by its name");
  for (const auto& [word, meaning] : kRefused) {
    if (name != word || value == "0") continue;
    throw FormatError(lines_.number(), "expected one value for each key, ordered by the keys' bytes; found " +
                                           std::string(name) + "=" + std::string(value) + ": " + std::string(meaning) +
                                           " cannot be loaded");
  }
}

void MdbDumpReader::expect_end() {
  state_ = State::at_end;
  std::string_view line;
  while (lines_.next(line)) {
    if (line.empty()) continue;
    const bool another = line.starts_with("VERSION=");
    throw FormatError(lines_.number(), "expected the end of the input behind DATA=END, found " +
                                           (another ? "another database: dump them one by one" : shown(line)));
  }
}

void MdbDumpReader::decode(std::string_view line, std::string& bytes) const {
  if (line.empty() || line.front() != ' ') {
    throw FormatError(lines_.number(),
                      "expected a space at the start of a line of data, or DATA=END, found " + shown(line));
  }
  line.remove_prefix(1);
  bytes.clear();
  const auto hex_at = [&](std::size_t i) { return i < line.size() ? hex_value(line[i]) : -1; };
  for (std::size_t i = 0; i < line.size();) {
    if (encoding_ == Encoding::print && line[i] != '\\') {
      bytes += line[i++];
      continue;
    }
    if (encoding_ == Encoding::print) {
      ++i;
      if (i < line.size() && line[i] == '\\') {
        bytes += line[i++];
        continue;
      }
    }
    if (hex_at(i) < 0 || hex_at(i + 1) < 0) {
      const bool print = encoding_ == Encoding::print;
      throw FormatError(lines_.number(),
                        (print ? "expected \\\\ or two hex digits behind a backslash (mdb_dump -p does not escape "
                                 "backslashes: dump without -p), found "
                               : "expected pairs of hex digits, found ") +
                            (i == line.size() ? "the end of the line" : shown(line.substr(i, 2))));
    }
    bytes += static_cast<char>(hex_at(i) << 4 | hex_at(i + 1));
    i += 2;
  }
}

// Loading in order leaves LMDB's pages half full, and values over half a page take whole ones, so that twice the bytes
// are twice used at worst; a commit in between needs some pages more. The map is only reserved, not written.
std::uint64_t MdbDumpWriter::mapsize_for(std::uint64_t records, std::uint64_t bytes) {
  constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
  return (4 * (bytes + 32 * records) / kMiB + 16) * kMiB;
}

MdbDumpWriter::MdbDumpWriter(WriteBytes output, MdbDumpOptions options) : output_(std::move(output)) {
  lines_ = "VERSION=3\nformat=bytevalue\ntype=btree\n";
  if (options.mapsize_bytes > 0) lines_ += "mapsize=" + std::to_string(options.mapsize_bytes) + "\n";
  lines_ += kHeaderEnd;
  lines_ += '\n';
  output_(lines_);
}

void MdbDumpWriter::write(std::string_view key, std::string_view value) {
  lines_.clear();
  for (const std::string_view bytes : {key, value}) {
    lines_ += ' ';
    for (const char c : bytes) append_hex(lines_, static_cast<unsigned char>(c));
    lines_ += '\n';
  }
  output_(lines_);
}

void MdbDumpWriter::finish() { output_(std::string(kDataEnd) + "\n"); }

}  // namespace store::tool
