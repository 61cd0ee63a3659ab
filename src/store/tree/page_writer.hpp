// Where a commit's new pages and overflow runs go: block numbers from the allocator, bytes in staging chunks of 256 KiB,
// written in large ascending pieces while the merge goes on. Lives for one commit, in the flusher's task. The staging
// memory must outlive it; before it is destroyed, finish() or drain() must have completed.
//
// A page's number is known before its bytes are complete, since the page repeats it and the parent's pointer carries the
// checksum: place() hands out a number and the memory, the caller seals the page there before the next call.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <monterey/fixed_bufs.hpp>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <store/types.hpp>
#include <string_view>

#include "store/base/units.hpp"
#include "store/freelist/free_list.hpp"
#include "store/page/overflow.hpp"

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
  ~PageWriter();

  // Whether place() may be called now; if not, await make_room() first.
  bool has_room() const {
    return extent_used_ < extent_.count && pages_.chunk != kNoChunk && pages_.free_bytes() >= kPageBytes;
  }
  // Waits for staging and blocks. Errors: no_space, or the first write that failed.
  monterey::Task<> make_room();
  // The next page: its number and 4096 bytes to fill, which hold the bytes of an older page. Requires: has_room().
  Place place();

  // Allocates and writes the run of `value`. Requires: value.size() <= kMaxBufferedValueBytes.
  monterey::Task<OverflowRef> write_run(std::string_view value, Generation birth);

  // Writes everything placed so far and waits for it, so that it can be read back. Errors: the first write that failed.
  monterey::Task<> write_out();
  // Writes what is left, returns unused blocks to the allocator and waits for all writes. Errors: the first that failed.
  monterey::Task<> finish();
  // After an error: waits until no write is in flight, whatever became of it.
  monterey::Task<> drain();

  std::uint64_t blocks_written() const { return blocks_written_; }
  std::uint64_t writes() const { return writes_; }

 private:
  static constexpr std::size_t kNoChunk = ~std::size_t{0};

  // Blocks that follow each other on the device and in a chunk, not yet handed to the device.
  struct Stream {
    std::size_t chunk = kNoChunk;
    std::size_t used = 0;           // bytes of the chunk that are taken
    std::size_t segment_begin = 0;  // where the unwritten segment starts in the chunk
    PageNo segment_first{};         // its first block

    std::size_t free_bytes() const { return kChunkBytes - used; }
  };
  struct Chunk {
    bool filling = false;
    std::deque<monterey::JoinHandle<void>> writes;
  };

  std::byte* at(const Stream& stream, std::size_t offset) const {
    return staging_.data() + stream.chunk * kChunkBytes + offset;
  }
  // Takes `bytes` of the stream's chunk for blocks from `first` on.
  std::byte* append(Stream& stream, PageNo first, std::size_t bytes);
  void write_segment(Stream& stream);
  void leave_chunk(Stream& stream);
  monterey::Task<> enter_chunk(Stream& stream);
  static monterey::Task<> write_blocks(PageWriter* self, PageNo first, std::span<const std::byte> bytes);
  void throw_if_failed() const;
  monterey::Task<Extent> allocate_run(std::uint32_t blocks);
  void give_back_unused();

  BlockDevice& device_;
  FreeList& free_list_;
  std::span<std::byte> staging_;
  monterey::IoClass io_class_;
  std::array<Chunk, kChunks> chunks_;
  Stream pages_;
  Stream runs_;
  Extent extent_{};  // the blocks that place() hands out
  std::uint32_t extent_used_ = 0;
  std::exception_ptr error_;
  std::uint64_t blocks_written_ = 0;
  std::uint64_t writes_ = 0;
};

}  // namespace store
