#include "monterey/uring_backend.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <store/error.hpp>
#include <utility>

#include "store/base/assert.hpp"

namespace monterey::detail {
namespace {

constexpr unsigned kSubmissionEntries = 256;
constexpr unsigned kCompletionEntries = 2048;
constexpr unsigned kFewestEntries = 16;
constexpr unsigned kFileSlots = 64;
// With more foreground operations in flight one ends soon enough, and many end together.
constexpr std::size_t kMostPolled = 4;
constexpr unsigned kVainPolls = 16;
constexpr unsigned kWaitsBetweenPolls = 64;
constexpr unsigned kLooksPerClock = 16;

// Between two looks: leaves the CPU's units to the other thread of its core.
void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Foreground operations that wait go to the kernel before the turn ends once they are this part of those that are, or
// just were, in flight: where all of them end together the device would stand still until the last has had its turn.
constexpr std::size_t kEarlyShare = 8;
// What a wake through rings says, here and there.
alignas(8) constexpr char kRingWake = 0;
constexpr std::uint64_t kWakeTag = 1;  // beside the address of the waker of the core that is to be woken
// Of the completion entries: for the armed read and for wakes.
constexpr unsigned kKeptCompletions = 8;
// Newer than liburing 2.3: truncation came with Linux 6.9.
constexpr int kOpcodeFtruncate = 55;

void add_reason(Capabilities& out, const std::string& reason) {
  if (!out.reason.empty()) out.reason += "; ";
  out.reason += reason;
}

std::string error_text(int error) { return std::strerror(error); }

// Held while a ring is mapped or unmapped. A new ring may get the addresses of one that another thread gave back;
// liburing makes these system calls itself, so that without this order ThreadSanitizer takes the two for one.
std::mutex ring_mappings;

// Sets up `ring` with `flags`, with fewer entries when memory is short. Returns 0 or the errno.
int set_up(io_uring& ring, unsigned flags) {
  const std::lock_guard lock(ring_mappings);
  for (unsigned shrink = 1;; shrink *= 2) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CQSIZE;
    params.cq_entries = kCompletionEntries / shrink;
    const int result = io_uring_queue_init_params(kSubmissionEntries / shrink, &ring, &params);
    if (result != -ENOMEM || kSubmissionEntries / (shrink * 2) < kFewestEntries) return -result;
  }
}

// A seccomp filter may allow io_uring_setup and refuse io_uring_enter. Returns 0 or the errno.
int try_out(io_uring& ring) {
  io_uring_prep_nop(io_uring_get_sqe(&ring));
  const int submitted = io_uring_submit_and_wait(&ring, 1);
  if (submitted < 0) return -submitted;
  io_uring_cqe* cqe = nullptr;
  if (io_uring_peek_cqe(&ring, &cqe) != 0) return EIO;
  io_uring_cqe_seen(&ring, cqe);
  return 0;
}

// The first `count` parts of the arena are registered, then came `error`, if any.
struct RegisteredChunks {
  std::size_t count = 0;
  int error = 0;
};

RegisteredChunks register_chunks(io_uring& ring, const FixedBufs& arena) {
  const std::size_t chunks = std::min(arena.chunk_count(), FixedBufs::kMostChunks);
  int result = io_uring_register_buffers_sparse(&ring, static_cast<unsigned>(chunks));
  RegisteredChunks registered;
  for (; result >= 0 && registered.count < chunks; ++registered.count) {
    const std::span<std::byte> chunk = arena.chunk(registered.count);
    const iovec memory{.iov_base = chunk.data(), .iov_len = chunk.size()};
    result = io_uring_register_buffers_update_tag(&ring, static_cast<unsigned>(registered.count), &memory, nullptr, 1);
    if (result < 0) break;
  }
  registered.error = std::min(result, 0) * -1;
  return registered;
}

}  // namespace

UringBackend::Ring::~Ring() {
  if (!open) return;
  const std::lock_guard lock(ring_mappings);
  io_uring_queue_exit(this);
}

UringBackend::UringBackend(IoRung highest, FixedBufs& arena, Capabilities& out, CommandRings commands) {
  out = Capabilities{};
  out.backend = Backend::io_uring;
  set_up_ring(highest, out, commands != CommandRings::none);
  probe_operations(highest, out);
  register_file_table(highest, out);
  register_arena(highest, arena, out);
  if (commands == CommandRings::waited_and_polled) set_up_polled_ring(highest, arena, out);
}

