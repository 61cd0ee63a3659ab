#include "store/tree/merge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <monterey/preempt.hpp>
#include <numeric>
#include <store/error.hpp>
#include <utility>

#include "store/base/assert.hpp"

namespace store {

namespace {

constexpr std::size_t kSmallPageBytes = kPageBytes / 3;

// Of a branch's leaves, so many are to get entries that all are written anew: where that and reading and writing single pages
// cost about the same.
constexpr std::size_t kWholeNumerator = 3;
constexpr std::size_t kWholeDenominator = 5;

constexpr std::size_t kKeysARound = 64;  // of the buffer, that are passed before others may run

bool is_below(std::string_view key, const std::optional<std::string>& upper) { return !upper || key < *upper; }

// Whether the keys of a leaf, or the separators of a branch, lie in the range that the parent gives the page. Within the page
// they ascend: verify() has seen to that.
bool leaf_is_within(LeafView leaf, std::string_view lower, const std::optional<std::string>& upper) {
  if (leaf.count() == 0) return true;
  std::string first;
  leaf.append_key(0, first);
  std::string last;
  leaf.append_key(leaf.count() - 1, last);
  return first >= lower && is_below(last, upper);
}

bool branch_is_within(BranchView branch, std::string_view lower, const std::optional<std::string>& upper) {
  if (branch.count() == 1) return true;
  std::string first;
  branch.append_separator(1, first);
  std::string last;
  branch.append_separator(branch.count() - 1, last);
  return first > lower && is_below(last, upper);
}

}  // namespace

MergeCounts& MergeCounts::operator+=(const MergeCounts& other) {
  entries += other.entries;
  tree_pages += other.tree_pages;
  overflow_blocks += other.overflow_blocks;
  pages_read += other.pages_read;
  pages_touched += other.pages_touched;
  run_blocks_moved += other.run_blocks_moved;
  keys += other.keys;
  return *this;
}

TreeMerge::TreeMerge(const Resources& resources, TreeRoot from, Generation building, Generation durable)
    : with_(resources),
      from_(from),
      building_(building),
      durable_(durable),
      reader_(resources.device, resources.cache, resources.read_slots, resources.io_class) {}

monterey::Task<TreeRoot> TreeMerge::run(std::shared_ptr<const WriteBuffer> buffer, SeqNo at, SeqNo after) {
  at_ = at;
  after_ = after;
  if (buffer->ranges().next_stretch("", at, after)) ranges_ = &buffer->ranges();
  input_.emplace(buffer->iterate(at, after));
  input_->seek("");
  co_await pass_over_erased(&*input_);
  if (!input_->valid() && ranges_ == nullptr) {
    TreeRoot same = from_;
    same.generation = building_;
    co_return same;
  }
  plan_input_.emplace(buffer->iterate(at, after));
  plan_input_->seek("");
  co_await pass_over_erased(&*plan_input_);
  if (from_.empty()) {
    co_await collect_changes(std::nullopt);
    join_run(std::string());
    begin_leaf(true);
    co_await pack_changes();
  } else if (!input_->valid() && erased_in("", std::nullopt) == Erased::all) {
    co_await drop(from_.page, from_.height - 1u);
  } else {
    co_await merge_page(from_.page, from_.height - 1u, std::string(), std::nullopt);
  }
  STORE_ASSERT(!input_->valid());
  counts_.pages_read = reader_.pages_read();
  co_return co_await finish();
}

monterey::Task<> TreeMerge::drain() { return reader_.drain(); }

// --- the way down ---

monterey::Task<> TreeMerge::load_branch(PagePointer pointer, unsigned level, Page* into, Reuse reuse) {
  PageCache::Pin pin = co_await with_.cache.pin(pointer, with_.io_class, reuse);
  if (page_type(pin.data()) != PageType::branch || page_level(pin.data()) != level) {
    throw Error(Errc::corruption,
                fmt::format("{}: page {}: a branch of level {} was expected, the page has level {}; restore from a "
                            "backup or salvage the store",
                            with_.device.name(), pointer.page.value, level, page_level(pin.data())));
  }
  std::memcpy(into->data(), pin.data(), kPageBytes);
}

// The next key that leads to a leaf to be read: of a change, or the first one that a range erases.
std::optional<std::string_view> TreeMerge::next_to_plan() const {
  std::optional<std::string_view> next;
  if (plan_input_->valid()) next = plan_input_->entry().key;
  if (ranges_ == nullptr) return next;
  const auto stretch = ranges_->next_stretch(planned_, at_, after_);
  if (!stretch) return next;
  const std::string_view erased = std::max(stretch->from, std::string_view(planned_));
  return next && *next < erased ? next : erased;
}

void TreeMerge::note_planned(const UpperBound& upper) {
  if (ranges_ == nullptr) return;
  if (upper) {
    planned_ = *upper;
  } else {
    plan_done_ = true;
  }
}

// Finds the leaves of a branch that the buffer has changes for, and decides whether the others are written anew with them.
monterey::Task<> TreeMerge::plan_branch(PlanLevel* branch, PageNo page) {
  const BranchView view(branch->page->data());
  std::string upper;
  std::size_t changed = 0;  // of the slots; to erase what may be absent is no reason to write its neighbours
  std::size_t keys = 0;
  while (plan_input_->valid() && is_below(plan_input_->entry().key, branch->upper)) {
    const std::uint32_t slot = view.find_child(plan_input_->entry().key);
    branch->slots.push_back(static_cast<std::uint16_t>(slot));
    const bool is_last = slot + 1 == view.count();
    upper.clear();
    if (!is_last) view.append_separator(slot + 1, upper);
    bool puts = false;
    do {
      puts = puts || plan_input_->entry().kind != EntryKind::erase;
      plan_input_->next();
      if (++keys % kKeysARound == 0) co_await monterey::maybe_yield(kLeafRound);
    } while (plan_input_->valid() &&
             (is_last ? is_below(plan_input_->entry().key, branch->upper) : plan_input_->entry().key < upper));
    changed += puts;
  }
  const bool whole = changed * kWholeDenominator >= view.count() * kWholeNumerator;
  if (whole) {
    branch->slots.resize(view.count());
    std::iota(branch->slots.begin(), branch->slots.end(), std::uint16_t{0});
  }
  planned_branches_.push_back({page, whole});
}

// Asked of each branch over leaves in the order of the merge.
monterey::Task<bool> TreeMerge::is_rewritten_whole(PagePointer branch) {
  co_await read_ahead();  // the plan is at this branch or behind it then
  if (planned_branches_.empty() || planned_branches_.front().page != branch.page) co_return false;
  const bool whole = planned_branches_.front().whole;
  planned_branches_.pop_front();
  co_return whole;
}

monterey::Task<std::optional<PagePointer>> TreeMerge::plan_next() {
  while (!plan_done_) {
    if (!plan_.empty() && plan_.back().slots_done < plan_.back().slots.size()) {
      PlanLevel& branch = plan_.back();
      co_return BranchView(branch.page->data()).child(branch.slots[branch.slots_done++]);
    }
    const std::optional<std::string_view> key = next_to_plan();
    if (!key) break;
    while (!plan_.empty() && !is_below(*key, plan_.back().upper)) plan_.pop_back();
    if (plan_.empty()) {
      if (from_.height == 1) {
        plan_done_ = true;
        if (erased_in("", std::nullopt) == Erased::all && !has_overflow(from_.page)) break;
        co_return from_.page;
      }
      PlanLevel root{std::make_unique<Page>(), from_.height - 1u, {}, std::nullopt, {}};
      co_await load_branch(from_.page, root.level, root.page.get());
      plan_.push_back(std::move(root));
      if (ranges_ == nullptr && from_.height == 2) {
        co_await plan_branch(&plan_.back(), from_.page.page);
        continue;
      }
    }
    const PlanLevel& at = plan_.back();
    const BranchView view(at.page->data());
    const std::uint32_t slot = view.find_child(*key);
    PlanLevel child{nullptr, at.level - 1, {}, at.upper, {}};
    if (ranges_ != nullptr) child.lower = at.lower;
    if (ranges_ != nullptr && slot > 0) {
      child.lower.clear();
      view.append_separator(slot, child.lower);
    }
    if (slot + 1 < view.count()) {
      child.upper.emplace();
      view.append_separator(slot + 1, *child.upper);
    }
    const PagePointer pointer = view.child(slot);
    const bool is_unread = erased_in(child.lower, child.upper) == Erased::all && !has_overflow(pointer);
    if (child.level == 0) {
      while (plan_input_->valid() && is_below(plan_input_->entry().key, child.upper)) {
        plan_input_->next();
        const bool is_gone = plan_input_->valid() && plan_input_->entry().by_range;
        if (is_gone) co_await pass_over_erased(&*plan_input_);
      }
      note_planned(child.upper);
      if (is_unread) continue;
      co_return pointer;
    }
    if (is_unread && !(plan_input_->valid() && is_below(plan_input_->entry().key, child.upper))) {
      note_planned(child.upper);
      continue;
    }
    child.page = std::make_unique<Page>();
    co_await load_branch(pointer, child.level, child.page.get());
    plan_.push_back(std::move(child));
    if (ranges_ == nullptr && plan_.back().level == 1) co_await plan_branch(&plan_.back(), pointer.page);
  }
  plan_done_ = true;
  co_return std::nullopt;
}

monterey::Task<> TreeMerge::read_ahead() {
  while (!plan_done_ && !reader_.full()) {
    const std::optional<PagePointer> leaf = co_await plan_next();
    if (leaf) reader_.start(*leaf);
  }
  if (plan_done_) reader_.no_more();
}

bool TreeMerge::changes_below(const UpperBound& upper) const {
  return input_->valid() && is_below(input_->entry().key, upper);
}

bool TreeMerge::wants_neighbour(unsigned level) const {
  if (level == 0) {
    return !leaves_.empty() && !run_has_pages_ && leaves_.page_count() == 1 && leaves_.packed_bytes() < kSmallPageBytes;
  }
  if (branches_.size() < level) return false;
  const BranchPacker& packer = branches_[level - 1];
  return !packer.empty() && packer.page_count() == 1 && packer.packed_bytes() < kSmallPageBytes;
}

monterey::Task<> TreeMerge::merge_page(PagePointer pointer, unsigned level, std::string lower, UpperBound upper) {
  if (level == 0) return merge_leaf(pointer, std::move(lower), std::move(upper));
  return merge_branch(pointer, level, std::move(lower), std::move(upper));
}

monterey::Task<> TreeMerge::merge_branch(PagePointer pointer, unsigned level, std::string lower, UpperBound upper) {
  const auto page = std::make_unique<Page>();
  co_await load_branch(pointer, level, page.get());
  supersede(pointer);
  const BranchView view(page->data());
  require_branch_in_range(pointer, view, lower, upper);
  bool whole = false;
  if (level == 1 && ranges_ == nullptr) whole = co_await is_rewritten_whole(pointer);
  rewrites_whole_ = whole;
  std::string separator = lower;
  bool draw_in = false;  // the child before it asked for its neighbour
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    UpperBound child_upper = upper;
    if (slot + 1 < view.count()) {
      child_upper.emplace();
      view.append_separator(slot + 1, *child_upper);
    }
    const bool touched = changes_below(child_upper);
    const Erased erased = erased_in(separator, child_upper);
    if (erased == Erased::all && !touched) {
      join_run(separator);
      co_await drop(view.child(slot), level - 1);
    } else if (touched || draw_in || whole || erased != Erased::nothing || inherits()) {
      co_await merge_page(view.child(slot), level - 1, separator, child_upper);
      draw_in = wants_neighbour(level - 1);
    } else {
      co_await carry_over(level, separator, view.child(slot));
    }
    if (child_upper) separator = std::move(*child_upper);
  }
}

