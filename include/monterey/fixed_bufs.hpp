// The buffer arena of a core: page-aligned memory, backed by huge pages where the kernel has them and registered with
// the core's ring where RLIMIT_MEMLOCK allows. Owned by the core; it lives until the core's thread ends, and every
// FixedBuf must be gone by then. Used by its own core only: no locks. Free ranges keep their list inside themselves,
// so that neither allocate nor release needs other memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace monterey {

class FixedBufs;

// A range of the arena, given back on destruction. Movable, not copyable.
class FixedBuf {
 public:
  FixedBuf() noexcept = default;
  FixedBuf(FixedBuf&& other) noexcept;
  FixedBuf& operator=(FixedBuf&& other) noexcept;
  ~FixedBuf() { reset(); }

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  std::span<std::byte> span() const noexcept { return {data_, size_}; }
  explicit operator bool() const noexcept { return data_ != nullptr; }
  // Gives the range back. Requires: no I/O on it in flight.
  void reset() noexcept;

 private:
  friend class FixedBufs;
  FixedBuf(FixedBufs* owner, std::byte* data, std::size_t size) noexcept : owner_(owner), data_(data), size_(size) {}

  FixedBufs* owner_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

class FixedBufs {
 public:
  // A registration with the kernel is at most this long, so a larger arena is several.
  static constexpr std::size_t kChunkBytes = std::size_t{1} << 30;
  // What a device's command can take on every kernel: Linux 6.1 counts the segments up to the end of the buffer that is registered,
  // not to the end of the transfer.
  static constexpr std::size_t kCommandChunkBytes = std::size_t{128} << 10;
  static constexpr std::size_t kMostChunks =
      16384;  // that the kernel registers; what lies behind them is not registered

  // Maps an arena of `bytes` (rounded up to whole pages; 0 gives an arena without memory), to be registered in parts of `chunk_bytes`.
  // Requires: chunk_bytes is a power of two, and a whole number of pages.
  // Errors: invalid_argument, naming needed and available bytes, when the machine does not have that much.
  explicit FixedBufs(std::size_t bytes, std::size_t chunk_bytes = kChunkBytes);
  ~FixedBufs();
  FixedBufs(const FixedBufs&) = delete;
  FixedBufs& operator=(const FixedBufs&) = delete;

  // Returns the arena of the calling core.
  // Errors: invalid_argument outside a Cluster.
  static FixedBufs& current();
  // As current(), or nullptr.
  static FixedBufs* current_if_any() noexcept;
  // Makes `arena` (or none) the calling thread's; the core's thread does so around its loop.
  static void set_current(FixedBufs* arena) noexcept;
  // Throws invalid_argument, naming needed and available bytes, when the machine cannot give `bytes` for all arenas
  // together.
  static void require_memory(std::size_t bytes);

  // Returns a range of `bytes`, rounded up to whole pages, aligned to a page; first fit.
  // Errors: invalid_argument, naming needed and free bytes, when no free range is long enough or `bytes` is 0.
  FixedBuf allocate(std::size_t bytes);
  std::size_t size_bytes() const noexcept { return size_bytes_; }
  std::size_t free_bytes() const noexcept { return free_bytes_; }

  bool contains(const void* data, std::size_t bytes) const noexcept {
    const auto offset = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(base_);
    return offset < size_bytes_ && bytes <= size_bytes_ - offset;
  }
  // Returns the index of the registered buffer that holds [data, data + bytes), if one does. Cost: a few
  // instructions.
  std::optional<std::uint32_t> index_of(const void* data, std::size_t bytes) const noexcept {
    if (!contains(data, bytes)) return std::nullopt;
    const std::size_t offset = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(base_);
    const std::size_t chunk = offset >> chunk_shift_;
    if (bytes > chunk_bytes() - (offset & (chunk_bytes() - 1)) || !registered_[chunk]) return std::nullopt;
    return static_cast<std::uint32_t>(chunk);
  }

  // From `data`, which lies in the arena, to the end of the part that is registered together.
  std::size_t bytes_in_chunk(const void* data) const noexcept {
    const std::size_t offset = reinterpret_cast<std::uintptr_t>(data) - reinterpret_cast<std::uintptr_t>(base_);
    return chunk_bytes() - (offset & (chunk_bytes() - 1));
  }

  // For the backend, which registers the chunks: their number, their bytes, and whether each is registered.
  std::size_t chunk_count() const noexcept { return registered_.size(); }
  std::size_t chunk_bytes() const noexcept { return std::size_t{1} << chunk_shift_; }
  std::span<std::byte> chunk(std::size_t index) const noexcept;
  void set_registered(std::size_t index, std::uint8_t on) noexcept { registered_[index] = on; }

 private:
  friend class FixedBuf;
  struct FreeRange;  // the head of a free range, kept in its first bytes; the list is in address order

  void release(std::byte* data, std::size_t bytes) noexcept;

  std::byte* base_ = nullptr;  // aligned to a huge page
  std::size_t size_bytes_ = 0;
  std::size_t free_bytes_ = 0;
  std::byte* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
  FreeRange* free_ = nullptr;
  unsigned chunk_shift_;
  std::vector<std::uint8_t> registered_;  // one per chunk
};

}  // namespace monterey
