// Divides a stream of ascending cells into pages, for one level of a merge. Pure: it holds copies of at most five pages'
// worth of cells and decides where a page ends; its owner encodes the pages and writes them.
//
// * While cells stream in, pages are filled to the brim. When a fifth page is begun, the first one may leave.
// * When the run of rewritten neighbours ends, what is left, at most four pages and a rest, is divided evenly over as few
//   pages as hold it. So a split is 1 to 2 only where no neighbour is being rewritten, else up to 3 to 4 or 4 to 5, and no
//   page is read for it that the merge would not have read anyway.
//
// A policy names the cell and its size: LeafPolicy and BranchPolicy below.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"

namespace store {

struct LeafPolicy {
  using Cell = LeafCell;
  // What a cell holds beside its key; inline bytes are kept behind the key's copy.
  struct Payload {
    bool is_run = false;
    std::uint32_t inline_bytes = 0;
    OverflowRef run;
  };

  static Payload payload(const Cell& cell) {
    return {cell.value.is_run(), static_cast<std::uint32_t>(cell.value.bytes().size()), cell.value.run()};
  }
  static std::string_view inline_bytes(const Cell& cell) { return cell.value.bytes(); }
  static std::string_view key(const Cell& cell) { return cell.key; }
  static Cell cell(std::string_view key, std::string_view bytes, const Payload& payload) {
    return {key, payload.is_run ? LeafValue(payload.run) : LeafValue(bytes)};
  }
  static std::size_t value_bytes(const Cell& cell) { return store::value_bytes(cell.value); }
  // The keys of a page are all stored, so all take part in its prefix.
  static constexpr std::size_t kFirstStoredKey = 0;
  static std::size_t page_bytes(std::size_t count, std::size_t sum_key_bytes, std::size_t sum_value_bytes,
                                std::size_t prefix_bytes) {
    return leaf_bytes(count, sum_key_bytes, sum_value_bytes, prefix_bytes);
  }
};

struct BranchPolicy {
  using Cell = BranchCell;
  using Payload = PagePointer;

  static Payload payload(const Cell& cell) { return cell.child; }
  static std::string_view inline_bytes(const Cell&) { return {}; }
  static std::string_view key(const Cell& cell) { return cell.separator; }
  static Cell cell(std::string_view key, std::string_view, const Payload& payload) { return {key, payload}; }
  static std::size_t value_bytes(const Cell&) { return 0; }
  // The first separator of a page is not stored: it is the page's own, kept by its parent.
  static constexpr std::size_t kFirstStoredKey = 1;
  static std::size_t page_bytes(std::size_t count, std::size_t sum_key_bytes, std::size_t, std::size_t prefix_bytes) {
    return branch_bytes(count, sum_key_bytes, prefix_bytes);
  }
};

template <class Policy>
class Packer {
 public:
  using Cell = typename Policy::Cell;

  // Adds a cell behind all others; copies what it refers to. Requires: a key above the last one.
  void add(const Cell& cell) {
    const std::string_view key = Policy::key(cell);
    const std::string_view bytes = Policy::inline_bytes(cell);
    const std::size_t value_bytes = Policy::value_bytes(cell);
    if (pages_.empty() || !extend(pages_.back(), key, value_bytes)) {
      pages_.push_back(Page{records_.size(), 0, 0, 0, 0});
      const bool fits = extend(pages_.back(), key, value_bytes);
      STORE_ASSERT(fits);
    }
    records_.push_back(Record{base_ + bytes_.size(), static_cast<std::uint32_t>(key.size()),
                              static_cast<std::uint32_t>(value_bytes), Policy::payload(cell)});
    bytes_.append(key);
    bytes_.append(bytes);
  }

  bool empty() const { return pages_.empty(); }
  std::size_t cell_count() const { return records_.size() - first_; }
  // Pages that the cells added so far take.
  std::size_t page_count() const { return pages_.size(); }
  // Whether the first page is settled although the run goes on.
  bool front_is_settled() const { return pages_.size() > kHeldPages; }
  // What the cells take when packed; exact for a single page.
  std::size_t packed_bytes() const {
    std::size_t sum = 0;
    for (const Page& page : pages_) sum += page_size(page);
    return sum;
  }

  // The run of neighbours ends: settles the bounds of all pages.
  void settle() {
    if (pages_.size() < 2) return;
    std::vector<Page> even = divide_evenly();
    if (even.size() == pages_.size()) pages_ = std::move(even);
  }

