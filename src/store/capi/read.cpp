// Snapshots and scans.
#include "store/capi/read.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "store/capi/options.hpp"

namespace store::capi {
namespace {

constexpr store_scan_options kScanDefaults{.size = sizeof(store_scan_options),
                                           .lower = nullptr,
                                           .lower_len = 0,
                                           .upper = nullptr,
                                           .upper_len = 0,
                                           .lower_bound = STORE_UNBOUNDED,
                                           .upper_bound = STORE_UNBOUNDED,
                                           .reverse = 0,
                                           .reserved = 0,
                                           .limit = 0};

}  // namespace

ValueArrays::ValueArrays(std::size_t count, void** values, std::size_t* value_lens)
    : values_(values, values == nullptr ? 0 : count), value_lens_(value_lens, value_lens == nullptr ? 0 : count) {
  std::ranges::fill(values_, nullptr);
  std::ranges::fill(value_lens_, 0);
  if (count == 0) return;
  require(values, "values");
  require(value_lens, "value_lens");
}

ValueArrays::~ValueArrays() {
  if (filled_) return;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    std::free(std::exchange(values_[i], nullptr));
    value_lens_[i] = 0;
  }
}

void ValueArrays::fill(std::span<const std::optional<std::string>> found) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!found[i]) continue;
    values_[i] = copy_for_caller(*found[i]);
    value_lens_[i] = found[i]->size();
  }
  filled_ = true;
}

std::vector<std::string_view> keys_of(std::size_t count, const void* const* keys, const std::size_t* key_lens) {
  if (count != 0) {
    require(keys, "keys");
    require(key_lens, "key_lens");
  }
  std::vector<std::string_view> views;
  views.reserve(count);
  for (std::size_t i = 0; i < count; ++i) views.push_back(bytes_of(keys[i], key_lens[i], "keys[i]"));
  return views;
}

Range::Range(const store_scan_options* given) {
  const store_scan_options scan = options_of(given, kScanDefaults);
  require_at_most(0, scan.reserved, "reserved");
  options.reverse = flag_of(scan.reverse, "reverse");
  if (scan.limit != 0) options.limit = scan.limit;
  // The engine's ranges are [from, to); the first key after a key is that with a zero byte behind it.
  if (require_at_most(STORE_EXCLUSIVE, scan.lower_bound, "lower_bound") != STORE_UNBOUNDED) {
    bounded = true;
    from = bytes_of(scan.lower, scan.lower_len, "lower");
    if (scan.lower_bound == STORE_EXCLUSIVE) from.push_back('\0');
  }
  if (require_at_most(STORE_EXCLUSIVE, scan.upper_bound, "upper_bound") != STORE_UNBOUNDED) {
    bounded = true;
    to = bytes_of(scan.upper, scan.upper_len, "upper");
    if (scan.upper_bound == STORE_INCLUSIVE) to->push_back('\0');
  }
}

}  // namespace store::capi

using namespace store::capi;

// --- snapshots ---

store_code store_snapshot_free(store_snapshot* snapshot) noexcept {
  if (snapshot == nullptr) return STORE_OK;
  return guarded([&] {
    snapshots.remove(snapshot).reset();
    return STORE_OK;
  });
}

store_code store_snapshot_get(store_snapshot* snapshot, const void* key, std::size_t key_len, void** value,
                              std::size_t* value_len) noexcept {
  return guarded([&] {
    require_out(value, "value");
    require_out(value_len, "value_len");
    const SnapshotTable::Use use(snapshots, snapshot, SnapshotTable::Sharing::one_thread);
    return get(*use, bytes_of(key, key_len, "key"), value, value_len);
  });
}

store_code store_snapshot_contains(store_snapshot* snapshot, const void* key, std::size_t key_len) noexcept {
  return guarded([&] {
    const SnapshotTable::Use use(snapshots, snapshot, SnapshotTable::Sharing::one_thread);
    return contains(*use, bytes_of(key, key_len, "key"));
  });
}

store_code store_snapshot_get_many(store_snapshot* snapshot, std::size_t count, const void* const* keys,
                                   const std::size_t* key_lens, void** values, std::size_t* value_lens) noexcept {
  return guarded([&] {
    ValueArrays arrays(count, values, value_lens);
    const SnapshotTable::Use use(snapshots, snapshot, SnapshotTable::Sharing::one_thread);
    arrays.fill(use->get_many(keys_of(count, keys, key_lens)));
    return STORE_OK;
  });
}

store_code store_snapshot_scan(store_snapshot* snapshot, const store_scan_options* options,
                               store_scan** scan) noexcept {
  return guarded([&] {
    require_out(scan, "scan");
    const SnapshotTable::Use use(snapshots, snapshot, SnapshotTable::Sharing::one_thread);
    *scan = begin_scan(*use, options);
    return STORE_OK;
  });
}

store_code store_snapshot_scan_prefix(store_snapshot* snapshot, const void* prefix, std::size_t prefix_len,
                                      const store_scan_options* options, store_scan** scan) noexcept {
  return guarded([&] {
    require_out(scan, "scan");
    const SnapshotTable::Use use(snapshots, snapshot, SnapshotTable::Sharing::one_thread);
    *scan = begin_prefix_scan(*use, bytes_of(prefix, prefix_len, "prefix"), options);
    return STORE_OK;
  });
}

// --- scans ---

store_code store_scan_options_init_sized(store_scan_options* options, std::size_t size) noexcept {
  return init_options(options, size, kScanDefaults);
}

store_code store_scan_next(store_scan* scan, const void** key, std::size_t* key_len, const void** value,
                           std::size_t* value_len) noexcept {
  return guarded([&] {
    require_out(key, "key");
    require_out(key_len, "key_len");
    require_out(value, "value");
    require_out(value_len, "value_len");
    const ScanTable::Use use(scans, scan, ScanTable::Sharing::one_thread);
    if (!use->next()) return STORE_END;
    const store::StoreScan::Entry& entry = use->entry();
    *key = entry.key.data();
    *key_len = entry.key.size();
    *value = entry.value.data();
    *value_len = entry.value.size();
    return STORE_OK;
  });
}

store_code store_scan_seek(store_scan* scan, const void* key, std::size_t key_len) noexcept {
  return guarded([&] {
    const ScanTable::Use use(scans, scan, ScanTable::Sharing::one_thread);
    use->seek(bytes_of(key, key_len, "key"));
    return STORE_OK;
  });
}

store_code store_scan_free(store_scan* scan) noexcept {
  if (scan == nullptr) return STORE_OK;
  return guarded([&] {
    scans.remove(scan).reset();
    return STORE_OK;
  });
}
