// What a caller may get wrong: every call with a handle that is NULL, closed, of another kind or made up, and with pointers, lengths and options
// that cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <store/store.h>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "support/temp_dir.hpp"

namespace {

using testing::HasSubstr;

// The calls that take a handle, with everything else as it should be.
template <class Handle>
struct Call {
  const char* name;
  std::function<store_code(Handle*)> make;
  bool gives = false;  // results
};

struct Results {
  void* value = nullptr;
  std::size_t value_len = 0;
  const void* key = nullptr;
  std::size_t key_len = 0;
  const void* entry_value = nullptr;
  std::uint64_t number = 0;
  char* text = nullptr;
  store_snapshot* snapshot = nullptr;
  store_scan* scan = nullptr;
} out;

const void* const kKeys[] = {"k"};
const std::size_t kKeyLens[] = {1};

int no_entry(void*, const void**, std::size_t*, const void**, std::size_t*) { return STORE_END; }
// An entry without a key, or without the bytes that it says it has.
int empty_entry(void*, const void** key, std::size_t* key_len, const void**, std::size_t*) {
  *key = nullptr;
  *key_len = 0;
  return STORE_OK;
}
int null_key(void*, const void** key, std::size_t* key_len, const void**, std::size_t*) {
  *key = nullptr;
  *key_len = 1;
  return STORE_OK;
}
int null_value(void*, const void** key, std::size_t* key_len, const void** value, std::size_t* value_len) {
  *key = "k";
  *key_len = 1;
  *value = nullptr;
  *value_len = 1;
  return STORE_OK;
}

class CapiBadInput : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(store_open(path_.c_str(), nullptr, &db_), STORE_OK) << store_last_error();
    ASSERT_EQ(store_put(db_, "k", 1, "v", 1), STORE_OK);
    ASSERT_EQ(store_batch_create(&batch_), STORE_OK);
    ASSERT_EQ(store_snapshot_create(db_, &snapshot_), STORE_OK);
    ASSERT_EQ(store_scan_create(db_, nullptr, &scan_), STORE_OK);
  }
  void TearDown() override {
    EXPECT_EQ(store_scan_free(scan_), STORE_OK);
    EXPECT_EQ(store_snapshot_free(snapshot_), STORE_OK);
    EXPECT_EQ(store_batch_free(batch_), STORE_OK);
    EXPECT_EQ(store_close(db_), STORE_OK);
  }

  std::vector<Call<store_db>> db_calls() {
    return {
        {"get", [](store_db* db) { return store_get(db, "k", 1, &out.value, &out.value_len); }, true},
        {"get_into", [](store_db* db) { return store_get_into(db, "k", 1, nullptr, 0, &out.value_len); }, true},
        {"get_part", [](store_db* db) { return store_get_part(db, "k", 1, 1, nullptr, 0, &out.value_len); }, true},
        {"contains", [](store_db* db) { return store_contains(db, "k", 1); }},
        {"get_many", [](store_db* db) { return store_get_many(db, 1, kKeys, kKeyLens, &out.value, &out.value_len); },
         true},
        {"put", [](store_db* db) { return store_put(db, "k", 1, "v", 1); }},
        {"erase", [](store_db* db) { return store_erase(db, "k", 1); }},
        {"erase_range", [](store_db* db) { return store_erase_range(db, "k", 1, nullptr, 0); }},
        {"compare_and_put", [](store_db* db) { return store_compare_and_put(db, "k", 1, "v", 1, "v", 1); }},
        {"write", [this](store_db* db) { return store_write(db, batch_); }},
        {"snapshot_create", [](store_db* db) { return store_snapshot_create(db, &out.snapshot); }, true},
        {"scan_create", [](store_db* db) { return store_scan_create(db, nullptr, &out.scan); }, true},
        {"scan_prefix", [](store_db* db) { return store_scan_prefix(db, "k", 1, nullptr, &out.scan); }, true},
        {"bulk_load", [](store_db* db) { return store_bulk_load(db, no_entry, nullptr, &out.number); }, true},
        {"approximate_range",
         [](store_db* db) { return store_approximate_range(db, nullptr, 0, nullptr, 0, &out.number, nullptr); }, true},
        {"sync", [](store_db* db) { return store_sync(db); }},
        {"flush", [](store_db* db) { return store_flush(db); }},
        {"compact", [](store_db* db) { return store_compact(db, &out.number); }, true},
        {"compact_step", [](store_db* db) { return store_compact_step(db, 1, nullptr, nullptr, &out.number); }, true},
        {"backup", [this](store_db* db) { return store_backup(db, (path_ + ".copy").c_str(), nullptr, &out.number); },
         true},
        {"check", [](store_db* db) { return store_check(db, nullptr, nullptr); }},
        {"stat", [](store_db* db) { return store_stat(db, "entries", &out.number); }, true},
        {"stat_text", [](store_db* db) { return store_stat_text(db, "uuid", &out.text); }, true},
        {"prometheus", [](store_db* db) { return store_prometheus(1, &db, nullptr, &out.text); }, true},
    };
  }
  std::vector<Call<store_batch>> batch_calls() {
    return {
        {"put", [](store_batch* batch) { return store_batch_put(batch, "k", 1, "v", 1); }},
        {"erase", [](store_batch* batch) { return store_batch_erase(batch, "k", 1); }},
        {"erase_range", [](store_batch* batch) { return store_batch_erase_range(batch, "k", 1, nullptr, 0); }},
        {"expect", [](store_batch* batch) { return store_batch_expect(batch, "k", 1, nullptr, 0); }},
        {"clear", [](store_batch* batch) { return store_batch_clear(batch); }},
        {"write", [this](store_batch* batch) { return store_write(db_, batch); }},
    };
  }
  std::vector<Call<store_snapshot>> snapshot_calls() {
    return {
        {"get", [](store_snapshot* s) { return store_snapshot_get(s, "k", 1, &out.value, &out.value_len); }, true},
        {"contains", [](store_snapshot* s) { return store_snapshot_contains(s, "k", 1); }},
        {"get_many",
         [](store_snapshot* s) { return store_snapshot_get_many(s, 1, kKeys, kKeyLens, &out.value, &out.value_len); },
         true},
        {"scan", [](store_snapshot* s) { return store_snapshot_scan(s, nullptr, &out.scan); }, true},
        {"scan_prefix", [](store_snapshot* s) { return store_snapshot_scan_prefix(s, "k", 1, nullptr, &out.scan); },
         true},
    };
  }
  std::vector<Call<store_scan>> scan_calls() {
    return {
        {"next",
         [](store_scan* scan) {
           return store_scan_next(scan, &out.key, &out.key_len, &out.entry_value, &out.value_len);
         },
         true},
        {"seek", [](store_scan* scan) { return store_scan_seek(scan, "k", 1); }},
    };
  }

  // Expects each call to refuse the handle, and to clear what it gives out.
  template <class Handle>
  static void expect_refused(const std::vector<Call<Handle>>& calls, Handle* handle, store_code code,
                             const char* text) {
    for (const Call<Handle>& call : calls) {
      SCOPED_TRACE(call.name);
      int junk = 0;
      out = {.value = &junk,
             .value_len = 1,
             .key = &junk,
             .key_len = 1,
             .entry_value = &junk,
             .number = 1,
             .text = reinterpret_cast<char*>(&junk),
             .snapshot = reinterpret_cast<store_snapshot*>(&junk),
             .scan = reinterpret_cast<store_scan*>(&junk)};
      EXPECT_EQ(call.make(handle), code) << store_last_error();
      EXPECT_THAT(store_last_error(), HasSubstr(text));
      // Each call has cleared what it gives out: one place or a few.
      const bool gives = call.gives;
      EXPECT_EQ(gives, out.value == nullptr || out.value_len == 0 || out.entry_value == nullptr || out.number == 0 ||
                           out.text == nullptr || out.snapshot == nullptr || out.scan == nullptr);
    }
  }
  template <class Handle>
  void expect_no_handle(const std::vector<Call<Handle>>& calls) {
    expect_refused<Handle>(calls, nullptr, STORE_ERROR_INVALID_ARGUMENT, "is NULL");
    int on_stack = 0;
    for (void* other : {static_cast<void*>(db_), static_cast<void*>(batch_), static_cast<void*>(snapshot_),
                        static_cast<void*>(scan_), static_cast<void*>(&on_stack)}) {
      auto* handle = static_cast<Handle*>(other);
      if constexpr (std::is_same_v<Handle, store_db>) {
        if (handle == db_) continue;
      } else if constexpr (std::is_same_v<Handle, store_batch>) {
        if (handle == batch_) continue;
      } else if constexpr (std::is_same_v<Handle, store_snapshot>) {
        if (handle == snapshot_) continue;
      } else if (handle == scan_) {
        continue;
      }
      expect_refused<Handle>(calls, handle, STORE_ERROR_INVALID_ARGUMENT, "never given out");
    }
  }
  // What is refused, as a code; the text must have `text`.
  static void expect_invalid(store_code code, const char* text) {
    EXPECT_EQ(code, STORE_ERROR_INVALID_ARGUMENT);
    EXPECT_THAT(store_last_error(), HasSubstr(text));
  }

  const store::test::TempDir temp_;
  const std::string path_ = temp_.path() + "/db";
  store_db* db_ = nullptr;
  store_batch* batch_ = nullptr;
  store_snapshot* snapshot_ = nullptr;
  store_scan* scan_ = nullptr;
};

