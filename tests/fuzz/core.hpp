// Runs a task to its end on a core without kernel and clock, on the calling thread: cheap enough for every input. The
// device is memory, so nothing ever has to be waited for; a task that waits all the same ends the process.
#pragma once

#include <monterey/fixed_bufs.hpp>
#include <monterey/task.hpp>
#include <utility>

#include "unit/monterey/core_harness.hpp"

namespace store::fuzz {

inline constexpr std::size_t kArenaBytes = 4u << 20;

// What the task throws is thrown here.
inline void run_on_core(monterey::Task<> task) {
  static monterey::FixedBufs arena(kArenaBytes);
  monterey::FixedBufs::set_current(&arena);
  monterey::test::run_on_core(std::move(task));
  monterey::FixedBufs::set_current(nullptr);
}

}  // namespace store::fuzz
