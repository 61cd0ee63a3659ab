#include "store/cache/cache_state.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <coroutine>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <monterey/detail/frames.hpp>
#include <monterey/detail/reactor.hpp>
#include <monterey/task_class.hpp>
#include <store/block_device.hpp>
#include <store/error.hpp>

#include "store/base/probes.hpp"
#include "store/cache/load_wait.hpp"
#include "store/page/branch.hpp"
#include "store/page/header.hpp"

namespace store::detail {
namespace {

constexpr std::size_t kHugePageBytes = 2u << 20;
// Whoever began a load, others may wait for it.
constexpr monterey::TaskClass kLoadClass = monterey::TaskClass::foreground;
// A sweep that meets only referenced frames takes the next it finds after this many: it must not stop the core for long.
constexpr std::uint32_t kMaxSecondChances = 1024;

}  // namespace

std::size_t MetadataBlock::rounded(std::size_t bytes) noexcept {
  const std::size_t unit = bytes >= kHugePageBytes ? kHugePageBytes : kPageBytes;
  return (bytes + unit - 1) / unit * unit;
}

MetadataBlock::MetadataBlock(std::size_t bytes) {
  const std::size_t size = rounded(bytes);
  const std::size_t alignment = size >= kHugePageBytes ? kHugePageBytes : kPageBytes;
  data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, size));
  if (data_ == nullptr) throw std::bad_alloc();
  if (size >= kHugePageBytes) ::madvise(data_, size, MADV_HUGEPAGE);  // a wish; small pages serve as well
  std::memset(data_, 0, size);
}

MetadataBlock::~MetadataBlock() { std::free(data_); }

// At most half full, so that a probe rarely leaves its cache line.
std::uint32_t CacheState::table_entries(std::size_t frames) noexcept {
  return static_cast<std::uint32_t>(std::bit_ceil(frames * 2));
}

// One for each child that a branch can have.
static_assert(branch_bytes(kHintsPerBlock + 1, 0, 0) > kPageBytes);

// More than enough where branches have children by the dozen.
std::uint32_t CacheState::hint_blocks(std::size_t frames) noexcept {
  return static_cast<std::uint32_t>(frames / 64 + 8);
}

std::size_t CacheState::metadata_bytes(std::size_t frames) noexcept {
  return table_entries(frames) * sizeof(CacheEntry) + frames * (sizeof(FrameRecord) + sizeof(FrameState)) +
         hint_blocks(frames) * kHintsPerBlock * sizeof(std::uint32_t);
}

std::uint32_t CacheState::window(std::size_t frames) noexcept {
  return static_cast<std::uint32_t>(std::max<std::size_t>(4, frames / 8));
}

CacheState::CacheState(BlockDevice& block_device, monterey::FixedBuf frame_memory, std::size_t count)
    : device(block_device),
      memory(std::move(frame_memory)),
      frame_count(static_cast<std::uint32_t>(count)),
      metadata_(metadata_bytes(count)),
      transient_(window(count), kNoFrame) {
  const std::uint32_t entries = table_entries(count);
  frames = memory.data();
  records = reinterpret_cast<FrameRecord*>(metadata_.data());
  table = reinterpret_cast<CacheEntry*>(records + count);
  hints = reinterpret_cast<std::uint32_t*>(table + entries);
  states = reinterpret_cast<FrameState*>(hints + std::size_t{hint_blocks(count)} * kHintsPerBlock);
  table_mask = entries - 1;
  hash_shift = static_cast<std::uint8_t>(32 - std::countr_zero(entries));
  user_pins_limit = frame_count / 2;
  for (std::uint32_t frame = frame_count; frame-- > 0;) free_frame(frame);
  for (std::uint32_t block = hint_blocks(count); --block > 0;) {
    hints[std::size_t{block} * kHintsPerBlock] = free_hints_;
    free_hints_ = block;
  }
}

CacheState::~CacheState() {
  STORE_ASSERT(unverified == std::count_if(records, records + frame_count, [](const FrameRecord& record) {
                 return (record.flags & kFrameUnverified) != 0;
               }));
  for (std::uint32_t frame = 0; frame < frame_count; ++frame) expose(frame);
}

// A branch's child that was not where it was found last, if it is anywhere.
std::uint32_t CacheCore::find_and_note(const PagePointer& pointer, std::uint32_t* hint) const noexcept {
  const std::uint32_t frame = find_loaded(pointer);
  if (frame != kNoFrame) std::atomic_ref(*hint).store(frame, std::memory_order_relaxed);
  return frame;
}