// The packers are given ascending keys, whatever the device holds.
void TreeMerge::require_in_range(const PagePointer& pointer, bool in_range) const {
  if (in_range) return;
  throw Error(
      Errc::corruption,
      fmt::format("{}: page {}: it has keys outside the range of its place in the tree; restore from a backup or "
                  "salvage the store",
                  with_.device.name(), pointer.page.value));
}

void TreeMerge::require_leaf_in_range(const PagePointer& pointer, LeafView leaf, std::string_view lower,
                                      const UpperBound& upper) const {
  require_in_range(pointer, leaf_is_within(leaf, lower, upper));
}

void TreeMerge::require_branch_in_range(const PagePointer& pointer, BranchView branch, std::string_view lower,
                                        const UpperBound& upper) const {
  require_in_range(pointer, branch_is_within(branch, lower, upper));
}

monterey::Task<> TreeMerge::collect_changes(const UpperBound& upper) {
  changes_.clear();
  while (changes_below(upper)) {
    changes_.push_back(input_->entry());
    input_->next();
    ++counts_.keys;
    const bool is_gone = input_->valid() && input_->entry().by_range;
    if (is_gone) co_await pass_over_erased(&*input_);
    if (changes_.size() % kKeysARound == 0) co_await monterey::maybe_yield(kLeafRound);
  }
  if (with_.progress != nullptr) with_.progress->pulse();
}

