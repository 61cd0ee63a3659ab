#include "store/tree/tree_check.hpp"

#include <fmt/format.h>

#include <array>
#include <exception>
#include <memory>
#include <monterey/preempt.hpp>
#include <optional>
#include <store/error.hpp>
#include <string>
#include <vector>

#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/tree/overflow_io.hpp"

namespace store {

namespace {

class Checker {
 public:
  Checker(BlockDevice& device, const CheckedState& state, std::uint64_t first_usable, std::size_t max_errors)
      : device_(device),
        state_(state),
        first_usable_(first_usable),
        max_errors_(max_errors),
        reached_(state.allocator.high_water, false) {}

  monterey::Task<CheckReport> run() {
    for (std::uint64_t block = 0; block < std::min(first_usable_, high_water()); ++block) reached_[block] = true;
    for (const Extent& segment : state_.log_segments) reach(segment, "log segment");
    if (!state_.tree.empty()) {
      co_await check_page(state_.tree.page, state_.tree.height - 1u, std::string(), std::nullopt);
    }
    co_await walk_allocator(device_, state_.allocator, first_usable_, visitor_);
    expect_equal("entries", state_.entries, entries_);
    expect_equal("tree pages", state_.tree_pages, tree_pages_);
    expect_equal("overflow blocks", state_.overflow_blocks, overflow_blocks_);
    co_await check_accounting();
    report_.entries = entries_;
    report_.ok = !failed_;
    co_return std::move(report_);
  }

 private:
  using Page = std::array<std::byte, kPageBytes>;
  using UpperBound = std::optional<std::string>;

  // What the allocator says: which blocks are free, and which are its own.
  class Visitor final : public AllocatorVisitor {
   public:
    explicit Visitor(Checker& checker) : checker_(checker) {}
    void on_page(const PagePointer& page) override {
      ++checker_.report_.pages;
      checker_.reach(Extent{page.page, 1}, "allocator page");
    }
    void on_region(std::uint32_t region, ConstBitmapWords free) override {
      const std::uint64_t begin = std::uint64_t{region} * kRegionBlocks;
      if (checker_.free_.size() < begin + kRegionBlocks) checker_.free_.resize(begin + kRegionBlocks, false);
      for (std::uint32_t i = 0; i < kRegionBlocks; ++i) {
        if (((free[i / 64] >> (i % 64)) & 1u) != 0) checker_.free_[begin + i] = true;
      }
    }
    void on_damage(const PagePointer& page, const std::string& what) override {
      checker_.allocator_damaged_ = true;
      checker_.fail(fmt::format("allocator page {}: {}", page.page.value, what));
    }

   private:
    Checker& checker_;
  };

  std::uint64_t high_water() const { return state_.allocator.high_water; }
  bool enough() const { return failed_ && report_.errors.size() >= max_errors_; }
  void fail(std::string what) {
    failed_ = true;
    if (!enough()) report_.errors.push_back(std::move(what));
  }
  void expect_equal(const char* what, std::uint64_t meta, std::uint64_t found) {
    if (meta != found && !tree_damaged_)
      fail(fmt::format("meta page: counts {} {}, the tree has {}", meta, what, found));
  }

  // Marks blocks as in use; false when they cannot be.
  bool reach(Extent extent, const char* what) {
    if (extent.first.value < first_usable_ || extent.end() > high_water()) {
      fail(fmt::format("{} at block {}, {} blocks: outside the blocks {} to {} in use", what, extent.first.value,
                       extent.count, first_usable_, high_water()));
      return false;
    }
    for (std::uint64_t block = extent.first.value; block < extent.end(); ++block) {
      if (reached_[block]) {
        fail(fmt::format("{} at block {}: block {} is reached twice", what, extent.first.value, block));
        return false;
      }
      reached_[block] = true;
    }
    return true;
  }

  monterey::Task<> check_page(PagePointer pointer, unsigned level, std::string lower, UpperBound upper) {
    if (enough()) co_return;
    co_await monterey::maybe_yield();
    if (!reach(Extent{pointer.page, 1}, "tree page")) {
      tree_damaged_ = true;
      co_return;
    }
    const auto page = std::make_unique<Page>();
    std::string damage;
    try {
      co_await device_.read(pointer.page, *page, monterey::IoClass::background);
      damage = verify(*page, pointer);
    } catch (const Error& error) {
      if (error.errc() == Errc::aborted) throw;
      damage = error.what();
    }
    if (damage.empty() && page_level(page->data()) != level) {
      damage = fmt::format("level {} was expected, the page has level {}", level, page_level(page->data()));
    }
    if (damage.empty() && pointer.birth > state_.tree.generation) {
      damage =
          fmt::format("born in generation {}, after the tree's {}", pointer.birth.value, state_.tree.generation.value);
    }
    if (!damage.empty()) {
      tree_damaged_ = true;
      fail(fmt::format("page {}: {}", pointer.page.value, damage));
      co_return;
    }
    ++tree_pages_;
    ++report_.pages;
    if (level == 0) {
      co_await check_leaf(pointer, LeafView(page->data()), lower, upper);
    } else {
      co_await check_branch(pointer, BranchView(page->data()), level, lower, upper);
    }
  }

