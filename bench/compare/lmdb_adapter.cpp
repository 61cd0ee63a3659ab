// LMDB as its users tune it for these workloads: no read-ahead of the kernel's (MDB_NORDAHEAD), and no sync where none is promised
// (MDB_NOSYNC). Writes that nobody has to see at once go in transactions of 10,000; where other clients read what is written, or a write is
// to be durable, each is a transaction, for it is seen by others at its end only. A reader keeps its transaction while nothing is written,
// and renews it for each operation otherwise. Its cache is the kernel's.
#include <lmdb.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

#include "adapter.hpp"

namespace comparison {
namespace {

constexpr std::uint64_t kWritesPerTransaction = 10'000;
constexpr std::size_t kMapBytes = std::size_t{256} << 30;

void must(int rc, const char* what) {
  if (rc != 0) throw std::runtime_error(std::string("LMDB: ") + what + ": " + mdb_strerror(rc));
}

MDB_val as_val(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
std::string_view as_view(const MDB_val& val) { return {static_cast<const char*>(val.mv_data), val.mv_size}; }

// How the transactions are cut.
struct Manner {
  std::uint64_t writes_per_transaction = 1;
  bool renew = false;  // a reader's, for each operation
};

class LmdbSession final : public Session {
 public:
  LmdbSession(MDB_env* env, MDB_dbi dbi, Manner manner) : env_(env), dbi_(dbi), manner_(manner) {}
  ~LmdbSession() override {
    if (cursor_ != nullptr) mdb_cursor_close(cursor_);
    if (reading_ != nullptr) mdb_txn_abort(reading_);
    if (writing_ != nullptr) mdb_txn_abort(writing_);
  }

  void get(Client& client) override {
    begin_reading();
    get_one(client, 0);
  }
  void get_pinned(Client& client) override {
    begin_reading();
    std::string_view value;
    if (lookup(client.key(), value)) {
      client.found(0, value);
    } else {
      client.absent(0);
    }
  }
  void get_many(Client& client) override {
    begin_reading();
    for (std::size_t i = 0; i < client.keys().size(); ++i) get_one(client, i);
  }
  void put(std::string_view key, std::string_view value) override {
    if (writing_ == nullptr) must(mdb_txn_begin(env_, nullptr, 0, &writing_), "mdb_txn_begin");
    MDB_val k = as_val(key);
    MDB_val v = as_val(value);
    must(mdb_put(writing_, dbi_, &k, &v, 0), "mdb_put");
    if (++writes_ % manner_.writes_per_transaction == 0) finish();
  }
  void scan(std::string_view from, const Take& take) override {
    begin_reading();
    if (cursor_ == nullptr) {
      must(mdb_cursor_open(reading_, dbi_, &cursor_), "mdb_cursor_open");
    } else {
      must(mdb_cursor_renew(reading_, cursor_), "mdb_cursor_renew");
    }
    MDB_val k = as_val(from);
    MDB_val v{};
    int rc = mdb_cursor_get(cursor_, &k, &v, from.empty() ? MDB_FIRST : MDB_SET_RANGE);
    while (rc == 0 && take(as_view(k), as_view(v))) rc = mdb_cursor_get(cursor_, &k, &v, MDB_NEXT);
    if (rc != MDB_NOTFOUND) must(rc, "mdb_cursor_get");
  }
  void finish() override {
    if (writing_ != nullptr) must(mdb_txn_commit(std::exchange(writing_, nullptr)), "mdb_txn_commit");
  }

 private:
  void begin_reading() {
    if (reading_ == nullptr) {
      must(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reading_), "mdb_txn_begin");
    } else if (manner_.renew) {
      mdb_txn_reset(reading_);
      must(mdb_txn_renew(reading_), "mdb_txn_renew");
    }
  }
  bool lookup(std::string_view key, std::string_view& value) {
    MDB_val k = as_val(key);
    MDB_val v{};
    const int rc = mdb_get(reading_, dbi_, &k, &v);
    if (rc == MDB_NOTFOUND) return false;
    must(rc, "mdb_get");
    value = as_view(v);
    return true;
  }
  void get_one(Client& client, std::size_t i) {
    std::string_view value;
    if (lookup(client.keys()[i], value)) {
      copy_ = value;
      client.found(i, copy_);
    } else {
      client.absent(i);
    }
  }

  MDB_env* env_;
  MDB_dbi dbi_;
  Manner manner_;
  MDB_txn* reading_ = nullptr;
  MDB_txn* writing_ = nullptr;
  MDB_cursor* cursor_ = nullptr;
  std::uint64_t writes_ = 0;
  std::string copy_;
};

class LmdbPeer final : public Peer {
 public:
  explicit LmdbPeer(const Options& options) {
    std::filesystem::create_directories(options.path);
    const bool loading = options.workload.starts_with("load_");
    const Mix mix = loading ? Mix{.updates = 1} : mix_of(options.workload);
    const bool alone = loading || (mix.updates == 1 && options.clients == 1) || mix.flushing;
    if (alone && options.promise != Promise::durable) manner_.writes_per_transaction = kWritesPerTransaction;
    manner_.renew = mix.writes();
    flags_ = MDB_NORDAHEAD | MDB_NOTLS | (options.promise == Promise::durable ? 0 : MDB_NOSYNC);
    must(mdb_env_create(&env_), "mdb_env_create");
    must(mdb_env_set_mapsize(env_, kMapBytes), "mdb_env_set_mapsize");
    must(mdb_env_set_maxreaders(env_, options.clients + 8), "mdb_env_set_maxreaders");
    must(mdb_env_open(env_, options.path.c_str(), flags_, 0600), "mdb_env_open");
    MDB_txn* txn = nullptr;
    must(mdb_txn_begin(env_, nullptr, 0, &txn), "mdb_txn_begin");
    must(mdb_dbi_open(txn, nullptr, 0, &dbi_), "mdb_dbi_open");
    must(mdb_txn_commit(txn), "mdb_txn_commit");
  }
  ~LmdbPeer() override { mdb_env_close(env_); }

  std::unique_ptr<Session> session() override { return std::make_unique<LmdbSession>(env_, dbi_, manner_); }
  void load_sorted(Source& source) override {
    std::string_view key;
    std::string_view value;
    for (bool more = true; more;) {
      MDB_txn* txn = nullptr;
      must(mdb_txn_begin(env_, nullptr, 0, &txn), "mdb_txn_begin");
      for (std::uint64_t i = 0; i < kWritesPerTransaction && more; ++i) {
        more = source.next(key, value);
        MDB_val k = as_val(key);
        MDB_val v = as_val(value);
        if (more) must(mdb_put(txn, dbi_, &k, &v, MDB_APPEND), "mdb_put");
      }
      must(mdb_txn_commit(txn), "mdb_txn_commit");
    }
  }
  void flush() override { must(mdb_env_sync(env_, 1), "mdb_env_sync"); }
  Report report() override {
    Report report;
    report.configuration = std::string("MDB_NORDAHEAD") + ((flags_ & MDB_NOSYNC) != 0 ? " | MDB_NOSYNC" : "") + ", " +
                           std::to_string(manner_.writes_per_transaction) + " writes per transaction, " +
                           mdb_version(nullptr, nullptr, nullptr);
    return report;
  }

 private:
  MDB_env* env_ = nullptr;
  MDB_dbi dbi_ = 0;
  unsigned flags_ = 0;
  Manner manner_;
};

}  // namespace

std::unique_ptr<Peer> open_lmdb(const Options& options) { return std::make_unique<LmdbPeer>(options); }

}  // namespace comparison
