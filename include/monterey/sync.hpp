// Primitives for tasks of one core: no atomics, no allocation while waiting. All queues are first in, first out, and
// nobody overtakes a waiter. A waiter may be destroyed while it is queued, or after it was granted and before it ran:
// what it was granted goes to the next one. A primitive must outlive its waiters, but for the memory of those that
// were already woken.
//
// close() ends all present and later waits with Errc::closed. request_shutdown() ends waits on events, semaphores and
// channels with Errc::aborted; what is there at once is still given. Locks and gates are not aborted: they end when
// their holders do.
#pragma once

#include <coroutine>
#include <cstddef>
#include <memory>
#include <monterey/detail/wait_node.hpp>
#include <monterey/preempt.hpp>
#include <monterey/when_all.hpp>
#include <optional>
#include <type_traits>
#include <utility>

namespace monterey {

// Counts units. A task that wants more units than are left waits, and so does everyone behind it.
class Semaphore {
 public:
  class [[nodiscard]] Acquire;
  class [[nodiscard]] Hold;
  // Units that go back when it is destroyed.
  class [[nodiscard]] Units {
   public:
    Units() noexcept = default;
    Units(Units&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), count_(other.count_) {}
    Units& operator=(Units&& other) noexcept {
      reset();
      owner_ = std::exchange(other.owner_, nullptr);
      count_ = other.count_;
      return *this;
    }
    ~Units() { reset(); }

    void reset() noexcept {
      if (owner_ != nullptr) std::exchange(owner_, nullptr)->release(count_);
    }
    std::size_t count() const noexcept { return owner_ == nullptr ? 0 : count_; }

   private:
    friend class Semaphore;
    Units(Semaphore& owner, std::size_t count) noexcept : owner_(&owner), count_(count) {}

    Semaphore* owner_ = nullptr;
    std::size_t count_ = 0;
  };

  explicit Semaphore(std::size_t units) noexcept : units_(units) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  // Takes `units`, which release() gives back. Errors: closed, aborted (nothing was taken). Suspends: until they are
  // there.
  Acquire acquire(std::size_t units = 1) noexcept;
  // Same, but the units go back with the returned Units.
  Hold hold(std::size_t units = 1) noexcept;
  // Takes `units` if they are there and nobody waits.
  bool try_acquire(std::size_t units = 1) noexcept {
    if (closed_ || units > units_ || !waiters_.empty()) return false;
    units_ -= units;
    return true;
  }
  void release(std::size_t units = 1) noexcept {
    units_ += units;
    if (!waiters_.empty()) grant();
  }
  void close() noexcept;

  std::size_t available() const noexcept { return units_; }
  std::size_t waiting() const noexcept { return waiters_.size(); }

 private:
  void grant() noexcept;

  std::size_t units_;
  bool closed_ = false;
  detail::WaitQueue waiters_;
};

class Semaphore::Acquire : private detail::WaitNode {
 public:
  Acquire(Semaphore& semaphore, std::size_t units) noexcept : semaphore_(semaphore), units_(units) {}
  ~Acquire() {
    if (wake_reason() == detail::Wake::granted) semaphore_.release(units_);
    if (waiting()) abandon();
  }

  bool await_ready() noexcept {
    if (semaphore_.try_acquire(units_)) return granted_at_once();
    if (!semaphore_.closed_) return false;
    set_wake(detail::Wake::closed);
    return true;
  }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(semaphore_.waiters_, waiter, detail::Abortable::yes);
  }
  void await_resume() { take_or_throw("semaphore"); }

 protected:
  friend class Semaphore;
  void abandon() noexcept;  // leaves the queue, in which smaller requests may have waited behind it

  Semaphore& semaphore_;
  std::size_t units_;
};

class Semaphore::Hold : public Semaphore::Acquire {
 public:
  using Acquire::Acquire;
  Units await_resume() {
    Acquire::await_resume();
    return Units(semaphore_, units_);
  }
};

inline Semaphore::Acquire Semaphore::acquire(std::size_t units) noexcept { return Acquire(*this, units); }
inline Semaphore::Hold Semaphore::hold(std::size_t units) noexcept { return Hold(*this, units); }

// A flag that tasks wait for. set() lets all waiters and all later ones through until reset().
class Event {
 public:
  class [[nodiscard]] Wait;

  Event() noexcept = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void set() noexcept;
  void reset() noexcept { set_ = false; }
  bool is_set() const noexcept { return set_; }
  // Lets those through that wait now, without setting the flag.
  void pulse() noexcept { detail::end_all(waiters_, detail::Wake::granted); }
  // Errors: closed, aborted. Suspends: until set() or pulse(). After it the flag may have been reset again.
  Wait wait() noexcept;
  void close() noexcept;

  std::size_t waiting() const noexcept { return waiters_.size(); }