UringBackend::~UringBackend() {
  // The armed read names a member of this object: end it before the memory goes.
  if (wake_armed_) waker_.signal();
  for (int tries = 0; wake_armed_ && tries < 100; ++tries) {
    __kernel_timespec timeout{.tv_sec = 0, .tv_nsec = 10'000'000};
    io_uring_cqe* cqe = nullptr;
    if (io_uring_wait_cqe_timeout(&ring_, &cqe, &timeout) != 0) continue;
    if (cqe->user_data == reinterpret_cast<std::uintptr_t>(&waker_)) wake_armed_ = false;
    io_uring_cqe_seen(&ring_, cqe);
  }
}

void UringBackend::set_up_ring(IoRung highest, Capabilities& out, bool large_entries) {
  struct Flavour {
    unsigned flags;
    const char* name;
  };
  static constexpr unsigned kDeferred = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  static constexpr Flavour kFlavours[] = {
      {kDeferred | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, "DEFER_TASKRUN"},  // Linux 6.1
      {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
       "SINGLE_ISSUER"},                                                                                  // 6.0
      {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, "COOP_TASKRUN"},  // 5.19
      {0, ""},
  };
  const std::size_t first = highest == IoRung::plain ? 2 : 0;
  if (first != 0) add_reason(out, "SINGLE_ISSUER and DEFER_TASKRUN: left out by STORE_IO=plain");
  int error = 0;
  for (std::size_t i = first; i < std::size(kFlavours); ++i) {
    error = EINVAL;
    if (large_entries) {
      error = set_up(ring_, kFlavours[i].flags | IORING_SETUP_SQE128 | IORING_SETUP_CQE32);
      out.device_commands = error == 0;
    }
    if (error == EINVAL || error == ENOMEM) error = set_up(ring_, kFlavours[i].flags);
    if (error == 0) {
      ring_.open = true;
      out.single_issuer = (kFlavours[i].flags & IORING_SETUP_SINGLE_ISSUER) != 0;
      out.defer_taskrun = (kFlavours[i].flags & IORING_SETUP_DEFER_TASKRUN) != 0;
      break;
    }
    if (error != EINVAL) break;  // refused altogether, not this flavour
    add_reason(out, std::string(kFlavours[i].name) + ": not known to this kernel");
  }
  if (error == 0) error = try_out(ring_);
  if (error == 0 && (ring_.features & IORING_FEAT_EXT_ARG) == 0)
    error = EOPNOTSUPP;  // waits with a timeout: Linux 5.11
  if (error != 0) throw store::Error::from_errno(error, "io_uring cannot be used");
  if (large_entries && !out.device_commands) add_reason(out, "device commands: not known to this kernel, or no memory");
  io_uring_register_ring_fd(&ring_);  // saves a look-up a call; refused, all works as well
}

void UringBackend::set_up_polled_ring(IoRung highest, const FixedBufs& arena, Capabilities& out) {
  if (!out.device_commands) return;
  if (highest == IoRung::plain) {
    add_reason(out, "polled commands: left out by STORE_IO=plain");
    return;
  }
  if (!linux_is_at_least(6, 12)) {
    add_reason(out, "polled commands: Linux 6.1 crashes on them, and none before 6.12 has been tried");
    return;
  }
  static constexpr unsigned kFlags = IORING_SETUP_IOPOLL | IORING_SETUP_SQE128 | IORING_SETUP_CQE32 |
                                     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL;
  if (const int error = set_up(polled_, kFlags); error != 0) {
    add_reason(out, "polled commands: refused: " + error_text(error));
    return;
  }
  polled_.open = true;
  io_uring_register_ring_fd(&polled_);
  out.polled_commands = true;
  if (!out.registered_buffers) return;
  const RegisteredChunks registered = register_chunks(polled_, arena);
  polled_buffers_ = registered.count == arena.chunk_count();
  if (polled_buffers_) return;
  io_uring_unregister_buffers(&polled_);  // all or nothing
  add_reason(out, "registered buffers of polled commands: refused: " + error_text(registered.error) +
                      " (each ring locks the memory again: ulimit -l)");
}

void UringBackend::probe_operations(IoRung highest, Capabilities& out) {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
  if (probe == nullptr) return;
  has_ftruncate_ = io_uring_opcode_supported(probe, kOpcodeFtruncate) != 0;
  has_messages_ = highest != IoRung::plain && io_uring_opcode_supported(probe, IORING_OP_MSG_RING) != 0;
  io_uring_free_probe(probe);
  out.ring_wakes = has_messages_;
  if (!has_messages_) add_reason(out, "wakes through rings: left out or not known to this kernel");
}

