// Commits: a frozen buffer is merged into new pages beside the running writers and readers, then the meta page names the
// new state.
//
// The order, and why: (1) pages and runs are written, then the allocator's; (2) sync: a meta page must never name what is
// not durable; (3) both copies of the older meta slot, so that the newer state stays whole until (4) the sync after it;
// (5) in one step, without a suspension, the new tree becomes current, the buffer leaves, and superseded blocks are held
// or free, so that no reader finds a key neither in a buffer nor in the tree.
//
// A failure in (1) aborts: nothing changed, the buffer stays and is flushed again later. A failed sync or meta write
// poisons: which state is durable is then unknown until the store is reopened.
#include <algorithm>
#include <chrono>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <monterey/task_class.hpp>
#include <store/error.hpp>
#include <unordered_set>

#include "store/base/assert.hpp"
#include "store/base/probes.hpp"
#include "store/partition/partition_core.hpp"

namespace store::detail {

// A state that the flush builds: as of a live view, or, the last one, of the whole buffer.
struct PartitionCore::Cut {
  SeqNo at;
  TreeRoot tree;
};

namespace {

constexpr std::uint64_t kFewExcessBlocks = (1u << 20) / kPageBytes;
constexpr std::chrono::microseconds kResetStep{50};

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "unknown error";
  }
}

// no_space says that nothing was changed, which of a commit that failed at its meta page is not known.
[[noreturn]] void throw_commit_failed(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    if (e.errc() != Errc::no_space) throw;
    throw Error(Errc::io_error, e.what());
  }
}

}  // namespace

void PartitionCore::poison(const std::string& why) noexcept {
  if (!poisoned_.empty()) return;
  try {
    poisoned_ = why.empty() ? "out of memory" : why;
  } catch (const std::bad_alloc&) {
    poisoned_ = "out of memory";  // short enough to need none
  }
  if (log_) log_->fail(poisoned_);
}

void PartitionCore::poison(const std::exception_ptr& error) noexcept {
  try {
    poison(text_of(error));
  } catch (const std::bad_alloc&) {
    poison(std::string());
  }
}

// What writes were accepted for may have been far more than they came to need: an upper bound for the merge of a buffer of
// overwrites is several times what it writes. Much of that goes back to the file system, but nothing that was there before
// this partition was opened.
monterey::Task<> PartitionCore::give_back_excess() {
  const std::uint64_t size = device_->size_blocks();
  const std::uint64_t keep = std::max(size_at_open_, free_list_.high_water() + blocks_needed({}, states_to_build()));
  if (!frozen_.empty() || size < keep + std::max(kFewExcessBlocks, size / 16)) co_return;
  try {
    co_await device_->shrink(keep);
  } catch (const Error& error) {
    if (error.errc() != Errc::io_error) throw;
    // The flush has done its work; a file that is longer than it need be does no harm.
  }
}

void PartitionCore::start_flush() {
  if (flushing_ || !poisoned_.empty()) return;
  if (frozen_.empty() && !log_commit_wanted_ && !wants_compact_turn()) return;
  monterey::detail::spawn_background(flush_frozen(shared_from_this()));
  flushing_ = true;  // the task has not begun
}

monterey::Task<> PartitionCore::flush_frozen(std::shared_ptr<PartitionCore> self) {
  const monterey::TaskClassScope scope(monterey::TaskClass::background);
  const auto has_work = [&core = *self] {
    return !core.frozen_.empty() || core.log_commit_wanted_ || core.wants_compact_turn();
  };
  while (has_work() && self->poisoned_.empty()) {
    const bool for_log = self->log_commit_wanted_;
    std::exception_ptr error;
    try {
      if (for_log) {
        // Writers fill what is left of the log meanwhile.
        const monterey::TaskClassScope urgent(monterey::TaskClass::foreground);
        co_await self->commit_log();
      } else if (!self->frozen_.empty()) {
        co_await self->flush_one();
        co_await self->give_back_excess();
      } else {
        co_await self->do_compact_turn(*self->compact_turn_);
      }
    } catch (...) {
      error = std::current_exception();
    }
    if (for_log) self->log_commit_wanted_ = false;  // only now: appends ask again and again meanwhile
    if (error) {
      self->flush_error_ = error;
      ++self->flush_failures_;
      break;
    }
    self->pulse_flush_ended();
  }
  self->flushing_ = false;
  self->pulse_flush_ended();
}