// A leaf of the old tree, until the next call.
monterey::Task<LeafReader::Leaf> TreeMerge::take_leaf(PagePointer pointer) {
  co_await read_ahead();
  if (reader_.next_is(pointer)) co_return co_await reader_.take();
  // A neighbour that was drawn in, which the plan does not know: it is resident or read by itself.
  const bool was_resident = with_.cache.resident(pointer);
  PageCache::Pin pin = co_await with_.cache.pin(pointer, with_.io_class, Reuse::unlikely);
  if (page_type(pin.data()) != PageType::leaf) {
    throw Error(Errc::corruption, fmt::format("{}: page {}: a leaf was expected; restore from a backup or salvage "
                                              "the store",
                                              with_.device.name(), pointer.page.value));
  }
  if (!unplanned_leaf_) unplanned_leaf_ = std::make_unique<Page>();
  std::memcpy(unplanned_leaf_->data(), pin.data(), kPageBytes);
  co_return LeafReader::Leaf{unplanned_leaf_->data(), was_resident};
}

monterey::Task<> TreeMerge::merge_leaf(PagePointer pointer, std::string lower, UpperBound upper) {
  co_await monterey::maybe_yield(kLeafRound);
  co_await collect_changes(upper);
  const Erased erased = erased_in(lower, upper);
  if (erased == Erased::all && !has_overflow(pointer)) {
    join_run(lower);
    begin_leaf(with_.cache.resident(pointer));
    co_await drop(pointer, 0);
    co_await pack_changes();
    co_return;
  }
  const LeafReader::Leaf leaf = co_await take_leaf(pointer);
  const LeafView view(leaf.bytes);
  require_leaf_in_range(pointer, view, lower, upper);
  const bool changes_nothing = std::ranges::all_of(changes_, [&](const EntryView& change) {
    return change.kind == EntryKind::erase && !view.find(change.key).found;
  });
  const bool is_unchanged = changes_nothing && (erased == Erased::nothing || !erases_any_of(view));
  if (leaves_.empty() && is_unchanged && !inherits() && !rewrites_whole_) {
    co_await carry_over(1, lower, pointer);  // erases of absent keys alone change nothing
    co_return;
  }
  join_run(lower);
  begin_leaf(leaf.was_resident);
  supersede(pointer);
  co_await pack_leaf(view, erased);
}

