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

monterey::Task<OverflowRun> PageWriter::write_run(std::string_view value, Generation birth) {
  STORE_ASSERT(value.size() <= kMaxBufferedValueBytes);
  throw_if_failed();
  if (staged_.room(runs_) < run_blocks(value.size()) * kPageBytes) co_await staged_.enter_chunk(runs_);
  OverflowRun run(OverflowRef{PageNo{}, value.size(), crc32c(std::as_bytes(std::span(value))), birth});
  co_await allocate_run(run);
  std::string_view left = value;
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) {
    const std::size_t bytes = std::size_t{extent.count} * kPageBytes;
    const std::string_view part = left.substr(0, bytes);
    std::byte* memory = staged_.append(runs_, extent.first, bytes);
    std::memcpy(memory, part.data(), part.size());
    std::memset(memory + part.size(), 0, bytes - part.size());
    left.remove_prefix(part.size());
  }
  co_return run;
}

monterey::Task<> PageWriter::allocate_run(OverflowRun& run) {
  const bool in_a_row = co_await allocate_in_a_row(run);
  if (in_a_row) co_return;
  if (extent_used_ < extent_.count) {
    // The blocks taken ahead for pages may be the last ones: they are there for the run, too.
    give_back_unused();
    const bool with_those = co_await allocate_in_a_row(run);
    if (with_those) co_return;
  }
  co_await allocate_scattered(run);
}

// False where there are none.
monterey::Task<bool> PageWriter::allocate_in_a_row(OverflowRun& run) {
  try {
    run.first = (co_await free_list_.allocate_run(static_cast<std::uint32_t>(run_blocks(run.length)))).first;
    co_return true;
  } catch (const Error& thrown) {
    if (thrown.errc() != Errc::no_space) throw;
    co_return false;
  }
}

monterey::Task<> PageWriter::allocate_scattered(OverflowRun& run) {
  const auto blocks = static_cast<std::uint32_t>(run_blocks(run.length));
  for (std::uint32_t taken = 0; taken < blocks;) {
    const Extent extent = co_await free_list_.allocate_pages(blocks - taken);
    for (std::uint32_t i = 0; i < extent.count; ++i) run.set_block(taken++, extent.first.value + i);
  }
  run.other_count = blocks - 1;
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