void PartitionCore::pulse_flush_ended() noexcept {
  merged_keys_ = keys_to_merge_ = 0;
  flush_ended_.pulse();
  merge_progressed_.pulse();
}

// Everything written before the call is in a durable commit when it completes.
monterey::Task<> PartitionCore::flush_all() {
  const SeqNo target = last_seq_;
  const auto is_due = [target](const Buffer& buffer) {
    return !buffer.data->empty() && buffer.data->first_seq() <= target;
  };
  for (;;) {
    if (is_due(active_)) {
      rotate();
    } else if (frozen_.empty() || !is_due(frozen_.front())) {
      co_return;
    }
    co_await wait_for_flush();
  }
}

monterey::Task<> PartitionCore::flush() {
  require_open();
  require_committable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  co_await flush_all();
}

// Everything written before the call is durable when it completes.
monterey::Task<> PartitionCore::sync() {
  require_open();
  require_committable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  const TimedSync timed(counters_.sync);
  if (!log_) {
    co_await flush_all();
    co_return;
  }
  co_await wait_for_unlogged();
  co_await log_->sync();
}

std::vector<PartitionCore::Cut> PartitionCore::plan_cuts(const WriteBuffer& buffer) const {
  std::vector<Cut> cuts;
  for (const View& view : views_) {
    if (view.at < buffer.first_seq() || view.at >= buffer.last_seq()) continue;
    if (cuts.empty() || cuts.back().at != view.at) cuts.push_back(Cut{view.at, {}});
  }
  cuts.push_back(Cut{buffer.last_seq(), {}});
  return cuts;
}

// Step (1). On an error everything that was started has ended when it is thrown.
monterey::Task<AllocatorRoot> PartitionCore::build(Buffer& buffer, std::vector<Cut>& cuts, PageWriter& writer,
                                                   MergeCounts& counts) {
  const std::span<std::byte> read_slots = staging_.span().subspan(PageWriter::kStagingBytes);
  const TreeMerge::Resources resources{
      *device_, cache_, free_list_, writer, read_slots, monterey::IoClass::background, &merge_progressed_};
  TreeRoot tree = tree_;
  SeqNo after;
  std::unordered_set<std::uint32_t> adopted;
  keys_to_merge_ = buffer.data->keys() * cuts.size();
  merged_keys_ = 0;
  for (Cut& cut : cuts) {
    const Generation building = take_generation();
    free_list_.begin(building);
    TreeMerge merge(resources, tree, building, tree_.generation);
    monterey::Task<> drain = merge.drain();  // made here: it must not fail for want of memory
    std::exception_ptr error;
    merge_ = &merge;
    try {
      cut.tree = co_await merge.run(buffer.data, cut.at, after);
    } catch (...) {
      error = std::current_exception();
    }
    co_await std::move(drain);
    merge_ = nullptr;
    merged_keys_ += buffer.data->keys();
    if (error) std::rethrow_exception(error);
    counts += merge.counts();
    adopted.insert(merge.adopted_runs().begin(), merge.adopted_runs().end());
    tree = cut.tree;
    after = cut.at;
    co_await writer.write_out();  // the next cut may read what this one wrote
  }
  // Runs that a later write in the same buffer replaced: readers may still be in them, so they go the way of all blocks.
  for (const OverflowRef& run : buffer.runs) {
    if (adopted.contains(run.first.value)) continue;
    free_list_.adopt(run_extent(run));
    free_list_.release(run_extent(run), run.birth);
  }
  co_await writer.finish();
  co_return co_await free_list_.seal();
}