// --- the way up ---

void TreeMerge::join_run(const std::string& lower) {
  const bool is_first = leaves_.empty() && !run_has_pages_ && !run_lower_;
  if (is_first) run_lower_ = lower;
}

void TreeMerge::begin_leaf(bool is_hot) {
  const std::uint64_t open = leaves_.page_count();
  hot_until_ = std::min(hot_until_, leaves_emitted_ + open);
  if (!is_hot) return;
  if (hot_until_ <= leaves_emitted_) hot_from_ = leaves_emitted_ + (open == 0 ? 0 : open - 1);
  hot_until_ = ~std::uint64_t{0};
}

// The leaf's entries with the changes among them: stretches of entries are copied up to the place of the next change.
monterey::Task<> TreeMerge::pack_leaf(LeafView leaf, Erased erased) {
  std::string key;
  std::uint32_t slot = 0;
  for (std::size_t change = 0; change <= changes_.size(); ++change) {
    const Lookup at = change < changes_.size() ? leaf.find(changes_[change].key) : Lookup{leaf.count(), false};
    for (; slot < at.slot; ++slot) {
      if (erased != Erased::nothing) {
        key.clear();
        leaf.append_key(slot, key);
        if (is_erased(key)) {
          drop_value(leaf.value(slot));
          --counts_.entries;
          continue;
        }
      }
      leaves_.add(leaf.prefix(), leaf.suffix(slot), leaf.payload_bytes(slot), leaf.is_run(slot));
      if (leaves_.front_is_settled()) co_await emit_front(0);
    }
    if (change == changes_.size()) break;
    if (at.found) {
      drop_value(leaf.value(slot));
      --counts_.entries;
      ++slot;
    }
    if (!add_entry(changes_[change])) co_await add_long_entry(changes_[change]);
    if (leaves_.front_is_settled()) co_await emit_front(0);
    if ((change + 1) % kKeysARound == 0) co_await monterey::maybe_yield(kLeafRound);
  }
}

