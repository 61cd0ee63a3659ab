// store_bulk_load(), whose entries come from a function of the caller.
#include <cstdint>
#include <string>

#include "store/capi/call.hpp"

namespace store::capi {
namespace {

// The caller's function as the engine wants it.
class Source {
 public:
  Source(store_source_fn function, void* context) noexcept : function_(function), context_(context) {}

  bool next(std::string_view& key, std::string_view& value) {
    const void* key_data = nullptr;
    const void* value_data = nullptr;
    std::size_t key_len = 0;
    std::size_t value_len = 0;
    const int code = call(&key_data, &key_len, &value_data, &value_len);
    if (code == STORE_END) return false;
    if (code != STORE_OK) throw SourceFailed{code};
    key = bytes_of(key_data, key_len, "key of the source");
    value = bytes_of(value_data, value_len, "value of the source");
    return true;
  }

 private:
  int call(const void** key, std::size_t* key_len, const void** value, std::size_t* value_len) {
    const Within within(in_source);
    return function_(context_, key, key_len, value, value_len);
  }

  const store_source_fn function_;
  void* const context_;
};

}  // namespace
}  // namespace store::capi

using namespace store::capi;

store_code store_bulk_load(store_db* db, store_source_fn source, void* context, std::uint64_t* entries) noexcept {
  clear(entries);
  return guarded([&] {
    if (source == nullptr) throw_null("source");
    const DbTable::Use use(dbs, db);
    const std::uint64_t loaded = use->bulk_load(Source(source, context));
    if (entries != nullptr) *entries = loaded;
    return STORE_OK;
  });
}
