// Walks the tree of the newest commit as check() does, goes on behind what is damaged, and remembers the ranges of keys below
// branches that are lost; then searches all blocks for the leaves of those ranges.
//
// Which of the leaves found are to be trusted: within a lost range the commit's own leaves are those in blocks that its bitmaps have
// as not free. Where the bitmaps cannot tell, a leaf that was superseded lies beside those that took its place, which are
// younger and overlap it; so leaves are taken from the youngest on, and one that overlaps a taken one is left out.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <monterey/preempt.hpp>
#include <optional>
#include <store/error.hpp>
#include <store/salvage.hpp>
#include <utility>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/partition/key_text.hpp"
#include "store/partition/log_device.hpp"
#include "store/partition/meta_io.hpp"
#include "store/tree/overflow_io.hpp"
#include "store/tree/root.hpp"
#include "store/wal/log_reader.hpp"
#include "store/wal/log_space.hpp"

namespace store {

namespace {

using Page = std::array<std::byte, kPageBytes>;

struct KeyRange {
  std::string lower;
  std::optional<std::string> upper;  // nullopt: no bound

  bool covers(std::string_view first, std::string_view last) const {
    return first >= lower && (!upper || last < *upper);
  }
  std::string text() const {
    return fmt::format("the keys from {} to {}", lower.empty() ? "the first" : fmt::format("\"{}\"", shown_key(lower)),
                       upper ? fmt::format("\"{}\"", shown_key(*upper)) : "the last");
  }
};

class Salvage {
 public:
  Salvage(BlockDevice& damaged, Partition& into, DamageObserver on_damage, SalvageOptions options)
      : device_(damaged), log_device_(options.log_device), into_(into), on_damage_(std::move(on_damage)) {}

  monterey::Task<SalvageReport> run() {
    co_await choose_commit();
    co_await look_at_log_device();
    KeyRange all;
    if (!meta_) {
      lost_.push_back(std::move(all));
    } else if (meta_->tree_height > kMaxHeight) {
      damage(fmt::format("meta page: it names a tree of {} levels", meta_->tree_height));
      lost_.push_back(std::move(all));
    } else if (meta_->tree_height > 0) {
      co_await walk(meta_->tree_root, meta_->tree_height - 1u, std::move(all));
    }
    if (!lost_.empty()) co_await search();
    if (meta_) co_await replay();
    co_await into_.flush();
    co_return report_;
  }

 private:
  struct FoundLeaf {
    PageNo block;
    Generation generation;
    std::string first;
    std::string last;
  };

  // Notes which blocks the commit has as free.
  class FreeBlocks final : public AllocatorVisitor {
   public:
    explicit FreeBlocks(Salvage& salvage) : salvage_(salvage) {}
    void on_page(const PagePointer&) override {}
    void on_region(std::uint32_t region, ConstBitmapWords free) override {
      const std::uint64_t begin = std::uint64_t{region} * kRegionBlocks;
      salvage_.free_.resize(std::max<std::size_t>(salvage_.free_.size(), begin + kRegionBlocks), false);
      for (std::uint32_t i = 0; i < kRegionBlocks; ++i) {
        salvage_.free_[begin + i] = ((free[i / 64] >> (i % 64)) & 1u) != 0;
      }
    }
    void on_damage(const PagePointer& page, const std::string& what) override {
      salvage_.damage(fmt::format("allocator page {}: {}: of the keys searched for, erased ones may come back",
                                  page.page.value, what));
    }

   private:
    Salvage& salvage_;
  };

  void damage(const std::string& what) {
    ++report_.damages;
    on_damage_(what);
  }

  // What an error says, if it is one of the damaged device.
  static std::string text_of(const Error& error) {
    if (error.errc() == Errc::aborted) throw error;
    return error.what();
  }

  monterey::Task<> choose_commit() {
    MetaSlots slots;
    std::string none;
    try {
      slots = co_await read_meta_slots(device_);
      if (slots.blank) none = "no meta page is there";
    } catch (const Error& error) {
      if (error.errc() != Errc::corruption && error.errc() != Errc::not_a_store) throw;
      none = error.what();
    }
    if (!none.empty()) {
      damage(none + "; searched for leaves, the log cannot be found");
      co_return;
    }
    if (!slots.unreadable.empty()) damage(slots.unreadable + "; it may be the newest commit, the other one is read");
    if (slots.candidates.size() < kMetaSlots && slots.notes.size() >= kMetaCopies) {
      for (const std::string& note : slots.notes) damage(note + "; the commit of the other slot is read");
    }
    meta_ = slots.candidates.front().meta;
    report_.generation = meta_->generation.value;
    report_.entries_counted = meta_->entries;
  }

