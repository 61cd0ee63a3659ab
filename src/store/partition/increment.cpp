#include "store/partition/increment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <store/error.hpp>
#include <utility>

#include "store/base/assert.hpp"
#include "store/partition/meta_io.hpp"
#include "store/tree/overflow_io.hpp"
#include "store/wal/log_reader.hpp"

namespace store::detail {

namespace {

constexpr std::size_t kCachePages = 256;
constexpr std::size_t kReadSlots = 64;
constexpr std::size_t kBufferBytes = 4u << 20;
constexpr std::size_t kStagingBytes = PageWriter::kStagingBytes + kReadSlots * kPageBytes;
constexpr const char* kFullCopy = "take a full copy, without `since`";

[[noreturn]] void refuse(const BlockDevice& target, const std::string& why) {
  throw Error(Errc::invalid_argument, fmt::format("{}: {}; {}", target.name(), why, kFullCopy));
}

void require_copy_of(const BlockDevice& target, const Origin& origin, const Uuid& source, std::uint64_t lineage,
                     std::optional<Generation> since) {
  if (!origin.is_set()) refuse(target, "it is no copy of a store, or was written to since it was made");
  if (origin.uuid != source) {
    refuse(target,
           fmt::format("it is a copy of another store, {}, not of {}", uuid_text(origin.uuid), uuid_text(source)));
  }
  if (origin.lineage != lineage) {
    refuse(target, "the store that it is a copy of was opened without its newest commits since, and they may be in it");
  }
  if (since && origin.generation != *since) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: it is a copy of generation {}, not of {}; pass the right one as `since`, or {}",
                            target.name(), origin.generation.value, since->value, kFullCopy));
  }
}

}  // namespace

std::size_t Increment::memory_bytes() {
  return kCachePages * kPageBytes + PageCache::metadata_bytes(kCachePages) + kStagingBytes +
         WriteBuffer::memory_bytes(kBufferBytes);
}

Increment::Increment(BlockDevice& target)
    : target_(target),
      free_list_(target, pins_, kMetaBlocks),
      arena_(kCachePages * kPageBytes),
      cache_(target, arena_.allocate(kCachePages * kPageBytes)),
      staging_(allocate_aligned(kStagingBytes)),
      writer_(target, free_list_, std::span(staging_.get(), PageWriter::kStagingBytes), monterey::IoClass::background),
      drain_writes_(writer_.drain()),
      drain_cache_(cache_.drain()),
      buffer_(WriteBuffer::create({.arena_bytes = kBufferBytes})) {
  free_list_.set_on_reuse([this](Extent extent) {
    for (std::uint64_t page = extent.first.value; page < extent.end(); ++page) {
      cache_.unmap(PageNo(static_cast<std::uint32_t>(page)));
    }
  });
}

monterey::Task<> Increment::open(Uuid source, std::uint64_t lineage, std::optional<Generation> since) {
  if (target_.read_only()) {
    throw Error(Errc::read_only,
                fmt::format("{}: opened for reading only; a copy there cannot be brought up to date", target_.name()));
  }
  const MetaSlots slots = co_await read_meta_slots(target_);
  if (slots.blank) {
    throw Error(Errc::not_a_store, fmt::format("{}: not a store: the device is empty; {}", target_.name(), kFullCopy));
  }
  if (!slots.unreadable.empty()) {
    throw Error(Errc::io_error, fmt::format("{}: {}; it may be the newest state, so nothing was changed: try again, or "
                                            "{}",
                                            target_.name(), slots.unreadable, kFullCopy));
  }
  meta_ = slots.candidates.front().meta;
  slot_ = slots.candidates.front().slot;
  require_copy_of(target_, meta_.origin, source, lineage, since);
  require_fitting(target_, meta_);
  co_await require_no_log_records();
  co_await mend_meta_slots(target_, slots);
  co_await free_list_.open(AllocatorRoot{meta_.allocator_root, meta_.allocator_levels, meta_.high_water});
  tree_ = TreeRoot{meta_.tree_root, meta_.tree_height, meta_.generation};
  building_ = meta_.generation;
  size_before_ = target_.size_blocks();
}

// A copy that was opened may have a log. Whatever is in it beyond the commit was written to it.
monterey::Task<> Increment::require_no_log_records() {
  if ((meta_.features & kFeatureLogDevice) != 0) refuse(target_, "its log lies on a device of its own");
  const LogLayout layout = layout_of(meta_);
  if (layout.segments.empty()) co_return;
  for (const Extent& segment : layout.segments) {
    if (segment.end() > target_.size_blocks()) refuse(target_, "its log is cut off");
  }
  LogExpectation expected;
  std::memcpy(&expected.store_id, meta_.uuid.data(), sizeof expected.store_id);
  expected.incarnation = meta_.incarnation;
  expected.generation = meta_.generation;
  LogReader reader(target_, layout, expected);
  for (;;) {
    const bool more = co_await reader.next_group();
    if (!more) co_return;
    for (const std::span<const std::byte> record : reader.records()) {
      const RecordDecoder decoder(record);
      if (!decoder.error().empty() || decoder.first_seq().value + decoder.entries() - 1 > meta_.last_merged.value) {
        refuse(target_, "it was written to since it was made: its log has changes");
      }
    }
  }
}

