// The cache of tree pages: 4 KiB frames in the core's registered buffers, found by (page number, birth generation), never by
// the page number alone. One per partition, used from the partition's core only, without latches; but see the const lookups below.
//
// * A frame's bytes are verified against the pointer once, when they were read or, of pages read ahead together, when the first
//   wants them: then they are in the CPU's cache for him. Until then no lookup finds them. They do not change while it is mapped.
// * A page that is being read has one read in flight, whoever waits for it.
// * Pinned frames stay readable and in place, also after unmap() and after the cache itself is gone: the frames live until the
//   last pin is dropped and the last load has ended. The device must outlive the loads: await drain() before closing it,
//   or hand it to end().
// * Eviction is a clock with second chance. Pages brought in with Reuse::unlikely (scans, merges) recycle a small window
//   of frames of their own, so that they do not push out the hot set.
// * No deadlock: whoever awaits pin() holds no other pin, and a load that finds no frame waits in line for the next unpin.
//   prefetch() and insert_clean() never wait: they give up.
//
// A hit touches one line of the table of {page, frame} entries, then the page, whose header says whether it is the one. Who
// comes from a resident branch saves the table: for each child a branch frame keeps a hint, the frame in which the child was
// found last, which is where the search goes on while the pointer is still on its way from memory. A hint is never trusted.
// The const lookups may run on several threads at once while nobody calls anything else: what they write, second chances and hints, is
// atomic and of no consequence.
// Under AddressSanitizer unpinned frames are poisoned; debug builds scribble over evicted ones.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include <monterey/fixed_bufs.hpp>
#include <monterey/io_class.hpp>
#include <monterey/task.hpp>
#include <store/types.hpp>

#include "store/base/assert.hpp"
#include "store/base/planted.hpp"
#include "store/base/poison.hpp"
#include "store/base/units.hpp"
#include "store/page/bytes.hpp"
#include "store/page/layout.hpp"
#include "store/page/pointer.hpp"

namespace store {

class BlockDevice;

// Whether a page is likely to be wanted again soon; a scan's or merge's pages are not.
enum class Reuse : std::uint8_t { likely, unlikely };

struct CacheStats {
  std::size_t frames = 0;
  std::size_t resident = 0;       // frames that hold a page, those read ahead included
  std::size_t user_pins = 0;      // of at most frames / 2
  std::size_t loading = 0;        // reads in flight or waiting for a frame
  std::uint64_t hits = 0;         // lookups served from a frame
  std::uint64_t misses = 0;       // pin() calls that had to wait
  std::uint64_t loads = 0;        // reads issued
  std::uint64_t load_errors = 0;  // reads that failed or did not verify
  std::uint64_t frame_waits = 0;  // loads that had to wait for a frame
  std::uint64_t evictions = 0;
  std::uint64_t inserted = 0;  // pages handed over clean by insert_clean()
};

namespace detail {

inline constexpr std::uint32_t kNoFrame = ~std::uint32_t{0};

inline constexpr std::uint32_t kFrameLoading = 1;      // `pins` is the number of its Load
inline constexpr std::uint32_t kFrameTransient = 2;    // brought in with Reuse::unlikely
inline constexpr std::uint32_t kFrameUnreachable = 4;  // no table entry; free at its last unpin
inline constexpr std::uint32_t kFrameUnverified = 8;   // read ahead, and wanted by nobody yet; hidden

struct FrameRecord {
  std::uint32_t flags = 0;
  std::uint32_t page = 0;  // of a free frame: the next free one
  std::uint32_t pins = 0;
  std::uint32_t hints = 0;  // of a branch: its block of hints
};
static_assert(sizeof(FrameRecord) == 16);

// What hits know of a frame: apart from the records, so that all of it stays in the CPU's cache.
enum class FrameState : std::uint8_t {
  hidden,      // free, being read, not verified yet, or unreachable: no lookup finds it
  resident,    // holds a page that can be found
  referenced,  // … and was since the clock came by: it has a second chance
};

// Page 0 is a meta page and never cached, so 0 marks an empty entry.
struct CacheEntry {
  std::uint32_t page = 0;
  std::uint32_t frame = 0;
};

// Of the page in a frame, by its header. Reads them by plain loads, without a call, since the frame may be hidden from
// AddressSanitizer.
struct PageId {
  std::uint32_t page;
  std::uint64_t birth;
};
#ifdef STORE_ASAN
__attribute__((no_sanitize("address")))
#endif
inline PageId
id_in(const std::byte* frame) noexcept {
  static_assert(offsetof(layout::PageHeader, page) % 4 == 0 && offsetof(layout::PageHeader, generation) % 8 == 0);
  const auto* page = reinterpret_cast<const std::uint32_t*>(frame + offsetof(layout::PageHeader, page));
  const auto* birth = reinterpret_cast<const std::uint64_t*>(frame + offsetof(layout::PageHeader, generation));
  return {*page, *birth & kMask48};
}

// A block of hints: one for each child that a branch can have. Block 0 is shared by all branches that got none of their own.
inline constexpr std::uint32_t kHintsPerBlock = 192;

struct CacheState;  // the core and what only misses touch

// What a cache and its pins share: the part of CacheState that hits touch. Lives until the cache is gone and nothing is
// pinned or loading.
struct CacheCore {
  CacheEntry* table = nullptr;
  FrameRecord* records = nullptr;
  FrameState* states = nullptr;
  std::uint32_t* hints = nullptr;
  std::byte* frames = nullptr;
  std::uint32_t table_mask = 0;
  std::uint8_t hash_shift = 0;
  std::uint32_t loads_without_frame = 0;  // an unpin must look for someone who waits for a frame
  std::uint32_t user_pins = 0;
  std::uint32_t user_pins_limit = 0;
  std::uint32_t unverified = 0;  // frames
  std::uint64_t hits = 0;

