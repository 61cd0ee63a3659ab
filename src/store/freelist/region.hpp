// The bitmaps of one region in memory. Three bits tell a block's state, by index in the region:
//
//   free  allocatable  fresh
//    1        1          0     free, and may be taken now
//    1        0          0     free in the generation being built, but held, reserved, or superseded by it
//    0        0          1     allocated in the commit in progress
//    0        0          0     reached by the durable generation, or beyond the high-water mark
//    1        0          1     allocated and superseded in the commit in progress
//
// Invariant: allocatable implies free and not fresh; the window counts and the total equal the allocatable bits. Pure
// memory, no I/O; FreeList decides.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "store/page/bitmap_page.hpp"

namespace store {

inline constexpr std::uint32_t kWindowBlocks = 256;  // 1 MiB: what one large write moves
inline constexpr std::uint32_t kRegionWindows = kRegionBlocks / kWindowBlocks;
static_assert(kRegionWindows * kWindowBlocks == kRegionBlocks);

class Region {
 public:
  // A run of blocks inside the region.
  struct Run {
    std::uint32_t first;
    std::uint32_t count;
  };

  // Nothing free.
  Region() = default;
  // As the bitmap page says; all that is free is allocatable.
  explicit Region(ConstBitmapWords free) noexcept;

  // Free blocks change hands. Each requires that every block of the run is in the state it starts from. Those that add allocatable
  // blocks leave longest() too low, until measure(), but for make_allocatable().
  void allocate(Run run) noexcept;          // allocatable -> fresh
  void reserve(Run run) noexcept;           // allocatable -> free only
  void make_allocatable(Run run) noexcept;  // free only -> allocatable
  void adopt(Run run) noexcept;             // free only -> fresh
  void unadopt(Run run) noexcept;           // fresh -> free only
  void give_back(Run run) noexcept;         // fresh -> allocatable
  void add_free(Run run) noexcept;          // taken -> allocatable: the high-water mark rises over them
  void remove_free(Run run) noexcept;       // allocatable -> taken: it falls
  void release(Run run) noexcept;           // taken or fresh -> free, not allocatable
  void unrelease(Run run) noexcept;         // the reverse
  // Every fresh block becomes allocatable (abort; returns how many), or simply taken (commit).
  std::uint32_t drop_fresh() noexcept;
  void keep_fresh() noexcept;

  bool any_free(Run run) const noexcept;
  bool all_fresh(Run run) const noexcept;

  ConstBitmapWords free_words() const noexcept { return free_; }
  std::uint32_t allocatable() const noexcept { return allocatable_count_; }
  std::uint32_t allocatable_in_window(std::uint32_t window) const noexcept { return window_counts_[window]; }
  std::uint32_t emptiest_window() const noexcept;
  // The window with the fewest allocatable blocks that has any. Requires: allocatable() > 0.
  std::uint32_t fullest_window() const noexcept;
  // The first run of allocatable blocks at or after `from` and before `end`, cut to `most`.
  std::optional<Run> next_run(std::uint32_t from, std::uint32_t end, std::uint32_t most) const noexcept;
  // The shortest run of at least `count` allocatable blocks. Sets longest() exactly when there is none.
  std::optional<Run> best_fit(std::uint32_t count) noexcept;
  // Allocatable blocks at the begin, and before `end`.
  std::uint32_t leading() const noexcept;
  std::uint32_t trailing(std::uint32_t end) const noexcept;

  // No run of allocatable blocks is longer.
  std::uint32_t longest() const noexcept { return longest_; }
  // Makes longest() exact, after blocks were added.
  void measure() noexcept;

  // For the owner: whether the commit in progress changed a bit, and blocks that are held or reserved.
  bool touched = false;
  std::uint32_t kept_blocks = 0;

 private:
  using Words = std::array<std::uint64_t, kBitmapWords>;

  void count_windows(Run run, int sign) noexcept;

  Words free_{};
  Words allocatable_{};
  Words fresh_{};
  std::array<std::uint16_t, kRegionWindows> window_counts_{};
  std::uint32_t allocatable_count_ = 0;
  std::uint32_t longest_ = 0;
};

}  // namespace store
