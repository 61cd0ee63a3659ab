// Extents in no order, for millions of them: to add one never moves many, and a long list becomes part of another without a look at
// its extents. Pieces of at most kPieceExtents, each a vector; those before the last may be short.
#pragma once

#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

#include "store/base/ids.hpp"

namespace store {

class ExtentList {
 public:
  static constexpr std::size_t kPieceExtents = 1024;

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }

  // Errors: bad_alloc; the list is as before.
  void push(Extent extent) {
    if (pieces_.empty() || pieces_.back().size() == kPieceExtents) pieces_.emplace_back();
    pieces_.back().push_back(extent);
    ++size_;
  }
  // Requires: !empty().
  Extent last() noexcept {
    while (pieces_.back().empty()) pieces_.pop_back();
    return pieces_.back().back();
  }
  Extent pop() noexcept {
    const Extent extent = last();
    pieces_.back().pop_back();
    --size_;
    return extent;
  }
  // Takes over all extents of `other`. Cost: for each piece of the shorter list, and its extents if it is one piece at most.
  // Errors: bad_alloc; each extent is then in one of the two.
  void take(ExtentList& other) {
    if (size_ < other.size_) std::swap(*this, other);
    if (other.size_ > kPieceExtents) {
      pieces_.insert(pieces_.end(), std::make_move_iterator(other.pieces_.begin()),
                     std::make_move_iterator(other.pieces_.end()));
      size_ += other.size_;
      other = ExtentList();
    }
    while (!other.empty()) {
      push(other.last());
      other.pop();
    }
  }

 private:
  std::vector<std::vector<Extent>> pieces_;
  std::size_t size_ = 0;
};

}  // namespace store
