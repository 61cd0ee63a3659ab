#include "store/tree/overflow_io.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <monterey/preempt.hpp>
#include <monterey/when_all.hpp>
#include <new>
#include <store/error.hpp>
#include <utility>
#include <vector>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/units.hpp"
#include "store/page/bytes.hpp"

namespace store {

namespace {

// A part longer than kLongBytes is read by several I/Os, so many of them at once, and each is verified while others are on their way: of
// one long I/O, the device would stand still during the check, and longer ones than these end close together.
constexpr std::uint64_t kLongBytes = 4u << 20;
constexpr std::uint64_t kReadBytes = 1u << 20;
constexpr std::size_t kReadsAtOnce = 8;
static_assert(kReadBytes % kCrcChunkBytes == 0);
// A run is written in pieces, so many of them in flight at once: together 1 MiB of memory beside the value.
constexpr std::uint64_t kPieceBytes = 256u << 10;
constexpr std::size_t kPiecesAtOnce = 4;
constexpr std::align_val_t kAlignment{kPageBytes};

}  // namespace

std::shared_ptr<std::byte[]> allocate_aligned(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new(std::max<std::size_t>(bytes, 1), kAlignment));
  return std::shared_ptr<std::byte[]>(memory, [](std::byte* p) { ::operator delete(p, kAlignment); });
}

namespace {

void require_on_device(const BlockDevice& device, const OverflowRun& run) {
  if (run.length <= kMaxValueBytes && run_end(run) <= device.size_blocks()) return;
  throw Error(Errc::corruption, fmt::format("{}: overflow run of {} bytes at block {}: it ends behind the device's {} "
                                            "blocks; restore from a backup or salvage the store",
                                            device.name(), run.length, run.first.value, device.size_blocks()));
}

void require_sound(const BlockDevice& device, const OverflowRef& run, const std::string& damage) {
  if (damage.empty()) return;
  throw Error(Errc::corruption,
              fmt::format("{}: overflow run of {} bytes at block {}: {}; restore from a backup or salvage the store",
                          device.name(), run.length, run.first.value, damage));
}

}  // namespace

monterey::Task<std::uint32_t> run_crc(std::span<const std::byte> value, std::span<std::byte> table) {
  if (table.empty()) co_return crc32c(value);
  std::byte* entry = table.data();
  for (std::size_t at = 0; at < value.size(); at += kCrcChunkBytes) {
    put(entry, crc32c(value.subspan(at, std::min(kCrcChunkBytes, value.size() - at))));
    entry += sizeof(std::uint32_t);
    co_await monterey::maybe_yield();
  }
  co_return crc32c(table);
}

namespace {

monterey::Task<> check_run(const BlockDevice& device, OverflowRef run, std::span<const std::byte> memory) {
  if (!has_crc_table(run.length)) {
    require_sound(device, run, verify_run(memory, run));
    co_return;
  }
  const auto table = memory.last(static_cast<std::size_t>(table_bytes(run.length)));
  require_sound(device, run, verify_crc_table(table, run));
  for (std::uint64_t at = 0; at < run.length; at += kCrcChunkBytes) {
    const RunPart part{at, std::min<std::uint64_t>(kCrcChunkBytes, run.length - at)};
    require_sound(device, run, verify_part(memory.subspan(part.offset, part.bytes), part, table, run));
    co_await monterey::maybe_yield();
  }
}

}  // namespace

namespace {

monterey::Task<> read_extents(BlockDevice& device, const OverflowRun& run, std::span<std::byte> memory,
                              monterey::IoClass io_class) {
  std::vector<monterey::Task<>> reads;
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) {
    const std::size_t bytes = std::size_t{extent.count} * kPageBytes;
    reads.push_back(device.read(extent.first, memory.first(bytes), io_class));
    memory = memory.subspan(bytes);
  }
  co_await monterey::when_all(std::move(reads));
}

}  // namespace