  // Errors: of a device that was meant to be another, before anything is put. One that is damaged is read as far as it goes.
  monterey::Task<> look_at_log_device() {
    if (log_device_ == nullptr || !meta_) co_return;
    if ((meta_->features & kFeatureLogDevice) == 0) {
      throw Error(Errc::invalid_argument,
                  fmt::format("{}: the store has its log on its own device; salvage it without {}", device_.name(),
                              log_device_->name()));
    }
    bool blank = false;
    std::string wrong;
    try {
      blank = co_await require_log_device_of(*log_device_, meta_->uuid);
    } catch (const Error& error) {
      if (error.errc() != Errc::corruption && error.errc() != Errc::io_error) throw;
      wrong = error.what();
    }
    if (blank && meta_->log_segment_count > 0) wrong = fmt::format("{}: it is blank, not a log", log_device_->name());
    if (!wrong.empty()) damage(wrong);
  }

  // Returns what is wrong with a page.
  monterey::Task<std::string> read_page(PagePointer pointer, unsigned level, Page* page) {
    if (pointer.page.value >= device_.size_blocks()) {
      co_return fmt::format("it lies behind the device's {} blocks", device_.size_blocks());
    }
    std::string wrong;
    try {
      co_await device_.read(pointer.page, *page, monterey::IoClass::background);
      wrong = verify(*page, pointer);
    } catch (const Error& error) {
      wrong = text_of(error);
    }
    if (wrong.empty() && page_level(page->data()) != level) {
      wrong = fmt::format("level {} was expected, the page has level {}", level, page_level(page->data()));
    }
    co_return wrong;
  }

  // The bound on levels bounds the depth; a page is only gone into where its keys fit the range, which no two places share.
  monterey::Task<> walk(PagePointer pointer, unsigned level, KeyRange range) {
    co_await monterey::maybe_yield();
    const auto page = std::make_unique<Page>();
    std::string wrong = co_await read_page(pointer, level, page.get());
    if (wrong.empty() && !is_within(*page, range)) wrong = "it has keys outside the range of its place in the tree";
    if (!wrong.empty() && level == 0) {
      damage(fmt::format("page {}: {}: a leaf of {} is lost", pointer.page.value, wrong, range.text()));
    } else if (!wrong.empty()) {
      damage(fmt::format("page {}: {}: searched for the leaves below it, {}", pointer.page.value, wrong, range.text()));
      lost_.push_back(std::move(range));
    } else if (level == 0) {
      co_await put_entries(LeafView(page->data()), pointer.page);
    } else {
      const BranchView branch(page->data());
      std::string lower = range.lower;
      for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
        KeyRange child{std::move(lower), range.upper};
        if (slot + 1 < branch.count()) {
          child.upper.emplace();
          branch.append_separator(slot + 1, *child.upper);
        }
        lower = child.upper.value_or(std::string());
        co_await walk(branch.child(slot), level - 1, std::move(child));
      }
    }
  }

  // Within a page the keys ascend: verify() has seen to that.
  static bool is_within(const Page& page, const KeyRange& range) {
    std::string first;
    std::string last;
    if (page_level(page.data()) == 0) {
      const LeafView leaf(page.data());
      if (leaf.count() == 0) return true;
      leaf.append_key(0, first);
      leaf.append_key(leaf.count() - 1, last);
      return range.covers(first, last);
    }
    const BranchView branch(page.data());
    if (branch.count() == 1) return true;
    branch.append_separator(1, first);
    branch.append_separator(branch.count() - 1, last);
    return first > range.lower && range.covers(first, last);
  }

  monterey::Task<> put_entries(LeafView leaf, PageNo block) {
    std::string key;
    for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
      key.clear();
      leaf.append_key(slot, key);
      const LeafValue value = leaf.value(slot);
      bool there = true;
      if (value.is_run()) {
        there = co_await put_run(key, value.run(), fmt::format("page {}: the value", block.value));
      } else {
        co_await into_.put(key, value.bytes());
      }
      report_.entries += there;
    }
  }

