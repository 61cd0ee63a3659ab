// The thread that owns the ring of a blocking store, and the lock by which others take its place.
//
// Invariants:
//  * Whoever runs code of the engine holds lock_, and the reactor is its thread's: the owner thread always but while it sleeps, others as
//    `Inside`. So the engine sees one thread at a time, as on a core; but for lookups that change nothing, several of which run at once, each
//    `Beside` the others.
//  * Only the owner thread enters the ring and runs tasks. What an Inside makes ready wakes it.
#pragma once

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
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "monterey/io_backend.hpp"
#include "store/blocking/big_reader_lock.hpp"
#include "store/blocking/fork_check.hpp"

namespace store::detail {

class OwnerThread final : private monterey::detail::CoreGuard {
 public:
  // Starts the thread, which runs a cluster of one core as `builder` says. Errors: those of Cluster::run().
  explicit OwnerThread(monterey::Cluster::Builder builder);
  OwnerThread(const OwnerThread&) = delete;
  OwnerThread& operator=(const OwnerThread&) = delete;
  // Ends it, when its tasks have ended. Not in a child of fork(), where there is no such thread.
  ~OwnerThread();

  // Errors: closed in a child of fork(); invalid_argument on a core of a cluster, this thread among them.
  void require_usable() const;
  void require_not_forked() const;
  // Whether the caller is the thread itself.
  bool is_here() const noexcept { return monterey::detail::Reactor::try_current() == reactor_; }
  // The same also when it has failed, and is about to end.
  bool is_own_thread() const noexcept { return std::this_thread::get_id() == thread_.get_id(); }
  // Whether this is a child of the process that started the thread.
  bool is_forked() const noexcept { return forks_.is_forked(); }

  // While it lives the calling thread is the core. What is done must not suspend. Requires: require_usable(). Errors: why the thread has
  // ended.
  class Inside {
   public:
    explicit Inside(OwnerThread& owner) : owner_(owner) {
      owner_.lock_.lock();
      enter();
    }
    // Unless it would have to wait for others.
    Inside(OwnerThread& owner, std::try_to_lock_t) : owner_(owner) {
      if (owner_.lock_.try_lock()) enter();
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    ~Inside() {
      if (!entered()) return;
      if (owner_.reactor_->has_ready()) owner_.reactor_->backend().wake();
      activation_.reset();
      owner_.lock_.unlock();
    }

    bool entered() const noexcept { return activation_.has_value(); }

   private:
    static constexpr std::int32_t kBudget = 1 << 30;  // nothing here yields

    void enter() {
      if (owner_.ended_) [[unlikely]]
        owner_.unlock_and_throw_ended();
      activation_.emplace(*owner_.reactor_, kBudget);
    }

    OwnerThread& owner_;
    std::optional<monterey::detail::Reactor::Activation> activation_;
  };

  // While it lives nobody is the core, and the calling thread may look at what it left. As for errors, see Inside.
  class Beside {
   public:
    explicit Beside(OwnerThread& owner) : owner_(owner), slot_(owner.lock_.lock_shared()) { require_core(); }
    // Unless it would have to wait for others.
    Beside(OwnerThread& owner, std::try_to_lock_t) : owner_(owner), slot_(owner.lock_.try_lock_shared()) {
      if (entered()) require_core();
    }
    Beside(const Beside&) = delete;
    Beside& operator=(const Beside&) = delete;
    ~Beside() {
      if (entered()) owner_.lock_.unlock_shared(slot_);
    }

    bool entered() const noexcept { return slot_ != BigReaderLock::kSlots; }
    // Below BigReaderLock::kSlots, and of no two at once.
    std::size_t slot() const noexcept { return slot_; }

   private:
    void require_core() const {
      if (!owner_.ended_) [[likely]]
        return;
      owner_.lock_.unlock_shared(slot_);
      owner_.throw_ended();
    }

    OwnerThread& owner_;
    const std::size_t slot_;
  };

  // A message to the core that says what to run there.
  class CallBase : public monterey::detail::CoreMessage {
   public:
    CallBase(const CallBase&) = delete;
    CallBase& operator=(const CallBase&) = delete;
    virtual ~CallBase() = default;

   protected:
    CallBase() noexcept { deliver = start; }
    virtual monterey::Task<> body() = 0;
    // Instead of the rest of body().
    virtual void store_error(std::exception_ptr error) noexcept = 0;
    // The last thing that is done with it, by the thread: afterwards it may be gone.
    virtual void end() noexcept = 0;

   private:
    friend class OwnerThread;
    static void start(CoreMessage& message) noexcept;
    static monterey::Task<> serve(OwnerThread* owner, CallBase* call);

    OwnerThread* owner_ = nullptr;
    // Of those that have not ended.
    CallBase* before_ = nullptr;
    CallBase* behind_ = nullptr;
  };
  // Does not wait for what the thread is doing. Requires: no child of fork(). Errors: why the thread has ended; then nothing is done with
  // the call.
  void post(CallBase& call);

  // Runs `fn() -> Task<T>` on the thread, and waits for its end. Errors: those of require_usable() and of the task; why the thread has ended.
  template <class Fn>
  auto run(Fn fn) -> typename std::invoke_result_t<Fn&>::value_type {
    require_usable();
    return run_anywhere(std::move(fn));
  }
  // Also for a core of another cluster, which then waits. Requires: !is_here(), no child of fork().
  template <class Fn>
  auto run_anywhere(Fn fn) -> typename std::invoke_result_t<Fn&>::value_type {
    using T = typename std::invoke_result_t<Fn&>::value_type;
    Call<T, Fn> call(fn);
    post(call);
    call.wait();
    return call.take();
  }

 private:
  // A call that lies in the frame of the thread that waits for it.
  template <class T, class Fn>
  class Call final : public CallBase {
   public:
    explicit Call(Fn& fn) noexcept : fn_(fn) { sem_init(&ended_, 0, 0); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call() override { sem_destroy(&ended_); }
    void wait() noexcept {
      while (sem_wait(&ended_) != 0) {  // interrupted by a signal
      }
    }
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
    void end() noexcept override { sem_post(&ended_); }

    Fn& fn_;
    monterey::detail::Result<T> result_;
    sem_t ended_;  // may be destroyed as soon as a wait has returned, which std::atomic::notify_one() does not grant
  };

  void leave() noexcept override { lock_.unlock(); }
  void enter() noexcept override { lock_.lock_as_owner(); }
  void pass() noexcept override { lock_.pass(); }
  void end() noexcept override;

  enum class Start : std::uint32_t { pending, running, failed };

  void main(monterey::Cluster::Builder builder);
  monterey::Task<> stay();
  void tell_start(Start start) noexcept;
  void forget(CallBase& call) noexcept;
  [[noreturn]] void unlock_and_throw_ended();
  [[noreturn]] void throw_ended() const;

  BigReaderLock lock_;
  // What follows is guarded by it.
  monterey::detail::Reactor* reactor_ = nullptr;
  bool ended_ = false;        // the cluster, by an error too
  std::exception_ptr error_;  // of it
  // Of stay(). A cluster that has failed leaves that task waiting for good, and the event with it.
  std::unique_ptr<monterey::Event> stop_ = std::make_unique<monterey::Event>();

  std::mutex calls_mutex_;  // held for some instructions, and to wake the thread
  // What follows is guarded by it.
  CallBase* calls_ = nullptr;  // that have not ended
  bool takes_calls_ = true;    // the reactor is there

  std::atomic<Start> start_{Start::pending};
  const ForkCheck forks_;
  std::thread thread_;
};

}  // namespace store::detail
