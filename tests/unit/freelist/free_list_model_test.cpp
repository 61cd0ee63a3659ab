// Random commits, cuts, reservations, pins, failures and reopenings against a model that knows for each block why it may or
// may not be taken. After every seal the allocator's pages are read back from the device: their bits must be the exact
// complement of what the generation reaches.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <store/error.hpp>

#include "store/freelist/allocator_tree.hpp"
#include "store/freelist/free_list.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

constexpr std::uint64_t kFirst = 4;

struct LiveExtent {
  Extent extent;
  Generation birth;
};

struct Released {
  Extent extent;
  Generation birth, death;
};

// What a generation reaches: extents of the tree, and the allocator's pages.
struct State {
  std::vector<LiveExtent> live;
  std::map<std::uint32_t, Generation> own;  // page, birth
};

class Collector final : public AllocatorVisitor {
 public:
  void on_page(const PagePointer& page) override { own.emplace(page.page.value, page.birth); }
  void on_region(std::uint32_t region, ConstBitmapWords free) override {
    EXPECT_EQ(region, regions++);
    words.insert(words.end(), free.begin(), free.end());
  }
  void on_damage(const PagePointer& page, const std::string& what) override {
    ADD_FAILURE() << "page " << page.page.value << ": " << what;
  }
  bool is_free(std::uint64_t block) const {
    const std::uint64_t region = block / kRegionBlocks, index = block % kRegionBlocks;
    return ((words[region * kBitmapWords + index / 64] >> (index % 64)) & 1u) != 0;
  }

  std::map<std::uint32_t, Generation> own;
  std::uint32_t regions = 0;
  std::vector<std::uint64_t> words;
};

class Model {
 public:
  explicit Model(std::uint64_t seed)
      : random_(seed), disk_(std::make_shared<test::MemDisk>()), device_(disk_), now_(start_generation()) {
    const std::uint64_t regions = random_() % 4;
    disk_->set_capacity_blocks(regions * kRegionBlocks + 300 + random_() % kRegionBlocks);
    constexpr std::size_t kCached[] = {0, 1, 3, 512};
    options_.cached_regions = kCached[random_() % 4];
    options_.settled_at_once = random_() % 2;  // one step of some extents, or none
    taken_.resize(disk_->capacity_blocks(), 0);
    kept_.resize(taken_.size(), 0);
    list_ = make_list();
    list_->create_empty();
  }

  monterey::Task<> run(int steps) {
    // Several regions in use from the start, without a page to write in most of them.
    begin();
    co_await allocate_run(static_cast<std::uint32_t>(1 + random_() % (disk_->capacity_blocks() * 2 / 3)));
    co_await commit();
    for (step_ = 1; step_ <= steps && !testing::Test::HasFailure(); ++step_) {
      co_await one_step();
      expect_counts();
    }
  }

  int step() const { return step_; }
  std::uint64_t lowered() const { return lowered_; }

 private:
  static constexpr std::uint8_t kDurable = 1, kFresh = 2;                 // in taken_
  static constexpr std::uint8_t kHeld = 1, kReserved = 2, kWithheld = 4;  // in kept_

  Generation start_generation() {
    return random_() % 2 == 0 ? Generation(0) : Generation(kMaxGeneration.value - 1'000'000);
  }
  std::unique_ptr<FreeList> make_list() {
    auto list = std::make_unique<FreeList>(device_, *pins_, kFirst, options_);
    list->set_on_reuse([this](Extent extent) { reused_.push_back(extent); });
    return list;
  }
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool one_in(std::uint64_t n) { return random_() % n == 0; }

