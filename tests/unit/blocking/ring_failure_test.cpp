// A store whose ring dies under it: the kernel refuses to go on with it (a seccomp filter that comes into force while threads wait for the store).
// Each case is a child process, as there is no way back.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <store/async_store.hpp>
#include <store/blocking_store.hpp>
#include <store/error.hpp>

#include "support/child_process.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using test::ChildProcess;

constexpr StoreOptions kSmall{.cache_bytes = 256u << 10, .wal_mode = WalMode::per_op, .write_buffer_bytes = 64u << 10};
constexpr int kWriters = 2;
constexpr int kKeys = 500;  // that are there before, each of more than a page of the cache
constexpr unsigned kPatienceSeconds = 60;

std::string numbered(int number) { return fmt::format("key{:06}", number); }
std::string written(int writer, int number) { return fmt::format("writer{}:{}", writer, number); }

bool has_ring() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone).string().find("io_uring") != std::string::npos) return true;
  }
  return false;
}

// Answers io_uring_enter with EIO from now on, on all threads of this process.
bool break_rings() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)), .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0;
}

// Expects the call to say that the ring is gone.
void expect_dead(const char* name, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << name << " has worked";
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::io_error) << name << ": " << error.what();
    EXPECT_EQ(error.os_error(), EIO) << name;
    EXPECT_NE(std::string(error.what()).find("io_uring_enter"), std::string::npos) << name << ": " << error.what();
  }
}

// What the child has acknowledged, for its parent.
struct Acknowledged {
  std::array<std::atomic<int>, kWriters> puts{};
};

