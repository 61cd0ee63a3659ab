// Calls that end in a callback: in memory at once, else by the store's own thread.
#include <store/async_store.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

#include "store/blocking/fork_check.hpp"
#include "store/blocking/store_core.hpp"

namespace store {
namespace detail {

using monterey::Task;

constexpr std::size_t kPieceBytes = std::size_t{64} << 10;  // of a scan

// What a queue shares with those that complete.
class CompletionList {
 public:
  CompletionList() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw Error::from_errno(errno, "an eventfd for a completion queue");
  }
  CompletionList(const CompletionList&) = delete;
  CompletionList& operator=(const CompletionList&) = delete;
  // It was closed.
  ~CompletionList() { ::close(fd_); }

  int fd() const noexcept { return fd_; }

  void push(std::unique_ptr<Completion> completion) noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (!closed_) {
        const bool was_empty = !first_;
        std::unique_ptr<Completion>& end = was_empty ? first_ : last_->next;
        last_ = completion.get();
        end = std::move(completion);
        if (was_empty) signal();
      }
    }
    // One that comes too late goes here, without the lock.
  }

  // Errors: closed in a child of fork(), which has the descriptor in common with its parent.
  std::size_t run() {
    if (forks_.is_forked()) {
      throw Error(Errc::closed, "the completion queue was made before fork(), and belongs to the parent");
    }
    std::uint64_t count = 0;
    static_cast<void>(::read(fd_, &count, sizeof count));
    std::unique_ptr<Completion> waiting;
    {
      const std::lock_guard lock(mutex_);
      waiting = std::move(first_);
    }
    std::size_t done = 0;
    while (waiting && !is_closed()) {  // by a callback
      const std::unique_ptr<Completion> one = std::exchange(waiting, std::move(waiting->next));
      ++done;
      try {
        one->call();
      } catch (...) {
        if (waiting) put_back(std::move(waiting));
        throw;
      }
    }
    drop(std::move(waiting));
    return done;
  }

  // In a child of fork(), where the lock may be held by nobody who is there, it gives up what is in it.
  void close() noexcept {
    if (forks_.is_forked()) {
      static_cast<void>(first_.release());
      return;
    }
    std::unique_ptr<Completion> waiting;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      waiting = std::move(first_);
    }
    drop(std::move(waiting));
  }

 private:
  bool is_closed() noexcept {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

  void put_back(std::unique_ptr<Completion> before) noexcept {
    Completion* last = before.get();
    while (last->next) last = last->next.get();
    {
      const std::lock_guard lock(mutex_);
      if (!closed_) {
        if (!first_) last_ = last;
        last->next = std::move(first_);
        first_ = std::move(before);
        signal();
      }
    }
    drop(std::move(before));
  }

  void signal() const noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(::write(fd_, &one, sizeof one));
  }

  // One by one: a long list would not end by recursion.
  static void drop(std::unique_ptr<Completion> list) noexcept {
    while (list) list = std::move(list->next);
  }

  const ForkCheck forks_;
  const int fd_;
  std::mutex mutex_;
  std::unique_ptr<Completion> first_;  // oldest
  Completion* last_ = nullptr;         // if there is a first
  bool closed_ = false;
};

namespace {

void tell(CompletionList* list, std::unique_ptr<Completion> completion) noexcept {
  if (list != nullptr) {
    list->push(std::move(completion));
  } else {
    completion->call();
  }
}

// A call on its way through the store's thread. Owns itself once it is posted.
template <class T, class Fn>
class AsyncCall final : public OwnerThread::CallBase {
 public:
  AsyncCall(std::shared_ptr<AsyncCore> core, std::unique_ptr<CompletionOf<T>> done, Fn fn)
      : core_(std::move(core)), done_(std::move(done)), fn_(std::move(fn)) {}

 private:
  Task<> body() override {
    if constexpr (std::is_void_v<T>) {
      co_await fn_();
    } else {
      done_->value = co_await fn_();
    }
  }
  void store_error(std::exception_ptr error) noexcept override { done_->error = std::move(error); }
  void end() noexcept override;