 private:
  bool set_ = false;
  bool closed_ = false;
  detail::WaitQueue waiters_;
};

class Event::Wait : private detail::WaitNode {
 public:
  explicit Wait(Event& event) noexcept : event_(event) {}

  bool await_ready() noexcept {
    if (event_.closed_) {
      set_wake(detail::Wake::closed);
      return true;
    }
    return event_.set_ && granted_at_once();
  }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(event_.waiters_, waiter, detail::Abortable::yes);
  }
  void await_resume() { take_or_throw("event"); }

 private:
  Event& event_;
};

inline Event::Wait Event::wait() noexcept { return Wait(*this); }

// Mutual exclusion of tasks across their suspensions. unlock() hands the lock to the first waiter.
class Mutex {
 public:
  class [[nodiscard]] Lock;
  // The lock, given back when it is destroyed.
  class [[nodiscard]] Guard {
   public:
    Guard() noexcept = default;
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      unlock();
      mutex_ = std::exchange(other.mutex_, nullptr);
      return *this;
    }
    ~Guard() { unlock(); }

    void unlock() noexcept {
      if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->unlock();
    }
    explicit operator bool() const noexcept { return mutex_ != nullptr; }

   private:
    friend class Mutex;
    explicit Guard(Mutex& mutex) noexcept : mutex_(&mutex) {}
    Mutex* mutex_ = nullptr;
  };

  Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Awaits to a Guard. Errors: closed. Suspends: until it is this waiter's turn.
  Lock lock() noexcept;
  // An empty Guard if it is locked.
  Guard try_lock() noexcept {
    if (locked_ || closed_) return Guard();
    locked_ = true;
    return Guard(*this);
  }
  // Ends waits and later lock()s; who holds the lock keeps it.
  void close() noexcept;

  bool locked() const noexcept { return locked_; }
  std::size_t waiting() const noexcept { return waiters_.size(); }

 private:
  void unlock() noexcept;

  bool locked_ = false;  // stays set while the lock passes from holder to waiter
  bool closed_ = false;
  detail::WaitQueue waiters_;
};

class Mutex::Lock : private detail::WaitNode {
 public:
  explicit Lock(Mutex& mutex) noexcept : mutex_(mutex) {}
  ~Lock() {
    if (wake_reason() == detail::Wake::granted) mutex_.unlock();
  }

  bool await_ready() noexcept {
    if (mutex_.closed_) {
      set_wake(detail::Wake::closed);
      return true;
    }
    if (mutex_.locked_) return false;
    mutex_.locked_ = true;
    return granted_at_once();
  }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(mutex_.waiters_, waiter, detail::Abortable::no);
  }
  Guard await_resume() {
    take_or_throw("mutex");
    return Guard(mutex_);
  }

 private:
  Mutex& mutex_;
};

inline Mutex::Lock Mutex::lock() noexcept { return Lock(*this); }

// Counts operations in progress, so that what they use is freed only after the last: each holds the gate open while
// it runs, and close() refuses new ones and waits for those inside.
class Gate {
 public:
  class [[nodiscard]] Close;
  class [[nodiscard]] Holder {
   public:
    Holder() noexcept = default;
    Holder(Holder&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Holder& operator=(Holder&& other) noexcept {
      reset();
      gate_ = std::exchange(other.gate_, nullptr);
      return *this;
    }
    ~Holder() { reset(); }

    void reset() noexcept {
      if (gate_ != nullptr) std::exchange(gate_, nullptr)->leave();
    }

   private:
    friend class Gate;
    explicit Holder(Gate& gate) noexcept : gate_(&gate) {}
    Gate* gate_ = nullptr;
  };

  Gate() noexcept = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // Errors: closed.
  void enter();
  bool try_enter() noexcept {
    if (closed_) return false;
    ++inside_;
    return true;
  }
  // Requires: an enter() before it.
  void leave() noexcept {
    if (--inside_ == 0 && !waiters_.empty()) detail::end_all(waiters_, detail::Wake::granted);
  }
  // enter() that leaves when the Holder is destroyed. Errors: closed.
  Holder hold() {
    enter();
    return Holder(*this);
  }
  // Closes the gate at once, and awaits until nobody is inside. May be called again.
  Close close() noexcept;

  bool closed() const noexcept { return closed_; }
  std::size_t inside() const noexcept { return inside_; }

 private:
  std::size_t inside_ = 0;
  bool closed_ = false;
  detail::WaitQueue waiters_;
};

class Gate::Close : private detail::WaitNode {
 public:
  explicit Close(Gate& gate) noexcept : gate_(gate) { gate.closed_ = true; }

  bool await_ready() noexcept { return gate_.inside_ == 0 && granted_at_once(); }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(gate_.waiters_, waiter, detail::Abortable::no);
  }
  void await_resume() noexcept { static_cast<void>(take()); }