TEST_F(CapiBadInput, HandlesThatAreNone) {
  expect_no_handle(db_calls());
  expect_no_handle(batch_calls());
  expect_no_handle(snapshot_calls());
  expect_no_handle(scan_calls());
  // Handles as the library numbers them, of slots that were not used yet or do not exist.
  for (const std::uintptr_t step : {1u, 63u, 64u, 0xffff00u}) {
    auto* const other = reinterpret_cast<store_db*>(reinterpret_cast<std::uintptr_t>(db_) + step);
    expect_refused(db_calls(), other, STORE_ERROR_INVALID_ARGUMENT, "never given out");
  }
  expect_refused(db_calls(), reinterpret_cast<store_db*>(UINTPTR_MAX), STORE_ERROR_INVALID_ARGUMENT, "never given out");
}

TEST_F(CapiBadInput, HandlesThatWereClosed) {
  store_db* db = nullptr;
  ASSERT_EQ(store_open((path_ + "2").c_str(), nullptr, &db), STORE_OK);
  store_snapshot* snapshot = nullptr;
  ASSERT_EQ(store_snapshot_create(db, &snapshot), STORE_OK);
  store_scan* scan = nullptr;
  ASSERT_EQ(store_scan_create(db, nullptr, &scan), STORE_OK);
  store_batch* batch = nullptr;
  ASSERT_EQ(store_batch_create(&batch), STORE_OK);

  ASSERT_EQ(store_close(db), STORE_OK);
  EXPECT_EQ(store_close(db), STORE_ERROR_CLOSED);
  expect_refused(db_calls(), db, STORE_ERROR_CLOSED, "was closed");
  expect_refused(snapshot_calls(), snapshot, STORE_ERROR_CLOSED, "");
  expect_refused(scan_calls(), scan, STORE_ERROR_CLOSED, "");

  ASSERT_EQ(store_snapshot_free(snapshot), STORE_OK);
  EXPECT_EQ(store_snapshot_free(snapshot), STORE_ERROR_CLOSED);
  expect_refused(snapshot_calls(), snapshot, STORE_ERROR_CLOSED, "was closed");
  ASSERT_EQ(store_scan_free(scan), STORE_OK);
  EXPECT_EQ(store_scan_free(scan), STORE_ERROR_CLOSED);
  expect_refused(scan_calls(), scan, STORE_ERROR_CLOSED, "was closed");
  ASSERT_EQ(store_batch_free(batch), STORE_OK);
  EXPECT_EQ(store_batch_free(batch), STORE_ERROR_CLOSED);
  expect_refused(batch_calls(), batch, STORE_ERROR_CLOSED, "was closed");

  // What takes their place has other handles.
  store_batch* next = nullptr;
  ASSERT_EQ(store_batch_create(&next), STORE_OK);
  EXPECT_NE(next, batch);
  expect_refused(batch_calls(), batch, STORE_ERROR_CLOSED, "was closed");
  EXPECT_EQ(store_batch_free(next), STORE_OK);
}

