// The boundary between the reactor and the kernel. A core has one IoBackend: the reactor calls turn() once per loop
// turn, on the core's thread; operations are intrusive records that their awaiters own. All members but wake() and wake_from() are
// for the core's thread. A backend must outlive every operation queued on it; its owner runs turn() until in_flight()
// is 0.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <monterey/capabilities.hpp>
#include <monterey/detail/core_guard.hpp>
#include <monterey/fixed_bufs.hpp>
#include <monterey/io_class.hpp>
#include <optional>
#include <utility>

namespace monterey::detail {

class IoInjection;
class Waker;

enum class IoOpcode : std::uint8_t {
  read,         // data, length bytes, offset, flags = RWF_* (as the three pairs below)
  write,        //
  readv,        // data = const iovec*, length = pieces
  writev,       //
  read_fixed,   // as read, within registered buffer buffer_index
  write_fixed,  //
  fdatasync,
  fsync,
  ftruncate,  // offset = new size
  fallocate,  // flags = mode, offset, bytes
  command,  // data = the driver's 80 bytes, length = its operation, buffer_index and flags = 1 for memory that is registered
  openat,  // data = path (zero-terminated), flags = open flags, length = mode; relative to the working directory
  close,
};

inline constexpr std::size_t kCommandBytes = 80;  // of a command in an entry of a ring

constexpr bool is_transfer(IoOpcode opcode) noexcept { return opcode <= IoOpcode::write_fixed; }

// Lives in the awaiter and stays put until complete() has been called.
struct IoOp {
  IoOp* next = nullptr;  // the backend's
  IoOpcode opcode = IoOpcode::read;
  IoClass io_class = IoClass::foreground;
  int fd = -1;
  int file_slot = -1;   // from IoBackend::register_file; -1: use fd
  bool polled = false;  // a command for the polled ring
  std::uint64_t offset = 0;
  void* data = nullptr;
  std::uint32_t length = 0;
  std::uint32_t buffer_index = 0;
  std::uint32_t flags = 0;
  std::uint64_t bytes =
      0;  // what it moves, for the background budget (every transfer sets it); the length of fallocate
  std::int64_t result = 0;  // as the system call's, or -errno
  void (*complete)(IoOp&) noexcept =
      nullptr;  // called on the owning core inside turn(); must not call into the backend but queue()
};

class IoBackend {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  IoBackend() noexcept;
  virtual ~IoBackend() = default;
  IoBackend(const IoBackend&) = delete;
  IoBackend& operator=(const IoBackend&) = delete;

  // Different for every backend that this process ever makes, so that what outlives one does not mistake the next for
  // it.
  std::uint64_t id() const noexcept { return id_; }

  // Queues `op` for the next turn(), or, beside others in flight, submits it with those that wait: a system call.
  // Never fails, waits for the device or allocates: what the ring cannot take waits in an intrusive backlog.
  virtual void queue(IoOp& op) noexcept = 0;
  // Submits the foreground operations that are queued, for who will not call turn() at once. A system call if there are any.
  virtual void submit_foreground() noexcept {}
  // Submits what is queued, all in one call a ring, and completes what has ended. While a polled command is in flight it asks for its end,
  // by a system call, and does not wait. Else: without `wait_until` it does not wait, and
  // makes no system call if nothing is queued and nothing has ended; with it, it waits for a completion, wake() or that
  // time (max(): no time). A wake() that came before makes it return at once, so nothing published before a wake() is
  // slept over.
  // Errors: io_error when the kernel refuses the ring altogether.
  virtual void turn(std::optional<TimePoint> wait_until) = 0;
  // Returns whether turn() would complete something. Cheap: for the preemption check.
  virtual bool completions_pending() const noexcept = 0;
  // Operations queued or issued and not completed.
  virtual std::size_t in_flight() const noexcept = 0;
  // Ends a wait in turn(), now or at its next call. Any thread. A system call only if the core sleeps.
  virtual void wake() noexcept = 0;
  // The same for a core of the cluster, whose backend is `by`, on its thread. Returns whether this core slept, if
  // the backend knows.
  virtual bool wake_from(IoBackend& /*by*/) noexcept {
    wake();
    return false;
  }
  // Ends the wait of the ring behind a descriptor, by a message from this one's; `waker` is the other core's, for when that fails. Returns
  // false if it cannot. A system call.
  virtual bool send_wake(int /*ring_fd*/, Waker& /*waker*/) noexcept { return false; }

  // How long a wait looks for completions itself before it sleeps, where the backend can; not at all unless told.
  void poll_for(std::chrono::microseconds time) noexcept {
    poll_time_ = std::min<decltype(time)>(time, std::chrono::hours(1));
  }

