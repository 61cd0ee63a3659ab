// The backend for kernels and containers without io_uring: every operation is a blocking system call on a worker
// thread.
#pragma once

#include "monterey/io_workers.hpp"

namespace monterey::detail {

class ThreadBackend final : public IoBackend {
 public:
  ThreadBackend();

  void queue(IoOp& op) noexcept override;
  void turn(std::optional<TimePoint> wait_until) override;
  bool completions_pending() const noexcept override { return workers_.any_ended(); }
  std::size_t in_flight() const noexcept override { return in_flight_ + held(); }
  void wake() noexcept override { waker_.wake(); }
  bool wake_from(IoBackend&) noexcept override {
    const bool slept = waker_.notify();
    if (slept) waker_.signal();
    return slept;
  }
  int register_file(int) noexcept override { return -1; }
  void unregister_file(int) noexcept override {}

 private:
  void submit();
  void sleep(TimePoint until);

  Waker waker_;
  IoWorkers workers_;
  IoOpQueue foreground_;
  IoOpQueue background_;
  std::size_t in_flight_ = 0;
};

}  // namespace monterey::detail
