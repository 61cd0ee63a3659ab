// Files that the C API cannot use: without rights, without room, damaged, cut off, or of something else. Each is told by its own code and a text that
// says what, where and what to do, and what was stored is there afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <store/store.h>
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/child_process.hpp"
#include "support/restrictions.hpp"
#include "support/temp_dir.hpp"

namespace {

using testing::HasSubstr;

constexpr int kKeys = 1000;
constexpr std::size_t kBlock = 4096;

std::string numbered(int number) { return "key" + std::to_string(100'000 + number); }

class CapiBadFiles : public testing::Test {
 protected:
  void SetUp() override {
    store_db* db = open();
    const std::string value(100, 'v');
    for (int i = 0; i < kKeys; ++i) put(db, numbered(i), value);
    ASSERT_EQ(store_close(db), STORE_OK) << store_last_error();
  }

  static store_options small_options() {
    store_options options;
    EXPECT_EQ(store_options_init(&options), STORE_OK);
    options.cache_bytes = 256 << 10;
    options.write_buffer_bytes = 64 << 10;
    options.wal_mode = STORE_WAL_NONE;
    return options;
  }
  store_db* open(bool read_only = false) const {
    store_options options = small_options();
    options.read_only = read_only ? 1 : 0;
    store_db* db = nullptr;
    EXPECT_EQ(store_open(path_.c_str(), &options, &db), STORE_OK) << store_last_error();
    return db;
  }
  static store_code put(store_db* db, const std::string& key, const std::string& value) {
    return store_put(db, key.data(), key.size(), value.data(), value.size());
  }
  static store_code value_of(store_db* db, const std::string& key, std::string& value) {
    void* bytes = nullptr;
    std::size_t len = 0;
    const store_code code = store_get(db, key.data(), key.size(), &bytes, &len);
    if (code == STORE_OK) value.assign(static_cast<const char*>(bytes), len);
    store_free(bytes);
    return code;
  }
  static void expect_all(store_db* db) {
    std::string value;
    for (int i = 0; i < kKeys; ++i) {
      ASSERT_EQ(value_of(db, numbered(i), value), STORE_OK) << store_last_error();
      ASSERT_EQ(value, std::string(100, 'v'));
    }
  }
  // The last call was refused with `code` and a text that has the words.
  static void expect_error(store_code code, store_code want, const std::vector<std::string>& words) {
    EXPECT_EQ(code, want) << store_last_error();
    for (const std::string& word : words) EXPECT_THAT(store_last_error(), HasSubstr(word));
  }
  static void expect_not_opened(const std::string& path, int read_only, store_code want,
                                const std::vector<std::string>& words) {
    store_options options = small_options();
    options.read_only = read_only;
    store_db* db = nullptr;
    expect_error(store_open(path.c_str(), &options, &db), want, words);
    EXPECT_EQ(db, nullptr);
    EXPECT_THAT(store_last_error(), HasSubstr(path));
  }
  template <class Body>
  static void in_child(Body body) {
    store::test::ChildProcess child([&](store::test::ChildProcess&) {
      body();
      return 0;
    });
    EXPECT_EQ(child.wait(), 0);
  }

  const store::test::TempDir temp_;
  const std::string path_ = temp_.path() + "/db";
};

TEST_F(CapiBadFiles, WithoutRights) {
  ASSERT_EQ(::chmod(temp_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0), 0);
  in_child([&] {
    ASSERT_TRUE(store::test::become_ordinary_user());
    for (const int read_only : {0, 1}) {
      expect_not_opened(path_, read_only, STORE_ERROR_IO_ERROR, {"may not open it", "permissions"});
      EXPECT_EQ(store_last_os_error(), EACCES);
    }
    expect_not_opened(temp_.path() + "/new", 0, STORE_ERROR_IO_ERROR, {"may not make a file there", "directory"});
  });
  ASSERT_EQ(::chmod(path_.c_str(), 0444), 0);
  in_child([&] {
    ASSERT_TRUE(store::test::become_ordinary_user());
    expect_not_opened(path_, 0, STORE_ERROR_READ_ONLY, {"may only be read", "open it read-only"});
    store_db* const db = open(true);
    expect_all(db);
    expect_error(put(db, "k", "v"), STORE_ERROR_READ_ONLY, {"read"});
    expect_error(store_backup(db, (temp_.path() + "/copy").c_str(), nullptr, nullptr), STORE_ERROR_IO_ERROR,
                 {temp_.path() + "/copy", "may not make a file there"});
    EXPECT_EQ(store_close(db), STORE_OK);
  });
}

TEST_F(CapiBadFiles, WithoutRoom) {
  in_child([&] {
    ASSERT_TRUE(store::test::limit_file_size(2u << 20));
    store_db* const db = open();
    store_code code = STORE_OK;
    for (int i = kKeys; code == STORE_OK; ++i) code = put(db, numbered(i), std::string(1000, 'w'));
    expect_error(code, STORE_ERROR_NO_SPACE, {path_, "no space", "nothing was changed", "erase something"});
    expect_all(db);
    EXPECT_EQ(store_check(db, nullptr, nullptr), STORE_OK) << store_last_error();
    EXPECT_EQ(store_close(db), STORE_OK) << store_last_error();
  });
  store_db* const db = open();
  expect_all(db);
  EXPECT_EQ(store_close(db), STORE_OK);
}

TEST_F(CapiBadFiles, Damaged) {
  const auto blocks = std::filesystem::file_size(path_) / kBlock;
  // A byte in each leaf: else the store is not even opened.
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  for (std::uint64_t block = 0; block < blocks; ++block) {
    file.seekg(static_cast<std::streamoff>(block * kBlock + 2000));
    const int byte = file.get();
    if (byte != 'v') continue;
    file.seekp(static_cast<std::streamoff>(block * kBlock + 2000));
    file.put(static_cast<char>(byte ^ 1));
  }
  file.close();
  store_db* const db = open(true);
  std::string value;
  expect_error(value_of(db, numbered(1), value), STORE_ERROR_CORRUPTION, {path_ + ": page ", "crc", "salvage"});
  const std::string first = store_last_error();
  EXPECT_EQ(value_of(db, numbered(1), value), STORE_ERROR_CORRUPTION) << "it is told as often as one asks";
  EXPECT_EQ(store_last_error(), first);
  std::vector<std::string> findings;
  const auto note = [](void* context, const char* finding) {
    static_cast<std::vector<std::string>*>(context)->emplace_back(finding);
  };
  expect_error(store_check(db, note, &findings), STORE_ERROR_CORRUPTION, {"page "});
  EXPECT_THAT(findings, testing::Contains(HasSubstr("crc")));
  EXPECT_EQ(store_close(db), STORE_OK);
}

TEST_F(CapiBadFiles, NoWholeStore) {
  for (const std::uint64_t blocks : {20, 1}) {
    std::filesystem::resize_file(path_, blocks * kBlock);
    for (const int read_only : {0, 1}) {
      expect_not_opened(path_, read_only, STORE_ERROR_CORRUPTION, {"truncated", "restore from a backup", "salvage"});
    }
    EXPECT_EQ(std::filesystem::file_size(path_), blocks * kBlock);
  }
  std::ofstream(path_, std::ios::trunc) << std::string(20'000, 't');
  expect_not_opened(path_, 0, STORE_ERROR_NOT_A_STORE, {"not a store", "check the path"});
  EXPECT_EQ(std::filesystem::file_size(path_), 20'000u);
  expect_not_opened(temp_.path(), 0, STORE_ERROR_INVALID_ARGUMENT, {"is a directory", "name a file"});
  expect_not_opened(path_ + "/x", 0, STORE_ERROR_IO_ERROR, {"Not a directory"});
  expect_not_opened("", 0, STORE_ERROR_INVALID_ARGUMENT, {"empty"});
}

}  // namespace
