// The ranges that were erased while a write buffer was the active one: which of them covers a key, for readers of every age.
//
// At most kMax ranges, in the order of their sequence numbers. All their bounds together cut the keys into pieces; each piece
// has a mask of the ranges that cover it, a bit for each. So a lookup is one binary search, and what a reader sees of a piece
// are the bits of the ranges that are not younger than he.
//
// Invariants:
//  * Sequence numbers ascend with the number of the bit.
//  * Cuts ascend. A piece reaches from its cut to the next one, the last without end; before the first cut nothing is
//    covered. Neighbouring pieces have different masks, so that every cut is a bound of a range: at most 2 * kMax.
//  * A range that a later one covers wholly is forgotten if nobody can read between the two. So erasing the head of a
//    growing queue again and again needs one.
//
// Part of a buffer, in whose arena the bounds lie; nothing here allocates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "store/base/ids.hpp"
#include "store/base/units.hpp"

namespace store {

class RangeTombstones {
 public:
  static constexpr std::size_t kMax = kMaxBatchRanges;

  // Neighbouring keys that are all erased: [from, to), or without end.
  struct Stretch {
    std::string_view from;
    std::optional<std::string_view> to;

    bool begins_before(const std::optional<std::string_view>& upper) const { return !upper || from < *upper; }
    bool covers(std::string_view lower, const std::optional<std::string_view>& upper) const {
      return from <= lower && (!to || (upper && *upper <= *to));
    }
  };

  bool empty() const noexcept { return count_ == 0; }
  std::size_t count() const noexcept { return count_; }

  // Adds [from, to), whose bounds stay where they are. `newest_reader`: the highest sequence number at which somebody may
  // still read. Requires: count() < kMax; a range that is not empty; seq above every earlier one.
  void add(std::string_view from, std::optional<std::string_view> to, SeqNo seq, SeqNo newest_reader) noexcept;
  void clear() noexcept { count_ = cut_count_ = 0; }

  // The sequence number of the newest range with seq <= at that covers `key`; 0 if none does.
  SeqNo newest_over(std::string_view key, SeqNo at) const noexcept;
  // What the ranges with after < seq <= at erase: the longest stretch that holds `key`, or else the next one behind it.
  std::optional<Stretch> next_stretch(std::string_view key, SeqNo at, SeqNo after = SeqNo{}) const noexcept;

 private:
  using Mask = std::uint64_t;
  static_assert(kMax == 64, "a bit for each range");

  std::size_t pieces_from(std::string_view key) const noexcept;
  std::size_t cut_at(std::string_view bound) noexcept;
  void forget_covered(SeqNo newest_reader) noexcept;
  void join_pieces() noexcept;
  Mask seen(SeqNo at, SeqNo after) const noexcept;

  std::array<SeqNo, kMax> seqs_;
  std::size_t count_ = 0;
  std::array<std::string_view, 2 * kMax> cuts_;
  std::array<Mask, 2 * kMax> masks_{};  // of the piece behind each cut
  std::size_t cut_count_ = 0;
};

}  // namespace store