Generation Increment::next_generation() {
  if (building_ >= kMaxGeneration) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: its generation numbers are used up; {}", target_.name(), kFullCopy));
  }
  return building_ = building_.next();
}

monterey::Task<> Increment::erase_range(std::string_view from, std::optional<std::string_view> to) {
  seq_ = seq_.next();
  if (buffer_->erase_range(from, to, seq_, SeqNo{})) co_return;
  co_await merge_buffer();
  const bool fits = buffer_->erase_range(from, to, seq_, SeqNo{});
  STORE_ASSERT(fits);
}

monterey::Task<> Increment::put(std::string_view key, std::string_view value) {
  seq_ = seq_.next();
  std::optional<OverflowRef> run;
  if (value.size() > kMaxBufferedValueBytes) {
    const Extent extent = co_await free_list_.reserve_run(static_cast<std::uint32_t>(run_blocks(value.size())));
    run = co_await write_run(target_, extent, value, meta_.generation);
    run_blocks_written_ += extent.count;
  }
  const auto add = [&] {
    return run ? buffer_->put_run(key, *run, seq_, SeqNo{}) : buffer_->put(key, value, seq_, SeqNo{});
  };
  if (add()) co_return;
  co_await merge_buffer();
  const bool fits = add();
  STORE_ASSERT(fits);
}

// One more cut, see PartitionCore::build().
monterey::Task<> Increment::merge_buffer() {
  if (buffer_->empty()) co_return;
  const Generation building = next_generation();
  free_list_.begin(building);
  const std::span<std::byte> read_slots(staging_.get() + PageWriter::kStagingBytes, kReadSlots * kPageBytes);
  const TreeMerge::Resources resources{target_, cache_, free_list_, writer_, read_slots, monterey::IoClass::background};
  {
    TreeMerge merge(resources, tree_, building, meta_.generation);
    monterey::Task<> drain = merge.drain();  // made here: it must not fail for want of memory
    std::exception_ptr error;
    try {
      tree_ = co_await merge.run(buffer_, seq_, SeqNo{});
    } catch (...) {
      error = std::current_exception();
    }
    co_await std::move(drain);
    if (error) std::rethrow_exception(error);
    counts_ += merge.counts();
  }
  co_await writer_.write_out();  // the next cut may read what this one wrote
  buffer_->reset();
}

monterey::Task<> Increment::commit(Origin origin) {
  co_await merge_buffer();
  co_await writer_.finish();
  Meta meta = meta_;
  if (free_list_.in_commit()) {
    const AllocatorRoot allocator = co_await free_list_.seal();
    meta.allocator_root = allocator.root;
    meta.allocator_levels = allocator.levels;
    meta.high_water = allocator.high_water;
    own_blocks_written_ += free_list_.pages_sealed();
    meta.generation = building_;
  } else {
    meta.generation = next_generation();
  }
  meta.origin = origin;
  meta.tree_root = tree_.page;
  meta.tree_height = tree_.height;
  meta.entries += static_cast<std::uint64_t>(counts_.entries);
  meta.tree_pages += static_cast<std::uint64_t>(counts_.tree_pages);
  meta.overflow_blocks += static_cast<std::uint64_t>(counts_.overflow_blocks);
  // What the device grew by and is not used goes back first.
  co_await target_.shrink(std::max(size_before_, meta.high_water));
  co_await target_.sync();
  naming_ = true;
  co_await write_meta_slot(target_, meta, 1 - slot_);
  co_await target_.sync();
  own_blocks_written_ += kMetaCopies;
  meta_ = meta;
  if (free_list_.in_commit()) free_list_.committed();
}

monterey::Task<> Increment::end() {
  co_await std::move(drain_writes_);
  co_await std::move(drain_cache_);
  if (free_list_.in_commit()) free_list_.aborted();
  // Once the meta page may name them, no block is taken away.
  if (naming_ || size_before_ == 0 || target_.size_blocks() <= size_before_) co_return;
  try {
    co_await target_.shrink(size_before_);
  } catch (const std::exception&) {
    // A device that is longer than it need be does no harm.
  }
}

std::uint64_t Increment::blocks_written() const {
  return writer_.blocks_written() + run_blocks_written_ + own_blocks_written_;
}

}  // namespace store::detail
