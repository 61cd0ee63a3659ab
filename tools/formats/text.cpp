#include "tools/formats/text.hpp"

#include <array>

namespace store::tool {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::size_t kMaxQuoted = 40;

constexpr std::array<signed char, 256> digit_values(std::string_view digits) {
  std::array<signed char, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < digits.size(); ++i) {
    values[static_cast<unsigned char>(digits[i])] = static_cast<signed char>(i);
  }
  return values;
}

constexpr std::array<signed char, 256> hex_values() {
  auto values = digit_values(kHexDigits);
  for (std::size_t i = 10; i < 16; ++i)
    values[static_cast<unsigned char>("ABCDEF"[i - 10])] = static_cast<signed char>(i);
  return values;
}

constexpr auto kHexValues = hex_values();
constexpr auto kBase64Values = digit_values(kBase64Digits);

unsigned byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

}  // namespace

// The table of well-formed sequences of the Unicode standard (3-7): no overlong forms, no surrogates, none past 10FFFF.
std::size_t utf8_sequence_bytes(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const unsigned first = byte_at(text, 0);
  if (first < 0x80) return 1;
  std::size_t bytes = 0;
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    bytes = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    bytes = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    bytes = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (text.size() < bytes || byte_at(text, 1) < low || byte_at(text, 1) > high) return 0;
  for (std::size_t i = 2; i < bytes; ++i) {
    if ((byte_at(text, i) & 0xC0) != 0x80) return 0;
  }
  return bytes;
}

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t bytes = utf8_sequence_bytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

void append_utf8(std::string& out, std::uint32_t code_point) {
  const auto tail = [&](unsigned shift) { return static_cast<char>(0x80 | (code_point >> shift & 0x3F)); };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += {static_cast<char>(0xC0 | code_point >> 6), tail(0)};
  } else if (code_point < 0x10000) {
    out += {static_cast<char>(0xE0 | code_point >> 12), tail(6), tail(0)};
  } else {
    out += {static_cast<char>(0xF0 | code_point >> 18), tail(12), tail(6), tail(0)};
  }
}

int hex_value(char c) noexcept { return kHexValues[static_cast<unsigned char>(c)]; }

void append_hex(std::string& out, unsigned char byte) {
  out += kHexDigits[byte >> 4];
  out += kHexDigits[byte & 15];
}

void append_base64(std::string& out, std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    unsigned group = byte_at(bytes, i) << 16;
    if (n > 1) group |= byte_at(bytes, i + 1) << 8;
    if (n > 2) group |= byte_at(bytes, i + 2);
    out += kBase64Digits[group >> 18];
    out += kBase64Digits[group >> 12 & 63];
    out += n > 1 ? kBase64Digits[group >> 6 & 63] : '=';
    out += n > 2 ? kBase64Digits[group & 63] : '=';
  }
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::size_t digits = 4;
    if (i + 4 == text.size()) {
      if (text[i + 3] == '=') digits = text[i + 2] == '=' ? 2 : 3;
    }
    unsigned group = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const int value = j < digits ? kBase64Values[byte_at(text, i + j)] : 0;
      if (value < 0) return std::nullopt;
      group = group << 6 | static_cast<unsigned>(value);
    }
    // Bits that belong to no byte are 0 in what an encoder writes; anything else is damage.
    if ((digits == 2 && (group & 0xFFFF) != 0) || (digits == 3 && (group & 0xFF) != 0)) return std::nullopt;
    for (std::size_t j = 0; j + 1 < digits; ++j) bytes += static_cast<char>(group >> (16 - 8 * j) & 0xFF);
  }
  return bytes;
}

std::string shown(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, kMaxQuoted)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += "\\x";
      append_hex(out, static_cast<unsigned char>(c));
    }
  }
  out += text.size() > kMaxQuoted ? "...'" : "'";
  return out;
}

std::string found_at(std::string_view rest) { return rest.empty() ? "the end of the line" : shown(rest.substr(0, 1)); }

void check_limits(std::uint64_t line, std::string_view key, std::string_view value, const RecordLimits& limits) {
  if (key.empty() || key.size() > limits.max_key_bytes) {
    throw FormatError(line, "expected a key of 1 to " + std::to_string(limits.max_key_bytes) + " bytes, found " +
                                (key.empty() ? "an empty one" : "one of " + std::to_string(key.size())));
  }
  if (value.size() > limits.max_value_bytes) {
    throw FormatError(line, "expected a value of at most " + std::to_string(limits.max_value_bytes) +
                                " bytes, found one of " + std::to_string(value.size()));
  }
}

std::size_t max_line_bytes(const RecordLimits& limits) noexcept {
  constexpr std::size_t kLongestEscape = 6;  // \u0000
  constexpr std::size_t kAround = 4096;      // names, quotes, spaces
  return kLongestEscape * (limits.max_key_bytes + limits.max_value_bytes) + kAround;
}

}  // namespace store::tool
