#include "tools/formats/line_reader.hpp"

#include <algorithm>
#include <cstring>

namespace store::tool {
namespace {

constexpr std::size_t kReadBytes = std::size_t{256} << 10;

}  // namespace

bool LineReader::next(std::string_view& line) {
  std::size_t searched = begin_;
  for (;;) {
    const auto* newline = static_cast<const char*>(std::memchr(buffer_.data() + searched, '\n', end_ - searched));
    const std::size_t line_end = newline ? static_cast<std::size_t>(newline - buffer_.data()) : end_;
    if (line_end - begin_ > max_line_bytes_) {
      throw FormatError(number_ + 1,
                        "expected a line of at most " + std::to_string(max_line_bytes_) + " bytes, found a longer one");
    }
    if (newline) {
      line = std::string_view(buffer_).substr(begin_, line_end - begin_);
      begin_ = line_end + 1;
      break;
    }
    const std::size_t seen = end_ - begin_;
    if (!fill()) {
      if (seen == 0) return false;
      line = std::string_view(buffer_).substr(begin_, seen);
      begin_ = end_;
      break;
    }
    searched = begin_ + seen;
  }
  ++number_;
  return true;
}

// Moves what was not taken to the front and reads more behind it. Returns false at the end of the input.
bool LineReader::fill() {
  const std::size_t kept = end_ - begin_;
  if (begin_ > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, kept);
  begin_ = 0;
  end_ = kept;
  // Doubling keeps the copying of a long line in proportion to its length.
  if (buffer_.size() - kept < kReadBytes) buffer_.resize(std::max(2 * buffer_.size(), kept + kReadBytes));
  const std::size_t n = input_(std::span<char>(buffer_.data() + kept, buffer_.size() - kept));
  end_ += n;
  return n > 0;
}

}  // namespace store::tool
