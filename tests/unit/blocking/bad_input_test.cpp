// What a caller of the blocking store or its surroundings may get wrong: every verb of a store that was moved from, was closed, belongs to another process
// or is called on a core; files without rights, without room, damaged, cut off, or of something else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <monterey/monterey.hpp>
#include <store/blocking_store.hpp>
#include <store/error.hpp>

#include "support/child_process.hpp"
#include "support/restrictions.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using test::ChildProcess;
using testing::HasSubstr;

constexpr StoreOptions kSmall{.cache_bytes = 256u << 10, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 10};
constexpr int kKeys = 1000;
constexpr std::size_t kBlock = 4096;

std::string numbered(int number) { return fmt::format("key{:06}", number); }

// Expects an error with each of the words, which are separated by '|', in its text.
void expect_error(const std::string& name, Errc code, const std::string& words, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << name << " was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), code) << name << ": " << error.what();
    for (std::size_t at = 0; at <= words.size();) {
      const std::size_t end = std::min(words.find('|', at), words.size());
      EXPECT_THAT(error.what(), HasSubstr(words.substr(at, end - at))) << name;
      at = end + 1;
    }
  }
}

struct Verb {
  const char* name;
  std::function<void(Store&)> call;
};

std::vector<Verb> verbs() {
  struct Nothing {
    bool next(std::string_view&, std::string_view&) { return false; }
  };
  static const std::array<std::string_view, 1> keys{"a"};
  return {
      {"get", [](Store& db) { static_cast<void>(db.get("a")); }},
      {"contains", [](Store& db) { static_cast<void>(db.contains("a")); }},
      {"get_into", [](Store& db) { static_cast<void>(db.get_into("a", {})); }},
      {"try_get_into", [](Store& db) { static_cast<void>(db.try_get_into("a", {})); }},
      {"get_many", [](Store& db) { static_cast<void>(db.get_many(keys)); }},
      {"put", [](Store& db) { db.put("a", "other"); }},
      {"erase", [](Store& db) { db.erase("a"); }},
      {"compare_and_put", [](Store& db) { static_cast<void>(db.compare_and_put("a", "1", "other")); }},
      {"write", [](Store& db) { db.write(WriteBatch()); }},
      {"erase_range", [](Store& db) { db.erase_range(""); }},
      {"bulk_load", [](Store& db) { static_cast<void>(db.bulk_load(Nothing())); }},
      {"scan", [](Store& db) { static_cast<void>(db.scan()); }},
      {"scan_prefix", [](Store& db) { static_cast<void>(db.scan_prefix("a")); }},
      {"snapshot", [](Store& db) { static_cast<void>(db.snapshot()); }},
      {"approximate_range", [](Store& db) { static_cast<void>(db.approximate_range()); }},
      {"sync", [](Store& db) { db.sync(); }},
      {"flush", [](Store& db) { db.flush(); }},
      {"compact", [](Store& db) { static_cast<void>(db.compact()); }},
      {"backup", [](Store& db) { static_cast<void>(db.backup("no/such/place")); }},
      {"check", [](Store& db) { static_cast<void>(db.check()); }},
      {"stats", [](Store& db) { static_cast<void>(db.stats()); }},
      {"close", [](Store& db) { db.close(); }},
  };
}
std::vector<std::pair<const char*, std::function<void(StoreSnapshot&)>>> snapshot_verbs() {
  static const std::array<std::string_view, 1> keys{"a"};
  return {
      {"get", [](StoreSnapshot& snapshot) { static_cast<void>(snapshot.get("a")); }},
      {"contains", [](StoreSnapshot& snapshot) { static_cast<void>(snapshot.contains("a")); }},
      {"get_many", [](StoreSnapshot& snapshot) { static_cast<void>(snapshot.get_many(keys)); }},
      {"scan", [](StoreSnapshot& snapshot) { static_cast<void>(snapshot.scan()); }},
      {"scan_prefix", [](StoreSnapshot& snapshot) { static_cast<void>(snapshot.scan_prefix("a")); }},
  };
}

class BlockingBadInput : public testing::Test {
 protected:
  // A store with kKeys entries, closed.
  void make_store() const {
    Store db = Store::open(path_, kSmall);
    for (int i = 0; i < kKeys; ++i) db.put(numbered(i), std::string(100, 'v'));
    db.close();
  }
  static void expect_all(const Store& db) {
    for (int i = 0; i < kKeys; ++i) ASSERT_EQ(db.get(numbered(i)), std::string(100, 'v')) << i;
  }
  // A process whose failed expectations are this test's; what it needs of the machine is there, or the test fails.
  template <class Body>
  static void in_child(Body body) {
    ChildProcess child([&](ChildProcess&) {
      body();
      return 0;
    });
    EXPECT_EQ(child.wait(), 0);
  }