void UringBackend::register_file_table(IoRung highest, Capabilities& out) {
  if (highest == IoRung::plain) {
    add_reason(out, "registered files: left out by STORE_IO=plain");
    return;
  }
  const int result = io_uring_register_files_sparse(&ring_, kFileSlots);
  if (result != 0) {
    add_reason(out, "registered files: refused: " + error_text(-result));
    return;
  }
  out.registered_files = true;
  free_file_slots_ = ~std::uint64_t{0};
  static_assert(kFileSlots == 64);
}

void UringBackend::register_arena(IoRung highest, FixedBufs& arena, Capabilities& out) {
  if (highest != IoRung::full) {
    add_reason(out, "registered buffers: left out by STORE_IO");
    return;
  }
  if (arena.chunk_count() == 0) {
    add_reason(out, "registered buffers: there is no arena");
    return;
  }
  const RegisteredChunks registered = register_chunks(ring_, arena);
  for (std::size_t i = 0; i < registered.count; ++i) arena.set_registered(i, 1);
  out.registered_buffers = registered.count == arena.chunk_count();
  if (out.registered_buffers) return;
  std::string reason = "registered buffers: " + std::to_string(registered.count) + " of " +
                       std::to_string(arena.chunk_count()) + " parts of the arena (" +
                       std::to_string(arena.size_bytes()) + " bytes) registered, " +
                       (registered.error != 0 ? "then " + error_text(registered.error) : "no more can be");
  if (registered.error == ENOMEM) reason += " (raise the limit on lockable memory: ulimit -l, RLIMIT_MEMLOCK)";
  add_reason(out, reason);
}

int UringBackend::register_file(int fd) noexcept {
  if (free_file_slots_ == 0) return -1;
  const int slot = std::countr_zero(free_file_slots_);
  if (io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1) != 1) return -1;
  free_file_slots_ &= ~(std::uint64_t{1} << slot);
  return slot;
}

void UringBackend::unregister_file(int slot) noexcept {
  if (slot < 0) return;
  const int none = -1;
  // A slot that cannot be emptied is not used again.
  if (io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &none, 1) != 1) return;
  free_file_slots_ |= std::uint64_t{1} << slot;
}

void UringBackend::queue(IoOp& op) noexcept {
  ++in_flight_;
  if (op.io_class == IoClass::background) {
    background_.push(op);
    return;
  }
  foreground_.push(op);
  ++foreground_waiting_;
  const std::size_t depth = std::max(foreground_depth_, foreground_issued_);
  const bool beside_others = foreground_issued_ != 0 || foreground_depth_ > 1;
  if (beside_others && foreground_waiting_ >= depth / kEarlyShare) submit_foreground();
}

bool UringBackend::goes_to_ring(const IoOp& op) const noexcept {
  return op.opcode != IoOpcode::ftruncate || has_ftruncate_;
}

void UringBackend::submit_foreground() noexcept {
  if (foreground_.empty() || reaping_) return;
  // What waits behind an operation whose ring is full waits with it, whichever its own is: a full ring empties soon.
  for (; !foreground_.empty() && goes_to_ring(foreground_.front()) && room_for(foreground_.front());
       --foreground_waiting_) {
    push(foreground_.pop());
  }
  // What the kernel did not take stays in the ring; the turn's call meets the same refusal and reports it.
  if (io_uring_sq_ready(&ring_) != 0) io_uring_submit(&ring_);
  if (polled_.open && io_uring_sq_ready(&polled_) != 0) io_uring_submit(&polled_);
}

bool UringBackend::wake_from(IoBackend& by) noexcept {
  if (!waker_.notify()) return false;
  if (!by.send_wake(ring_.ring_fd, waker_)) waker_.signal();
  return true;
}

bool UringBackend::send_wake(int ring_fd, Waker& waker) noexcept {
  if (!has_messages_ || reaping_ || io_uring_sq_space_left(&ring_) <= 1) return false;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  io_uring_prep_msg_ring(sqe, ring_fd, 0, reinterpret_cast<std::uintptr_t>(&kRingWake), 0);
  static_assert(alignof(Waker) > kWakeTag && alignof(IoOp) > kWakeTag);
  io_uring_sqe_set_data64(sqe, reinterpret_cast<std::uintptr_t>(&waker) | kWakeTag);
  if ((ring_.features & IORING_FEAT_CQE_SKIP) != 0) io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
  // With all that waits in the ring. Refused for now, it stays there until the turn's call tries again, which may be late.
  io_uring_submit(&ring_);
  return io_uring_sq_ready(&ring_) == 0;
}

