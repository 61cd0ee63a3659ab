#include "store/writebuf/range_tombstones.hpp"

#include <algorithm>
#include <bit>

#include "store/base/assert.hpp"

namespace store {
namespace {

// The first `n` of 64 bits.
constexpr std::uint64_t first_bits(std::size_t n) { return n == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1; }

}  // namespace

// The number of cuts at or before `key`: the piece that holds it is the one before that.
std::size_t RangeTombstones::pieces_from(std::string_view key) const noexcept {
  const auto begin = cuts_.begin();
  return static_cast<std::size_t>(std::upper_bound(begin, begin + cut_count_, key) - begin);
}

RangeTombstones::Mask RangeTombstones::seen(SeqNo at, SeqNo after) const noexcept {
  const auto begin = seqs_.begin();
  const auto until = [&](SeqNo seq) {
    return first_bits(static_cast<std::size_t>(std::upper_bound(begin, begin + count_, seq) - begin));
  };
  return until(at) & ~until(after);
}

SeqNo RangeTombstones::newest_over(std::string_view key, SeqNo at) const noexcept {
  const std::size_t piece = pieces_from(key);
  if (piece == 0) return SeqNo{};
  const Mask covering = masks_[piece - 1] & seen(at, SeqNo{});
  return covering == 0 ? SeqNo{} : seqs_[std::bit_width(covering) - 1u];
}

std::optional<RangeTombstones::Stretch> RangeTombstones::next_stretch(std::string_view key, SeqNo at,
                                                                      SeqNo after) const noexcept {
  const Mask mask = seen(at, after);
  std::size_t first = pieces_from(key);
  if (first > 0) --first;
  while (first < cut_count_ && (masks_[first] & mask) == 0) ++first;
  if (first == cut_count_) return std::nullopt;
  std::size_t end = first + 1;
  while (end < cut_count_ && (masks_[end] & mask) != 0) ++end;
  while (first > 0 && (masks_[first - 1] & mask) != 0) --first;
  Stretch stretch{cuts_[first], std::nullopt};
  if (end < cut_count_) stretch.to = cuts_[end];
  return stretch;
}

void RangeTombstones::add(std::string_view from, std::optional<std::string_view> to, SeqNo seq,
                          SeqNo newest_reader) noexcept {
  STORE_ASSERT(count_ < kMax && (!to || from < *to));
  STORE_ASSERT(count_ == 0 || seqs_[count_ - 1] < seq);
  const std::size_t first = cut_at(from);
  const std::size_t end = to ? cut_at(*to) : cut_count_;
  for (std::size_t piece = first; piece < end; ++piece) masks_[piece] |= Mask{1} << count_;
  seqs_[count_++] = seq;
  forget_covered(newest_reader);
  join_pieces();
}

// The piece that begins at `bound`, cut off from the one it was in if there was no cut.
std::size_t RangeTombstones::cut_at(std::string_view bound) noexcept {
  const std::size_t at = pieces_from(bound);
  if (at > 0 && cuts_[at - 1] == bound) return at - 1;
  STORE_ASSERT(cut_count_ < cuts_.size());
  std::copy_backward(cuts_.begin() + at, cuts_.begin() + cut_count_, cuts_.begin() + cut_count_ + 1);
  std::copy_backward(masks_.begin() + at, masks_.begin() + cut_count_, masks_.begin() + cut_count_ + 1);
  cuts_[at] = bound;
  masks_[at] = at > 0 ? masks_[at - 1] : 0;
  ++cut_count_;
  return at;
}

// A range is forgotten if all its pieces have the newest one too and all readers are older than it.
void RangeTombstones::forget_covered(SeqNo newest_reader) noexcept {
  const Mask newest = Mask{1} << (count_ - 1);
  Mask kept = newest | seen(newest_reader, SeqNo{});
  for (std::size_t piece = 0; piece < cut_count_; ++piece) {
    if ((masks_[piece] & newest) == 0) kept |= masks_[piece];
  }
  for (std::size_t range = count_ - 1; range-- > 0;) {
    if ((kept >> range & 1) != 0) continue;
    std::copy(seqs_.begin() + range + 1, seqs_.begin() + count_, seqs_.begin() + range);
    --count_;
    for (std::size_t piece = 0; piece < cut_count_; ++piece) {
      const Mask older = masks_[piece] & first_bits(range);
      masks_[piece] = older | (masks_[piece] >> 1 & ~first_bits(range));
    }
  }
}

void RangeTombstones::join_pieces() noexcept {
  std::size_t left = 0;
  for (std::size_t piece = 0; piece < cut_count_; ++piece) {
    if (masks_[piece] == (left > 0 ? masks_[left - 1] : 0)) continue;
    cuts_[left] = cuts_[piece];
    masks_[left++] = masks_[piece];
  }
  cut_count_ = left;
}

}  // namespace store
