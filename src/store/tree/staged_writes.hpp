// Writes that are put together in staging memory: chunks of one size, filled block by block and handed to the device in
// pieces as long as their blocks follow each other, while the next chunk is filled. What fills it is a stream; there may be
// several, each with a chunk of its own, and there must be one chunk more than streams. The first error ends it all and is
// thrown from then on.
//
// Lives for one commit, in its task. The staging memory must outlive it; before it is destroyed drain() must have completed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <monterey/io_class.hpp>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <store/types.hpp>
#include <vector>

namespace store {

class StagedWrites {
 public:
  static constexpr std::size_t kNoChunk = ~std::size_t{0};

  // Blocks that follow each other on the device and in a chunk, not yet handed to the device.
  struct Stream {
    std::size_t chunk = kNoChunk;
    std::size_t used = 0;           // bytes of the chunk that are taken
    std::size_t segment_begin = 0;  // where the unwritten segment starts in the chunk
    PageNo segment_first{};         // its first block
  };

  StagedWrites(BlockDevice& device, std::span<std::byte> staging, std::size_t chunk_bytes, monterey::IoClass io_class);
  StagedWrites(const StagedWrites&) = delete;
  StagedWrites& operator=(const StagedWrites&) = delete;
  ~StagedWrites();

  // Bytes left in the stream's chunk.
  std::size_t room(const Stream& stream) const { return stream.chunk == kNoChunk ? 0 : chunk_bytes_ - stream.used; }
  // Takes `bytes` of the stream's chunk for blocks from `first` on. Requires: whole blocks, no more than room().
  std::byte* append(Stream& stream, PageNo first, std::size_t bytes);
  // Hands over what the stream has, and gives it an empty chunk. Errors: the first write that failed. Suspends.
  monterey::Task<> enter_chunk(Stream& stream);
  // Hands over what the stream has; it is then as new.
  void leave_chunk(Stream& stream);
  // Waits until no write is in flight, whatever became of it. No stream may be used afterwards without enter_chunk().
  monterey::Task<> drain();
  void throw_if_failed() const;

  std::uint64_t blocks_written() const { return blocks_written_; }
  std::uint64_t writes() const { return writes_; }

 private:
  struct Chunk {
    bool filling = false;
    std::uint64_t left = 0;  // counts the chunks that were left before
    std::deque<monterey::JoinHandle<void>> writes;
  };

  std::byte* at(const Stream& stream, std::size_t offset) const {
    return staging_.data() + stream.chunk * chunk_bytes_ + offset;
  }
  void write_segment(Stream& stream);
  static monterey::Task<> write_blocks(StagedWrites* self, PageNo first, std::span<const std::byte> bytes);

  BlockDevice& device_;
  std::span<std::byte> staging_;
  std::size_t chunk_bytes_;
  monterey::IoClass io_class_;
  std::vector<Chunk> chunks_;
  std::exception_ptr error_;
  std::uint64_t chunks_left_ = 0;
  std::uint64_t blocks_written_ = 0;
  std::uint64_t writes_ = 0;
};

}  // namespace store
