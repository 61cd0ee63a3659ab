// Two classes of tasks on a core. While foreground tasks are ready, background tasks (flush, compaction, backup, bulk load, check) get
// about a third of the core's time, in slices of one to two kTaskBudget; else they get all of it. Tasks that wait for I/O are not
// ready: where the foreground waits, the background works, a step or a slice between two looks at completions. So a point read beside
// a flush waits for one slice now and then, not for a step of each of the flush's many tasks.
//
// A task has the class of the task that started it (those of Cluster's init are foreground) and keeps it over every wait, whoever ends the wait.
#pragma once

#include <monterey/detail/ready.hpp>

namespace monterey {

// The running task's class.
inline TaskClass task_class() noexcept { return detail::core_state.task_class; }

// Gives the running task another class while the scope lasts; what is started meanwhile has it as well. It takes effect at the task's next
// suspension. For the frame of a coroutine: `const monterey::TaskClassScope scope(monterey::TaskClass::background);`.
class TaskClassScope {
 public:
  explicit TaskClassScope(TaskClass task_class) noexcept : before_(detail::core_state.task_class) {
    detail::core_state.task_class = task_class;
  }
  TaskClassScope(const TaskClassScope&) = delete;
  TaskClassScope& operator=(const TaskClassScope&) = delete;
  ~TaskClassScope() { detail::core_state.task_class = before_; }

 private:
  TaskClass before_;
};

}  // namespace monterey