monterey::Task<RunValue> read_run(BlockDevice& device, OverflowRun run, monterey::IoClass io_class) {
  require_on_device(device, run);
  const std::size_t bytes = static_cast<std::size_t>(run_blocks(run.length)) * kPageBytes;
  RunValue value{allocate_aligned(bytes), run.length};
  const std::span<std::byte> memory(value.memory.get(), bytes);
  if (run.length > kLongBytes) {
    co_await read_run_part(device, run, 0, memory.first(static_cast<std::size_t>(run.length)), io_class);
    co_return std::move(value);
  }
  if (run.is_scattered()) {
    co_await read_extents(device, run, memory, io_class);
  } else {
    co_await device.read(run.first, memory, io_class);
  }
  co_await check_run(device, run, memory);
  co_return std::move(value);
}

namespace {

constexpr std::uint64_t block_begin(std::uint64_t byte) { return byte / kPageBytes * kPageBytes; }
constexpr std::uint64_t block_end(std::uint64_t byte) { return block_begin(byte + kPageBytes - 1); }

// What is read of a run for a part of its value, and where to. All positions are bytes from the run's start, of whole blocks.
struct PartRead {
  struct Piece {
    std::uint64_t begin = 0;
    std::span<std::byte> memory;

    std::uint64_t end() const { return begin + memory.size(); }
  };

  PartRead(const OverflowRef& run, std::uint64_t offset, std::span<std::byte> into)
      : part(covering_part(run.length, offset, into.size())) {
    const std::uint64_t run_end = run_blocks(run.length) * kPageBytes;
    const std::uint64_t table_begin = block_begin(table_offset(run.length));
    std::uint64_t end = block_end(part.offset + part.bytes);
    const bool is_table_apart = has_crc_table(run.length) && (table_begin > end || is_long());
    if (has_crc_table(run.length) && !is_table_apart) end = run_end;
    // The blocks whose every byte is wanted, if the memory for them can take blocks.
    std::uint64_t direct_begin = block_end(offset);
    std::uint64_t direct_end = block_begin(offset + into.size());
    std::byte* const direct = into.data() + (direct_begin - offset);
    if (direct_begin >= direct_end || reinterpret_cast<std::uintptr_t>(direct) % kPageBytes != 0) {
      direct_begin = direct_end = part.offset;
    }
    const auto head_bytes = static_cast<std::size_t>(direct_begin - part.offset);
    const auto tail_bytes = static_cast<std::size_t>(end - direct_end);
    const auto table_apart_bytes = static_cast<std::size_t>(is_table_apart ? run_end - table_begin : 0);
    const std::size_t bounce_bytes = head_bytes + tail_bytes + table_apart_bytes;
    if (bounce_bytes > 0) bounce = allocate_aligned(bounce_bytes);
    pieces[0] = {part.offset, std::span(bounce.get(), head_bytes)};
    pieces[1] = {direct_begin, std::span(direct, static_cast<std::size_t>(direct_end - direct_begin))};
    pieces[2] = {direct_end, std::span(bounce.get() + head_bytes, tail_bytes)};
    table_apart = {table_begin, std::span(bounce.get() + head_bytes + tail_bytes, table_apart_bytes)};
    if (has_crc_table(run.length)) {
      const Piece& within = is_table_apart ? table_apart : pieces[2];
      table = within.memory.subspan(static_cast<std::size_t>(table_offset(run.length) - within.begin));
    }
  }

  // By several I/Os. The table is then read before them.
  bool is_long() const { return part.bytes > kLongBytes; }
  std::uint64_t begin() const { return part.offset; }
  std::uint64_t end() const { return pieces[2].end(); }

  // What bytes [from_byte, to_byte) are read into, in order.
  struct Memory {
    std::array<BlockSpan, 3> spans;
    std::size_t count = 0;
  };
  Memory memory_of(std::uint64_t from_byte, std::uint64_t to_byte) const {
    Memory memory;
    for (const Piece& piece : pieces) {
      const std::uint64_t from = std::max(from_byte, piece.begin);
      const std::uint64_t to = std::min(to_byte, piece.end());
      if (from < to) memory.spans[memory.count++] = piece.memory.subspan(from - piece.begin, to - from);
    }
    return memory;
  }

