// Reads the leaves that a merge will rewrite, in their order, ahead of it and at depth, into slots of its own: a merge's
// pages do not pass through the cache, but a leaf that is resident is taken from there. Leaves that follow each other on the
// device are read together, so that one flush reads what another one wrote in large pieces. Lives for one merge, in its task;
// drain() must have completed before it is destroyed. The slots' memory must outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <span>
#include <store/block_device.hpp>
#include <string>
#include <string_view>
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

  // One slot for each 4096 bytes of `slots`, at least two; a quarter of them is read at once at most.
  LeafReader(BlockDevice& device, PageCache& cache, std::span<std::byte> slots, monterey::IoClass io_class);
  LeafReader(const LeafReader&) = delete;
  LeafReader& operator=(const LeafReader&) = delete;
  ~LeafReader();

  bool full() const { return queued_ + (holds_taken_ ? 1 : 0) == slots_.size(); }
  // Starts reading a leaf, or notes that it is to be read with what follows it. Requires: !full().
  void start(const PagePointer& pointer);
  // What was started last waits for no neighbour.
  void no_more() {
    if (!reads_.empty()) submit(reads_.back());
  }
  // Whether the oldest leaf started and not yet taken is this one.
  bool next_is(const PagePointer& pointer) const { return queued_ > 0 && slots_[first_].pointer == pointer; }
  // The oldest leaf started. Errors: corruption, io_error.
  monterey::Task<Leaf> take();
  monterey::Task<> drain();

  std::uint64_t pages_read() const { return pages_read_; }

 private:
  // Of neighbouring blocks into neighbouring slots.
  struct Read {
    std::size_t slot = 0;  // the first
    std::size_t count = 1;
    enum class State : std::uint8_t { growing, reading, ended } state = State::growing;
    monterey::JoinHandle<void> task;
    std::exception_ptr error;
  };
  struct Slot {
    PagePointer pointer;
    Read* read = nullptr;  // null: it was resident
  };

  std::size_t next(std::size_t slot) const { return slot + 1 == slots_.size() ? 0 : slot + 1; }
  std::span<std::byte> bytes_of(std::size_t slot, std::size_t count) const {
    return memory_.subspan(slot * kPageBytes, count * kPageBytes);
  }
  bool joins_last(std::size_t slot, const PagePointer& pointer) const;
  void submit(Read& read);
  static monterey::Task<> perform(LeafReader* self, Read* read);
  [[noreturn]] void throw_damaged(const PagePointer& pointer, std::string_view damage) const;

  BlockDevice& device_;
  PageCache& cache_;
  std::span<std::byte> memory_;
  monterey::IoClass io_class_;
  const std::size_t most_together_;
  std::vector<Slot> slots_;   // a ring
  std::size_t first_ = 0;     // the oldest started and not yet taken
  std::size_t queued_ = 0;    // those, from there on
  bool holds_taken_ = false;  // the slot before it is what the last take() returned
  std::deque<Read> reads_;    // oldest first; the last one may still grow
  std::uint64_t pages_read_ = 0;
};

}  // namespace store
