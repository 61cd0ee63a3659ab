// Threads that serve I/O operations by blocking system calls: the whole of the thread backend, and on a ring what an
// older kernel has no opcode for. Owned by a backend; started one by one as work queues up, joined by the destructor,
// which first lets them finish what was submitted. All members are for the owning core's thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "monterey/io_backend.hpp"
#include "monterey/waker.hpp"

namespace monterey::detail {

class IoWorkers {
 public:
  // `waker` is notified after every completion.
  IoWorkers(Waker& waker, std::size_t max_threads);
  ~IoWorkers();
  IoWorkers(const IoWorkers&) = delete;
  IoWorkers& operator=(const IoWorkers&) = delete;

  // Takes all of `batch`, in order. Where not even one thread can be started, carries it out itself.
  void submit(IoOpQueue batch);
  // Returns what has ended since the last call, oldest first, with the results set.
  IoOpQueue take_ended() noexcept;
  bool any_ended() const noexcept { return ended_.load(std::memory_order_relaxed) != nullptr; }

 private:
  void ensure_threads(std::size_t wanted);
  void work() noexcept;
  void carry_out(IoOp& op) noexcept;

  Waker& waker_;
  const std::size_t max_threads_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable work_came_;
  IoOpQueue queue_;                    // under mutex_
  std::size_t unfinished_ = 0;         // submitted and not ended, under mutex_
  bool stopping_ = false;              // under mutex_
  std::atomic<IoOp*> ended_{nullptr};  // a stack, newest first
};

}  // namespace monterey::detail
