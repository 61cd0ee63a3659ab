// The io_uring backend: one ring, driven by the thread that made it and by no other (requests of a thread that ends
// are cancelled by the kernel). All that is queued goes to the kernel in one call a turn, together with the wait if
// there is one; only beside foreground operations in flight a turn's go in several calls, an eighth of those in
// flight in each, so that the device does not run dry while the turn's tasks work (docs/decisions.md). With DEFER_TASKRUN or COOP_TASKRUN completions appear when the ring is entered for events; the kernel
// says in the ring's flags that some wait, so that a turn with nothing to submit and nothing ended enters not at all.
// Source: man io_uring_setup(2), io_uring_enter(2), liburing 2.3.
#pragma once

#include <liburing.h>

#include <memory>
#include <string>

#include "monterey/io_workers.hpp"

namespace monterey::detail {

class UringBackend final : public IoBackend {
 public:
  // Sets up the best ring at or below `highest` and registers `arena` with it; what is refused is left out and told
  // in `out`. For `commands` it is a ring of large entries, if the kernel has them, and
  // a second one is polled.
  // Errors: io_error when there is to be no ring at all.
  UringBackend(IoRung highest, FixedBufs& arena, Capabilities& out, CommandRings commands);
  ~UringBackend() override;

  void queue(IoOp& op) noexcept override;
  void submit_foreground() noexcept override;
  void turn(std::optional<TimePoint> wait_until) override;
  bool completions_pending() const noexcept override;
  std::size_t in_flight() const noexcept override { return in_flight_ + held(); }
  void wake() noexcept override { waker_.wake(); }
  bool wake_from(IoBackend& by) noexcept override;
  bool send_wake(int ring_fd, Waker& waker) noexcept override;
  int register_file(int fd) noexcept override;
  void unregister_file(int slot) noexcept override;

 private:
  // The ring's life time, apart so that a constructor that throws later gives it back.
  struct Ring : io_uring {
    Ring() noexcept : io_uring{} {}
    ~Ring();
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    bool open = false;
  };

  void set_up_ring(IoRung highest, Capabilities& out, bool large_entries);
  void set_up_polled_ring(IoRung highest, const FixedBufs& arena, Capabilities& out);
  void probe_operations(IoRung highest, Capabilities& out);
  void register_arena(IoRung highest, FixedBufs& arena, Capabilities& out);
  void register_file_table(IoRung highest, Capabilities& out);

  bool room_for(const IoOp& op) const noexcept;
  void fill_ring();
  bool goes_to_ring(const IoOp& op) const noexcept;
  void issue(IoOp& op);
  void push(IoOp& op) noexcept;
  void arm_wake_read() noexcept;
  void enter();
  void enter_and_wait(TimePoint until);
  bool poll(TimePoint until);
  void reap(io_uring& ring) noexcept;
  bool kernel_has_events() const noexcept;

  Waker waker_;
  Ring ring_;
  Ring polled_;                        // for commands whose ends nobody tells, if open
  std::unique_ptr<IoWorkers> helper_;  // for what the kernel has no opcode for; made when first needed
  IoOpQueue foreground_;
  IoOpQueue background_;
  std::size_t in_flight_ = 0;  // queued or issued, wherever
  // Given to a ring and not reaped; of each ring at most its completion entries, so that it cannot overflow.
  std::size_t issued_ = 0;
  std::size_t polled_issued_ = 0;       // of issued_, given to polled_
  std::size_t foreground_waiting_ = 0;  // in foreground_
  std::size_t foreground_issued_ = 0;   // of issued_
  std::size_t foreground_depth_ = 0;    // the same before the last look for completions
  unsigned vain_polls_ = 0;             // in a row
  unsigned waits_since_poll_ = 0;
  bool reaping_ = false;  // completions are seen whose places in the ring are not given back: nothing is submitted
  bool polled_buffers_ = false;  // the arena is registered with polled_ as with ring_
  bool has_ftruncate_ = false;
  bool has_messages_ = false;  // between rings
  bool wake_armed_ = false;
  std::uint64_t wake_value_ = 0;       // what the armed read fills
  std::uint64_t free_file_slots_ = 0;  // a bit per slot
};

}  // namespace monterey::detail