// One submission entry stays free for the armed read.
bool UringBackend::room_for(const IoOp& op) const noexcept {
  if (op.polled) return io_uring_sq_space_left(&polled_) > 0 && polled_issued_ < polled_.cq.ring_entries;
  return io_uring_sq_space_left(&ring_) > 1 && issued_ - polled_issued_ + kKeptCompletions < ring_.cq.ring_entries;
}

void UringBackend::push(IoOp& op) noexcept {
  io_uring_sqe* sqe = io_uring_get_sqe(op.polled ? &polled_ : &ring_);
  STORE_ASSERT(sqe != nullptr);
  const bool has_slot = op.file_slot >= 0 && !op.polled;
  const int fd = has_slot ? op.file_slot : op.fd;
  switch (op.opcode) {
    case IoOpcode::read: io_uring_prep_read(sqe, fd, op.data, op.length, op.offset); break;
    case IoOpcode::write: io_uring_prep_write(sqe, fd, op.data, op.length, op.offset); break;
    case IoOpcode::readv: io_uring_prep_readv(sqe, fd, static_cast<const iovec*>(op.data), op.length, op.offset); break;
    case IoOpcode::writev:
      io_uring_prep_writev(sqe, fd, static_cast<const iovec*>(op.data), op.length, op.offset);
      break;
    case IoOpcode::read_fixed:
      io_uring_prep_read_fixed(sqe, fd, op.data, op.length, op.offset, static_cast<int>(op.buffer_index));
      break;
    case IoOpcode::write_fixed:
      io_uring_prep_write_fixed(sqe, fd, op.data, op.length, op.offset, static_cast<int>(op.buffer_index));
      break;
    case IoOpcode::fdatasync: io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC); break;
    case IoOpcode::fsync: io_uring_prep_fsync(sqe, fd, 0); break;
    case IoOpcode::ftruncate: io_uring_prep_rw(kOpcodeFtruncate, sqe, fd, nullptr, 0, op.offset); break;
    case IoOpcode::fallocate:
      io_uring_prep_fallocate(sqe, fd, static_cast<int>(op.flags), static_cast<off_t>(op.offset),
                              static_cast<off_t>(op.bytes));
      break;
    case IoOpcode::command:
      io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, nullptr, 0, 0);
      sqe->cmd_op = op.length;
      sqe->uring_cmd_flags = op.polled && !polled_buffers_ ? 0 : op.flags;
      sqe->buf_index = static_cast<std::uint16_t>(op.buffer_index);
      std::memcpy(sqe->cmd, op.data, kCommandBytes);
      break;
    case IoOpcode::openat:
      io_uring_prep_openat(sqe, AT_FDCWD, static_cast<const char*>(op.data), static_cast<int>(op.flags), op.length);
      break;
    case IoOpcode::close: io_uring_prep_close(sqe, op.fd); break;
  }
  if (is_transfer(op.opcode)) sqe->rw_flags = static_cast<__kernel_rwf_t>(op.flags);
  if (has_slot) io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
  io_uring_sqe_set_data(sqe, &op);
  ++issued_;
  if (op.polled) ++polled_issued_;
  if (op.io_class == IoClass::foreground) ++foreground_issued_;
}

void UringBackend::issue(IoOp& op) {
  if (goes_to_ring(op)) {
    push(op);
    return;
  }
  if (!helper_) helper_ = std::make_unique<IoWorkers>(waker_, 1);
  IoOpQueue one;
  one.push(op);
  helper_->submit(one);
}

void UringBackend::fill_ring() {
  for (; !foreground_.empty() && room_for(foreground_.front()); --foreground_waiting_) issue(foreground_.pop());
  BackgroundBudget budget;
  while (!background_.empty() && room_for(background_.front()) && budget.admits(background_.front())) {
    budget.charge(background_.front());
    issue(background_.pop());
  }
}

void UringBackend::arm_wake_read() noexcept {
  if (wake_armed_) return;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return;
  io_uring_prep_read(sqe, waker_.fd(), &wake_value_, sizeof wake_value_, 0);
  io_uring_sqe_set_data(sqe, &waker_);
  wake_armed_ = true;
}

