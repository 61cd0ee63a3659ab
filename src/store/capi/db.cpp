// The calls on a store.
#include <cstdint>
#include <utility>
#include <vector>

#include "store/blocking/store_core.hpp"
#include "store/capi/call.hpp"
#include "store/capi/options.hpp"
#include "store/capi/read.hpp"

namespace store::capi {
namespace {

constexpr store_options kDefaults{.size = sizeof(store_options),
                                  .cache_bytes = StoreOptions{}.cache_bytes,
                                  .write_buffer_bytes = StoreOptions{}.write_buffer_bytes,
                                  .capacity_bytes = StoreOptions{}.capacity_bytes,
                                  .wal_mode = STORE_WAL_BATCHED,
                                  .create = 1,
                                  .read_only = 0,
                                  .reserved = 0};
static_assert(StoreOptions{}.wal_mode == WalMode::batched && StoreOptions{}.create);
static_assert(static_cast<int>(WalMode::none) == STORE_WAL_NONE &&
              static_cast<int>(WalMode::batched) == STORE_WAL_BATCHED &&
              static_cast<int>(WalMode::per_op) == STORE_WAL_PER_OP);

constexpr store_backup_options kBackupDefaults{
    .size = sizeof(store_backup_options), .since = 0, .overwrite = 0, .reserved = 0};
static_assert(STORE_BACKUP_OF_TARGET == BackupOptions::kOfTarget);

Store open(const char* path, const store_options* given) {
  const store_options options = options_of(given, kDefaults);
  require_at_most(0, options.reserved, "reserved");
  const StoreOptions how{
      .cache_bytes = options.cache_bytes,
      .wal_mode = static_cast<WalMode>(require_at_most(STORE_WAL_PER_OP, options.wal_mode, "wal_mode")),
      .write_buffer_bytes = options.write_buffer_bytes,
      .capacity_bytes = options.capacity_bytes,
      .create = flag_of(options.create, "create")};
  return flag_of(options.read_only, "read_only") ? Store::open_read_only(path, how) : Store::open(path, how);
}

// As get(), but what is in memory is copied once, into the caller's buffer.
store_code get_copied_once(const Store& store, std::string_view key, void** value, std::size_t* value_len) {
  std::optional<std::string_view> bytes;
  const auto copy = [&](const detail::PartitionCore& partition, detail::Reader& reader) {
    if (!partition.try_view(key, nullptr, bytes, reader)) return false;
    if (bytes) *value = copy_for_caller(*bytes);
    return true;
  };
  if (!detail::StoreAccess::core(store).read(nullptr, copy)) return get(store, key, value, value_len);
  if (!bytes) return STORE_KEY_NOT_FOUND;
  *value_len = bytes->size();
  return STORE_OK;
}

// Runs `body` with the store.
template <class Body>
store_code with(store_db* db, Body body) noexcept {
  return guarded([&] {
    const DbTable::Use use(dbs, db);
    return body(*use);
  });
}

}  // namespace
}  // namespace store::capi

using namespace store::capi;

store_code store_options_init_sized(store_options* options, std::size_t size) noexcept {
  return init_options(options, size, kDefaults);
}

store_code store_open(const char* path, const store_options* options, store_db** db) noexcept {
  return guarded([&] {
    require_out(db, "db");
    require(path, "path");
    *db = dbs.insert(std::make_unique<store::Store>(open(path, options)));
    return STORE_OK;
  });
}

store_code store_close(store_db* db) noexcept {
  if (db == nullptr) return STORE_OK;
  return guarded([&] {
    require_no_source("close a store");
    const std::unique_ptr<store::Store> store = dbs.remove(db);
    if (!store) throw store::Error(store::Errc::closed, "the store belongs to the parent of this process");
    store->close();
    return STORE_OK;
  });
}

store_code store_get(store_db* db, const void* key, std::size_t key_len, void** value,
                     std::size_t* value_len) noexcept {
  return guarded([&] {
    require_out(value, "value");
    require_out(value_len, "value_len");
    const DbTable::Use use(dbs, db);
    return get_copied_once(*use, bytes_of(key, key_len, "key"), value, value_len);
  });
}

store_code store_get_into(store_db* db, const void* key, std::size_t key_len, void* buffer, std::size_t buffer_len,
                          std::size_t* value_len) noexcept {
  return store_get_part(db, key, key_len, 0, buffer, buffer_len, value_len);
}

store_code store_get_part(store_db* db, const void* key, std::size_t key_len, std::uint64_t offset, void* buffer,
                          std::size_t buffer_len, std::size_t* value_len) noexcept {
  return guarded([&] {
    require_out(value_len, "value_len");
    if (buffer_len != 0) require(buffer, "buffer");
    const DbTable::Use use(dbs, db);
    const std::optional<std::size_t> size =
        use->get_into(bytes_of(key, key_len, "key"), {static_cast<std::byte*>(buffer), buffer_len}, {.offset = offset});
    if (!size) return STORE_KEY_NOT_FOUND;
    *value_len = *size;
    return STORE_OK;
  });
}

store_code store_contains(store_db* db, const void* key, std::size_t key_len) noexcept {
  return with(db, [&](store::Store& store) { return contains(store, bytes_of(key, key_len, "key")); });
}

store_code store_get_many(store_db* db, std::size_t count, const void* const* keys, const std::size_t* key_lens,
                          void** values, std::size_t* value_lens) noexcept {
  return guarded([&] {
    ValueArrays arrays(count, values, value_lens);
    const DbTable::Use use(dbs, db);
    arrays.fill(use->get_many(keys_of(count, keys, key_lens)));
    return STORE_OK;
  });
}

