// pages: what the blocks of a store are, as its newest commit reaches them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <monterey/preempt.hpp>
#include <string>
#include <utility>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/tree/overflow_io.hpp"
#include "store/tree/root.hpp"
#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/raw.hpp"

namespace store::tool {
namespace {

enum class Kind : std::uint8_t { meta, branch, leaf, value, allocator, log, free };
constexpr std::array<const char*, 7> kKindNames{"meta", "branch", "leaf", "value", "allocator", "log", "free"};

constexpr std::size_t index(Kind kind) { return static_cast<std::size_t>(kind); }

// One page, or blocks in a row of one value or of the log.
struct Listed {
  std::uint64_t first = 0;
  std::uint64_t blocks = 1;
  std::uint64_t generation = 0;  // that wrote it; 0: it does not say
  std::uint64_t entries = 0;     // of a leaf; of a branch its children
  std::uint64_t bytes_used = 0;  // of a leaf, branch or value
  Kind kind = Kind::meta;
};

struct Counts {
  std::uint64_t blocks = 0;
  std::uint64_t entries = 0;
  std::uint64_t bytes_used = 0;
};

// Goes through all that a commit reaches, once; what cannot be read, or is reached twice, is damage, and what is below is left out.
class Walk final : public AllocatorVisitor {
 public:
  Walk(BlockDevice& device, const Meta& meta, const PagesCommand& command)
      : device_(device),
        meta_(meta),
        command_(command),
        end_(std::min(meta.high_water, device.size_blocks())),
        reached_(end_),
        free_(end_),
        memory_(allocate_aligned(kPageBytes)) {}

  monterey::Task<> run() {
    for (std::uint32_t block = 0; block < kMetaBlocks; ++block) {
      claim({.first = block, .kind = Kind::meta});
    }
    for (std::uint32_t i = 0; i < meta_.log_segment_count && !log_is_elsewhere(); ++i) {
      const Extent& segment = meta_.log_segments[i];
      claim({.first = segment.first.value, .blocks = segment.count, .kind = Kind::log});
    }
    if (meta_.tree_height > kMaxHeight) {
      damage(fmt::format("the meta page names a tree of {} levels", meta_.tree_height));
    } else if (meta_.tree_height > 0) {
      co_await walk_tree();
    }
    std::string wrong;
    const AllocatorRoot root{meta_.allocator_root, meta_.allocator_levels, meta_.high_water};
    try {
      co_await walk_allocator(device_, root, kMetaBlocks, *this);
    } catch (const Error& error) {
      wrong = error.what();
    }
    if (!wrong.empty()) damage(wrong);
    compare_free();
    std::ranges::sort(list_, {}, &Listed::first);
  }

  void on_page(const PagePointer& page) override {
    claim({.first = page.page.value, .generation = page.birth.value, .kind = Kind::allocator});
  }
  void on_region(std::uint32_t region, ConstBitmapWords free) override {
    std::uint64_t block = std::uint64_t{region} * kRegionBlocks;
    for (const std::uint64_t word : free) {
      of(Kind::free).blocks += static_cast<unsigned>(std::popcount(word));
      for (unsigned bit = 0; bit < 64 && block < end_; ++bit, ++block) free_[block] = ((word >> bit) & 1) != 0;
    }
  }
  void on_damage(const PagePointer&, const std::string& what) override { damage(what); }

  const Counts& counts(Kind kind) const { return counts_[index(kind)]; }
  // Blocks that are counted twice.
  std::uint64_t used_and_free() const { return used_and_free_; }
  const std::vector<Listed>& list() const { return list_; }
  const std::vector<std::string>& damages() const { return damages_; }

 private:
  struct Step {
    PagePointer pointer;
    unsigned level = 0;
  };

  bool log_is_elsewhere() const { return (meta_.features & kFeatureLogDevice) != 0; }
  Counts& of(Kind kind) { return counts_[index(kind)]; }
  void damage(std::string what) { damages_.push_back(std::move(what)); }

