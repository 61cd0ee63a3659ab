#include <monterey/spawn.hpp>
#include <store/base/assert.hpp>
#include <store/error.hpp>
#include <string>

#include "monterey/core_group.hpp"
#include "monterey/io_backend.hpp"

namespace monterey::detail {

void RemoteCallBase::await_suspend(std::coroutine_handle<> caller) noexcept {
  node_.hold(caller);
  deliver = deliver_call;
  Reactor& here = Reactor::current();
  if (to_ != here.core()) here.backend().await_wakes(1);
  here.send(to_, *this);
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
  Reactor& here = Reactor::current();
  if (call.to_ != here.core()) here.backend().await_wakes(-1);
  call.node_.wake();
}

void require_core(unsigned core, const char* caller) {
  const unsigned cores = Reactor::require_current(caller).group().cores();
  if (core < cores) return;
  throw store::Error(store::Errc::invalid_argument, std::string(caller) + "(): core " + std::to_string(core) +
                                                        " of a cluster of " + std::to_string(cores) +
                                                        "; cores are numbered from 0");
}

void publish_messages() noexcept {
  Reactor& reactor = Reactor::current();
  reactor.group().publish(reactor.core());
}

}  // namespace monterey::detail
