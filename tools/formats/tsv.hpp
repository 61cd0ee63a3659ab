// Tab-separated text: a line for each record, key, tab, value. Lossless for arbitrary bytes:
//
//   \t \n \r \\   tab, newline, carriage return, backslash
//   \xHH          the byte HH: other control characters and what is not UTF-8
//
// Every other byte stands for itself, so that text in any language stays legible. A raw carriage return is an error: it
// is the mark of a file whose line ends would otherwise end up in the values.
#pragma once

#include <string>
#include <string_view>

#include "tools/formats/format.hpp"
#include "tools/formats/line_reader.hpp"

namespace store::tool {

// Appends `bytes` to `out`, escaped as above: no tab, no newline, no control character.
void append_escaped(std::string& out, std::string_view bytes);
// What `text` stands for. Errors: store::Error(invalid_argument) that says which escape was expected and what was found.
std::string unescape(std::string_view text);

class TsvReader : public Reader {
 public:
  explicit TsvReader(ReadBytes input, RecordLimits limits = {});

  bool next(std::string& key, std::string& value) override;
  std::uint64_t line() const override { return lines_.number(); }

 private:
  LineReader lines_;
  RecordLimits limits_;
};

class TsvWriter : public Writer {
 public:
  explicit TsvWriter(WriteBytes output) : output_(std::move(output)) {}

  void write(std::string_view key, std::string_view value) override;

 private:
  WriteBytes output_;
  std::string line_;
};

}  // namespace store::tool
