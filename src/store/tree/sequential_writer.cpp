#include "store/tree/sequential_writer.hpp"

#include <algorithm>
#include <cstring>
#include <monterey/preempt.hpp>
#include <store/error.hpp>
#include <vector>

#include "store/base/assert.hpp"
#include "store/tree/overflow_io.hpp"

namespace store {

namespace {

constexpr std::uint32_t kFirstExtent = 8;
constexpr std::uint32_t kChunkBlocks = SequentialWriter::kChunkBytes / kPageBytes;

// Copies the part of `from`, which lies at `from_at` of a run, that falls into `into`, which lies at `into_at`.
void copy_part(std::span<const std::byte> from, std::uint64_t from_at, std::span<std::byte> into,
               std::uint64_t into_at) {
  const std::uint64_t begin = std::max(from_at, into_at);
  const std::uint64_t end = std::min(from_at + from.size(), into_at + into.size());
  if (begin >= end) return;
  std::memcpy(into.data() + (begin - into_at), from.data() + (begin - from_at), static_cast<std::size_t>(end - begin));
}

}  // namespace

SequentialWriter::SequentialWriter(BlockDevice& device, FreeList& free_list, std::span<std::byte> staging,
                                   monterey::IoClass io_class)
    : free_list_(free_list), staged_(device, staging, kChunkBytes, io_class), next_extent_(kFirstExtent) {
  STORE_ASSERT(staging.size() >= kStagingBytes);
}

// Where the device has no so long gap any more, a shorter one does.
monterey::Task<Extent> SequentialWriter::allocate(std::uint32_t at_least) {
  std::uint32_t wanted = std::max(at_least, next_extent_);
  next_extent_ = std::min(2 * next_extent_, kChunkBlocks);
  for (;; wanted = std::max(at_least, wanted / 2)) {
    try {
      co_return co_await free_list_.allocate_run(wanted);
    } catch (const Error& error) {
      if (error.errc() != Errc::no_space || wanted == at_least) throw;
    }
  }
}

void SequentialWriter::give_back_unused() {
  if (used_ < extent_.count) free_list_.give_back(Extent{PageNo(extent_.first.value + used_), extent_.count - used_});
  extent_ = Extent{};
  used_ = 0;
}

monterey::Task<> SequentialWriter::take_together(std::uint32_t blocks) {
  staged_.throw_if_failed();
  if (extent_.count - used_ >= blocks) co_return;
  give_back_unused();  // what follows it, if free, makes one gap with it
  extent_ = co_await allocate(blocks);
}

monterey::Task<> SequentialWriter::make_room() {
  co_await take_together(1);
  if (staged_.room(stream_) < kPageBytes) co_await staged_.enter_chunk(stream_);
}

SequentialWriter::Place SequentialWriter::place() {
  STORE_ASSERT(has_room());
  const PageNo page(extent_.first.value + used_);
  ++used_;
  return Place{page, staged_.append(stream_, page, kPageBytes)};
}

monterey::Task<OverflowRef> SequentialWriter::write_run(std::string_view value, Generation birth) {
  const auto bytes = std::as_bytes(std::span(value));
  std::vector<std::byte> table(static_cast<std::size_t>(table_bytes(value.size())));
  const std::uint32_t crc = co_await run_crc(bytes, table);
  const auto blocks = static_cast<std::uint32_t>(run_blocks(value.size()));
  co_await take_together(blocks);
  const PageNo first(extent_.first.value + used_);
  used_ += blocks;
  const std::uint64_t run_bytes = std::uint64_t{blocks} * kPageBytes;
  for (std::uint64_t at = 0; at < run_bytes;) {
    if (staged_.room(stream_) == 0) co_await staged_.enter_chunk(stream_);
    const auto length = static_cast<std::size_t>(
        std::min({std::uint64_t{staged_.room(stream_)}, std::uint64_t{kCrcChunkBytes}, run_bytes - at}));
    const PageNo block(static_cast<std::uint32_t>(first.value + at / kPageBytes));
    const std::span<std::byte> piece(staged_.append(stream_, block, length), length);
    if (at + length > bytes.size()) std::ranges::fill(piece, std::byte{0});
    copy_part(bytes, 0, piece, at);
    copy_part(table, table_offset(value.size()), piece, at);
    at += length;
    co_await monterey::maybe_yield();
  }
  co_return OverflowRef{first, value.size(), crc, birth};
}

monterey::Task<> SequentialWriter::finish() {
  give_back_unused();
  staged_.leave_chunk(stream_);
  co_await staged_.drain();
  staged_.throw_if_failed();
}

}  // namespace store
