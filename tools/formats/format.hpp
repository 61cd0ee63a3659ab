// What the formats that records are imported from and exported to have in common. A reader takes records off an input
// one by one, a writer turns them into text; both hold one record at a time, whatever the size of the whole. Nothing
// here knows a store: only limits, so that a record which no store could take is found where it stands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <store/error.hpp>
#include <string>
#include <string_view>

namespace store::tool {

// A malformed input. The text names the line, what was expected there and what was found.
class FormatError : public Error {
 public:
  FormatError(std::uint64_t line, const std::string& problem)
      : Error(Errc::invalid_argument, "line " + std::to_string(line) + ": " + problem), line_(line) {}

  // From 1 on.
  std::uint64_t line() const noexcept { return line_; }

 private:
  std::uint64_t line_;
};

// Fills a part of the span from the input and returns the bytes read, 0 at the end only. May throw.
using ReadBytes = std::function<std::size_t(std::span<char>)>;
// Takes all of the bytes. May throw.
using WriteBytes = std::function<void(std::string_view)>;

// Records beyond these limits are malformed.
struct RecordLimits {
  std::size_t max_key_bytes = 1024;
  std::size_t max_value_bytes = std::size_t{1} << 30;
};

class Reader {
 public:
  virtual ~Reader() = default;

  // Reads the next record. Returns false at the proper end of the input.
  // Errors: FormatError; what the input throws. The reader is of no use afterwards.
  virtual bool next(std::string& key, std::string& value) = 0;
  // The line read last, from 1 on; 0 before the first.
  virtual std::uint64_t line() const = 0;
};

class Writer {
 public:
  virtual ~Writer() = default;

  virtual void write(std::string_view key, std::string_view value) = 0;
  // Writes what ends the output. Call it once, last.
  virtual void finish() {}
};

}  // namespace store::tool
