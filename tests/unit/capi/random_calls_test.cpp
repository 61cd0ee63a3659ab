// Random calls on handles that are alive, closed or NULL, beside a model in maps. The seed is printed; STORE_SEED or --seed=N replays it.
#include <gtest/gtest.h>

#include <store/store.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/seed.hpp"
#include "support/temp_dir.hpp"

namespace {

using Map = std::map<std::string, std::string>;

// A handle and what the model knows of its object: nothing once it was closed.
template <class Handle, class Model>
struct Known {
  Handle* handle = nullptr;
  std::shared_ptr<Model> model;
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
  Calls(std::uint64_t seed, const std::string& directory) : random_(seed) {
    for (std::size_t i = 0; i < files_.size(); ++i) files_[i].path = directory + "/db" + std::to_string(i);
  }

  void one() {
    using Step = void (Calls::*)();
    static constexpr Step kSteps[] = {
        &Calls::open,          &Calls::close,     &Calls::get,       &Calls::get,          &Calls::get_into,
        &Calls::get_many,      &Calls::put,       &Calls::put,       &Calls::put,          &Calls::erase,
        &Calls::erase_range,   &Calls::compare,   &Calls::write,     &Calls::batch_change, &Calls::batch_change,
        &Calls::batch_change,  &Calls::batch_end, &Calls::snapshot,  &Calls::snapshot_get, &Calls::snapshot_get,
        &Calls::snapshot_free, &Calls::scan,      &Calls::scan,      &Calls::scan_next,    &Calls::scan_next,
        &Calls::scan_next,     &Calls::scan_seek, &Calls::scan_free, &Calls::upkeep,
    };
    (this->*kSteps[below(std::size(kSteps))])();
  }

  void close_all() {
    for (const auto& scan : scans_) static_cast<void>(store_scan_free(scan.handle));
    for (const auto& snapshot : snapshots_) static_cast<void>(store_snapshot_free(snapshot.handle));
    for (const auto& batch : batches_) static_cast<void>(store_batch_free(batch.handle));
    for (const auto& db : dbs_) {
      EXPECT_EQ(store_close(db.handle), db.handle == nullptr || db.model ? STORE_OK : STORE_ERROR_CLOSED);
    }
  }

 private:
  static constexpr std::size_t kHandles = 4;  // of each kind that the model remembers

  std::size_t below(std::size_t end) { return random_() % end; }
  bool chance(std::size_t one_in) { return below(one_in) == 0; }

  std::string key() {
    if (chance(100)) return std::string(1025, 'k');
    std::string text(chance(50) ? 0 : 1 + below(3), ' ');
    for (char& c : text) c = "\0ab\xff"[below(4)];
    return text;
  }
  std::string value() { return std::string(chance(10) ? below(9000) : below(40), static_cast<char>(random_())); }
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