std::uint32_t CacheCore::find_unverified(const PagePointer& pointer) const noexcept {
  if (unverified == 0) return kNoFrame;
  for (std::uint32_t i = home(pointer.page.value); table[i].page != 0; i = (i + 1) & table_mask) {
    const std::uint32_t frame = table[i].frame;
    if (table[i].page == pointer.page.value && (records[frame].flags & kFrameUnverified) != 0) return frame;
  }
  return kNoFrame;
}

std::uint32_t CacheCore::verify_now(const PagePointer& pointer) noexcept {
  return static_cast<CacheState*>(this)->verify_unverified(pointer);
}

// One that does not verify is dropped: it was another version, or a load meets the damage again and reports it.
std::uint32_t CacheState::verify_unverified(const PagePointer& pointer) noexcept {
  const std::uint32_t frame = find_unverified(pointer);
  if (frame == kNoFrame) return kNoFrame;
  expose(frame);
  if (!verify(std::span<const std::byte, kPageBytes>(frame_data(frame), kPageBytes), pointer).empty()) {
    evict(frame);
    return kNoFrame;
  }
  records[frame].flags &= ~kFrameUnverified;
  --unverified;
  show(frame);
  return frame;
}

void CacheCore::last_unpin(std::uint32_t frame) noexcept { static_cast<CacheState*>(this)->on_last_unpin(frame); }

PageCache::Pin CacheState::pin_frame(std::uint32_t frame) noexcept {
  ++records[frame].pins;
  expose(frame);
  return PageCache::Pin(this, frame_data(frame));
}

// --- loads ---

Load* CacheState::find_load(const PagePointer& pointer) noexcept {
  for (std::uint32_t i = home(pointer.page.value); table[i].page != 0; i = (i + 1) & table_mask) {
    const FrameRecord& record = records[table[i].frame];
    if (table[i].page != pointer.page.value || (record.flags & kFrameLoading) == 0) continue;
    Load* load = loads_[record.pins].get();
    if (load->pointer.birth == pointer.birth) return load;
  }
  for (Load* load = line_first_; load != nullptr; load = load->next) {
    if (load->pointer.page == pointer.page && load->pointer.birth == pointer.birth) return load;
  }
  return nullptr;
}

Load& CacheState::make_load(const PagePointer& pointer, monterey::IoClass io_class, Reuse reuse) {
  if (idle_loads_.empty()) {
    idle_loads_.reserve(loads_.size() + 1);
    loads_.push_back(std::make_unique<Load>());
    loads_.back()->index = static_cast<std::uint32_t>(loads_.size() - 1);
    idle_loads_.push_back(loads_.back()->index);
  }
  Load& load = *loads_[idle_loads_.back()];
  idle_loads_.pop_back();
  load.pointer = pointer;
  load.io_class = io_class;
  load.reuse = reuse;
  load.frame = kNoFrame;
  load.verified = false;
  load.next = nullptr;
  ++stats.loading;
  return load;
}

void CacheState::begin(Load& load) noexcept {
  if (line_first_ == nullptr) {
    const std::uint32_t frame = take_frame(load.reuse);
    if (frame != kNoFrame) {
      start(load, frame);
      return;
    }
  }
  ++stats.frame_waits;
  ++loads_without_frame;
  (line_first_ == nullptr ? line_first_ : line_last_->next) = &load;
  line_last_ = &load;
}

void CacheState::begin_at_once(Load& load) noexcept {
  const std::uint32_t frame = line_first_ == nullptr ? take_frame(load.reuse) : kNoFrame;
  if (frame == kNoFrame) {
    retire(load);
  } else {
    start(load, frame);
  }
}

void CacheState::give_up(Load& load) noexcept {
  STORE_ASSERT(load.frame == kNoFrame);
  Load* before = nullptr;
  for (Load* at = line_first_; at != &load; at = at->next) {
    STORE_ASSERT(at != nullptr);
    before = at;
  }
  (before == nullptr ? line_first_ : before->next) = load.next;
  if (line_last_ == &load) line_last_ = before;
  --loads_without_frame;
  retire(load);
}

