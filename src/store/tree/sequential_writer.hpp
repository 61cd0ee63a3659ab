// Where the pages and overflow runs of a whole tree go that is built in one piece: to one stretch of blocks, as far as the
// allocator has them together, in their order and by writes of 512 KiB. What PageWriter is for a merge.
//
// Blocks are taken ahead in extents that double up to a chunk, so that a small tree leaves little unused; what is left is
// given back. An extent that continues the one before continues its write, too.
//
// Lives for one commit, in its task. The staging memory must outlive it; before it is destroyed finish() or drain() must have
// completed.
#pragma once

#include <cstdint>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <store/types.hpp>
#include <string_view>

#include "store/base/units.hpp"
#include "store/freelist/free_list.hpp"
#include "store/page/overflow.hpp"
#include "store/tree/staged_writes.hpp"

namespace store {

class SequentialWriter {
 public:
  static constexpr std::size_t kChunkBytes = 512u << 10;
  static constexpr std::size_t kChunks = 3;  // one being filled, the others being written
  static constexpr std::size_t kStagingBytes = kChunks * kChunkBytes;

  struct Place {
    PageNo page;
    std::byte* bytes = nullptr;
  };

  SequentialWriter(BlockDevice& device, FreeList& free_list, std::span<std::byte> staging, monterey::IoClass io_class);
  SequentialWriter(const SequentialWriter&) = delete;
  SequentialWriter& operator=(const SequentialWriter&) = delete;

  // Whether place() may be called now; if not, await make_room() first.
  bool has_room() const { return used_ < extent_.count && staged_.room(stream_) >= kPageBytes; }
  // Waits for staging and blocks. Errors: no_space, or the first write that failed.
  monterey::Task<> make_room();
  // The next page: its number and 4096 bytes to fill, which hold the bytes of an older page. Requires: has_room().
  Place place();

  // Allocates and writes the run of `value`, of any length, with its table of CRCs. The value must live until the task ends.
  monterey::Task<OverflowRef> write_run(std::string_view value, Generation birth);

  // Writes what is left, returns unused blocks to the allocator and waits for all writes. Errors: the first that failed.
  monterey::Task<> finish();
  // After an error: waits until no write is in flight, whatever became of it.
  monterey::Task<> drain() { return staged_.drain(); }

  std::uint64_t blocks_written() const { return staged_.blocks_written(); }

 private:
  // Sees to it that the next `blocks` blocks lie together.
  monterey::Task<> take_together(std::uint32_t blocks);
  monterey::Task<Extent> allocate(std::uint32_t at_least);
  void give_back_unused();

  FreeList& free_list_;
  StagedWrites staged_;
  StagedWrites::Stream stream_;
  Extent extent_{};  // blocks taken
  std::uint32_t used_ = 0;
  std::uint32_t next_extent_;
};

}  // namespace store
