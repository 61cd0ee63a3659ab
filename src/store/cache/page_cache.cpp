#include "store/cache/page_cache.hpp"

#include <new>
#include <utility>

#include <fmt/format.h>
#include <store/block_device.hpp>
#include <store/error.hpp>

#include "store/cache/cache_state.hpp"
#include "store/cache/load_wait.hpp"

namespace store {
namespace {

detail::CacheState& state_of(detail::CacheCore* core) noexcept { return *static_cast<detail::CacheState*>(core); }

// Waits for the last load to end.
class DrainWait : private monterey::detail::WaitNode {
 public:
  explicit DrainWait(detail::CacheState& state) noexcept : state_(state) {}
  bool await_ready() const noexcept { return state_.stats.loading == 0; }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(state_.drainers, waiter, monterey::detail::Abortable::no);
  }
  void await_resume() const noexcept {}

 private:
  detail::CacheState& state_;
};

}  // namespace

PageCache::PageCache(BlockDevice& device, monterey::FixedBuf frames) : core_(nullptr) {
  const std::size_t count = frames.size() / kPageBytes;
  if (count < kMinFrames || count >= detail::kNoFrame / 2) {
    throw Error(Errc::invalid_argument,
                fmt::format("the page cache takes {} to {} frames of {} bytes, not {}; set cache_pages accordingly",
                            kMinFrames, detail::kNoFrame / 2 - 1, kPageBytes, count));
  }
  core_ = new detail::CacheState(device, std::move(frames), count);
}

PageCache::~PageCache() {
  if (core_ != nullptr) end(nullptr);
}

void PageCache::end(std::unique_ptr<BlockDevice> device) noexcept {
  state_of(std::exchange(core_, nullptr)).orphan(std::move(device));
}

std::size_t PageCache::metadata_bytes(std::size_t frames) {
  const std::size_t ring = detail::CacheState::window(frames) * sizeof(std::uint32_t);
  return detail::MetadataBlock::rounded(detail::CacheState::metadata_bytes(frames)) + ring + sizeof(detail::CacheState);
}

monterey::Task<PageCache::Pin> PageCache::pin(PagePointer pointer, monterey::IoClass io_class, Reuse reuse) {
  Pin pin = try_pin(pointer, reuse);
  if (pin) co_return std::move(pin);
  detail::CacheState& state = state_of(core_);
  if (pointer.is_null()) {
    throw Error(Errc::corruption,
                state.device.name() + ": page 0: a pointer leads to a meta block, which is no page of the tree");
  }
  ++state.stats.misses;
  detail::LoadWait wait(state, pointer, io_class, reuse);
  pin = co_await wait;
  co_return std::move(pin);
}

void PageCache::prefetch(const PagePointer& pointer, monterey::IoClass io_class, Reuse reuse) {
  detail::CacheState& state = state_of(core_);
  if (pointer.is_null() || resident(pointer) || state.find_load(pointer) != nullptr) return;
  try {
    state.begin_at_once(state.make_load(pointer, io_class, reuse));
  } catch (const std::bad_alloc&) {
    return;  // a prefetch is a wish
  }
}

std::size_t PageCache::prefetch_together(std::span<const PagePointer> pointers, monterey::IoClass io_class,
                                         Reuse reuse) {
  return state_of(core_).begin_together(pointers, io_class, reuse);
}

void PageCache::insert_clean(const PagePointer& pointer, std::span<const std::byte, kPageBytes> page, Reuse reuse) {
  state_of(core_).insert_clean(pointer, page, reuse);
}

void PageCache::unmap(PageNo page) noexcept { state_of(core_).unmap(page); }

monterey::Task<> PageCache::drain() {
  DrainWait wait(state_of(core_));
  co_await wait;
}

std::size_t PageCache::frames() const noexcept { return state_of(core_).frame_count; }

std::size_t PageCache::transient_window() const noexcept { return detail::CacheState::window(frames()); }

CacheStats PageCache::stats() const noexcept {
  CacheStats stats = state_of(core_).stats;
  stats.frames = frames();
  stats.user_pins = core_->user_pins;
  stats.hits = core_->hits;
  return stats;
}

std::size_t PageCache::pinned_frames() const noexcept {
  std::size_t pinned = 0;
  for (std::size_t frame = 0; frame < frames(); ++frame) {
    const detail::FrameRecord& record = core_->records[frame];
    pinned += (record.flags & detail::kFrameLoading) == 0 && record.pins != 0;
  }
  return pinned;
}

}  // namespace store
