// Strong types for the numbers that must never be mistaken for one another.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace store {

template <class Tag, class Rep>
struct StrongId {
  Rep value{};

  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep v) : value(v) {}
  constexpr auto operator<=>(const StrongId&) const = default;
  constexpr StrongId next() const { return StrongId(static_cast<Rep>(value + 1)); }
};

// A block of kPageBytes on the device, counted from its start; 32 bits, so a partition spans at most 16 TiB.
using PageNo = StrongId<struct PageNoTag, std::uint32_t>;
// A state of the tree; 48 bits on the device.
using Generation = StrongId<struct GenerationTag, std::uint64_t>;
// The order of writes in a partition; every put, erase, erased range or batch entry takes the next one. 0 is before the first.
using SeqNo = StrongId<struct SeqNoTag, std::uint64_t>;

inline constexpr Generation kMaxGeneration{(std::uint64_t{1} << 48) - 1};
inline constexpr SeqNo kMaxSeqNo{~std::uint64_t{0}};

// `count` blocks from `first` on.
struct Extent {
  PageNo first;
  std::uint32_t count = 0;

  constexpr std::uint64_t end() const { return std::uint64_t{first.value} + count; }
  constexpr bool operator==(const Extent&) const = default;
};

}  // namespace store

template <class Tag, class Rep>
struct std::hash<store::StrongId<Tag, Rep>> {
  std::size_t operator()(store::StrongId<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.value); }
};
