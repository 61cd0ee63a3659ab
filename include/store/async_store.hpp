// A store for programs with an event loop of their own: Asio, libuv, a GUI. Every call returns at once; how it ended is told to a callback, which is
// chosen once to be called either by the loop, through a CompletionQueue, or by the store's own thread.
//
//   store::CompletionQueue queue;            // the loop watches queue.fd(), and calls queue.run() when it is readable
//   store::AsyncStore async(db, queue);
//   async.get("key", [](std::exception_ptr error, std::optional<std::string> value) { ... });
//
// The verbs, their limits, their durability and the errors that callbacks are told are those of Partition (store/partition.hpp). Calls that are in
// flight together take effect in any order; a call sees the writes whose callbacks came before it. It throws Errc::closed in a child of fork(),
// std::bad_alloc, and, if the store's thread has failed, why; then its callback is not called. How many calls are in flight is up to the caller;
// each takes some hundred bytes and its data.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <store/blocking_store.hpp>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace store {

namespace detail {

class CompletionList;
struct AsyncCore;
struct AsyncScanCore;

// How a call ended, and whom to tell.
class Completion {
 public:
  Completion() = default;
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;
  virtual ~Completion() = default;
  // Once.
  virtual void call() = 0;

  std::exception_ptr error;
  std::unique_ptr<Completion> next;  // of those that wait to be called
};

template <class T>
class CompletionOf : public Completion {
 public:
  T value{};
};
template <>
class CompletionOf<void> : public Completion {};

template <class T, class Done>
class Callback final : public CompletionOf<T> {
 public:
  explicit Callback(Done done) : done_(std::move(done)) {}
  void call() override {
    if constexpr (std::is_void_v<T>) {
      done_(std::move(this->error));
    } else {
      done_(std::move(this->error), std::move(this->value));
    }
  }

 private:
  Done done_;
};

template <class T, class Done>
std::unique_ptr<CompletionOf<T>> callback(Done done) {
  return std::make_unique<Callback<T, Done>>(std::move(done));
}

}  // namespace detail

// Callbacks that wait for an event loop. Any number of stores may share one; its members belong to one thread at a time.
class CompletionQueue {
 public:
  // Errors: io_error when there is no file descriptor to be had.
  CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;
  // What has not been called will not be. Callbacks that wait are destroyed here, those of calls in flight when these end, by the store's
  // thread; where that matters, they are to be waited for.
  ~CompletionQueue();

  // An eventfd that is readable while callbacks wait. To be watched only, level- or edge-triggered.
  int fd() const noexcept;
  // Calls the callbacks that wait now, and returns how many they were. What one of them throws comes out; those behind it wait for the next
  // time. They may call anything, and destroy the queue, but not call run() of it. Errors: closed in a child of fork().
  std::size_t run();

 private:
  friend class AsyncStore;

  std::shared_ptr<detail::CompletionList> list_;
};

// A walk over a range in key order, as of its first next(). May outlive the AsyncStore.
class AsyncScan {
 public:
  struct Entry {
    std::string key;
    std::string value;
  };

  // The next entries, some 64 KiB of them and at least one, none at the end, for done(std::exception_ptr, std::vector<Entry>). One call at a
  // time. Errors: those of Scan::advance(), which end the scan behind the entries before; invalid_argument for a second call at a time.
  template <class Done>
  void next(Done done) {
    start_next(detail::callback<std::vector<Entry>>(std::move(done)));
  }

 private:
  friend class AsyncStore;
  explicit AsyncScan(std::shared_ptr<detail::AsyncScanCore> core) : core_(std::move(core)) {}
  void start_next(std::unique_ptr<detail::CompletionOf<std::vector<Entry>>> done);

  std::shared_ptr<detail::AsyncScanCore> core_;
};

// A handle: copies are of the same store. It keeps the store's thread going, as do calls in flight.
class AsyncStore {
 public:
  // Callbacks are called by the store's own thread, which does nothing else meanwhile: they must be brief, must not wait, and must not call a
  // blocking store. They must not throw either, so that a call which they make is to be caught: it throws when memory is out, or the thread has
  // failed. Errors: closed for a store that was moved from.
  explicit AsyncStore(const Store& store);
  // Callbacks are called by queue.run(), also of what is found in memory at once.
  AsyncStore(const Store& store, CompletionQueue& queue);

  // done(std::exception_ptr, std::optional<std::string>)
  template <class Done>
  void get(std::string key, Done done) {
    start_get(std::move(key), detail::callback<std::optional<std::string>>(std::move(done)));
  }
  // done(std::exception_ptr, std::vector<std::optional<std::string>>)
  template <class Done>
  void get_many(std::vector<std::string> keys, Done done) {
    start_get_many(std::move(keys), detail::callback<Values>(std::move(done)));
  }
  // done(std::exception_ptr, bool)
  template <class Done>
  void contains(std::string key, Done done) {
    start_contains(std::move(key), detail::callback<bool>(std::move(done)));
  }
  // done(std::exception_ptr), as of all below but for compare_and_put().
  template <class Done>
  void put(std::string key, std::string value, Done done) {
    start_put(std::move(key), std::move(value), detail::callback<void>(std::move(done)));
  }
  template <class Done>
  void erase(std::string key, Done done) {
    start_put(std::move(key), std::nullopt, detail::callback<void>(std::move(done)));
  }
  // done(std::exception_ptr, bool)
  template <class Done>
  void compare_and_put(std::string key, std::optional<std::string> expected, std::optional<std::string> desired,
                       Done done) {
    start_compare_and_put(std::move(key), std::move(expected), std::move(desired),
                          detail::callback<bool>(std::move(done)));
  }
  template <class Done>
  void write(WriteBatch batch, Done done) {
    start_write(std::move(batch), detail::callback<void>(std::move(done)));
  }
  template <class Done>
  void erase_range(std::string from, std::optional<std::string> to, Done done) {
    start_erase_range(std::move(from), std::move(to), detail::callback<void>(std::move(done)));
  }
  template <class Done>
  void sync(Done done) {
    start_sync(detail::callback<void>(std::move(done)));
  }
  template <class Done>
  void flush(Done done) {
    start_flush(detail::callback<void>(std::move(done)));
  }
  AsyncScan scan(std::string from = {}, std::optional<std::string> to = std::nullopt, ScanOptions options = {}) const;

 private:
  using Values = std::vector<std::optional<std::string>>;

  void start_get(std::string key, std::unique_ptr<detail::CompletionOf<std::optional<std::string>>> done);
  void start_get_many(std::vector<std::string> keys, std::unique_ptr<detail::CompletionOf<Values>> done);
  void start_contains(std::string key, std::unique_ptr<detail::CompletionOf<bool>> done);
  void start_put(std::string key, std::optional<std::string> value, std::unique_ptr<detail::CompletionOf<void>> done);
  void start_compare_and_put(std::string key, std::optional<std::string> expected, std::optional<std::string> desired,
                             std::unique_ptr<detail::CompletionOf<bool>> done);
  void start_write(WriteBatch batch, std::unique_ptr<detail::CompletionOf<void>> done);
  void start_erase_range(std::string from, std::optional<std::string> to,
                         std::unique_ptr<detail::CompletionOf<void>> done);
  void start_sync(std::unique_ptr<detail::CompletionOf<void>> done);
  void start_flush(std::unique_ptr<detail::CompletionOf<void>> done);

  std::shared_ptr<detail::AsyncCore> core_;
};

}  // namespace store