  monterey::Task<> one_step() {
    const auto choice = below(109);
    if (choice >= 100) {
      co_await compact_step(choice);
    } else if (choice < 8) {
      begin();
    } else if (choice < 40) {
      if (in_commit_) co_await allocate_pages();
    } else if (choice < 46) {
      if (in_commit_) co_await allocate_run(run_length());
    } else if (choice < 50) {
      if (in_commit_) give_back();
    } else if (choice < 70) {
      if (in_commit_) release();
    } else if (choice < 76) {
      co_await reserve();
    } else if (choice < 79) {
      if (in_commit_) adopt();
    } else if (choice < 82) {
      cancel();
    } else if (choice < 86) {
      pin();
    } else if (choice < 90) {
      unpin();
    } else if (choice < 97) {
      if (in_commit_ && one_in(4)) {
        co_await abort();
      } else if (in_commit_) {
        co_await commit();
      }
    } else if (choice < 98) {
      co_await reopen();
    } else if (in_commit_) {
      co_await fail_seal();
    }
  }

  monterey::Task<> compact_step(std::uint64_t choice) {
    if (choice < 102) {
      ceiling_.reset();
      if (one_in(3)) ceiling_ = below(disk_->capacity_blocks() + 100);
      list_->prefer_below(ceiling_);
    } else if (choice < 104) {
      if (in_commit_) co_await allocate_run_below();
    } else if (choice < 105) {
      if (in_commit_) co_await rewrite_own_pages();
    } else if (!in_commit_) {
      co_await lower_high_water();
    }
  }

  std::uint32_t run_length() {
    const auto choice = below(20);
    if (choice == 0) return static_cast<std::uint32_t>(1 + below(2 * kRegionBlocks));
    if (choice < 5) return static_cast<std::uint32_t>(1 + below(4000));
    return static_cast<std::uint32_t>(1 + below(40));
  }

  void begin() {
    const Generation before = now_;
    now_ = Generation(now_.value + 1 + below(3));
    list_->begin(now_);
    forget_unpinned();
    if (!in_commit_) {
      in_commit_ = true;
      building_ = durable_;
    } else if (one_in(2)) {
      cuts_.push_back(before);  // a snapshot moves to the cut that ends here
    }
  }

  bool allocatable(std::uint64_t block) const { return taken_[block] == 0 && kept_[block] == 0; }

  void expect_allocatable(Extent extent) {
    EXPECT_GT(extent.count, 0u);
    EXPECT_GE(extent.first.value, kFirst);
    EXPECT_LE(extent.end(), list_->high_water());
    EXPECT_LE(list_->high_water(), disk_->size_blocks());
    for (std::uint64_t b = extent.first.value; b < extent.end(); ++b) {
      EXPECT_TRUE(allocatable(b)) << "block " << b << ": taken " << int{taken_[b]} << ", kept " << int{kept_[b]};
      if (testing::Test::HasFailure()) return;
    }
  }
  static void mark(std::vector<std::uint8_t>& in, Extent extent, std::uint8_t bit, bool on) {
    for (std::uint64_t b = extent.first.value; b < extent.end(); ++b) {
      in[b] = static_cast<std::uint8_t>(on ? in[b] | bit : in[b] & ~bit);
    }
  }

  // A read fault now and then: the call fails, and nothing has changed.
  void maybe_inject() {
    if (one_in(10)) disk_->inject({.op = test::DeviceOp::read, .skip = below(3)});
  }
  void expect_tolerated(const Error& error) {
    if (error.errc() == Errc::no_space) return;
    EXPECT_EQ(error.errc(), Errc::io_error) << error.what();
  }

  bool any_below_ceiling() const {
    if (!ceiling_) return false;
    for (std::uint64_t b = kFirst; b < std::min(*ceiling_, list_->high_water()); ++b) {
      if (allocatable(b)) return true;
    }
    return false;
  }

  void settle_all() {
    while (list_->settle_some()) {
    }
  }

  // The longest run of allocatable blocks below `mark` within one region.
  std::uint64_t longest_below(std::uint64_t mark) const {
    std::uint64_t longest = 0;
    std::uint64_t length = 0;
    for (std::uint64_t b = kFirst; b < std::min(mark, list_->high_water()); ++b) {
      if (b % kRegionBlocks == 0) length = 0;
      length = allocatable(b) ? length + 1 : 0;
      longest = std::max(longest, length);
    }
    return longest;
  }

