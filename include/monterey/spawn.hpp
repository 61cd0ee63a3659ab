// Tasks that run by themselves. spawn() starts one on this core through the ready queue, so it never runs inside the
// caller; the handle may be awaited, or dropped: then the task is detached, and an error that escapes it ends the
// cluster and is thrown by run(). The frame of a spawned task belongs to the runtime until the task has ended: it may
// outlive whoever spawned it.
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <monterey/detail/reactor.hpp>
#include <monterey/task.hpp>
#include <type_traits>
#include <utility>

namespace monterey {

template <class T = void>
class JoinHandle;

namespace detail {

// The outermost frame of a spawned task; destroyed when the task has ended and no handle is left.
class RootPromiseBase {
 public:
  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* memory, std::size_t bytes) noexcept { free_frame(memory, bytes); }

  struct Final {
    RootPromiseBase* promise;
    bool destroy;
    bool await_ready() const noexcept {
      return destroy;
    }  // true: the coroutine runs off its end, which frees the frame
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }

  void start(std::coroutine_handle<> self, TaskKind kind) noexcept {
    kind_ = kind;
    Reactor::current().task_started(kind);
    node_.park(self);
  }
  bool ended() const noexcept { return ended_; }
  void park(std::coroutine_handle<> joiner) noexcept { node_.park(joiner); }
  void set_joiner(std::coroutine_handle<> joiner) noexcept {
    joiner_ = joiner;
    joiner_class_ = core_state.task_class;
  }
  void forget_joiner() noexcept {
    joiner_ = nullptr;
    if (ended_) node_.cancel();
  }
  void detach() noexcept { detached_ = true; }

 protected:
  // Returns whether nobody holds the frame any more.
  bool end() noexcept {
    ended_ = true;
    Reactor::current().task_ended(kind_);
    if (joiner_) {
      node_.handle = joiner_;
      node_.task_class = joiner_class_;
      node_.wake();
    }
    return detached_;
  }

 private:
  ReadyNode node_;  // for the start, then for the joiner
  std::coroutine_handle<> joiner_;
  TaskClass joiner_class_ = TaskClass::foreground;
  TaskKind kind_ = TaskKind::user;
  bool ended_ = false;
  bool detached_ = false;
};

template <class T>
struct Root {
  class promise_type final : public RootPromiseBase, public ResultPromise<T> {
   public:
    Root get_return_object() noexcept { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    Final final_suspend() noexcept {
      const bool destroy = end();
      if (destroy && this->result.has_error()) Reactor::current().fail(this->result.take_error());
      return {this, destroy};
    }
  };
  std::coroutine_handle<promise_type> coroutine;
};

template <class T>
Root<T> run_root(Task<T> task) {
  co_return co_await std::move(task);
}

template <class T>
JoinHandle<T> spawn_root(Task<T> task, TaskKind kind) {
  Reactor::require_current("spawn");
  auto coroutine = run_root<T>(std::move(task)).coroutine;
  coroutine.promise().start(coroutine, kind);
  return JoinHandle<T>(coroutine);
}

}  // namespace detail

// The result of a spawned task. Not [[nodiscard]]: dropping it detaches the task. An error that nobody took by then
// ends the cluster.
template <class T>
class JoinHandle {
  using Promise = typename detail::Root<T>::promise_type;

 public:
  class [[nodiscard]] Awaiter {
   public:
    explicit Awaiter(std::coroutine_handle<Promise> root) noexcept : root_(root) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    ~Awaiter() {
      if (waiting_) root_.promise().forget_joiner();
    }

    bool await_ready() const noexcept { return root_.promise().ended() && !consume_budget(); }
    void await_suspend(std::coroutine_handle<> joiner) noexcept {
      waiting_ = true;
      if (root_.promise().ended()) {
        root_.promise().park(joiner);
      } else {
        root_.promise().set_joiner(joiner);
      }
    }
    T await_resume() {
      waiting_ = false;
      return root_.promise().result.take();
    }

   private:
    std::coroutine_handle<Promise> root_;
    bool waiting_ = false;
  };

  JoinHandle() noexcept = default;
  JoinHandle(JoinHandle&& other) noexcept : root_(std::exchange(other.root_, nullptr)) {}
  JoinHandle& operator=(JoinHandle&& other) noexcept {
    JoinHandle dropped(std::move(other));
    std::swap(root_, dropped.root_);
    return *this;
  }
  ~JoinHandle() { detach(); }

  // Waits for the task; awaits to its value or throws its error. Once, and the handle must stay meanwhile. Not
  // aborted by shutdown.
  Awaiter operator co_await() noexcept { return Awaiter(root_); }

  // Whether the task has ended, so that awaiting does not wait. Requires: not empty.
  bool ended() const noexcept { return root_.promise().ended(); }
  explicit operator bool() const noexcept { return static_cast<bool>(root_); }