  // The cells of the first page; views live until the next add() or pop_front().
  std::span<const Cell> front() {
    STORE_ASSERT(!pages_.empty());
    cells_.clear();
    for (std::size_t i = 0; i < pages_.front().count; ++i) cells_.push_back(cell(pages_.front().begin + i));
    return cells_;
  }
  // Removes the first page's cells.
  void pop_front() {
    STORE_ASSERT(!pages_.empty());
    pages_.erase(pages_.begin());
    first_ = pages_.empty() ? records_.size() : pages_.front().begin;
    if (first_ < records_.size() && first_ < kRecordsToKeep) return;
    records_.erase(records_.begin(), records_.begin() + static_cast<std::ptrdiff_t>(first_));
    for (Page& page : pages_) page.begin -= first_;
    first_ = 0;
    const std::uint64_t first_byte = records_.empty() ? base_ + bytes_.size() : records_.front().key_at;
    bytes_.erase(0, static_cast<std::size_t>(first_byte - base_));
    base_ = first_byte;
  }

 private:
  static constexpr std::size_t kHeldPages = 4;
  // Records of pages that left are dropped so many at a time: shifting the others costs a copy of the held pages.
  static constexpr std::size_t kRecordsToKeep = 1024;

  struct Record {
    std::uint64_t key_at;  // inline bytes follow the key
    std::uint32_t key_bytes;
    std::uint32_t value_bytes;  // as the page counts them
    typename Policy::Payload payload;
  };
  struct Page {
    std::size_t begin;  // its first record
    std::size_t count;
    std::size_t stored_key_bytes;
    std::size_t value_bytes;
    std::size_t prefix_bytes;  // common to the stored keys
  };

  std::string_view key(std::size_t record) const {
    return std::string_view(bytes_).substr(static_cast<std::size_t>(records_[record].key_at - base_),
                                           records_[record].key_bytes);
  }
  Cell cell(std::size_t i) const {
    const Record& record = records_[i];
    const auto value_at = static_cast<std::size_t>(record.key_at - base_) + record.key_bytes;
    std::size_t inline_bytes = 0;
    if constexpr (requires { record.payload.inline_bytes; }) inline_bytes = record.payload.inline_bytes;
    return Policy::cell(key(i), std::string_view(bytes_).substr(value_at, inline_bytes), record.payload);
  }

  static std::size_t page_size(const Page& page) {
    return Policy::page_bytes(page.count, page.stored_key_bytes, page.value_bytes, page.prefix_bytes);
  }
  std::size_t prefix_with(const Page& page, std::string_view next) const {
    if (page.count < Policy::kFirstStoredKey) return 0;
    if (page.count == Policy::kFirstStoredKey) return next.size();
    return common_prefix_bytes(key(page.begin + Policy::kFirstStoredKey).substr(0, page.prefix_bytes), next);
  }
  // Counts one more cell into the page, if it still fits then.
  bool extend(Page& page, std::string_view next, std::size_t value_bytes) const {
    const std::size_t prefix_bytes = prefix_with(page, next);
    const std::size_t key_bytes = page.stored_key_bytes + (page.count >= Policy::kFirstStoredKey ? next.size() : 0);
    if (Policy::page_bytes(page.count + 1, key_bytes, page.value_bytes + value_bytes, prefix_bytes) > kPageBytes) {
      return false;
    }
    page.prefix_bytes = prefix_bytes;
    page.stored_key_bytes = key_bytes;
    page.value_bytes += value_bytes;
    ++page.count;
    return true;
  }

  // The same cells in pages of about equal size; more pages than now if that cannot be.
  std::vector<Page> divide_evenly() const {
    std::size_t left = packed_bytes();
    std::size_t pages_left = pages_.size();
    std::vector<Page> result;
    for (std::size_t i = pages_.front().begin; i < records_.size(); ++i) {
      const bool enough = result.empty() || (pages_left > 0 && page_size(result.back()) >= left / (pages_left + 1));
      if (!enough && extend(result.back(), key(i), records_[i].value_bytes)) continue;
      if (!result.empty()) left -= std::min(left, page_size(result.back()));
      result.push_back(Page{i, 0, 0, 0, 0});
      if (pages_left > 0) --pages_left;
      extend(result.back(), key(i), records_[i].value_bytes);
    }
    return result;
  }

  std::string bytes_;       // keys and inline values of the records
  std::uint64_t base_ = 0;  // what all offsets are relative to
  std::vector<Record> records_;
  std::size_t first_ = 0;    // the records before it are of pages that left
  std::vector<Page> pages_;  // consecutive, covering all records
  std::vector<Cell> cells_;  // what front() returns
};

using LeafPacker = Packer<LeafPolicy>;
using BranchPacker = Packer<BranchPolicy>;

}  // namespace store
