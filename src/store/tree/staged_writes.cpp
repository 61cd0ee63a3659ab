#include "store/tree/staged_writes.hpp"

#include <algorithm>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"

namespace store {

StagedWrites::StagedWrites(BlockDevice& device, std::span<std::byte> staging, std::size_t chunk_bytes,
                           monterey::IoClass io_class)
    : device_(device),
      staging_(staging),
      chunk_bytes_(chunk_bytes),
      io_class_(io_class),
      chunks_(staging.size() / chunk_bytes) {
  STORE_ASSERT(chunk_bytes % kPageBytes == 0);
  STORE_ASSERT(chunks_.size() >= 2);
}

StagedWrites::~StagedWrites() {
  for (const Chunk& chunk : chunks_) STORE_ASSERT(chunk.writes.empty());
}

void StagedWrites::throw_if_failed() const {
  if (error_) std::rethrow_exception(error_);
}

monterey::Task<> StagedWrites::write_blocks(StagedWrites* self, PageNo first, std::span<const std::byte> bytes) {
  try {
    co_await self->device_.write(first, bytes, self->io_class_);
  } catch (...) {
    if (!self->error_) self->error_ = std::current_exception();
  }
}

void StagedWrites::write_segment(Stream& stream) {
  if (stream.chunk == kNoChunk || stream.segment_begin == stream.used) return;
  const std::size_t bytes = stream.used - stream.segment_begin;
  const std::span<const std::byte> segment(at(stream, stream.segment_begin), bytes);
  // The place in the queue first: a write that is in flight must be in it.
  std::deque<monterey::JoinHandle<void>>& writes = chunks_[stream.chunk].writes;
  writes.emplace_back();
  try {
    writes.back() = monterey::spawn(write_blocks(this, stream.segment_first, segment));
  } catch (...) {
    writes.pop_back();
    throw;
  }
  stream.segment_begin = stream.used;
  blocks_written_ += bytes / kPageBytes;
  ++writes_;
}

void StagedWrites::leave_chunk(Stream& stream) {
  write_segment(stream);
  if (stream.chunk != kNoChunk) {
    chunks_[stream.chunk].filling = false;
    chunks_[stream.chunk].left = ++chunks_left_;
  }
  stream = Stream{};
}

monterey::Task<> StagedWrites::enter_chunk(Stream& stream) {
  leave_chunk(stream);
  // One whose writes have ended, else the one that was left first.
  std::size_t chosen = kNoChunk;
  bool has_ended = false;
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& chunk = chunks_[i];
    if (chunk.filling) continue;
    const bool ended = std::ranges::all_of(chunk.writes, [](const auto& write) { return write.ended(); });
    if (chosen == kNoChunk || ended > has_ended || (ended == has_ended && chunk.left < chunks_[chosen].left)) {
      chosen = i;
      has_ended = ended;
    }
  }
  STORE_ASSERT(chosen != kNoChunk);
  Chunk& chunk = chunks_[chosen];
  chunk.filling = true;
  stream.chunk = chosen;
  while (!chunk.writes.empty()) {
    co_await chunk.writes.front();
    chunk.writes.pop_front();
  }
  throw_if_failed();
}

std::byte* StagedWrites::append(Stream& stream, PageNo first, std::size_t bytes) {
  STORE_ASSERT(room(stream) >= bytes);
  const std::uint64_t segment_end = stream.segment_first.value + (stream.used - stream.segment_begin) / kPageBytes;
  if (stream.segment_begin == stream.used || segment_end != first.value) {
    write_segment(stream);
    stream.segment_first = first;
  }
  std::byte* memory = at(stream, stream.used);
  stream.used += bytes;
  return memory;
}

monterey::Task<> StagedWrites::drain() {
  for (Chunk& chunk : chunks_) {
    chunk.filling = false;
    while (!chunk.writes.empty()) {
      co_await chunk.writes.front();
      chunk.writes.pop_front();
    }
  }
}

}  // namespace store