  monterey::Task<> allocate_run_below() {
    const std::uint32_t blocks = run_length();
    const std::uint64_t mark = below(disk_->capacity_blocks() + 100);
    const std::uint64_t longest = longest_below(mark);
    settle_all();
    maybe_inject();
    try {
      const std::optional<Extent> extent = co_await list_->allocate_run_below(blocks, mark);
      EXPECT_EQ(extent.has_value(), longest >= blocks) << blocks << " blocks below " << mark << " of " << longest;
      if (extent) {
        EXPECT_EQ(extent->count, blocks);
        EXPECT_LE(extent->end(), mark);
        expect_allocatable(*extent);
        mark_allocated(*extent);
      }
    } catch (const Error& error) {
      expect_tolerated(error);
    }
    disk_->clear_faults();
  }
  void mark_allocated(Extent extent) {
    mark(taken_, extent, kFresh, true);
    building_.live.push_back({extent, now_});
  }

  monterey::Task<> rewrite_own_pages() {
    maybe_inject();
    try {
      co_await list_->rewrite_own_pages(below(disk_->capacity_blocks()));
    } catch (const Error& error) {
      expect_tolerated(error);
    }
    disk_->clear_faults();
  }

  // A commit that lowers the mark, while reservations come and go.
  monterey::Task<> lower_high_water() {
    begin();
    maybe_inject();
    bool lowers = false;
    try {
      lowers = co_await list_->lower_high_water();
    } catch (const Error& error) {
      expect_tolerated(error);
    }
    disk_->clear_faults();
    Extent withheld;
    EXPECT_EQ(list_->withheld().has_value(), lowers);
    if (lowers) {
      withheld = *list_->withheld();
      expect_allocatable(withheld);
      EXPECT_EQ(withheld.end(), list_->high_water());
      EXPECT_LT(withheld.first.value, root_.high_water);
      mark(kept_, withheld, kWithheld, true);
    }
    if (one_in(3)) co_await reserve();
    if (one_in(3)) {
      co_await abort();
    } else {
      co_await commit();
    }
    if (lowers && committed_ == now_) {
      ++lowered_;
      EXPECT_EQ(root_.high_water, withheld.first.value);
      if (one_in(3)) co_await reserve();
      if (one_in(3)) cancel();
    }
    list_->release_withheld();
    mark(kept_, withheld, kWithheld, false);
    std::uint64_t expected = std::max(root_.high_water, kFirst);
    for (const Extent& extent : reserved_) expected = std::max(expected, extent.end());
    EXPECT_EQ(list_->high_water(), expected);
  }

  monterey::Task<> allocate_pages() {
    const auto wanted = static_cast<std::uint32_t>(1 + below(one_in(4) ? 400 : 20));
    // What is given back below a window that is in use waits for the next.
    const bool low = one_in(2) && any_below_ceiling();
    if (low) settle_all();
    if (low) list_->prefer_below(ceiling_);
    maybe_inject();
    reused_.clear();
    try {
      const Extent extent = co_await list_->allocate_pages(wanted);
      EXPECT_LE(extent.count, wanted);
      EXPECT_EQ(reused_, std::vector<Extent>{extent});
      EXPECT_TRUE(!low || extent.end() <= *ceiling_);
      expect_allocatable(extent);
      mark_allocated(extent);
    } catch (const Error& error) {
      expect_tolerated(error);
      if (error.errc() == Errc::no_space) {
        EXPECT_EQ(list_->allocatable_blocks(), 0u);
      }
    }
    disk_->clear_faults();
  }

  monterey::Task<> allocate_run(std::uint32_t blocks) {
    maybe_inject();
    try {
      const Extent extent = co_await list_->allocate_run(blocks);
      EXPECT_EQ(extent.count, blocks);
      expect_allocatable(extent);
      mark(taken_, extent, kFresh, true);
      building_.live.push_back({extent, now_});
    } catch (const Error& error) {
      expect_tolerated(error);
    }
    disk_->clear_faults();
  }