// A load's coroutine belongs to itself, and begins within start() rather than through the ready queue: whatever is wanted
// in one slice of the loop is read by one submission, if nothing is in flight.
struct CacheState::Run {
  struct promise_type {
    static void* operator new(std::size_t bytes) { return monterey::detail::allocate_frame(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
      monterey::detail::free_frame(memory, bytes);
    }
    Run get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }  // run() lets none out
  };
  // The core must not stop under a read.
  struct Live {
    Live() noexcept { monterey::detail::Reactor::current().task_started(monterey::detail::TaskKind::background); }
    Live(const Live&) = delete;
    Live& operator=(const Live&) = delete;
    ~Live() { monterey::detail::Reactor::current().task_ended(monterey::detail::TaskKind::background); }
  };
};

// The frame is mapped before the read is issued, so that whoever looks for the page joins this load.
void CacheState::take_over(Load& load, std::uint32_t frame) noexcept {
  load.frame = frame;
  FrameRecord& record = records[frame];
  record.page = load.pointer.page.value;
  record.flags = kFrameLoading;
  record.pins = load.index;
  map(record.page, frame);
  expose(frame);
  ++stats.loads;
}

void CacheState::start(Load& load, std::uint32_t frame) noexcept {
  take_over(load, frame);
  const monterey::TaskClassScope scope(kLoadClass);
  try {
    run(this, &load);
  } catch (...) {
    finish(load, std::current_exception());
  }
}

std::size_t CacheState::begin_together(std::span<const PagePointer> pointers, monterey::IoClass io_class,
                                       Reuse reuse) noexcept {
  Together together;
  std::size_t reading = 0;
  for (const PagePointer& pointer : pointers) {
    const bool is_resident = pointer.is_null() || has(pointer);
    if (is_resident || find_load(pointer) != nullptr) {
      if (!is_resident) ++reading;
      start_together(together);
      continue;
    }
    Load* load = nullptr;
    try {
      load = &make_load(pointer, io_class, reuse);
    } catch (const std::bad_alloc&) {
      break;  // a prefetch is a wish
    }
    const std::uint32_t frame = line_first_ == nullptr ? take_frame(reuse) : kNoFrame;
    if (frame == kNoFrame) {
      retire(*load);
      break;
    }
    take_over(*load, frame);
    together.loads[together.count++] = load;
    ++reading;
  }
  start_together(together);
  return reading;
}

void CacheState::start_together(Together& together) noexcept {
  const Together loads = std::exchange(together, {});
  if (loads.count == 0) return;
  const monterey::TaskClassScope scope(kLoadClass);
  try {
    run_together(this, loads);
  } catch (...) {
    for (std::size_t i = 0; i < loads.count; ++i) finish(*loads.loads[i], std::current_exception());
  }
}

void CacheState::require_verified(Load& load) const {
  const std::span<const std::byte, kPageBytes> page(frame_data(load.frame), kPageBytes);
  const std::string failed = verify(page, load.pointer);
  load.verified = failed.empty();
  if (load.verified) return;
  throw Error(Errc::corruption, fmt::format("{}: page {}: {}; restore from a backup or salvage the store",
                                            device.name(), load.pointer.page.value, failed));
}

monterey::Task<> CacheState::read(const Load& load) {
  if (load.pointer.page.value >= device.size_blocks()) {
    throw Error(Errc::corruption,
                fmt::format("{}: page {} lies beyond the device's {} blocks; restore from a backup or "
                            "salvage the store",
                            device.name(), load.pointer.page.value, device.size_blocks()));
  }
  co_await device.read(load.pointer.page, {frame_data(load.frame), kPageBytes}, load.io_class);
}

CacheState::Run CacheState::run(CacheState* state, Load* load) {
  const Run::Live live;
  std::exception_ptr error;
  try {
    co_await state->read(*load);
    state->require_verified(*load);
  } catch (...) {
    error = std::current_exception();
  }
  state->finish(*load, error);
}

CacheState::Run CacheState::run_together(CacheState* state, Together together) {
  const Run::Live live;
  const std::span<Load*> loads(together.loads.data(), together.count);
  bool is_read = false;
  try {
    std::vector<BlockSpan> pages;
    pages.reserve(loads.size());
    for (const Load* load : loads) pages.emplace_back(state->frame_data(load->frame), kPageBytes);
    const Load& first = *loads.front();
    co_await state->device.read_scattered(first.pointer.page, pages, first.io_class);
    is_read = true;
  } catch (const std::exception&) {
    is_read = false;  // each by itself, to see which
  }
  for (Load* load : loads) {
    std::exception_ptr error;
    try {
      if (!is_read) co_await state->read(*load);
      if (!is_read || !load->waiters.empty()) state->require_verified(*load);
    } catch (...) {
      error = std::current_exception();
    }
    state->finish(*load, error);
  }
}