  // Expects every verb of what `all` has to be refused.
  static void expect_refused(Store& db, StoreSnapshot& snapshot, StoreScan& scan, Errc code, const std::string& words,
                             const std::string& words_of_others) {
    for (const Verb& verb : verbs()) expect_error(verb.name, code, words, [&] { verb.call(db); });
    for (const auto& [name, call] : snapshot_verbs()) {
      expect_error(name, code, words_of_others, [&, &verb = call] { verb(snapshot); });
    }
    expect_error("next", code, words_of_others, [&] { static_cast<void>(scan.next()); });
    expect_error("seek", code, words_of_others, [&] { scan.seek("a"); });
  }

  const test::TempDir temp_;
  const std::string path_ = temp_.file("db");
};

TEST_F(BlockingBadInput, WhatWasMovedFrom) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  StoreSnapshot snapshot = db.snapshot();
  StoreScan scan = db.scan();
  const Store other = std::move(db);
  const StoreSnapshot other_snapshot = std::move(snapshot);
  StoreScan other_scan = std::move(scan);
  // NOLINTNEXTLINE(bugprone-use-after-move)
  expect_refused(db, snapshot, scan, Errc::closed, "the store is empty: it was moved from",
                 "is empty: it was moved from");
  EXPECT_FALSE(scan.is_ready());
  EXPECT_EQ(other.get("a"), "1");
  EXPECT_EQ(other_snapshot.get("a"), "1");
  EXPECT_TRUE(other_scan.next());
}

TEST_F(BlockingBadInput, WhatWasClosed) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  StoreSnapshot snapshot = db.snapshot();
  StoreScan scan = db.scan();
  db.close();
  expect_refused(db, snapshot, scan, Errc::closed, "closed", "closed");
  EXPECT_EQ(Store::open(path_, kSmall).get("a"), "1");
}

TEST_F(BlockingBadInput, WhatBelongsToTheParentOfAFork) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  StoreSnapshot snapshot = db.snapshot();
  StoreScan scan = db.scan();
  in_child([&] { expect_refused(db, snapshot, scan, Errc::closed, "before fork()|parent|exec", "before fork()"); });
  EXPECT_EQ(db.get("a"), "1");
}

TEST_F(BlockingBadInput, CallsOnACore) {
  Store db = Store::open(path_, kSmall);
  db.put("a", "1");
  StoreSnapshot snapshot = db.snapshot();
  StoreScan scan = db.scan();
  const auto on_core = [&] {
    expect_refused(db, snapshot, scan, Errc::invalid_argument, "on a core of a cluster|use a Partition",
                   "on a core of a cluster");
    expect_error("open", Errc::invalid_argument, "core", [&] { static_cast<void>(Store::open(path_ + "2", kSmall)); });
  };
  monterey::Cluster::builder().init(on_core).run();
  EXPECT_EQ(db.get("a"), "1");
}

TEST_F(BlockingBadInput, FilesWithoutRights) {
  make_store();
  const std::string closed = temp_.file("closed");
  std::filesystem::create_directory(closed);
  ASSERT_EQ(::chmod(temp_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(closed.c_str(), 0555), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0), 0);
  in_child([&] {
    ASSERT_TRUE(test::become_ordinary_user());
    const std::string words = path_ + "|may not open it|permissions|Permission denied";
    expect_error("open", Errc::io_error, words, [&] { static_cast<void>(Store::open(path_, kSmall)); });
    expect_error("open_read_only", Errc::io_error, words,
                 [&] { static_cast<void>(Store::open_read_only(path_, kSmall)); });
    expect_error("create", Errc::io_error, closed + "/db|may not make a file there|directory|Permission denied",
                 [&] { static_cast<void>(Store::open(closed + "/db", kSmall)); });
  });
  ASSERT_EQ(::chmod(path_.c_str(), 0444), 0);
  in_child([&] {
    ASSERT_TRUE(test::become_ordinary_user());
    expect_error("open", Errc::read_only, path_ + "|may only be read|open it read-only",
                 [&] { static_cast<void>(Store::open(path_, kSmall)); });
    const Store db = Store::open_read_only(path_, kSmall);
    expect_all(db);
    expect_error("backup", Errc::io_error, closed + "/copy|may not make a file there",
                 [&] { static_cast<void>(db.backup(closed + "/copy")); });
  });
  expect_all(Store::open(path_, kSmall));
}