// What a commit's meta page begins with.
Meta PartitionCore::next_meta() const {
  Meta meta = meta_;
  meta.lineage = lineage();
  return meta;
}

// Steps (2) to (4): makes the state that `meta` names durable. Errors: the partition is poisoned.
monterey::Task<> PartitionCore::commit_meta(const Meta& meta, const std::uint32_t& slot) {
  try {
    if (!planted(Planted::no_sync_before_meta)) co_await sync_device(*device_);
    // The error of a sync elsewhere may have been this one's to report.
    require_committable();
    co_await write_meta_slot(*device_, meta, slot);
    if (!planted(Planted::no_sync_after_meta)) co_await sync_device(*device_);
    require_committable();
    STORE_PROBE(commit, this, meta.generation.value);
  } catch (...) {
    if (planted(Planted::poison_ignored)) {
      if (free_list_.in_commit()) free_list_.aborted();
    } else {
      poison(std::current_exception());
    }
    throw_commit_failed(std::current_exception());
  }
}

monterey::Task<> PartitionCore::flush_one() {
  const monterey::TimePoint begin = monterey::now();
  Buffer& buffer = frozen_.front();  // stays in front: only this task takes buffers out
  STORE_PROBE(flush_start, this, buffer.data->entries(), buffer.data->bytes_used());
  std::vector<Cut> cuts = plan_cuts(*buffer.data);
  PageWriter writer(*device_, free_list_, staging_.span().first(PageWriter::kStagingBytes),
                    monterey::IoClass::background);
  Meta meta;
  const std::uint32_t slot = planted(Planted::meta_slots_swapped) ? meta_slot_ : 1 - meta_slot_;
  // Made here: they must not fail for want of memory.
  monterey::Task<> drain = writer.drain();
  monterey::Task<> commit = commit_meta(meta, slot);
  monterey::Task<> settle = free_list_.settle();
  MergeCounts counts;
  AllocatorRoot allocator;
  LogLayout layout;
  std::vector<GenerationPins::Pin> cut_pins;
  std::exception_ptr error;
  writer_ = &writer;
  try {
    allocator = co_await build(buffer, cuts, writer, counts);
    // Once the meta page is written nothing may fail: to pin what is pinned allocates nothing.
    cut_pins.reserve(cuts.size());
    for (const Cut& cut : cuts) cut_pins.push_back(pins_.pin(cut.tree.generation));
    layout = log_layout().starting_at(log_keep_from(1));
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(drain);
  writer_ = nullptr;
  if (error) {
    if (free_list_.in_commit()) free_list_.aborted();
    std::rethrow_exception(error);
  }

  meta = next_meta();
  const TreeRoot& tree = cuts.back().tree;
  meta.generation = tree.generation;
  if (tree.page != tree_.page) meta.origin = {};
  meta.tree_root = tree.page;
  meta.tree_height = tree.height;
  meta.allocator_root = allocator.root;
  meta.allocator_levels = allocator.levels;
  meta.high_water = allocator.high_water;
  meta.last_merged = buffer.data->last_seq();
  meta.entries += static_cast<std::uint64_t>(counts.entries);
  meta.tree_pages += static_cast<std::uint64_t>(counts.tree_pages);
  meta.overflow_blocks += static_cast<std::uint64_t>(counts.overflow_blocks);
  put_layout(layout, meta);
  if (planted(Planted::block_reused_early)) free_list_.committed();
  if (planted(Planted::segment_recycled_early)) log_committed(layout, meta.generation);
  co_await std::move(commit);

  // Step (5): no suspension from here until all of it is done.
  meta_ = meta;
  meta_slot_ = slot;
  tree_ = tree;
  pending_ -= buffer.space;
  std::shared_ptr<WriteBuffer> merged = buffer.data;
  if (buffer.unlogged) --unlogged_;
  frozen_.pop_front();
  move_views(cuts, merged);
  cut_pins.clear();
  if (!planted(Planted::block_reused_early)) free_list_.committed();
  log_growth_refused_ = false;
  log_committed(std::move(layout), meta.generation);
  ++counters_.flushes;
  counters_.flush.record(monterey::now() - begin);
  STORE_PROBE(flush_done, this, meta.generation.value, writer.blocks_written());
  counters_.flush_pages_read += counts.pages_read;
  counters_.flush_pages_written += writer.blocks_written();
  counters_.flush_writes += writer.writes();
  // Its memory is the next buffer's: with pages that are there already, unless somebody still reads it.
  emptying_buffer_ = merged.use_count() == 1 && !spare_buffer_ && has_usual_size(*merged);
  if (emptying_buffer_) {
    while (merged->reset_some()) co_await monterey::maybe_yield(kResetStep);
    spare_buffer_ = std::move(merged);
    emptying_buffer_ = false;
  }
  merged.reset();
  co_await std::move(settle);  // whoever waits for the flush counts on the blocks that it freed
}

// Moves the views that read `merged` onto the states of their cuts, which are pinned before the blocks that only they
// reach are given up. Every cut is pinned already.
void PartitionCore::move_views(const std::vector<Cut>& cuts, const std::shared_ptr<WriteBuffer>& merged) {
  for (View& view : views_) {
    if (view.buffers.empty() || view.buffers.front() != merged) continue;
    const auto cut = std::ranges::lower_bound(cuts, view.at, {}, &Cut::at);  // there are as many as views
    view.tree = cut != cuts.end() && cut->at == view.at ? cut->tree : cuts.back().tree;
    view.pin = pins_.pin(view.tree.generation);
    view.buffers.erase(view.buffers.begin());
    if (view.buffers.empty()) --buffered_views_;
    ++view.moves;
  }
}

ViewList::iterator PartitionCore::add_view() {
  require_open();
  View view;
  view.at = last_seq_;
  view.tree = tree_;
  view.pin = pins_.pin(tree_.generation);
  for (const Buffer& buffer : frozen_) view.buffers.push_back(buffer.data);
  if (active_.data && !active_.data->empty()) view.buffers.push_back(active_.data);
  return insert_view(views_.end(), std::move(view));
}

// One more view of the same state. Requires: open; the other is live.
ViewList::iterator PartitionCore::add_view_like(ViewList::iterator other) {
  View view;
  view.at = other->at;
  view.tree = other->tree;
  view.pin = pins_.pin(other->tree.generation);
  view.buffers = other->buffers;
  return insert_view(std::next(other), std::move(view));
}

ViewList::iterator PartitionCore::add_snapshot_view() {
  require_not_poisoned();
  const ViewList::iterator view = add_view();
  view->snapshot_at = monterey::now();
  STORE_PROBE(snapshot_begin, this, view->at.value);
  return view;
}

ViewList::iterator PartitionCore::insert_view(ViewList::iterator before, View view) {
  const bool is_buffered = !view.buffers.empty();
  const ViewList::iterator inserted = views_.insert(before, std::move(view));
  buffered_views_ += is_buffered;
  return inserted;
}

std::vector<SnapshotStats> PartitionCore::snapshot_stats() const {
  std::vector<SnapshotStats> stats;
  std::vector<Generation> generations;
  const monterey::TimePoint now = monterey::now();
  for (const View& view : views_) {
    if (!view.snapshot_at) continue;
    stats.push_back({view.at.value, now - *view.snapshot_at, 0});
    generations.push_back(view.tree.generation);
  }
  if (stats.empty()) return stats;
  const std::vector<std::uint64_t> held = free_list_.blocks_held_by(generations);
  for (std::size_t i = 0; i < stats.size(); ++i) stats[i].held_blocks = held[i];
  return stats;
}

void PartitionCore::remove_view(ViewList::iterator view) {
  if (!view->buffers.empty()) --buffered_views_;
  views_.erase(view);
  if (state_ != State::closed) free_list_.pins_changed();
}

}  // namespace store::detail