  LiveExtent take_live(std::size_t index) {
    std::swap(building_.live[index], building_.live.back());
    LiveExtent taken = building_.live.back();
    building_.live.pop_back();
    if (taken.extent.count > 1 && one_in(2)) {
      // Only a part of it goes.
      const auto left = static_cast<std::uint32_t>(1 + below(taken.extent.count - 1));
      building_.live.push_back({{taken.extent.first, left}, taken.birth});
      taken.extent = {PageNo(taken.extent.first.value + left), taken.extent.count - left};
    }
    return taken;
  }

  bool is_adopted(PageNo page) const {
    const auto after = adopted_.upper_bound(page.value);
    return after != adopted_.begin() && page.value < std::prev(after)->second.end();
  }

  void give_back() {
    // Only what this cut allocated, and was not adopted: both are still as they were returned.
    for (int tries = 0; tries < 10 && !building_.live.empty(); ++tries) {
      const auto index = below(building_.live.size());
      const LiveExtent& candidate = building_.live[index];
      if (candidate.birth != now_ || is_adopted(candidate.extent.first)) continue;
      const LiveExtent taken = take_live(index);
      list_->give_back(taken.extent);
      mark(taken_, taken.extent, kFresh, false);
      return;
    }
  }

  void release() {
    const auto count = one_in(5) ? below(40) : 1;
    for (std::uint64_t i = 0; i < count && !building_.live.empty(); ++i) {
      const LiveExtent taken = take_live(below(building_.live.size()));
      list_->release(taken.extent, taken.birth);
      released_.push_back({taken.extent, taken.birth, now_});
    }
  }

  monterey::Task<> reserve() {
    const std::uint32_t blocks = run_length();
    maybe_inject();
    try {
      const Extent extent = co_await list_->reserve_run(blocks);
      EXPECT_EQ(extent.count, blocks);
      expect_allocatable(extent);
      mark(kept_, extent, kReserved, true);
      reserved_.push_back(extent);
    } catch (const Error& error) {
      expect_tolerated(error);
    }
    disk_->clear_faults();
  }

  Extent take_reserved() {
    std::swap(reserved_[below(reserved_.size())], reserved_.back());
    const Extent extent = reserved_.back();
    reserved_.pop_back();
    return extent;
  }

  void adopt() {
    if (reserved_.empty()) return;
    const Extent extent = take_reserved();
    list_->adopt(extent);
    mark(kept_, extent, kReserved, false);
    mark(taken_, extent, kFresh, true);
    adopted_.emplace(extent.first.value, extent);
    building_.live.push_back({extent, now_});
  }

  void cancel() {
    if (reserved_.empty()) return;
    const Extent extent = take_reserved();
    list_->cancel(extent);
    mark(kept_, extent, kReserved, false);
  }

  void pin() {
    if (pinned_.size() < 8) pinned_.push_back(pins_->pin(committed_));
  }

  void unpin() {
    if (pinned_.empty()) return;
    const bool is_told = !one_in(4);  // else the next one tells of both
    if (!is_told) settle_all();       // that asks for pins, too
    std::swap(pinned_[below(pinned_.size())], pinned_.back());
    pinned_.pop_back();
    if (!is_told) return;
    list_->pins_changed();
    forget_unpinned();
  }

  bool is_pinned(Generation birth, Generation death) const {
    return std::ranges::any_of(
        pinned_, [&](const GenerationPins::Pin& pin) { return birth <= pin.generation() && pin.generation() < death; });
  }

  void forget_unpinned() {
    std::erase_if(held_, [&](const Released& entry) {
      if (is_pinned(entry.birth, entry.death)) return false;
      mark(kept_, entry.extent, kHeld, false);
      return true;
    });
  }