 private:
  Gate& gate_;
};

inline Gate::Close Gate::close() noexcept { return Close(*this); }

// A bounded queue of values between tasks of one core.
template <class T>
class Channel {
  static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

 public:
  class [[nodiscard]] Push;
  class [[nodiscard]] Pop;

  // Requires: capacity >= 1.
  explicit Channel(std::size_t capacity)
      : capacity_(capacity == 0 ? 1 : capacity), slots_(std::make_unique<std::optional<T>[]>(capacity_)) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Awaits to void. Errors: closed (the value is dropped), aborted. Suspends: while the channel is full.
  Push push(T value) noexcept { return Push(*this, std::move(value)); }
  // Awaits to std::optional<T>: empty once the channel is closed and drained. Errors: aborted. Suspends: while it is
  // empty.
  Pop pop() noexcept { return Pop(*this); }
  // Moves from `value` only if it returns true.
  bool try_push(T& value) noexcept {
    if (closed_ || size_ == capacity_) return false;  // pushers wait only while it is full, so none is overtaken
    append(std::move(value));
    return true;
  }
  bool try_push(T&& value) noexcept { return try_push(value); }
  std::optional<T> try_pop() noexcept {
    if (size_ == promised_) return std::nullopt;
    return take_first();
  }
  // Refuses values from now on; pushers that wait get Errc::closed, poppers what is left and then nothing.
  void close() noexcept {
    closed_ = true;
    detail::end_all(pushers_, detail::Wake::closed);
    if (size_ == promised_) detail::end_all(poppers_, detail::Wake::closed);
  }

  bool closed() const noexcept { return closed_; }
  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return capacity_; }
  std::size_t waiting_pushers() const noexcept { return pushers_.size(); }
  std::size_t waiting_poppers() const noexcept { return poppers_.size(); }

 private:
  void append(T&& value) noexcept {
    slots_[(first_ + size_) % capacity_].emplace(std::move(value));
    ++size_;
    promise_to_poppers();
  }
  // A woken popper is promised a value, which stays in the channel until it runs: one that is destroyed before loses
  // nothing.
  void promise_to_poppers() noexcept {
    while (promised_ < size_ && !poppers_.empty()) {
      ++promised_;
      poppers_.front()->end(detail::Wake::granted);
    }
  }
  std::optional<T> take_first() noexcept {
    std::optional<T> value(std::move(*slots_[first_]));
    slots_[first_].reset();
    first_ = (first_ + 1) % capacity_;
    --size_;
    if (!pushers_.empty()) {
      auto* pusher = static_cast<Push*>(pushers_.front());
      slots_[(first_ + size_) % capacity_].emplace(std::move(pusher->value_));
      ++size_;
      pusher->end(detail::Wake::granted);
      promise_to_poppers();
    }
    return value;
  }

  std::size_t capacity_;
  std::unique_ptr<std::optional<T>[]> slots_;  // a ring
  std::size_t first_ = 0;
  std::size_t size_ = 0;
  std::size_t promised_ = 0;  // values that woken poppers will take
  bool closed_ = false;
  detail::WaitQueue pushers_;
  detail::WaitQueue poppers_;
};

template <class T>
class Channel<T>::Push : private detail::WaitNode {
 public:
  Push(Channel& channel, T&& value) noexcept : channel_(channel), value_(std::move(value)) {}

  bool await_ready() noexcept {
    if (channel_.closed_) {
      set_wake(detail::Wake::closed);
      return true;
    }
    return channel_.try_push(value_) && granted_at_once();
  }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(channel_.pushers_, waiter, detail::Abortable::yes);
  }
  void await_resume() { take_or_throw("channel"); }

 private:
  friend class Channel;
  Channel& channel_;
  T value_;
};

template <class T>
class Channel<T>::Pop : private detail::WaitNode {
 public:
  explicit Pop(Channel& channel) noexcept : channel_(channel) {}
  ~Pop() {
    if (wake_reason() != detail::Wake::granted) return;
    --channel_.promised_;
    channel_.promise_to_poppers();
  }

  bool await_ready() noexcept {
    if (channel_.size_ != channel_.promised_) {
      ++channel_.promised_;
      return granted_at_once();
    }
    if (!channel_.closed_) return false;
    set_wake(detail::Wake::closed);
    return true;
  }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    return suspend(channel_.poppers_, waiter, detail::Abortable::yes);
  }
  std::optional<T> await_resume() {
    if (wake_reason() == detail::Wake::closed) return std::nullopt;
    take_or_throw("channel");
    --channel_.promised_;
    return channel_.take_first();
  }

 private:
  friend class Channel;
  Channel& channel_;
};

}  // namespace monterey
