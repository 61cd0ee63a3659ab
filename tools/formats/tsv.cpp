#include "tools/formats/tsv.hpp"

#include "tools/formats/text.hpp"

namespace store::tool {
namespace {

constexpr std::string_view kExpectedEscape = "expected t, n, r, \\ or x and two hex digits behind a backslash, found ";

// Appends what `text` stands for to `out`. Returns what is wrong with it, or nothing.
std::string append_unescaped(std::string& out, std::string_view text) {
  while (!text.empty()) {
    const std::size_t backslash = text.find('\\');
    out += text.substr(0, backslash);
    if (backslash == std::string_view::npos) break;
    text.remove_prefix(backslash + 1);
    const char kind = text.empty() ? '\0' : text.front();
    std::size_t used = 1;
    switch (kind) {
      case 't': out += '\t'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case '\\': out += '\\'; break;
      case 'x':
        if (text.size() < 3 || hex_value(text[1]) < 0 || hex_value(text[2]) < 0) {
          return std::string(kExpectedEscape) + shown(text.substr(0, 3));
        }
        out += static_cast<char>(hex_value(text[1]) << 4 | hex_value(text[2]));
        used = 3;
        break;
      default: return std::string(kExpectedEscape) + found_at(text);
    }
    text.remove_prefix(used);
  }
  return {};
}

}  // namespace

void append_escaped(std::string& out, std::string_view bytes) {
  while (!bytes.empty()) {
    const char c = bytes.front();
    const std::size_t sequence = utf8_sequence_bytes(bytes);
    if (c == '\t') {
      out += "\\t";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\\') {
      out += "\\\\";
    } else if (sequence == 0 || (c >= 0 && c < ' ') || c == 0x7F) {
      out += "\\x";
      append_hex(out, static_cast<unsigned char>(c));
    } else {
      out += bytes.substr(0, sequence);
      bytes.remove_prefix(sequence - 1);
    }
    bytes.remove_prefix(1);
  }
}

std::string unescape(std::string_view text) {
  std::string bytes;
  const std::string problem = append_unescaped(bytes, text);
  if (!problem.empty()) throw Error(Errc::invalid_argument, shown(text) + ": " + problem);
  return bytes;
}

TsvReader::TsvReader(ReadBytes input, RecordLimits limits)
    : lines_(std::move(input), max_line_bytes(limits)), limits_(limits) {}

bool TsvReader::next(std::string& key, std::string& value) {
  std::string_view line;
  if (!lines_.next(line)) return false;
  const std::size_t tab = line.find('\t');
  if (line.empty()) throw FormatError(lines_.number(), "expected a key, a tab and a value, found an empty line");
  if (line.find('\r') != std::string_view::npos) {
    throw FormatError(lines_.number(),
                      "expected lines that end with a newline alone and \\r for a carriage return in "
                      "a record, found a raw carriage return");
  }
  if (tab == std::string_view::npos) {
    throw FormatError(lines_.number(), "expected a tab between key and value, found none in " + shown(line));
  }
  if (line.find('\t', tab + 1) != std::string_view::npos) {
    throw FormatError(lines_.number(),
                      "expected one tab and \\t for a tab in a record, found a second one in " + shown(line));
  }
  key.clear();
  value.clear();
  std::string problem = append_unescaped(key, line.substr(0, tab));
  if (problem.empty()) problem = append_unescaped(value, line.substr(tab + 1));
  if (!problem.empty()) throw FormatError(lines_.number(), problem);
  check_limits(lines_.number(), key, value, limits_);
  return true;
}

void TsvWriter::write(std::string_view key, std::string_view value) {
  line_.clear();
  append_escaped(line_, key);
  line_ += '\t';
  append_escaped(line_, value);
  line_ += '\n';
  output_(line_);
}

}  // namespace store::tool
