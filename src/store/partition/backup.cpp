// Backups: copies of the state at the call on another device.
//
// A full one is a scan, packed into a new store; the target becomes one with its last write. An incremental one walks the tree for
// the leaves that are younger than the copy on the target (tree/changed_leaves.hpp), and replaces the ranges of keys that they stand
// for there, as one commit (increment.hpp).
//
// What is buffered at the call is flushed first. So the copy is of a state that this store has durably, under a generation
// of its own: were there more in it, a crash could take that from here, and the next increment, which sends what has changed
// here, would not take it from there. A store that cannot commit, read-only with writes in its log or failing, is
// copied with what it has in buffers, but then nothing can follow on that copy.
#include <fmt/format.h>

#include <monterey/task_class.hpp>
#include <store/error.hpp>

#include "store/partition/increment.hpp"
#include "store/partition/partition_core.hpp"
#include "store/partition/scan_core.hpp"
#include "store/partition/snapshot_core.hpp"
#include "store/tree/changed_leaves.hpp"
#include "store/tree/overflow_io.hpp"
#include "store/tree/sequential_writer.hpp"
#include "store/tree/tree_builder.hpp"

namespace store::detail {

namespace {

constexpr std::uint64_t kEntriesPerYield = 8;

// The store that is made on the target, in one commit.
class Copy {
 public:
  explicit Copy(BlockDevice& target)
      : target_(target),
        free_list_(target, pins_, kMetaBlocks),
        staging_(allocate_aligned(SequentialWriter::kStagingBytes)),
        writer_(target, free_list_, std::span(staging_.get(), SequentialWriter::kStagingBytes),
                monterey::IoClass::background),
        builder_(writer_, kGeneration, nullptr) {
    meta_.uuid = random_uuid();
  }

  // Errors: those of both devices. The target is then no store, if it can still be written to.
  monterey::Task<> make(ScanCore& source, Origin origin) {
    meta_.origin = origin;
    monterey::Task<> drain = writer_.drain();  // made here: it must not fail for want of memory
    std::exception_ptr error;
    try {
      co_await clear_meta_slots(target_);
      co_await target_.sync();
      co_await fill(source);
    } catch (...) {
      error = std::current_exception();
    }
    co_await std::move(drain);
    if (!error) {
      try {
        co_await commit();
      } catch (...) {
        error = std::current_exception();
      }
    }
    if (!error) co_return;
    try {
      co_await clear_meta_slots(target_);
      co_await target_.sync();
    } catch (const std::exception&) {
      // The first error is thrown.
    }
    std::rethrow_exception(error);
  }

  std::uint64_t blocks_written() const {
    std::uint64_t blocks = kMetaBlocks + kMetaCopies + builder_.tree_pages() + builder_.overflow_blocks();
    for (std::uint8_t level = 0; level <= meta_.allocator_levels; ++level) {
      blocks += pages_of_level(regions_below(meta_.high_water), level);
    }
    return blocks;
  }
  std::uint64_t bytes() const { return meta_.high_water * kPageBytes; }

 private:
  static constexpr Generation kGeneration{1};

  monterey::Task<> fill(ScanCore& source) {
    free_list_.create_empty();
    free_list_.begin(kGeneration);
    for (;;) {
      std::optional<bool> more = source.try_advance();
      if (!more) more = co_await source.advance();
      if (!*more) break;
      if (!builder_.try_add(source.key(), source.value())) co_await builder_.add(source.key(), source.value());
      if (builder_.entries() % kEntriesPerYield == 0) co_await monterey::maybe_yield();
    }
    const TreeRoot tree = co_await builder_.finish();
    co_await writer_.finish();
    const AllocatorRoot allocator = co_await free_list_.seal();
    meta_.generation = kGeneration;
    meta_.incarnation = 1;
    meta_.tree_root = tree.page;
    meta_.tree_height = tree.height;
    meta_.allocator_root = allocator.root;
    meta_.allocator_levels = allocator.levels;
    meta_.high_water = allocator.high_water;
    meta_.entries = builder_.entries();
    meta_.tree_pages = builder_.tree_pages();
    meta_.overflow_blocks = builder_.overflow_blocks();
  }

