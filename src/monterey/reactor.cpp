#include <monterey/detail/frames.hpp>
#include <monterey/detail/reactor.hpp>
#include <monterey/preempt.hpp>
#include <store/base/assert.hpp>
#include <store/error.hpp>
#include <string>
#include <utility>

#include "monterey/core_group.hpp"
#include "monterey/io_backend.hpp"

namespace monterey::detail {

constinit thread_local CoreState core_state;

// Out of line, so that who parks needs no reactor.hpp.
void ReadyNode::wake() noexcept { Reactor::current().make_ready(*this); }

void ReadyNode::forget() noexcept {
  // A reactor that ends unqueues what is left in it, so a queued node has a living reactor: this core's.
  STORE_ASSERT(core_state.reactor != nullptr);
  const bool found = core_state.reactor->queue_of(*this).remove(*this);
  STORE_ASSERT(found);
}

ReadyNode& ReadyQueue::pop_at(std::size_t position) noexcept {
  STORE_ASSERT(position < size_);
  ReadyNode* node = first_;
  for (; position > 0; --position) node = node->next;
  remove(*node);
  return *node;
}

bool ReadyQueue::remove(ReadyNode& node) noexcept {
  ReadyNode* before = nullptr;
  for (ReadyNode* at = first_; at != nullptr; before = at, at = at->next == at ? nullptr : at->next) {
    if (at != &node) continue;
    const bool last = at->next == at;
    if (before == nullptr) {
      first_ = last ? nullptr : at->next;
    } else {
      before->next = last ? before : at->next;
    }
    if (last) last_ = before;
    at->next = nullptr;
    --size_;
    return true;
  }
  return false;
}

Reactor::Activation::Activation(Reactor& reactor, std::int32_t budget) noexcept : saved_(core_state) {
  core_state = CoreState{.reactor = &reactor, .budget_left = budget};
}

Reactor::Activation::~Activation() { core_state = saved_; }

Reactor::Reactor(IoBackend& backend, const ReactorOptions& options)
    : backend_(backend),
      guard_(options.guard),
      clock_(options.clock),
      perturbation_(options.perturbation),
      own_group_(options.group == nullptr ? std::make_unique<CoreGroup>(1) : nullptr),
      group_(options.group == nullptr ? own_group_.get() : options.group),
      core_(options.core),
      capabilities_(options.capabilities) {
  STORE_ASSERT(core_ < group_->cores());
  group_->attach(core_, backend);
  start_recycling_frames();
}

Reactor::~Reactor() {
  // Whoever was left waiting may be destroyed later.
  timers_.forget_all();
  while (!foreground_.empty()) foreground_.pop();
  while (!background_.empty()) background_.pop();
  stop_recycling_frames();
}

Reactor& Reactor::require_current(const char* caller) {
  if (core_state.reactor == nullptr) {
    throw store::Error(store::Errc::invalid_argument,
                       std::string(caller) + "() was called outside a core of a running Cluster");
  }
  return *core_state.reactor;
}

void Reactor::turn(Idle idle) {
  const Activation activation(*this);
  if (guard_ != nullptr) guard_->pass();
  if (!stopping_ && group_->stopping()) begin_stop();
  group_->deliver(core_);
  fire_timers();
  run_slice(foreground_, kForegroundSlice);
  run_background();
  core_state.task_class = TaskClass::foreground;
  group_->publish(core_);
  if (idle == Idle::wait && !has_ready() && !finished()) {
    // What another core published after deliver() has woken the backend: the wait then ends at once.
    backend_.turn(timers_.empty() ? TimePoint::max() : timers_.earliest());
    turns_since_poll_ = 0;
  } else if (backend_.in_flight() != 0 || ++turns_since_poll_ >= kPollTurns) {
    backend_.turn(std::nullopt);
    turns_since_poll_ = 0;
  }
}

void Reactor::run() {
  const Activation activation(*this);
  drop_hold();
  try {
    while (!finished()) turn(Idle::wait);
    // Files that were dropped close themselves behind the last task.
    while (backend_.in_flight() != 0) backend_.turn(TimePoint::max());
  } catch (...) {
    group_->record(std::current_exception());
    group_->abandon();
  }
  if (own_group_) own_group_->rethrow_first_error();
}

bool Reactor::finished() const noexcept { return group_->finished(); }

void Reactor::drop_hold() noexcept {
  if (std::exchange(holds_, false)) task_ended(TaskKind::user);
}

void Reactor::run_background() {
  if (background_.empty()) return;
  const TimePoint begin = now();
  if (!foreground_.empty() && begin < background_after_) return;
  backend_.submit_foreground();
  run_slice(background_, kBackgroundSlice);
  const TimePoint end = now();
  background_after_ = end + kForegroundShare * (end - begin);
}

void Reactor::run_slice(ReadyQueue& queue, const Slice& slice) {
  if (queue.empty()) return;
  slice_over_ = false;
  const TimePoint begin = looked_at_ = now();
  for (unsigned resumed = 1;; ++resumed) {
    ReadyNode& node = take_next(queue);
    // A perturbed run asks at every ready await, so its budget is always used up.
    core_state.budget_left = perturbation_ == nullptr ? kBudgetUnits : 0;
    core_state.task_class = node.task_class;
    node.handle.resume();
    if (queue.empty() || slice_over_ || resumed == slice.resumes) return;
    if (resumed % slice.resumes_a_look != 0) continue;
    looked_at_ = now();
    if (looked_at_ - begin >= slice.time || backend_.completions_pending()) return;
  }
}

// A perturbed run takes from either queue, whichever has its turn: every order of ready tasks is a possible one.
ReadyNode& Reactor::take_next(ReadyQueue& queue) noexcept {
  if (perturbation_ == nullptr) return queue.pop();
  const std::size_t chosen = perturbation_->choose(foreground_.size() + background_.size());
  if (chosen < foreground_.size()) return foreground_.pop_at(chosen);
  return background_.pop_at(chosen - foreground_.size());
}

bool budget_exhausted() noexcept {
  Reactor* reactor = core_state.reactor;
  if (reactor == nullptr) {
    core_state.budget_left = kBudgetUnits;
    return false;
  }
  return reactor->budget_used();
}

bool Reactor::budget_used() noexcept {
  if (perturbation_ != nullptr) {
    core_state.budget_left = 0;
    return perturbation_->suspend();
  }
  core_state.budget_left = kBudgetUnits;
  if (!backend_.completions_pending() && now() - looked_at_ < kTaskBudget) return false;
  slice_over_ = true;
  return true;
}

void Reactor::begin_stop() noexcept {
  stopping_ = true;
  while (ListHook* wait = abortable_.front()) {
    static_cast<WaitNode*>(static_cast<AbortHook*>(wait))->end(Wake::aborted);
  }
  while (!timers_.empty()) timers_.end_first(Wake::aborted);
}

void Reactor::fire_timers() noexcept {
  if (timers_.empty()) return;
  const TimePoint time = now();
  while (!timers_.empty() && timers_.earliest() <= time) timers_.end_first(Wake::granted);
}

void Reactor::request_shutdown() noexcept { group_->stop(); }

void Reactor::fail(std::exception_ptr error) noexcept {
  if (group_->stopping()) {
    try {
      std::rethrow_exception(error);
    } catch (const store::Error& thrown) {
      if (thrown.errc() == store::Errc::aborted) return;
    } catch (...) {
    }
  }
  group_->record(std::move(error));
  group_->stop();
}

void Reactor::task_started(TaskKind kind) noexcept {
  if (live_++ == 0) group_->add_live();
  if (kind == TaskKind::user && user_++ == 0) group_->add_user();
}

void Reactor::task_ended(TaskKind kind) noexcept {
  STORE_ASSERT(live_ > 0);
  // The user unit first: without one the group stops before it can look finished.
  if (kind == TaskKind::user && --user_ == 0) group_->drop_user();
  if (--live_ == 0) group_->drop_live();
}

void Reactor::send(unsigned to, CoreMessage& message) noexcept {
  STORE_ASSERT(to < group_->cores());
  if (to == core_) {
    message.from = core_;
    message.deliver(message);
  } else {
    group_->send(core_, to, message);
  }
}

void Reactor::post(CoreMessage& message) noexcept { group_->post(core_, message); }

}  // namespace monterey::detail

namespace monterey {

TimePoint now() noexcept {
  const detail::Reactor* reactor = detail::Reactor::try_current();
  return reactor != nullptr ? reactor->now() : std::chrono::steady_clock::now();
}

}  // namespace monterey
