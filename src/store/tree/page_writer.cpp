#include "store/tree/page_writer.hpp"

#include <algorithm>
#include <cstring>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"

namespace store {

namespace {
constexpr std::uint32_t kExtentPages = PageWriter::kChunkBytes / kPageBytes;
}

PageWriter::PageWriter(BlockDevice& device, FreeList& free_list, std::span<std::byte> staging,
                       monterey::IoClass io_class)
    : device_(device), free_list_(free_list), staging_(staging), io_class_(io_class) {
  STORE_ASSERT(staging.size() >= kStagingBytes);
}

PageWriter::~PageWriter() {
  for (const Chunk& chunk : chunks_) STORE_ASSERT(chunk.writes.empty());
}

void PageWriter::throw_if_failed() const {
  if (error_) std::rethrow_exception(error_);
}

monterey::Task<> PageWriter::write_blocks(PageWriter* self, PageNo first, std::span<const std::byte> bytes) {
  try {
    co_await self->device_.write(first, bytes, self->io_class_);
  } catch (...) {
    if (!self->error_) self->error_ = std::current_exception();
  }
}

void PageWriter::write_segment(Stream& stream) {
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

void PageWriter::leave_chunk(Stream& stream) {
  write_segment(stream);
  if (stream.chunk != kNoChunk) chunks_[stream.chunk].filling = false;
  stream = Stream{};
}

monterey::Task<> PageWriter::enter_chunk(Stream& stream) {
  leave_chunk(stream);
  // Any chunk that nobody writes, else the one whose writes were issued first.
  std::size_t chosen = kNoChunk;
  for (std::size_t i = 0; i < kChunks && chosen == kNoChunk; ++i) {
    Chunk& chunk = chunks_[i];
    while (!chunk.filling && !chunk.writes.empty() && chunk.writes.front().ended()) {
      co_await chunk.writes.front();
      chunk.writes.pop_front();
    }
    if (!chunk.filling && chunk.writes.empty()) chosen = i;
  }
  for (std::size_t i = 0; i < kChunks && chosen == kNoChunk; ++i) {
    if (!chunks_[i].filling) chosen = i;
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

std::byte* PageWriter::append(Stream& stream, PageNo first, std::size_t bytes) {
  STORE_ASSERT(stream.free_bytes() >= bytes);
  const std::uint64_t segment_end = stream.segment_first.value + (stream.used - stream.segment_begin) / kPageBytes;
  if (stream.segment_begin == stream.used || segment_end != first.value) {
    write_segment(stream);
    stream.segment_first = first;
  }
  std::byte* memory = at(stream, stream.used);
  stream.used += bytes;
  return memory;
}

monterey::Task<> PageWriter::make_room() {
  throw_if_failed();
  if (extent_used_ == extent_.count) {
    extent_ = Extent{};
    extent_used_ = 0;
    extent_ = co_await free_list_.allocate_pages(kExtentPages);
  }
  if (pages_.chunk == kNoChunk || pages_.free_bytes() < kPageBytes) co_await enter_chunk(pages_);
}

PageWriter::Place PageWriter::place() {
  STORE_ASSERT(has_room());
  const PageNo page(extent_.first.value + extent_used_);
  ++extent_used_;
  return Place{page, append(pages_, page, kPageBytes)};
}

monterey::Task<OverflowRef> PageWriter::write_run(std::string_view value, Generation birth) {
  STORE_ASSERT(value.size() <= kMaxBufferedValueBytes);
  throw_if_failed();
  const auto blocks = static_cast<std::uint32_t>(run_blocks(value.size()));
  const std::size_t bytes = std::size_t{blocks} * kPageBytes;
  if (runs_.chunk == kNoChunk || runs_.free_bytes() < bytes) co_await enter_chunk(runs_);
  const Extent extent = co_await allocate_run(blocks);
  std::byte* memory = append(runs_, extent.first, bytes);
  std::memcpy(memory, value.data(), value.size());
  std::memset(memory + value.size(), 0, bytes - value.size());
  co_return OverflowRef{extent.first, value.size(), crc32c(std::as_bytes(std::span(value))), birth};
}

// On a full device the blocks taken ahead for pages may be the last ones: they are there for the run, too.
monterey::Task<Extent> PageWriter::allocate_run(std::uint32_t blocks) {
  try {
    co_return co_await free_list_.allocate_run(blocks);
  } catch (const Error& thrown) {
    if (thrown.errc() != Errc::no_space || extent_used_ == extent_.count) throw;
  }
  give_back_unused();
  co_return co_await free_list_.allocate_run(blocks);
}

void PageWriter::give_back_unused() {
  if (extent_used_ < extent_.count) {
    free_list_.give_back(Extent{PageNo(extent_.first.value + extent_used_), extent_.count - extent_used_});
  }
  extent_ = Extent{};
  extent_used_ = 0;
}

monterey::Task<> PageWriter::finish() {
  give_back_unused();
  co_await write_out();
}

monterey::Task<> PageWriter::write_out() {
  leave_chunk(pages_);
  leave_chunk(runs_);
  co_await drain();
  throw_if_failed();
}

monterey::Task<> PageWriter::drain() {
  pages_ = Stream{};
  runs_ = Stream{};
  for (Chunk& chunk : chunks_) {
    chunk.filling = false;
    while (!chunk.writes.empty()) {
      co_await chunk.writes.front();
      chunk.writes.pop_front();
    }
  }
}

}  // namespace store
