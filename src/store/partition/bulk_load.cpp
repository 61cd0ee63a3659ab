// Loading an empty partition in one commit. It has the writers' turn and the flusher's place for as long as it takes, so that
// nobody else applies an entry or commits meanwhile, and its blocks are the only ones that its commit allocates. Readers keep
// the empty tree until the last step.
//
// The entries take no sequence numbers. All that have one are merged already, so the commit says so of the last one, and replay begins
// where the log ends now: what is logged later follows both.
#include <fmt/format.h>

#include <monterey/task_class.hpp>
#include <store/error.hpp>

#include "store/partition/limits.hpp"
#include "store/partition/partition_core.hpp"
#include "store/tree/sequential_writer.hpp"
#include "store/tree/tree_builder.hpp"

namespace store::detail {

namespace {

static_assert(SequentialWriter::kStagingBytes <= PageWriter::kStagingBytes);

constexpr std::uint64_t kEntriesPerYield = 8;

// Takes all entries of the source. Errors: those of its next(), too.
monterey::Task<> add_all(AnyBulkSource& source, TreeBuilder& builder) {
  std::string_view key;
  std::string_view value;
  bool more = true;
  while (more) {
    while (source.next(key, value)) {
      check_key(key);
      check_value(value);
      check_ascends(builder.last_key(), key);
      if (!builder.try_add(key, value)) co_await builder.add(key, value);
      if (builder.entries() % kEntriesPerYield == 0) co_await monterey::maybe_yield();
    }
    more = co_await source.more();
  }
}

}  // namespace

void PartitionCore::require_loadable() const {
  require_writable();
  if (tree_.empty() && active_.data->empty() && frozen_.empty()) return;
  std::uint64_t buffered = active_.data->entries();
  for (const Buffer& buffer : frozen_) buffered += buffer.data->entries();
  throw Error(Errc::invalid_argument,
              fmt::format("{}: a bulk load needs an empty partition, this one has {} entries in its tree and {} "
                          "buffered writes; put the entries, or load them into a new store",
                          device_->name(), meta_.entries, buffered));
}

monterey::Task<std::uint64_t> PartitionCore::bulk_load(AnyBulkSource& source) {
  const monterey::TaskClassScope scope(monterey::TaskClass::background);
  require_open();
  require_writable();
  const auto self = shared_from_this();
  const monterey::Gate::Holder inside = operations_.hold();
  const monterey::Mutex::Guard turn = co_await writers_.lock();
  while (flushing_) co_await flush_ended_.wait();
  require_loadable();
  flushing_ = true;
  std::uint64_t entries = 0;
  std::exception_ptr error;
  try {
    entries = co_await load_and_commit(source);
  } catch (...) {
    error = std::current_exception();
  }
  flushing_ = false;
  flush_ended_.pulse();
  if (error) std::rethrow_exception(error);
  co_return entries;
}

// The order of a flush, see flush.cpp.
monterey::Task<std::uint64_t> PartitionCore::load_and_commit(AnyBulkSource& source) {
  const Generation building = take_generation();
  SequentialWriter writer(*device_, free_list_, staging_.span().first(SequentialWriter::kStagingBytes),
                          monterey::IoClass::background);
  TreeBuilder builder(writer, building, &cache_);
  Meta meta;
  const std::uint32_t slot = 1 - meta_slot_;
  // Made here: they must not fail for want of memory.
  monterey::Task<> drain = writer.drain();
  monterey::Task<> commit = commit_meta(meta, slot);
  TreeRoot tree;
  AllocatorRoot allocator;
  LogLayout layout;
  std::exception_ptr error;
  free_list_.begin(building);
  try {
    co_await add_all(source, builder);
    tree = co_await builder.finish();
    co_await writer.finish();
    // A write must still find room when this is there.
    PendingSpace one;
    one.add(kMaxKeyBytes, kMaxInlineValueBytes);
    co_await make_space(one, Purpose::ordinary);
    allocator = co_await free_list_.seal();
    layout = log_layout().starting_at(log_keep_from(0));
  } catch (...) {
    error = std::current_exception();
  }
  co_await std::move(drain);
  if (error || tree.empty()) {
    free_list_.aborted();
    if (error) std::rethrow_exception(error);
    co_return 0;
  }

  meta = next_meta();
  meta.generation = building;
  meta.origin = {};
  meta.tree_root = tree.page;
  meta.tree_height = tree.height;
  meta.allocator_root = allocator.root;
  meta.allocator_levels = allocator.levels;
  meta.high_water = allocator.high_water;
  meta.last_merged = last_seq_;
  meta.entries = builder.entries();
  meta.tree_pages = builder.tree_pages();
  meta.overflow_blocks = builder.overflow_blocks();
  put_layout(layout, meta);
  co_await std::move(commit);

  // No suspension from here to the end.
  meta_ = meta;
  meta_slot_ = slot;
  tree_ = tree;
  free_list_.committed();
  log_growth_refused_ = false;
  log_committed(std::move(layout), meta.generation);
  co_return builder.entries();
}

}  // namespace store::detail
