#include "store/page/overflow.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/planted.hpp"
#include "store/page/bytes.hpp"
#include "store/page/layout.hpp"

namespace store {
namespace {

std::string crc_mismatch(const char* what, std::uint32_t computed, std::uint32_t expected, const OverflowRef& ref) {
  return fmt::format("crc: {} of the run at block {} gives {:#010x}, expected {:#010x}", what, ref.first.value,
                     computed, expected);
}

}  // namespace

void put_overflow_ref(std::byte* at, const OverflowRef& ref) noexcept {
  put(at + offsetof(layout::OverflowReference, first), ref.first.value);
  put(at + offsetof(layout::OverflowReference, crc), ref.crc);
  put48(at + offsetof(layout::OverflowReference, birth), ref.birth.value);
  put48(at + offsetof(layout::OverflowReference, length), ref.length);
}

OverflowRef load_overflow_ref(const std::byte* at) noexcept {
  return {PageNo(load<std::uint32_t>(at + offsetof(layout::OverflowReference, first))),
          load48(at + offsetof(layout::OverflowReference, length)),
          load<std::uint32_t>(at + offsetof(layout::OverflowReference, crc)),
          Generation(load48(at + offsetof(layout::OverflowReference, birth)))};
}

bool RunExtents::next(Extent& extent) noexcept {
  const auto blocks = static_cast<std::uint32_t>(run_blocks(run_.length));
  if (passed_ == blocks) return false;
  if (!run_.is_scattered()) {
    extent = {run_.first, blocks};
    passed_ = blocks;
    return true;
  }
  STORE_ASSERT(run_.other_count == blocks - 1);
  extent = {PageNo(run_.block(passed_)), 1};
  while (++passed_ < blocks && run_.block(passed_) == extent.end()) ++extent.count;
  return true;
}

std::uint64_t run_end(const OverflowRun& run) noexcept {
  std::uint64_t end = 0;
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) end = std::max<std::uint64_t>(end, extent.end());
  return end;
}

std::uint32_t build_crc_table(std::span<const std::byte> value, std::span<std::byte> table) noexcept {
  STORE_ASSERT(has_crc_table(value.size()));
  STORE_ASSERT(table.size() == table_bytes(value.size()));
  std::byte* at = table.data();
  for (std::size_t offset = 0; offset < value.size(); offset += kCrcChunkBytes) {
    put(at, crc32c(value.subspan(offset, std::min(kCrcChunkBytes, value.size() - offset))));
    at += sizeof(std::uint32_t);
  }
  return crc32c(table);
}

std::uint32_t seal_run(std::span<std::byte> run, std::uint64_t length) noexcept {
  STORE_ASSERT(run.size() == run_blocks(length) * kPageBytes);
  const auto value = run.first(length);
  const auto rest = run.subspan(length);
  std::fill(rest.begin(), rest.end(), std::byte{0});
  return has_crc_table(length) ? build_crc_table(value, run.last(table_bytes(length))) : crc32c(value);
}

std::string verify_crc_table(std::span<const std::byte> table, const OverflowRef& ref) {
  STORE_ASSERT(has_crc_table(ref.length));
  STORE_ASSERT(table.size() == table_bytes(ref.length));
  const std::uint32_t computed = planted(Planted::run_crc_skipped) ? ref.crc : crc32c(table);
  return computed == ref.crc ? std::string{} : crc_mismatch("the table", computed, ref.crc, ref);
}

std::string verify_chunk(std::uint32_t computed, std::uint64_t chunk, std::span<const std::byte> table,
                         const OverflowRef& ref) {
  STORE_ASSERT(table.size() == table_bytes(ref.length) && chunk < chunk_count(ref.length));
  const bool has_table = has_crc_table(ref.length);
  const auto expected = has_table ? load<std::uint32_t>(table.data() + chunk * sizeof(std::uint32_t)) : ref.crc;
  if (computed == expected || planted(Planted::run_crc_skipped)) return {};
  if (!has_table) return crc_mismatch("the value", computed, expected, ref);
  return crc_mismatch(fmt::format("byte {} on", chunk * kCrcChunkBytes).c_str(), computed, expected, ref);
}

std::string verify_part(std::span<const std::byte> bytes, RunPart part, std::span<const std::byte> table,
                        const OverflowRef& ref) {
  STORE_ASSERT(table.size() == table_bytes(ref.length));
  STORE_ASSERT(part.offset % kCrcChunkBytes == 0);
  STORE_ASSERT(bytes.size() == part.bytes && part.offset + part.bytes <= ref.length);
  STORE_ASSERT(part.bytes % kCrcChunkBytes == 0 || part.offset + part.bytes == ref.length);
  for (std::size_t offset = 0; offset < bytes.size(); offset += kCrcChunkBytes) {
    const std::uint32_t computed = crc32c(bytes.subspan(offset, std::min(kCrcChunkBytes, bytes.size() - offset)));
    std::string wrong = verify_chunk(computed, (part.offset + offset) / kCrcChunkBytes, table, ref);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string verify_run(std::span<const std::byte> run, const OverflowRef& ref) {
  STORE_ASSERT(run.size() == run_blocks(ref.length) * kPageBytes);
  const auto value = run.first(ref.length);
  if (has_crc_table(ref.length)) {
    const auto table = run.last(table_bytes(ref.length));
    if (std::string wrong = verify_crc_table(table, ref); !wrong.empty()) return wrong;
    return verify_part(value, {0, ref.length}, table, ref);
  }
  return verify_chunk(crc32c(value), 0, {}, ref);
}

RunPart covering_part(std::uint64_t length, std::uint64_t offset, std::uint64_t bytes) noexcept {
  if (offset >= length || bytes == 0) return {};
  if (!has_crc_table(length)) return {0, length};
  const std::uint64_t begin = offset / kCrcChunkBytes * kCrcChunkBytes;
  const std::uint64_t end = offset + std::min(bytes, length - offset);
  const std::uint64_t rounded = (end + kCrcChunkBytes - 1) / kCrcChunkBytes * kCrcChunkBytes;
  return {begin, std::min(rounded, length) - begin};
}

}  // namespace store
