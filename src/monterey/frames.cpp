#include <monterey/detail/frames.hpp>
#include <monterey/detail/result.hpp>
#include <store/base/assert.hpp>

namespace monterey::detail {

constinit thread_local FrameCache frame_cache;

namespace {
thread_local unsigned recycling_users = 0;  // reactors on this thread
}

void start_recycling_frames() noexcept {
  if (recycling_users++ != 0) return;
  for (std::size_t frame = 0; frame < kFrameClasses; ++frame) {
    frame_cache.lists[frame].room = static_cast<std::uint32_t>(kFrameBytesKept / ((frame + 1) * kFrameGranule));
  }
}

void stop_recycling_frames() noexcept {
  STORE_ASSERT(recycling_users > 0);
  if (--recycling_users != 0) return;
  for (FrameCache::List& list : frame_cache.lists) {
    list.room = 0;
    while (FrameCache::Block* block = list.first) {
      list.first = block->next;
      ::operator delete(block);
    }
  }
}

void result_misused() noexcept {
  STORE_ASSERT(false && "the result of a task that has not ended, or was awaited twice");
  __builtin_unreachable();
}

}  // namespace monterey::detail
