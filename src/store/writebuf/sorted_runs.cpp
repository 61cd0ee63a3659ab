#include "store/writebuf/sorted_runs.hpp"

#include <algorithm>
#include <cstring>

#include "store/base/assert.hpp"

namespace store {
namespace {

// Blocks of so many records are sorted by insertion before merging starts.
constexpr std::size_t kInsertionRecords = 4;
// Keys are fetched so far ahead of the one that is read.
constexpr std::size_t kPrefetchDistance = 16;

// `a` if `choice` is 1, `b` if it is 0, by arithmetic: g++ makes a jump of ?: here, mispredicted every other time.
const SortRecord* select(const SortRecord* a, const SortRecord* b, std::ptrdiff_t choice) noexcept {
  return b + ((a - b) & -choice);
}

}  // namespace

std::uint64_t key_prefix(std::string_view key, std::size_t skip) noexcept {
  std::uint64_t bytes = 0;
  if (key.size() >= skip + sizeof bytes) {
    std::memcpy(&bytes, key.data() + skip, sizeof bytes);
  } else if (key.size() > skip) {
    std::memcpy(&bytes, key.data() + skip, key.size() - skip);
  }
  return __builtin_bswap64(bytes);
}

SortRecord SortedRuns::make_record(NodeRef node, std::size_t skip) const noexcept {
  const std::string_view key = arena_->key(node);
  const std::uint64_t next = key_prefix(key, skip + 8);
  return {key_prefix(key, skip), (next & 0xFFFFFFFF00000000u) | static_cast<std::uint32_t>(node)};
}

bool SortedRuns::keys_less(const SortRecord& a, const SortRecord& b) const noexcept {
  return arena_->key(a.node()) < arena_->key(b.node());
}

std::uint32_t SortedRuns::lower_bound(const Run& run, std::string_view key) const noexcept {
  const std::string_view common = arena_->key(record(run.first).node()).substr(0, run.skip);
  const int order = key.substr(0, run.skip).compare(common);
  if (order != 0) return order < 0 ? run.first : run.end;

  const SortRecord wanted{key_prefix(key, run.skip), key_prefix(key, run.skip + 8) & 0xFFFFFFFF00000000u};
  const SortRecord* first = memory_.records + run.first;
  for (std::size_t n = run.end - run.first; n > 0;) {
    const std::size_t half = n / 2;
    const SortRecord& middle = first[half];
    const bool below = __builtin_expect(same_prefix(middle, wanted), 0) ? arena_->key(middle.node()) < key
                                                                        : prefix_less(middle, wanted);
    first += below ? half + 1 : 0;
    n = below ? n - half - 1 : half;
  }
  return static_cast<std::uint32_t>(first - memory_.records);
}

void SortedRuns::sort_tail(std::size_t skip) noexcept {
  const std::size_t first = count_ % kTailRecords == 0 && count_ > sorted_end_ ? count_ - kTailRecords : tail_first();
  if (sorted_end_ == count_) return;
  std::size_t unsorted = std::max(first, sorted_end_);
  std::uint16_t& tail_skip = memory_.skips[first / kTailRecords];
  if (tail_skip != skip) unsorted = first;
  tail_skip = static_cast<std::uint16_t>(skip);
  read_prefixes(unsorted, count_, skip);
  sort(unsorted, count_);
  if (unsorted > first) join(first, unsorted, count_);
  sorted_end_ = count_;
  ++epoch_;
}

void SortedRuns::close_tail(std::size_t skip) noexcept {
  sort_tail(skip);
  for (std::size_t length = kTailRecords; length < kMaxRunRecords && count_ % (2 * length) == 0; length *= 2) {
    merge(count_ - 2 * length, count_ - length, count_, skip);
  }
}

void SortedRuns::merge(std::size_t first, std::size_t middle, std::size_t end, std::size_t skip) noexcept {
  std::uint16_t& left = memory_.skips[first / kTailRecords];
  const std::uint16_t right = memory_.skips[middle / kTailRecords];
  STORE_ASSERT(skip <= left && skip <= right);
  if (left != skip) read_prefixes(first, middle, skip);
  if (right != skip) read_prefixes(middle, end, skip);
  left = static_cast<std::uint16_t>(skip);
  join(first, middle, end);
}

// Merges two neighbouring sorted ranges where they stand.
void SortedRuns::join(std::size_t first, std::size_t middle, std::size_t end) noexcept {
  SortRecord* const records = memory_.records;
  if (less(records[middle - 1], records[middle])) return;  // keys that arrive in order
  const std::size_t n = end - first;
  std::copy(records + first, records + end, memory_.scratch);
  if (middle - first == end - middle) {
    merge_halves(memory_.scratch, n / 2, records + first);
  } else {
    merge_any(memory_.scratch, memory_.scratch + (middle - first), memory_.scratch + n, records + first);
  }
}

// Merges two sorted ranges of `half` records each, from both ends at once: two chains of dependent steps that the
// processor overlaps, and after `half` steps of each neither has run out of records, so nothing checks for it.
void SortedRuns::merge_halves(const SortRecord* source, std::size_t half, SortRecord* out) const noexcept {
  const SortRecord* left = source;
  const SortRecord* right = source + half;
  const SortRecord* left_last = right - 1;
  const SortRecord* right_last = right + half - 1;
  SortRecord* out_last = out + 2 * half - 1;
  for (std::size_t i = 0; i < half; ++i) {
    const std::ptrdiff_t take_right = less(*right, *left);
    *out++ = *select(right, left, take_right);
    right += take_right;
    left += 1 - take_right;

    const std::ptrdiff_t take_left = less(*right_last, *left_last);
    *out_last-- = *select(left_last, right_last, take_left);
    left_last -= take_left;
    right_last -= 1 - take_left;
  }
}

// Merges the sorted ranges [left, middle) and [middle, end) of any lengths.
void SortedRuns::merge_any(const SortRecord* left, const SortRecord* middle, const SortRecord* end,
                           SortRecord* out) const noexcept {
  const SortRecord* right = middle;
  while (left != middle && right != end) {
    const bool take_right = less(*right, *left);
    *out++ = *(take_right ? right : left);
    right += take_right;
    left += !take_right;
  }
  out = std::copy(left, middle, out);
  std::copy(right, end, out);
}

// Sorts at most kTailRecords: small blocks by insertion, then merges back and forth between records and scratch.
void SortedRuns::sort(std::size_t first, std::size_t end) noexcept {
  const std::size_t n = end - first;
  SortRecord* from = memory_.records + first;
  SortRecord* to = memory_.scratch;
  for (std::size_t block = 0; block < n; block += kInsertionRecords) {
    const std::size_t block_end = std::min(block + kInsertionRecords, n);
    for (std::size_t i = block + 1; i < block_end; ++i) {
      const SortRecord moving = from[i];
      std::size_t j = i;
      for (; j > block && less(moving, from[j - 1]); --j) from[j] = from[j - 1];
      from[j] = moving;
    }
  }
  for (std::size_t half = kInsertionRecords; half < n; half *= 2) {
    std::size_t at = 0;
    for (; at + 2 * half <= n; at += 2 * half) merge_halves(from + at, half, to + at);
    merge_any(from + at, from + std::min(at + half, n), from + n, to + at);
    std::swap(from, to);
  }
  if (from != memory_.records + first) std::copy(from, from + n, memory_.records + first);
}

void SortedRuns::read_prefixes(std::size_t first, std::size_t end, std::size_t skip) noexcept {
  for (std::size_t i = first; i < end; ++i) {
    if (i + kPrefetchDistance < end) arena_->prefetch(memory_.records[i + kPrefetchDistance].node());
    memory_.records[i] = make_record(memory_.records[i].node(), skip);
  }
}

}  // namespace store
