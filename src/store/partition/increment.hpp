// The target's side of an incremental copy: brings a store that is a copy of one generation to another one, by one commit.
//
// The target is opened for nothing else: no partition, no log. What it is given gathers in a write buffer; a full buffer is merged
// into the tree as one more cut of the same commit, by what a flush uses (tree/merge.hpp), so memory stays small whatever is
// copied. Nothing of the last commit is overwritten before the meta page of the new one is durable: whatever happens
// on the way, the target is its old copy or the new one, whole.
//
// Lives for one copy, in its task. end() must have completed before it is destroyed.
#pragma once

#include <cstdint>
#include <memory>
#include <monterey/fixed_bufs.hpp>
#include <monterey/task.hpp>
#include <optional>
#include <store/block_device.hpp>
#include <string>
#include <string_view>

#include "store/cache/page_cache.hpp"
#include "store/freelist/free_list.hpp"
#include "store/page/meta.hpp"
#include "store/tree/merge.hpp"
#include "store/tree/page_writer.hpp"
#include "store/tree/root.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store::detail {

class Increment {
 public:
  // Memory that one takes at most, but for a value that is being copied.
  static std::size_t memory_bytes();

  explicit Increment(BlockDevice& target);
  Increment(const Increment&) = delete;
  Increment& operator=(const Increment&) = delete;

  // Reads the target's last commit. Errors: read_only; not_a_store; invalid_argument when its entries are not those of the store
  // `source`, lineage `lineage`, in generation `since`, or in any without that; corruption, io_error. The text says what to do.
  monterey::Task<> open(Uuid source, std::uint64_t lineage, std::optional<Generation> since);
  // Of what the target has. Requires: open() has completed.
  const Origin& origin() const { return meta_.origin; }

  // Changes of the copy: ranges before the entries that they are to hold; no key twice. The arguments stay until the task
  // ends. Errors: no_space, corruption, io_error, of the target.
  monterey::Task<> erase_range(std::string_view from, std::optional<std::string_view> to);
  monterey::Task<> put(std::string_view key, std::string_view value);

  // Makes all of it durable, as a copy of `origin`. Errors: as above, and invalid_argument when the target's generation numbers
  // are used up. The target then holds the old copy or, if this failed at the very end, perhaps the new one.
  monterey::Task<> commit(Origin origin);
  // Waits for what is in flight. Without a commit, gives back the blocks that the target grew by. Once; does not throw.
  monterey::Task<> end();

  std::uint64_t blocks_written() const;
  std::uint64_t bytes() const { return meta_.high_water * kPageBytes; }

 private:
  monterey::Task<> require_no_log_records();
  monterey::Task<> merge_buffer();
  Generation next_generation();

  BlockDevice& target_;
  GenerationPins pins_;
  FreeList free_list_;
  monterey::FixedBufs arena_;
  PageCache cache_;
  std::shared_ptr<std::byte[]> staging_;
  PageWriter writer_;
  monterey::Task<> drain_writes_;  // made in advance: they must not fail for want of memory
  monterey::Task<> drain_cache_;
  std::shared_ptr<WriteBuffer> buffer_;
  Meta meta_;
  std::uint32_t slot_ = 0;  // that holds meta_
  TreeRoot tree_;           // as far as it is merged
  Generation building_;     // of the last cut
  SeqNo seq_;
  MergeCounts counts_;
  std::uint64_t size_before_ = 0;
  std::uint64_t run_blocks_written_ = 0;  // of values that a buffer does not take
  std::uint64_t own_blocks_written_ = 0;  // meta and allocator pages
  bool naming_ = false;                   // the meta page is being written, or was
};

}  // namespace store::detail