  const std::shared_ptr<AsyncCore> core_;
  std::unique_ptr<CompletionOf<T>> done_;
  Fn fn_;
};

}  // namespace

struct AsyncCore : std::enable_shared_from_this<AsyncCore> {
  AsyncCore(std::shared_ptr<StoreCore> in, std::shared_ptr<CompletionList> queue)
      : store(std::move(in)), list(std::move(queue)) {}

  // Has `fn() -> Task<T>` run on the store's thread. Errors: those of a call, by AsyncStore.
  template <class T, class Fn>
  void start(std::unique_ptr<CompletionOf<T>> done, Fn fn) {
    store->owner.require_not_forked();
    auto call = std::make_unique<AsyncCall<T, Fn>>(shared_from_this(), std::move(done), std::move(fn));
    store->owner.post(*call);
    static_cast<void>(call.release());
  }
  // Whether the call is done, without waiting: `fn() -> bool` does it at once, or says that it cannot; what it throws is left to the store's
  // thread to meet again. Only where a queue takes the callback.
  template <class Fn>
  bool try_now(Fn fn) {
    if (list == nullptr || monterey::detail::Reactor::try_current() != nullptr) return false;
    try {
      return fn();
    } catch (const std::exception&) {
      return false;
    }
  }

  const std::shared_ptr<StoreCore> store;
  const std::shared_ptr<CompletionList> list;  // null: callbacks are called by the store's thread
};

template <class T, class Fn>
void AsyncCall<T, Fn>::end() noexcept {
  const std::unique_ptr<AsyncCall> self(this);
  tell(core_->list.get(), std::move(done_));
}

struct AsyncScanCore : std::enable_shared_from_this<AsyncScanCore> {
  AsyncScanCore(std::shared_ptr<AsyncCore> in, std::string begin, std::optional<std::string> end, ScanOptions how)
      : core(std::move(in)), from(std::move(begin)), to(std::move(end)), options(how) {}
  AsyncScanCore(const AsyncScanCore&) = delete;
  AsyncScanCore& operator=(const AsyncScanCore&) = delete;
  ~AsyncScanCore() {
    if (scan) core->store->drop_later(std::move(*scan));
  }

  // What goes wrong ends the scan, behind the entries before it.
  Task<std::vector<AsyncScan::Entry>> next() {
    if (error) std::rethrow_exception(error);
    std::vector<AsyncScan::Entry> entries;
    try {
      if (!scan) scan.emplace(co_await core->store->db->scan(from, to, options));
      for (std::size_t bytes = 0; bytes < kPieceBytes;) {
        const bool there = co_await scan->advance();
        if (!there) break;
        entries.push_back({std::string(scan->key()), std::string(scan->value())});
        bytes += scan->key().size() + scan->value().size();
      }
    } catch (...) {
      error = std::current_exception();
    }
    if (entries.empty() && error) std::rethrow_exception(error);
    co_return std::move(entries);
  }

  const std::shared_ptr<AsyncCore> core;
  const std::string from;
  const std::optional<std::string> to;
  const ScanOptions options;
  std::optional<Scan> scan;
  bool busy = false;
  std::exception_ptr error;  // that has ended it
};

}  // namespace detail

CompletionQueue::CompletionQueue() : list_(std::make_shared<detail::CompletionList>()) {}
CompletionQueue::~CompletionQueue() { list_->close(); }
int CompletionQueue::fd() const noexcept { return list_->fd(); }
std::size_t CompletionQueue::run() {
  const auto list = list_;  // a callback may destroy the queue
  return list->run();
}

AsyncStore::AsyncStore(const Store& store)
    : core_(std::make_shared<detail::AsyncCore>(detail::StoreAccess::core(store).shared_from_this(), nullptr)) {}
AsyncStore::AsyncStore(const Store& store, CompletionQueue& queue)
    : core_(std::make_shared<detail::AsyncCore>(detail::StoreAccess::core(store).shared_from_this(), queue.list_)) {}

