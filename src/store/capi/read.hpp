// The calls that a store and a snapshot share: `Source` is a Store or a StoreSnapshot.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/capi/call.hpp"

namespace store::capi {

template <class Source>
store_code get(const Source& source, std::string_view key, void** value, std::size_t* value_len) {
  const std::optional<std::string> found = source.get(key);
  if (!found) return STORE_KEY_NOT_FOUND;
  *value = copy_for_caller(*found);
  *value_len = found->size();
  return STORE_OK;
}

template <class Source>
store_code contains(const Source& source, std::string_view key) {
  return source.contains(key) ? STORE_OK : STORE_KEY_NOT_FOUND;
}

// Where get_many() puts its values. Takes them back unless it comes to its end.
class ValueArrays {
 public:
  // Requires: arrays of `count`.
  ValueArrays(std::size_t count, void** values, std::size_t* value_lens);
  ValueArrays(const ValueArrays&) = delete;
  ValueArrays& operator=(const ValueArrays&) = delete;
  ~ValueArrays();

  void fill(std::span<const std::optional<std::string>> found);

 private:
  const std::span<void*> values_;
  const std::span<std::size_t> value_lens_;
  bool filled_ = false;
};

// What the caller's arrays of keys say. Errors: invalid_argument.
std::vector<std::string_view> keys_of(std::size_t count, const void* const* keys, const std::size_t* key_lens);

// A range and options that scans take. Errors: invalid_argument.
struct Range {
  explicit Range(const store_scan_options* given);

  bool bounded = false;  // at either end
  std::string from;
  std::optional<std::string> to;
  ScanOptions options;
};

template <class Source>
store_scan* begin_scan(const Source& source, const store_scan_options* given) {
  Range range(given);
  return scans.insert(std::make_unique<StoreScan>(source.scan(range.from, std::move(range.to), range.options)));
}

template <class Source>
store_scan* begin_prefix_scan(const Source& source, std::string_view prefix, const store_scan_options* given) {
  const Range range(given);
  if (range.bounded) throw Error(Errc::invalid_argument, "a scan of a prefix takes no bounds");
  return scans.insert(std::make_unique<StoreScan>(source.scan_prefix(prefix, range.options)));
}

}  // namespace store::capi
