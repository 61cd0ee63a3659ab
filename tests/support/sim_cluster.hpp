// Cores without a kernel: reactors driven on the calling thread, one turn after the other, a virtual clock, a seeded schedule, and events (the
// completions of simulated devices) in a queue for each core, ordered by virtual time. A run is a function of its seed: two runs of one
// seed have the same trace.
//
// * Time passes only in the backend's turns: by a microsecond while tasks are ready, to the next event or timer when none
//   is. A core that waits for nothing at all throws; whoever waited is then lost, with what it holds.
// * With a perturbation, which ready task runs next and whether a ready await suspends are drawn from the seed.
// * Of several cores any that has something to do may have the next turn, drawn from the seed.
// * There are no files: whoever queues an IoOp aborts. The arenas, one a core, belong to the caller and are used by one run after
//   the other; mapping one costs more than a run.
#pragma once

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <monterey/detail/ready.hpp>
#include <monterey/fixed_bufs.hpp>
#include <monterey/task.hpp>
#include <monterey/time.hpp>
#include <span>
#include <vector>

#include "support/sim_random.hpp"

namespace monterey::detail {
class Reactor;
}

namespace store::test {

struct SimSchedule {
  std::uint64_t seed = 1;
  unsigned disorder_percent = 0;  // of resumptions that take another than the oldest ready task
  unsigned suspend_percent = 0;   // of ready awaits that suspend
  unsigned stall_percent =
      0;  // of turns before which some core stands still for a while, as a thread without a CPU does
};

class SimCluster {
 public:
  SimCluster(const SimSchedule& schedule, monterey::FixedBufs& arena);
  // As many cores as arenas.
  SimCluster(const SimSchedule& schedule, std::span<monterey::FixedBufs* const> arenas);
  SimCluster(const SimCluster&) = delete;
  SimCluster& operator=(const SimCluster&) = delete;
  ~SimCluster();

  // Runs a task on core 0, and whatever it leaves behind, to the end. Once. Errors: what escaped; std::logic_error at a deadlock.
  void run(monterey::Task<> task);

  std::chrono::nanoseconds now() const noexcept;
  // Awaits to the moment `delay` from now. Unlike a sleep it is not ended by a shutdown: it stands for I/O.
  class Delay;
  Delay delay(std::chrono::nanoseconds delay);

  // Adds to the trace.
  void note(std::uint64_t what) noexcept { trace_ = mix(trace_ ^ what); }
  std::uint64_t trace_hash() const noexcept { return trace_; }

 private:
  class Backend;
  struct Event {
    std::chrono::nanoseconds at;
    std::uint64_t order;
    Delay* delay;
  };

  void run_alone(monterey::Task<> task);
  void run_together(monterey::Task<> task);
  void pass_time(const std::vector<std::unique_ptr<monterey::detail::Reactor>>& reactors);
  std::vector<Event>& events_here();

  std::chrono::nanoseconds time_{0};
  std::vector<std::unique_ptr<Backend>> backends_;
  std::uint64_t next_order_ = 0;
  std::uint64_t trace_ = 0;
  std::unique_ptr<class SimPerturbation> perturbation_;
  SimSchedule schedule_;
  SimRandom turns_;
  std::vector<std::chrono::nanoseconds> stalled_until_;  // of each core
  std::vector<monterey::FixedBufs*> arenas_;
};

class [[nodiscard]] SimCluster::Delay {
 public:
  Delay(SimCluster& cluster, std::chrono::nanoseconds delay) : cluster_(cluster), delay_(delay) {}
  Delay(const Delay&) = delete;
  Delay& operator=(const Delay&) = delete;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter);
  void await_resume() const noexcept {}

 private:
  friend class SimCluster;
  SimCluster& cluster_;
  std::chrono::nanoseconds delay_;
  monterey::detail::ReadyNode node_;
  std::coroutine_handle<> waiter_;
};

inline SimCluster::Delay SimCluster::delay(std::chrono::nanoseconds delay) { return {*this, delay}; }

}  // namespace store::test
