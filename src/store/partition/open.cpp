// How a partition comes to be and how it ends: create, open, close.
#include <fmt/format.h>

#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/partition/log_device.hpp"
#include "store/partition/partition_core.hpp"
#include "store/tree/lookup.hpp"

namespace store::detail {

namespace {

constexpr std::uint64_t kInitialBlocks = 8;  // meta pages, the first allocator page, a little room

AllocatorRoot allocator_of(const Meta& meta) {
  return AllocatorRoot{meta.allocator_root, meta.allocator_levels, meta.high_water};
}

TreeRoot tree_of(const Meta& meta) { return TreeRoot{meta.tree_root, meta.tree_height, meta.generation}; }

}  // namespace

// A part of the core's registered memory.
monterey::FixedBuf PartitionCore::allocate_buffer(std::size_t bytes) {
  try {
    return monterey::FixedBufs::current().allocate(bytes);
  } catch (const Error& error) {
    if (error.errc() != Errc::invalid_argument) throw;
    throw Error(Errc::invalid_argument,
                fmt::format("{}: pass config.buffer_config(), added up over a core's partitions", error.what()));
  }
}

PartitionCore::PartitionCore(Access, std::unique_ptr<BlockDevice> device, std::unique_ptr<BlockDevice> log_device,
                             const PartitionConfig& config)
    : device_(std::move(device)),
      log_device_(std::move(log_device)),
      config_(config),
      free_list_(*device_, pins_, kMetaBlocks),
      staging_(allocate_buffer(PageWriter::kStagingBytes + config.io_depth * kPageBytes)),
      cache_(*device_, allocate_buffer(config.cache_pages * kPageBytes)) {
  free_list_.set_on_reuse([this](Extent extent) {
    for (std::uint64_t page = extent.first.value; page < extent.end(); ++page) {
      cache_.unmap(PageNo(static_cast<std::uint32_t>(page)));
    }
  });
}

PartitionCore::~PartitionCore() {
  STORE_ASSERT(!flushing_);
  if (log_) log_->abandon();
  // Read-ahead that nobody waits for may be in flight still.
  if (device_) cache_.end(std::move(device_));
}

void PartitionCore::throw_closed() const {
  throw Error(Errc::closed, "the partition is closed; open it again to use it");
}

void PartitionCore::check_config(const PartitionConfig& config) {
  const auto refuse = [](const std::string& what) { throw Error(Errc::invalid_argument, what); };
  if (config.cache_pages < PageCache::kMinFrames) {
    refuse(fmt::format("cache_pages is {}: a partition needs at least {} frames", config.cache_pages,
                       PageCache::kMinFrames));
  }
  if (config.write_buffer_bytes < kMinWriteBufferBytes || config.write_buffer_bytes > WriteBuffer::kMaxArenaBytes) {
    refuse(fmt::format("write_buffer_bytes is {}: a write buffer has {} to {} bytes", config.write_buffer_bytes,
                       kMinWriteBufferBytes, WriteBuffer::kMaxArenaBytes));
  }
  if (config.write_buffer_count < 2) {
    refuse(fmt::format("write_buffer_count is {}: at least 2 are needed, one to write to and one to flush",
                       config.write_buffer_count));
  }
  if (config.io_depth < 2 || config.io_depth > 1024) {
    refuse(fmt::format("io_depth is {}: it must be 2 to 1024", config.io_depth));
  }
  if (config.wal_batch_interval.count() < 0 || config.wal_batch_interval > std::chrono::hours(1)) {
    refuse(fmt::format("wal_batch_interval is {} us: it must be 0 to an hour", config.wal_batch_interval.count()));
  }
}

monterey::Task<std::shared_ptr<PartitionCore>> PartitionCore::create(std::unique_ptr<BlockDevice> device,
                                                                     std::unique_ptr<BlockDevice> log_device,
                                                                     PartitionConfig config, CreateOptions options) {
  check_config(config);
  auto core = std::make_shared<PartitionCore>(Access{}, std::move(device), std::move(log_device), config);
  co_await core->initialise(options);
  co_await core->finish_open(OpenOptions{});
  co_return std::move(core);
}

monterey::Task<std::shared_ptr<PartitionCore>> PartitionCore::open(std::unique_ptr<BlockDevice> device,
                                                                   std::unique_ptr<BlockDevice> log_device,
                                                                   PartitionConfig config, OpenOptions options) {
  check_config(config);
  auto core = std::make_shared<PartitionCore>(Access{}, std::move(device), std::move(log_device), config);
  MetaSlots slots = co_await read_meta_slots(*core->device_);
  if (slots.blank) {
    throw Error(Errc::not_a_store,
                fmt::format("{}: not a store: the device is empty; create one first", core->device_->name()));
  }
  co_await core->recover(std::move(slots), options);
  co_await core->finish_open(options);
  co_return std::move(core);
}

monterey::Task<std::shared_ptr<PartitionCore>> PartitionCore::open_or_create(std::unique_ptr<BlockDevice> device,
                                                                             std::unique_ptr<BlockDevice> log_device,
                                                                             PartitionConfig config) {
  check_config(config);
  auto core = std::make_shared<PartitionCore>(Access{}, std::move(device), std::move(log_device), config);
  MetaSlots slots = co_await read_meta_slots(*core->device_);
  if (slots.blank) {
    co_await core->initialise(CreateOptions{});
  } else {
    co_await core->recover(std::move(slots), OpenOptions{});
  }
  co_await core->finish_open(OpenOptions{});
  co_return std::move(core);
}

monterey::Task<> PartitionCore::initialise(CreateOptions options) {
  co_await require_replaceable(*device_, options);
  if (log_device_ && !options.overwrite) co_await require_blank_log_device(*log_device_);
  co_await device_->grow(kInitialBlocks);
  co_await clear_meta_slots(*device_);
  co_await device_->sync();

  last_generation_ = Generation(1);
  free_list_.create_empty();
  free_list_.begin(last_generation_);
  const AllocatorRoot allocator = co_await free_list_.seal();
  co_await device_->sync();
  Meta meta;
  meta.uuid = random_uuid();
  if (log_device_) meta.features |= kFeatureLogDevice;
  meta.generation = last_generation_;
  meta.incarnation = 1;
  meta.allocator_root = allocator.root;
  meta.allocator_levels = allocator.levels;
  meta.high_water = allocator.high_water;
  co_await write_meta_slot(*device_, meta, 0);
  co_await device_->sync();
  // Last: an open makes up for it if this is cut off here, but a store cannot be made with the log device of another.
  if (log_device_) co_await create_log_device(*log_device_, meta.uuid);
  free_list_.committed();
  meta_ = meta;
  meta_slot_ = 0;
  tree_ = tree_of(meta);
}

void PartitionCore::note_rollback(const std::string& why) {
  rolled_back_ = true;
  new_lineage_ = random_lineage();
  open_notes_.push_back("rolled back " + why);
}

monterey::Task<> PartitionCore::recover(MetaSlots slots, OpenOptions options) {
  read_only_ = options.read_only || device_->read_only() || (log_device_ && log_device_->read_only());
  open_notes_ = slots.notes;
  if (!slots.unreadable.empty() && !options.allow_rollback) {
    throw Error(Errc::io_error, fmt::format("{}: {}; it may be the newest state, so nothing was opened: try again, or "
                                            "open with allow_rollback to fall back to the other one",
                                            device_->name(), slots.unreadable));
  }
  const std::size_t states =
      options.allow_rollback || planted(Planted::damage_rolled_back) ? slots.candidates.size() : 1;
  rolled_back_ = !slots.unreadable.empty();
  for (std::size_t i = 0; i < states; ++i) {
    std::exception_ptr damage;
    try {
      co_await load(slots.candidates[i]);
    } catch (const Error& error) {
      if (error.errc() != Errc::corruption || i + 1 == states) throw;
      damage = std::current_exception();
      note_rollback(fmt::format("to an older commit: {}", error.what()));
    }
    if (!damage) break;
  }
  // Never the number of a state that exists, also of one that was rolled back from.
  last_generation_ = slots.candidates.front().meta.generation;
  // What is lost may have been a commit whose generation number comes again.
  if (slots.one_lost || rolled_back_) new_lineage_ = random_lineage();
  if (!read_only_) co_await mend_meta_slots(*device_, slots);
}

monterey::Task<> PartitionCore::load(const MetaCandidate& candidate) {
  const Meta& meta = candidate.meta;
  require_fitting(*device_, meta);
  const TreeRoot tree = tree_of(meta);
  if (!tree.empty()) {
    PageCache::Pin root = co_await cache_.pin(tree.page);
    if (page_level(root.data()) != tree.height - 1u)
      throw_wrong_level(tree.page.page, tree.height - 1u, page_level(root.data()));
  }
  // Last: a free list that is open cannot be opened again, for the older state after a rollback.
  co_await free_list_.open(allocator_of(meta));
  meta_ = meta;
  meta_slot_ = candidate.slot;
  tree_ = tree;
}

monterey::Task<> PartitionCore::require_log_device(OpenOptions options) {
  const bool has_one = (meta_.features & kFeatureLogDevice) != 0;
  if (has_one && log_device_) {
    const bool blank = co_await require_log_device_of(*log_device_, meta_.uuid);
    if (!blank) co_return;
    // Else the store was never written to since it was made, and that may have been cut off.
    if (meta_.log_segment_count > 0) {
      const std::string what = fmt::format("{}: not a log device, it is blank", log_device_->name());
      if (!options.allow_rollback) {
        throw Error(Errc::not_a_store, what + "; check the path, or open with allow_rollback if the log is lost");
      }
      note_rollback("to the last commit, without the log: " + what);
    }
    if (!read_only_) co_await create_log_device(*log_device_, meta_.uuid);
    co_return;
  }
  if (has_one == (log_device_ != nullptr)) co_return;
  const char* what = has_one
                         ? "the store has its log on a device of its own; open it with that device, or, if it is lost, "
                           "with a blank one and allow_rollback"
                         : "the store has no log device; open it without one";
  throw Error(Errc::invalid_argument, fmt::format("{}: {}", device_->name(), what));
}

monterey::Task<> PartitionCore::finish_open(OpenOptions options) {
  size_at_open_ = device_->size_blocks();
  last_seq_ = meta_.last_merged;
  log_layout_ = layout_of(meta_);
  log_tail_ = log_layout_.begin;
  if (!read_only_) active_ = new_buffer(config_.write_buffer_bytes);
  co_await require_log_device(options);
  if (!rolled_back_) co_await replay(options);
  if (rolled_back_) leave_log_behind();
  if (!read_only_) co_await start_log();
}

monterey::Task<> PartitionCore::close() {
  const auto self = shared_from_this();
  require_open();
  state_ = State::closing;
  co_await operations_.close();
  std::exception_ptr error;
  if (!read_only_ && poisoned_.empty()) {
    try {
      co_await flush_all();
    } catch (...) {
      error = std::current_exception();
    }
    if (error && log_) {
      // What was not flushed is to be in the log, also what its interval still holds back.
      try {
        co_await log_->sync();
      } catch (const std::exception&) {
        // The flush's error is thrown, and says as much.
      }
    }
  } else if (!read_only_ && !(active_.data->empty() && frozen_.empty())) {
    // Nobody may have heard of it: the flush that failed was one in the background, and its writes were acknowledged.
    error = std::make_exception_ptr(Error(
        Errc::poisoned, fmt::format("{}: closed after a failure that left the device's state unknown ({}): what was "
                                    "written last may be lost; reopen the store to recover",
                                    device_->name(), poisoned_)));
  }
  while (flushing_) co_await flush_ended_.wait();
  if (log_) co_await log_->stop();
  co_await cache_.drain();
  state_ = State::closed;
  // The handle may stay; memory and device do not wait for that. Pinned values keep the frames.
  cache_.end(nullptr);
  staging_ = {};
  device_.reset();
  log_device_.reset();
  active_ = Buffer{};
  frozen_.clear();
  spare_buffer_.reset();
  if (error) std::rethrow_exception(error);
}

Stats PartitionCore::stats() const {
  require_open();
  Stats stats = counters_;
  stats.uuid = uuid_text(meta_.uuid);
  stats.generation = meta_.generation.value;
  if (meta_.origin.is_set()) stats.origin = {uuid_text(meta_.origin.uuid), meta_.origin.generation.value};
  stats.entries = meta_.entries;
  stats.height = tree_.height;
  stats.tree_pages = meta_.tree_pages;
  stats.overflow_blocks = meta_.overflow_blocks;
  std::uint64_t level_pages = (meta_.high_water + kRegionBlocks - 1) / kRegionBlocks;
  stats.allocator_pages = level_pages;
  for (unsigned level = 0; level < meta_.allocator_levels; ++level) {
    level_pages = (level_pages + kBitmapFanout - 1) / kBitmapFanout;
    stats.allocator_pages += level_pages;
  }
  stats.high_water_blocks = meta_.high_water;
  stats.free_blocks = free_list_.free_blocks();
  stats.held_blocks = free_list_.held_blocks();
  stats.device_blocks = device_->size_blocks();
  stats.capacity_blocks = device_->capacity_blocks();
  for (const Buffer& buffer : frozen_) {
    stats.buffered_entries += buffer.data->entries();
    stats.buffered_bytes += buffer.data->bytes_used();
  }
  if (active_.data) {
    stats.buffered_entries += active_.data->entries();
    stats.buffered_bytes += active_.data->bytes_used();
  }
  stats.last_sequence = last_seq_.value;
  const CacheStats cache = cache_.stats();
  stats.cache_frames = cache.frames;
  stats.gets = reader_.gets;
  stats.cache_hits = cache.hits + reader_.cache_hits;
  stats.cache_misses = cache.misses;
  stats.cache_evictions = cache.evictions;
  stats.cache_pinned = cache_.pinned_frames();
  stats.incarnation = meta_.incarnation;
  stats.log_segments = log_layout().segments.size();
  stats.log_bytes = log_layout().total_bytes();
  stats.log_used_bytes = log_position().lsn.value - log_layout().begin.lsn.value;
  if (log_) {
    stats.log_groups = log_->counters().groups;
    stats.log_records = log_->counters().records;
    stats.log_bytes_written = log_->counters().bytes;
  }
  stats.snapshots = snapshot_stats();
  stats.open_notes = open_notes_;
  stats.poisoned = poisoned_;
  return stats;
}

}  // namespace store::detail
