// Where a commit's new pages and overflow runs go: block numbers from the allocator, bytes in staging chunks of 256 KiB,
// written in large ascending pieces while the merge goes on. Lives for one commit, in the flusher's task. The staging
// memory must outlive it; before it is destroyed, finish() or drain() must have completed.
//
// A page's number is known before its bytes are complete, since the page repeats it and the parent's pointer carries the
// checksum: place() hands out a number and the memory, the caller seals the page there before the next call.
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

class PageWriter {
 public:
  static constexpr std::size_t kChunkBytes = 256u << 10;
  static constexpr std::size_t kChunks = 6;  // one being filled with pages, one with runs, the others being written
  static constexpr std::size_t kStagingBytes = kChunks * kChunkBytes;

  struct Place {
    PageNo page;
    std::byte* bytes = nullptr;
  };

  PageWriter(BlockDevice& device, FreeList& free_list, std::span<std::byte> staging, monterey::IoClass io_class);
  PageWriter(const PageWriter&) = delete;
  PageWriter& operator=(const PageWriter&) = delete;

  // Whether place() may be called now; if not, await make_room() first.
  bool has_room() const { return extent_used_ < extent_.count && staged_.room(pages_) >= kPageBytes; }
  // Waits for staging and blocks. Errors: no_space, or the first write that failed.
  monterey::Task<> make_room();
  // The next page: its number and 4096 bytes to fill, which hold the bytes of an older page. Requires: has_room().
  Place place();

  // Allocates and writes the run of `value`, scattered where no blocks in a row are to be had. Errors: no_space only where there are
  // fewer than its blocks; else as make_room(). Requires: value.size() <= kMaxBufferedValueBytes.
  monterey::Task<OverflowRun> write_run(std::string_view value, Generation birth);

  // Writes everything placed so far and waits for it, so that it can be read back. Errors: the first write that failed.
  monterey::Task<> write_out();
  // Writes what is left, returns unused blocks to the allocator and waits for all writes. Errors: the first that failed.
  monterey::Task<> finish();
  // After an error: waits until no write is in flight, whatever became of it.
  monterey::Task<> drain() { return staged_.drain(); }

  std::uint64_t blocks_written() const { return staged_.blocks_written(); }
  std::uint64_t writes() const { return staged_.writes(); }

 private:
  void throw_if_failed() const { staged_.throw_if_failed(); }
  monterey::Task<> allocate_run(OverflowRun& run);
  monterey::Task<bool> allocate_in_a_row(OverflowRun& run);
  monterey::Task<> allocate_scattered(OverflowRun& run);
  void give_back_unused();

  FreeList& free_list_;
  StagedWrites staged_;
  StagedWrites::Stream pages_;
  StagedWrites::Stream runs_;
  Extent extent_{};  // the blocks that place() hands out
  std::uint32_t extent_used_ = 0;
};

}  // namespace store