TEST_F(CapiBadInput, PlacesForResultsThatAreNull) {
  void* value = nullptr;
  std::size_t len = 0;
  expect_invalid(store_open(path_.c_str(), nullptr, nullptr), "`db`");
  expect_invalid(store_get(db_, "k", 1, nullptr, &len), "`value`");
  expect_invalid(store_get(db_, "k", 1, &value, nullptr), "`value_len`");
  expect_invalid(store_get_into(db_, "k", 1, nullptr, 1, &len), "`buffer`");
  expect_invalid(store_get_into(db_, "k", 1, &value, 1, nullptr), "`value_len`");
  expect_invalid(store_get_many(db_, 1, nullptr, kKeyLens, &value, &len), "`keys`");
  expect_invalid(store_get_many(db_, 1, kKeys, nullptr, &value, &len), "`key_lens`");
  expect_invalid(store_get_many(db_, 1, kKeys, kKeyLens, nullptr, &len), "`values`");
  expect_invalid(store_get_many(db_, 1, kKeys, kKeyLens, &value, nullptr), "`value_lens`");
  expect_invalid(store_batch_create(nullptr), "`batch`");
  expect_invalid(store_snapshot_create(db_, nullptr), "`snapshot`");
  expect_invalid(store_snapshot_get(snapshot_, "k", 1, nullptr, &len), "`value`");
  expect_invalid(store_snapshot_get(snapshot_, "k", 1, &value, nullptr), "`value_len`");
  expect_invalid(store_snapshot_get_many(snapshot_, 1, kKeys, kKeyLens, nullptr, &len), "`values`");
  expect_invalid(store_scan_create(db_, nullptr, nullptr), "`scan`");
  expect_invalid(store_scan_prefix(db_, "k", 1, nullptr, nullptr), "`scan`");
  expect_invalid(store_snapshot_scan(snapshot_, nullptr, nullptr), "`scan`");
  expect_invalid(store_snapshot_scan_prefix(snapshot_, "k", 1, nullptr, nullptr), "`scan`");
  const void* key = nullptr;
  const void* entry = nullptr;
  expect_invalid(store_scan_next(scan_, nullptr, &len, &entry, &len), "`key`");
  expect_invalid(store_scan_next(scan_, &key, nullptr, &entry, &len), "`key_len`");
  expect_invalid(store_scan_next(scan_, &key, &len, nullptr, &len), "`value`");
  expect_invalid(store_scan_next(scan_, &key, &len, &entry, nullptr), "`value_len`");
  EXPECT_EQ(store_scan_next(scan_, &key, &len, &entry, &len), STORE_OK) << "the scan did not move";
  expect_invalid(store_stat(db_, "entries", nullptr), "`value`");
  expect_invalid(store_stat_text(db_, "uuid", nullptr), "`text`");
  expect_invalid(store_get_part(db_, "k", 1, 0, nullptr, 1, &len), "`buffer`");
  expect_invalid(store_prometheus(1, &db_, nullptr, nullptr), "`text`");
  store_db* const twice[] = {db_, db_};
  char* text = nullptr;
  expect_invalid(store_prometheus(1, nullptr, nullptr, &text), "`dbs`");
  expect_invalid(store_prometheus(2, twice, nullptr, &text), "`names`");
  const char* const names[] = {"one", nullptr};
  expect_invalid(store_prometheus(2, twice, names, &text), "`names[i]`");
  const char* const equal[] = {"one", "one"};
  expect_invalid(store_prometheus(2, twice, equal, &text), "`one`");
  EXPECT_EQ(store_prometheus(0, nullptr, nullptr, &text), STORE_OK);
  store_free(text);
}

