#include "store/tree/overflow_io.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <monterey/when_all.hpp>
#include <new>
#include <store/error.hpp>
#include <utility>
#include <vector>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/units.hpp"

namespace store {

namespace {

// A run is written in pieces, so many of them in flight at once: together 1 MiB of memory beside the value.
constexpr std::uint64_t kPieceBytes = 256u << 10;
constexpr std::size_t kPiecesAtOnce = 4;
constexpr std::align_val_t kAlignment{kPageBytes};

}  // namespace

std::shared_ptr<std::byte[]> allocate_aligned(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new(std::max<std::size_t>(bytes, 1), kAlignment));
  return std::shared_ptr<std::byte[]>(memory, [](std::byte* p) { ::operator delete(p, kAlignment); });
}

monterey::Task<RunValue> read_run(BlockDevice& device, OverflowRef run, monterey::IoClass io_class) {
  const Extent extent = run_extent(run);
  if (run.length > kMaxValueBytes || extent.end() > device.size_blocks()) {
    throw Error(Errc::corruption,
                fmt::format("{}: overflow run of {} bytes at block {}: it ends behind the device's {} "
                            "blocks; restore from a backup or salvage the store",
                            device.name(), run.length, run.first.value, device.size_blocks()));
  }
  const std::size_t bytes = std::size_t{extent.count} * kPageBytes;
  RunValue value{allocate_aligned(bytes), run.length};
  const std::span<std::byte> memory(value.memory.get(), bytes);
  co_await device.read(run.first, memory, io_class);
  const std::string damage = verify_run(memory, run);
  if (!damage.empty()) {
    throw Error(Errc::corruption,
                fmt::format("{}: overflow run of {} bytes at block {}: {}; restore from a backup or salvage the store",
                            device.name(), run.length, run.first.value, damage));
  }
  co_return std::move(value);
}

namespace {

// A run on its way to the device: several workers take its pieces in turn.
struct RunWriter {
  BlockDevice& device;
  PageNo first;
  std::uint64_t run_bytes;
  std::span<const std::byte> value;
  std::vector<std::byte> table;
  std::uint64_t next = 0;  // where the next piece begins

  // The bytes of the piece at `at`: the caller's own where they are aligned and fill it, else put together in `memory`.
  std::span<const std::byte> piece(std::uint64_t at, std::span<std::byte> memory) const {
    const bool aligned = reinterpret_cast<std::uintptr_t>(value.data()) % kPageBytes == 0;
    if (aligned && at + memory.size() <= value.size()) return value.subspan(at, memory.size());
    std::memset(memory.data(), 0, memory.size());
    if (at < value.size()) {
      std::memcpy(memory.data(), value.data() + at, std::min<std::size_t>(memory.size(), value.size() - at));
    }
    // The part of the table that falls into this piece.
    const std::uint64_t table_at = table_offset(value.size());
    const std::uint64_t from = std::max(at, table_at);
    const std::uint64_t to = std::min(at + memory.size(), table_at + table.size());
    if (from < to) std::memcpy(memory.data() + (from - at), table.data() + (from - table_at), to - from);
    return memory;
  }
};

monterey::Task<> write_pieces(RunWriter* run) {
  const auto memory = allocate_aligned(static_cast<std::size_t>(std::min(run->run_bytes, kPieceBytes)));
  std::exception_ptr error;
  while (run->next < run->run_bytes) {
    const std::uint64_t at = std::exchange(run->next, run->next + kPieceBytes);
    const auto length = static_cast<std::size_t>(std::min(kPieceBytes, run->run_bytes - at));
    const auto bytes = run->piece(at, std::span<std::byte>(memory.get(), length));
    const PageNo block(static_cast<std::uint32_t>(run->first.value + at / kPageBytes));
    try {
      co_await run->device.write(block, bytes, monterey::IoClass::foreground);
    } catch (...) {
      error = std::current_exception();
    }
    if (!error) continue;
    run->next = run->run_bytes;  // what the others have begun ends, no more is begun
    std::rethrow_exception(error);
  }
}

}  // namespace

monterey::Task<OverflowRef> write_run(BlockDevice& device, Extent blocks, std::string_view value, Generation birth) {
  STORE_ASSERT(blocks.count == run_blocks(value.size()));
  const auto bytes = std::as_bytes(std::span(value));
  RunWriter run{device, blocks.first, std::uint64_t{blocks.count} * kPageBytes, bytes, {}};
  run.table.resize(table_bytes(value.size()));
  const std::uint32_t crc = run.table.empty() ? crc32c(bytes) : build_crc_table(bytes, run.table);
  std::vector<monterey::Task<>> workers;
  for (std::uint64_t at = 0; at < run.run_bytes && workers.size() < kPiecesAtOnce; at += kPieceBytes) {
    workers.push_back(write_pieces(&run));
  }
  co_await monterey::when_all(std::move(workers));
  co_return OverflowRef{blocks.first, value.size(), crc, birth};
}

}  // namespace store
