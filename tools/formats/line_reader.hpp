// Lines of an input, numbered, with one line in memory. A last line need not end with a newline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tools/formats/format.hpp"

namespace store::tool {

class LineReader {
 public:
  // A line longer than `max_line_bytes` is an error, so that an input without newlines cannot take all memory.
  LineReader(ReadBytes input, std::size_t max_line_bytes) : input_(std::move(input)), max_line_bytes_(max_line_bytes) {}

  // Takes the next line, without its newline; the view is valid until the next call. Returns false at the end.
  // Errors: FormatError for a line that is too long; what the input throws.
  bool next(std::string_view& line);
  // Of the line taken last, from 1 on.
  std::uint64_t number() const noexcept { return number_; }

 private:
  bool fill();

  ReadBytes input_;
  std::size_t max_line_bytes_;
  std::string buffer_;
  std::size_t begin_ = 0;  // of what was not taken yet
  std::size_t end_ = 0;
  std::uint64_t number_ = 0;
};

}  // namespace store::tool