  // What was taken in advance, and what was there before, goes back first.
  monterey::Task<> commit() {
    co_await target_.shrink(meta_.high_water);
    co_await target_.sync();
    co_await write_meta_slot(target_, meta_, 0);
    co_await target_.sync();
    free_list_.committed();
  }

  BlockDevice& target_;
  GenerationPins pins_;
  FreeList free_list_;
  std::shared_ptr<std::byte[]> staging_;
  SequentialWriter writer_;
  TreeBuilder builder_;
  Meta meta_;
};

// Sees to it that the target has so many blocks. Errors: no_space; nothing was changed.
monterey::Task<> make_space_on(BlockDevice& target, std::uint64_t blocks) {
  std::string why;
  try {
    co_await target.grow(blocks);
  } catch (const Error& error) {
    if (error.errc() != Errc::no_space) throw;
    why = error.what();
  }
  if (why.empty()) co_return;
  throw Error(Errc::no_space, fmt::format("{}: too small for the backup, which may need up to {} blocks of {} bytes; "
                                          "nothing was written: {}",
                                          target.name(), blocks, kPageBytes, why));
}

}  // namespace

// What a packed copy of the tree and of all that is buffered takes, at most, but for trees whose separators become much longer when
// its pages are packed.
std::uint64_t PartitionCore::backup_blocks() const {
  std::uint64_t blocks = kMetaBlocks + meta_.tree_pages + meta_.overflow_blocks;
  const auto add = [&blocks](const Buffer& buffer) {
    const std::uint64_t leaves = 2 * blocks_for(buffer.space.inline_bytes);
    blocks += leaves + leaves / 16 + buffer.space.run_blocks;
    for (const OverflowRef& run : buffer.runs) blocks += run_extent(run).count;
  };
  for (const Buffer& buffer : frozen_) add(buffer);
  add(active_);
  const std::uint64_t regions = blocks / kRegionBlocks + 1;
  return blocks + regions + regions / kBitmapFanout + 2;
}

// Sees to it that the state of the view is a durable one. Returns whether it is: not if this store cannot commit.
// Errors: those of a flush.
monterey::Task<bool> PartitionCore::make_durable(const View* view) {
  if (!poisoned_.empty()) co_return false;
  if (!read_only_) co_await flush_all();
  if (!view->buffers.empty()) co_return false;
  // The last commit before this one was opened may have been cut off short of its sync.
  try {
    co_await sync_device(*device_);
  } catch (const Error& error) {
    poison(std::string(error.what()));
    throw;
  }
  require_not_poisoned();
  co_return true;
}

monterey::Task<BackupReport> PartitionCore::backup(std::unique_ptr<BlockDevice> target, BackupOptions options,
                                                   std::shared_ptr<const SnapshotCore> snapshot) {
  const monterey::TaskClassScope scope(monterey::TaskClass::background);
  require_open();
  const bool of_target = options.since == BackupOptions::kOfTarget;
  if (options.since && !of_target && (*options.since == 0 || *options.since > kMaxGeneration.value)) {
    throw Error(Errc::invalid_argument,
                fmt::format("`since` is {}: it must be the generation of a copy, as the report of "
                            "its backup says",
                            *options.since));
  }
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  BackupReport report;
  if (options.since) {
    std::optional<Generation> since;
    if (!of_target) since = Generation(*options.since);
    report = co_await incremental_backup(target.get(), since, snapshot.get());
  } else {
    report = co_await full_backup(target.get(), options, snapshot.get());
  }
  co_return report;
}

monterey::Task<BackupReport> PartitionCore::full_backup(BlockDevice* target, BackupOptions options,
                                                        const SnapshotCore* snapshot) {
  ScanCore source(shared_from_this(), snapshot, std::string(), std::nullopt, ScanOptions{});
  const std::uint64_t blocks = backup_blocks();
  const std::uint64_t size_before = target->size_blocks();
  const CreateOptions create{.overwrite = options.overwrite};
  co_await require_replaceable(*target, create);
  co_await make_space_on(*target, blocks);
  BackupReport report;
  std::exception_ptr error;
  try {
    bool is_durable = false;
    try {
      is_durable = co_await make_durable(&source.view());
    } catch (const Error&) {
      // A store that can be read but not written to is copied all the more.
    }
    const Origin origin = is_durable ? origin_of(source.view()) : Origin{};
    Copy copy(*target);
    co_await copy.make(source, origin);
    report.generation = origin.generation.value;
    report.blocks_written = copy.blocks_written();
    report.bytes = copy.bytes();
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return report;
  try {
    co_await target->shrink(size_before);
  } catch (const std::exception&) {
    // The first error is thrown.
  }
  std::rethrow_exception(error);
}

// --- incremental ---

namespace {

constexpr std::size_t kReadSlots = 64;

// A view of the state of a snapshot, or, without one, at the call, for as long as it lives.
class HeldView {
 public:
  HeldView(PartitionCore& core, const SnapshotCore* snapshot)
      : core_(core), view_(snapshot == nullptr ? core.add_view() : core.add_view_like(snapshot->view())) {}
  HeldView(const HeldView&) = delete;
  HeldView& operator=(const HeldView&) = delete;
  ~HeldView() { core_.remove_view(view_); }

  const View& operator*() const { return *view_; }

 private:
  PartitionCore& core_;
  ViewList::iterator view_;
};

}  // namespace

void PartitionCore::require_not_newer(Generation copy, Generation newest) const {
  if (copy <= newest) return;
  throw Error(
      Errc::invalid_argument,
      fmt::format("{}: it is in generation {}, the copy is of {}: it was put back to an older state; take a full "
                  "copy, without `since`",
                  device_->name(), newest.value, copy.value));
}

void PartitionCore::require_nothing_in_log_alone(bool is_durable) const {
  if (is_durable) return;
  throw Error(Errc::read_only,
              fmt::format("{}: its log has writes that are in no commit yet; open it for writing", device_->name()));
}

monterey::Task<> PartitionCore::require_increment(BlockDevice& target) {
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  require_open();
  require_not_poisoned();
  const HeldView held(*this, nullptr);
  require_nothing_in_log_alone(!read_only_ || (*held).buffers.empty());
  Increment increment(target);
  monterey::Task<> end = increment.end();  // made here: it must not fail for want of memory
  std::exception_ptr error;
  try {
    co_await increment.open(meta_.uuid, lineage(), std::nullopt);
    require_not_newer(increment.origin().generation, (*held).tree.generation);
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(end);
  if (error) std::rethrow_exception(error);
}

monterey::Task<BackupReport> PartitionCore::incremental_backup(BlockDevice* target, std::optional<Generation> since,
                                                               const SnapshotCore* snapshot) {
  require_not_poisoned();
  const HeldView held(*this, snapshot);
  const View& view = *held;
  Increment increment(*target);
  monterey::Task<> end = increment.end();  // made here: it must not fail for want of memory
  BackupReport report;
  std::exception_ptr error;
  std::string no_space;
  try {
    co_await increment.open(meta_.uuid, lineage(), since);
    since = increment.origin().generation;
    require_not_newer(*since, view.tree.generation);
    const bool is_durable = co_await make_durable(&view);
    require_not_poisoned();
    require_nothing_in_log_alone(is_durable);
    const Origin origin = origin_of(view);
    const bool is_same = origin.tree_root == increment.origin().tree_root;
    if (!is_same) co_await copy_changes(view.tree, *since, &increment);
    if (origin != increment.origin()) co_await increment.commit(origin);
    report.generation = origin.generation.value;
    report.blocks_written = increment.blocks_written();
    report.bytes = increment.bytes();
  } catch (const Error& thrown) {
    error = std::current_exception();
    if (thrown.errc() == Errc::no_space) no_space = thrown.what();
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(end);
  if (!error) co_return report;
  if (no_space.empty() || !view.buffers.empty()) std::rethrow_exception(error);
  const std::uint64_t blocks = co_await increment_blocks(view.tree, *since);
  throw Error(Errc::no_space,
              fmt::format("{}: too small for the increment, for which it may need up to {} blocks of {} "
                          "bytes; nothing was changed: {}",
                          target->name(), increment.bytes() / kPageBytes + blocks, kPageBytes, no_space));
}

// Replaces the ranges of the leaves born after `since`, neighbours together, by what they hold.
monterey::Task<> PartitionCore::copy_changes(TreeRoot tree, Generation since, Increment* into) {
  if (tree.empty()) co_await into->erase_range(std::string_view(), std::nullopt);
  const auto slots = allocate_aligned(kReadSlots * kPageBytes);
  LeafReader reader(*device_, cache_, std::span(slots.get(), kReadSlots * kPageBytes), monterey::IoClass::background);
  monterey::Task<> drain = reader.drain();  // made here: it must not fail for want of memory
  std::exception_ptr error;
  try {
    ChangedLeaves changed(cache_, monterey::IoClass::background, tree, since);
    std::deque<ChangedLeaf> reading;
    std::size_t erased = 0;  // of those being read, the first ones whose ranges are erased
    for (bool more = true;;) {
      while (more && !reader.full()) {
        std::optional<ChangedLeaf> leaf = co_await changed.next();
        more = leaf.has_value();
        if (!more) break;
        reader.start(leaf->pointer);
        reading.push_back(std::move(*leaf));
      }
      if (!more) reader.no_more();
      if (reading.empty()) break;
      if (erased == 0) {
        for (erased = 1; erased < reading.size(); ++erased) {
          if (reading[erased - 1].upper != reading[erased].lower) break;
        }
        co_await into->erase_range(reading.front().lower, reading[erased - 1].upper);
      }
      const LeafReader::Leaf leaf = co_await reader.take();
      co_await copy_leaf(reading.front(), leaf.bytes, into);
      reading.pop_front();
      --erased;
      co_await monterey::maybe_yield();
      require_open();
    }
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(drain);
  if (error) std::rethrow_exception(error);
}

monterey::Task<> PartitionCore::copy_leaf(ChangedLeaf leaf, const std::byte* bytes, Increment* into) {
  const LeafView view(bytes);
  std::string key(view.prefix());
  for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
    key.resize(view.prefix().size());
    key.append(view.suffix(slot));
    if (key < leaf.lower || (leaf.upper && key >= *leaf.upper)) {
      throw Error(
          Errc::corruption,
          fmt::format("{}: page {}: it has keys outside the range of its place in the tree; restore from a backup "
                      "or salvage the store",
                      device_->name(), leaf.pointer.page.value));
    }
    const LeafValue value = view.value(slot);
    if (!value.is_run()) {
      co_await into->put(key, value.bytes());
      continue;
    }
    const RunValue run = co_await read_run(*device_, value.run(), monterey::IoClass::background);
    co_await into->put(key, run.view());
  }
}

// How many blocks the changes take, at most: leaves that are half full, and pages that one cut writes and the next one again.
monterey::Task<std::uint64_t> PartitionCore::increment_blocks(TreeRoot tree, Generation since) {
  ChangedLeaves changed(cache_, monterey::IoClass::background, tree, since);
  std::uint64_t leaves = 0;
  bool has_runs = false;
  for (;;) {
    const std::optional<ChangedLeaf> leaf = co_await changed.next();
    if (!leaf) break;
    ++leaves;
    has_runs = has_runs || has_overflow(leaf->pointer);
    co_await monterey::maybe_yield();
  }
  constexpr std::uint64_t kFewBlocks = 64;
  const std::uint64_t runs = has_runs ? meta_.overflow_blocks : 0;
  co_return kFewBlocks + 3 * leaves + leaves / 4 + runs + runs / kRegionBlocks;
}

}  // namespace store::detail
