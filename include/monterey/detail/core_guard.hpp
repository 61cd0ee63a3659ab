// How other threads come to run on a core: while its own thread sleeps, or between two of its turns. For faces of the engine that are called
// from any thread.
#pragma once

namespace monterey::detail {

// Called by the core's thread, which holds what this guards but from leave() to enter().
class CoreGuard {
 public:
  CoreGuard() = default;
  CoreGuard(const CoreGuard&) = delete;
  CoreGuard& operator=(const CoreGuard&) = delete;

  // Before the thread sleeps, and when it has woken.
  virtual void leave() noexcept = 0;
  virtual void enter() noexcept = 0;
  // Between two turns: lets those in who wait.
  virtual void pass() noexcept = 0;
  // When its last turn is over, while it is still there: nothing may be posted to it from now on.
  virtual void end() noexcept = 0;

 protected:
  ~CoreGuard() = default;
};

}  // namespace monterey::detail