TEST_F(CapiBadInput, BytesThatAreNull) {
  void* value = nullptr;
  std::size_t len = 0;
  const void* const keys[] = {nullptr};
  std::uint64_t number = 0;
  store_db* db = nullptr;
  expect_invalid(store_open(nullptr, nullptr, &db), "`path`");
  expect_invalid(store_backup(db_, nullptr, nullptr, nullptr), "`target`");
  expect_invalid(store_stat(db_, nullptr, &number), "`name`");
  char* text = nullptr;
  expect_invalid(store_stat_text(db_, nullptr, &text), "`name`");
  expect_invalid(store_approximate_range(db_, nullptr, 1, nullptr, 0, nullptr, nullptr), "`from`");
  expect_invalid(store_approximate_range(db_, nullptr, 0, nullptr, 1, nullptr, nullptr), "`to`");
  expect_invalid(store_bulk_load(db_, nullptr, nullptr, nullptr), "`source`");
  expect_invalid(store_get(db_, nullptr, 1, &value, &len), "`key`");
  expect_invalid(store_get_into(db_, nullptr, 1, nullptr, 0, &len), "`key`");
  expect_invalid(store_contains(db_, nullptr, 1), "`key`");
  expect_invalid(store_get_many(db_, 1, keys, kKeyLens, &value, &len), "`keys[i]`");
  expect_invalid(store_put(db_, nullptr, 1, "v", 1), "`key`");
  expect_invalid(store_put(db_, "k", 1, nullptr, 1), "`value`");
  expect_invalid(store_erase(db_, nullptr, 1), "`key`");
  expect_invalid(store_erase_range(db_, nullptr, 1, nullptr, 0), "`from`");
  expect_invalid(store_erase_range(db_, "k", 1, nullptr, 1), "`to`");
  expect_invalid(store_compare_and_put(db_, nullptr, 1, nullptr, 0, nullptr, 0), "`key`");
  expect_invalid(store_compare_and_put(db_, "k", 1, nullptr, 1, nullptr, 0), "`expected`");
  expect_invalid(store_compare_and_put(db_, "k", 1, nullptr, 0, nullptr, 1), "`desired`");
  expect_invalid(store_batch_put(batch_, nullptr, 1, "v", 1), "`key`");
  expect_invalid(store_batch_put(batch_, "k", 1, nullptr, 1), "`value`");
  expect_invalid(store_batch_erase(batch_, nullptr, 1), "`key`");
  expect_invalid(store_batch_erase_range(batch_, nullptr, 1, nullptr, 0), "`from`");
  expect_invalid(store_batch_erase_range(batch_, "k", 1, nullptr, 1), "`to`");
  expect_invalid(store_batch_expect(batch_, nullptr, 1, nullptr, 0), "`key`");
  expect_invalid(store_batch_expect(batch_, "k", 1, nullptr, 1), "`expected`");
  expect_invalid(store_snapshot_get(snapshot_, nullptr, 1, &value, &len), "`key`");
  expect_invalid(store_snapshot_contains(snapshot_, nullptr, 1), "`key`");
  expect_invalid(store_snapshot_get_many(snapshot_, 1, keys, kKeyLens, &value, &len), "`keys[i]`");
  store_scan* scan = nullptr;
  expect_invalid(store_scan_prefix(db_, nullptr, 1, nullptr, &scan), "`prefix`");
  expect_invalid(store_snapshot_scan_prefix(snapshot_, nullptr, 1, nullptr, &scan), "`prefix`");
  expect_invalid(store_scan_seek(scan_, nullptr, 1), "`key`");
  ASSERT_EQ(store_get(db_, "k", 1, &value, &len), STORE_OK) << "nothing was changed";
  store_free(value);
}

