#include "store/tree/estimate.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <monterey/preempt.hpp>

#include "store/page/branch.hpp"
#include "store/tree/lookup.hpp"

namespace store {

namespace {

constexpr std::uint32_t kBranchesAhead = 16;

class LeafCounter {
 public:
  LeafCounter(PageCache& cache, std::string from, std::optional<std::string> to, monterey::IoClass io_class)
      : cache_(cache), from_(std::move(from)), to_(std::move(to)), io_class_(io_class) {}

  monterey::Task<> visit(PagePointer page, unsigned level) {
    if (level == 0) {
      add(page);
      co_return;
    }
    co_await monterey::maybe_yield();
    const auto copy = std::make_unique<std::array<std::byte, kPageBytes>>();
    {
      const PageCache::Pin pin = co_await cache_.pin(page, io_class_);
      if (page_level(pin.data()) != level) throw_wrong_level(page.page, level, page_level(pin.data()));
      std::memcpy(copy->data(), pin.data(), kPageBytes);
    }
    const BranchView branch(copy->data());
    const std::uint32_t end = end_of(branch);
    const auto ahead = static_cast<std::uint32_t>(std::min<std::size_t>(kBranchesAhead, cache_.transient_window() / 2));
    std::uint32_t slot = branch.find_child(from_);
    std::uint32_t asked_for = level > 1 ? slot : end;
    for (; slot < end; ++slot) {
      for (; asked_for < end && asked_for <= slot + ahead; ++asked_for) {
        cache_.prefetch(branch.child(asked_for), io_class_);
      }
      if (level == 1) {
        add(branch.child(slot));
      } else {
        co_await visit(branch.child(slot), level - 1);
      }
    }
  }

  const LeafCount& count() const { return count_; }

 private:
  // The slot behind the last child that the range meets.
  std::uint32_t end_of(const BranchView& branch) const {
    if (!to_) return branch.count();
    const std::uint32_t last = branch.find_child(*to_);
    std::string separator;
    branch.append_separator(last, separator);
    return last > 0 && separator == *to_ ? last : last + 1;
  }
  void add(const PagePointer& leaf) {
    ++count_.leaves;
    count_.entries += entry_count(leaf);
    count_.overflow_leaves += has_overflow(leaf);
  }

  PageCache& cache_;
  std::string from_;
  std::optional<std::string> to_;
  monterey::IoClass io_class_;
  LeafCount count_;
};

}  // namespace

monterey::Task<LeafCount> count_leaves(PageCache& cache, TreeRoot root, std::string from, std::optional<std::string> to,
                                       monterey::IoClass io_class) {
  if (root.empty() || (to && *to <= from)) co_return LeafCount{};
  LeafCounter counter(cache, std::move(from), std::move(to), io_class);
  co_await counter.visit(root.page, root.height - 1u);
  co_return counter.count();
}

}  // namespace store
