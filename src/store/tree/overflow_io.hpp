// Overflow runs on the device: a value of over 1 KiB is read by one I/O of its blocks (over 4 MiB by one a MiB, scattered by one for each
// extent), past the cache, and checked whole; of a value over 64 KiB a part can be read and checked by itself.
// Memory is page-aligned, so that direct I/O goes straight into it, and belongs to whoever holds the result.
#pragma once

#include <memory>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <string_view>

#include "store/page/overflow.hpp"

namespace store {

// Page-aligned memory of `bytes`, not initialised. Errors: bad_alloc.
std::shared_ptr<std::byte[]> allocate_aligned(std::size_t bytes);

struct RunValue {
  std::shared_ptr<std::byte[]> memory;  // the run's; what lies behind the value is undefined
  std::uint64_t length = 0;

  std::string_view view() const { return {reinterpret_cast<const char*>(memory.get()), length}; }
};

// The CRC of a reference to `value`, 64 KiB after the other, so that others run meanwhile. Fills `table`, which has the value's
// table_bytes(). Both must live until the task ends.
monterey::Task<std::uint32_t> run_crc(std::span<const std::byte> value, std::span<std::byte> table);

// Reads and checks the value of a run. The caller keeps the run's blocks from being reused meanwhile.
// Errors: corruption naming the run, io_error.
monterey::Task<RunValue> read_run(BlockDevice& device, OverflowRun run, monterey::IoClass io_class);

// Reads bytes [offset, offset + into.size()) of the value of a run and checks them: by the chunks that they touch and the table,
// or, without a table, the whole value. One I/O where what is to be read is contiguous, as it is for a whole value, else one for the
// chunks and one for the table at once; over 4 MiB one for the table and then one a MiB, in the foreground eight at once; of a scattered
// run one for each extent at once. Blocks that are wanted whole go straight into `into` where their place in it is page-aligned, but
// not those of a scattered run. Requires: the range is not empty and within the value; `into` lives until the task ends; the caller
// keeps the run's blocks from being reused meanwhile. Errors: corruption naming the run and the first byte of the chunk,
// io_error; what `into` holds then is not to be used.
monterey::Task<> read_run_part(BlockDevice& device, OverflowRun run, std::uint64_t offset, std::span<std::byte> into,
                               monterey::IoClass io_class);

// Writes `value` and its table of CRCs to `blocks`, which must be as long as its run, by several writes at once; from page-
// aligned memory without a copy. The value must live until the task ends. Returns the reference, born in `birth`.
// Durability: none before the next sync of the device.
monterey::Task<OverflowRef> write_run(BlockDevice& device, Extent blocks, std::string_view value, Generation birth);

struct RunCopy {
  PageNo from;
  Extent to;
};

// Copies blocks as they are, several at once. Durability: none before the next sync of the device. Errors: io_error;
// everything that was begun has ended.
monterey::Task<> copy_runs(BlockDevice& device, std::span<const RunCopy> copies, monterey::IoClass io_class);

}  // namespace store
