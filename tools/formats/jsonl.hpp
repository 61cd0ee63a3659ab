// JSON lines: an object for each record, {"key": "...", "value": "..."}. A JSON string holds text, not bytes; a key or
// value that is not valid UTF-8 is written as "key_base64" or "value_base64" instead, in standard base64 with padding.
// So every record survives, and text stays text: "key" always means the UTF-8 bytes of the string.
//
// The reader takes the members in any order, and no others; a member given twice is an error.
#pragma once

#include <string>
#include <string_view>

#include "tools/formats/format.hpp"
#include "tools/formats/line_reader.hpp"

namespace store::tool {

class JsonlReader : public Reader {
 public:
  explicit JsonlReader(ReadBytes input, RecordLimits limits = {});

  bool next(std::string& key, std::string& value) override;
  std::uint64_t line() const override { return lines_.number(); }

 private:
  LineReader lines_;
  RecordLimits limits_;
};

class JsonlWriter : public Writer {
 public:
  explicit JsonlWriter(WriteBytes output) : output_(std::move(output)) {}

  void write(std::string_view key, std::string_view value) override;

 private:
  WriteBytes output_;
  std::string line_;
};

}  // namespace store::tool
