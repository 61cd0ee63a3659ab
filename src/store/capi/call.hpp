// What every call of the C API is made of: its body runs in guarded(), which turns what is thrown into a code and the thread's last error; the
// helpers here check what came from the caller.
#pragma once

#include <store/store.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <store/async_store.hpp>
#include <store/blocking_store.hpp>
#include <store/error.hpp>
#include <string>
#include <string_view>

#include "store/capi/handle_table.hpp"

namespace store::capi {

using DbTable = HandleTable<Store, store_db, 0xd1, detail::BigReaderLock::kSlots>;
using BatchTable = HandleTable<WriteBatch, store_batch, 0xb2>;
using SnapshotTable = HandleTable<StoreSnapshot, store_snapshot, 0xa3>;
using ScanTable = HandleTable<StoreScan, store_scan, 0xc4>;
using QueueTable = HandleTable<CompletionQueue, store_queue, 0xe5>;

// Of all handles there are. Never destroyed: threads may still call while the process ends.
extern DbTable dbs;
extern BatchTable batches;
extern SnapshotTable snapshots;
extern ScanTable scans;
extern QueueTable queues;

// The code of the exception in flight, which becomes the thread's last error.
store_code code_of_exception() noexcept;

template <class Body>
store_code guarded(Body body) noexcept {
  try {
    return body();
  } catch (...) {
    return code_of_exception();
  }
}

// What the caller's own source of a bulk load returned instead of an entry. Its code is given back if it is an error.
struct SourceFailed {
  int code;
};

// While this thread runs the source of a bulk load, under a call that uses the store's handle.
extern constinit thread_local bool in_source;

// Sets a flag of the thread for as long as it lives.
class Within {
 public:
  explicit Within(bool& flag) noexcept : flag_(flag) { flag_ = true; }
  Within(const Within&) = delete;
  Within& operator=(const Within&) = delete;
  ~Within() { flag_ = false; }

 private:
  bool& flag_;
};

// Errors: invalid_argument while this thread runs such a source, where `what` would wait for itself.
void require_no_source(const char* what);

[[noreturn]] void throw_null(const char* name);
[[noreturn]] void throw_too_long(const char* name);

// Errors: invalid_argument for NULL. `name` is that of the parameter.
template <class T>
void require(const T* pointer, const char* name) {
  if (pointer == nullptr) [[unlikely]]
    throw_null(name);
}

// Requires a place for a result, and clears it.
template <class T>
void require_out(T* out, const char* name) {
  require(out, name);
  *out = T{};
}

// Clears places for results that may be NULL.
template <class... T>
void clear(T*... out) noexcept {
  ((out != nullptr ? static_cast<void>(*out = T{}) : static_cast<void>(0)), ...);
}

// Errors: invalid_argument for NULL with a length, and for one beyond any memory, which would overflow pointers.
inline std::string_view bytes_of(const void* data, std::size_t size, const char* name) {
  if (size > PTRDIFF_MAX) [[unlikely]]
    throw_too_long(name);
  if (data != nullptr) return {static_cast<const char*>(data), size};
  if (size != 0) [[unlikely]]
    throw_null(name);
  return {"", 0};
}

// The same where NULL stands for none.
inline std::optional<std::string_view> optional_bytes_of(const void* data, std::size_t size, const char* name) {
  if (data == nullptr && size == 0) return std::nullopt;
  return bytes_of(data, size, name);
}

// A copy that store_free() frees, with a zero byte behind it; not NULL for an empty one.
inline void* copy_for_caller(std::string_view bytes) {
  auto* const copy = static_cast<char*>(std::malloc(bytes.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, bytes.data(), bytes.size());
  copy[bytes.size()] = '\0';
  return copy;
}

inline char* text_for_caller(std::string_view text) { return static_cast<char*>(copy_for_caller(text)); }

}  // namespace store::capi
