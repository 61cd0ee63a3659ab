// What every call of the C API is made of: its body runs in guarded(), which turns what is thrown into a code and the thread's last error; the
// helpers here check what came from the caller.
#pragma once

#include <store/store.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <store/blocking_store.hpp>
#include <store/error.hpp>
#include <string>
#include <string_view>

#include "store/capi/handle_table.hpp"

namespace store::capi {

using DbTable = HandleTable<Store, store_db, 0xd1>;
using BatchTable = HandleTable<WriteBatch, store_batch, 0xb2>;
using SnapshotTable = HandleTable<StoreSnapshot, store_snapshot, 0xa3>;
using ScanTable = HandleTable<StoreScan, store_scan, 0xc4>;

// Of all handles there are. Never destroyed: threads may still call while the process ends.
extern DbTable dbs;
extern BatchTable batches;
extern SnapshotTable snapshots;
extern ScanTable scans;

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

[[noreturn]] void throw_null(const char* name);

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

inline std::string_view bytes_of(const void* data, std::size_t size, const char* name) {
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

// A copy that store_free() frees; not NULL for an empty one.
inline void* copy_for_caller(std::string_view bytes) {
  void* copy = std::malloc(bytes.empty() ? 1 : bytes.size());
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, bytes.data(), bytes.size());
  return copy;
}

}  // namespace store::capi
