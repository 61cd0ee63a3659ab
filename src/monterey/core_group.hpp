// What the cores of a cluster share: the message queues between them, whether the cluster is to stop, how much is
// still alive, and the first error that no task handled. Owned by the Cluster, or by a Reactor that is alone; it
// outlives the reactors. This is the only state of the runtime that several threads touch.
//
// Ending: every core holds one unit of `user` while it has user tasks and one of `live` while it has any. A call to
// another core counts as a task of the caller until its reply is there, so the units cannot be gone while work is on
// its way. No user unit left: the group stops, and background tasks are aborted. Stopping and no live unit left:
// every core leaves its loop.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <monterey/cluster.hpp>
#include <monterey/detail/reactor.hpp>
#include <mutex>
#include <vector>

namespace monterey::detail {

// Messages from one core to another: a bounded ring with one producer and one consumer, and a backlog on the
// producer's side for what the ring cannot take. Messages become visible to the consumer when they are published, a
// burst at a time.
class MessageQueue {
 public:
  static constexpr std::uint32_t kSlots = 256;

  // Producer.
  void append(CoreMessage& message) noexcept;
  bool has_unpublished() const noexcept { return backlog_first_ != nullptr; }
  // Publishes what fits. Returns whether the consumer must be woken. What does not fit follows when the consumer has
  // made room.
  bool publish() noexcept;

  // Consumer.
  bool empty() const noexcept { return head_.load(std::memory_order_relaxed) == tail_.load(std::memory_order_acquire); }
  // Delivers what was published. Returns whether the producer waits for room and must be woken.
  bool deliver() noexcept;

 private:
  CoreMessage* backlog_first_ = nullptr;
  CoreMessage* backlog_last_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> tail_{0};  // written by the producer
  std::atomic<bool> starved_{false};                // the producer has more than fits
  alignas(64) std::atomic<std::uint32_t> head_{0};  // written by the consumer
  std::array<CoreMessage*, kSlots> slots_{};
};

class CoreGroup {
 public:
  explicit CoreGroup(unsigned cores);
  CoreGroup(const CoreGroup&) = delete;
  CoreGroup& operator=(const CoreGroup&) = delete;

  unsigned cores() const noexcept { return static_cast<unsigned>(cores_.size()); }
  // Makes a core known. Before any core of the group runs.
  void attach(unsigned core, IoBackend& backend) noexcept { cores_[core].backend = &backend; }

  // Queues a message; publish(from) makes all that `from` has queued visible and wakes each receiver once.
  void send(unsigned from, unsigned to, CoreMessage& message) noexcept;
  void publish(unsigned from) noexcept;
  CoreCounters counters(unsigned core) const noexcept { return cores_[core].counters; }
  // Queues a message from a thread that is no core of the group.
  void post(unsigned to, CoreMessage& message) noexcept;
  // Delivers what others have sent to `core`, on its thread.
  void deliver(unsigned core) noexcept;

  void add_user() noexcept { user_.fetch_add(1, std::memory_order_acq_rel); }
  void drop_user() noexcept;
  void add_live() noexcept { live_.fetch_add(1, std::memory_order_acq_rel); }
  void drop_live() noexcept;

  void stop() noexcept;
  bool stopping() const noexcept { return stopping_.load(std::memory_order_acquire); }
  // Whether every core shall leave its loop.
  bool finished() const noexcept {
    return abandoned_.load(std::memory_order_acquire) || (stopping() && live_.load(std::memory_order_acquire) == 0);
  }
  // Gives up on the tasks that are left: the kernel refuses the ring, their I/O will never complete.
  void abandon() noexcept;

  // Keeps the first error. Any thread.
  void record(std::exception_ptr error) noexcept;
  // Throws it, if there is one. After the cores have ended.
  void rethrow_first_error();

 private:
  struct alignas(64) Core {
    IoBackend* backend = nullptr;
    std::atomic<CoreMessage*> posted{nullptr};  // a stack: newest first
    // Of the core's own thread.
    bool dirty = false;  // has messages to publish
    CoreCounters counters;
  };

  MessageQueue& queue(unsigned from, unsigned to) noexcept { return *queues_[from * cores_.size() + to]; }
  // Called on core `from`.
  void wake(unsigned from, unsigned to) noexcept;
  void wake_all() noexcept;

  std::vector<Core> cores_;
  std::vector<std::unique_ptr<MessageQueue>> queues_;
  std::atomic<unsigned> user_;
  std::atomic<unsigned> live_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> abandoned_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace monterey::detail
