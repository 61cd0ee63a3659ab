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
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/packed_cell.hpp"

namespace store {

struct LeafPolicy {
  using Cell = LeafCell;

  static std::string_view key(const Cell& cell) { return cell.key; }
  // What a cell holds behind its key while it is kept: as in the page.
  static std::size_t payload_bytes(const Cell& cell) { return value_bytes(cell.value); }
  static bool is_run(const Cell& cell) { return cell.value.is_run(); }
  static void put_payload(const Cell& cell, std::byte* at) {
    if (cell.value.is_run()) [[unlikely]] {
      put_leaf_value(at, cell.value);
    } else {
      const std::string_view bytes = cell.value.bytes();
      if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    }
  }
  // The keys of a page are all stored, so all take part in its prefix.
  static constexpr std::size_t kFirstStoredKey = 0;
  static std::size_t page_bytes(std::size_t count, std::size_t sum_key_bytes, std::size_t sum_payload_bytes,
                                std::size_t prefix_bytes) {
    return leaf_bytes(count, sum_key_bytes, sum_payload_bytes, prefix_bytes);
  }
};

struct BranchPolicy {
  using Cell = BranchCell;

  static std::string_view key(const Cell& cell) { return cell.separator; }
  static std::size_t payload_bytes(const Cell&) { return sizeof(layout::Pointer); }
  static bool is_run(const Cell&) { return false; }
  static void put_payload(const Cell& cell, std::byte* at) { put_pointer(at, cell.child); }
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
    const std::size_t payload_bytes = Policy::payload_bytes(cell);
    Policy::put_payload(cell, copy_key(reserve(key.size() + payload_bytes), key));
    append(key.size(), payload_bytes, Policy::is_run(cell));
  }
  // The same of a cell whose key is `prefix` and `suffix`, with the payload in its page behind the suffix.
  void add(std::string_view prefix, std::string_view suffix, std::size_t payload_bytes, bool is_run) {
    const std::size_t bytes = suffix.size() + payload_bytes;
    std::byte* at = copy_key(reserve(prefix.size() + bytes), prefix);
    std::memcpy(at, suffix.data(), bytes);
    append(prefix.size() + suffix.size(), payload_bytes, is_run);
  }

  bool empty() const { return pages_.empty(); }
  std::size_t cell_count() const { return cells_.size() - first_; }
  // Requires: !empty(). Until the next add() or pop_front().
  std::string_view last_key() const { return key(cells_.size() - 1); }
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

  // The cells of the first page, and the bytes that they refer to; views live until the next add() or pop_front().
  PackedCells front() const {
    STORE_ASSERT(!pages_.empty());
    return {bytes_.data(), std::span(cells_).subspan(pages_.front().begin, pages_.front().count)};
  }
  // Removes the first page's cells.
  void pop_front() {
    STORE_ASSERT(!pages_.empty());
    pages_.erase(pages_.begin());
    first_ = pages_.empty() ? cells_.size() : pages_.front().begin;
    const std::uint32_t begin = first_ < cells_.size() ? cells_[first_].at : static_cast<std::uint32_t>(end_);
    if (begin < std::max(kBytesToKeep, (end_ - begin) / 2)) return;
    cells_.erase(cells_.begin(), cells_.begin() + static_cast<std::ptrdiff_t>(first_));
    for (PackedCell& cell : cells_) cell.at -= begin;
    for (Page& page : pages_) page.begin -= first_;
    first_ = 0;
    std::memmove(bytes_.data(), bytes_.data() + begin, end_ - begin);
    end_ -= begin;
  }

 private:
  static constexpr std::size_t kHeldPages = 4;
  // What pages that left have held is dropped so many bytes at a time, or half of what is held, which may be more where keys have
  // much in common: shifting the rest costs a copy of it; and what the core works on should fit its first cache.
  static constexpr std::size_t kBytesToKeep = 12u << 10;

  struct Page {
    std::size_t begin;  // its first cell
    std::size_t count;
    std::size_t stored_key_bytes;
    std::size_t payload_bytes;
    std::size_t prefix_bytes;  // common to the stored keys
  };

  // Where the next cell goes.
  std::byte* reserve(std::size_t bytes) {
    if (end_ + bytes > bytes_.size()) [[unlikely]]
      bytes_.resize(2 * (end_ + bytes));
    return bytes_.data() + end_;
  }
  // Takes what stands there as the next cell.
  void append(std::size_t key_bytes, std::size_t payload_bytes, bool is_run) {
    const std::string_view key = text_at(bytes_.data() + end_, key_bytes);
    if (pages_.empty() || !extend(pages_.back(), key, payload_bytes)) {
      pages_.push_back(Page{cells_.size(), 0, 0, 0, 0});
      const bool fits = extend(pages_.back(), key, payload_bytes);
      STORE_ASSERT(fits);
    }
    cells_.push_back(PackedCell(end_, key_bytes, payload_bytes, is_run));
    end_ += key_bytes + payload_bytes;
  }

  std::string_view key(std::size_t i) const { return text_at(bytes_.data() + cells_[i].at, cells_[i].key_bytes); }

  static std::size_t page_size(const Page& page) {
    return Policy::page_bytes(page.count, page.stored_key_bytes, page.payload_bytes, page.prefix_bytes);
  }
  std::size_t prefix_with(const Page& page, std::string_view next) const {
    if (page.count < Policy::kFirstStoredKey) return 0;
    if (page.count == Policy::kFirstStoredKey) return next.size();
    return common_prefix_bytes(key(page.begin + Policy::kFirstStoredKey).substr(0, page.prefix_bytes), next);
  }
  // Counts one more cell into the page, if it still fits then.
  bool extend(Page& page, std::string_view next, std::size_t payload_bytes) const {
    const std::size_t prefix_bytes = prefix_with(page, next);
    const std::size_t key_bytes = page.stored_key_bytes + (page.count >= Policy::kFirstStoredKey ? next.size() : 0);
    if (Policy::page_bytes(page.count + 1, key_bytes, page.payload_bytes + payload_bytes, prefix_bytes) > kPageBytes) {
      return false;
    }
    page.prefix_bytes = prefix_bytes;
    page.stored_key_bytes = key_bytes;
    page.payload_bytes += payload_bytes;
    ++page.count;
    return true;
  }

  // The same cells in pages of about equal size; more pages than now if that cannot be.
  std::vector<Page> divide_evenly() const {
    std::size_t left = packed_bytes();
    std::size_t pages_left = pages_.size();
    std::vector<Page> result;
    for (std::size_t i = pages_.front().begin; i < cells_.size(); ++i) {
      const bool enough = result.empty() || (pages_left > 0 && page_size(result.back()) >= left / (pages_left + 1));
      if (!enough && extend(result.back(), key(i), cells_[i].payload_bytes())) continue;
      if (!result.empty()) left -= std::min(left, page_size(result.back()));
      result.push_back(Page{i, 0, 0, 0, 0});
      if (pages_left > 0) --pages_left;
      extend(result.back(), key(i), cells_[i].payload_bytes());
    }
    return result;
  }

  std::vector<std::byte> bytes_;  // keys and payloads of the cells
  std::size_t end_ = 0;           // of what is used of it
  std::vector<PackedCell> cells_;
  std::size_t first_ = 0;    // the cells before it are of pages that left
  std::vector<Page> pages_;  // consecutive, covering all cells
};

using LeafPacker = Packer<LeafPolicy>;
using BranchPacker = Packer<BranchPolicy>;

}  // namespace store