  // Returns whether the value could be read.
  monterey::Task<bool> put_run(std::string_view key, OverflowRun run, std::string where) {
    RunValue value;
    std::string wrong;
    try {
      value = co_await read_run(device_, run, monterey::IoClass::background);
    } catch (const Error& error) {
      wrong = text_of(error);
    }
    if (!wrong.empty()) {
      damage(fmt::format("{} of \"{}\" is lost: {}", where, shown_key(key), wrong));
      co_return false;
    }
    co_await into_.put(key, value.view());
    co_return true;
  }

  // --- the leaves below lost branches ---

  monterey::Task<> search() {
    co_await read_bitmaps();
    std::vector<FoundLeaf> found = co_await find_leaves();
    std::ranges::sort(found, [](const FoundLeaf& a, const FoundLeaf& b) { return a.generation > b.generation; });
    std::map<std::string, FoundLeaf> taken;  // by first key; none overlaps another
    for (FoundLeaf& leaf : found) {
      const auto after = taken.lower_bound(leaf.first);
      if (after != taken.end() && after->first <= leaf.last) continue;
      if (after != taken.begin() && std::prev(after)->second.last >= leaf.first) continue;
      std::string first = leaf.first;
      taken.emplace_hint(after, std::move(first), std::move(leaf));
    }
    if (!meta_ && taken.empty()) {
      throw Error(
          Errc::not_a_store,
          fmt::format("{}: neither a meta page nor a leaf of a store is on it; check the path", device_.name()));
    }
    const auto page = std::make_unique<Page>();
    for (const auto& [first, leaf] : taken) {
      std::string wrong;
      try {
        co_await device_.read(leaf.block, *page, monterey::IoClass::background);
        wrong = verify_alone(*page, leaf.block);
      } catch (const Error& error) {
        wrong = text_of(error);
      }
      if (wrong.empty()) {
        co_await put_entries(LeafView(page->data()), leaf.block);
      } else {
        damage(fmt::format("page {}: {}: a leaf found is lost", leaf.block.value, wrong));
      }
    }
  }

  monterey::Task<> read_bitmaps() {
    if (!meta_) co_return;
    FreeBlocks visitor(*this);
    std::string wrong;
    const AllocatorRoot root{meta_->allocator_root, meta_->allocator_levels, meta_->high_water};
    try {
      co_await walk_allocator(device_, root, kMetaBlocks, visitor);
    } catch (const Error& error) {
      wrong = text_of(error);
    }
    if (!wrong.empty()) damage(fmt::format("{}: of the keys searched for, erased ones may come back", wrong));
  }