  // Lets the task go on by itself; the handle is empty afterwards.
  void detach() noexcept {
    if (!root_) return;
    Promise& promise = std::exchange(root_, nullptr).promise();
    if (!promise.ended()) {
      promise.detach();
      return;
    }
    if (promise.result.has_error()) report(promise.result.take_error());
    std::coroutine_handle<Promise>::from_promise(promise).destroy();
  }

 private:
  template <class U>
  friend JoinHandle<U> detail::spawn_root(Task<U>, detail::TaskKind);

  explicit JoinHandle(std::coroutine_handle<Promise> root) noexcept : root_(root) {}
  static void report(std::exception_ptr error) noexcept {
    // Null if it was taken, or if the handle outlived the cluster.
    if (error && detail::Reactor::try_current() != nullptr) detail::Reactor::current().fail(std::move(error));
  }

  std::coroutine_handle<Promise> root_;
};

// Starts `task` on this core, in the class of the task that calls. Errors: invalid_argument outside a core of a running Cluster.
template <class T>
JoinHandle<T> spawn(Task<T> task) {
  return detail::spawn_root(std::move(task), detail::TaskKind::user);
}

namespace detail {

// Starts a task that does not keep run() alive: when the last user task has ended its waits throw Errc::aborted, and
// run() returns when it has ended. For what the engine runs beside its users (flusher, log).
template <class T>
JoinHandle<T> spawn_background(Task<T> task) {
  return spawn_root(std::move(task), TaskKind::background);
}

// A call on its way to another core and back. Lives in the caller's frame, which stays suspended until the reply is
// delivered.
class RemoteCallBase : public CoreMessage {
 public:
  bool await_ready() const noexcept { return false; }
  // Out of line, and the last thing the caller does before it is suspended: the message is published by the loop
  // afterwards, so that no code of this frame runs beside the other core's.
  void await_suspend(std::coroutine_handle<> caller) noexcept;

 protected:
  explicit RemoteCallBase(unsigned to) noexcept : to_(to) {}
  ~RemoteCallBase() = default;
  virtual Task<> body() = 0;  // runs the call and stores its value; an error that escapes it is stored by serve()
  virtual void store_error(std::exception_ptr error) noexcept = 0;

 private:
  static Task<> serve(RemoteCallBase* call);
  // On the other core: starts the call as a task there, which replies when it has ended.
  static void deliver_call(CoreMessage& message) noexcept;
  static void deliver_reply(CoreMessage& message) noexcept;
  void reply() noexcept;

  unsigned to_;
  unsigned caller_core_ = 0;
  ReadyNode node_;
};

template <class T, class Fn>
class RemoteCall final : public RemoteCallBase {
 public:
  RemoteCall(unsigned to, Fn& fn) noexcept : RemoteCallBase(to), fn_(fn) {}
  T await_resume() { return result_.take(); }

 private:
  Task<> body() override {
    if constexpr (std::is_void_v<T>) {
      co_await fn_();
    } else {
      result_.set_value(co_await fn_());
    }
  }
  void store_error(std::exception_ptr error) noexcept override { result_.set_error(std::move(error)); }

  Fn& fn_;
  Result<T> result_;
};

template <class T, class Fn>
Task<T> send_call(unsigned core, Fn fn) {
  co_return co_await RemoteCall<T, Fn>(core, fn);
}

// Errors: invalid_argument if the cluster has no such core; `caller` is named in the text.
void require_core(unsigned core, const char* caller);

// Makes what this core has sent visible to the others now, not at the end of the slice: for who goes on working.
// Requires: who sent it is suspended.
void publish_messages() noexcept;

}  // namespace detail

// Runs `fn() -> Task<T>` on a core as a part of this task, and awaits to its result: one message there and one back, nothing if it is
// this core. What is said of spawn_on() holds, but that nothing runs beside. Errors: those of spawn_on() and of fn's task.
template <class Fn>
auto call_on(unsigned core, Fn fn) -> Task<typename std::invoke_result_t<Fn&>::value_type> {
  using T = typename std::invoke_result_t<Fn&>::value_type;
  detail::require_core(core, "call_on");
  if (core == detail::Reactor::current().core()) co_return co_await fn();
  co_return co_await detail::RemoteCall<T, Fn>(core, fn);
}

// Runs `fn() -> Task<T>` on another core (or this one) and brings its result back. It begins in the foreground on another core, on this one in the caller's class. `fn` is kept here until the task
// has ended, so a capturing lambda may be the coroutine; it is called there. Inside an await expression with g++ 12
// pass a closure that is trivially destructible, or a named one: it destroys other temporaries twice.
// Errors: invalid_argument if there is no such core; those of fn's task through the handle.
template <class Fn>
auto spawn_on(unsigned core, Fn fn) -> JoinHandle<typename std::invoke_result_t<Fn&>::value_type> {
  using T = typename std::invoke_result_t<Fn&>::value_type;
  detail::require_core(core, "spawn_on");
  return spawn(detail::send_call<T, Fn>(core, std::move(fn)));
}

}  // namespace monterey