TEST_F(BlockingBadInput, AFullDevice) {
  make_store();
  in_child([&] {
    ASSERT_TRUE(test::limit_file_size(2u << 20));
    {
      Store db = Store::open(path_, kSmall);
      const std::string words = path_ + "|no space|nothing was changed|erase something";
      expect_error("put", Errc::no_space, words, [&] {
        for (int i = kKeys;; ++i) db.put(numbered(i), std::string(1000, 'w'));
      });
      expect_all(db);
      db.flush();
      expect_error("a value", Errc::no_space, words, [&] { db.put("big", std::string(4u << 20, 'b')); });
      EXPECT_FALSE(db.contains("big"));
      db.erase_range(numbered(kKeys));  // what was said to do
      db.flush();
      db.put("more", "room");
      EXPECT_TRUE(db.check().ok);
      db.close();
    }
  });
  const Store db = Store::open(path_, kSmall);
  expect_all(db);
  EXPECT_EQ(db.get("more"), "room");
}

TEST_F(BlockingBadInput, ABackupThatHasNoRoom) {
  make_store();
  in_child([&] {
    ASSERT_TRUE(test::limit_file_size(64u << 10));
    const Store db = Store::open_read_only(path_, kSmall);
    const std::string copy = temp_.file("copy");
    expect_error("backup", Errc::no_space, copy + "|too small for the backup|nothing was written",
                 [&] { static_cast<void>(db.backup(copy)); });
    expect_all(db);
  });
}

TEST_F(BlockingBadInput, DamagedPages) {
  make_store();
  const auto blocks = std::filesystem::file_size(path_) / kBlock;
  int told = 0;
  for (std::uint64_t block = 4; block < blocks; block += 4) {
    const std::string damaged = temp_.file("damaged");
    std::filesystem::copy_file(path_, damaged, std::filesystem::copy_options::overwrite_existing);
    std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(block * kBlock + 2000));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(block * kBlock + 2000));
    file.put(static_cast<char>(byte ^ 1));
    file.close();
    try {
      const Store db = Store::open_read_only(damaged, kSmall);
      int left = 0;
      for (int i = 0; i < kKeys; ++i) {
        try {
          EXPECT_EQ(db.get(numbered(i)), std::string(100, 'v'));
          ++left;
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::corruption);
          EXPECT_THAT(error.what(), HasSubstr(fmt::format("{}: page {}: crc", damaged, block)));
        }
      }
      if (left == kKeys) continue;  // a page that is not in use
      ++told;
      const CheckReport report = db.check();
      EXPECT_FALSE(report.ok);
      EXPECT_THAT(report.errors, testing::Contains(HasSubstr(fmt::format("page {}", block))));
    } catch (const Error& error) {
      ++told;
      EXPECT_EQ(error.errc(), Errc::corruption);
      EXPECT_THAT(error.what(),
                  testing::AllOf(HasSubstr(damaged), HasSubstr(fmt::format("page {}", block)), HasSubstr("salvage")));
    }
  }
  EXPECT_GT(told, 5);
  expect_all(Store::open(path_, kSmall));
}

TEST_F(BlockingBadInput, FilesThatAreNoWholeStore) {
  make_store();
  const auto expect_refused_as = [&](Errc code, const std::string& words) {
    std::ifstream before_file(path_, std::ios::binary);
    const std::string before((std::istreambuf_iterator<char>(before_file)), {});
    expect_error("open", code, path_ + '|' + words, [&] { static_cast<void>(Store::open(path_, kSmall)); });
    expect_error("open_read_only", code, path_ + '|' + words,
                 [&] { static_cast<void>(Store::open_read_only(path_, kSmall)); });
    std::ifstream after_file(path_, std::ios::binary);
    EXPECT_EQ(std::string((std::istreambuf_iterator<char>(after_file)), {}), before) << "it is left as it was";
  };
  for (const std::uint64_t blocks : {20, 4, 1}) {
    std::filesystem::resize_file(path_, blocks * kBlock);
    expect_refused_as(Errc::corruption, fmt::format("truncated|has {} blocks|restore from a backup|salvage", blocks));
  }
  std::filesystem::resize_file(path_, 100);
  expect_refused_as(Errc::not_a_store, "100 bytes|check the path");
  std::ofstream(path_, std::ios::trunc) << std::string(20'000, 't');
  expect_refused_as(Errc::not_a_store, "not a store|check the path");
}

}  // namespace
}  // namespace store
