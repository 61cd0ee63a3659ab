// The loop of one core: ready queues, timers, messages from other cores, and one IoBackend::turn() per loop turn. A
// turn takes messages of other cores, fires timers, resumes ready coroutines for a bounded slice of each class
// (task_class.hpp), publishes its own messages (one wake per burst) and gives the backend its turn, waiting in it only when nothing is ready. While only
// ready tasks run and no I/O is outstanding no system call is made, but for a poll every kPollTurns.
//
// A Reactor is owned by its core's thread; but it needs no thread of its own: a test or a simulator makes one from
// any IoBackend, clock and Perturbation and calls turn(), with several cores one after the other. It must outlive its
// tasks; the runtime destroys no suspended frame.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <monterey/detail/ready.hpp>
#include <monterey/detail/wait_node.hpp>
#include <monterey/time.hpp>
#include <optional>
#include <vector>

namespace monterey {
struct Capabilities;
}

namespace monterey::detail {

class CoreGroup;
class CoreGuard;
class IoBackend;

// A source of time other than the steady clock.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() noexcept = 0;
};

// Seeded disturbance of the schedule, for tests and simulation: a run is a function of what it answers.
class Perturbation {
 public:
  virtual ~Perturbation() = default;
  // Returns which of `count` ready coroutines (oldest first, count >= 1) runs next.
  virtual std::size_t choose(std::size_t count) noexcept = 0;
  // Returns whether a ready await shall suspend. With a Perturbation this alone decides, not clock and completions.
  virtual bool suspend() noexcept = 0;
};

// A message between cores, owned by its sender until it is delivered; intrusive, so that sending allocates nothing.
struct CoreMessage {
  CoreMessage* next = nullptr;
  unsigned from = 0;
  void (*deliver)(CoreMessage&) noexcept = nullptr;  // called on the receiving core by its loop
};

enum class TaskKind : std::uint8_t {
  user,        // keeps run() going
  background,  // does not; its waits are aborted when the user tasks have ended
};

class ReadyQueue {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  std::size_t size() const noexcept { return size_; }
  void push(ReadyNode& node) noexcept {
    node.next = &node;  // the last one points to itself: a queued node's next is never null
    if (first_ == nullptr) {
      first_ = &node;
    } else {
      last_->next = &node;
    }
    last_ = &node;
    ++size_;
  }
  // Requires: not empty.
  ReadyNode& pop() noexcept {
    ReadyNode& node = *first_;
    first_ = node.next == &node ? nullptr : node.next;
    node.next = nullptr;
    --size_;
    return node;
  }
  // Removes the node at `position`. Cost: a walk. Requires: position < size().
  ReadyNode& pop_at(std::size_t position) noexcept;
  // Returns whether the node was there. Cost: a walk.
  bool remove(ReadyNode& node) noexcept;

 private:
  ReadyNode* first_ = nullptr;
  ReadyNode* last_ = nullptr;
  std::size_t size_ = 0;
};

// Sleeping tasks: a binary heap by time, then by order of arrival.
class TimerHeap {
 public:
  bool empty() const noexcept { return heap_.empty(); }
  TimePoint earliest() const noexcept { return heap_.front()->until_; }
  void insert(Sleep& sleep);
  void remove(Sleep& sleep) noexcept;
  // Takes all out without waking them.
  void forget_all() noexcept;
  // Wakes the earliest.
  void end_first(Wake wake) noexcept;

 private:
  static bool before(const Sleep& a, const Sleep& b) noexcept;
  void place(std::size_t index, Sleep& sleep) noexcept;
  void sift_up(std::size_t index) noexcept;
  void sift_down(std::size_t index) noexcept;

  std::vector<Sleep*> heap_;
  std::uint64_t next_order_ = 0;
};

struct ReactorOptions {
  Clock* clock = nullptr;  // the steady clock if null
  Perturbation* perturbation = nullptr;
  CoreGroup* group = nullptr;  // a group of one core if null
  unsigned core = 0;           // within the group
  const Capabilities* capabilities = nullptr;
  CoreGuard* guard = nullptr;
};

class Reactor {
 public:
  // Makes a reactor the calling thread's while the object lives; turn() and run() do so themselves.
  class Activation {
   public:
    // `budget`: what the tasks of this thread take before they look at the clock.
    explicit Activation(Reactor& reactor, std::int32_t budget = 0) noexcept;
    ~Activation();
    Activation(const Activation&) = delete;
    Activation& operator=(const Activation&) = delete;

   private:
    CoreState saved_;
  };

  enum class Idle : std::uint8_t { wait, return_at_once };

