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
    : free_list_(free_list), staged_(device, staging, kChunkBytes, io_class) {
  STORE_ASSERT(staging.size() >= kStagingBytes);
}

monterey::Task<> PageWriter::make_room() {
  throw_if_failed();
  if (extent_used_ == extent_.count) {
    extent_ = Extent{};
    extent_used_ = 0;
    extent_ = co_await free_list_.allocate_pages(kExtentPages);
  }
  if (staged_.room(pages_) < kPageBytes) co_await staged_.enter_chunk(pages_);
}

PageWriter::Place PageWriter::place() {
  STORE_ASSERT(has_room());
  const PageNo page(extent_.first.value + extent_used_);
  ++extent_used_;
  return Place{page, staged_.append(pages_, page, kPageBytes)};
}

monterey::Task<OverflowRef> PageWriter::write_run(std::string_view value, Generation birth) {
  STORE_ASSERT(value.size() <= kMaxBufferedValueBytes);
  throw_if_failed();
  const auto blocks = static_cast<std::uint32_t>(run_blocks(value.size()));
  const std::size_t bytes = std::size_t{blocks} * kPageBytes;
  if (staged_.room(runs_) < bytes) co_await staged_.enter_chunk(runs_);
  const Extent extent = co_await allocate_run(blocks);
  std::byte* memory = staged_.append(runs_, extent.first, bytes);
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
  staged_.leave_chunk(pages_);
  staged_.leave_chunk(runs_);
  co_await staged_.drain();
  throw_if_failed();
}

}  // namespace store
