// The part of the page cache behind a miss: frames in their states, the clock, and loads. Shared by the cache, its pins
// and its loads; deletes itself when the cache is gone and none of the others is left.
//
// A frame is free (in the free list), loading, or loaded; a loaded one is evictable while nobody pins it, verified or not. Invariant: while
// a load waits for a frame, none is free or evictable; whoever makes one so calls hand_out_frames().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include <monterey/detail/wait_node.hpp>
#include <monterey/fixed_bufs.hpp>
#include <monterey/io_class.hpp>
#include <monterey/task.hpp>

#include "store/cache/page_cache.hpp"

namespace store::detail {

// One read, from when it is wanted until all its waiters have their pin or its error.
struct Load {
  PagePointer pointer;
  monterey::IoClass io_class = monterey::IoClass::foreground;
  Reuse reuse = Reuse::likely;
  std::uint32_t index = 0;         // in CacheState::loads
  std::uint32_t frame = kNoFrame;  // none: it waits for one
  bool verified = false;
  Load* next = nullptr;  // the next that waits for a frame
  monterey::detail::WaitQueue waiters;
};

// Memory for table and records, on huge pages where it is large: lookups hit it at random.
class MetadataBlock {
 public:
  explicit MetadataBlock(std::size_t bytes);
  MetadataBlock(const MetadataBlock&) = delete;
  MetadataBlock& operator=(const MetadataBlock&) = delete;
  ~MetadataBlock();
  std::byte* data() const noexcept { return data_; }
  static std::size_t rounded(std::size_t bytes) noexcept;

 private:
  std::byte* data_;
};

struct CacheState : CacheCore {
  CacheState(BlockDevice& block_device, monterey::FixedBuf frame_memory, std::size_t frames);
  CacheState(const CacheState&) = delete;
  CacheState& operator=(const CacheState&) = delete;
  ~CacheState();

  static std::uint32_t table_entries(std::size_t frames) noexcept;
  static std::uint32_t hint_blocks(std::size_t frames) noexcept;
  static std::size_t metadata_bytes(std::size_t frames) noexcept;
  static std::uint32_t window(std::size_t frames) noexcept;

  // The load of `pointer` that is under way, if there is one.
  Load* find_load(const PagePointer& pointer) noexcept;
  // A new load, not begun; nothing else knows it. Throws bad_alloc.
  Load& make_load(const PagePointer& pointer, monterey::IoClass io_class, Reuse reuse);
  // Gives it a frame and starts the read, or puts it in line for a frame.
  void begin(Load& load) noexcept;
  // As begin(), but drops the load instead of waiting for a frame.
  void begin_at_once(Load& load) noexcept;
  // Begins loads of neighbouring blocks, as far as frames are to be had at once.
  // Returns how many of them are being read then.
  std::size_t begin_together(std::span<const PagePointer> pointers, monterey::IoClass io_class, Reuse reuse) noexcept;
  // A load in line that nobody waits for any more.
  void give_up(Load& load) noexcept;

  void unmap(PageNo page) noexcept;
  void insert_clean(const PagePointer& pointer, std::span<const std::byte, kPageBytes> page, Reuse reuse) noexcept;
  // The cache is gone: nothing will be looked up any more. Keeps `device` until the last load has ended.
  void orphan(std::unique_ptr<BlockDevice> device_to_keep) noexcept;
  PageCache::Pin pin_frame(std::uint32_t frame) noexcept;
  std::uint32_t verify_unverified(const PagePointer& pointer) noexcept;

  BlockDevice& device;  // for loads
  monterey::FixedBuf memory;
  const std::uint32_t frame_count;
  CacheStats stats;  // the counters that hits do not touch
  monterey::detail::WaitQueue drainers;

 private:
  friend struct CacheCore;

  struct Run;
  // Loads of one stretch of blocks.
  struct Together {
    std::array<Load*, PageCache::kMaxTogether> loads;
    std::size_t count = 0;
  };
  static Run run(CacheState* state, Load* load);
  static Run run_together(CacheState* state, Together together);
  monterey::Task<> read(const Load& load);
  void require_verified(Load& load) const;
  void take_over(Load& load, std::uint32_t frame) noexcept;
  void start(Load& load, std::uint32_t frame) noexcept;
  void start_together(Together& together) noexcept;
  void finish(Load& load, const std::exception_ptr& error) noexcept;
  void retire(Load& load) noexcept;
  void hand_out_frames() noexcept;
  void on_last_unpin(std::uint32_t frame) noexcept;

  void map(std::uint32_t page, std::uint32_t frame) noexcept;
  void show(std::uint32_t frame) noexcept;
  void erase_entry(std::uint32_t page, std::uint32_t frame) noexcept;
  std::uint32_t take_frame(Reuse reuse) noexcept;
  std::uint32_t take_transient_frame() noexcept;
  std::uint32_t sweep() noexcept;
  bool evictable(const FrameRecord& record) const noexcept {
    return (record.flags & kFrameLoading) == 0 && record.pins == 0;
  }
  void evict(std::uint32_t frame) noexcept;
  void free_frame(std::uint32_t frame) noexcept;
  void scribble(std::uint32_t frame) noexcept;
  void delete_if_done() noexcept;

  MetadataBlock metadata_;
  std::uint32_t free_head_ = kNoFrame;
  std::uint32_t free_hints_ = 0;          // the first free block of hints, which names the next; 0: none is left
  std::uint32_t hand_ = 0;                // of the clock
  std::vector<std::uint32_t> transient_;  // a ring of the frames last taken for Reuse::unlikely
  std::uint32_t transient_next_ = 0;
  std::vector<std::unique_ptr<Load>> loads_;
  std::vector<std::uint32_t> idle_loads_;  // has room for all of loads_
  Load* line_first_ = nullptr;             // loads that wait for a frame
  Load* line_last_ = nullptr;
  std::unique_ptr<BlockDevice> kept_device_;
  std::uint32_t orphan_pins_ = 0;  // frames still pinned after orphan()
  bool orphaned_ = false;
  bool handing_out_ = false;
};

}  // namespace store::detail
