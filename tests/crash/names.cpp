#include "crash/names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace store::crash {

namespace {
constexpr std::size_t kDigits = 8;
}  // namespace

std::string key_text(std::uint32_t key) {
  std::string text = fmt::format("{:0{}}", key, kDigits);
  const std::uint64_t kind = mix(key + 1) % 100;
  if (kind >= 60) text.append(kind >= 98 ? 900 + kind : kind, static_cast<char>('a' + key % 26));
  return text;
}

std::optional<std::uint32_t> key_number(std::string_view text) {
  if (text.size() < kDigits) return std::nullopt;
  std::uint32_t key = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + kDigits, key);
  if (error != std::errc() || end != text.data() + kDigits || key_text(key) != text) return std::nullopt;
  return key;
}

std::string value_text(ValueName name) {
  static_assert(sizeof(ValueName) == kMinValueBytes);
  std::string text(name.bytes, '\0');
  std::memcpy(text.data(), &name, sizeof(name));
  std::uint64_t word = mix(name.operation ^ std::uint64_t{name.key} << 32);
  for (std::size_t at = sizeof(name); at < text.size(); at += sizeof(word)) {
    word = word * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t scattered = word ^ word >> 29;
    std::memcpy(text.data() + at, &scattered, std::min(sizeof(word), text.size() - at));
  }
  return text;
}

std::optional<ValueName> value_name(std::string_view text) {
  ValueName name;
  if (text.size() < sizeof(name)) return std::nullopt;
  std::memcpy(&name, text.data(), sizeof(name));
  if (name.bytes != text.size() || value_text(name) != text) return std::nullopt;
  return name;
}

}  // namespace store::crash
