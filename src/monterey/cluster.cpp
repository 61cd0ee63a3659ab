#include <monterey/cluster.hpp>

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <monterey/detail/reactor.hpp>
#include <monterey/fixed_bufs.hpp>
#include <mutex>
#include <optional>
#include <store/error.hpp>
#include <string>
#include <thread>
#include <vector>

#include "monterey/core_group.hpp"
#include "monterey/io_backend.hpp"

namespace monterey {
namespace {

// The CPUs this process may use.
std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// Binds the calling thread to one CPU while it lives, if the kernel lets it.
class Pinning {
 public:
  explicit Pinning(int cpu) noexcept {
    if (pthread_getaffinity_np(pthread_self(), sizeof before_, &before_) != 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pinned_ = pthread_setaffinity_np(pthread_self(), sizeof set, &set) == 0;
  }
  ~Pinning() {
    if (pinned_) pthread_setaffinity_np(pthread_self(), sizeof before_, &before_);
  }
  Pinning(const Pinning&) = delete;
  Pinning& operator=(const Pinning&) = delete;

 private:
  cpu_set_t before_{};
  bool pinned_ = false;
};

// Where the cores wait for each other; one that never comes is taken off the count.
class Rendezvous {
 public:
  explicit Rendezvous(unsigned expected) : expected_(expected) {}

  void arrive_and_wait() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    all_here_.notify_all();
    all_here_.wait(lock, [this] { return arrived_ >= expected_; });
  }
  void expect_fewer(unsigned by) {
    const std::lock_guard lock(mutex_);
    expected_ -= by;
    all_here_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  unsigned expected_;
  unsigned arrived_ = 0;
};

// What the threads of one run() share.
struct Run {
  Run(unsigned cores, BufferConfig buffer_config, Backend wanted, const std::function<void()>& init_fn)
      : group(cores), buffers(buffer_config), backend(wanted), init(init_fn), attached(cores), ended(cores) {}

  detail::CoreGroup group;
  BufferConfig buffers;
  Backend backend;
  const std::function<void()>& init;
  std::vector<int> cpus;  // one per core if they are to be pinned
  std::chrono::microseconds poll{0};
  detail::CommandRings commands = detail::CommandRings::none;
  detail::CoreGuard* guard = nullptr;
  std::atomic<bool> failed{false};
  Rendezvous attached;
  Rendezvous ended;

  void fail(std::exception_ptr error) noexcept {
    group.record(std::move(error));
    failed.store(true);
  }
};

// What FixedBufs::current() finds on this thread.
class ArenaScope {
 public:
  explicit ArenaScope(FixedBufs& arena) noexcept { FixedBufs::set_current(&arena); }
  ~ArenaScope() { FixedBufs::set_current(nullptr); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
};

// Linux 6.12 is known to count the segments of a transfer and not those up to the end of its registered buffer, 6.1 does not.
std::size_t chunk_bytes(detail::CommandRings commands) {
  const bool counts_transfers = commands == detail::CommandRings::none || linux_is_at_least(6, 12);
  return counts_transfers ? FixedBufs::kChunkBytes : FixedBufs::kCommandChunkBytes;
}

detail::CommandRings command_rings(bool device_commands, bool polled_commands) {
  if (polled_commands) return detail::CommandRings::waited_and_polled;
  return device_commands ? detail::CommandRings::waited : detail::CommandRings::none;
}

void run_core(Run& run, unsigned core) {
  std::optional<Pinning> pinning;
  if (!run.cpus.empty()) pinning.emplace(run.cpus[core]);

  std::optional<FixedBufs> arena;
  Capabilities capabilities;
  std::unique_ptr<detail::IoBackend> backend;
  std::optional<detail::Reactor> reactor;
  try {
    arena.emplace(run.buffers.bytes, chunk_bytes(run.commands));
    backend = detail::make_backend(run.backend, *arena, capabilities, run.commands);
    backend->poll_for(run.poll);
    backend->guard_by(run.guard);
    detail::ReactorOptions options;
    options.group = &run.group;
    options.core = core;
    options.capabilities = &capabilities;
    options.guard = run.guard;
    reactor.emplace(*backend, options);
  } catch (...) {
    run.fail(std::current_exception());
  }

  // No core starts before all can be woken, and none takes its backend away while another may wake it.
  run.attached.arrive_and_wait();
  if (!run.failed.load()) {
    const ArenaScope scope(*arena);
    const detail::Reactor::Activation activation(*reactor);
    try {
      if (run.init) run.init();
    } catch (...) {
      reactor->fail(std::current_exception());
    }
    reactor->run();
    if (run.guard != nullptr) run.guard->end();
  }
  run.ended.arrive_and_wait();
}

}  // namespace

void Cluster::Builder::run() {
  if (detail::Reactor::try_current() != nullptr) {
    throw store::Error(store::Errc::invalid_argument, "Cluster::run() was called on a core of a running Cluster");
  }
  const std::vector<int> cpus = allowed_cpus();
  const unsigned cores = cores_ != 0 ? cores_ : std::max<unsigned>(1, static_cast<unsigned>(cpus.size()));
  FixedBufs::require_memory(buffers_.bytes * cores);

  Run run(cores, buffers_, backend_, init_);
  if (pin_ && cores <= cpus.size()) run.cpus = cpus;
  if (cores <= cpus.size()) run.poll = poll_;
  run.commands = command_rings(device_commands_, polled_commands_);
  run.guard = guard_;

  std::vector<std::thread> threads;
  try {
    for (unsigned core = 1; core < cores; ++core) threads.emplace_back(run_core, std::ref(run), core);
  } catch (...) {
    run.fail(std::current_exception());
    const unsigned missing = cores - 1 - static_cast<unsigned>(threads.size());
    run.attached.expect_fewer(missing);
    run.ended.expect_fewer(missing);
  }
  run_core(run, 0);
  for (std::thread& thread : threads) thread.join();
  run.group.rethrow_first_error();
}

unsigned current_core() { return detail::Reactor::require_current("current_core").core(); }

unsigned core_count() { return detail::Reactor::require_current("core_count").group().cores(); }

CoreCounters core_counters() {
  detail::Reactor& reactor = detail::Reactor::require_current("core_counters");
  return reactor.group().counters(reactor.core());
}

void request_shutdown() { detail::Reactor::require_current("request_shutdown").request_shutdown(); }

bool shutdown_requested() { return detail::Reactor::require_current("shutdown_requested").stopping(); }

const Capabilities& capabilities() {
  const detail::Reactor& reactor = detail::Reactor::require_current("capabilities");
  if (reactor.capabilities() == nullptr) {
    throw store::Error(store::Errc::invalid_argument, "capabilities() was called outside a core of a running Cluster");
  }
  return *reactor.capabilities();
}

}  // namespace monterey