  // Seals, and compares the pages on the device with what the generation reaches.
  monterey::Task<AllocatorRoot> seal() {
    list_->pins_changed();
    forget_unpinned();
    const std::uint64_t writes = disk_->counts().blocks_written;
    const AllocatorRoot root = co_await list_->seal();
    const std::uint64_t written = disk_->counts().blocks_written - writes;

    Collector pages;
    co_await walk_allocator(device_, root, kFirst, pages);
    EXPECT_EQ(pages.regions, regions_below(root.high_water));
    std::uint64_t placed = 0;
    for (const auto& [page, birth] : pages.own) {
      if (const auto old = building_.own.find(page); old != building_.own.end() && old->second == birth) continue;
      ++placed;
      EXPECT_EQ(birth, now_);
      expect_allocatable({PageNo(page), 1});
      mark(taken_, {PageNo(page), 1}, kFresh, true);
    }
    EXPECT_EQ(written, placed);
    for (const auto& [page, birth] : building_.own) {
      if (const auto kept = pages.own.find(page); kept != pages.own.end() && kept->second == birth) continue;
      released_.push_back({{PageNo(page), 1}, birth, now_});
    }
    building_.own = pages.own;

    std::uint64_t reached = kFirst;
    std::uint64_t wrong = 0;
    const auto check = [&](Extent extent) {
      reached += extent.count;
      EXPECT_LE(extent.end(), root.high_water);
      for (std::uint64_t b = extent.first.value; b < extent.end(); ++b) wrong += pages.is_free(b) ? 1 : 0;
    };
    for (const LiveExtent& live : building_.live) check(live.extent);
    for (const auto& [page, birth] : building_.own) check({PageNo(page), 1});
    EXPECT_EQ(wrong, 0u) << "blocks reached and free";
    std::uint64_t free = 0;
    for (const std::uint64_t word : pages.words) free += static_cast<std::uint64_t>(std::popcount(word));
    EXPECT_EQ(free, root.high_water - reached) << "blocks neither reached nor free, or the reverse";
    co_return root;
  }

