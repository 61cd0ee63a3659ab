#include <monterey/spawn.hpp>
#include <store/base/assert.hpp>
#include <store/error.hpp>
#include <string>

#include "monterey/core_group.hpp"

namespace monterey::detail {

void RemoteCallBase::await_suspend(std::coroutine_handle<> caller) noexcept {
  node_.hold(caller);
  deliver = deliver_call;
  Reactor::current().send(to_, *this);
}

void RemoteCallBase::deliver_call(CoreMessage& message) noexcept {
  auto& call = static_cast<RemoteCallBase&>(message);
  call.caller_core_ = message.from;
  try {
    spawn_root(serve(&call), TaskKind::user);
  } catch (...) {
    // No memory for the frames.
    call.store_error(std::current_exception());
    call.reply();
  }
}

Task<> RemoteCallBase::serve(RemoteCallBase* call) {
  try {
    co_await call->body();
  } catch (...) {
    call->store_error(std::current_exception());
  }
  call->reply();
}

void RemoteCallBase::reply() noexcept {
  deliver = deliver_reply;
  Reactor::current().send(caller_core_, *this);
}

void RemoteCallBase::deliver_reply(CoreMessage& message) noexcept {
  auto& call = static_cast<RemoteCallBase&>(message);
  call.node_.wake();
}

void require_core(unsigned core) {
  const unsigned cores = Reactor::require_current("spawn_on").group().cores();
  if (core < cores) return;
  throw store::Error(store::Errc::invalid_argument, "spawn_on(): core " + std::to_string(core) + " of a cluster of " +
                                                        std::to_string(cores) + "; cores are numbered from 0");
}

}  // namespace monterey::detail
