// A backup: a scan of the state at the call, packed into a new store on another device. The source is read as any scan reads it, and
// nothing of it is skipped; the target becomes a store with its last write.
#include <fmt/format.h>

#include <store/error.hpp>

#include "store/partition/partition_core.hpp"
#include "store/partition/scan_core.hpp"
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
  monterey::Task<> make(ScanCore& source) {
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

monterey::Task<BackupReport> PartitionCore::backup(std::unique_ptr<BlockDevice> target, BackupOptions options) {
  require_open();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  ScanCore source(self, nullptr, std::string(), std::nullopt, ScanOptions{});
  BackupReport report;
  report.generation = tree_.generation.value;
  const std::uint64_t blocks = backup_blocks();
  const std::uint64_t size_before = target->size_blocks();
  const CreateOptions create{.overwrite = options.overwrite};
  co_await require_replaceable(*target, create);
  co_await make_space_on(*target, blocks);
  std::exception_ptr error;
  try {
    Copy copy(*target);
    co_await copy.make(source);
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

}  // namespace store::detail