store_code store_put(store_db* db, const void* key, std::size_t key_len, const void* value,
                     std::size_t value_len) noexcept {
  return with(db, [&](store::Store& store) {
    store.put(bytes_of(key, key_len, "key"), bytes_of(value, value_len, "value"));
    return STORE_OK;
  });
}

store_code store_erase(store_db* db, const void* key, std::size_t key_len) noexcept {
  return with(db, [&](store::Store& store) {
    store.erase(bytes_of(key, key_len, "key"));
    return STORE_OK;
  });
}

store_code store_erase_range(store_db* db, const void* from, std::size_t from_len, const void* to,
                             std::size_t to_len) noexcept {
  return with(db, [&](store::Store& store) {
    store.erase_range(bytes_of(from, from_len, "from"),
                      std::optional<std::string>(optional_bytes_of(to, to_len, "to")));
    return STORE_OK;
  });
}

store_code store_compare_and_put(store_db* db, const void* key, std::size_t key_len, const void* expected,
                                 std::size_t expected_len, const void* desired, std::size_t desired_len) noexcept {
  return with(db, [&](store::Store& store) {
    if (!store.compare_and_put(bytes_of(key, key_len, "key"), optional_bytes_of(expected, expected_len, "expected"),
                               optional_bytes_of(desired, desired_len, "desired"))) {
      throw store::Error(store::Errc::conflict, "the key does not have the expected value");
    }
    return STORE_OK;
  });
}

store_code store_write(store_db* db, store_batch* batch) noexcept {
  return with(db, [&](store::Store& store) {
    const BatchTable::Use use(batches, batch, BatchTable::Sharing::one_thread);
    store.write(*use);
    return STORE_OK;
  });
}

store_code store_snapshot_create(store_db* db, store_snapshot** snapshot) noexcept {
  return guarded([&] {
    require_out(snapshot, "snapshot");
    const DbTable::Use use(dbs, db);
    *snapshot = snapshots.insert(std::make_unique<store::StoreSnapshot>(use->snapshot()));
    return STORE_OK;
  });
}

store_code store_scan_create(store_db* db, const store_scan_options* options, store_scan** scan) noexcept {
  return guarded([&] {
    require_out(scan, "scan");
    const DbTable::Use use(dbs, db);
    *scan = begin_scan(*use, options);
    return STORE_OK;
  });
}

store_code store_scan_prefix(store_db* db, const void* prefix, std::size_t prefix_len,
                             const store_scan_options* options, store_scan** scan) noexcept {
  return guarded([&] {
    require_out(scan, "scan");
    const DbTable::Use use(dbs, db);
    *scan = begin_prefix_scan(*use, bytes_of(prefix, prefix_len, "prefix"), options);
    return STORE_OK;
  });
}

store_code store_sync(store_db* db) noexcept {
  return with(db, [](store::Store& store) {
    store.sync();
    return STORE_OK;
  });
}

store_code store_flush(store_db* db) noexcept {
  return with(db, [](store::Store& store) {
    store.flush();
    return STORE_OK;
  });
}

store_code store_approximate_range(store_db* db, const void* from, std::size_t from_len, const void* to,
                                   std::size_t to_len, std::uint64_t* entries, std::uint64_t* bytes) noexcept {
  clear(entries, bytes);
  return with(db, [&](store::Store& store) {
    const store::RangeEstimate estimate = store.approximate_range(
        bytes_of(from, from_len, "from"), std::optional<std::string>(optional_bytes_of(to, to_len, "to")));
    if (entries != nullptr) *entries = estimate.entries;
    if (bytes != nullptr) *bytes = estimate.bytes;
    return STORE_OK;
  });
}

store_code store_compact(store_db* db, std::uint64_t* bytes_freed) noexcept {
  return store_compact_step(db, store::CompactOptions{}.max_bytes_moved, nullptr, nullptr, bytes_freed);
}

store_code store_compact_step(store_db* db, std::uint64_t max_bytes_moved, int* finished, std::uint64_t* bytes_moved,
                              std::uint64_t* bytes_freed) noexcept {
  clear(finished, bytes_moved, bytes_freed);
  return with(db, [&](store::Store& store) {
    const store::CompactReport report = store.compact({.max_bytes_moved = max_bytes_moved});
    if (finished != nullptr) *finished = report.finished ? 1 : 0;
    if (bytes_moved != nullptr) *bytes_moved = report.bytes_moved;
    if (bytes_freed != nullptr) *bytes_freed = report.bytes_freed;
    return STORE_OK;
  });
}

store_code store_backup_options_init_sized(store_backup_options* options, std::size_t size) noexcept {
  return init_options(options, size, kBackupDefaults);
}

store_code store_backup(store_db* db, const char* target, const store_backup_options* options,
                        std::uint64_t* generation) noexcept {
  clear(generation);
  return with(db, [&](store::Store& store) {
    require(target, "target");
    const store_backup_options given = options_of(options, kBackupDefaults);
    require_at_most(0, given.reserved, "reserved");
    store::BackupOptions how{.overwrite = flag_of(given.overwrite, "overwrite")};
    if (given.since != 0) how.since = given.since;
    const store::BackupReport report = store.backup(target, how);
    if (generation != nullptr) *generation = report.generation;
    return STORE_OK;
  });
}

store_code store_check(store_db* db, store_finding_fn finding, void* context) noexcept {
  return guarded([&] {
    store::CheckReport report;
    {
      const DbTable::Use use(dbs, db);
      report = use->check();
    }
    // Without the handle in use: the function may close it.
    if (finding != nullptr) {
      for (const std::string& error : report.errors) finding(context, error.c_str());
    }
    if (!report.ok) {
      throw store::Error(store::Errc::corruption,
                         "the check found damage: " + (report.errors.empty() ? "unnamed" : report.errors.front()));
    }
    return STORE_OK;
  });
}
