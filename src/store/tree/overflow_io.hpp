// Overflow runs on the device: a value of over 1 KiB is read by one I/O of its blocks, past the cache, and checked whole.
// Memory is page-aligned, so that direct I/O goes straight into it, and belongs to whoever holds the result.
#pragma once

#include <memory>
#include <monterey/task.hpp>
#include <store/block_device.hpp>
#include <string_view>

#include "store/page/overflow.hpp"

namespace store {

// Page-aligned memory of `bytes`, not initialised. Errors: bad_alloc.
std::shared_ptr<std::byte[]> allocate_aligned(std::size_t bytes);

struct RunValue {
  std::shared_ptr<std::byte[]> memory;  // the whole run
  std::uint64_t length = 0;

  std::string_view view() const { return {reinterpret_cast<const char*>(memory.get()), length}; }
};

// Reads and checks the value of a run. The caller keeps the run's blocks from being reused meanwhile.
// Errors: corruption naming the run, io_error.
monterey::Task<RunValue> read_run(BlockDevice& device, OverflowRef run, monterey::IoClass io_class);

// Writes `value` and its table of CRCs to `blocks`, which must be as long as its run, by several writes at once; from page-
// aligned memory without a copy. The value must live until the task ends. Returns the reference, born in `birth`.
// Durability: none before the next sync of the device.
monterey::Task<OverflowRef> write_run(BlockDevice& device, Extent blocks, std::string_view value, Generation birth);

}  // namespace store