  // Says that other cores have sent something, so that more may come soon: the next wait looks for it before it sleeps, as for the end of
  // operations.
  void expect_wake() noexcept { expects_wake_ = true; }
  // Same for what others were asked for and will answer: `more` requests, fewer if negative.
  void await_wakes(std::ptrdiff_t more) noexcept { awaited_wakes_ += more; }

  // Who is told when the core's thread sleeps; nullptr (the default): nobody.
  void guard_by(CoreGuard* guard) noexcept { guard_ = guard; }

  // Enters an open descriptor into the ring's file table. Returns its slot, or -1 if there is no table or no room.
  virtual int register_file(int fd) noexcept = 0;
  // Requires: no operation on the slot is queued or issued.
  virtual void unregister_file(int slot) noexcept = 0;

  // Alters completions, for tests; nullptr (the default) costs one predicted branch a completion.
  void set_injection(IoInjection* injection) noexcept { injection_ = injection; }

 protected:
  // The end of an operation: every backend's only way to its complete().
  void finish(IoOp& op, std::int64_t result) noexcept {
    if (injection_ != nullptr) [[unlikely]] {
      finish_injected(op, result);
      return;
    }
    op.result = result;
    op.complete(op);
  }
  // Around a wait, during which nothing is touched but the kernel's side of things and the waker.
  class Sleep {
   public:
    explicit Sleep(IoBackend& backend) noexcept : guard_(backend.guard_) {
      if (guard_ != nullptr) guard_->leave();
    }
    ~Sleep() {
      if (guard_ != nullptr) guard_->enter();
    }
    Sleep(const Sleep&) = delete;
    Sleep& operator=(const Sleep&) = delete;

   private:
    CoreGuard* guard_;
  };
  std::chrono::microseconds poll_time() const noexcept { return poll_time_; }
  // Whether a wake is likely to come soon; forgets what expect_wake() said.
  bool take_expected_wake() noexcept { return std::exchange(expects_wake_, false) || awaited_wakes_ > 0; }
  // Completes what an injection holds back, at the end of a turn.
  void release_held() noexcept;
  std::size_t held() const noexcept { return injection_ == nullptr ? 0 : held_by_injection(); }

 private:
  void finish_injected(IoOp& op, std::int64_t result) noexcept;
  std::size_t held_by_injection() const noexcept;

  const std::uint64_t id_;
  std::chrono::microseconds poll_time_{0};
  CoreGuard* guard_ = nullptr;
  bool expects_wake_ = false;
  std::ptrdiff_t awaited_wakes_ = 0;
  IoInjection* injection_ = nullptr;
};

// Operations in the order they came, linked through IoOp::next.
class IoOpQueue {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  IoOp& front() const noexcept { return *head_; }
  void push(IoOp& op) noexcept {
    op.next = nullptr;
    (head_ == nullptr ? head_ : tail_->next) = &op;
    tail_ = &op;
  }
  IoOp& pop() noexcept {
    IoOp& op = *head_;
    head_ = op.next;
    return op;
  }

 private:
  IoOp* head_ = nullptr;
  IoOp* tail_ = nullptr;
};

// What background operations may still add to the current turn. One larger than the whole budget goes alone.
class BackgroundBudget {
 public:
  bool admits(const IoOp& op) const noexcept {
    return entries_ == 0 || (entries_ < kBackgroundEntriesPerTurn && bytes_ + op.bytes <= kBackgroundBytesPerTurn);
  }
  void charge(const IoOp& op) noexcept {
    ++entries_;
    bytes_ += op.bytes;
  }

 private:
  std::size_t entries_ = 0;
  std::uint64_t bytes_ = 0;
};

// How far down the ladder of features a backend starts; each rung leaves out one more.
enum class IoRung : std::uint8_t {
  full,     // everything
  nobufs,   // no registered buffers
  plain,    // nor SINGLE_ISSUER, DEFER_TASKRUN, registered files
  threads,  // no io_uring
};

// Returns the rung that the environment's STORE_IO (full, nobufs, plain, threads) asks for; full if it is not set.
// Errors: invalid_argument for another text.
IoRung rung_from_environment();

// Which rings for commands a core is to have.
enum class CommandRings : std::uint8_t { none, waited, waited_and_polled };

// Makes the backend of a core, and registers the arena with it. `out` says what is on and why the rest is off. The
// lower of `wanted` and STORE_IO (or `highest`) counts. Call it on the core's thread, which alone may drive the
// backend.
// Errors: io_error under Backend::io_uring where io_uring is refused, naming errno and what to do.
std::unique_ptr<IoBackend> make_backend(Backend wanted, FixedBufs& arena, Capabilities& out,
                                        CommandRings commands = CommandRings::none);
std::unique_ptr<IoBackend> make_backend(Backend wanted, IoRung highest, FixedBufs& arena, Capabilities& out,
                                        CommandRings commands = CommandRings::none);

}  // namespace monterey::detail
