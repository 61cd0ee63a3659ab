// The thread that owns the ring of a blocking store, and the lock by which others take its place.
//
// Invariants:
//  * Whoever runs code of the engine holds lock_, and the reactor is its thread's: the owner thread always but while it sleeps, others as
//    `Inside`. So the engine sees one thread at a time, as on a core.
//  * Only the owner thread enters the ring and runs tasks. What an Inside makes ready wakes it.
#pragma once

#include <pthread.h>
#include <semaphore.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <monterey/cluster.hpp>
#include <monterey/detail/core_guard.hpp>
#include <monterey/detail/reactor.hpp>
#include <monterey/detail/result.hpp>
#include <monterey/spawn.hpp>
#include <monterey/sync.hpp>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

namespace store::detail {

// Mutual exclusion of threads that hold it for less than a microsecond: waits a while before it sleeps.
class ShortLock {
 public:
  ShortLock() noexcept = default;
  ShortLock(const ShortLock&) = delete;
  ShortLock& operator=(const ShortLock&) = delete;
  ~ShortLock() { pthread_mutex_destroy(&mutex_); }

  void lock() noexcept {
    if (pthread_mutex_trylock(&mutex_) == 0) return;
    waiting_.fetch_add(1, std::memory_order_relaxed);
    pthread_mutex_lock(&mutex_);
    waiting_.fetch_sub(1, std::memory_order_relaxed);
  }
  void unlock() noexcept { pthread_mutex_unlock(&mutex_); }
  // Lets those in who wait.
  void pass() noexcept;

 private:
  pthread_mutex_t mutex_ = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
  std::atomic<int> waiting_{0};
};

class OwnerThread final : private monterey::detail::CoreGuard {
 public:
  // Starts the thread, which runs a cluster of one core as `builder` says. Errors: those of Cluster::run().
  explicit OwnerThread(monterey::Cluster::Builder builder);
  OwnerThread(const OwnerThread&) = delete;
  OwnerThread& operator=(const OwnerThread&) = delete;
  // Ends it, when its tasks have ended. Not in a child of fork(), where there is no such thread.
  ~OwnerThread();

  // Errors: closed in a child of fork(); invalid_argument on the owner thread itself, which would wait for itself.
  void require_usable() const;
  // Whether this is a child of the process that started the thread.
  bool is_forked() const noexcept;

  // While it lives the calling thread is the core. What is done must not suspend. Requires: require_usable().
  class Inside {
   public:
    explicit Inside(OwnerThread& owner) noexcept : owner_(owner) {
      owner_.lock_.lock();
      activation_.emplace(*owner_.reactor_, kBudget);
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    ~Inside() {
      const bool wake = owner_.reactor_->has_ready();
      activation_.reset();
      owner_.lock_.unlock();
      if (wake) owner_.wake();
    }

   private:
    static constexpr std::int32_t kBudget = 1 << 30;  // nothing here yields

    OwnerThread& owner_;
    std::optional<monterey::detail::Reactor::Activation> activation_;
  };

  // Runs `fn() -> Task<T>` on the thread, and waits for its end. Errors: those of require_usable() and of the task.
  template <class Fn>
  auto run(Fn fn) -> typename std::invoke_result_t<Fn&>::value_type {
    using T = typename std::invoke_result_t<Fn&>::value_type;
    require_usable();
    Call<T, Fn> call(fn);
    post(call);
    call.wait();
    return call.take();
  }

 private:
  // A message to the core that lies in the frame of the thread that waits for it.
  class CallBase : public monterey::detail::CoreMessage {
   public:
    void wait() noexcept;

   protected:
    CallBase() noexcept {
      deliver = start;
      sem_init(&ended_, 0, 0);
    }
    ~CallBase() { sem_destroy(&ended_); }
    virtual monterey::Task<> body() = 0;
    virtual void store_error(std::exception_ptr error) noexcept = 0;

   private:
    static void start(CoreMessage& message) noexcept;
    static monterey::Task<> serve(CallBase* call);
    // The last thing that is done with it: the caller goes on, and with it the call.
    void end() noexcept { sem_post(&ended_); }

    sem_t ended_;  // may be destroyed as soon as a wait has returned, which std::atomic::notify_one() does not grant
  };

  template <class T, class Fn>
  class Call final : public CallBase {
   public:
    explicit Call(Fn& fn) noexcept : fn_(fn) {}
    T take() { return result_.take(); }

   private:
    monterey::Task<> body() override {
      if constexpr (std::is_void_v<T>) {
        co_await fn_();
      } else {
        result_.set_value(co_await fn_());
      }
    }
    void store_error(std::exception_ptr error) noexcept override { result_.set_error(std::move(error)); }

    Fn& fn_;
    monterey::detail::Result<T> result_;
  };

  void leave() noexcept override { lock_.unlock(); }
  void enter() noexcept override { lock_.lock(); }
  void pass() noexcept override { lock_.pass(); }

  void main(monterey::Cluster::Builder builder);
  monterey::Task<> stay();
  void post(CallBase& call) noexcept { reactor_->post(call); }
  void wake() noexcept;

  ShortLock lock_;
  monterey::detail::Reactor* reactor_ = nullptr;  // once started_
  std::atomic<std::uint32_t> started_{0};
  std::exception_ptr error_;  // why it could not start
  monterey::Event stop_;
  const std::uint64_t forks_;
  std::thread thread_;
};

}  // namespace store::detail
