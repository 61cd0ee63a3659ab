// Calls that return at once, for programs with an event loop.
#include <exception>
#include <memory>
#include <optional>
#include <store/async_store.hpp>
#include <string>
#include <utility>

#include "store/capi/call.hpp"

namespace store::capi {
namespace {

// While this thread runs callbacks, under a call that uses the queue's handle.
constinit thread_local bool in_callback = false;

// What the caller wants to be told by.
struct Done {
  store_done_fn function;
  void* context;

  void tell(store_code code, std::string_view value = "") const { function(context, code, value.data(), value.size()); }
  // An error is the thread's last one meanwhile.
  static store_code code_of(std::exception_ptr error) noexcept {
    return guarded([&error]() -> store_code { std::rethrow_exception(std::move(error)); });
  }
  void operator()(std::exception_ptr error) const { tell(error ? code_of(std::move(error)) : STORE_OK); }
  void operator()(std::exception_ptr error, const std::optional<std::string>& value) const {
    if (error) {
      tell(code_of(std::move(error)));
    } else if (value) {
      tell(STORE_OK, *value);
    } else {
      tell(STORE_KEY_NOT_FOUND);
    }
  }
};

// Runs `body(async, done)`, which starts a call.
template <class Body>
store_code start(store_db* db, store_queue* queue, store_done_fn done, void* context, Body body) noexcept {
  return guarded([&] {
    require_no_source("call a store");
    if (done == nullptr) throw_null("done");
    const DbTable::Use use(dbs, db);
    const QueueTable::Use into(queues, queue);
    AsyncStore async(*use, *into);
    body(async, Done{done, context});
    return STORE_OK;
  });
}

}  // namespace
}  // namespace store::capi

using namespace store::capi;

store_code store_queue_create(store_queue** queue) noexcept {
  return guarded([&] {
    require_out(queue, "queue");
    *queue = queues.insert(std::make_unique<store::CompletionQueue>());
    return STORE_OK;
  });
}

store_code store_queue_free(store_queue* queue) noexcept {
  if (queue == nullptr) return STORE_OK;
  return guarded([&] {
    require_no_source("free a queue");
    // Its call would wait for itself.
    if (in_callback) throw store::Error(store::Errc::invalid_argument, "a callback cannot free a queue");
    queues.remove(queue).reset();
    return STORE_OK;
  });
}

store_code store_queue_fd(store_queue* queue, int* fd) noexcept {
  return guarded([&] {
    require(fd, "fd");
    *fd = -1;
    const QueueTable::Use use(queues, queue);
    *fd = use->fd();
    return STORE_OK;
  });
}

store_code store_queue_run(store_queue* queue, std::size_t* called) noexcept {
  clear(called);
  return guarded([&] {
    require_no_source("run callbacks");
    if (in_callback) throw store::Error(store::Errc::invalid_argument, "a callback cannot run callbacks");
    const QueueTable::Use use(queues, queue);
    const Within within(in_callback);
    const std::size_t count = use->run();
    if (called != nullptr) *called = count;
    return STORE_OK;
  });
}

store_code store_async_get(store_db* db, store_queue* queue, const void* key, std::size_t key_len, store_done_fn done,
                           void* context) noexcept {
  return start(db, queue, done, context, [&](store::AsyncStore& async, Done told) {
    async.get(std::string(bytes_of(key, key_len, "key")), told);
  });
}

store_code store_async_put(store_db* db, store_queue* queue, const void* key, std::size_t key_len, const void* value,
                           std::size_t value_len, store_done_fn done, void* context) noexcept {
  return start(db, queue, done, context, [&](store::AsyncStore& async, Done told) {
    async.put(std::string(bytes_of(key, key_len, "key")), std::string(bytes_of(value, value_len, "value")), told);
  });
}

store_code store_async_erase(store_db* db, store_queue* queue, const void* key, std::size_t key_len, store_done_fn done,
                             void* context) noexcept {
  return start(db, queue, done, context, [&](store::AsyncStore& async, Done told) {
    async.erase(std::string(bytes_of(key, key_len, "key")), told);
  });
}

store_code store_async_write(store_db* db, store_queue* queue, store_batch* batch, store_done_fn done,
                             void* context) noexcept {
  return start(db, queue, done, context, [&](store::AsyncStore& async, Done told) {
    const BatchTable::Use use(batches, batch, BatchTable::Sharing::one_thread);
    async.write(store::WriteBatch(*use), told);
  });
}

store_code store_async_sync(store_db* db, store_queue* queue, store_done_fn done, void* context) noexcept {
  return start(db, queue, done, context, [&](store::AsyncStore& async, Done told) { async.sync(told); });
}

store_code store_async_flush(store_db* db, store_queue* queue, store_done_fn done, void* context) noexcept {
  return start(db, queue, done, context, [&](store::AsyncStore& async, Done told) { async.flush(told); });
}
