// A Cluster runs one thread per core, each with its own reactor, ring and buffer arena; core 0 is the calling thread.
// What runs on it are tasks: init() spawns the first ones on every core.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <monterey/capabilities.hpp>
#include <utility>

namespace monterey {

namespace detail {
class CoreGuard;
}

// What a core's buffer arena must hold; `+` adds the needs of several users.
struct BufferConfig {
  std::size_t bytes = 0;

  friend constexpr BufferConfig operator+(BufferConfig a, BufferConfig b) noexcept { return {a.bytes + b.bytes}; }
  constexpr BufferConfig& operator+=(BufferConfig other) noexcept {
    bytes += other.bytes;
    return *this;
  }
};

class Cluster {
 public:
  class Builder {
   public:
    // How many cores; 0 (the default is 1) means one per CPU this process may use.
    Builder& cores(unsigned count) noexcept {
      cores_ = count;
      return *this;
    }
    // The buffer arena of each core.
    Builder& buffers(BufferConfig config) noexcept {
      buffers_ = config;
      return *this;
    }
    Builder& backend(Backend backend) noexcept {
      backend_ = backend;
      return *this;
    }
    // Binds each core's thread to a CPU of its own. Refused (more cores than CPUs, or by the kernel), the threads
    // stay unbound.
    Builder& pin(bool on) noexcept {
      pin_ = on;
      return *this;
    }
    // How long a core that waits for at most 4 foreground operations looks for their end itself before it sleeps; 0: not at all. Saves
    // falling asleep and being woken, a third of the time of a read on many a fast disk, for a CPU that is busy meanwhile. Where waits
    // turn out to be longer it is done seldom, and with more cores than CPUs never; a quota of CPU time is not seen. No effect without io_uring.
    Builder& poll(std::chrono::microseconds time) noexcept {
      poll_ = time;
      return *this;
    }
    // Makes rings for File::command(), with entries of twice the size (SQE128 and CQE32, Linux 5.19), and registers the arena in
    // parts that such commands can take. Refused, capabilities() says why and all else works.
    Builder& device_commands(bool on) noexcept {
      device_commands_ = on;
      return *this;
    }
    // Also makes rings whose commands end without an interrupt (IOPOLL), for DeviceCommand::polled: while one is in flight the core
    // never sleeps and asks the device at every turn. Needs a driver with queues for it (nvme.poll_queues). Refused before Linux 6.12:
    // 6.1 is known to crash (capabilities() says so); all else works then.
    Builder& polled_commands(bool on) noexcept {
      polled_commands_ = on;
      return *this;
    }
    // What guards the core of a cluster that has one: see detail/core_guard.hpp. It must outlive run().
    Builder& guard(detail::CoreGuard* guard) noexcept {
      guard_ = guard;
      return *this;
    }
    // Called once on every core before its loop starts, on all at the same time: what it captures is shared by all
    // cores.
    Builder& init(std::function<void()> fn) {
      init_ = std::move(fn);
      return *this;
    }

    // Runs the cluster on this thread and cores - 1 others. Returns, on all cores together, when no user task is left
    // anywhere or after request_shutdown(), once every task has ended. Throws the first error that no task handled,
    // or why the cluster could not start: invalid_argument (no memory for the arenas, called on a core), io_error
    // (Backend::io_uring where it is refused).
    void run();

   private:
    unsigned cores_ = 1;
    BufferConfig buffers_;
    Backend backend_ = Backend::automatic;
    bool pin_ = false;
    bool device_commands_ = false;
    bool polled_commands_ = false;
    std::chrono::microseconds poll_{200};
    detail::CoreGuard* guard_ = nullptr;
    std::function<void()> init_;
  };

  static Builder builder() noexcept { return Builder(); }
};

// The calling core's number, from 0, and how many there are. Errors: invalid_argument outside a core.
unsigned current_core();
unsigned core_count();

// What the calling core has done for others since the cluster began.
struct CoreCounters {
  std::uint64_t messages = 0;  // sent to other cores
  std::uint64_t wakes = 0;     // of cores that slept, by a system call or an entry in this core's ring
};
// Errors: invalid_argument outside a core.
CoreCounters core_counters();

// Ends the cluster: on every core, waits on timers, events, semaphores and channels throw Errc::aborted from its next
// turn on; operations on files complete. An `aborted` that then escapes a task is no error of run(). A task that
// never waits must ask shutdown_requested().
// Errors: invalid_argument outside a core.
void request_shutdown();
// Whether this core is stopping. Errors: invalid_argument outside a core.
bool shutdown_requested();

}  // namespace monterey
