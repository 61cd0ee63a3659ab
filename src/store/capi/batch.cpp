// The calls on a batch.
#include <memory>

#include "store/capi/call.hpp"

using namespace store::capi;

namespace {

template <class Body>
store_code with(store_batch* batch, Body body) noexcept {
  return guarded([&] {
    const BatchTable::Use use(batches, batch, BatchTable::Sharing::one_thread);
    body(*use);
    return STORE_OK;
  });
}

}  // namespace

store_code store_batch_create(store_batch** batch) noexcept {
  return guarded([&] {
    require_out(batch, "batch");
    *batch = batches.insert(std::make_unique<store::WriteBatch>());
    return STORE_OK;
  });
}

store_code store_batch_free(store_batch* batch) noexcept {
  if (batch == nullptr) return STORE_OK;
  return guarded([&] {
    batches.remove(batch).reset();
    return STORE_OK;
  });
}

store_code store_batch_put(store_batch* batch, const void* key, std::size_t key_len, const void* value,
                           std::size_t value_len) noexcept {
  return with(batch, [&](store::WriteBatch& into) {
    into.put(bytes_of(key, key_len, "key"), bytes_of(value, value_len, "value"));
  });
}

store_code store_batch_erase(store_batch* batch, const void* key, std::size_t key_len) noexcept {
  return with(batch, [&](store::WriteBatch& into) { into.erase(bytes_of(key, key_len, "key")); });
}

store_code store_batch_erase_range(store_batch* batch, const void* from, std::size_t from_len, const void* to,
                                   std::size_t to_len) noexcept {
  return with(batch, [&](store::WriteBatch& into) {
    into.erase_range(bytes_of(from, from_len, "from"), optional_bytes_of(to, to_len, "to"));
  });
}

store_code store_batch_expect(store_batch* batch, const void* key, std::size_t key_len, const void* expected,
                              std::size_t expected_len) noexcept {
  return with(batch, [&](store::WriteBatch& into) {
    into.expect(bytes_of(key, key_len, "key"), optional_bytes_of(expected, expected_len, "expected"));
  });
}

store_code store_batch_clear(store_batch* batch) noexcept {
  return with(batch, [](store::WriteBatch& into) { into.clear(); });
}
