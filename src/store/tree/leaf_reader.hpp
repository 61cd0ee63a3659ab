// Reads the leaves that a merge will rewrite, in their order, ahead of it and at depth, into slots of its own: a merge's
// pages do not pass through the cache, but a leaf that is resident is taken from there. Lives for one merge, in its task;
// drain() must have completed before it is destroyed. The slots' memory must outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <vector>

#include "store/cache/page_cache.hpp"
#include "store/page/pointer.hpp"

namespace store {

class LeafReader {
 public:
  struct Leaf {
    const std::byte* bytes = nullptr;  // valid until the next take()
    bool was_resident = false;
  };

  // One slot for each 4096 bytes of `slots`, at least two.
  LeafReader(BlockDevice& device, PageCache& cache, std::span<std::byte> slots, monterey::IoClass io_class);
  LeafReader(const LeafReader&) = delete;
  LeafReader& operator=(const LeafReader&) = delete;
  ~LeafReader();

  bool full() const { return free_.empty(); }
  // Starts reading a leaf. Requires: !full().
  void start(const PagePointer& pointer);
  // Whether the oldest leaf started and not yet taken is this one.
  bool next_is(const PagePointer& pointer) const {
    return !queue_.empty() && slots_[queue_.front()].pointer == pointer;
  }
  // The oldest leaf started. Errors: corruption, io_error.
  monterey::Task<Leaf> take();
  monterey::Task<> drain();

  std::uint64_t pages_read() const { return pages_read_; }

 private:
  struct Slot {
    PagePointer pointer;
    monterey::JoinHandle<void> read;
    bool reading = false;
    std::exception_ptr error;
  };
  static constexpr std::size_t kNone = ~std::size_t{0};

  std::span<std::byte, kPageBytes> bytes_of(std::size_t slot) const {
    return std::span<std::byte, kPageBytes>(memory_.data() + slot * kPageBytes, kPageBytes);
  }
  static monterey::Task<> read_slot(LeafReader* self, std::size_t slot);

  BlockDevice& device_;
  PageCache& cache_;
  std::span<std::byte> memory_;
  monterey::IoClass io_class_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> free_;
  std::deque<std::size_t> queue_;  // started, oldest first
  std::size_t taken_ = kNone;      // what the last take() returned
  std::uint64_t pages_read_ = 0;
};

}  // namespace store
