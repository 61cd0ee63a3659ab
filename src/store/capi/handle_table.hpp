// Handles that may be anything: closed, made up, of another kind. A handle is no address but a number that leads to a slot of a table, and slots are
// never freed, so that looking at one is always allowed; whether the handle is alive is what the slot says.
//
//  handle: generation << 32 | kTag << 24 | index of the slot
//
// Invariants:
//  * A generation that is odd is alive. Closing adds one, the next handle of the slot another, so that a closed handle is known as such
//    until the slot has been used 2^31 times.
//  * A call counts itself before it looks at the generation, and who closes changes the generation before he looks at the counts: he takes the
//    object when no call uses it any more, and none can begin to. (Both in the one order of seq_cst.)
//  * Nothing locks: a process may fork at any time, and its child can go on.
#pragma once

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <new>
#include <store/error.hpp>
#include <string>
#include <utility>

#include "store/blocking/big_reader_lock.hpp"

namespace store::capi {

// `T` is the object and `Handle` the type of the C API that stands for it; kTag, 1 to 255, is another one for each table. With kCounts above one the
// threads that use an object at once count on cache lines of their own.
template <class T, class Handle, std::uint64_t kTag, std::size_t kCounts = 1>
class HandleTable {
  struct alignas(kCounts > 1 ? 64 : alignof(std::uint32_t)) Count {
    std::atomic<std::uint32_t> calls{0};  // that use the object
  };
  // On a cache line of its own: threads that use different objects do not meet.
  struct alignas(64) Slot {
    std::atomic<std::uint32_t> generation{0};
    pid_t owner = 0;  // process that made the object
    T* object = nullptr;
    std::atomic<std::uint32_t> next_free{0};
    std::array<Count, kCounts> counts;
  };

 public:
  // `kind` is the word for such an object in texts.
  explicit constexpr HandleTable(const char* kind) noexcept : kind_(kind) {}

  // Errors: bad_alloc, also for more than 16 million handles.
  Handle* insert(std::unique_ptr<T> object) {
    const std::uint32_t index = take_slot();
    Slot& slot = at(index);
    slot.object = object.release();
    slot.owner = ::getpid();
    const std::uint32_t generation = slot.generation.load(std::memory_order_relaxed) + 1;
    slot.generation.store(generation, std::memory_order_release);
    return std::bit_cast<Handle*>(std::uint64_t{generation} << 32 | kTag << 24 | index);
  }

  enum class Sharing { many_threads, one_thread };

  // Uses the object while it lives. Errors: invalid_argument for what is no handle, and with one_thread while another call uses it; closed.
  class Use {
   public:
    Use(HandleTable& table, Handle* handle, Sharing sharing = Sharing::many_threads)
        : slot_(table.find(handle)), calls_(slot_.counts[place_of_thread()].calls), generation_(generation_of(handle)) {
      static_assert(kCounts == 1 || kCounts == detail::BigReaderLock::kSlots);
      const bool in_use = calls_.fetch_add(1, std::memory_order_seq_cst) != 0;
      try {
        table.require_alive(slot_.generation.load(std::memory_order_seq_cst), handle);
        if (sharing == Sharing::one_thread && in_use) [[unlikely]] {
          throw Error(Errc::invalid_argument, std::string("the ") + table.kind_ +
                                                  " is in use by another call; it belongs to one thread at a time");
        }
      } catch (...) {
        end();
        throw;
      }
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { end(); }

    T& operator*() const noexcept { return *slot_.object; }
    T* operator->() const noexcept { return slot_.object; }

   private:
    void end() noexcept {
      calls_.fetch_sub(1, std::memory_order_seq_cst);
      // Slots and their counts are never freed, so that this may be looked at although somebody has closed the handle meanwhile.
      if (slot_.generation.load(std::memory_order_seq_cst) != generation_) [[unlikely]]
        calls_.notify_all();
    }
    static std::size_t place_of_thread() noexcept {
      if constexpr (kCounts > 1) return detail::BigReaderLock::home_slot();
      return 0;
    }

    Slot& slot_;
    std::atomic<std::uint32_t>& calls_;
    const std::uint32_t generation_;
  };

  // Closes the handle, waits for the calls that use the object, and hands it over: null in a child of fork() that was made during such a call,
  // which never ends there. Errors: as Use.
  std::unique_ptr<T> remove(Handle* handle) {
    Slot& slot = find(handle);
    std::uint32_t generation = slot.generation.load(std::memory_order_relaxed);
    do {
      require_alive(generation, handle);
    } while (!slot.generation.compare_exchange_weak(generation, generation + 1, std::memory_order_seq_cst));
    for (Count& count : slot.counts) {
      while (const std::uint32_t calls = count.calls.load(std::memory_order_seq_cst)) {
        if (slot.owner != ::getpid()) return nullptr;
        count.calls.wait(calls, std::memory_order_seq_cst);
      }
    }
    std::unique_ptr<T> object(std::exchange(slot.object, nullptr));
    give_back(static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(handle) & kIndexMask));
    return object;
  }

