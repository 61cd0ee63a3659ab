// The search inside a leaf or branch: the hottest code of the engine. Slots are sorted by key; each has a 4-byte
// head, the first bytes of its key behind the page's common prefix as a big-endian number, zero padded. Heads lie
// contiguously right behind header and prefix, so that the search reads a few cache lines whose addresses do not
// depend on each other, and only a slot of equal head has its key compared. Comparing heads never misorders: a < b
// implies head(a) <= head(b). The narrowing has no branch that depends on data: a mispredicted one costs more than
// all other work here.
#pragma once

#include <emmintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "store/page/bytes.hpp"
#include "store/page/layout.hpp"

namespace store {

// The result of a search: `slot` is the first whose key is not below the one sought (count() if all are); `found`
// says whether it is equal.
struct Lookup {
  std::uint32_t slot = 0;
  bool found = false;
  constexpr bool operator==(const Lookup&) const = default;
};

// Bytes that all keys between `first` and `last` (ends included) have in common.
inline std::size_t common_prefix_bytes(std::string_view first, std::string_view last) noexcept {
  const std::size_t limit = std::min(first.size(), last.size());
  std::size_t n = 0;
  while (n < limit && first[n] == last[n]) ++n;
  return n;
}

namespace detail {

template <std::size_t kLines>
inline void prefetch_lines(const std::byte* page) noexcept {
  for (std::size_t line = 0; line < kLines; ++line) __builtin_prefetch(page + 64 * line);
}

inline constexpr std::size_t kHeadBytes = 4;
inline constexpr std::size_t kOffsetBytes = 2;
inline constexpr std::size_t kSlottedHeaderBytes = sizeof(layout::SlottedHeader);

inline std::uint32_t head_of(std::string_view suffix) noexcept {
  if (suffix.size() >= kHeadBytes) [[likely]] {
    std::uint32_t raw;
    std::memcpy(&raw, suffix.data(), sizeof raw);
    return __builtin_bswap32(raw);
  }
  std::uint32_t head = 0;
  for (std::size_t i = 0; i < suffix.size(); ++i) {
    head |= std::uint32_t{static_cast<unsigned char>(suffix[i])} << (24 - 8 * i);
  }
  return head;
}

// Whether `bytes` bytes are equal. Keys are short: a call of memcmp costs more than comparing them here.
inline bool equal_bytes(const char* a, const char* b, std::size_t bytes) noexcept {
  const auto differ = [&]<class T>(T, std::size_t at) {
    T x;
    T y;
    std::memcpy(&x, a + at, sizeof x);
    std::memcpy(&y, b + at, sizeof y);
    return x != y;
  };
  // The last piece overlaps the one before, so that any length takes whole words.
  if (bytes >= 8) {
    for (std::size_t at = 0; at < bytes - 8; at += 8) {
      if (differ(std::uint64_t{}, at)) return false;
    }
    return !differ(std::uint64_t{}, bytes - 8);
  }
  if (bytes >= 4) return !differ(std::uint32_t{}, 0) && !differ(std::uint32_t{}, bytes - 4);
  for (std::size_t at = 0; at < bytes; ++at) {
    if (a[at] != b[at]) return false;
  }
  return true;
}

// The last step looks at this many heads at once.
inline constexpr std::size_t kHeadWindow = 16;

// How many of the `count` sorted heads are below `head`.
// Reads up to kHeadWindow heads from a position at or before the last one, that is up to 60 bytes behind the array.
// They are inside the page: heads begin at byte 20 + 1024 at most, so 64 bytes from there are; and when count >=
// kHeadWindow, offsets and cells behind the array take at least 4 bytes a slot, 64 in all.
inline std::size_t heads_below(const std::byte* heads, std::size_t count, std::uint32_t head) noexcept {
  const std::byte* base = heads;
  std::size_t n = count;
  while (n > kHeadWindow) {
    const std::size_t half = n / 2;
    const std::uint32_t probe = load<std::uint32_t>(base + kHeadBytes * (half - 1));
    base += kHeadBytes * (half & (0 - static_cast<std::size_t>(probe < head)));
    n -= half;
  }
  // SSE2 compares signed numbers only: flipping the sign bit maps the unsigned order to the signed one.
  const __m128i flip = _mm_set1_epi32(INT32_MIN);
  const __m128i sought = _mm_xor_si128(_mm_set1_epi32(static_cast<int>(head)), flip);
  const auto below = [&](std::size_t quarter) {
    const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(base + 16 * quarter));
    return _mm_cmpgt_epi32(sought, _mm_xor_si128(four, flip));
  };
  const __m128i low = _mm_packs_epi32(below(0), below(1));
  const __m128i high = _mm_packs_epi32(below(2), below(3));
  const auto mask = static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high)));
  // Heads ascend, so those below are the lowest bits; a bit set at n stops the count at the array's end.
  const auto in_window = static_cast<std::size_t>(__builtin_ctz(~mask | (1u << n)));
  return static_cast<std::size_t>(base - heads) / kHeadBytes + in_window;
}

// The first slot in [first, count) whose key is not below `key`. `suffix_of(slot)` gives a key without the prefix.
template <class SuffixOf>
inline Lookup find_slot(const std::byte* heads, std::uint32_t first, std::uint32_t count, std::string_view prefix,
                        std::string_view key, const SuffixOf& suffix_of) noexcept {
  if (key.size() < prefix.size() || !equal_bytes(key.data(), prefix.data(), prefix.size())) [[unlikely]] {
    return {key < prefix ? first : count, false};
  }
  const std::string_view rest = key.substr(prefix.size());
  const std::uint32_t head = head_of(rest);
  const auto head_at = [&](std::uint32_t slot) { return load<std::uint32_t>(heads + kHeadBytes * slot); };

  std::uint32_t slot = first + static_cast<std::uint32_t>(heads_below(heads + kHeadBytes * first, count - first, head));
  if (slot == count || head_at(slot) != head) return {slot, false};
  const std::string_view candidate = suffix_of(slot);
  if (candidate.size() == rest.size() && equal_bytes(candidate.data(), rest.data(), rest.size())) [[likely]] {
    return {slot, true};
  }
  int whole = candidate.compare(rest);
  if (whole >= 0) return {slot, false};
  if (++slot == count || head_at(slot) != head) return {slot, false};

  // Several slots share the head: their keys decide.
  std::uint32_t low = slot;
  std::uint32_t high = count;
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    whole = head_at(middle) != head ? 1 : suffix_of(middle).compare(rest);  // no head from here on is lower
    if (whole == 0) return {middle, true};
    if (whole < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return {low, false};
}

}  // namespace detail
}  // namespace store