  // A handle that is NULL, alive or closed.
  template <class Entry>
  Entry pick(std::vector<Entry>& handles) {
    if (handles.empty() || chance(20)) return {};
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
    if (entry.handle == nullptr) return STORE_ERROR_INVALID_ARGUMENT;
    return entry.model ? otherwise : STORE_ERROR_CLOSED;
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
  static Map& entries(const Db& db) { return db.model->file->entries; }

  static void expect_value(store_code code, void* value, std::size_t len, store_code want,
                           const std::optional<std::string>& expected) {
    ASSERT_EQ(code, want) << store_last_error();
    if (code != STORE_OK) {
      EXPECT_EQ(value, nullptr);
      return;
    }
    ASSERT_NE(value, nullptr);
    EXPECT_EQ(std::string(static_cast<const char*>(value), len), *expected);
    store_free(value);
  }
  // What a get of the key gives, of a handle that is alive.
  static store_code code_of_get(const std::string& key, const std::optional<std::string>& expected) {
    if (!is_valid(key)) return STORE_ERROR_INVALID_ARGUMENT;
    return expected ? STORE_OK : STORE_KEY_NOT_FOUND;
  }

  void open() {
    File& file = files_[below(files_.size())];
    if (!file.open && dbs_.size() == kHandles && !chance(3)) return;
    store_options options;
    ASSERT_EQ(store_options_init(&options), STORE_OK);
    options.cache_bytes = 256 << 10;
    options.write_buffer_bytes = 64 << 10;
    options.wal_mode = static_cast<int>(below(2));
    Db db;
    const store_code code = store_open(file.path.c_str(), &options, &db.handle);
    ASSERT_EQ(code, file.open ? STORE_ERROR_LOCKED : STORE_OK) << store_last_error();
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
    const store_code code = store_close(db.handle);
    ASSERT_EQ(code, db.handle == nullptr || db.model ? STORE_OK : STORE_ERROR_CLOSED) << store_last_error();
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
    const store_code code = store_get(db.handle, k.data(), k.size(), &value, &len);
    expect_value(code, value, len, want, expected);
    EXPECT_EQ(store_contains(db.handle, k.data(), k.size()), want);
  }
  void get_into() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const auto expected = db.model ? found(entries(db), k) : std::nullopt;
    std::string buffer(below(100), '#');
    std::size_t len = 1;
    const store_code code = store_get_into(db.handle, k.data(), k.size(), buffer.data(), buffer.size(), &len);
    ASSERT_EQ(code, code_for(db, code_of_get(k, expected))) << store_last_error();
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
        store_get_many(db.handle, keys.size(), pointers.data(), lens.data(), values.data(), value_lens.data());
    ASSERT_EQ(code, code_for(db, valid ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << store_last_error();
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto expected = code == STORE_OK ? found(entries(db), keys[i]) : std::nullopt;
      expect_value(values[i] == nullptr ? STORE_KEY_NOT_FOUND : STORE_OK, values[i], value_lens[i],
                   expected ? STORE_OK : STORE_KEY_NOT_FOUND, expected);
    }
  }

  void put() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const std::string v = value();
    const store_code code = store_put(db.handle, k.data(), k.size(), v.data(), v.size());
    ASSERT_EQ(code, code_for(db, is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << store_last_error();
    if (code == STORE_OK) entries(db)[k] = v;
  }
  void erase() {
    const Db db = pick(dbs_);
    const std::string k = key();
    const store_code code = store_erase(db.handle, k.data(), k.size());
    ASSERT_EQ(code, code_for(db, is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << store_last_error();
    if (code == STORE_OK) entries(db).erase(k);
  }
  void erase_range() {
    const Db db = pick(dbs_);
    const std::string from = key();
    const auto to = maybe(key());
    const bool valid = from.size() <= 1024 && size(to) <= 1024;
    const store_code code = store_erase_range(db.handle, from.data(), from.size(), data(to), size(to));
    ASSERT_EQ(code, code_for(db, valid ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT)) << store_last_error();
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
    const store_code code = store_compare_and_put(db.handle, k.data(), k.size(), data(expected), size(expected),
                                                  data(desired), size(desired));
    ASSERT_EQ(code, code_for(db, want)) << store_last_error();
    if (code != STORE_OK) return;
    if (desired) {
      entries(db)[k] = *desired;
    } else {
      entries(db).erase(k);
    }
  }

  void batch_change() {
    if (batches_.size() < kHandles && chance(2)) {
      Batch made{.handle = nullptr, .model = std::make_shared<BatchModel>()};
      ASSERT_EQ(store_batch_create(&made.handle), STORE_OK);
      remember(batches_, std::move(made), store_batch_free);
    }
    const Batch batch = pick(batches_);
    const std::string k = key();
    const store_code want = code_for(batch, is_valid(k) ? STORE_OK : STORE_ERROR_INVALID_ARGUMENT);
    if (chance(4)) {
      const auto expected = maybe(value());
      ASSERT_EQ(store_batch_expect(batch.handle, k.data(), k.size(), data(expected), size(expected)), want);
      if (want == STORE_OK) batch.model->expectations.emplace_back(k, expected);
    } else if (chance(3)) {
      ASSERT_EQ(store_batch_erase(batch.handle, k.data(), k.size()), want);
      if (want == STORE_OK) batch.model->changes.emplace_back([k](Map& map) { map.erase(k); });
    } else if (chance(6) && is_valid(k)) {
      ASSERT_EQ(store_batch_erase_range(batch.handle, k.data(), k.size(), "b", 1), want);
      if (want == STORE_OK) batch.model->changes.emplace_back([k](Map& map) { erase_range_of(map, k, "b"); });
    } else {
      const std::string v = value();
      ASSERT_EQ(store_batch_put(batch.handle, k.data(), k.size(), v.data(), v.size()), want);
      if (want == STORE_OK) batch.model->changes.emplace_back([k, v](Map& map) { map[k] = v; });
    }
  }
  void write() {
    const Db db = pick(dbs_);
    const Batch batch = pick(batches_);
    store_code want = code_for(db, code_for(batch, STORE_OK));
    if (want == STORE_OK) {
      for (const auto& [k, expected] : batch.model->expectations) {
        if (found(entries(db), k) != expected) want = STORE_ERROR_CONFLICT;
      }
    }
    ASSERT_EQ(store_write(db.handle, batch.handle), want) << store_last_error();
    if (want != STORE_OK) return;
    for (const auto& change : batch.model->changes) change(entries(db));
  }
  void batch_end() {
    const Batch batch = pick(batches_);
    if (!chance(4)) {
      ASSERT_EQ(store_batch_clear(batch.handle), code_for(batch, STORE_OK));
      if (batch.model) *batch.model = {};
      return;
    }
    ASSERT_EQ(store_batch_free(batch.handle), batch.handle == nullptr ? STORE_OK : code_for(batch, STORE_OK));
    forget(batches_, batch);
    if (batches_.size() == kHandles && chance(2)) batches_.erase(batches_.begin());
  }

  void snapshot() {
    const Db db = pick(dbs_);
    Snapshot made;
    ASSERT_EQ(store_snapshot_create(db.handle, &made.handle), code_for(db, STORE_OK)) << store_last_error();
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
    const store_code code = store_snapshot_get(snapshot.handle, k.data(), k.size(), &value, &len);
    expect_value(code, value, len, want, expected);
    EXPECT_EQ(store_snapshot_contains(snapshot.handle, k.data(), k.size()), want);
  }
  void snapshot_free() {
    if (!chance(3)) return;
    const Snapshot snapshot = pick(snapshots_);
    ASSERT_EQ(store_snapshot_free(snapshot.handle),
              snapshot.handle == nullptr ? STORE_OK : code_for(snapshot, STORE_OK));
    forget(snapshots_, snapshot);
  }

  // Begins a scan of a store or a snapshot, of a range or a prefix.
  void scan() {
    const bool of_snapshot = chance(2);
    const Db db = of_snapshot ? Db{} : pick(dbs_);
    const Snapshot snapshot = of_snapshot ? pick(snapshots_) : Snapshot{};
    const store_code want = of_snapshot ? code_within(snapshot, STORE_OK) : code_for(db, STORE_OK);
    store_scan_options options;
    ASSERT_EQ(store_scan_options_init(&options), STORE_OK);
    options.reverse = static_cast<int>(below(2));
    options.limit = chance(3) ? 1 + below(5) : 0;
    const std::string lower = key();
    const std::string upper = key();
    const bool by_prefix = chance(3);
    Scan made;
    store_code code = STORE_OK;
    if (by_prefix) {
      code = of_snapshot
                 ? store_snapshot_scan_prefix(snapshot.handle, lower.data(), lower.size(), &options, &made.handle)
                 : store_scan_prefix(db.handle, lower.data(), lower.size(), &options, &made.handle);
    } else {
      options.lower = lower.data();
      options.lower_len = lower.size();
      options.lower_bound = static_cast<int>(below(3));
      options.upper = upper.data();
      options.upper_len = upper.size();
      options.upper_bound = static_cast<int>(below(3));
      code = of_snapshot ? store_snapshot_scan(snapshot.handle, &options, &made.handle)
                         : store_scan_create(db.handle, &options, &made.handle);
    }
    ASSERT_EQ(code, want) << store_last_error();
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
    const store_code code = store_scan_next(scan.handle, &key, &key_len, &value, &value_len);
    if (scan.model && !scan.model->db->open && code == STORE_ERROR_CLOSED) return;  // it had read no further
    const bool there = scan.model && scan.model->at < scan.model->range.size() && scan.model->left > 0;
    ASSERT_EQ(code, code_for(scan, there ? STORE_OK : STORE_END)) << store_last_error();
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
    const store_code code = store_scan_seek(scan.handle, k.data(), k.size());
    ASSERT_EQ(code, code_within(scan, STORE_OK)) << store_last_error();
    if (code != STORE_OK) return;
    const auto& range = scan.model->range;
    const auto to = std::ranges::find_if(
        range, [&](const auto& entry) { return scan.model->reverse ? entry.first <= k : entry.first >= k; });
    scan.model->at = static_cast<std::size_t>(to - range.begin());
  }
  void scan_free() {
    if (!chance(3)) return;
    const Scan scan = pick(scans_);
    ASSERT_EQ(store_scan_free(scan.handle), scan.handle == nullptr ? STORE_OK : code_for(scan, STORE_OK));
    forget(scans_, scan);
  }

  void upkeep() {
    const Db db = pick(dbs_);
    const store_code want = code_for(db, STORE_OK);
    std::uint64_t number = 1;
    if (chance(8)) {
      ASSERT_EQ(store_compact(db.handle, &number), want) << store_last_error();
    } else if (chance(8)) {
      ASSERT_EQ(store_check(db.handle, nullptr, nullptr), want) << store_last_error();
    } else if (chance(2)) {
      ASSERT_EQ(store_sync(db.handle), want) << store_last_error();
    } else {
      ASSERT_EQ(store_flush(db.handle), want) << store_last_error();
      ASSERT_EQ(store_stat(db.handle, "entries", &number), want) << store_last_error();
      EXPECT_EQ(number, db.model ? entries(db).size() : 0);
    }
  }

  std::mt19937_64 random_;
  std::array<File, 2> files_;
  std::vector<Db> dbs_;
  std::vector<Batch> batches_;
  std::vector<Snapshot> snapshots_;
  std::vector<Scan> scans_;
};

TEST(CapiRandomCalls, DoAsTheModel) {
  const std::uint64_t seed = store::test::requested_seed().value_or(std::random_device()());
  std::printf("seed: %llu (STORE_SEED replays it)\n", static_cast<unsigned long long>(seed));
  const store::test::TempDir temp;
  Calls calls(seed, temp.path());
  constexpr int kCalls = 20000;
  for (int i = 0; i < kCalls && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("call " + std::to_string(i));
    calls.one();
  }
  calls.close_all();
}

}  // namespace