void CacheState::finish(Load& load, const std::exception_ptr& error) noexcept {
  const std::uint32_t frame = load.frame;
  FrameRecord& record = records[frame];
  STORE_ASSERT((record.flags & kFrameLoading) != 0);
  record.pins = 0;
  record.flags &= ~kFrameLoading;
  // Not referenced yet: the second use earns the second chance, so what is used once goes before what is used again.
  if (load.reuse == Reuse::unlikely) record.flags |= kFrameTransient;
  bool reachable = (record.flags & kFrameUnreachable) == 0;
  if (reachable && (error != nullptr || orphaned_)) {
    erase_entry(record.page, frame);
    record.flags |= kFrameUnreachable;
    states[frame] = FrameState::hidden;
    reachable = false;
  }
  if (reachable) {
    if (load.verified) {
      show(frame);
    } else {
      record.flags |= kFrameUnverified;
      ++unverified;
    }
    ++stats.resident;
  }
  if (error != nullptr) ++stats.load_errors;
  while (auto* waiter = static_cast<LoadWait*>(load.waiters.front())) {
    if (error != nullptr) {
      waiter->fail(error);
    } else {
      waiter->succeed(pin_frame(frame));
    }
  }
  if (record.pins == 0) {
    hide(frame);
    if (!reachable) {
      free_frame(frame);
    } else if (line_first_ != nullptr) {
      evict(frame);
    }
    hand_out_frames();
  } else if (orphaned_) {
    ++orphan_pins_;
  }
  retire(load);
}

void CacheState::retire(Load& load) noexcept {
  idle_loads_.push_back(load.index);  // within its capacity
  if (--stats.loading != 0) return;
  kept_device_.reset();
  monterey::detail::end_all(drainers, monterey::detail::Wake::granted);
  delete_if_done();
}

// A load that ends at once gives its frame to the next in line: by this loop, not by recursion.
void CacheState::hand_out_frames() noexcept {
  if (handing_out_) return;
  handing_out_ = true;
  while (line_first_ != nullptr && free_head_ != kNoFrame) {
    Load& load = *std::exchange(line_first_, line_first_->next);
    load.next = nullptr;
    --loads_without_frame;
    start(load, take_frame(load.reuse));
  }
  handing_out_ = false;
}

void CacheState::on_last_unpin(std::uint32_t frame) noexcept {
  if ((records[frame].flags & kFrameUnreachable) != 0) {
    free_frame(frame);
    if (orphaned_) --orphan_pins_;
  } else {
    evict(frame);  // someone waits for it
  }
  hand_out_frames();
  delete_if_done();
}

// --- frames ---

void CacheState::map(std::uint32_t page, std::uint32_t frame) noexcept {
  std::uint32_t i = home(page);
  while (table[i].page != 0) i = (i + 1) & table_mask;
  table[i] = {page, frame};
}

// From here on lookups find the page in the frame.
void CacheState::show(std::uint32_t frame) noexcept {
  states[frame] = FrameState::resident;
  if (page_type(frame_data(frame)) != PageType::branch || free_hints_ == 0) return;
  records[frame].hints = free_hints_;
  free_hints_ = hints[std::size_t{free_hints_} * kHintsPerBlock];
}

// Linear probing without tombstones: what follows the gap and may fill it moves up.
void CacheState::erase_entry(std::uint32_t page, std::uint32_t frame) noexcept {
  std::uint32_t gap = home(page);
  while (table[gap].page != page || table[gap].frame != frame) {
    STORE_ASSERT(table[gap].page != 0);
    gap = (gap + 1) & table_mask;
  }
  for (std::uint32_t i = (gap + 1) & table_mask; table[i].page != 0; i = (i + 1) & table_mask) {
    const std::uint32_t wanted = home(table[i].page);
    // It may move if its home does not lie behind the gap, going around.
    if (((i - wanted) & table_mask) < ((i - gap) & table_mask)) continue;
    table[gap] = table[i];
    gap = i;
  }
  table[gap] = {};
}

std::uint32_t CacheState::take_frame(Reuse reuse) noexcept {
  std::uint32_t frame = free_head_;
  if (frame != kNoFrame) {
    free_head_ = records[frame].page;
  } else {
    if (reuse == Reuse::unlikely) frame = take_transient_frame();
    if (frame == kNoFrame) frame = sweep();
    if (frame == kNoFrame) return kNoFrame;
    free_head_ = records[frame].page;  // evict() has put it there, alone
  }
  if (reuse == Reuse::unlikely) {
    transient_[transient_next_] = frame;
    transient_next_ = (transient_next_ + 1) % static_cast<std::uint32_t>(transient_.size());
  }
  return frame;
}