  // The CRC of bytes [begin, end), wherever they lie.
  std::uint32_t crc_of(std::uint64_t begin, std::uint64_t end) const {
    std::uint32_t crc = 0;
    for (const Piece& piece : pieces) {
      const std::uint64_t from = std::max(begin, piece.begin);
      const std::uint64_t to = std::min(end, piece.end());
      if (from < to) crc = crc32c(piece.memory.subspan(from - piece.begin, to - from), crc);
    }
    return crc;
  }

  // Brings what was read of bytes [begin, end) beside `into` to its place there.
  void copy_to(std::uint64_t offset, std::span<std::byte> into, std::uint64_t begin, std::uint64_t end) const {
    for (const Piece& piece : {pieces[0], pieces[2]}) {
      const std::uint64_t from = std::max({offset, piece.begin, begin});
      const std::uint64_t to = std::min({offset + into.size(), piece.end(), end});
      if (from < to) std::memcpy(into.data() + (from - offset), piece.memory.data() + (from - piece.begin), to - from);
    }
  }

  RunPart part;
  std::shared_ptr<std::byte[]> bounce;
  std::array<Piece, 3>
      pieces;  // in order: before the direct blocks, those, and behind them with the table if it is near
  Piece table_apart;
  std::span<const std::byte> table;
};

// One call of read_run_part().
struct RunReader {
  BlockDevice& device;
  const OverflowRef run;
  const std::uint64_t offset;
  const std::span<std::byte> into;
  const monterey::IoClass io_class;
  const PartRead part{run, offset, into};
  std::uint64_t next = part.begin();  // where the next I/O of a long part begins

  PageNo block_at(std::uint64_t byte) const {
    return PageNo(static_cast<std::uint32_t>(run.first.value + byte / kPageBytes));
  }

  monterey::Task<> read_table_apart() const {
    co_await device.read(block_at(part.table_apart.begin), part.table_apart.memory, io_class);
  }

  // Reads blocks [begin, end) of the run.
  monterey::Task<> read(std::uint64_t begin, std::uint64_t end) const {
    const PartRead::Memory memory = part.memory_of(begin, end);
    if (memory.count == 1) {
      co_await device.read(block_at(begin), memory.spans[0], io_class);
    } else {
      co_await device.read_scattered(block_at(begin), std::span(memory.spans).first(memory.count), io_class);
    }
  }

  // Verifies bytes [begin, end) of the value, whole chunks, and brings them to their place.
  monterey::Task<> take(std::uint64_t begin, std::uint64_t end) const {
    const std::uint64_t step = part.table.empty() ? run.length : kCrcChunkBytes;
    for (std::uint64_t at = begin; at < end; at += step) {
      const std::uint64_t chunk_end = std::min(at + step, end);
      require_sound(device, run, verify_chunk(part.crc_of(at, chunk_end), at / step, part.table, run));
      part.copy_to(offset, into, at, chunk_end);
      if (chunk_end < end) co_await monterey::maybe_yield();
    }
  }
  monterey::Task<> take_all() const { return take(part.part.offset, part.part.offset + part.part.bytes); }
};

// One of the workers that take the I/Os of a long part in turn.
monterey::Task<> read_in_turn(RunReader* reader) {
  const std::uint64_t bytes_end = reader->part.part.offset + reader->part.part.bytes;
  std::exception_ptr error;
  while (reader->next < reader->part.end()) {
    const std::uint64_t begin = std::exchange(reader->next, reader->next + kReadBytes);
    const std::uint64_t end = begin + kReadBytes;
    try {
      co_await reader->read(begin, std::min(end, reader->part.end()));
      co_await reader->take(begin, std::min(end, bytes_end));
    } catch (...) {
      error = std::current_exception();
    }
    if (!error) continue;
    reader->next = reader->part.end();  // what the others have begun ends, no more is begun
    std::rethrow_exception(error);
  }
}

}  // namespace