  // Counts blocks for what they are. Returns whether nothing else has them.
  bool claim(const Listed& listed) {
    const std::uint64_t last = listed.first + listed.blocks;
    if (last > end_) {
      damage(fmt::format("page {}: {} blocks of the {} there, but the store ends at block {}", listed.first,
                         listed.blocks, kKindNames[index(listed.kind)], end_));
      return false;
    }
    for (std::uint64_t block = listed.first; block < last; ++block) {
      if (!reached_[block]) continue;
      damage(fmt::format("page {}: reached twice, the second time as {}", block, kKindNames[index(listed.kind)]));
      return false;
    }
    for (std::uint64_t block = listed.first; block < last; ++block) reached_[block] = true;
    Counts& counts = of(listed.kind);
    counts.blocks += listed.blocks;
    counts.entries += listed.entries;
    counts.bytes_used += listed.bytes_used;
    if (command_.list) list_.push_back(listed);
    return true;
  }

  // What is in use must not be free, too: the next commit would write over it.
  void compare_free() {
    for (std::uint64_t block = 0; block < end_; ++block) {
      const std::uint64_t first = block;
      while (block < end_ && reached_[block] && free_[block]) ++block;
      if (block == first) continue;
      used_and_free_ += block - first;
      damage(fmt::format("page {}: {} blocks in use there are free in the bitmap", first, block - first));
    }
  }

  monterey::Task<> walk_tree() {
    std::vector<Step> steps{{meta_.tree_root, meta_.tree_height - 1u}};
    while (!steps.empty()) {
      const Step step = steps.back();
      steps.pop_back();
      co_await monterey::maybe_yield();
      const std::string wrong = co_await read_page(step);
      if (!wrong.empty()) {
        damage(fmt::format("page {}: {}", step.pointer.page.value, wrong));
      } else if (step.level == 0) {
        take_leaf(step.pointer);
      } else {
        take_branch(step, steps);
      }
    }
  }

  // Returns what is wrong.
  monterey::Task<std::string> read_page(Step step) {
    if (step.pointer.page.value >= end_) co_return fmt::format("it lies behind block {}, where the store ends", end_);
    const PageBytes page(memory_.get(), kPageBytes);
    std::string wrong;
    try {
      co_await device_.read(step.pointer.page, page, monterey::IoClass::foreground);
      wrong = verify(page, step.pointer);
    } catch (const Error& error) {
      wrong = error.what();
    }
    if (wrong.empty() && page_level(page) != step.level) {
      wrong = fmt::format("level {} was expected, the page has level {}", step.level, page_level(page));
    }
    co_return wrong;
  }

  void take_leaf(const PagePointer& pointer) {
    const LeafView leaf(memory_.get());
    const bool is_first = claim({.first = pointer.page.value,
                                 .generation = pointer.birth.value,
                                 .entries = leaf.count(),
                                 .bytes_used = leaf.bytes_used(),
                                 .kind = Kind::leaf});
    for (std::uint32_t slot = 0; is_first && slot < leaf.count(); ++slot) {
      const LeafValue value = leaf.value(slot);
      if (value.is_run()) take_run(value.run());
    }
  }

  void take_run(const OverflowRun& run) {
    RunExtents extents(run);
    std::uint64_t left = run.length;
    for (Extent extent; extents.next(extent);) {
      const std::uint64_t bytes = std::min<std::uint64_t>(left, std::uint64_t{extent.count} * kPageBytes);
      left -= bytes;
      claim({.first = extent.first.value,
             .blocks = extent.count,
             .generation = run.birth.value,
             .bytes_used = bytes,
             .kind = Kind::value});
    }
  }

  void take_branch(const Step& step, std::vector<Step>& steps) {
    const BranchView branch(memory_.get());
    const bool is_first = claim({.first = step.pointer.page.value,
                                 .generation = step.pointer.birth.value,
                                 .entries = branch.count(),
                                 .bytes_used = branch.bytes_used(),
                                 .kind = Kind::branch});
    for (std::uint32_t slot = branch.count(); is_first && slot-- > 0;) {
      steps.push_back({branch.child(slot), step.level - 1});
    }
  }

