// The I/O suite where the machine gives less: as an ordinary user with little lockable memory, and with io_uring or
// parts of it refused by a seccomp filter. Each case runs in a child process, which gives up what it must not have,
// and compares the whole trace with that of the unrestricted run; what had to be left out must be told, and nothing
// else may be.
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <monterey/cluster.hpp>
#include <monterey/spawn.hpp>
#include <string>
#include <vector>

#include "io_rungs.hpp"
#include "io_suite.hpp"
#include "support/child_process.hpp"

namespace monterey::test {
namespace {

using detail::IoRung;

constexpr std::size_t kArenaBytes = std::size_t{4} << 20;
constexpr std::uint64_t kSeed = 3;

// Answers `system_call` with `error` from now on, for this process for good.
bool refuse(long system_call, int error) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(system_call), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)), .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Limits lockable memory and, if this is root, becomes a user whom no other process of this machine is likely to be:
// what users lock is counted by user.
void become_ordinary(rlim_t lockable_bytes) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  limit.rlim_cur = lockable_bytes;
  limit.rlim_max = lockable_bytes;
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0) << "cannot set RLIMIT_MEMLOCK";
  if (::getuid() != 0) return;
  const auto user = static_cast<uid_t>(100'000 + ::getpid() % 100'000);
  ASSERT_EQ(::setgroups(0, nullptr), 0);
  ASSERT_EQ(::setgid(user), 0);
  ASSERT_EQ(::setuid(user), 0);
}

class Restricted : public testing::TestWithParam<IoRung> {
 protected:
  void SetUp() override {
    if (GetParam() != IoRung::threads && !io_uring_allowed()) GTEST_SKIP() << "io_uring is refused here";
    ASSERT_EQ(::chmod(directory_.path().c_str(), 0777), 0);
    found_ = Capabilities{};
    expected_ = trace(Backend::threads, kArenaBytes);
  }

  std::vector<std::string> trace(Backend wanted, std::size_t arena_bytes) {
    FixedBufs arena(arena_bytes);
    const auto backend = detail::make_backend(wanted, GetParam(), arena, found_);
    return io_trace(*backend, arena, directory_.path(), kSeed);
  }
  // In the child: the suite gives the expected trace.
  void compare(std::size_t arena_bytes = kArenaBytes) {
    EXPECT_EQ(first_difference(expected_, trace(Backend::automatic, arena_bytes)), "");
  }
  bool reason_names(const std::string& text) const { return found_.reason.find(text) != std::string::npos; }
  bool on_ring() const { return GetParam() != IoRung::threads; }

  template <class Body>
  void in_child(Body body) {
    store::test::ChildProcess child([&](store::test::ChildProcess&) {
      body();
      return 0;
    });
    EXPECT_EQ(child.wait(), 0);
  }

  store::test::TempDir directory_;
  Capabilities found_;
  std::vector<std::string> expected_;
};

TEST_P(Restricted, AnOrdinaryUserWith64KiBOfLockableMemory) {
  in_child([this] {
    become_ordinary(64 << 10);
    compare();
    EXPECT_EQ(found_.backend, on_ring() ? Backend::io_uring : Backend::threads);
    EXPECT_FALSE(found_.registered_buffers);
    if (GetParam() == IoRung::full) {
      EXPECT_TRUE(reason_names("RLIMIT_MEMLOCK")) << found_.reason;
    }
  });
}

TEST_P(Restricted, AnOrdinaryUserWith8MiBOfLockableMemory) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  const rlim_t wanted = 8 << 20;
  const bool allowed = ::getuid() == 0 || limit.rlim_max >= wanted;
  in_child([&] {
    become_ordinary(allowed ? wanted : limit.rlim_max);
    compare(kArenaBytes);
    EXPECT_EQ(found_.backend, on_ring() ? Backend::io_uring : Backend::threads);
    // Another user's locked memory does not count, but other processes of the one who runs this test do.
    if (GetParam() == IoRung::full && ::getuid() >= 100'000) {
      EXPECT_TRUE(found_.registered_buffers) << found_.reason;
    }
  });
  in_child([&] {
    become_ordinary(allowed ? wanted : limit.rlim_max);
    compare(std::size_t{32} << 20);
    EXPECT_FALSE(found_.registered_buffers);
    if (GetParam() == IoRung::full) {
      EXPECT_TRUE(reason_names("RLIMIT_MEMLOCK")) << found_.reason;
    }
  });
}