TEST_F(CapiBadInput, LengthsBeyondTheLimits) {
  void* value = nullptr;
  std::size_t len = 0;
  const std::string long_key(1025, 'k');
  expect_invalid(store_put(db_, nullptr, 0, "v", 1), "key");
  expect_invalid(store_get(db_, nullptr, 0, &value, &len), "key");
  expect_invalid(store_put(db_, long_key.data(), long_key.size(), "v", 1), "key");
  expect_invalid(store_get(db_, "k", SIZE_MAX, &value, &len), "key");
  expect_invalid(store_put(db_, "k", 1, "v", SIZE_MAX), "value");
  expect_invalid(store_erase_range(db_, long_key.data(), long_key.size(), nullptr, 0), "bound");
  expect_invalid(store_erase_range(db_, "k", 1, "k", SIZE_MAX), "length");
  expect_invalid(store_batch_put(batch_, "k", 1, "v", SIZE_MAX), "value");
  expect_invalid(store_scan_seek(scan_, "k", SIZE_MAX), "length");
}

TEST_F(CapiBadInput, OptionsThatCannotBe) {
  store_options options;
  expect_invalid(store_options_init(static_cast<store_options*>(nullptr)), "`options`");
  expect_invalid(store_options_init_sized(&options, 8), "`size`");
  const auto expect_bad_open = [&](const char* text) {
    store_db* db = nullptr;
    expect_invalid(store_open((path_ + "2").c_str(), &options, &db), text);
    EXPECT_EQ(store_options_init(&options), STORE_OK);
  };
  ASSERT_EQ(store_options_init(&options), STORE_OK);
  options.size = 0;
  expect_bad_open("`size`");
  options.size = sizeof options - 1;
  expect_bad_open("`size`");
  options.wal_mode = 3;
  expect_bad_open("`wal_mode`");
  options.wal_mode = -1;
  expect_bad_open("`wal_mode`");
  options.create = 2;
  expect_bad_open("`create`");
  options.read_only = -1;
  expect_bad_open("`read_only`");
  options.reserved = 1;
  expect_bad_open("`reserved`");
  options.write_buffer_bytes = 1;
  expect_bad_open("write_buffer_bytes");

  store_scan_options range;
  store_scan* scan = nullptr;
  expect_invalid(store_scan_options_init_sized(&range, sizeof range - 1), "`size`");
  const auto expect_bad_scan = [&](const char* text) {
    expect_invalid(store_scan_create(db_, &range, &scan), text);
    expect_invalid(store_snapshot_scan(snapshot_, &range, &scan), text);
    expect_invalid(store_scan_prefix(db_, "k", 1, &range, &scan), text);
    EXPECT_EQ(store_scan_options_init(&range), STORE_OK);
  };
  ASSERT_EQ(store_scan_options_init(&range), STORE_OK);
  range.size = 1;
  expect_bad_scan("`size`");
  range.lower_bound = 3;
  expect_bad_scan("`lower_bound`");
  range.upper_bound = -1;
  expect_bad_scan("`upper_bound`");
  range.reverse = 7;
  expect_bad_scan("`reverse`");
  range.lower_bound = STORE_INCLUSIVE;
  range.lower_len = 1;
  expect_bad_scan("`lower`");
  range.upper_bound = STORE_INCLUSIVE;
  expect_invalid(store_scan_prefix(db_, "k", 1, &range, &scan), "takes no bounds");

  store_backup_options backup;
  ASSERT_EQ(store_backup_options_init(&backup), STORE_OK);
  backup.overwrite = 2;
  expect_invalid(store_backup(db_, (path_ + ".copy").c_str(), &backup, nullptr), "`overwrite`");
  backup.size = 0;
  expect_invalid(store_backup(db_, (path_ + ".copy").c_str(), &backup, nullptr), "`size`");
  std::uint64_t number = 0;
  expect_invalid(store_stat(db_, "nope", &number), "`nope`");
  EXPECT_EQ(store_stat_name(SIZE_MAX), nullptr);
  char* text = nullptr;
  expect_invalid(store_stat_text(db_, "entries", &text), "`entries`");
  EXPECT_EQ(store_stat_text_name(SIZE_MAX), nullptr);
}

