#include <fmt/format.h>
#include <wiredtiger.h>

#include <filesystem>
#include <stdexcept>

#include "scan_side.hpp"

namespace bench {

namespace {

void must(int rc, const char* what) {
  if (rc != 0) throw std::runtime_error(fmt::format("{}: {}", what, wiredtiger_strerror(rc)));
}

std::string_view view(const WT_ITEM& item) { return {static_cast<const char*>(item.data), item.size}; }

WT_ITEM item(std::string_view text) {
  WT_ITEM item{};
  item.data = text.data();
  item.size = text.size();
  return item;
}

class WiredTigerScan final : public ScanSide {
 public:
  WiredTigerScan(const std::string& directory, std::size_t cache_bytes) {
    std::filesystem::create_directories(directory);
    const std::string config = fmt::format("create,cache_size={},log=(enabled=false)", cache_bytes);
    must(wiredtiger_open(directory.c_str(), nullptr, config.c_str(), &connection_), "wiredtiger_open");
    must(connection_->open_session(connection_, nullptr, nullptr, &session_), "open_session");
    must(session_->create(session_, "table:scan", "key_format=u,value_format=u"), "create");
    must(session_->open_cursor(session_, "table:scan", nullptr, nullptr, &cursor_), "open_cursor");
  }
  ~WiredTigerScan() override { connection_->close(connection_, nullptr); }

  void put(std::string_view key, std::string_view value) override {
    WT_ITEM k = item(key);
    WT_ITEM v = item(value);
    cursor_->set_key(cursor_, &k);
    cursor_->set_value(cursor_, &v);
    must(cursor_->insert(cursor_), "insert");
  }
  void settle() override {
    must(cursor_->reset(cursor_), "reset");
    must(session_->checkpoint(session_, nullptr), "checkpoint");
  }
  ScanSum scan(std::string_view from, std::uint64_t count) override {
    ScanSum sum;
    must(cursor_->reset(cursor_), "reset");
    int rc = 0;
    if (!from.empty()) {
      WT_ITEM k = item(from);
      int order = 0;
      cursor_->set_key(cursor_, &k);
      rc = cursor_->search_near(cursor_, &order);
      if (rc == 0 && order < 0) rc = cursor_->next(cursor_);
    } else {
      rc = cursor_->next(cursor_);
    }
    for (; rc == 0 && sum.entries < count; rc = sum.entries < count ? cursor_->next(cursor_) : 0) {
      WT_ITEM k{};
      WT_ITEM v{};
      must(cursor_->get_key(cursor_, &k), "get_key");
      must(cursor_->get_value(cursor_, &v), "get_value");
      sum.add(view(k), view(v));
    }
    if (rc != WT_NOTFOUND) must(rc, "next");
    return sum;
  }

 private:
  WT_CONNECTION* connection_ = nullptr;
  WT_SESSION* session_ = nullptr;
  WT_CURSOR* cursor_ = nullptr;
};

}  // namespace

std::unique_ptr<ScanSide> make_wiredtiger_scan(const std::string& directory, std::size_t cache_bytes) {
  return std::make_unique<WiredTigerScan>(directory, cache_bytes);
}

}  // namespace bench