 private:
  static_assert(sizeof(Handle*) == sizeof(std::uint64_t) && kTag >= 1 && kTag < 256);
  static constexpr std::uint64_t kIndexMask = (1u << 24) - 1;
  static constexpr std::uint32_t kFirstChunk = 64;  // slots; each chunk has twice as many as the one before
  static constexpr std::size_t kChunks = 18;        // 64 * (2^18 - 1) slots

  static std::uint32_t count_of(std::uint64_t state) noexcept { return static_cast<std::uint32_t>(state); }

  static std::uint32_t chunk_of(std::uint32_t index) noexcept {
    return static_cast<std::uint32_t>(std::bit_width(index / kFirstChunk + 1)) - 1;
  }
  bool exists(std::uint32_t index) const noexcept {
    return chunk_of(index) < kChunks && chunks_[chunk_of(index)].load(std::memory_order_acquire) != nullptr;
  }
  // Requires: it exists.
  Slot& at(std::uint32_t index) const noexcept {
    const std::uint32_t chunk = chunk_of(index);
    return chunks_[chunk].load(std::memory_order_acquire)[index - kFirstChunk * ((1u << chunk) - 1)];
  }

  Slot& find(Handle* handle) const {
    const auto number = std::bit_cast<std::uint64_t>(handle);
    const auto index = static_cast<std::uint32_t>(number & kIndexMask);
    if ((number >> 24 & 0xff) != kTag || (number >> 32 & 1) == 0 || !exists(index)) [[unlikely]] {
      throw_no_handle(handle);
    }
    return at(index);
  }

  static std::uint32_t generation_of(Handle* handle) noexcept {
    return static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(handle) >> 32);
  }
  void require_alive(std::uint32_t generation, Handle* handle) const {
    const std::uint32_t wanted = generation_of(handle);
    if (generation == wanted) [[likely]]
      return;
    if (wanted > generation) throw_no_handle(handle);
    throw Error(Errc::closed, std::string("the handle of the ") + kind_ + " was closed");
  }
  [[noreturn]] void throw_no_handle(Handle* handle) const {
    throw Error(Errc::invalid_argument, std::string("the handle of the ") + kind_ +
                                            (handle == nullptr ? " is NULL" : " is none: it was never given out"));
  }

  // The list of free slots: the index of the first, plus one, 0 for none; above it a number that changes with the list, since a slot may come
  // and go between a look and the exchange.
  std::uint32_t take_slot() {
    std::uint64_t head = free_.load(std::memory_order_acquire);
    while (count_of(head) != 0) {
      const std::uint32_t index = count_of(head) - 1;
      const std::uint64_t next = ((head >> 32) + 1) << 32 | at(index).next_free.load(std::memory_order_relaxed);
      if (free_.compare_exchange_weak(head, next, std::memory_order_acq_rel)) return index;
    }
    const std::uint32_t chunk_end = kFirstChunk * ((1u << kChunks) - 1);
    std::uint32_t index = used_.load(std::memory_order_relaxed);
    do {
      if (index >= chunk_end) throw std::bad_alloc();
      make_chunk_of(index);
    } while (!used_.compare_exchange_weak(index, index + 1, std::memory_order_relaxed));
    return index;
  }
  void give_back(std::uint32_t index) noexcept {
    std::uint64_t head = free_.load(std::memory_order_relaxed);
    std::uint64_t next = 0;
    do {
      at(index).next_free.store(count_of(head), std::memory_order_relaxed);
      next = ((head >> 32) + 1) << 32 | (index + 1);
    } while (!free_.compare_exchange_weak(head, next, std::memory_order_acq_rel));
  }
  void make_chunk_of(std::uint32_t index) {
    const std::uint32_t chunk = chunk_of(index);
    if (chunks_[chunk].load(std::memory_order_acquire) != nullptr) return;
    auto slots = std::make_unique<Slot[]>(std::size_t{kFirstChunk} << chunk);
    Slot* expected = nullptr;
    if (chunks_[chunk].compare_exchange_strong(expected, slots.get(), std::memory_order_acq_rel)) slots.release();
  }

  const char* const kind_;
  std::array<std::atomic<Slot*>, kChunks> chunks_{};
  std::atomic<std::uint64_t> free_{0};
  std::atomic<std::uint32_t> used_{0};  // slots that were ever taken
};

}  // namespace store::capi
