// What is behind the handles of a blocking store: a partition, and the thread it belongs to.
#pragma once

#include <array>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <store/block_device.hpp>
#include <store/blocking_store.hpp>
#include <store/error.hpp>
#include <store/partition.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/blocking/owner_thread.hpp"
#include "store/partition/partition_access.hpp"

namespace store::detail {

inline std::vector<std::optional<std::string>> copies_of(const std::vector<std::optional<PinnedValue>>& values) {
  std::vector<std::optional<std::string>> copies(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i]) copies[i].emplace(values[i]->view());
  }
  return copies;
}

// A file, or a namespace by its path.
monterey::Task<std::unique_ptr<BlockDevice>> open_device(std::string path, FileBlockDeviceOptions how);

class StoreCore : public std::enable_shared_from_this<StoreCore> {
 public:
  using Owner = OwnerThread;

  static std::shared_ptr<StoreCore> open(std::string path, StoreOptions options, bool read_only);
  StoreCore(std::string path, StoreOptions options, bool read_only);
  StoreCore(const StoreCore&) = delete;
  StoreCore& operator=(const StoreCore&) = delete;
  // Closes it if that was not done.
  ~StoreCore();

  PartitionCore& partition() const { return PartitionAccess::core(*db); }

  // Destroys what belongs to the core, there. Where that is gone, in a child of fork() or by an error, it is given up instead.
  template <class T>
  void drop_there(std::optional<T>& what) noexcept {
    if (!what) return;
    if (!owner.is_forked() && owner.is_here()) {
      what.reset();
      return;
    }
    try {
      owner.require_not_forked();
      owner.run_anywhere([&what]() -> monterey::Task<> {
        what.reset();
        co_return;
      });
    } catch (const std::exception&) {
      static_cast<void>(new T(*std::move(what)));
    }
  }

  // The same, without waiting.
  template <class T>
  void drop_later(T what) noexcept {
    if (!owner.is_forked() && owner.is_here()) return;
    std::optional<T> held(std::move(what));
    std::unique_ptr<Drop<T>> call;
    try {
      call = std::make_unique<Drop<T>>(shared_from_this(), held);
    } catch (const std::bad_alloc&) {
      drop_there(held);
      return;
    }
    try {
      owner.require_not_forked();
      owner.post(*call);
    } catch (const std::exception&) {
      call->give_up();
      return;
    }
    static_cast<void>(call.release());
  }

  // Errors: those of Partition::close(). Also on a core of a cluster, which then waits.
  void close();

  StoreScan scan(monterey::Task<Scan> start, std::uint64_t limit);
  StoreSnapshot snapshot();

  // Runs `look_up(partition, reader)`, a lookup that does not suspend, at once with those of other threads, or as the core where what was
  // written last is not in its place yet. Errors: those of require_usable(); why the thread has ended.
  template <class LookUp>
  auto read(const View* view, LookUp look_up) {
    owner.require_usable();
    {
      const Owner::Beside beside(owner);
      if (partition().may_read_together(view)) return look_up(partition(), readers[beside.slot()]);
    }
    const Owner::Inside inside(owner);
    return look_up(partition(), readers[0]);
  }

  // Unless it would have to wait for other threads: then false, as when `look_up` says so.
  template <class LookUp>
  bool try_read(LookUp look_up) {
    owner.require_usable();
    {
      const Owner::Beside beside(owner, std::try_to_lock);
      if (!beside.entered()) return false;
      if (partition().may_read_together(nullptr)) return look_up(partition(), readers[beside.slot()]);
    }
    const Owner::Inside inside(owner, std::try_to_lock);
    return inside.entered() && look_up(partition(), readers[0]);
  }

  // Whether it was put, or erased, without waiting.
  bool try_put(std::string_view key, std::optional<std::string_view> value) {
    owner.require_usable();
    const Owner::Inside inside(owner, std::try_to_lock);
    return inside.entered() && partition().try_put(key, value);
  }

  Stats stats();

  OwnerThread owner;
  mutable std::optional<Partition> db;
  struct alignas(64) SlotReader : Reader {};
  std::array<SlotReader, BigReaderLock::kSlots> readers;  // of who has the slot, or is the core
  std::atomic<bool> is_closed{false};

 private:
  // Takes what it destroys to the store's thread. Owns itself once it is posted.
  template <class T>
  class Drop final : public OwnerThread::CallBase {
   public:
    Drop(std::shared_ptr<StoreCore> store, std::optional<T>& what) noexcept
        : store_(std::move(store)), what_(std::move(what)) {
      what.reset();
    }
    // Where the thread has failed.
    void give_up() noexcept { static_cast<void>(new T(*std::move(what_))); }

   private:
    monterey::Task<> body() override {
      what_.reset();
      co_return;
    }
    // Without memory for the task, or where the thread has failed; then what was to be destroyed is given up.
    void store_error(std::exception_ptr) noexcept override { store_->owner.is_here() ? what_.reset() : give_up(); }
    void end() noexcept override { delete this; }

    const std::shared_ptr<StoreCore> store_;
    std::optional<T> what_;
  };
};

// The way from a handle to what is behind it. Errors: closed for one that was moved from.
struct StoreAccess {
  static StoreCore& core(const Store& store) { return store.core(); }
};

}  // namespace store::detail