  monterey::Task<> check_branch(PagePointer pointer, BranchView branch, unsigned level, std::string lower,
                                UpperBound upper) {
    std::string from = lower;
    for (std::uint32_t slot = 0; slot < branch.count() && !enough(); ++slot) {
      UpperBound to = upper;
      if (slot + 1 < branch.count()) {
        to.emplace();
        branch.append_separator(slot + 1, *to);
        if (*to <= from || (upper && *to >= *upper)) {
          tree_damaged_ = true;
          fail(
              fmt::format("page {}: separator {} lies outside the page's range of keys", pointer.page.value, slot + 1));
          co_return;
        }
      }
      co_await check_page(branch.child(slot), level - 1, from, to);
      if (to) from = std::move(*to);
    }
  }

  monterey::Task<> check_leaf(PagePointer pointer, LeafView leaf, std::string lower, UpperBound upper) {
    entries_ += leaf.count();
    std::string key;
    for (std::uint32_t slot = 0; slot < leaf.count() && !enough(); ++slot) {
      key.clear();
      leaf.append_key(slot, key);
      if (key < lower || (upper && key >= *upper)) {
        tree_damaged_ = true;
        fail(fmt::format("page {}: the key of entry {} lies outside the page's range of keys", pointer.page.value,
                         slot));
      }
      const LeafValue value = leaf.value(slot);
      if (value.is_run()) co_await check_run(pointer, slot, value.run());
    }
  }

  monterey::Task<> check_run(PagePointer pointer, std::uint32_t slot, OverflowRun run) {
    std::string damage;
    if (run.birth > pointer.birth) damage = "born after the page that names it";
    bool is_reached = run.length <= kMaxValueBytes;
    RunExtents extents(run);
    for (Extent extent; is_reached && extents.next(extent);) is_reached = reach(extent, "overflow run");
    if (!is_reached) {
      tree_damaged_ = true;
      co_return;
    }
    overflow_blocks_ += run_blocks(run.length);
    try {
      static_cast<void>(co_await read_run(device_, run, monterey::IoClass::background));
      report_.pages += run_blocks(run.length);
    } catch (const Error& error) {
      if (error.errc() == Errc::aborted) throw;
      damage = error.what();
    }
    if (!damage.empty()) fail(fmt::format("page {}: entry {}: {}", pointer.page.value, slot, damage));
  }

  // Every block below the high-water mark is reached or free, and not both.
  monterey::Task<> check_accounting() {
    if (allocator_damaged_ || tree_damaged_ || state_.allocator.root.is_null()) co_return;
    free_.resize(std::max<std::size_t>(free_.size(), high_water()), false);
    for (std::uint64_t block = 0; block < free_.size() && !enough(); ++block) {
      if (block % 65536 == 0) co_await monterey::maybe_yield();
      const bool reached = block < high_water() && reached_[block];
      if (block >= high_water() && free_[block]) {
        fail(fmt::format("block {}: free in the bitmap although it lies beyond the high-water mark {}", block,
                         high_water()));
      } else if (reached && free_[block]) {
        fail(fmt::format("block {}: in use, but free in the bitmap", block));
      } else if (!reached && !free_[block] && block < high_water()) {
        fail(fmt::format("block {}: lost: neither reached nor free", block));
      }
    }
  }

  BlockDevice& device_;
  const CheckedState& state_;
  std::uint64_t first_usable_;
  std::size_t max_errors_;
  Visitor visitor_{*this};
  std::vector<bool> reached_;
  std::vector<bool> free_;
  bool failed_ = false;
  bool allocator_damaged_ = false;
  bool tree_damaged_ = false;
  std::uint64_t entries_ = 0;
  std::uint64_t tree_pages_ = 0;
  std::uint64_t overflow_blocks_ = 0;
  CheckReport report_;
};

}  // namespace

monterey::Task<CheckReport> check_state(BlockDevice& device, const CheckedState& state,
                                        std::uint64_t first_usable_block, std::size_t max_errors) {
  Checker checker(device, state, first_usable_block, max_errors);
  co_return co_await checker.run();
}

}  // namespace store
