// The ordered side of a write buffer: one 16-byte record a key, in one array, in the order of arrival.
//
// The array is a row of sorted runs and an unsorted tail of fewer than kTailRecords. A tail that fills is sorted and
// becomes a run; two neighbouring runs of the same length are merged until kMaxRunRecords, so the lengths are the
// binary digits of the count and no single append does more than merge kMaxRunRecords (some 0.3 ms, and as much again
// when smaller runs fill up with it). Merging copies to a scratch area and back: nothing allocates, nothing fails.
//
// A record holds 12 bytes of its key, taken behind the prefix that all keys of its run have in common, so most
// comparisons touch no key. That common prefix can only shrink as keys arrive; a run that was made with a longer one
// is read anew when it is merged.
//
// Every rearrangement advances epoch(): who stands in a run then seeks anew. Borrows its memory from the buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/writebuf/arena.hpp"

namespace store {

// 8 bytes of the key big-endian, then 4 more and the node: compared as numbers, unless all 12 bytes are equal.
struct SortRecord {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  NodeRef node() const noexcept { return NodeRef{static_cast<std::uint32_t>(low)}; }
};
static_assert(sizeof(SortRecord) == 16);

inline bool same_prefix(const SortRecord& a, const SortRecord& b) noexcept {
  return ((a.high ^ b.high) | (a.low ^ b.low) >> 32) == 0;
}
// The order of records whose prefixes differ; without a branch, which random keys would mispredict every other time.
inline bool prefix_less(const SortRecord& a, const SortRecord& b) noexcept {
  __extension__ using Wide = unsigned __int128;
  return (Wide{a.high} << 64 | a.low) < (Wide{b.high} << 64 | b.low);
}

// The 8 bytes of `key` from `skip` on as a number that orders like them; short keys are padded with zeros.
std::uint64_t key_prefix(std::string_view key, std::size_t skip = 0) noexcept;

class SortedRuns {
 public:
  static constexpr std::size_t kTailRecords = 256;
  static constexpr std::size_t kMaxRunRecords = std::size_t{64} << 10;

  // Sorted records [first, end) whose prefixes start behind `skip` bytes.
  struct Run {
    std::uint32_t first = 0;
    std::uint32_t end = 0;
    std::uint32_t skip = 0;
  };

  struct Memory {
    SortRecord* records;   // max_records
    SortRecord* scratch;   // scratch_records(max_records)
    std::uint16_t* skips;  // skip_count(max_records)
  };
  static constexpr std::size_t scratch_records(std::size_t max_records) {
    return max_records < kTailRecords ? kTailRecords : max_records < kMaxRunRecords ? max_records : kMaxRunRecords;
  }
  static constexpr std::size_t skip_count(std::size_t max_records) { return max_records / kTailRecords + 1; }
  // More runs than max_records records can ever be in.
  static constexpr std::size_t max_runs(std::size_t max_records) { return max_records / kMaxRunRecords + 10; }

  SortedRuns(const Memory& memory, const Arena& arena) noexcept : memory_(memory), arena_(&arena) {}

  std::size_t count() const noexcept { return count_; }
  std::uint64_t epoch() const noexcept { return epoch_; }

  // Adds a key that is not yet there. `skip`: bytes that all keys, this one included, have in common.
  void append(NodeRef node, std::size_t skip) noexcept {
    memory_.records[count_++] = {0, static_cast<std::uint32_t>(node)};
    if (count_ % kTailRecords == 0) close_tail(skip);
  }
  // Sorts the tail where it stands: for_each_run() then covers every key.
  void sort_tail(std::size_t skip) noexcept;

  // Calls `fn(Run)` for each run, the sorted part of the tail last. Keys behind that came after the last sort_tail().
  template <class Fn>
  void for_each_run(Fn&& fn) const {
    const std::size_t tail = tail_first();
    std::size_t first = 0;
    for (std::size_t length = kMaxRunRecords; length >= kTailRecords; length /= 2) {
      for (; tail - first >= length; first += length) fn(run_at(first, first + length));
    }
    if (sorted_end_ > tail) fn(run_at(tail, sorted_end_));
  }
  // The first record of the run whose key is >= `key`.
  std::uint32_t lower_bound(const Run& run, std::string_view key) const noexcept;

  const SortRecord& record(std::size_t i) const noexcept { return memory_.records[i]; }
  // The record of `node` with the prefix behind `skip` bytes of its key.
  SortRecord make_record(NodeRef node, std::size_t skip) const noexcept;
  bool less(const SortRecord& a, const SortRecord& b) const noexcept {
    return __builtin_expect(same_prefix(a, b), 0) ? keys_less(a, b) : prefix_less(a, b);
  }
  bool keys_less(const SortRecord& a, const SortRecord& b) const noexcept;

 private:
  void close_tail(std::size_t skip) noexcept;
  void merge(std::size_t first, std::size_t middle, std::size_t end, std::size_t skip) noexcept;
  void join(std::size_t first, std::size_t middle, std::size_t end) noexcept;
  void merge_halves(const SortRecord* source, std::size_t half, SortRecord* out) const noexcept;
  void merge_any(const SortRecord* left, const SortRecord* middle, const SortRecord* end,
                 SortRecord* out) const noexcept;
  void sort(std::size_t first, std::size_t end) noexcept;
  void read_prefixes(std::size_t first, std::size_t end, std::size_t skip) noexcept;
  std::size_t tail_first() const noexcept { return count_ - count_ % kTailRecords; }
  Run run_at(std::size_t first, std::size_t end) const noexcept {
    return {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(end), memory_.skips[first / kTailRecords]};
  }

  Memory memory_;
  const Arena* arena_;
  std::size_t count_ = 0;
  std::size_t sorted_end_ = 0;  // the tail is sorted up to here
  std::uint64_t epoch_ = 0;
};

}  // namespace store
