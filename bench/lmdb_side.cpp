#include "lmdb_side.hpp"

#include <lmdb.h>

#include <stdexcept>
#include <utility>

namespace bench {

namespace {

constexpr std::uint64_t kWritesPerTransaction = 10'000;

void must(int rc, const char* what) {
  if (rc != 0) throw std::runtime_error(std::string(what) + ": " + mdb_strerror(rc));
}

MDB_val as_val(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }

}  // namespace

struct Lmdb::State {
  MDB_env* env = nullptr;
  MDB_dbi dbi = 0;
  MDB_txn* writing = nullptr;
  MDB_txn* reading = nullptr;
  MDB_cursor* cursor = nullptr;
  std::uint64_t writes = 0;
};

Lmdb::Lmdb(const std::string& directory) : state_(std::make_unique<State>()) {
  must(mdb_env_create(&state_->env), "mdb_env_create");
  must(mdb_env_set_mapsize(state_->env, std::size_t{16} << 30), "mdb_env_set_mapsize");
  must(mdb_env_open(state_->env, directory.c_str(), MDB_NORDAHEAD | MDB_NOSYNC, 0600), "mdb_env_open");
  MDB_txn* txn = nullptr;
  must(mdb_txn_begin(state_->env, nullptr, 0, &txn), "mdb_txn_begin");
  must(mdb_dbi_open(txn, nullptr, 0, &state_->dbi), "mdb_dbi_open");
  must(mdb_txn_commit(txn), "mdb_txn_commit");
}

Lmdb::~Lmdb() {
  end_reading();
  if (state_->writing != nullptr) mdb_txn_abort(state_->writing);
  mdb_env_close(state_->env);
}

void Lmdb::put(std::string_view key, std::string_view value) {
  if (state_->writing == nullptr) must(mdb_txn_begin(state_->env, nullptr, 0, &state_->writing), "mdb_txn_begin");
  MDB_val k = as_val(key);
  MDB_val v = as_val(value);
  must(mdb_put(state_->writing, state_->dbi, &k, &v, 0), "mdb_put");
  if (++state_->writes % kWritesPerTransaction == 0) {
    must(mdb_txn_commit(std::exchange(state_->writing, nullptr)), "mdb_txn_commit");
  }
}

void Lmdb::sync() {
  if (state_->writing != nullptr) must(mdb_txn_commit(std::exchange(state_->writing, nullptr)), "mdb_txn_commit");
  must(mdb_env_sync(state_->env, 1), "mdb_env_sync");
}

bool Lmdb::get(std::string_view key, std::string& value) {
  if (state_->reading == nullptr) {
    must(mdb_txn_begin(state_->env, nullptr, MDB_RDONLY, &state_->reading), "mdb_txn_begin");
  }
  MDB_val k = as_val(key);
  MDB_val v{};
  const int rc = mdb_get(state_->reading, state_->dbi, &k, &v);
  if (rc == MDB_NOTFOUND) return false;
  must(rc, "mdb_get");
  value.assign(static_cast<const char*>(v.mv_data), v.mv_size);
  return true;
}

namespace {

bool step(MDB_cursor* cursor, MDB_val& k, MDB_cursor_op op, std::string_view& key, std::string_view& value) {
  MDB_val v{};
  const int rc = mdb_cursor_get(cursor, &k, &v, op);
  if (rc == MDB_NOTFOUND) return false;
  must(rc, "mdb_cursor_get");
  key = {static_cast<const char*>(k.mv_data), k.mv_size};
  value = {static_cast<const char*>(v.mv_data), v.mv_size};
  return true;
}

}  // namespace

bool Lmdb::seek(std::string_view& key, std::string_view& value) {
  if (state_->reading == nullptr) {
    must(mdb_txn_begin(state_->env, nullptr, MDB_RDONLY, &state_->reading), "mdb_txn_begin");
  }
  if (state_->cursor == nullptr)
    must(mdb_cursor_open(state_->reading, state_->dbi, &state_->cursor), "mdb_cursor_open");
  MDB_val k = as_val(key);
  return step(state_->cursor, k, key.empty() ? MDB_FIRST : MDB_SET_RANGE, key, value);
}

bool Lmdb::next(std::string_view& key, std::string_view& value) {
  MDB_val k{};
  return step(state_->cursor, k, MDB_NEXT, key, value);
}

void Lmdb::end_reading() {
  if (state_->cursor != nullptr) mdb_cursor_close(std::exchange(state_->cursor, nullptr));
  if (state_->reading != nullptr) mdb_txn_abort(std::exchange(state_->reading, nullptr));
}

}  // namespace bench
