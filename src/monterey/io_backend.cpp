#include "monterey/io_backend.hpp"

#include <sys/utsname.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <store/error.hpp>
#include <string>
#include <string_view>

#include "monterey/io_injection.hpp"
#include "monterey/thread_backend.hpp"
#include "monterey/uring_backend.hpp"

namespace monterey::detail {
namespace {

std::atomic<std::uint64_t> g_last_id{0};

}  // namespace

IoBackend::IoBackend() noexcept : id_(g_last_id.fetch_add(1, std::memory_order_relaxed) + 1) {}

void IoBackend::finish_injected(IoOp& op, std::int64_t result) noexcept { injection_->ended(op, result); }

void IoBackend::release_held() noexcept {
  if (injection_ != nullptr) [[unlikely]]
    injection_->release();
}

std::size_t IoBackend::held_by_injection() const noexcept { return injection_->held_.size(); }

IoRung rung_from_environment() {
  const char* text = std::getenv("STORE_IO");
  const std::string_view name = text == nullptr ? "" : text;
  if (name.empty() || name == "full") return IoRung::full;
  if (name == "nobufs") return IoRung::nobufs;
  if (name == "plain") return IoRung::plain;
  if (name == "threads") return IoRung::threads;
  throw store::Error(store::Errc::invalid_argument,
                     "STORE_IO is '" + std::string(name) + "'; it takes full, nobufs, plain or threads");
}

std::unique_ptr<IoBackend> make_backend(Backend wanted, FixedBufs& arena, Capabilities& out, CommandRings commands) {
  return make_backend(wanted, rung_from_environment(), arena, out, commands);
}

std::unique_ptr<IoBackend> make_backend(Backend wanted, IoRung highest, FixedBufs& arena, Capabilities& out,
                                        CommandRings commands) {
  std::string why;
  if (wanted == Backend::threads) {
    why = "io_uring: the program asked for threads";
  } else if (highest == IoRung::threads) {
    why = "io_uring: STORE_IO=threads";
  } else {
    try {
      return std::make_unique<UringBackend>(highest, arena, out, commands);
    } catch (const store::Error& error) {
      if (wanted == Backend::io_uring) {
        throw store::Error::from_errno(error.os_error(),
                                       "io_uring was asked for and cannot be used here (a seccomp filter, "
                                       "kernel.io_uring_disabled or an old kernel); use Backend::automatic or threads");
      }
      why = error.what();
    }
  }
  out = Capabilities{};
  out.backend = Backend::threads;
  out.reason = why;
  return std::make_unique<ThreadBackend>();
}

}  // namespace monterey::detail

namespace monterey {

bool linux_is_at_least(int major, int minor) {
  utsname system{};
  int major_now = 0;
  int minor_now = 0;
  if (::uname(&system) != 0 || std::sscanf(system.release, "%d.%d", &major_now, &minor_now) != 2) return false;
  return major_now > major || (major_now == major && minor_now >= minor);
}

}  // namespace monterey