  monterey::Task<> commit() {
    disk_->clear_faults();
    std::optional<AllocatorRoot> root;
    try {
      root = co_await seal();
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::no_space) << error.what();
    }
    if (!root) {
      give_up();
      co_return;
    }
    // Reservations come and go while the meta page is written.
    if (one_in(3)) co_await reserve();
    if (one_in(3)) cancel();
    for (const Generation cut : cuts_) {
      if (cut > committed_) pinned_.push_back(pins_->pin(cut));
    }
    list_->committed();
    root_ = *root;
    durable_ = building_;
    committed_ = now_;
    std::ranges::fill(taken_, std::uint8_t{0});
    for (const LiveExtent& live : durable_.live) mark(taken_, live.extent, kDurable, true);
    for (const auto& [page, birth] : durable_.own) mark(taken_, {PageNo(page), 1}, kDurable, true);
    for (const Released& entry : released_) {
      if (!is_pinned(entry.birth, entry.death)) continue;
      mark(kept_, entry.extent, kHeld, true);
      held_.push_back(entry);
    }
    end_commit();
  }

  monterey::Task<> abort() {
    if (one_in(2)) {
      try {
        co_await seal();
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::no_space) << error.what();
      }
    }
    give_up();
  }

  monterey::Task<> fail_seal() {
    const auto op = one_in(2) ? test::DeviceOp::write : test::DeviceOp::read;
    disk_->inject({.op = op, .skip = below(3), .times = 100});
    try {
      co_await list_->seal();
    } catch (const Error& error) {
      expect_tolerated(error);
    }
    disk_->clear_faults();
    give_up();
  }

  void give_up() {
    list_->aborted();
    for (std::uint8_t& bits : taken_) bits = static_cast<std::uint8_t>(bits & ~kFresh);
    for (const auto& [first, extent] : adopted_) {
      mark(kept_, extent, kReserved, true);
      reserved_.push_back(extent);
    }
    end_commit();
    // The mark is where it was, but for reservations beyond it.
    std::uint64_t expected = std::max(root_.high_water, kFirst);
    for (const Extent& extent : reserved_) expected = std::max(expected, extent.end());
    EXPECT_EQ(list_->high_water(), expected);
  }

  void end_commit() {
    in_commit_ = false;
    released_.clear();
    adopted_.clear();
    cuts_.clear();
  }

  monterey::Task<> reopen() {
    pinned_.clear();
    list_.reset();
    pins_ = std::make_unique<GenerationPins>();
    list_ = make_list();
    ceiling_.reset();
    const std::uint64_t reads = disk_->counts().reads;
    co_await list_->open(root_);
    EXPECT_EQ(disk_->counts().reads - reads, root_.root.is_null() ? 0u : 1u);
    std::ranges::fill(kept_, std::uint8_t{0});
    for (std::uint8_t& bits : taken_) bits = static_cast<std::uint8_t>(bits & ~kFresh);
    held_.clear();
    reserved_.clear();
    end_commit();
  }

  void expect_counts() {
    if (step_ % 16 != 0) return;
    std::uint64_t free = 0, held = 0, reserved = 0;
    for (std::uint64_t b = kFirst; b < list_->high_water(); ++b) {
      free += allocatable(b) ? 1 : 0;
      held += (kept_[b] & kHeld) != 0 ? 1 : 0;
      reserved += (kept_[b] & kReserved) != 0 ? 1 : 0;
    }
    // What has not been settled is neither.
    if (one_in(2)) {
      EXPECT_LE(list_->free_blocks(), free);
      return;
    }
    settle_all();
    EXPECT_EQ(list_->held_blocks(), held);
    EXPECT_EQ(list_->reserved_blocks(), reserved);
    EXPECT_EQ(list_->free_blocks(), free);
    EXPECT_EQ(list_->allocatable_blocks(), free + disk_->capacity_blocks() - list_->high_water());
  }

  std::mt19937_64 random_;
  std::shared_ptr<test::MemDisk> disk_;
  test::MemBlockDevice device_;
  FreeListOptions options_;
  std::unique_ptr<GenerationPins> pins_ = std::make_unique<GenerationPins>();
  std::unique_ptr<FreeList> list_;
  std::vector<GenerationPins::Pin> pinned_;
  int step_ = 0;

  Generation now_;        // being built, or last built
  Generation committed_;  // durable
  AllocatorRoot root_;
  State durable_;
  State building_;
  bool in_commit_ = false;
  std::vector<Released> released_;
  std::vector<Released> held_;
  std::vector<Extent> reserved_;
  std::map<std::uint32_t, Extent> adopted_;
  std::vector<Generation> cuts_;
  std::optional<std::uint64_t> ceiling_;
  std::uint64_t lowered_ = 0;
  std::vector<Extent> reused_;
  std::vector<std::uint8_t> taken_;
  std::vector<std::uint8_t> kept_;
};

TEST(FreeListModel, RandomCommitsKeepTheBitmapTheComplementOfWhatIsReached) {
  const auto requested = test::requested_seed();
  const std::uint64_t base = requested.value_or(std::random_device{}());
#ifdef NDEBUG
  const int runs = requested ? 1 : 60;
#else
  const int runs = requested ? 1 : 8;
#endif
  std::uint64_t lowered = 0;
  for (int run = 0; run < runs && !HasFailure(); ++run) {
    const std::uint64_t seed = base + static_cast<std::uint64_t>(run);
    SCOPED_TRACE(testing::Message() << "--seed=" << seed);
    Model model(seed);
    test::on_core([&]() -> monterey::Task<> { return model.run(1200); });
    lowered += model.lowered();
    if (HasFailure())
      std::printf("failed with --seed=%llu at step %d\n", static_cast<unsigned long long>(seed), model.step());
  }
  EXPECT_TRUE(lowered > 0 || requested || HasFailure()) << "no commit ever lowered the mark";
}

}  // namespace
}  // namespace store