void AsyncStore::start_get(std::string key, std::unique_ptr<detail::CompletionOf<std::optional<std::string>>> done) {
  const auto look_up = [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    return partition.try_get(key, nullptr, done->value, reader);
  };
  if (core_->try_now([&] { return core_->store->try_read(look_up); })) {
    core_->list->push(std::move(done));
    return;
  }
  core_->start(std::move(done),
               [&db = *core_->store->db, key = std::move(key)]() -> monterey::Task<std::optional<std::string>> {
                 co_return co_await db.get(key);
               });
}

void AsyncStore::start_get_many(std::vector<std::string> keys, std::unique_ptr<detail::CompletionOf<Values>> done) {
  core_->start(std::move(done), [&db = *core_->store->db, keys = std::move(keys)]() -> monterey::Task<Values> {
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const auto found = co_await db.get_many(views);
    co_return detail::copies_of(found);
  });
}

void AsyncStore::start_contains(std::string key, std::unique_ptr<detail::CompletionOf<bool>> done) {
  const auto look_up = [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    return partition.try_contains(key, nullptr, done->value, reader);
  };
  if (core_->try_now([&] { return core_->store->try_read(look_up); })) {
    core_->list->push(std::move(done));
    return;
  }
  core_->start(std::move(done), [&db = *core_->store->db, key = std::move(key)]() -> monterey::Task<bool> {
    co_return co_await db.contains(key);
  });
}

void AsyncStore::start_put(std::string key, std::optional<std::string> value,
                           std::unique_ptr<detail::CompletionOf<void>> done) {
  if (core_->try_now([&] { return core_->store->try_put(key, value); })) {
    core_->list->push(std::move(done));
    return;
  }
  core_->start(std::move(done),
               [&db = *core_->store->db, key = std::move(key), value = std::move(value)]() -> monterey::Task<> {
                 if (value) {
                   co_await db.put(key, *value);
                 } else {
                   co_await db.erase(key);
                 }
               });
}

void AsyncStore::start_compare_and_put(std::string key, std::optional<std::string> expected,
                                       std::optional<std::string> desired,
                                       std::unique_ptr<detail::CompletionOf<bool>> done) {
  core_->start(std::move(done),
               [&db = *core_->store->db, key = std::move(key), expected = std::move(expected),
                desired = std::move(desired)]() -> monterey::Task<bool> {
                 co_return co_await db.compare_and_put(key, expected, desired);
               });
}

void AsyncStore::start_write(WriteBatch batch, std::unique_ptr<detail::CompletionOf<void>> done) {
  core_->start(std::move(done), [&db = *core_->store->db, batch = std::move(batch)]() mutable -> monterey::Task<> {
    co_await db.write(std::move(batch));
  });
}

void AsyncStore::start_erase_range(std::string from, std::optional<std::string> to,
                                   std::unique_ptr<detail::CompletionOf<void>> done) {
  core_->start(std::move(done),
               [&db = *core_->store->db, from = std::move(from), to = std::move(to)]() mutable -> monterey::Task<> {
                 co_await db.erase_range(std::move(from), std::move(to));
               });
}

void AsyncStore::start_sync(std::unique_ptr<detail::CompletionOf<void>> done) {
  core_->start(std::move(done), [&db = *core_->store->db]() -> monterey::Task<> { co_await db.sync(); });
}
void AsyncStore::start_flush(std::unique_ptr<detail::CompletionOf<void>> done) {
  core_->start(std::move(done), [&db = *core_->store->db]() -> monterey::Task<> { co_await db.flush(); });
}

AsyncScan AsyncStore::scan(std::string from, std::optional<std::string> to, ScanOptions options) const {
  return AsyncScan(std::make_shared<detail::AsyncScanCore>(core_, std::move(from), std::move(to), options));
}

void AsyncScan::start_next(std::unique_ptr<detail::CompletionOf<std::vector<Entry>>> done) {
  core_->core->start(std::move(done), [scan = core_]() -> monterey::Task<std::vector<Entry>> {
    if (std::exchange(scan->busy, true)) {
      throw Error(Errc::invalid_argument, "a scan was asked for more before it had told what it was asked for last");
    }
    try {
      std::vector<Entry> entries = co_await scan->next();
      scan->busy = false;
      co_return std::move(entries);
    } catch (...) {
      scan->busy = false;
      throw;
    }
  });
}

}  // namespace store