  monterey::Task<std::vector<FoundLeaf>> find_leaves() {
    constexpr std::uint64_t kBlocksAtOnce = 64;
    std::vector<FoundLeaf> found;
    const auto memory = allocate_aligned(kBlocksAtOnce * kPageBytes);
    std::uint64_t end = device_.size_blocks();
    if (meta_) end = std::min(end, meta_->high_water);
    for (std::uint64_t first = kMetaBlocks; first < end;) {
      const std::uint64_t count = std::min(kBlocksAtOnce, end - first);
      const std::span<std::byte> bytes(memory.get(), count * kPageBytes);
      const bool readable = co_await try_read(first, bytes);
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::span<std::byte, kPageBytes> page(memory.get() + i * kPageBytes, kPageBytes);
        // One block that cannot be read must not hide its neighbours.
        if (!readable) {
          const bool alone = co_await try_read(first + i, page);
          if (!alone) continue;
        }
        consider(page, PageNo(static_cast<std::uint32_t>(first + i)), found);
        co_await monterey::maybe_yield();
      }
      first += count;
    }
    co_return std::move(found);
  }

  monterey::Task<bool> try_read(std::uint64_t first, std::span<std::byte> bytes) {
    std::string wrong;
    try {
      co_await device_.read(PageNo(static_cast<std::uint32_t>(first)), bytes, monterey::IoClass::background);
    } catch (const Error& error) {
      wrong = text_of(error);
    }
    co_return wrong.empty();
  }

  void consider(ConstPageBytes page, PageNo block, std::vector<FoundLeaf>& found) const {
    if (page_type(page) != PageType::leaf || page_number(page.data()) != block) return;
    if (block.value < free_.size() && free_[block.value]) return;
    if (meta_ && page_generation(page.data()) > meta_->generation) return;
    if (!verify_alone(page, block).empty()) return;
    const LeafView leaf(page.data());
    if (leaf.count() == 0) return;
    FoundLeaf at{block, page_generation(page.data()), {}, {}};
    leaf.append_key(0, at.first);
    leaf.append_key(leaf.count() - 1, at.last);
    const auto covers = [&at](const KeyRange& range) { return range.covers(at.first, at.last); };
    if (std::ranges::any_of(lost_, covers)) found.push_back(std::move(at));
  }

  // --- the log ---

  monterey::Task<> replay() {
    const LogLayout layout = layout_of(*meta_);
    if (layout.segments.empty()) co_return;
    if ((meta_->features & kFeatureLogDevice) != 0 && log_device_ == nullptr) {
      damage(
          "the store's log lies on a device of its own, which was not given: what it has beyond the last commit is "
          "left out");
      co_return;
    }
    BlockDevice& log = log_device_ != nullptr ? *log_device_ : device_;
    for (const Extent& segment : layout.segments) {
      if (segment.end() <= log.size_blocks()) continue;
      damage(
          fmt::format("{}: the log ends at block {}, the device at {}: what it has beyond the last commit is left out",
                      log.name(), segment.end(), log.size_blocks()));
      co_return;
    }
    LogExpectation expected;
    std::memcpy(&expected.store_id, meta_->uuid.data(), sizeof expected.store_id);
    expected.incarnation = meta_->incarnation;
    expected.generation = meta_->generation;
    LogReader reader(log, layout, expected);
    SeqNo last = meta_->last_merged;
    for (bool more = true; more;) {
      std::string wrong;
      try {
        more = co_await reader.next_group();
      } catch (const Error& error) {
        wrong = text_of(error);
      }
      if (wrong.empty() && more) {
        for (const std::span<const std::byte> record : reader.records()) {
          const bool holds = co_await apply(record, last);
          if (holds) continue;
          wrong = fmt::format("the record behind sequence number {}", last.value);
          break;
        }
      }
      if (wrong.empty()) continue;
      damage(wrong + ": what the log has from there on is left out");
      co_return;
    }
  }

  // Applies a record that is not merged yet. Returns false if it is damaged or does not follow the last one.
  monterey::Task<bool> apply(std::span<const std::byte> record, SeqNo& last) {
    RecordDecoder decoder(record);
    std::vector<LogEntry> entries;
    while (const std::optional<LogEntry> entry = decoder.next()) entries.push_back(*entry);
    if (!decoder.error().empty() || entries.empty()) co_return false;
    const SeqNo end(decoder.first_seq().value + entries.size() - 1);
    if (end <= meta_->last_merged) co_return true;
    if (decoder.first_seq() != last.next()) co_return false;
    last = end;
    for (const LogEntry& entry : entries) {
      bool there = true;
      if (entry.is_range) {
        std::optional<std::string> to;
        if (entry.value) to = *entry.value;
        co_await into_.erase_range(std::string(entry.key), std::move(to));
      } else if (entry.run) {
        there = co_await put_run(entry.key, *entry.run, "log: the value");
      } else if (entry.value) {
        co_await into_.put(entry.key, *entry.value);
      } else {
        co_await into_.erase(entry.key);
      }
      report_.log_entries += there;
    }
    co_return true;
  }

  BlockDevice& device_;
  BlockDevice* const log_device_;  // null: none was given
  Partition& into_;
  DamageObserver on_damage_;
  SalvageReport report_;
  std::optional<Meta> meta_;
  std::vector<KeyRange> lost_;  // below branches that cannot be read
  std::vector<bool> free_;      // by block, as far as the bitmaps can be read
};

}  // namespace

monterey::Task<SalvageReport> salvage(BlockDevice& damaged, Partition& into, DamageObserver on_damage,
                                      SalvageOptions options) {
  Salvage salvage(damaged, into, std::move(on_damage), options);
  co_return co_await salvage.run();
}

}  // namespace store
