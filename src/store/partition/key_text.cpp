#include "store/partition/key_text.hpp"

#include <fmt/format.h>

namespace store {

std::string shown_key(std::string_view key) {
  constexpr std::size_t kMostBytes = 80;
  std::string text;
  for (const char c : key.substr(0, kMostBytes)) {
    if (c == '\\') {
      text += "\\\\";
    } else if (c >= ' ' && c <= '~') {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (key.size() > kMostBytes) text += fmt::format("... ({} bytes)", key.size());
  return text;
}

}  // namespace store