// The frame taken longest ago for a page unlikely to be reused, if that is what it still holds.
std::uint32_t CacheState::take_transient_frame() noexcept {
  const std::uint32_t frame = transient_[transient_next_];
  if (frame == kNoFrame || !evictable(records[frame])) return kNoFrame;
  if ((records[frame].flags & kFrameTransient) == 0 || states[frame] == FrameState::referenced) return kNoFrame;
  evict(frame);
  return frame;
}

std::uint32_t CacheState::sweep() noexcept {
  for (std::uint32_t step = 0; step < 2 * frame_count; ++step) {
    const std::uint32_t frame = hand_;
    hand_ = hand_ + 1 == frame_count ? 0 : hand_ + 1;
    FrameRecord& record = records[frame];
    if (!evictable(record)) continue;
    if (states[frame] == FrameState::referenced && step < kMaxSecondChances) {
      states[frame] = FrameState::resident;
      continue;
    }
    evict(frame);
    return frame;
  }
  return kNoFrame;
}

void CacheState::evict(std::uint32_t frame) noexcept {
  FrameRecord& record = records[frame];
  STORE_ASSERT(evictable(record));
  STORE_PROBE(cache_evict, this, record.page);
  erase_entry(record.page, frame);
  --stats.resident;
  ++stats.evictions;
  free_frame(frame);
}

void CacheState::free_frame(std::uint32_t frame) noexcept {
  scribble(frame);
  if (const std::uint32_t block = records[frame].hints; block != 0) {
    hints[std::size_t{block} * kHintsPerBlock] = free_hints_;
    free_hints_ = block;
  }
  if ((records[frame].flags & kFrameUnverified) != 0) --unverified;
  records[frame] = {.page = free_head_};
  states[frame] = FrameState::hidden;
  free_head_ = frame;
}

void CacheState::scribble(std::uint32_t frame) noexcept {
#ifndef NDEBUG
  expose(frame);
  std::memset(frame_data(frame), 0xdb, kPageBytes);
#endif
  hide(frame);
}

void CacheState::unmap(PageNo page) noexcept {
  std::uint32_t i = home(page.value);
  while (table[i].page != 0) {
    if (table[i].page != page.value) {
      i = (i + 1) & table_mask;
      continue;
    }
    const std::uint32_t frame = table[i].frame;
    FrameRecord& record = records[frame];
    erase_entry(page.value, frame);  // may move another entry to i
    if ((record.flags & kFrameLoading) == 0) --stats.resident;
    if (evictable(record)) {
      free_frame(frame);
    } else {
      record.flags |= kFrameUnreachable;
      states[frame] = FrameState::hidden;
    }
  }
  hand_out_frames();
}

void CacheState::insert_clean(const PagePointer& pointer, std::span<const std::byte, kPageBytes> page,
                              Reuse reuse) noexcept {
  STORE_VERIFY(verify(page, pointer).empty());
  if (find_loaded(pointer) != kNoFrame) return;
  unmap(pointer.page);
  if (line_first_ != nullptr) return;
  const std::uint32_t frame = take_frame(reuse);
  if (frame == kNoFrame) return;
  expose(frame);
  std::memcpy(frame_data(frame), page.data(), kPageBytes);
  records[frame] = {.flags = reuse == Reuse::unlikely ? kFrameTransient : 0, .page = pointer.page.value};
  map(pointer.page.value, frame);
  show(frame);
  hide(frame);
  ++stats.resident;
  ++stats.inserted;
}

void CacheState::orphan(std::unique_ptr<BlockDevice> device_to_keep) noexcept {
  orphaned_ = true;
  if (stats.loading != 0) kept_device_ = std::move(device_to_keep);
  for (std::uint32_t frame = 0; frame < frame_count; ++frame) {
    FrameRecord& record = records[frame];
    if ((record.flags & kFrameLoading) != 0 || record.pins == 0) continue;
    if ((record.flags & kFrameUnreachable) == 0) erase_entry(record.page, frame);
    record.flags |= kFrameUnreachable;
    states[frame] = FrameState::hidden;
    ++orphan_pins_;
  }
  delete_if_done();
}

void CacheState::delete_if_done() noexcept {
  if (orphaned_ && !handing_out_ && orphan_pins_ == 0 && stats.loading == 0) delete this;
}

}  // namespace store::detail