bool UringBackend::kernel_has_events() const noexcept {
  return (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

bool UringBackend::completions_pending() const noexcept {
  return io_uring_cq_ready(&ring_) != 0 || kernel_has_events() || (helper_ && helper_->any_ended()) ||
         (polled_issued_ != 0 && io_uring_cq_ready(&polled_) != 0);
}

// Interrupted, out of memory for now, too many completions not reaped: what was not taken stays in the ring for the
// next turn.
void check_entered(int result) {
  if (result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY) return;
  throw store::Error::from_errno(-result, "io_uring_enter");
}

void UringBackend::enter() {
  if (polled_issued_ != 0) check_entered(io_uring_submit_and_get_events(&polled_));
  if (io_uring_sq_ready(&ring_) == 0 && !kernel_has_events()) return;
  check_entered(io_uring_submit_and_get_events(&ring_));
}

// Looks for completions for a while: where few operations are in flight, falling asleep and being woken is a good part of what
// the device takes. After many vain tries in a row it tries seldom. Returns whether something has come.
bool UringBackend::poll(TimePoint until) {
  const bool wake_is_likely = take_expected_wake();
  if (poll_time().count() <= 0 || foreground_issued_ > kMostPolled) return false;
  if (foreground_issued_ == 0 && !wake_is_likely) return false;
  if (vain_polls_ >= kVainPolls && ++waits_since_poll_ < kWaitsBetweenPolls) return false;
  waits_since_poll_ = 0;
  if (io_uring_sq_ready(&ring_) != 0) check_entered(io_uring_submit(&ring_));
  const TimePoint end = std::min(until, std::chrono::steady_clock::now() + poll_time());
  for (unsigned looks = 1;; ++looks) {
    if (completions_pending()) {
      vain_polls_ = 0;
      enter();
      return true;
    }
    if (waker_.notified()) {  // prepare_sleep() takes the notification
      vain_polls_ = 0;
      return false;
    }
    relax();
    if (looks % kLooksPerClock == 0 && std::chrono::steady_clock::now() >= end) break;
  }
  if (end < until) ++vain_polls_;
  return false;
}

void UringBackend::enter_and_wait(TimePoint until) {
  if (poll(until)) return;
  __kernel_timespec timeout{};
  if (until != TimePoint::max()) {
    const auto left = (until - std::chrono::steady_clock::now()).count();
    if (left <= 0) return enter();
    timeout = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
  }
  if (!waker_.prepare_sleep()) return enter();
  arm_wake_read();
  io_uring_cqe* cqe = nullptr;
  const int result =
      io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, until == TimePoint::max() ? nullptr : &timeout, nullptr);
  waker_.awake();
  check_entered(result);
}

void UringBackend::reap(io_uring& ring) noexcept {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* cqe = nullptr;
  reaping_ = true;
  io_uring_for_each_cqe(&ring, head, cqe) {
    ++count;
    void* const data = io_uring_cqe_get_data(cqe);
    if (data == &waker_) {
      wake_armed_ = false;
      continue;
    }
    if (data == &kRingWake) continue;
    if ((cqe->user_data & kWakeTag) != 0) {
      // A wake that did not get there: its core sleeps, and takes itself for woken.
      if (cqe->res < 0) reinterpret_cast<Waker*>(cqe->user_data & ~kWakeTag)->signal();
      continue;
    }
    auto& op = *static_cast<IoOp*>(data);
    --issued_;
    if (op.polled) --polled_issued_;
    if (op.io_class == IoClass::foreground) --foreground_issued_;
    --in_flight_;
    finish(op, cqe->res);
  }
  io_uring_cq_advance(&ring, count);
  reaping_ = false;
}

void UringBackend::turn(std::optional<TimePoint> wait_until) {
  fill_ring();
  const bool more_to_submit = (!foreground_.empty() && room_for(foreground_.front())) ||
                              (!background_.empty() && room_for(background_.front()));
  // Who waits for a polled command asks for its end, and does not sleep.
  const bool may_sleep = !more_to_submit && polled_issued_ == 0;
  if (wait_until && may_sleep && held() == 0 && !completions_pending()) {
    const Sleep sleep(*this);
    enter_and_wait(*wait_until);
  } else {
    enter();
  }
  foreground_depth_ = foreground_issued_;
  if (polled_issued_ != 0) reap(polled_);
  reap(ring_);
  if (helper_) {
    IoOpQueue ended = helper_->take_ended();
    while (!ended.empty()) {
      IoOp& op = ended.pop();
      --in_flight_;
      finish(op, op.result);
    }
  }
  release_held();
}

}  // namespace monterey::detail
