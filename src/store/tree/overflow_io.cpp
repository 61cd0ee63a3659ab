#include "store/tree/overflow_io.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <store/error.hpp>
#include <vector>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/units.hpp"

namespace store {

namespace {

constexpr std::uint64_t kPieceBytes = 1u << 20;
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

monterey::Task<OverflowRef> write_run(BlockDevice& device, Extent blocks, std::string_view value, Generation birth) {
  STORE_ASSERT(blocks.count == run_blocks(value.size()));
  const std::uint64_t run_bytes = std::uint64_t{blocks.count} * kPageBytes;
  const auto piece = allocate_aligned(static_cast<std::size_t>(std::min(run_bytes, kPieceBytes)));
  const auto bytes = std::as_bytes(std::span(value));
  std::vector<std::byte> table(table_bytes(value.size()));
  const std::uint32_t crc = table.empty() ? crc32c(bytes) : build_crc_table(bytes, table);
  const std::uint64_t table_at = table_offset(value.size());
  for (std::uint64_t at = 0; at < run_bytes; at += kPieceBytes) {
    const auto length = static_cast<std::size_t>(std::min(kPieceBytes, run_bytes - at));
    std::memset(piece.get(), 0, length);
    if (at < bytes.size()) {
      std::memcpy(piece.get(), bytes.data() + at, std::min<std::size_t>(length, bytes.size() - at));
    }
    // The part of the table that falls into this piece.
    const std::uint64_t from = std::max(at, table_at);
    const std::uint64_t to = std::min(at + length, table_at + table.size());
    if (from < to) std::memcpy(piece.get() + (from - at), table.data() + (from - table_at), to - from);
    co_await device.write(PageNo(static_cast<std::uint32_t>(blocks.first.value + at / kPageBytes)),
                          std::span<const std::byte>(piece.get(), length), monterey::IoClass::foreground);
  }
  co_return OverflowRef{blocks.first, value.size(), crc, birth};
}

}  // namespace store
