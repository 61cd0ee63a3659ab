#include "store/blocking/owner_thread.hpp"

#include <sched.h>

#include <csignal>
#include <store/error.hpp>

#include "monterey/io_backend.hpp"

namespace store::detail {
namespace {

// How often this process has been forked from one that used stores.
std::atomic<std::uint64_t> forks{0};

std::uint64_t count_forks_from_now_on() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  if (registered != 0) throw Error::from_errno(registered, "pthread_atfork for a store");
  return forks.load(std::memory_order_relaxed);
}

// Signals are for the program's own threads.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

constexpr int kYields = 64;

}  // namespace

void ShortLock::pass() noexcept {
  if (waiting_.load(std::memory_order_relaxed) == 0) return;
  unlock();
  for (int i = 0; i < kYields && waiting_.load(std::memory_order_relaxed) > 0; ++i) sched_yield();
  lock();
}

OwnerThread::OwnerThread(monterey::Cluster::Builder builder) : forks_(count_forks_from_now_on()) {
  const SignalsBlocked blocked;  // the thread inherits it
  thread_ = std::thread([this, builder] { main(builder); });
  started_.wait(0, std::memory_order_acquire);
  if (reactor_ != nullptr) return;
  thread_.join();
  std::rethrow_exception(error_);
}

OwnerThread::~OwnerThread() {
  auto stop = [this]() -> monterey::Task<> {
    stop_.set();
    co_return;
  };
  Call<void, decltype(stop)> call(stop);
  post(call);
  call.wait();
  thread_.join();
}

void OwnerThread::main(monterey::Cluster::Builder builder) {
  lock_.lock();
  const auto start = [this] {
    reactor_ = &monterey::detail::Reactor::current();
    monterey::spawn(stay());
  };
  try {
    builder.cores(1).guard(this).init(start).run();
  } catch (...) {
    error_ = std::current_exception();
  }
  lock_.unlock();
  if (reactor_ != nullptr) return;
  started_.store(1, std::memory_order_release);
  started_.notify_all();
}

monterey::Task<> OwnerThread::stay() {
  started_.store(1, std::memory_order_release);
  started_.notify_all();
  co_await stop_.wait();
}

bool OwnerThread::is_forked() const noexcept { return forks.load(std::memory_order_relaxed) != forks_; }

void OwnerThread::require_usable() const {
  if (is_forked()) [[unlikely]] {
    throw Error(Errc::closed,
                "the store was opened before fork(), and belongs to the parent; open it again in the "
                "child, when the parent has closed it");
  }
  if (monterey::detail::Reactor::try_current() != nullptr) [[unlikely]] {
    throw Error(Errc::invalid_argument,
                "a blocking store was called on a core of a cluster, where nothing may block; "
                "use a Partition there, or another thread");
  }
}

void OwnerThread::wake() noexcept { reactor_->backend().wake(); }

void OwnerThread::CallBase::start(CoreMessage& message) noexcept {
  auto& call = static_cast<CallBase&>(message);
  try {
    monterey::spawn(serve(&call));
  } catch (...) {  // no memory for the frames
    call.store_error(std::current_exception());
    call.end();
  }
}

monterey::Task<> OwnerThread::CallBase::serve(CallBase* call) {
  try {
    co_await call->body();
  } catch (...) {
    call->store_error(std::current_exception());
  }
  call->end();
}

void OwnerThread::CallBase::wait() noexcept {
  while (sem_wait(&ended_) != 0) {  // interrupted by a signal
  }
}

}  // namespace store::detail