monterey::Task<> read_run_part(BlockDevice& device, OverflowRun run, std::uint64_t offset, std::span<std::byte> into,
                               monterey::IoClass io_class) {
  STORE_ASSERT(!into.empty());
  STORE_ASSERT(offset < run.length && into.size() <= run.length - offset);
  require_on_device(device, run);
  if (run.is_scattered()) {  // short, and without a table
    const RunValue value = co_await read_run(device, run, io_class);
    std::memcpy(into.data(), value.memory.get() + offset, into.size());
    co_return;
  }
  RunReader reader{device, run, offset, into, io_class};
  const PartRead& part = reader.part;
  const auto require_sound_table = [&] {
    if (!part.table.empty()) require_sound(device, run, verify_crc_table(part.table, run));
  };
  if (part.is_long()) {
    co_await reader.read_table_apart();
    require_sound_table();
    const std::size_t at_once = io_class == monterey::IoClass::foreground ? kReadsAtOnce : 1;
    std::vector<monterey::Task<>> workers;
    for (std::uint64_t at = part.begin(); at < part.end() && workers.size() < at_once; at += kReadBytes) {
      workers.push_back(read_in_turn(&reader));
    }
    co_await monterey::when_all(std::move(workers));
    co_return;
  }
  if (part.table_apart.memory.empty()) {
    co_await reader.read(part.begin(), part.end());
  } else {
    std::vector<monterey::Task<>> reads;
    reads.push_back(reader.read(part.begin(), part.end()));
    reads.push_back(reader.read_table_apart());
    co_await monterey::when_all(std::move(reads));
  }
  require_sound_table();
  co_await reader.take_all();
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
  const std::uint32_t crc = co_await run_crc(bytes, run.table);
  std::vector<monterey::Task<>> workers;
  for (std::uint64_t at = 0; at < run.run_bytes && workers.size() < kPiecesAtOnce; at += kPieceBytes) {
    workers.push_back(write_pieces(&run));
  }
  co_await monterey::when_all(std::move(workers));
  co_return OverflowRef{blocks.first, value.size(), crc, birth};
}

namespace {

// Runs on their way to other blocks: several workers take pieces in turn.
struct RunCopier {
  BlockDevice& device;
  std::span<const RunCopy> copies;
  monterey::IoClass io_class;
  std::uint32_t done = 0;  // blocks of the first of them that are taken
};

monterey::Task<> copy_pieces(RunCopier* copier, std::uint32_t piece_blocks) {
  const auto memory = allocate_aligned(std::size_t{piece_blocks} * kPageBytes);
  std::exception_ptr error;
  while (!copier->copies.empty()) {
    const RunCopy& copy = copier->copies.front();
    const std::uint32_t at = copier->done;
    const std::uint32_t blocks = std::min(piece_blocks, copy.to.count - at);
    copier->done += blocks;
    const PageNo from(copy.from.value + at);
    const PageNo to(copy.to.first.value + at);
    if (copier->done == copy.to.count) {
      copier->copies = copier->copies.subspan(1);
      copier->done = 0;
    }
    const std::span<std::byte> bytes(memory.get(), std::size_t{blocks} * kPageBytes);
    try {
      co_await copier->device.read(from, bytes, copier->io_class);
      co_await copier->device.write(to, bytes, copier->io_class);
    } catch (...) {
      error = std::current_exception();
    }
    if (!error) continue;
    copier->copies = {};  // what the others have begun ends, no more is begun
    std::rethrow_exception(error);
  }
}

}  // namespace

monterey::Task<> copy_runs(BlockDevice& device, std::span<const RunCopy> copies, monterey::IoClass io_class) {
  RunCopier copier{device, copies, io_class};
  std::uint32_t longest = 0;
  for (const RunCopy& copy : copies) longest = std::max(longest, copy.to.count);
  const std::uint32_t piece_blocks = std::min<std::uint32_t>(longest, kPieceBytes / kPageBytes);
  std::vector<monterey::Task<>> workers;
  for (std::size_t i = 0; i < kPiecesAtOnce; ++i) workers.push_back(copy_pieces(&copier, piece_blocks));
  co_await monterey::when_all(std::move(workers));
}

}  // namespace store