// Threads that call until that fails.
class Callers {
 public:
  void start(const char* name, std::function<void(int round)> call) {
    threads_.emplace_back([this, name, call] {
      expect_dead(name, [&] {
        for (int round = 0;; ++round) {
          call(round);
          if (round == 0) ++at_work_;
        }
      });
    });
  }
  void await_all_at_work() const {
    while (at_work_ < static_cast<int>(threads_.size())) std::this_thread::yield();
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<int> at_work_{0};
  std::vector<std::thread> threads_;
};

// In the child. Returns its exit status.
int lose_the_ring(const std::string& path, Acknowledged& acknowledged) {
  ::alarm(kPatienceSeconds);  // nothing may hang
  std::optional<Store> db = Store::open(path, kSmall);
  if (!has_ring()) return ChildProcess::kSkip;
  WriteBatch batch;
  for (int i = 0; i < kKeys; ++i) batch.put(numbered(i), std::string(1000, 'v'));
  db->write(std::move(batch));
  db->flush();
  std::optional<StoreSnapshot> snapshot = db->snapshot();
  std::optional<StoreScan> scan = db->scan();
  std::optional<StoreScan> begun = db->scan(numbered(1));
  EXPECT_TRUE(begun->next());

  Callers callers;
  for (int writer = 0; writer < kWriters; ++writer) {
    callers.start("put", [&, writer](int round) {
      db->put(written(writer, round), "value");
      acknowledged.puts[static_cast<std::size_t>(writer)] = round + 1;
    });
  }
  callers.start("flush", [&](int) { db->flush(); });
  callers.start("get", [&](int round) { static_cast<void>(db->get(numbered(round * 37 % kKeys))); });
  callers.start("scan", [&](int) {
    for (const auto& entry : db->scan()) EXPECT_FALSE(entry.key.empty());
  });
  // Of calls that nobody waits for: each is told once, in the end why.
  CompletionQueue queue;
  AsyncStore by_queue(*db, queue);
  AsyncStore by_thread(*db);
  std::optional<AsyncScan> pieces = by_queue.scan();
  std::atomic<int> told_by_queue{0};
  std::atomic<int> told_by_thread{0};
  constexpr int kCalls = 100;
  const auto counted = [](std::atomic<int>& told) { return [&told](std::exception_ptr, auto&&...) { ++told; }; };
  pieces->next(counted(told_by_queue));
  callers.await_all_at_work();
  for (int i = 0; i < kCalls; ++i) {
    by_queue.get(numbered(i * 37 % kKeys), counted(told_by_queue));
    by_thread.sync(counted(told_by_thread));
  }
  if (!break_rings()) {
    ADD_FAILURE() << "no seccomp filter can be set: " << std::error_code(errno, std::generic_category()).message();
    ::_exit(1);
  }
  callers.join();
  while (told_by_queue < kCalls + 1) queue.run();
  while (told_by_thread < kCalls) std::this_thread::yield();
  expect_dead("AsyncStore.get", [&] { by_queue.get("key", counted(told_by_queue)); });
  expect_dead("AsyncStore.put", [&] { by_thread.put("key", "value", counted(told_by_thread)); });
  expect_dead("AsyncScan.next", [&] { pieces->next(counted(told_by_queue)); });
  EXPECT_EQ(told_by_queue, kCalls + 1);
  EXPECT_EQ(told_by_thread, kCalls);
  pieces.reset();

  const std::array<std::string_view, 1> keys{"key"};
  expect_dead("get", [&] { static_cast<void>(db->get("key")); });
  expect_dead("contains", [&] { static_cast<void>(db->contains("key")); });
  expect_dead("get_into", [&] { static_cast<void>(db->get_into("key", {})); });
  expect_dead("try_get_into", [&] { static_cast<void>(db->try_get_into("key", {})); });
  expect_dead("get_many", [&] { static_cast<void>(db->get_many(keys)); });
  expect_dead("put", [&] { db->put("key", "value"); });
  expect_dead("erase", [&] { db->erase("key"); });
  expect_dead("compare_and_put", [&] { static_cast<void>(db->compare_and_put("key", "a", "b")); });
  expect_dead("write", [&] { db->write(WriteBatch()); });
  expect_dead("erase_range", [&] { db->erase_range("key"); });
  expect_dead("scan", [&] { static_cast<void>(db->scan()); });
  expect_dead("scan_prefix", [&] { static_cast<void>(db->scan_prefix("key")); });
  expect_dead("snapshot", [&] { static_cast<void>(db->snapshot()); });
  expect_dead("approximate_range", [&] { static_cast<void>(db->approximate_range()); });
  expect_dead("sync", [&] { db->sync(); });
  expect_dead("flush", [&] { db->flush(); });
  expect_dead("compact", [&] { static_cast<void>(db->compact()); });
  expect_dead("backup", [&] { static_cast<void>(db->backup(path + ".copy")); });
  expect_dead("check", [&] { static_cast<void>(db->check()); });
  expect_dead("stats", [&] { static_cast<void>(db->stats()); });
  expect_dead("snapshot.get", [&] { static_cast<void>(snapshot->get("key")); });
  expect_dead("snapshot.scan", [&] { static_cast<void>(snapshot->scan()); });
  expect_dead("scan.next", [&] { static_cast<void>(scan->next()); });
  expect_dead("scan.seek", [&] { scan->seek("key"); });
  expect_dead("scan.next of one that had begun", [&] {
    while (begun->next()) {
    }
  });
  expect_dead("close", [&] { db->close(); });
  scan.reset();
  db.reset();
  snapshot.reset();
  begun.reset();
  // The file stays this process's, as the kernel may still work on it.
  try {
    static_cast<void>(Store::open(path, kSmall));
    ADD_FAILURE() << "it has been opened again";
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::locked) << error.what();
  }
  return 0;
}

TEST(RingFailure, EveryCallSaysWhyAndWhatWasAcknowledgedIsThere) {
  const test::TempDir temp;
  const std::string path = temp.file("db");
  void* const memory = ::mmap(nullptr, sizeof(Acknowledged), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const acknowledged = new (memory) Acknowledged;
  ChildProcess child([&](ChildProcess&) { return lose_the_ring(path, *acknowledged); });
  const int status = child.wait();
  if (status == ChildProcess::kSkip) GTEST_SKIP() << "io_uring is refused here: there is no ring to lose";
  ASSERT_EQ(status, 0);

  Store db = Store::open(path, kSmall);
  for (int i = 0; i < kKeys; ++i) EXPECT_EQ(db.get(numbered(i)), std::string(1000, 'v'));
  for (int writer = 0; writer < kWriters; ++writer) {
    const int puts = acknowledged->puts[static_cast<std::size_t>(writer)];
    EXPECT_GT(puts, 0);
    for (int number = 0; number < puts; ++number) EXPECT_EQ(db.get(written(writer, number)), "value");
  }
  EXPECT_TRUE(db.check().ok);
  ::munmap(memory, sizeof(Acknowledged));
}

}  // namespace
}  // namespace store