  std::uint32_t home(std::uint32_t page) const noexcept { return (page * 0x9E3779B1u) >> hash_shift; }

  FrameState state(std::uint32_t frame) const noexcept {
    return std::atomic_ref(states[frame]).load(std::memory_order_relaxed);
  }
  // Gives a resident frame its second chance. Written only if it has none, so that threads which read do not wait for each other's writes.
  void refer(std::uint32_t frame) const noexcept {
    if (state(frame) == FrameState::referenced) return;
    std::atomic_ref(states[frame]).store(FrameState::referenced, std::memory_order_relaxed);
  }
  // Whether lookups of the page may take this frame, by the header of the page in it, which was verified when it was read.
  bool holds(std::uint32_t frame, const PagePointer& pointer) const noexcept {
    if (state(frame) == FrameState::hidden) return false;
    const PageId id = id_in(frame_data(frame));
    return id.page == pointer.page.value && (id.birth == pointer.birth.value || planted(Planted::birth_not_checked));
  }
  // The frame that holds the page, or kNoFrame.
  std::uint32_t find_loaded(const PagePointer& pointer) const noexcept {
    for (std::uint32_t i = home(pointer.page.value);; i = (i + 1) & table_mask) {
      const CacheEntry entry = table[i];
      if (entry.page == 0) return kNoFrame;  // first, so that nothing is found for a null pointer
      if (entry.page == pointer.page.value && holds(entry.frame, pointer)) return entry.frame;
    }
  }
  std::uint32_t find_and_note(const PagePointer& pointer, std::uint32_t* hint) const noexcept;
  std::uint32_t find_unverified(const PagePointer& pointer) const noexcept;
  // The frame in which the page lies unverified, if there is one and it passes; it is exposed then.
  std::uint32_t verify_now(const PagePointer& pointer) noexcept;
  bool has(const PagePointer& pointer) const noexcept {
    return find_loaded(pointer) != kNoFrame || find_unverified(pointer) != kNoFrame;
  }
  std::byte* frame_data(std::uint32_t frame) const noexcept { return frames + std::size_t{frame} * kPageBytes; }
  std::uint32_t frame_of(const std::byte* data) const noexcept {
    return static_cast<std::uint32_t>(static_cast<std::size_t>(data - frames) / kPageBytes);
  }

  void expose(std::uint32_t frame) const noexcept { unpoison(frame_data(frame), kPageBytes); }
  void hide(std::uint32_t frame) const noexcept { poison(frame_data(frame), kPageBytes); }

  void unpin(std::uint32_t frame) noexcept {
    FrameRecord& record = records[frame];
    STORE_VERIFY(record.pins > 0);
    if (--record.pins != 0) return;
    hide(frame);
    if ((record.flags & kFrameUnreachable) != 0 || loads_without_frame != 0) [[unlikely]]
      last_unpin(frame);
  }
  void last_unpin(std::uint32_t frame) noexcept;
};

}  // namespace detail

class PageCache {
 public:
  static constexpr std::size_t kMinFrames = 8;

