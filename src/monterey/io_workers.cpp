#include "monterey/io_workers.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace monterey::detail {
namespace {

std::int64_t call(const IoOp& op) noexcept {
  const auto offset = static_cast<off_t>(op.offset);
  const iovec one{.iov_base = op.data, .iov_len = op.length};
  const auto flags = static_cast<int>(op.flags);
  switch (op.opcode) {
    case IoOpcode::read:
    case IoOpcode::read_fixed: return ::preadv2(op.fd, &one, 1, offset, flags);
    case IoOpcode::write:
    case IoOpcode::write_fixed: return ::pwritev2(op.fd, &one, 1, offset, flags);
    case IoOpcode::readv:
      return ::preadv2(op.fd, static_cast<const iovec*>(op.data), static_cast<int>(op.length), offset, flags);
    case IoOpcode::writev:
      return ::pwritev2(op.fd, static_cast<const iovec*>(op.data), static_cast<int>(op.length), offset, flags);
    case IoOpcode::fdatasync: return ::fdatasync(op.fd);
    case IoOpcode::fsync: return ::fsync(op.fd);
    case IoOpcode::ftruncate: return ::ftruncate(op.fd, offset);
    case IoOpcode::fallocate: return ::fallocate(op.fd, flags, offset, static_cast<off_t>(op.bytes));
    case IoOpcode::command: errno = EOPNOTSUPP; return -1;  // File::command() refuses it before
    case IoOpcode::openat: return ::openat(AT_FDCWD, static_cast<const char*>(op.data), flags, op.length);
    case IoOpcode::close: return ::close(op.fd);
  }
  errno = EINVAL;
  return -1;
}

// Signals are for the program's own threads.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

IoWorkers::IoWorkers(Waker& waker, std::size_t max_threads) : waker_(waker), max_threads_(max_threads) {
  threads_.reserve(max_threads_);
}

IoWorkers::~IoWorkers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_came_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void IoWorkers::ensure_threads(std::size_t wanted) {
  if (threads_.size() >= std::min(wanted, max_threads_)) return;
  const SignalsBlocked blocked;  // inherited by the new threads
  while (threads_.size() < std::min(wanted, max_threads_)) {
    try {
      threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      return;  // fewer threads serve as well, only more slowly
    }
  }
}

void IoWorkers::submit(IoOpQueue batch) {
  if (batch.empty()) return;
  std::size_t count = 0;
  std::size_t unfinished = 0;
  for (const IoOp* op = &batch.front(); op != nullptr; op = op->next) ++count;
  {
    const std::lock_guard lock(mutex_);
    unfinished = unfinished_ += count;
    while (!threads_.empty() && !batch.empty()) queue_.push(batch.pop());
  }
  ensure_threads(unfinished);
  if (threads_.empty()) {
    while (!batch.empty()) carry_out(batch.pop());
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    while (!batch.empty()) queue_.push(batch.pop());
  }
  for (std::size_t i = 0; i < std::min(count, threads_.size()); ++i) work_came_.notify_one();
}

void IoWorkers::work() noexcept {
  std::unique_lock lock(mutex_);
  while (true) {
    work_came_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    IoOp& op = queue_.pop();
    lock.unlock();
    carry_out(op);
    lock.lock();
  }
}

void IoWorkers::carry_out(IoOp& op) noexcept {
  const std::int64_t result = call(op);
  op.result = result >= 0 ? result : -errno;
  {
    const std::lock_guard lock(mutex_);
    --unfinished_;
  }
  IoOp* head = ended_.load(std::memory_order_relaxed);
  do {
    op.next = head;
  } while (!ended_.compare_exchange_weak(head, &op, std::memory_order_release, std::memory_order_relaxed));
  waker_.wake();  // the operation itself may be gone by now
}

IoOpQueue IoWorkers::take_ended() noexcept {
  IoOp* newest = ended_.exchange(nullptr, std::memory_order_acquire);
  IoOp* oldest = nullptr;
  while (newest != nullptr) {
    IoOp* const next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  IoOpQueue ended;
  while (oldest != nullptr) {
    IoOp* const next = oldest->next;
    ended.push(*oldest);
    oldest = next;
  }
  return ended;
}

}  // namespace monterey::detail
