#include "tools/formats/jsonl.hpp"

#include <optional>

#include "tools/formats/text.hpp"

namespace store::tool {
namespace {

// Takes one line apart.
class Parser {
 public:
  Parser(std::string_view line, std::uint64_t number) : rest_(line), number_(number) {}

  void record(std::string& key, std::string& value) {
    bool has_key = false;
    bool has_value = false;
    expect('{', "'{' at the start of a record");
    do {
      const std::string name = string("the name of a member");
      expect(':', "':' behind the name of a member");
      if (name == "key" || name == "key_base64") {
        member(name, name == "key_base64", has_key, key);
      } else if (name == "value" || name == "value_base64") {
        member(name, name == "value_base64", has_value, value);
      } else {
        fail("a member named key, key_base64, value or value_base64", shown(name));
      }
    } while (take(','));
    expect('}', "',' or '}' behind a member");
    skip_space();
    if (!rest_.empty()) fail("nothing behind the record", shown(rest_));
    if (!has_key) fail("a member key or key_base64", "none");
    if (!has_value) fail("a member value or value_base64", "none");
  }

 private:
  [[noreturn]] void fail(const std::string& expected, const std::string& found) const {
    throw FormatError(number_, "expected " + expected + ", found " + found);
  }

  void skip_space() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t' || rest_.front() == '\r')) {
      rest_.remove_prefix(1);
    }
  }

  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char c, const char* what) {
    if (!take(c)) fail(what, found_at(rest_));
  }

  void member(const std::string& name, bool is_base64, bool& seen, std::string& bytes) {
    if (seen) fail("the " + name.substr(0, name.find('_')) + " once", "it again as " + shown(name));
    seen = true;
    bytes = string("a string");
    if (!is_base64) return;
    std::optional<std::string> decoded = from_base64(bytes);
    if (!decoded) fail("standard base64 with padding in " + name, shown(bytes));
    bytes = std::move(*decoded);
  }

  std::string string(const char* what) {
    if (!take('"')) fail(what, found_at(rest_));
    std::string text;
    for (;;) {
      std::size_t plain = 0;
      while (plain < rest_.size() && rest_[plain] != '"' && rest_[plain] != '\\' &&
             static_cast<unsigned char>(rest_[plain]) >= ' ') {
        const std::size_t sequence = utf8_sequence_bytes(rest_.substr(plain, 4));
        if (sequence == 0) fail("UTF-8 (other bytes as key_base64 or value_base64)", shown(rest_.substr(plain, 1)));
        plain += sequence;
      }
      text += rest_.substr(0, plain);
      rest_.remove_prefix(plain);
      if (rest_.empty()) fail("'\"' at the end of a string", found_at(rest_));
      const char c = rest_.front();
      if (c != '"' && c != '\\') fail("an escape for a control character in a string", found_at(rest_));
      rest_.remove_prefix(1);
      if (c == '"') return text;
      append_escape(text);
    }
  }

  void append_escape(std::string& text) {
    const char kind = rest_.empty() ? '\0' : rest_.front();
    switch (kind) {
      case '"': text += '"'; break;
      case '\\': text += '\\'; break;
      case '/': text += '/'; break;
      case 'b': text += '\b'; break;
      case 'f': text += '\f'; break;
      case 'n': text += '\n'; break;
      case 'r': text += '\r'; break;
      case 't': text += '\t'; break;
      case 'u': append_utf8(text, code_point()); return;
      default: fail("one of \" \\ / b f n r t u behind a backslash", found_at(rest_));
    }
    rest_.remove_prefix(1);
  }

  // Reads "uXXXX", and a second "\uXXXX" if the first is half of a pair.
  std::uint32_t code_point() {
    const std::uint32_t first = utf16_unit();
    if (first < 0xD800 || first > 0xDFFF) return first;
    if (first > 0xDBFF || !rest_.starts_with("\\u")) fail("both halves of a surrogate pair", "one");
    rest_.remove_prefix(1);
    const std::uint32_t second = utf16_unit();
    if (second < 0xDC00 || second > 0xDFFF) fail("both halves of a surrogate pair", "one");
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  std::uint32_t utf16_unit() {
    std::uint32_t unit = 0;
    for (std::size_t i = 1; i <= 4; ++i) {
      const int digit = i < rest_.size() ? hex_value(rest_[i]) : -1;
      if (digit < 0) fail("four hex digits behind \\u", shown(rest_.substr(1, 4)));
      unit = unit << 4 | static_cast<std::uint32_t>(digit);
    }
    rest_.remove_prefix(5);
    return unit;
  }

  std::string_view rest_;
  std::uint64_t number_;
};

void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7F) {
          out += "\\u00";
          append_hex(out, static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void append_member(std::string& out, std::string_view name, std::string_view bytes) {
  out += '"';
  out += name;
  if (is_utf8(bytes)) {
    out += "\": ";
    append_string(out, bytes);
  } else {
    out += "_base64\": \"";
    append_base64(out, bytes);
    out += '"';
  }
}

}  // namespace

JsonlReader::JsonlReader(ReadBytes input, RecordLimits limits)
    : lines_(std::move(input), max_line_bytes(limits)), limits_(limits) {}

bool JsonlReader::next(std::string& key, std::string& value) {
  std::string_view line;
  if (!lines_.next(line)) return false;
  Parser(line, lines_.number()).record(key, value);
  check_limits(lines_.number(), key, value, limits_);
  return true;
}

void JsonlWriter::write(std::string_view key, std::string_view value) {
  line_ = "{";
  append_member(line_, "key", key);
  line_ += ", ";
  append_member(line_, "value", value);
  line_ += "}\n";
  output_(line_);
}

}  // namespace store::tool