// The changes where there are no entries among them.
monterey::Task<> TreeMerge::pack_changes() {
  std::size_t since_yield = 0;
  for (const EntryView& change : changes_) {
    if (!add_entry(change)) co_await add_long_entry(change);
    if (leaves_.front_is_settled()) co_await emit_front(0);
    if (++since_yield % kKeysARound == 0) co_await monterey::maybe_yield();
  }
}

// Adds what the entry leaves behind; false if its value must go to a run first.
bool TreeMerge::add_entry(const EntryView& entry) {
  switch (entry.kind) {
    case EntryKind::erase: return true;
    case EntryKind::put:
      if (entry.value.size() > kMaxInlineValueBytes) return false;
      leaves_.add(LeafCell{entry.key, LeafValue(entry.value)});
      break;
    case EntryKind::run:
      with_.free_list.adopt(run_extent(entry.run));  // never scattered
      adopted_runs_.push_back(entry.run.first.value);
      counts_.overflow_blocks += static_cast<std::int64_t>(run_blocks(entry.run.length));
      leaves_.add(LeafCell{entry.key, LeafValue(entry.run)});
      break;
  }
  ++counts_.entries;
  return true;
}

monterey::Task<> TreeMerge::add_long_entry(EntryView entry) {
  const OverflowRun run = co_await with_.writer.write_run(entry.value, durable_);
  counts_.overflow_blocks += static_cast<std::int64_t>(run_blocks(run.length));
  leaves_.add(LeafCell{entry.key, LeafValue(run, RunOthers(run).view())});
  ++counts_.entries;
}

void TreeMerge::drop_value(const LeafValue& value) {
  if (!value.is_run()) return;
  const OverflowRun run = value.run();
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) with_.free_list.release(extent, run.birth);
  counts_.overflow_blocks -= static_cast<std::int64_t>(run_blocks(run.length));
}

