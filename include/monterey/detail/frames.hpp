// Memory of coroutine frames: per-thread free lists by size class, so that a call of a coroutine costs no malloc.
// Blocks are plain heap blocks of their class's size; one that is freed on another thread, or where no reactor runs,
// is still freed correctly. The lists of a core are emptied when its reactor ends. Off under AddressSanitizer, which
// must see every frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define MONTEREY_RECYCLE_FRAMES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MONTEREY_RECYCLE_FRAMES 0
#endif
#endif
#ifndef MONTEREY_RECYCLE_FRAMES
#define MONTEREY_RECYCLE_FRAMES 1
#endif

namespace monterey::detail {

inline constexpr std::size_t kFrameGranule = 64;
inline constexpr std::size_t kFrameClasses = 32;            // frames up to 2 KiB
inline constexpr std::size_t kFrameBytesKept = 256u << 10;  // of each class; what is freed beyond goes back to the heap

struct FrameCache {
  struct Block {
    Block* next;
  };
  struct List {
    Block* first = nullptr;
    std::uint32_t room = 0;  // blocks it may still take; 0 while no reactor runs on this thread
  };
  List lists[kFrameClasses];
};
extern constinit thread_local FrameCache frame_cache;

// Lets this thread keep freed frames; stop_recycling_frames() gives them all back to the heap.
void start_recycling_frames() noexcept;
void stop_recycling_frames() noexcept;

inline constexpr std::size_t frame_class(std::size_t bytes) noexcept { return (bytes - 1) / kFrameGranule; }

inline void* allocate_frame(std::size_t bytes) {
#if MONTEREY_RECYCLE_FRAMES
  const std::size_t frame = frame_class(bytes);
  if (frame < kFrameClasses) {
    FrameCache::List& list = frame_cache.lists[frame];
    if (FrameCache::Block* block = list.first) [[likely]] {
      list.first = block->next;
      ++list.room;
      return block;
    }
    return ::operator new((frame + 1) * kFrameGranule);
  }
#endif
  return ::operator new(bytes);
}

inline void free_frame(void* memory, std::size_t bytes) noexcept {
#if MONTEREY_RECYCLE_FRAMES
  const std::size_t frame = frame_class(bytes);
  if (frame < kFrameClasses) {
    FrameCache::List& list = frame_cache.lists[frame];
    if (list.room != 0) [[likely]] {
      --list.room;
      list.first = ::new (memory) FrameCache::Block{list.first};
      return;
    }
  }
#endif
  static_cast<void>(bytes);
  ::operator delete(memory);
}

}  // namespace monterey::detail