  // Keeps one page readable and in place. Move-only; empty when default-constructed or moved from.
  class [[nodiscard]] Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept
        : core_(std::exchange(other.core_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
    Pin& operator=(Pin&& other) noexcept {
      if (this != &other) {
        reset();
        core_ = std::exchange(other.core_, nullptr);
        data_ = std::exchange(other.data_, nullptr);
      }
      return *this;
    }
    ~Pin() { reset(); }

    // The 4096 bytes of the page; null when empty.
    const std::byte* data() const noexcept { return data_; }
    std::span<const std::byte, kPageBytes> page() const noexcept {
      return std::span<const std::byte, kPageBytes>(data_, kPageBytes);
    }
    explicit operator bool() const noexcept { return data_ != nullptr; }
    void reset() noexcept {
      if (data_ == nullptr) return;
      core_->unpin(core_->frame_of(data_));
      core_ = nullptr;
      data_ = nullptr;
    }

   private:
    friend class PageCache;
    friend struct detail::CacheState;
    Pin(detail::CacheCore* core, const std::byte* data) noexcept : core_(core), data_(data) {}

    detail::CacheCore* core_ = nullptr;
    const std::byte* data_ = nullptr;
  };

  // A pin that is handed to a user for as long as he likes, counted against half of the frames. Move-only.
  class [[nodiscard]] UserPin {
   public:
    UserPin() = default;
    UserPin(UserPin&&) noexcept = default;
    UserPin& operator=(UserPin&& other) noexcept {
      if (this != &other) {
        reset();
        pin_ = std::move(other.pin_);
      }
      return *this;
    }
    ~UserPin() { reset(); }

    const std::byte* data() const noexcept { return pin_.data(); }
    explicit operator bool() const noexcept { return static_cast<bool>(pin_); }
    void reset() noexcept {
      if (!pin_) return;
      --pin_.core_->user_pins;
      pin_.reset();
    }

    // For holders that cannot name this class: the pin as two addresses, which adopt() takes back.
    std::pair<void*, const void*> release() && noexcept {
      return {std::exchange(pin_.core_, nullptr), std::exchange(pin_.data_, nullptr)};
    }
    static UserPin adopt(void* core, const void* data) noexcept {
      return UserPin(Pin(static_cast<detail::CacheCore*>(core), static_cast<const std::byte*>(data)));
    }

   private:
    friend class PageCache;
    explicit UserPin(Pin&& pin) noexcept : pin_(std::move(pin)) {}

    Pin pin_;
  };

  // A cache of frames.size() / 4096 frames on `device`. Errors: invalid_argument for fewer than kMinFrames.
  PageCache(BlockDevice& device, monterey::FixedBuf frames);
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;
  // As end() without a device, which must then outlive the loads.
  ~PageCache();
  // Ends the cache, once: only pins and loads remain of it. Nothing may be called on it afterwards. The frames are given
  // back with the last pin; `device`, if it is given, lives until the last load in flight has ended.
  void end(std::unique_ptr<BlockDevice> device) noexcept;

  // The heap memory that a cache of `frames` frames takes beside the frames.
  static std::size_t metadata_bytes(std::size_t frames);

  // The page if it is resident, pinned; else empty, also where it was read ahead and does not verify. Never suspends. Cost: two cache
  // lines and the page's.
  Pin try_pin(const PagePointer& pointer, Reuse reuse = Reuse::likely) noexcept {
    detail::CacheCore& core = *core_;
    std::uint32_t frame = core.find_loaded(pointer);
    if (frame == detail::kNoFrame && core.unverified != 0) frame = core.verify_now(pointer);
    if (frame == detail::kNoFrame) return {};
    if (reuse == Reuse::likely) core.refer(frame);
    ++core.records[frame].pins;
    ++core.hits;
    core.expose(frame);
    return Pin(&core, core.frame_data(frame));
  }

  // The bytes of a resident page without a pin, else null: good until the caller suspends or calls anything on this cache
  // but peek(), try_pin(), pin_peeked(), resident(), touch() and guess(); letting go of a pin counts as well. For a descent
  // that cannot suspend. With `hits` it counts there instead of in stats().
  const std::byte* peek(const PagePointer& pointer, std::uint64_t& hits) const noexcept {
    return use(core_->find_loaded(pointer), hits);
  }
  const std::byte* peek(const PagePointer& pointer) noexcept { return peek(pointer, core_->hits); }

  // Pins what peek() just returned.
  Pin pin_peeked(const std::byte* page) noexcept {
    ++core_->records[core_->frame_of(page)].pins;
    return Pin(core_, page);
  }

  // Where the frame of a branch's child was noted last. Good for as long as the branch's bytes are.
  using Hint = std::uint32_t*;
  // Requires: `branch` is what peek() returned, and a branch.
  Hint hint(const std::byte* branch, std::uint32_t slot) const noexcept {
    const detail::CacheCore& core = *core_;
    const std::uint32_t block = core.records[core.frame_of(branch)].hints;
    return core.hints + std::size_t{block} * detail::kHintsPerBlock + slot;
  }
  // Where the child's bytes lie, if it was not evicted since: to have them brought into the CPU's cache.
  const std::byte* guess(Hint hint) const noexcept {
    return core_->frame_data(std::atomic_ref(*hint).load(std::memory_order_relaxed));
  }
  // As peek(pointer) of the child that `hint` is of.
  const std::byte* peek(const PagePointer& pointer, Hint hint, std::uint64_t& hits) const noexcept {
    const std::uint32_t frame = std::atomic_ref(*hint).load(std::memory_order_relaxed);
    if (core_->holds(frame, pointer)) [[likely]]
      return use(frame, hits);
    return use(core_->find_and_note(pointer, hint), hits);
  }
  const std::byte* peek(const PagePointer& pointer, Hint hint) noexcept { return peek(pointer, hint, core_->hits); }
  // Brings in what pinning takes.
  void touch_record(const std::byte* page) const noexcept {
    __builtin_prefetch(&core_->records[core_->frame_of(page)], 1);
  }

  // Brings the table line of a page into the CPU's cache ahead of a lookup.
  void touch(PageNo page) const noexcept { __builtin_prefetch(&core_->table[core_->home(page.value)]); }
  // Then returns where the page's bytes lie, to be brought in as well. Only a guess, which may be of another version of the
  // page or be read just now; null when there is none.
  const std::byte* guess(PageNo page) const noexcept {
    const detail::CacheCore& core = *core_;
    for (std::uint32_t i = core.home(page.value);; i = (i + 1) & core.table_mask) {
      const detail::CacheEntry entry = core.table[i];
      if (entry.page == 0) return nullptr;
      if (entry.page == page.value) return core.frame_data(entry.frame);
    }
  }

  // The page, pinned; read from the device if need be, by one read for all who wait. The read is queued when the task
  // first runs, so N such tasks started together make one submission. Requires: the caller holds no other pin while it
  // waits. Errors: corruption naming page, check and device (also for a null pointer); whatever the device throws. Suspends on a miss only. May be
  // destroyed while it waits.
  monterey::Task<Pin> pin(PagePointer pointer, monterey::IoClass io_class = monterey::IoClass::foreground,
                          Reuse reuse = Reuse::likely);

  // Starts the load of a page that a pin() will want soon. Does nothing when the page is resident or being read, or when
  // no frame is to be had at once. An error is left for the pin() to meet again. Never suspends.
  void prefetch(const PagePointer& pointer, monterey::IoClass io_class, Reuse reuse = Reuse::likely);

  // The same for pages in neighbouring blocks, ascending, by one read for each stretch of them that is to be read.
  // Returns how many are being read now. Requires: at most kMaxTogether. Should that read fail, each page is read by itself, so that none fails for another.
  static constexpr std::size_t kMaxTogether = 64;
  std::size_t prefetch_together(std::span<const PagePointer> pointers, monterey::IoClass io_class,
                                Reuse reuse = Reuse::likely);

  // Puts a page that was just written into the cache, if a frame is to be had at once; drops what was known of the block
  // before. Requires: `page` is sealed and is what `pointer` vouches for. Never suspends.
  void insert_clean(const PagePointer& pointer, std::span<const std::byte, kPageBytes> page,
                    Reuse reuse = Reuse::likely);

  bool resident(const PagePointer& pointer) const noexcept { return core_->has(pointer); }

  // Forgets every version of a block that is about to be reused. A pinned or loading frame serves those who have it or
  // wait for it, is found by nobody else, and is free at its last unpin.
  void unmap(PageNo page) noexcept;

  // Takes `pin` over as a user's, unless users hold frames() / 2 already: then the result is empty, `pin` is left as it
  // was, and the caller copies what it needs.
  UserPin try_user_pin(Pin& pin) noexcept {
    if (!pin || core_->user_pins >= core_->user_pins_limit) return {};
    ++core_->user_pins;
    return UserPin(std::move(pin));
  }

  // Completes when no load is in flight or waiting for a frame. The cache may end meanwhile.
  monterey::Task<> drain();

  std::size_t frames() const noexcept;
  // How many pages of Reuse::unlikely stay in the cache at once; read-ahead should keep well below.
  std::size_t transient_window() const noexcept;
  CacheStats stats() const noexcept;
  // Frames that are pinned now, reachable or not. For tests and diagnosis. Cost: O(frames).
  std::size_t pinned_frames() const noexcept;

 private:
  const std::byte* use(std::uint32_t frame, std::uint64_t& hits) const noexcept {
    if (frame == detail::kNoFrame) return nullptr;
    const detail::CacheCore& core = *core_;
    core.refer(frame);
    ++hits;
    core.expose(frame);
    return core.frame_data(frame);
  }

  detail::CacheCore* core_;
};

}  // namespace store
