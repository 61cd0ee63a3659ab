// WiredTiger as its users tune it: no compression, a cache of what the memory leaves, a session and a cursor for each thread. Where the memory
// is limited the cache is half of it, since the kernel's page cache, which it reads through, has to live of the same, and three eighths where
// it writes, for it goes beyond its cache_size then. Promises: no log (none), a log that is not synced (batched), or synced for each commit
// (durable). Sorted entries go through its bulk cursor.
#include <fmt/format.h>
#include <wiredtiger.h>

#include <filesystem>
#include <stdexcept>

#include "adapter.hpp"

namespace comparison {
namespace {

constexpr const char* kTable = "table:compare";

void must(int rc, const char* what) {
  if (rc != 0) throw std::runtime_error(fmt::format("WiredTiger: {}: {}", what, wiredtiger_strerror(rc)));
}

std::string_view view(const WT_ITEM& item) { return {static_cast<const char*>(item.data), item.size}; }

WT_ITEM item(std::string_view text) {
  WT_ITEM item{};
  item.data = text.data();
  item.size = text.size();
  return item;
}

class WiredTigerSession final : public Session {
 public:
  explicit WiredTigerSession(WT_CONNECTION* connection) {
    must(connection->open_session(connection, nullptr, nullptr, &session_), "open_session");
    must(session_->open_cursor(session_, kTable, nullptr, nullptr, &cursor_), "open_cursor");
  }
  ~WiredTigerSession() override { session_->close(session_, nullptr); }

  void get(Client& client) override {
    get_one(client, 0);
    must(cursor_->reset(cursor_), "reset");
  }
  void get_pinned(Client& client) override {
    std::string_view value;
    if (lookup(client.key(), value)) {
      client.found(0, value);
    } else {
      client.absent(0);
    }
    must(cursor_->reset(cursor_), "reset");
  }
  void get_many(Client& client) override {
    for (std::size_t i = 0; i < client.keys().size(); ++i) get_one(client, i);
    must(cursor_->reset(cursor_), "reset");
  }
  void put(std::string_view key, std::string_view value) override {
    WT_ITEM k = item(key);
    WT_ITEM v = item(value);
    // Two writers of one key at a time: the later one has to try again.
    for (int rc = WT_ROLLBACK; rc != 0;) {
      cursor_->set_key(cursor_, &k);
      cursor_->set_value(cursor_, &v);
      rc = cursor_->insert(cursor_);
      if (rc != WT_ROLLBACK) must(rc, "insert");
    }
  }
  void scan(std::string_view from, const Take& take) override {
    int rc = 0;
    if (from.empty()) {
      rc = cursor_->next(cursor_);
    } else {
      WT_ITEM k = item(from);
      int order = 0;
      cursor_->set_key(cursor_, &k);
      rc = cursor_->search_near(cursor_, &order);
      if (rc == 0 && order < 0) rc = cursor_->next(cursor_);
    }
    for (bool more = true; rc == 0 && more; rc = more ? cursor_->next(cursor_) : 0) {
      WT_ITEM k{};
      WT_ITEM v{};
      must(cursor_->get_key(cursor_, &k), "get_key");
      must(cursor_->get_value(cursor_, &v), "get_value");
      more = take(view(k), view(v));
    }
    if (rc != WT_NOTFOUND) must(rc, "next");
    must(cursor_->reset(cursor_), "reset");
  }

 private:
  bool lookup(std::string_view key, std::string_view& value) {
    WT_ITEM k = item(key);
    cursor_->set_key(cursor_, &k);
    const int rc = cursor_->search(cursor_);
    if (rc == WT_NOTFOUND) return false;
    must(rc, "search");
    WT_ITEM v{};
    must(cursor_->get_value(cursor_, &v), "get_value");
    value = view(v);
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

  WT_SESSION* session_ = nullptr;
  WT_CURSOR* cursor_ = nullptr;
  std::string copy_;
};

class WiredTigerPeer final : public Peer {
 public:
  explicit WiredTigerPeer(const Options& options) {
    std::filesystem::create_directories(options.path);
    const bool writes = options.workload.starts_with("load_") || mix_of(options.workload).writes();
    const std::size_t cache_bytes = options.cache_bytes != 0 ? options.cache_bytes
                                    : options.limited        ? options.memory_bytes / 8 * (writes ? 3 : 4)
                                                             : options.memory_bytes;
    const char* const log = options.promise == Promise::none ? "log=(enabled=false)"
                            : options.promise == Promise::batched
                                ? "log=(enabled),transaction_sync=(enabled=false)"
                                : "log=(enabled),transaction_sync=(enabled,method=fsync)";
    config_ = fmt::format("create,cache_size={},session_max={},checkpoint=(wait=60),{}", cache_bytes,
                          options.clients + 32, log);
    must(wiredtiger_open(options.path.c_str(), nullptr, config_.c_str(), &connection_), "wiredtiger_open");
    must(connection_->open_session(connection_, nullptr, nullptr, &session_), "open_session");
    must(session_->create(session_, kTable, "key_format=u,value_format=u"), "create");
  }
  ~WiredTigerPeer() override { connection_->close(connection_, nullptr); }

  std::unique_ptr<Session> session() override { return std::make_unique<WiredTigerSession>(connection_); }
  void load_sorted(Source& source) override {
    WT_CURSOR* cursor = nullptr;
    must(session_->open_cursor(session_, kTable, nullptr, "bulk", &cursor), "open_cursor");
    std::string_view key;
    std::string_view value;
    while (source.next(key, value)) {
      WT_ITEM k = item(key);
      WT_ITEM v = item(value);
      cursor->set_key(cursor, &k);
      cursor->set_value(cursor, &v);
      must(cursor->insert(cursor), "insert");
    }
    must(cursor->close(cursor), "close");
  }
  void flush() override { must(session_->checkpoint(session_, nullptr), "checkpoint"); }
  Report report() override {
    Report report;
    report.configuration = fmt::format("{}, version {}.{}.{}", config_, WIREDTIGER_VERSION_MAJOR,
                                       WIREDTIGER_VERSION_MINOR, WIREDTIGER_VERSION_PATCH);
    return report;
  }

 private:
  std::string config_;
  WT_CONNECTION* connection_ = nullptr;
  WT_SESSION* session_ = nullptr;
};

}  // namespace

std::unique_ptr<Peer> open_wiredtiger(const Options& options) { return std::make_unique<WiredTigerPeer>(options); }

}  // namespace comparison
