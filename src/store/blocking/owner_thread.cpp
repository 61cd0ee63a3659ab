#include "store/blocking/owner_thread.hpp"

#include <csignal>
#include <store/error.hpp>
#include <system_error>

namespace store::detail {
namespace {

// Signals are for the program's own threads, but for those that a thread brings upon itself.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    sigfillset(&all);
    for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigdelset(&all, own);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

OwnerThread::OwnerThread(monterey::Cluster::Builder builder) {
  const SignalsBlocked blocked;  // the thread inherits it
  try {
    thread_ = std::thread([this, builder] { main(builder); });
  } catch (const std::system_error& error) {
    throw Error::from_errno(error.code().value(), "a store's thread cannot be started");
  }
  start_.wait(Start::pending, std::memory_order_acquire);
  if (start_.load(std::memory_order_acquire) == Start::running) return;
  thread_.join();
  std::rethrow_exception(error_);
}

OwnerThread::~OwnerThread() {
  lock_.lock();
  if (!ended_) {
    const monterey::detail::Reactor::Activation activation(*reactor_);
    stop_->set();
    reactor_->backend().wake();
  }
  lock_.unlock();
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
    if (reactor_ != nullptr) static_cast<void>(stop_.release());
  }
  ended_ = true;
  const std::exception_ptr why =
      error_ ? error_ : std::make_exception_ptr(Error(Errc::closed, "the store's thread has ended"));
  OwnerThread::end();
  lock_.unlock();
  while (calls_ != nullptr) {
    CallBase& call = *calls_;
    calls_ = call.behind_;
    call.store_error(why);
    call.end();
  }
  tell_start(Start::failed);
}

void OwnerThread::end() noexcept {
  const std::lock_guard lock(calls_mutex_);
  takes_calls_ = false;
}

void OwnerThread::tell_start(Start start) noexcept {
  Start pending = Start::pending;
  if (start_.compare_exchange_strong(pending, start, std::memory_order_release)) start_.notify_all();
}

monterey::Task<> OwnerThread::stay() {
  tell_start(Start::running);
  co_await stop_->wait();
}

void OwnerThread::require_not_forked() const {
  if (is_forked()) [[unlikely]] {
    throw Error(Errc::closed,
                "the store was opened before fork(), and belongs to the parent; use another process for "
                "it, one that is started by exec");
  }
}

void OwnerThread::require_usable() const {
  require_not_forked();
  if (monterey::detail::Reactor::try_current() != nullptr) [[unlikely]] {
    throw Error(Errc::invalid_argument,
                "a blocking store was called on a core of a cluster, where nothing may block; "
                "use a Partition there, or another thread");
  }
}

void OwnerThread::unlock_and_throw_ended() {
  lock_.unlock();
  throw_ended();
}

// Once it has ended nothing of it changes.
void OwnerThread::throw_ended() const {
  if (error_) std::rethrow_exception(error_);
  throw Error(Errc::closed, "the store's thread has ended");
}

void OwnerThread::post(CallBase& call) {
  {
    const std::lock_guard lock(calls_mutex_);
    if (takes_calls_) [[likely]] {
      call.owner_ = this;
      call.behind_ = calls_;
      if (calls_ != nullptr) calls_->before_ = &call;
      calls_ = &call;
      reactor_->post(call);
      return;
    }
  }
  lock_.lock();  // until it is known why
  unlock_and_throw_ended();
}

void OwnerThread::forget(CallBase& call) noexcept {
  const std::lock_guard lock(calls_mutex_);
  (call.before_ != nullptr ? call.before_->behind_ : calls_) = call.behind_;
  if (call.behind_ != nullptr) call.behind_->before_ = call.before_;
}

void OwnerThread::CallBase::start(CoreMessage& message) noexcept {
  auto& call = static_cast<CallBase&>(message);
  try {
    monterey::spawn(serve(call.owner_, &call));
  } catch (...) {  // no memory for the frames
    call.owner_->forget(call);
    call.store_error(std::current_exception());
    call.end();
  }
}

monterey::Task<> OwnerThread::CallBase::serve(OwnerThread* owner, CallBase* call) {
  try {
    co_await call->body();
  } catch (...) {
    call->store_error(std::current_exception());
  }
  owner->forget(*call);
  call->end();
}

}  // namespace store::detail
