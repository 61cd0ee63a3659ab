#include "unit/capi/calls.hpp"

#include <gtest/gtest.h>
#include <poll.h>

#include <store/store.h>
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace store::test {
namespace {

std::set<std::string_view> g_called;

// A function of the header, which is counted as called.
template <class Function>
Function* called(const char* name, Function* function) {
  g_called.insert(name);
  return function;
}
#define CALL(name) called(#name, name)

using Map = std::map<std::string, std::string>;

// A handle and what the model knows of its object: nothing once it was closed.
template <class Handle, class Model>
struct Known {
  Handle* handle = nullptr;
  std::shared_ptr<Model> model;
  bool none = false;  // it is no handle of this kind
};

struct File {
  std::string path;
  Map entries;
  bool open = false;
};
struct DbModel {
  File* file;
  bool open = true;
};
struct BatchModel {
  std::vector<std::function<void(Map&)>> changes;
  std::vector<std::pair<std::string, std::optional<std::string>>> expectations;
};
struct SnapshotModel {
  std::shared_ptr<DbModel> db;
  Map entries;
};
struct ScanModel {
  std::shared_ptr<DbModel> db;
  std::vector<std::pair<std::string, std::string>> range;  // in the order of the scan
  std::size_t at = 0;
  std::uint64_t left;  // of its limit
  bool reverse;
  bool ended = false;
};

class Calls {
 public:
  Calls(Choices& choices, const std::string& directory) : choices_(choices), directory_(directory) {
    for (std::size_t i = 0; i < files_.size(); ++i) files_[i].path = directory + "/db" + std::to_string(i);
  }

  void one() {
    using Step = void (Calls::*)();
    static constexpr Step kSteps[] = {
        &Calls::open,
        &Calls::close,
        &Calls::get,
        &Calls::get,
        &Calls::get_into,
        &Calls::get_many,
        &Calls::put,
        &Calls::put,
        &Calls::put,
        &Calls::erase,
        &Calls::erase_range,
        &Calls::compare,
        &Calls::write,
        &Calls::batch_change,
        &Calls::batch_change,
        &Calls::batch_change,
        &Calls::batch_end,
        &Calls::snapshot,
        &Calls::snapshot_get,
        &Calls::snapshot_get,
        &Calls::snapshot_free,
        &Calls::scan,
        &Calls::scan,
        &Calls::scan_next,
        &Calls::scan_next,
        &Calls::scan_next,
        &Calls::scan_seek,
        &Calls::scan_free,
        &Calls::upkeep,
        &Calls::get_part,
        &Calls::bulk_load,
        &Calls::estimate,
        &Calls::snapshot_get_many,
        &Calls::compact_step,
        &Calls::backup,
        &Calls::statistics,
        &Calls::options_of_any_size,
        &Calls::texts,
        &Calls::impossible,
        &Calls::async,
        &Calls::async,
        &Calls::queue_change,
    };
    (this->*kSteps[below(std::size(kSteps))])();
  }

  void close_all() {
    for (const auto& scan : scans_) EXPECT_EQ(CALL(store_scan_free)(scan.handle), code_of_free(scan));
    for (const auto& snapshot : snapshots_)
      EXPECT_EQ(CALL(store_snapshot_free)(snapshot.handle), code_of_free(snapshot));
    for (const auto& batch : batches_) EXPECT_EQ(CALL(store_batch_free)(batch.handle), code_of_free(batch));
    for (const auto& queue : queues_) EXPECT_EQ(CALL(store_queue_free)(queue.handle), code_of_free(queue));
    for (const auto& db : dbs_) {
      EXPECT_EQ(CALL(store_close)(db.handle), code_of_free(db));
    }
    for (const File& file : files_) std::filesystem::remove(file.path);
    std::filesystem::remove(copy());
  }

 private:
  static constexpr std::size_t kHandles = 4;  // of each kind that the model remembers

  std::size_t below(std::size_t end) { return choices_.below(end); }
  bool chance(std::size_t one_in) { return below(one_in) == 0; }

  std::string key() {
    if (chance(100)) return std::string(1025, 'k');
    std::string text(chance(50) ? 0 : 1 + below(3), ' ');
    for (char& c : text) c = "\0ab\xff"[below(4)];
    return text;
  }
  std::string value() { return std::string(chance(10) ? below(9000) : below(40), static_cast<char>(below(256))); }
  std::optional<std::string> maybe(std::string text) {
    if (chance(4)) return std::nullopt;
    return text;
  }
  static bool is_valid(const std::string& key) { return !key.empty() && key.size() <= 1024; }
  static const char* data(const std::optional<std::string>& text) { return text ? text->data() : nullptr; }
  static std::size_t size(const std::optional<std::string>& text) { return text ? text->size() : 0; }
  static std::optional<std::string> found(const Map& map, const std::string& key) {
    const auto it = map.find(key);
    return it == map.end() ? std::nullopt : std::optional(it->second);
  }
  static void erase_range_of(Map& map, const std::string& from, const std::optional<std::string>& to) {
    if (to && *to <= from) return;
    map.erase(map.lower_bound(from), to ? map.lower_bound(*to) : map.end());
  }

  // What is no handle of these: one of another kind, or an address.
  void* other_than(const void* handles) {
    const auto one_of = [&](const auto& others) -> void* {
      if (static_cast<const void*>(&others) == handles || others.empty()) return this;
      return others[below(others.size())].handle;
    };
    switch (below(6)) {
      case 0: return one_of(dbs_);
      case 1: return one_of(batches_);
      case 2: return one_of(snapshots_);
      case 3: return one_of(scans_);
      case 4: return one_of(queues_);
      default: return this;
    }
  }
  // A handle that is NULL, alive, closed or of another kind.
  template <class Entry>
  Entry pick(std::vector<Entry>& handles) {
    if (handles.empty() || chance(20)) return {};
    if (chance(20))
      return Entry{
          .handle = reinterpret_cast<decltype(Entry::handle)>(other_than(&handles)), .model = nullptr, .none = true};
    return handles[below(handles.size())];
  }
  template <class Entry>
  Entry& remember(std::vector<Entry>& handles, Entry entry, store_code (*free)(decltype(Entry::handle))) {
    if (handles.size() < kHandles) return handles.emplace_back(std::move(entry));
    Entry& old = handles[below(kHandles)];
    EXPECT_EQ(free(old.handle), old.model ? STORE_OK : STORE_ERROR_CLOSED);
    return old = std::move(entry);
  }
  template <class Entry>
  void forget(std::vector<Entry>& handles, const Entry& gone) {
    for (Entry& entry : handles) {
      if (entry.handle == gone.handle) entry.model = nullptr;
    }
  }
  // The code of calls on a handle that is not alive; of others `otherwise`.
  template <class Entry>
  static store_code code_for(const Entry& entry, store_code otherwise) {
    if (entry.handle == nullptr || entry.none) return STORE_ERROR_INVALID_ARGUMENT;
    return entry.model ? otherwise : STORE_ERROR_CLOSED;
  }
  // Of calls that free a handle.
  template <class Entry>
  static store_code code_of_free(const Entry& entry) {
    return entry.handle == nullptr ? STORE_OK : code_for(entry, STORE_OK);
  }
  // The same where the store may have been closed under a snapshot or scan.
  template <class Entry>
  static store_code code_within(const Entry& entry, store_code otherwise) {
    return code_for(entry, entry.model && !entry.model->db->open ? STORE_ERROR_CLOSED : otherwise);
  }

  using Db = Known<store_db, DbModel>;
  using Batch = Known<store_batch, BatchModel>;
  using Snapshot = Known<store_snapshot, SnapshotModel>;
  using Scan = Known<store_scan, ScanModel>;
  struct QueueModel {};
  using Queue = Known<store_queue, QueueModel>;
  static Map& entries(const Db& db) { return db.model->file->entries; }

  static void expect_value(store_code code, void* value, std::size_t len, store_code want,
                           const std::optional<std::string>& expected) {
    ASSERT_EQ(code, want) << CALL(store_last_error)();
    if (code != STORE_OK) {
      EXPECT_EQ(value, nullptr);
      return;
    }
    ASSERT_NE(value, nullptr);
    EXPECT_EQ(std::string(static_cast<const char*>(value), len), *expected);
    CALL(store_free)(value);
  }
  // What a get of the key gives, of a handle that is alive.
  static store_code code_of_get(const std::string& key, const std::optional<std::string>& expected) {
    if (!is_valid(key)) return STORE_ERROR_INVALID_ARGUMENT;
    return expected ? STORE_OK : STORE_KEY_NOT_FOUND;
  }

  static store_options small_options() {
    store_options options;
    EXPECT_EQ(CALL(store_options_init_sized)(&options, sizeof options), STORE_OK);
    options.cache_bytes = 256 << 10;
    options.write_buffer_bytes = 64 << 10;
    options.wal_mode = STORE_WAL_NONE;
    return options;
  }
  void open() {
    File& file = files_[below(files_.size())];
    if (!file.open && dbs_.size() == kHandles && !chance(3)) return;
    store_options options = small_options();
    options.wal_mode = static_cast<int>(below(2));
    Db db;
    const store_code code = CALL(store_open)(file.path.c_str(), &options, &db.handle);
    ASSERT_EQ(code, file.open ? STORE_ERROR_LOCKED : STORE_OK) << CALL(store_last_error)();
    if (code != STORE_OK) return;
    file.open = true;
    db.model = std::make_shared<DbModel>(DbModel{&file});
    if (dbs_.size() < kHandles) {
      dbs_.push_back(std::move(db));
      return;
    }
    // There are fewer files than handles: one of them is closed.
    for (Db& old : dbs_) {
      if (old.model) continue;
      old = std::move(db);
      return;
    }
  }
  void close() {
    if (!chance(5)) return;
    const Db db = pick(dbs_);
    const store_code code = CALL(store_close)(db.handle);
    ASSERT_EQ(code, code_of_free(db)) << CALL(store_last_error)();
    if (!db.model) return;
    db.model->open = db.model->file->open = false;
    forget(dbs_, db);
  }

  void get() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const auto expected = db.model ? found(entries(db), k) : std::nullopt;
    const store_code want = code_for(db, code_of_get(k, expected));
    void* value = nullptr;
    std::size_t len = 0;
    const store_code code = CALL(store_get)(db.handle, k.data(), k.size(), &value, &len);
    expect_value(code, value, len, want, expected);
    EXPECT_EQ(CALL(store_contains)(db.handle, k.data(), k.size()), want);
  }
  void get_into() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const auto expected = db.model ? found(entries(db), k) : std::nullopt;
    std::string buffer(below(100), '#');
    std::size_t len = 1;
    const store_code code = CALL(store_get_into)(db.handle, k.data(), k.size(), buffer.data(), buffer.size(), &len);
    ASSERT_EQ(code, code_for(db, code_of_get(k, expected))) << CALL(store_last_error)();
    EXPECT_EQ(len, code == STORE_OK ? expected->size() : 0);
    if (code == STORE_OK) {
      const std::size_t copied = std::min(len, buffer.size());
      EXPECT_EQ(buffer.substr(0, copied), expected->substr(0, copied));
    }
  }
  void get_many() {
    const Db db = pick(dbs_);
    std::vector<std::string> keys(below(6));
    std::vector<const void*> pointers;
    std::vector<std::size_t> lens;
    bool valid = true;
    for (std::string& k : keys) {
      k = key();
      valid = valid && is_valid(k);
      pointers.push_back(k.data());
      lens.push_back(k.size());
    }
    std::vector<void*> values(keys.size(), &keys);
    std::vector<std::size_t> value_lens(keys.size());
    const store_code code =
        CALL(store_get_many)(db.handle, keys.size(), pointers.data(), lens.data(), values.data(), value_lens.data());
    ASSERT_EQ(code, code_for(db, valid ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << CALL(store_last_error)();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto expected = code == STORE_OK ? found(entries(db), keys[i]) : std::nullopt;
      expect_value(values[i] == nullptr ? STORE_KEY_NOT_FOUND : STORE_OK, values[i], value_lens[i],
                   expected ? STORE_OK : STORE_KEY_NOT_FOUND, expected);
    }
  }

  // What a callback was told.
  struct Told {
    int times = 0;
    store_code code = STORE_OK;
    std::string value;
    store_queue* queue = nullptr;

    static void tell(void* context, store_code code, const void* value, std::size_t value_len) {
      auto& told = *static_cast<Told*>(context);
      ++told.times;
      told.code = code;
      told.value.assign(static_cast<const char*>(value), value_len);
      EXPECT_EQ(CALL(store_queue_run)(told.queue, nullptr), STORE_ERROR_INVALID_ARGUMENT) << "not in a callback";
      EXPECT_EQ(CALL(store_queue_free)(told.queue), STORE_ERROR_INVALID_ARGUMENT) << "not in a callback";
    }
  };
  // One call that ends in a callback, for which it waits.
  void async() {
    const Db db = pick(dbs_);
    const Queue queue = pick(queues_);
    const Batch batch = pick(batches_);
    const std::string k = key();
    const std::string v = value();
    Told told;
    told.queue = queue.handle;
    const store_done_fn done = chance(20) ? nullptr : Told::tell;
    store_code started = STORE_OK;
    store_code want = is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT;
    std::optional<std::string> expected;
    const std::size_t which = below(6);
    switch (which) {
      case 0:
        expected = db.model ? found(entries(db), k) : std::nullopt;
        want = code_of_get(k, expected);
        started = CALL(store_async_get)(db.handle, queue.handle, k.data(), k.size(), done, &told);
        break;
      case 1:
        started = CALL(store_async_put)(db.handle, queue.handle, k.data(), k.size(), v.data(), v.size(), done, &told);
        break;
      case 2: started = CALL(store_async_erase)(db.handle, queue.handle, k.data(), k.size(), done, &told); break;
      case 3:
        want = db.model && batch.model ? code_of_write(db, batch) : STORE_OK;
        started = CALL(store_async_write)(db.handle, queue.handle, batch.handle, done, &told);
        break;
      case 4:
        want = STORE_OK;
        started = CALL(store_async_sync)(db.handle, queue.handle, done, &told);
        break;
      default: want = STORE_OK; started = CALL(store_async_flush)(db.handle, queue.handle, done, &told);
    }
    store_code must_start = code_for(db, code_for(queue, which == 3 ? code_for(batch, STORE_OK) : STORE_OK));
    if (done == nullptr) must_start = STORE_ERROR_INVALID_ARGUMENT;
    ASSERT_EQ(started, must_start) << CALL(store_last_error)();
    if (started != STORE_OK) return;
    int fd = -1;
    ASSERT_EQ(CALL(store_queue_fd)(queue.handle, &fd), STORE_OK);
    pollfd watched{.fd = fd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(::poll(&watched, 1, 60'000), 1) << "nothing was told for a minute";
    std::size_t count = 0;
    ASSERT_EQ(CALL(store_queue_run)(queue.handle, chance(2) ? &count : nullptr), STORE_OK);
    EXPECT_LE(count, 1u);
    ASSERT_EQ(told.times, 1);
    ASSERT_EQ(told.code, want) << which;
    EXPECT_EQ(told.value, told.code == STORE_OK && expected ? *expected : "");
    if (told.code != STORE_OK) return;
    if (which == 1) entries(db)[k] = v;
    if (which == 2) entries(db).erase(k);
    if (which == 3) apply(db, batch);
  }
  void queue_change() {
    if (!chance(5)) return;
    Queue made;
    ASSERT_EQ(CALL(store_queue_create)(&made.handle), STORE_OK) << CALL(store_last_error)();
    made.model = std::make_shared<QueueModel>();
    remember(queues_, std::move(made), CALL(store_queue_free));
    if (!chance(3)) return;
    const Queue queue = pick(queues_);
    ASSERT_EQ(CALL(store_queue_free)(queue.handle), code_of_free(queue));
    forget(queues_, queue);
    int fd = 0;
    ASSERT_EQ(CALL(store_queue_fd)(queue.handle, &fd), code_for(queue, STORE_ERROR_CLOSED));
    EXPECT_EQ(fd, -1);
  }

  void get_part() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const auto expected = db.model ? found(entries(db), k) : std::nullopt;
    const std::uint64_t offset = chance(8) ? UINT64_MAX - below(2) : below(9000);
    std::string buffer(below(100), '#');
    std::size_t len = 1;
    const store_code code =
        CALL(store_get_part)(db.handle, k.data(), k.size(), offset, buffer.data(), buffer.size(), &len);
    ASSERT_EQ(code, code_for(db, code_of_get(k, expected))) << CALL(store_last_error)();
    EXPECT_EQ(len, code == STORE_OK ? expected->size() : 0);
    std::string want(buffer.size(), '#');
    if (code == STORE_OK && offset < expected->size()) {
      const std::string part = expected->substr(offset, buffer.size());
      want.replace(0, part.size(), part);
    }
    EXPECT_EQ(buffer, want) << "nothing else is written to";
  }

  void put() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const std::string v = value();
    const store_code code = CALL(store_put)(db.handle, k.data(), k.size(), v.data(), v.size());
    ASSERT_EQ(code, code_for(db, is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << CALL(store_last_error)();
    if (code == STORE_OK) entries(db)[k] = v;
  }
  void erase() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const store_code code = CALL(store_erase)(db.handle, k.data(), k.size());
    ASSERT_EQ(code, code_for(db, is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << CALL(store_last_error)();
    if (code == STORE_OK) entries(db).erase(k);
  }
  void erase_range() {
    const Db db = pick(dbs_);
    const std::string from = key();
    const auto to = maybe(key());
    const bool valid = from.size() <= 1024 && size(to) <= 1024;
    const store_code code = CALL(store_erase_range)(db.handle, from.data(), from.size(), data(to), size(to));
    ASSERT_EQ(code, code_for(db, valid ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << CALL(store_last_error)();
    if (code == STORE_OK) erase_range_of(entries(db), from, to);
  }
  void compare() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const auto now = db.model ? found(entries(db), k) : std::nullopt;
    const auto expected = chance(3) ? maybe(value()) : now;
    const auto desired = maybe(value());
    store_code want = expected == now ? STORE_OK : STORE_ERROR_CONFLICT;
    if (!is_valid(k)) want = STORE_ERROR_INVALID_ARGUMENT;
    const store_code code = CALL(store_compare_and_put)(db.handle, k.data(), k.size(), data(expected), size(expected),
                                                        data(desired), size(desired));
    ASSERT_EQ(code, code_for(db, want)) << CALL(store_last_error)();
    if (code != STORE_OK) return;
    if (desired) {
      entries(db)[k] = *desired;
    } else {
      entries(db).erase(k);
    }
  }

  // A source of entries, in order if they happen to be, that ends with `outcome`.
  struct Source {
    static int next(void* context, const void** key, std::size_t* key_len, const void** value, std::size_t* value_len) {
      Source& source = *static_cast<Source*>(context);
      // What uses a store is refused here, in the middle of a call of that store.
      EXPECT_EQ(CALL(store_sync)(source.db), STORE_ERROR_INVALID_ARGUMENT);
      EXPECT_EQ(CALL(store_close)(source.db), STORE_ERROR_INVALID_ARGUMENT);
      if (source.at == source.entries.size()) return source.outcome;
      const auto& entry = source.entries[source.at++];
      *key = entry.first.data();
      *key_len = entry.first.size();
      *value = entry.second.data();
      *value_len = entry.second.size();
      return STORE_OK;
    }

    store_db* db;
    std::vector<std::pair<std::string, std::string>> entries;
    int outcome = STORE_END;
    std::size_t at = 0;
  };
  void bulk_load() {
    const Db db = pick(dbs_);
    if (db.model && chance(2)) {  // else it has entries, nearly always
      ASSERT_EQ(CALL(store_erase_range)(db.handle, nullptr, 0, nullptr, 0), STORE_OK) << CALL(store_last_error)();
      entries(db).clear();
    }
    Source source{.db = db.handle, .entries = {}};
    if (chance(4)) source.outcome = chance(2) ? STORE_ERROR_ABORTED : static_cast<int>(below(200)) - 100;
    bool valid = true;
    std::size_t handed_out = 0;  // entries up to the first that is refused, itself included
    for (std::size_t count = below(6); count > 0; --count) {
      std::string k = chance(4) ? key() : std::string(1 + source.entries.size(), 'k');
      const bool fits = is_valid(k) && (source.entries.empty() || k > source.entries.back().first);
      source.entries.emplace_back(std::move(k), value());
      if (!valid) continue;
      valid = fits;
      ++handed_out;
    }
    if (source.outcome == STORE_OK) source.outcome = STORE_END;  // that would be an entry
    store_code want = valid ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT;
    const bool is_error = source.outcome > 0 && CALL(store_code_name)(source.outcome) != std::string_view("unknown");
    if (valid && source.outcome != STORE_END) {
      want = is_error ? static_cast<store_code>(source.outcome) : STORE_ERROR_INVALID_ARGUMENT;
    }
    if (db.model && !entries(db).empty()) want = STORE_ERROR_INVALID_ARGUMENT;
    std::uint64_t loaded = 1;
    const store_code code = CALL(store_bulk_load)(db.handle, chance(20) ? nullptr : Source::next, &source, &loaded);
    if (source.at == 0 && code == STORE_ERROR_INVALID_ARGUMENT) return;  // of a source that is NULL, too
    ASSERT_EQ(code, code_for(db, want)) << CALL(store_last_error)();
    EXPECT_EQ(loaded, code == STORE_OK ? source.entries.size() : 0);
    EXPECT_LE(source.at, handed_out + 1);
    if (code != STORE_OK) return;
    for (const auto& [k, v] : source.entries) entries(db)[k] = v;
  }
  void estimate() {
    const Db db = pick(dbs_);
    const std::string from = key();
    const auto to = maybe(key());
    std::uint64_t count = 1;
    std::uint64_t bytes = 1;
    const store_code code = CALL(store_approximate_range)(db.handle, from.data(), from.size(), data(to), size(to),
                                                          &count, chance(4) ? nullptr : &bytes);
    ASSERT_EQ(code, code_for(db, STORE_OK)) << CALL(store_last_error)();
    if (code != STORE_OK || (to && *to <= from)) {
      EXPECT_EQ(count, 0u);
    }
  }

  void batch_change() {
    if (batches_.size() < kHandles && chance(2)) {
      Batch made{.handle = nullptr, .model = std::make_shared<BatchModel>()};
      ASSERT_EQ(CALL(store_batch_create)(&made.handle), STORE_OK);
      remember(batches_, std::move(made), store_batch_free);
    }
    const Batch batch = pick(batches_);
    const std::string k = key();
    const store_code want = code_for(batch, is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT);
    if (chance(4)) {
      const auto expected = maybe(value());
      ASSERT_EQ(CALL(store_batch_expect)(batch.handle, k.data(), k.size(), data(expected), size(expected)), want);
      if (want == STORE_OK) batch.model->expectations.emplace_back(k, expected);
    } else if (chance(3)) {
      ASSERT_EQ(CALL(store_batch_erase)(batch.handle, k.data(), k.size()), want);
      if (want == STORE_OK) batch.model->changes.emplace_back([k](Map& map) { map.erase(k); });
    } else if (chance(6) && is_valid(k)) {
      ASSERT_EQ(CALL(store_batch_erase_range)(batch.handle, k.data(), k.size(), "b", 1), want);
      if (want == STORE_OK) batch.model->changes.emplace_back([k](Map& map) { erase_range_of(map, k, "b"); });
    } else {
      const std::string v = value();
      ASSERT_EQ(CALL(store_batch_put)(batch.handle, k.data(), k.size(), v.data(), v.size()), want);
      if (want == STORE_OK) batch.model->changes.emplace_back([k, v](Map& map) { map[k] = v; });
    }
  }
  void write() {
    const Db db = pick(dbs_);
    const Batch batch = pick(batches_);
    store_code want = code_for(db, code_for(batch, STORE_OK));
    if (want == STORE_OK) want = code_of_write(db, batch);
    ASSERT_EQ(CALL(store_write)(db.handle, batch.handle), want) << CALL(store_last_error)();
    if (want == STORE_OK) apply(db, batch);
  }
  // Of handles that are alive.
  static store_code code_of_write(const Db& db, const Batch& batch) {
    for (const auto& [k, expected] : batch.model->expectations) {
      if (found(entries(db), k) != expected) return STORE_ERROR_CONFLICT;
    }
    return STORE_OK;
  }
  static void apply(const Db& db, const Batch& batch) {
    for (const auto& change : batch.model->changes) change(entries(db));
  }
  void batch_end() {
    const Batch batch = pick(batches_);
    if (!chance(4)) {
      ASSERT_EQ(CALL(store_batch_clear)(batch.handle), code_for(batch, STORE_OK));
      if (batch.model) *batch.model = {};
      return;
    }
    ASSERT_EQ(CALL(store_batch_free)(batch.handle), code_of_free(batch));
    forget(batches_, batch);
    if (batches_.size() == kHandles && chance(2)) batches_.erase(batches_.begin());
  }

  void snapshot() {
    const Db db = pick(dbs_);
    Snapshot made;
    ASSERT_EQ(CALL(store_snapshot_create)(db.handle, &made.handle), code_for(db, STORE_OK)) << CALL(store_last_error)();
    if (!db.model) return;
    made.model = std::make_shared<SnapshotModel>(SnapshotModel{db.model, entries(db)});
    remember(snapshots_, std::move(made), store_snapshot_free);
  }
  void snapshot_get() {
    const Snapshot snapshot = pick(snapshots_);
    const std::string k = key();
    const auto expected = snapshot.model ? found(snapshot.model->entries, k) : std::nullopt;
    // Which of the two errors a bad key of a closed store is does not matter.
    if (!is_valid(k) && snapshot.model && !snapshot.model->db->open) return;
    const store_code want = code_within(snapshot, code_of_get(k, expected));
    void* value = nullptr;
    std::size_t len = 0;
    const store_code code = CALL(store_snapshot_get)(snapshot.handle, k.data(), k.size(), &value, &len);
    expect_value(code, value, len, want, expected);
    EXPECT_EQ(CALL(store_snapshot_contains)(snapshot.handle, k.data(), k.size()), want);
  }
  void snapshot_get_many() {
    const Snapshot snapshot = pick(snapshots_);
    const std::string k = key();
    if (!is_valid(k)) return;
    const void* const keys[] = {k.data(), k.data()};
    const std::size_t lens[] = {k.size(), k.size()};
    void* values[] = {this, this};
    std::size_t value_lens[] = {1, 1};
    const store_code code = CALL(store_snapshot_get_many)(snapshot.handle, 2, keys, lens, values, value_lens);
    ASSERT_EQ(code, code_within(snapshot, STORE_OK)) << CALL(store_last_error)();
    const auto expected = code == STORE_OK ? found(snapshot.model->entries, k) : std::nullopt;
    for (std::size_t i = 0; i < 2; ++i) {
      expect_value(expected ? STORE_OK : STORE_KEY_NOT_FOUND, values[i], value_lens[i],
                   expected ? STORE_OK : STORE_KEY_NOT_FOUND, expected);
    }
  }
  void snapshot_free() {
    if (!chance(3)) return;
    const Snapshot snapshot = pick(snapshots_);
    ASSERT_EQ(CALL(store_snapshot_free)(snapshot.handle), code_of_free(snapshot));
    forget(snapshots_, snapshot);
  }

  // Begins a scan of a store or a snapshot, of a range or a prefix.
  void scan() {
    const bool of_snapshot = chance(2);
    const Db db = of_snapshot ? Db{} : pick(dbs_);
    const Snapshot snapshot = of_snapshot ? pick(snapshots_) : Snapshot{};
    const store_code want = of_snapshot ? code_within(snapshot, STORE_OK) : code_for(db, STORE_OK);
    store_scan_options options;
    ASSERT_EQ(CALL(store_scan_options_init_sized)(&options, sizeof options), STORE_OK);
    options.reverse = static_cast<int>(below(2));
    options.limit = chance(3) ? 1 + below(5) : 0;
    const std::string lower = key();
    const std::string upper = key();
    const bool by_prefix = chance(3);
    Scan made;
    store_code code = STORE_OK;
    if (by_prefix) {
      code = of_snapshot
                 ? CALL(store_snapshot_scan_prefix)(snapshot.handle, lower.data(), lower.size(), &options, &made.handle)
                 : CALL(store_scan_prefix)(db.handle, lower.data(), lower.size(), &options, &made.handle);
    } else {
      options.lower = lower.data();
      options.lower_len = lower.size();
      options.lower_bound = static_cast<int>(below(3));
      options.upper = upper.data();
      options.upper_len = upper.size();
      options.upper_bound = static_cast<int>(below(3));
      code = of_snapshot ? CALL(store_snapshot_scan)(snapshot.handle, &options, &made.handle)
                         : CALL(store_scan_create)(db.handle, &options, &made.handle);
    }
    ASSERT_EQ(code, want) << CALL(store_last_error)();
    EXPECT_EQ(made.handle != nullptr, code == STORE_OK);
    if (code != STORE_OK) return;
    const auto within = [&](const std::string& k) {
      if (by_prefix) return k.starts_with(lower);
      const bool above =
          options.lower_bound == STORE_UNBOUNDED || k > lower || (k == lower && options.lower_bound == STORE_INCLUSIVE);
      const bool below_end =
          options.upper_bound == STORE_UNBOUNDED || k < upper || (k == upper && options.upper_bound == STORE_INCLUSIVE);
      return above && below_end;
    };
    made.model = std::make_shared<ScanModel>();
    made.model->db = of_snapshot ? snapshot.model->db : db.model;
    for (const auto& entry : of_snapshot ? snapshot.model->entries : entries(db)) {
      if (within(entry.first)) made.model->range.push_back(entry);
    }
    made.model->reverse = options.reverse == 1;
    if (made.model->reverse) std::ranges::reverse(made.model->range);
    made.model->left = options.limit == 0 ? UINT64_MAX : options.limit;
    remember(scans_, std::move(made), store_scan_free);
  }
  void scan_next() {
    const Scan scan = pick(scans_);
    const void* key = this;
    const void* value = this;
    std::size_t key_len = 1;
    std::size_t value_len = 1;
    const store_code code = CALL(store_scan_next)(scan.handle, &key, &key_len, &value, &value_len);
    if (scan.model && !scan.model->db->open && code == STORE_ERROR_CLOSED) return;  // it had read no further
    const bool there = scan.model && scan.model->at < scan.model->range.size() && scan.model->left > 0;
    ASSERT_EQ(code, code_for(scan, there ? STORE_OK : STORE_END)) << CALL(store_last_error)();
    if (code != STORE_OK) {
      EXPECT_EQ(key, nullptr);
      return;
    }
    const auto& expected = scan.model->range[scan.model->at++];
    --scan.model->left;
    EXPECT_EQ(std::string(static_cast<const char*>(key), key_len), expected.first);
    EXPECT_EQ(std::string(static_cast<const char*>(value), value_len), expected.second);
  }
  void scan_seek() {
    const Scan scan = pick(scans_);
    const std::string k = key();
    // A limit counts what the scan has read ahead: the model of seeks has none.
    if (scan.model && scan.model->left < UINT64_MAX / 2) return;
    const store_code code = CALL(store_scan_seek)(scan.handle, k.data(), k.size());
    ASSERT_EQ(code, code_within(scan, STORE_OK)) << CALL(store_last_error)();
    if (code != STORE_OK) return;
    const auto& range = scan.model->range;
    const auto to = std::ranges::find_if(
        range, [&](const auto& entry) { return scan.model->reverse ? entry.first <= k : entry.first >= k; });
    scan.model->at = static_cast<std::size_t>(to - range.begin());
  }
  void scan_free() {
    if (!chance(3)) return;
    const Scan scan = pick(scans_);
    ASSERT_EQ(CALL(store_scan_free)(scan.handle), code_of_free(scan));
    forget(scans_, scan);
  }

  void upkeep() {
    const Db db = pick(dbs_);
    const store_code want = code_for(db, STORE_OK);
    std::uint64_t number = 1;
    if (chance(8)) {
      ASSERT_EQ(CALL(store_compact)(db.handle, &number), want) << CALL(store_last_error)();
    } else if (chance(8)) {
      ASSERT_EQ(CALL(store_check)(db.handle, nullptr, nullptr), want) << CALL(store_last_error)();
    } else if (chance(2)) {
      ASSERT_EQ(CALL(store_sync)(db.handle), want) << CALL(store_last_error)();
    } else {
      ASSERT_EQ(CALL(store_flush)(db.handle), want) << CALL(store_last_error)();
      ASSERT_EQ(CALL(store_stat)(db.handle, "entries", &number), want) << CALL(store_last_error)();
      EXPECT_EQ(number, db.model ? entries(db).size() : 0);
    }
  }

  void compact_step() {
    const Db db = pick(dbs_);
    int finished = 7;
    std::uint64_t moved = 1;
    std::uint64_t freed = 1;
    const std::uint64_t limit = chance(4) ? UINT64_MAX : below(20'000);
    const bool wanted = !chance(4);
    const store_code code =
        CALL(store_compact_step)(db.handle, limit, wanted ? &finished : nullptr, wanted ? &moved : nullptr, &freed);
    ASSERT_EQ(code, code_for(db, STORE_OK)) << CALL(store_last_error)();
    if (wanted && code != STORE_OK) {
      EXPECT_EQ(finished, 0);
      EXPECT_EQ(moved + freed, 0u);
    }
  }

  std::string copy() const { return directory_ + "/copy"; }
  // A full copy that replaces the one before, an incremental one of it, or one that is refused; a full one is read.
  void backup() {
    if (!chance(8)) return;
    const Db db = pick(dbs_);
    store_backup_options options;
    ASSERT_EQ(CALL(store_backup_options_init_sized)(&options, sizeof options), STORE_OK);
    options.overwrite = 1;
    const bool refused = chance(4);
    if (refused) options.overwrite = 2 + static_cast<int>(below(3));
    std::uint64_t generation = 1;
    const store_code code = CALL(store_backup)(db.handle, copy().c_str(), &options, &generation);
    ASSERT_EQ(code, code_for(db, refused ? STORE_ERROR_INVALID_ARGUMENT : STORE_OK)) << CALL(store_last_error)();
    EXPECT_EQ(generation != 0, code == STORE_OK);
    if (code != STORE_OK) return;
    options.overwrite = 0;
    options.since = chance(2) ? STORE_BACKUP_OF_TARGET : generation;
    ASSERT_EQ(CALL(store_backup)(db.handle, copy().c_str(), &options, nullptr), STORE_OK) << CALL(store_last_error)();
    const store_options small = small_options();
    store_db* copied = nullptr;
    ASSERT_EQ(CALL(store_open)(copy().c_str(), &small, &copied), STORE_OK) << CALL(store_last_error)();
    store_scan* walk = nullptr;
    ASSERT_EQ(CALL(store_scan_create)(copied, nullptr, &walk), STORE_OK);
    Map there;
    const void* k = nullptr;
    const void* v = nullptr;
    std::size_t k_len = 0;
    std::size_t v_len = 0;
    while (CALL(store_scan_next)(walk, &k, &k_len, &v, &v_len) == STORE_OK) {
      there.emplace(std::string(static_cast<const char*>(k), k_len), std::string(static_cast<const char*>(v), v_len));
    }
    EXPECT_EQ(there, entries(db));
    EXPECT_EQ(CALL(store_scan_free)(walk), STORE_OK);
    EXPECT_EQ(CALL(store_close)(copied), STORE_OK);
  }

  void statistics() {
    const Db db = pick(dbs_);
    const char* const number_name = CALL(store_stat_name)(below(50));
    const char* const text_name = CALL(store_stat_text_name)(below(7));
    std::uint64_t number = 1;
    const store_code number_want = number_name == nullptr ? STORE_ERROR_INVALID_ARGUMENT : code_for(db, STORE_OK);
    ASSERT_EQ(CALL(store_stat)(db.handle, number_name, &number), number_want) << CALL(store_last_error)();
    char* text = nullptr;
    const store_code text_want = text_name == nullptr ? STORE_ERROR_INVALID_ARGUMENT : code_for(db, STORE_OK);
    ASSERT_EQ(CALL(store_stat_text)(db.handle, text_name, &text), text_want) << CALL(store_last_error)();
    EXPECT_EQ(text != nullptr, text_want == STORE_OK);
    CALL(store_free)(text);
    const Db other = pick(dbs_);
    store_db* const both[] = {db.handle, other.handle};
    const char* const names[] = {"a \"name\"", ""};
    const std::size_t count = below(3);
    const store_code both_want =
        count == 0 ? STORE_OK : code_for(db, count == 1 ? STORE_OK : code_for(other, STORE_OK));
    ASSERT_EQ(CALL(store_prometheus)(count, both, names, &text), both_want) << CALL(store_last_error)();
    EXPECT_EQ(text != nullptr, both_want == STORE_OK);
    CALL(store_free)(text);
  }

  // Structs of options from callers that know other members than the library does, set by its init and then opened with.
  void options_of_any_size() {
    alignas(store_options) std::array<unsigned char, 4 * sizeof(store_scan_options)> memory{};
    const auto set = [&](auto* options, auto init) {
      const std::size_t bytes = below(memory.size() + 1);
      memory.fill(0x5a);
      const bool fits = bytes >= sizeof *options;
      EXPECT_EQ(init(options, bytes), fits ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT);
      for (std::size_t i = fits ? bytes : 0; i < memory.size(); ++i) EXPECT_EQ(memory[i], 0x5a) << i;
      if (fits && bytes > sizeof *options && chance(2)) {
        memory[bytes - 1] = 1;  // what the library does not know
        return STORE_ERROR_INVALID_ARGUMENT;
      }
      if (!fits) options->size = bytes;
      return fits ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT;
    };
    const Db db = pick(dbs_);
    store_scan* walk = nullptr;
    auto* const range = reinterpret_cast<store_scan_options*>(memory.data());
    const store_code range_want = code_for(db, set(range, CALL(store_scan_options_init_sized)));
    ASSERT_EQ(CALL(store_scan_create)(db.handle, range, &walk), range_want) << CALL(store_last_error)();
    EXPECT_EQ(CALL(store_scan_free)(walk), STORE_OK);
    auto* const how = reinterpret_cast<store_options*>(memory.data());
    const store_code open_want = set(how, CALL(store_options_init_sized));
    if (open_want == STORE_OK) {
      how->create = 0;
      how->cache_bytes = how->write_buffer_bytes = 64 << 10;
    }
    store_db* missing = nullptr;
    ASSERT_EQ(CALL(store_open)((directory_ + "/missing").c_str(), how, &missing),
              open_want == STORE_OK ? STORE_ERROR_NOT_FOUND : open_want)
        << CALL(store_last_error)();
    auto* const copying = reinterpret_cast<store_backup_options*>(memory.data());
    const store_code backup_want = code_for(db, set(copying, CALL(store_backup_options_init_sized)));
    if (backup_want == STORE_OK) return;  // backup() has these
    ASSERT_EQ(CALL(store_backup)(db.handle, copy().c_str(), copying, nullptr), backup_want) << CALL(store_last_error)();
  }

  void texts() {
    const auto code = static_cast<int>(below(256)) - 128;
    EXPECT_NE(CALL(store_code_name)(code), nullptr);
    EXPECT_NE(CALL(store_last_error)(), nullptr);
    EXPECT_GE(CALL(store_last_os_error)(), 0);
    EXPECT_NE(CALL(store_version)(), nullptr);
    EXPECT_GE(CALL(store_version_number)(), 0);
    CALL(store_free)(nullptr);
  }

  // Lengths without bytes and bytes without an end.
  void impossible() {
    const Db db = pick(dbs_);
    const Batch batch = pick(batches_);
    const Scan scan = pick(scans_);
    const std::size_t huge = SIZE_MAX - below(2);
    const char* const bytes = chance(2) ? "k" : nullptr;
    void* value = this;
    std::size_t len = 1;
    const auto refused = [](store_code code) {
      EXPECT_TRUE(code == STORE_ERROR_INVALID_ARGUMENT || code == STORE_ERROR_CLOSED) << CALL(store_last_error)();
    };
    refused(CALL(store_get)(db.handle, bytes, huge, &value, &len));
    EXPECT_EQ(value, nullptr);
    refused(CALL(store_get)(db.handle, "k", 1, nullptr, &len));
    refused(CALL(store_contains)(db.handle, bytes, huge));
    refused(CALL(store_get_into)(db.handle, bytes, huge, &value, sizeof value, &len));
    refused(CALL(store_put)(db.handle, bytes, huge, "v", 1));
    refused(CALL(store_put)(db.handle, "k", 1, bytes, huge));
    refused(CALL(store_erase)(db.handle, bytes, huge));
    refused(CALL(store_erase_range)(db.handle, bytes, huge, nullptr, 0));
    refused(CALL(store_compare_and_put)(db.handle, bytes, huge, nullptr, 0, nullptr, 0));
    refused(CALL(store_get_many)(db.handle, 1 + below(3), nullptr, nullptr, nullptr, nullptr));
    refused(CALL(store_batch_put)(batch.handle, "k", 1, bytes, huge));
    refused(CALL(store_batch_erase)(batch.handle, bytes, huge));
    refused(CALL(store_batch_expect)(batch.handle, bytes, huge, nullptr, 0));
    refused(CALL(store_scan_next)(scan.handle, nullptr, nullptr, nullptr, nullptr));
    refused(CALL(store_prometheus)(1, nullptr, nullptr, nullptr));
    refused(CALL(store_stat)(db.handle, "no such name", nullptr));
  }

  Choices& choices_;
  const std::string directory_;
  std::array<File, 2> files_;
  std::vector<Db> dbs_;
  std::vector<Batch> batches_;
  std::vector<Snapshot> snapshots_;
  std::vector<Scan> scans_;
  std::vector<Queue> queues_;
};

}  // namespace

const std::set<std::string_view>& functions_called() { return g_called; }

void make_calls(Choices& choices, const std::string& directory) {
  Calls calls(choices, directory);
  for (int i = 0; choices.more() && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("call " + std::to_string(i));
    calls.one();
  }
  calls.close_all();
}

}  // namespace store::test