TEST_P(Restricted, RingsRefusedGiveThreads) {
  for (const int error : {EPERM, ENOSYS}) {
    in_child([&] {
      ASSERT_TRUE(refuse(SYS_io_uring_setup, error));
      compare();
      EXPECT_EQ(found_.backend, Backend::threads);
      EXPECT_FALSE(found_.registered_buffers || found_.registered_files || found_.single_issuer ||
                   found_.defer_taskrun);
      if (on_ring()) {
        EXPECT_TRUE(reason_names("io_uring cannot be used")) << found_.reason;
      }
    });
  }
}

TEST_P(Restricted, ARingThatMayNotBeEnteredGivesThreads) {
  in_child([this] {
    ASSERT_TRUE(refuse(SYS_io_uring_enter, EPERM));
    compare();
    EXPECT_EQ(found_.backend, Backend::threads);
  });
}

TEST_P(Restricted, RegistrationRefusedLeavesOutWhatIsRegistered) {
  in_child([this] {
    ASSERT_TRUE(refuse(SYS_io_uring_register, EPERM));
    compare();
    EXPECT_EQ(found_.backend, on_ring() ? Backend::io_uring : Backend::threads);
    EXPECT_FALSE(found_.registered_buffers || found_.registered_files);
  });
}

INSTANTIATE_TEST_SUITE_P(Rungs, Restricted, testing::ValuesIn(kAllRungs),
                         [](const auto& rung) { return rung_name(rung.param); });

// What a whole cluster does and reports.
void run_cluster(Backend wanted, Capabilities& found) {
  BufferConfig buffers{};
  buffers.bytes = kArenaBytes;
  Cluster::builder().buffers(buffers).backend(wanted).init([&found] { found = capabilities(); }).run();
}

TEST(RestrictedCluster, FallsBackToThreadsUnlessTheRingWasAskedFor) {
  store::test::ChildProcess child([](store::test::ChildProcess&) {
    ::unsetenv("STORE_IO");
    EXPECT_TRUE(refuse(SYS_io_uring_setup, EPERM));
    Capabilities found;
    run_cluster(Backend::automatic, found);
    EXPECT_EQ(found.backend, Backend::threads);
    EXPECT_EQ(found.reason, "io_uring cannot be used: Operation not permitted");
    try {
      run_cluster(Backend::io_uring, found);
      ADD_FAILURE() << "not refused";
    } catch (const store::Error& error) {
      EXPECT_EQ(error.errc(), store::Errc::io_error);
      EXPECT_EQ(error.os_error(), EPERM);
      EXPECT_STREQ(
          error.what(),
          "io_uring was asked for and cannot be used here (a seccomp filter, kernel.io_uring_disabled or an old "
          "kernel); use Backend::automatic or threads: Operation not permitted");
    }
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(RestrictedCluster, TakesTheRungOfTheEnvironment) {
  const struct {
    const char* rung;
    Backend backend;
    bool buffers, files;
  } cases[] = {{"full", Backend::io_uring, true, true},
               {"nobufs", Backend::io_uring, false, true},
               {"plain", Backend::io_uring, false, false},
               {"threads", Backend::threads, false, false}};
  if (!io_uring_allowed()) GTEST_SKIP() << "io_uring is refused here";
  for (const auto& expected : cases) {
    SCOPED_TRACE(expected.rung);
    store::test::ChildProcess child([&](store::test::ChildProcess&) {
      ::setenv("STORE_IO", expected.rung, 1);
      Capabilities found;
      run_cluster(Backend::automatic, found);
      EXPECT_EQ(found.backend, expected.backend);
      EXPECT_EQ(found.registered_files, expected.files);
      if (!expected.buffers || ::getuid() == 0) {
        EXPECT_EQ(found.registered_buffers, expected.buffers);
      }
      return 0;
    });
    EXPECT_EQ(child.wait(), 0);
  }
}

}  // namespace
}  // namespace monterey::test