void TreeMerge::supersede(const PagePointer& pointer) {
  with_.free_list.release(Extent{pointer.page, 1}, pointer.birth);
  --counts_.tree_pages;
  ++counts_.pages_touched;
}

BranchPacker& TreeMerge::branches(unsigned level) {
  STORE_ASSERT(level >= 1 && level <= kMaxHeight);
  if (branches_.size() < level) {
    branches_.resize(level);
    branch_pages_.resize(level);
  }
  return branches_[level - 1];
}

monterey::Task<> TreeMerge::add_child(unsigned level, std::string_view separator, PagePointer child) {
  branches(level).add(BranchCell{separator, child});
  if (branches(level).front_is_settled()) co_await emit_front(level);
}

monterey::Task<> TreeMerge::carry_over(unsigned level, std::string_view separator, PagePointer child) {
  for (unsigned below = 0; below < level; ++below) co_await end_run(below);
  co_await add_child(level, separator, child);
}

monterey::Task<> TreeMerge::end_run(unsigned level) {
  if (level == 0) {
    leaves_.settle();
    while (!leaves_.empty()) co_await emit_front(0);
    run_lower_.reset();
    run_has_pages_ = false;
    begin_leaf(false);
    co_return;
  }
  branches(level).settle();
  while (!branches(level).empty()) co_await emit_front(level);
}

monterey::Task<> TreeMerge::emit_front(unsigned level) {
  if (level >= kMaxHeight) {
    throw Error(Errc::corruption,
                fmt::format("{}: the tree would grow over {} levels, which no sound tree does; restore "
                            "from a backup or salvage the store",
                            with_.device.name(), kMaxHeight));
  }
  while (!with_.writer.has_room()) co_await with_.writer.make_room();
  const PageWriter::Place place = with_.writer.place();
  const std::span<std::byte, kPageBytes> bytes(place.bytes, kPageBytes);
  std::string separator;
  bool is_hot = true;
  if (level == 0) {
    is_hot = leaves_emitted_ >= hot_from_ && leaves_emitted_ < hot_until_;
    ++leaves_emitted_;
    const PackedCells cells = leaves_.front();
    if (run_has_pages_) {
      separator = shortest_separator(last_leaf_key_, cells.key(0));
    } else {
      STORE_ASSERT(run_lower_.has_value());
      separator = *std::exchange(run_lower_, std::nullopt);
    }
    last_leaf_key_ = cells.last_key();
    encode_packed_leaf(cells, bytes);
    leaves_.pop_front();
    run_has_pages_ = true;
  } else {
    const PackedCells cells = branches(level).front();
    separator = cells.key(0);
    encode_packed_branch(cells, static_cast<std::uint8_t>(level), bytes);
    branches(level).pop_front();
    ++branch_pages_[level - 1];
  }
  const PagePointer pointer = seal_page(bytes, place.page, building_);
  ++counts_.tree_pages;
  if (is_hot) with_.cache.insert_clean(pointer, bytes);
  co_await add_child(level + 1, separator, pointer);
}

monterey::Task<TreeRoot> TreeMerge::finish() {
  co_await end_run(0);
  for (unsigned level = 1;; ++level) {
    const bool top = branches_.size() <= level ||
                     std::all_of(branches_.begin() + level, branches_.end(), [](const auto& b) { return b.empty(); });
    if (top && branches(level).empty() && branch_pages_[level - 1] == 0) {
      co_return TreeRoot{PagePointer{}, 0, building_};
    }
    if (top && branch_pages_[level - 1] == 0 && branches(level).cell_count() == 1) {
      const PagePointer root = load_pointer(branches(level).front().payload(0));
      co_return TreeRoot{root, static_cast<std::uint8_t>(level), building_};
    }
    co_await end_run(level);
  }
}

}  // namespace store
