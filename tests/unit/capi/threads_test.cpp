// Handles that several threads use, and close.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <store/store.h>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "support/temp_dir.hpp"

namespace {

store_options small_options() {
  store_options options;
  EXPECT_EQ(store_options_init(&options), STORE_OK);
  options.cache_bytes = 256 << 10;
  options.write_buffer_bytes = 64 << 10;
  options.wal_mode = STORE_WAL_NONE;
  return options;
}

class CapiThreads : public testing::Test {
 protected:
  void SetUp() override {
    const store_options options = small_options();
    ASSERT_EQ(store_open(path_.c_str(), &options, &db_), STORE_OK) << store_last_error();
    ASSERT_EQ(store_put(db_, "k", 1, "v", 1), STORE_OK);
  }

  const store::test::TempDir temp_;
  const std::string path_ = temp_.path() + "/db";
  store_db* db_ = nullptr;
};

TEST_F(CapiThreads, AStoreIsClosedUnderThreadsThatUseIt) {
  std::atomic<int> reading{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      store_code code = STORE_OK;
      for (int round = 0; code == STORE_OK; ++round) {
        code = i == 0 && round % 16 == 0 ? store_flush(db_) : store_contains(db_, "k", 1);
        if (round == 0) ++reading;
      }
      EXPECT_EQ(code, STORE_ERROR_CLOSED) << store_last_error();
    });
  }
  while (reading < 4) std::this_thread::yield();
  EXPECT_EQ(store_close(db_), STORE_OK) << store_last_error();
  for (std::thread& thread : threads) thread.join();
}

TEST_F(CapiThreads, OneOfManyThatCloseAHandleDoes) {
  for (int round = 0; round < 200; ++round) {
    store_batch* batch = nullptr;
    ASSERT_EQ(store_batch_create(&batch), STORE_OK);
    std::atomic<int> closed{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        static_cast<void>(store_batch_put(batch, "a", 1, "b", 1));
        if (store_batch_free(batch) == STORE_OK) ++closed;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(closed, 1);
  }
  EXPECT_EQ(store_close(db_), STORE_OK);
}

TEST_F(CapiThreads, AScanUsedByTwoThreadsRefusesOne) {
  for (int i = 0; i < 5000; ++i) {
    const std::string key = "key" + std::to_string(i);
    ASSERT_EQ(store_put(db_, key.data(), key.size(), "value", 5), STORE_OK);
  }
  store_scan* scan = nullptr;
  ASSERT_EQ(store_scan_create(db_, nullptr, &scan), STORE_OK);
  std::atomic<bool> refused{false};
  const auto walk = [&] {
    const void* key = nullptr;
    const void* value = nullptr;
    std::size_t key_len = 0;
    std::size_t value_len = 0;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!refused && std::chrono::steady_clock::now() < give_up) {
      store_code code = store_scan_next(scan, &key, &key_len, &value, &value_len);
      if (code == STORE_END) code = store_scan_seek(scan, "", 0);
      if (code == STORE_OK) continue;
      ASSERT_EQ(code, STORE_ERROR_INVALID_ARGUMENT) << store_last_error();
      ASSERT_NE(std::string(store_last_error()).find("one thread at a time"), std::string::npos);
      refused = true;
    }
  };
  std::thread other(walk);
  walk();
  other.join();
  EXPECT_TRUE(refused);
  EXPECT_EQ(store_scan_free(scan), STORE_OK);
  EXPECT_EQ(store_close(db_), STORE_OK);
}

TEST_F(CapiThreads, EachThreadHasItsLastError) {
  EXPECT_EQ(store_put(db_, "", 0, "", 0), STORE_ERROR_INVALID_ARGUMENT);
  const std::string mine = store_last_error();
  EXPECT_NE(mine, "");
  std::thread([&] {
    EXPECT_STREQ(store_last_error(), "");
    EXPECT_EQ(store_get(nullptr, "k", 1, nullptr, nullptr), STORE_ERROR_INVALID_ARGUMENT);
    EXPECT_NE(store_last_error(), mine);
  }).join();
  EXPECT_EQ(store_last_error(), mine);
  EXPECT_EQ(store_contains(db_, "nope", 4), STORE_KEY_NOT_FOUND);
  EXPECT_EQ(store_last_error(), mine) << "a missing key is no failure";
  EXPECT_EQ(store_close(db_), STORE_OK);
}

TEST_F(CapiThreads, AChildOfForkIsTold) {
  store_snapshot* snapshot = nullptr;
  ASSERT_EQ(store_snapshot_create(db_, &snapshot), STORE_OK);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int wrong = store_put(db_, "k", 1, "w", 1) == STORE_ERROR_CLOSED ? 0 : 1;
    wrong |= store_snapshot_contains(snapshot, "k", 1) == STORE_ERROR_CLOSED ? 0 : 2;
    wrong |= store_snapshot_free(snapshot) == STORE_OK ? 0 : 4;
    wrong |= store_close(db_) == STORE_ERROR_CLOSED ? 0 : 8;
    wrong |= store_close(db_) == STORE_ERROR_CLOSED ? 0 : 16;
    ::_exit(wrong);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(store_snapshot_free(snapshot), STORE_OK);
  EXPECT_EQ(store_contains(db_, "k", 1), STORE_OK);
  EXPECT_EQ(store_close(db_), STORE_OK);
}

}  // namespace
