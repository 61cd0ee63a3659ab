// Text beneath the formats: UTF-8, hex digits, base64, and words for what an error message found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tools/formats/format.hpp"

namespace store::tool {

// The bytes of the valid UTF-8 sequence at the start of `text` (1 to 4), or 0 if there is none.
std::size_t utf8_sequence_bytes(std::string_view text) noexcept;
bool is_utf8(std::string_view text) noexcept;
// Appends the UTF-8 of a code point up to 0x10FFFF.
void append_utf8(std::string& out, std::uint32_t code_point);

// The value of a hex digit of either case, or -1.
int hex_value(char c) noexcept;
// Appends two lower-case hex digits.
void append_hex(std::string& out, unsigned char byte);

void append_base64(std::string& out, std::string_view bytes);
// What standard base64 with padding stands for; nullopt if it is not that.
std::optional<std::string> from_base64(std::string_view text);

// `text` in quotes for a message: at most 40 characters, what is not printable ASCII as \xHH.
std::string shown(std::string_view text);
// "nothing" or the quoted first character of `rest`.
std::string found_at(std::string_view rest);

// Errors: FormatError for a record beyond the limits.
void check_limits(std::uint64_t line, std::string_view key, std::string_view value, const RecordLimits& limits);
// The longest line that may hold a record within the limits, whatever the escapes.
std::size_t max_line_bytes(const RecordLimits& limits) noexcept;

}  // namespace store::tool
