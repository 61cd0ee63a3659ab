// Awaits one I/O operation. It is the operation's record and lies in the awaiting coroutine's frame, so that neither
// issuing nor completing allocates; it may be awaited again for a retry. Destroying it while the operation is in
// flight would let the kernel write into freed memory: that is asserted.
#pragma once

#include <coroutine>
#include <monterey/detail/reactor.hpp>

#include "monterey/io_backend.hpp"
#include "store/base/assert.hpp"

namespace monterey::detail {

class IoWait : public IoOp {
 public:
  IoWait() noexcept { complete = &IoWait::ended; }
  IoWait(const IoWait&) = delete;
  IoWait& operator=(const IoWait&) = delete;
  ~IoWait() { STORE_ASSERT(!in_flight_); }

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> caller) noexcept {
    node_.hold(caller);
    in_flight_ = true;
    Reactor::current().backend().queue(*this);
  }
  // Returns the system call's result or -errno.
  std::int64_t await_resume() const noexcept { return result; }

 private:
  static void ended(IoOp& op) noexcept {
    auto& self = static_cast<IoWait&>(op);
    self.in_flight_ = false;
    self.node_.wake();
  }

  ReadyNode node_;
  bool in_flight_ = false;
};

}  // namespace monterey::detail