  Reactor(IoBackend& backend, const ReactorOptions& options = {});
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Requires: called on a core.
  static Reactor& current() noexcept { return *core_state.reactor; }
  // Null outside a core.
  static Reactor* try_current() noexcept { return core_state.reactor; }
  // Errors: invalid_argument outside a core; `caller` is named in the text.
  static Reactor& require_current(const char* caller);

  void make_ready(ReadyNode& node) noexcept { queue_of(node).push(node); }
  bool has_ready() const noexcept { return !foreground_.empty() || !background_.empty(); }
  // When the earliest timer is due; for whoever drives the turns of several reactors and their clock.
  std::optional<TimePoint> next_timer() const noexcept {
    return timers_.empty() ? std::nullopt : std::optional(timers_.earliest());
  }

  // One loop turn. With Idle::wait it ends by waiting in the backend if nothing is ready; the next turn then handles
  // what ended the wait.
  // Errors: those of IoBackend::turn().
  void turn(Idle idle);
  // Turns until the group has no user task left or shutdown was requested, and then until no task at all is left in
  // the group. Gives up the hold by which every new reactor keeps its group going. Errors, if it has its group for
  // itself: the first that no task handled.
  void run();
  // Whether run() would return: the group stops and has no task left.
  bool finished() const noexcept;
  // Gives up that hold, for who turns the reactor without run(). Requires: it is active.
  void drop_hold() noexcept;

  TimePoint now() const noexcept { return clock_ != nullptr ? clock_->now() : std::chrono::steady_clock::now(); }
  IoBackend& backend() noexcept { return backend_; }
  CoreGroup& group() noexcept { return *group_; }
  unsigned core() const noexcept { return core_; }
  const Capabilities* capabilities() const noexcept { return capabilities_; }

  // Asks all cores of the group to stop. Waits are aborted at the next turn of each.
  void request_shutdown() noexcept;
  // Whether this core has begun to stop: waits are aborted from now on.
  bool stopping() const noexcept { return stopping_; }
  // An error that no task handled: stops the group and is thrown by run(). Errc::aborted from a stopping core is no
  // error.
  void fail(std::exception_ptr error) noexcept;

  void task_started(TaskKind kind) noexcept;
  void task_ended(TaskKind kind) noexcept;
  std::size_t live_tasks() const noexcept { return live_; }

  // Sends `message` to a core of the group, which is woken at the end of this slice. Messages between two cores stay
  // in order.
  void send(unsigned to, CoreMessage& message) noexcept;
  // Same from any thread that is no core of the group; wakes at once. The reactor must still exist.
  void post(CoreMessage& message) noexcept;

  void add_timer(Sleep& sleep) { timers_.insert(sleep); }
  void remove_timer(Sleep& sleep) noexcept { timers_.remove(sleep); }
  void add_abortable(AbortHook& wait) noexcept { abortable_.push_back(wait); }

 private:
  friend class ReadyNode;
  friend bool budget_exhausted() noexcept;

  // How much of one class is resumed before anything else is looked at, and how often the clock is.
  struct Slice {
    unsigned resumes;
    unsigned resumes_a_look;
    std::chrono::microseconds time;
  };
  // A step of a background task costs as much as many of a foreground task, so each is followed by a look.
  static constexpr Slice kForegroundSlice{128, 8, std::chrono::microseconds(200)};
  static constexpr Slice kBackgroundSlice{128, 1, std::chrono::microseconds(100)};
  static constexpr int kForegroundShare = 2;  // of the time, to the background's 1
  static constexpr unsigned kPollTurns = 64;

  ReadyQueue& queue_of(const ReadyNode& node) noexcept {
    return node.task_class == TaskClass::foreground ? foreground_ : background_;
  }
  void run_slice(ReadyQueue& queue, const Slice& slice);
  void run_background();
  ReadyNode& take_next(ReadyQueue& queue) noexcept;
  void begin_stop() noexcept;
  void fire_timers() noexcept;
  bool budget_used() noexcept;

  IoBackend& backend_;
  CoreGuard* const guard_;
  Clock* clock_;
  Perturbation* perturbation_;
  std::unique_ptr<CoreGroup> own_group_;
  CoreGroup* group_;
  unsigned core_;
  const Capabilities* capabilities_;

  ReadyQueue foreground_;
  ReadyQueue background_;
  TimerHeap timers_;
  HookList abortable_;
  std::size_t live_ = 1;  // the hold
  std::size_t user_ = 1;
  bool holds_ = true;
  bool stopping_ = false;
  bool slice_over_ = false;
  unsigned turns_since_poll_ = 0;
  TimePoint background_after_{};  // foreground tasks that are ready have the time until then
  TimePoint looked_at_{};         // not after the running coroutine was resumed
};

}  // namespace monterey::detail
