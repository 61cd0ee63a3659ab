// The log's place on the device: segments are added, used again when what they hold is merged, and named by ordinary
// commits that change no page of the tree. The commits run in the flusher's task, or before there is one.
//
// The log grows in steps to its cap, the larger of four write buffers and 64 MiB, but an eighth of the device at most (on a small
// device 32 blocks), or what a log device of its own has.
// Each step doubles it by four segments, zeroed before a meta page names them, so that a steady log allocates nothing and
// its syncs carry no metadata. At the cap the buffer is frozen early instead.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/partition/partition_core.hpp"

namespace store::detail {

namespace {

constexpr std::uint64_t kMinCapBytes = 64u << 20;
constexpr std::uint64_t kSmallestLogBlocks = 32;
constexpr std::uint64_t kFirstLogBlocks = 256;
constexpr std::uint64_t kSegmentsAtOnce = 4;
constexpr std::size_t kMostSegmentsAnew = 32;
constexpr std::uint64_t kLeastSegmentBlocks = 8;
constexpr std::uint64_t kDeviceShare = 8;  // of the device, at most one in so many blocks is log

std::uint64_t blocks_of(const LogLayout& layout) { return layout.total_bytes() / kPageBytes; }

std::uint64_t total_blocks(std::span<const Extent> segments) {
  std::uint64_t blocks = 0;
  for (const Extent segment : segments) blocks += segment.count;
  return blocks;
}

}  // namespace

std::uint64_t PartitionCore::log_cap_blocks() const {
  const std::uint64_t wanted = std::max<std::uint64_t>(4 * config_.write_buffer_bytes, kMinCapBytes) / kPageBytes;
  if (log_device_) return std::min(wanted, std::max<std::uint64_t>(log_device_->capacity_blocks(), 1) - 1);
  return std::min(wanted, std::max(kSmallestLogBlocks, device_->capacity_blocks() / kDeviceShare));
}

// By how much the log should grow next; 0 when it has its size.
std::uint64_t PartitionCore::log_growth_blocks() const {
  const LogLayout& layout = log_layout();
  const std::uint64_t have = blocks_of(layout);
  const std::uint64_t cap = log_cap_blocks();
  if (have >= cap || layout.segments.size() + kSegmentsAtOnce > kMaxLogSegments) return 0;
  const std::uint64_t step = have == 0 ? std::min(cap, kFirstLogBlocks) : std::min(cap - have, have);
  return step - step % kSegmentsAtOnce;
}

// From where the log must stay for the buffers that are not merged: all but the first `first_kept` frozen ones.
LogPosition PartitionCore::log_keep_from(std::size_t first_kept) const {
  std::optional<LogPosition> from = log_placing_;
  const auto consider = [&from](const Buffer& buffer) {
    if (buffer.log_begin && (!from || buffer.log_begin->lsn < from->lsn)) from = buffer.log_begin;
  };
  for (std::size_t i = first_kept; i < frozen_.size(); ++i) consider(frozen_[i]);
  consider(active_);
  return from.value_or(log_position());
}

// The layout is durable: what it leaves out may be written again.
void PartitionCore::log_committed(LogLayout layout, Generation generation) {
  const std::uint64_t bytes = layout.total_bytes();
  if (log_) {
    log_->recycle(std::move(layout), generation);
  } else {
    log_layout_ = std::move(layout);
  }
  log_low_bytes_ = !log_growth_refused_ && log_growth_blocks() > 0 ? bytes / 2 : bytes / 4;
}

// Called after every append: sees to it in good time that the log does not fill up. The write itself is done, so what
// memory this lacks is left to the next one; make_log_room() insists.
void PartitionCore::relieve_log() noexcept {
  if (log_->left_bytes() >= log_low_bytes_ || log_commit_wanted_) return;
  try {
    if (!log_growth_refused_ && log_growth_blocks() > 0) {
      log_commit_wanted_ = true;
      start_flush();
    } else if (frozen_.empty()) {
      rotate();
    }
  } catch (const std::exception&) {
    return;
  }
}

// One turn of the flusher's for the log. Errors: no_space is none: the log then stays as it is until a flush has freed
// something.
monterey::Task<> PartitionCore::commit_log() {
  std::vector<Extent> added;
  const std::uint64_t growth = log_growth_refused_ ? 0 : log_growth_blocks();
  if (growth > 0) added = co_await add_segments(growth);
  std::exception_ptr error;
  try {
    LogLayout layout = log_layout().starting_at(log_keep_from(0));
    if (added.empty() && layout.begin == log_layout().begin) co_return;
    layout.segments.insert(layout.segments.end(), added.begin(), added.end());
    co_await commit_log_layout(std::move(layout), added);
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return;
  if (!free_list_.in_commit()) cancel_segments(added);  // short of the meta page
  std::rethrow_exception(error);
}

// Commits a layout, and with it segments that add_segments() made, and others that it has no more.
monterey::Task<> PartitionCore::commit_log_layout(LogLayout layout, std::vector<Extent> added,
                                                  std::vector<Extent> dropped) {
  Meta meta = next_meta();
  meta.generation = take_generation();
  const std::uint32_t slot = 1 - meta_slot_;
  monterey::Task<> commit = commit_meta(meta, slot);  // made here: it must not fail for want of memory
  const bool allocates = !(added.empty() && dropped.empty()) && !log_device_;
  if (allocates) {
    std::exception_ptr error;
    free_list_.begin(meta.generation);
    try {
      for (const Extent segment : added) free_list_.adopt(segment);
      for (const Extent segment : dropped) free_list_.release(segment, meta.generation);  // no reader holds it
      const AllocatorRoot allocator = co_await free_list_.seal();
      meta.allocator_root = allocator.root;
      meta.allocator_levels = allocator.levels;
      meta.high_water = allocator.high_water;
    } catch (...) {
      error = std::current_exception();
    }
    if (error) {
      free_list_.aborted();
      std::rethrow_exception(error);
    }
  }
  put_layout(layout, meta);
  co_await std::move(commit);
  // No suspension from here to the end.
  meta_ = meta;
  meta_slot_ = slot;
  tree_.generation = meta.generation;
  if (allocates) free_list_.committed();
  log_committed(std::move(layout), meta.generation);
}

bool PartitionCore::log_lies_above(std::uint64_t block) const {
  if (!log_ || log_device_) return false;
  return std::ranges::any_of(log_layout().segments, [block](Extent segment) { return segment.end() > block; });
}

// Begins the log anew, about as long as a new one, with segments below `block` as far as there are gaps. Appends are held off
// until what they left is merged and the segments are committed. Runs in the flusher's place. Returns whether it did: not while a
// record is being placed in parts, nor if there is nothing to gain.
monterey::Task<bool> PartitionCore::move_log_below(std::uint64_t block) {
  if (log_placing_) co_return false;
  bool moved = false;
  std::exception_ptr error;
  log_held_ = true;
  try {
    moved = co_await begin_log_anew(block);
  } catch (...) {
    error = std::current_exception();
  }
  log_held_ = false;
  if (error) std::rethrow_exception(error);
  co_return moved;
}

monterey::Task<bool> PartitionCore::begin_log_anew(std::uint64_t block) {
  co_await log_->sync();
  // A batch that is too long for the log may still come, as a frozen buffer.
  while (!active_.data->empty() || !frozen_.empty()) {
    if (frozen_.empty()) rotate();
    co_await flush_one();
  }
  // Segments that lie well are used again, their old groups have LSNs that nobody looks for; but not more and more short ones.
  const std::uint64_t wanted = std::min(log_cap_blocks(), kFirstLogBlocks);
  LogLayout layout;
  std::vector<Extent> dropped;
  for (const Extent& segment : log_layout().segments) {
    const bool stays = segment.end() <= block && blocks_of(layout) + segment.count <= wanted &&
                       layout.segments.size() + kSegmentsAtOnce < kMostSegmentsAnew;
    (stays ? layout.segments : dropped).push_back(segment);
  }
  std::ranges::sort(dropped, std::greater(), [](Extent segment) { return segment.first.value; });
  const std::size_t most = kMostSegmentsAnew - layout.segments.size();
  const std::uint64_t stay = blocks_of(layout);
  std::vector<Extent> added = co_await add_segments(wanted - stay, LogGaps{block, most});
  bool gains = false;
  std::exception_ptr error;
  try {
    // Without gaps it is shorter until it grows again, but as long as a log must be: with others as low as there are, or else a
    // part of what lies high.
    const std::uint64_t least = std::min(wanted, kSmallestLogBlocks);
    if (stay + total_blocks(added) < least && !dropped.empty()) {
      const std::uint64_t missing = std::max(least - stay - total_blocks(added), kLeastSegmentBlocks);
      const LogGaps gaps{dropped.back().first.value, most - added.size()};
      const auto more = co_await add_segments(missing, gaps);
      added.insert(added.end(), more.begin(), more.end());
    }
    layout.segments.insert(layout.segments.end(), added.begin(), added.end());
    for (std::uint64_t have = blocks_of(layout); have < least && !dropped.empty(); have = blocks_of(layout)) {
      Extent& lowest = dropped.back();
      const auto kept = static_cast<std::uint32_t>(std::min<std::uint64_t>(lowest.count, least - have));
      layout.segments.push_back({lowest.first, kept});
      lowest = {PageNo(lowest.first.value + kept), lowest.count - kept};
      if (lowest.count == 0) dropped.pop_back();
    }
    gains = std::ranges::any_of(dropped, [block](Extent segment) { return segment.end() > block; });
    layout.begin = log_keep_from(0);
    STORE_ASSERT(layout.begin.lsn == log_position().lsn);
    if (gains) co_await commit_log_layout(std::move(layout), added, dropped);
  } catch (...) {
    error = std::current_exception();
  }
  if (!error && gains) co_return true;
  if (!free_list_.in_commit()) cancel_segments(added);  // short of the meta page
  if (!error) co_return false;
  std::rethrow_exception(error);
}

// A sync that fails may have had the error of a group to report.
monterey::Task<> PartitionCore::sync_log_device() {
  try {
    co_await log_device_->sync();
  } catch (...) {
    poison(std::current_exception());
    throw;
  }
}

// Takes segments of `blocks` blocks together and writes zeros to them; with `gaps`, as much of that as these have. Empty when there
// is no space for them, or they cannot be written and the log can do without.
monterey::Task<std::vector<Extent>> PartitionCore::add_segments(std::uint64_t blocks, std::optional<LogGaps> gaps) {
  PendingSpace space;  // what is accepted already must find its blocks afterwards
  if (!log_device_) {
    space.entries = 1;
    space.run_blocks = blocks;
  }
  std::vector<Extent> added;
  added.reserve(gaps ? gaps->most : kSegmentsAtOnce);  // what is reserved must be noted, by the caller too
  std::exception_ptr error;
  pending_ += space;
  try {
    if (gaps) {
      if (has_space({}, Purpose::ordinary)) co_await take_gaps(blocks, *gaps, &added);
    } else {
      // Growing raises what is kept back, too.
      while (!log_device_ && !has_space({}, Purpose::ordinary)) {
        const std::uint64_t missing = blocks_needed({}, states_to_build()) - blocks_available(Purpose::ordinary);
        co_await device_->grow(std::max(device_->size_blocks(), free_list_.high_water()) + missing);
      }
      for (std::uint64_t i = 0; i < kSegmentsAtOnce; ++i) {
        added.push_back(co_await add_segment(static_cast<std::uint32_t>(blocks / kSegmentsAtOnce), added));
      }
    }
    for (const Extent segment : added) co_await zero_segment(segment);
    if (log_device_) co_await sync_log_device();  // the commit syncs the other one
  } catch (...) {
    error = std::current_exception();
  }
  pending_ -= space;
  if (!error) co_return std::move(added);
  cancel_segments(added);
  added.clear();
  try {
    std::rethrow_exception(error);
  } catch (const Error& thrown) {
    // A log that there is serves as well, only with more flushes; the next one tries again.
    const bool can_do_without = thrown.errc() == Errc::io_error && !log_layout().segments.empty() && poisoned_.empty();
    if (thrown.errc() != Errc::no_space && !can_do_without) throw;
  }
  if (!gaps) log_growth_refused_ = true;
  co_return std::move(added);
}

// Long ones first.
monterey::Task<> PartitionCore::take_gaps(std::uint64_t blocks, LogGaps gaps, std::vector<Extent>* taken) {
  std::uint64_t piece = std::max(blocks / kSegmentsAtOnce, kLeastSegmentBlocks);
  while (blocks >= kLeastSegmentBlocks && piece >= kLeastSegmentBlocks && taken->size() < gaps.most) {
    piece = std::min(piece, blocks);
    const auto segment = co_await free_list_.reserve_run_below(static_cast<std::uint32_t>(piece), gaps.below);
    if (segment) {
      taken->push_back(*segment);
      blocks -= piece;
    } else {
      piece /= 2;
    }
  }
}

monterey::Task<Extent> PartitionCore::add_segment(std::uint32_t blocks, std::span<const Extent> before) {
  if (!log_device_) co_return co_await free_list_.reserve_run(blocks);
  std::uint64_t end = 1;  // behind the block that names the store
  for (const Extent& segment : log_layout().segments) end = std::max(end, segment.end());
  for (const Extent& segment : before) end = std::max(end, segment.end());
  co_await log_device_->grow(end + blocks);
  co_return Extent{PageNo(static_cast<std::uint32_t>(end)), blocks};
}

void PartitionCore::cancel_segments(std::span<const Extent> segments) {
  if (log_device_) return;
  for (const Extent segment : segments) free_list_.cancel(segment);
}

monterey::Task<> PartitionCore::zero_segment(Extent segment) {
  const std::span<std::byte> zeros = staging_.span().first(PageWriter::kChunkBytes);
  std::ranges::fill(zeros, std::byte{0});
  constexpr std::uint32_t kPiece = PageWriter::kChunkBytes / kPageBytes;
  for (std::uint32_t done = 0; done < segment.count; done += kPiece) {
    const std::size_t bytes = std::size_t{std::min(kPiece, segment.count - done)} * kPageBytes;
    co_await device_of_log().write(PageNo(segment.first.value + done), zeros.first(bytes),
                                   monterey::IoClass::background);
  }
}

// After a rollback: groups of the newer state must not pass for this log's, wherever they lie.
void PartitionCore::leave_log_behind() {
  log_layout_.begin = {Lsn(log_layout_.begin.lsn.value + 4 * log_layout_.total_bytes() + kMaxGroupBytes), 0};
  log_layout_.offset = 0;
  log_tail_ = log_layout_.begin;
  if (log_device_) log_layout_.segments.clear();  // it may be another device now, or one cut off: they are made anew
}

// Before anything is appended: a meta page that counts this open is durable, and with it all that was replayed.
monterey::Task<> PartitionCore::start_log() {
  if (config_.wal_mode == WalMode::none) co_return;
  monterey::FixedBuf staging = allocate_buffer(Log::kStagingBytes);  // may fail: before anything changes
  while (flushing_) co_await flush_ended_.wait();
  require_committable();
  if (meta_.incarnation == ~std::uint64_t{0} || log_tail_.lsn.value > kMaxLogLsn) throw_numbers_end();
  ++meta_.incarnation;
  LogLayout layout = log_layout_;
  if (planted(Planted::recovery_not_idempotent)) layout = layout.starting_at(log_tail_);
  std::vector<Extent> added;
  if (layout.segments.empty()) {
    const std::uint64_t blocks = log_growth_blocks();  // 0 on a log device that is too small for any
    if (blocks > 0) added = co_await add_segments(blocks);
    if (added.empty()) {
      throw Error(Errc::no_space, fmt::format("{}: no space for a log; give the device more room, or open without one",
                                              device_of_log().name()));
    }
    layout.segments = added;
  }
  if (log_device_) co_await sync_log_device();  // what was replayed from it
  co_await commit_log_layout(std::move(layout), std::move(added));
  const bool waits = config_.wal_mode == WalMode::batched;
  const Log::Options options{.store_id = log_expectation().store_id,
                             .incarnation = meta_.incarnation,
                             .generation = meta_.generation,
                             .interval = waits ? config_.wal_batch_interval : std::chrono::microseconds(0)};
  log_ = std::make_shared<Log>(device_of_log(), *device_, std::move(staging), options, log_layout_, log_tail_);
  log_->start(weak_from_this(), [this](const std::string& why) { poison(why); });
}

}  // namespace store::detail
