// How a pin() waits for its page: an awaiter in the queue of the page's load. It joins the load that is under way, or makes
// one, which begins within await_suspend. Destroyed while queued it leaves the queue; a load that still waits for its frame and
// has nobody left to wait for it goes with it.
#pragma once

#include <coroutine>
#include <exception>
#include <utility>

#include <monterey/detail/wait_node.hpp>

#include "store/cache/cache_state.hpp"

namespace store::detail {

class LoadWait : public monterey::detail::WaitNode {
 public:
  LoadWait(CacheState& state, const PagePointer& pointer, monterey::IoClass io_class, Reuse reuse) noexcept
      : state_(state), pointer_(pointer), io_class_(io_class), reuse_(reuse) {}
  LoadWait(const LoadWait&) = delete;
  LoadWait& operator=(const LoadWait&) = delete;
  ~LoadWait() {
    if (!waiting()) return;
    cancel();
    if (load_->frame == kNoFrame && load_->waiters.empty()) state_.give_up(*load_);
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    load_ = state_.find_load(pointer_);
    const bool is_new = load_ == nullptr;
    if (is_new) load_ = &state_.make_load(pointer_, io_class_, reuse_);
    if (reuse_ == Reuse::likely) load_->reuse = Reuse::likely;
    // A load may end within begin(), so the waiter joins first. What a load waits for ends by itself, also at shutdown.
    suspend(load_->waiters, waiter, monterey::detail::Abortable::no);
    if (is_new) state_.begin(*load_);
    return true;
  }
  PageCache::Pin await_resume() {
    if (error_ != nullptr) std::rethrow_exception(std::move(error_));
    return std::move(pin_);
  }

  // Called by the load.
  void succeed(PageCache::Pin pin) noexcept {
    pin_ = std::move(pin);
    end(monterey::detail::Wake::granted);
  }
  void fail(const std::exception_ptr& error) noexcept {
    error_ = error;
    end(monterey::detail::Wake::granted);
  }

 private:
  CacheState& state_;
  const PagePointer pointer_;
  const monterey::IoClass io_class_;
  const Reuse reuse_;
  Load* load_ = nullptr;  // good while waiting()
  PageCache::Pin pin_;
  std::exception_ptr error_;
};

}  // namespace store::detail