  BlockDevice& device_;
  const Meta& meta_;
  const PagesCommand& command_;
  const std::uint64_t end_;
  std::vector<bool> reached_;  // by block
  std::vector<bool> free_;     // by block, in the bitmaps
  std::uint64_t used_and_free_ = 0;
  const std::shared_ptr<std::byte[]> memory_;
  std::array<Counts, kKindNames.size()> counts_;
  std::vector<Listed> list_;
  std::vector<std::string> damages_;
};

Fields fields_of(const Listed& listed) {
  Fields row;
  row.number("page", listed.first);
  row.number("blocks", listed.blocks);
  row.text("kind", kKindNames[index(listed.kind)]);
  row.number("generation", listed.generation);
  row.number("entries", listed.entries);
  row.number("bytes_used", listed.bytes_used);
  return row;
}

std::string fill_of(const Counts& counts) {
  if (counts.blocks == 0 || counts.bytes_used == 0) return {};
  const double share = static_cast<double>(counts.bytes_used) / static_cast<double>(counts.blocks * kPageBytes);
  return fmt::format(", {:.1f} % full", 100 * share);
}

void print_text(const Walk& walk, std::uint64_t unaccounted, Output& output) {
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    const Counts& counts = walk.counts(static_cast<Kind>(i));
    const std::string entries = counts.entries == 0 ? std::string() : fmt::format(", {} entries", counts.entries);
    output.write(fmt::format("{:<19}{}{}{}\n", kKindNames[i], counts.blocks, entries, fill_of(counts)));
  }
  output.write(fmt::format("{:<19}{}\n", "unaccounted", unaccounted));
  for (const Listed& listed : walk.list()) output.write(fields_of(listed).as_row() + '\n');
  for (const std::string& line : walk.damages()) print_message(line);
}

void print_json(const Walk& walk, Fields fields, Output& output) {
  std::vector<Fields> kinds;
  for (std::size_t i = 0; i < kKindNames.size(); ++i) {
    const Counts& counts = walk.counts(static_cast<Kind>(i));
    Fields& row = kinds.emplace_back();
    row.text("kind", kKindNames[i]);
    row.number("blocks", counts.blocks);
    row.number("entries", counts.entries);
    row.number("bytes_used", counts.bytes_used);
  }
  fields.json("kinds", as_json(kinds));
  fields.json("damage", json_array(walk.damages()));
  // As as_json() would have it, but row by row: there may be millions.
  std::string head = fields.as_json();
  head.pop_back();
  output.write(head + ", \"pages\": [");
  const char* divider = "";
  for (const Listed& listed : walk.list()) {
    output.write(std::exchange(divider, ",\n ") + fields_of(listed).as_json());
  }
  output.write("]}\n");
}

monterey::Task<ExitCode> list_pages(const PagesCommand& command, BlockDevice& device) {
  const MetaPages pages = co_await read_meta_pages(device);
  const Meta* const meta = pages.newest();
  if (meta == nullptr) {
    throw Error(
        Errc::corruption,
        fmt::format("{}: no meta page is good, so that nothing says which pages belong to the store; `store page` "
                    "shows single ones, `store salvage` searches for what is left",
                    device.name()));
  }
  Walk walk(device, *meta, command);
  co_await walk.run();
  std::uint64_t accounted = 0;
  for (std::size_t i = 0; i < kKindNames.size(); ++i) accounted += walk.counts(static_cast<Kind>(i)).blocks;
  accounted -= walk.used_and_free();
  const std::uint64_t unaccounted = meta->high_water - std::min(accounted, meta->high_water);
  Output output;
  if (command.json) {
    Fields fields;
    fields.number("generation", meta->generation.value);
    fields.number("high_water_blocks", meta->high_water);
    fields.number("device_blocks", device.size_blocks());
    fields.number("unaccounted_blocks", unaccounted);
    print_json(walk, std::move(fields), output);
  } else {
    print_text(walk, unaccounted, output);
  }
  output.finish();
  co_return walk.damages().empty() ? ExitCode::done : ExitCode::negative;
}

}  // namespace

ExitCode run(const PagesCommand& command) {
  return with_device(command.session, [&](BlockDevice& device) { return list_pages(command, device); });
}

}  // namespace store::tool