TEST_F(CapiBadInput, SourcesThatGiveNoEntry) {
  store_db* db = nullptr;
  ASSERT_EQ(store_open((path_ + "2").c_str(), nullptr, &db), STORE_OK);
  expect_invalid(store_bulk_load(db, empty_entry, nullptr, nullptr), "key");
  expect_invalid(store_bulk_load(db, null_key, nullptr, nullptr), "`key of the source`");
  expect_invalid(store_bulk_load(db, null_value, nullptr, nullptr), "`value of the source`");
  std::uint64_t entries = 1;
  EXPECT_EQ(store_bulk_load(db, no_entry, nullptr, &entries), STORE_OK) << store_last_error();
  EXPECT_EQ(entries, 0u) << "the store is as it was";
  EXPECT_EQ(store_close(db), STORE_OK);
}

// What a source calls on stores and queues would wait for the load that it is of.
TEST_F(CapiBadInput, CallsOfASource) {
  struct Context {
    store_db* db = nullptr;
    store_queue* queue = nullptr;
  } context;
  ASSERT_EQ(store_open((path_ + "2").c_str(), nullptr, &context.db), STORE_OK);
  ASSERT_EQ(store_queue_create(&context.queue), STORE_OK);
  const store_source_fn source = [](void* with, const void**, std::size_t*, const void**, std::size_t*) -> int {
    const auto& [db, queue] = *static_cast<Context*>(with);
    const store_done_fn done = [](void*, store_code, const void*, std::size_t) {};
    expect_invalid(store_async_sync(db, queue, done, nullptr), "source");
    expect_invalid(store_queue_run(queue, nullptr), "source");
    expect_invalid(store_queue_free(queue), "source");
    expect_invalid(store_close(db), "source");
    return STORE_END;
  };
  EXPECT_EQ(store_bulk_load(context.db, source, &context, nullptr), STORE_OK) << store_last_error();
  EXPECT_EQ(store_queue_free(context.queue), STORE_OK);
  EXPECT_EQ(store_close(context.db), STORE_OK);
}

// A program that was built with a later header, whose options have more members.
TEST_F(CapiBadInput, OptionsOfALaterVersion) {
  struct {
    store_options known;
    std::uint64_t later;
  } options;
  ASSERT_EQ(store_options_init_sized(&options.known, sizeof options), STORE_OK);
  EXPECT_EQ(options.known.size, sizeof options);
  EXPECT_EQ(options.later, 0u) << "the default of what the library does not know is that it does not ask for it";
  store_db* db = nullptr;
  ASSERT_EQ(store_open((path_ + "2").c_str(), &options.known, &db), STORE_OK) << store_last_error();
  EXPECT_EQ(store_close(db), STORE_OK);
  options.later = 1;
  expect_invalid(store_open((path_ + "2").c_str(), &options.known, &db), "does not know");
}

}  // namespace
