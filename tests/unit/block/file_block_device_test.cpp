// What is particular to files: creation, permissions, locks, growth in steps, and what the file system can refuse.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <monterey/fixed_bufs.hpp>
#include <monterey/spawn.hpp>
#include <store/block_device.hpp>
#include <store/error.hpp>

#include "support/child_process.hpp"
#include "support/on_core.hpp"
#include "support/temp_dir.hpp"

namespace {
std::atomic<int> g_directories_synced;
std::atomic<int> g_datasyncs;
std::atomic<int> g_durable_writes;
std::atomic<bool> g_hold_datasyncs;
}  // namespace

// These stand before the C library's: what the thread backend does is seen here.
extern "C" int fdatasync(int fd) {
  ++g_datasyncs;
  g_hold_datasyncs.wait(true);
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}
extern "C" ssize_t pwritev2(int fd, const iovec* pieces, int count, off_t offset, int flags) {
  if ((flags & RWF_DSYNC) != 0) ++g_durable_writes;
  return ::syscall(SYS_pwritev2, fd, pieces, count, offset, 0L, flags);
}
extern "C" int fsync(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) ++g_directories_synced;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

namespace store {
namespace {

using monterey::IoClass;
using monterey::Task;
using test::ChildProcess;
using test::discard;
using test::error_of;
using test::on_core;

constexpr std::size_t kBlock = 4096;

Task<> open_and_close(std::string path, FileBlockDeviceOptions options = {}) {
  return discard(FileBlockDevice::open(std::move(path), options));
}

// Opens `path` on a core of its own; Errc{} if that works.
Errc open_result(const std::string& path, FileBlockDeviceOptions options, std::string* what = nullptr) {
  try {
    on_core([&] { return open_and_close(path, options); });
  } catch (const Error& error) {
    if (what != nullptr) *what = error.what();
    return error.errc();
  }
  return Errc{};
}

std::string text_of(const std::string& path, FileBlockDeviceOptions options = {}) {
  std::string what;
  open_result(path, options, &what);
  return what;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(FileBlockDevice, CreatesAFileThatOnlyItsOwnerCanUse) {
  const test::TempDir directory;
  const mode_t before = ::umask(0);
  EXPECT_EQ(open_result(directory.file("new"), {}), Errc{});
  ::umask(before);
  struct stat info {};
  ASSERT_EQ(::stat(directory.file("new").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(info.st_size, 0);
}

TEST(FileBlockDevice, MakesTheEntryOfANewFileDurable) {
  const test::TempDir directory;
  ChildProcess child([&](ChildProcess&) {
    ::setenv("STORE_IO", "threads", 1);
    EXPECT_EQ(open_result(directory.file("new"), {}), Errc{});
    EXPECT_EQ(g_directories_synced, 1);
    EXPECT_EQ(open_result(directory.file("new"), {}), Errc{});
    EXPECT_EQ(g_directories_synced, 1) << "an existing file has its entry";
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(FileBlockDevice, ADurableWriteIsOneOperationPastThePageCacheAndTwoThroughIt) {
  const test::TempDir directory;
  ChildProcess child([&](ChildProcess&) {
    ::setenv("STORE_IO", "threads", 1);
    for (const bool direct : {true, false}) {
      on_core(2 * kBlock, [&]() -> Task<> {
        const FileBlockDeviceOptions options{.direct = direct};
        auto device = co_await FileBlockDevice::open(directory.file("db"), options);
        if (direct && !device->direct_io()) co_return;  // not on this file system
        co_await device->grow(4);
        const int syncs = g_datasyncs, writes = g_durable_writes;
        const monterey::FixedBuf data = monterey::FixedBufs::current().allocate(2 * kBlock);
        std::ranges::fill(data.span(), std::byte{7});
        co_await device->write_durably(PageNo(1), data.span(), IoClass::foreground);
        EXPECT_EQ(g_durable_writes - writes, direct ? 1 : 0);
        EXPECT_EQ(g_datasyncs - syncs, direct ? 0 : 1);
        std::vector<std::byte> read(2 * kBlock);
        co_await device->read(PageNo(1), read, IoClass::foreground);
        EXPECT_TRUE(std::ranges::equal(read, data.span()));
      });
    }
    return testing::Test::HasFailure() ? 1 : 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

// Else one of them takes the error of the other's writes, and the other says that they are durable.
TEST(FileBlockDevice, SyncsOfABufferedFileTakeTurns) {
  const test::TempDir directory;
  ChildProcess child([&](ChildProcess&) {
    ::setenv("STORE_IO", "threads", 1);
    on_core([&]() -> Task<> {
      const FileBlockDeviceOptions options{.direct = false};
      auto device = co_await FileBlockDevice::open(directory.file("db"), options);
      co_await device->grow(4);
      std::vector<std::byte> block(kBlock);
      g_datasyncs = 0;
      g_hold_datasyncs = true;
      auto first = monterey::spawn(device->sync());
      auto second = monterey::spawn(device->sync());
      // These go to the workers behind the syncs.
      for (int i = 0; i < 20; ++i) co_await device->read(PageNo(0), block, IoClass::foreground);
      EXPECT_EQ(g_datasyncs, 1);
      g_hold_datasyncs = false;
      g_hold_datasyncs.notify_all();
      co_await first;
      co_await second;
      EXPECT_EQ(g_datasyncs, 2);
    });
    return testing::Test::HasFailure() ? 1 : 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(FileBlockDevice, LeavesThePermissionsOfAnExistingFile) {
  const test::TempDir directory;
  std::ofstream(directory.file("old")) << std::string(4096, 'x');
  ASSERT_EQ(::chmod(directory.file("old").c_str(), 0640), 0);
  EXPECT_EQ(open_result(directory.file("old"), {}), Errc{});
  struct stat info {};
  ASSERT_EQ(::stat(directory.file("old").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST(FileBlockDevice, TellsWhatIsWrongWithThePath) {
  const test::TempDir directory;
  const std::string missing = directory.file("missing");
  EXPECT_EQ(open_result(missing, {.create = false}), Errc::not_found);
  EXPECT_TRUE(contains(text_of(missing, {.create = false}), missing + ": no such file"));
  EXPECT_EQ(open_result(missing, {.read_only = true}), Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(missing)) << "opening for reading never creates";

  EXPECT_EQ(open_result(missing + "/db", {}), Errc::not_found);
  EXPECT_TRUE(contains(text_of(missing + "/db"), "directory does not exist"));

  EXPECT_EQ(open_result(directory.path(), {}), Errc::invalid_argument);
  EXPECT_EQ(open_result(directory.path(), {.read_only = true}), Errc::invalid_argument);
  EXPECT_TRUE(contains(text_of(directory.path()), "is a directory")) << text_of(directory.path());

  ASSERT_EQ(::mkfifo(directory.file("fifo").c_str(), 0600), 0);
  EXPECT_EQ(open_result(directory.file("fifo"), {}), Errc::invalid_argument) << "and does not wait for a writer";
}

TEST(FileBlockDevice, RefusesACapacityOverTheFormatsLimit) {
  const test::TempDir directory;
  const std::uint64_t limit = std::uint64_t{1} << 32;
  EXPECT_EQ(open_result(directory.file("db"), {.capacity_blocks = limit + 1}), Errc::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(directory.file("db")));
  EXPECT_EQ(open_result(directory.file("db"), {.capacity_blocks = limit}), Errc{});
}

// Opens `path` for writing as an ordinary user; run as root it drops to one, in a child process.
int open_as_ordinary_user(const std::string& path, std::string* what) {
  if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return ChildProcess::kSkip;
  return static_cast<int>(open_result(path, {}, what));
}

TEST(FileBlockDevice, SaysSoWhenTheFileMayOnlyBeRead) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  std::ofstream(path) << std::string(kBlock, 'x');
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  ChildProcess user([&](ChildProcess&) {
    std::string what;
    const int result = open_as_ordinary_user(path, &what);
    if (result == ChildProcess::kSkip) return result;
    EXPECT_EQ(static_cast<Errc>(result), Errc::read_only) << what;
    EXPECT_TRUE(contains(what, path)) << what;
    EXPECT_EQ(open_result(path, {.read_only = true}), Errc{});
    return 0;
  });
  const int status = user.wait();
  if (status == ChildProcess::kSkip) GTEST_SKIP() << "cannot become an ordinary user";
  EXPECT_EQ(status, 0);
}

TEST(FileBlockDevice, SaysSoWhenItMayNotBeOpenedOrMade) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  std::ofstream(path) << std::string(kBlock, 'x');
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 0555), 0);
  ChildProcess user([&](ChildProcess&) {
    std::string what;
    const int result = open_as_ordinary_user(path, &what);
    if (result == ChildProcess::kSkip) return result;
    EXPECT_EQ(static_cast<Errc>(result), Errc::io_error) << what;
    EXPECT_TRUE(contains(what, path + ": this user may not open it")) << what;
    EXPECT_TRUE(contains(what, "Permission denied")) << what;
    EXPECT_EQ(open_result(path, {.read_only = true}, &what), Errc::io_error);
    EXPECT_TRUE(contains(what, path + ": this user may not open it")) << what;
    EXPECT_EQ(open_result(directory.file("new"), {}, &what), Errc::io_error);
    EXPECT_TRUE(contains(what, directory.file("new") + ": this user may not make a file there")) << what;
    return 0;
  });
  const int status = user.wait();
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  if (status == ChildProcess::kSkip) GTEST_SKIP() << "cannot become an ordinary user";
  EXPECT_EQ(status, 0);
}

TEST(FileBlockDevice, RefusesPathsThatAreNone) {
  const test::TempDir directory;
  std::string what;
  EXPECT_EQ(open_result("", {}, &what), Errc::invalid_argument);
  EXPECT_TRUE(contains(what, "empty")) << what;
  EXPECT_EQ(open_result(directory.file(std::string("a\0b", 3)), {}, &what), Errc::invalid_argument);
  EXPECT_TRUE(contains(what, "zero byte") && contains(what, directory.file("a"))) << what;
  EXPECT_FALSE(std::filesystem::exists(directory.file("a")));
  std::filesystem::create_symlink(directory.file("nowhere"), directory.file("dangling"));
  std::filesystem::create_symlink(directory.file("loop"), directory.file("loop"));
  for (const char* name : {"dangling", "loop"}) {
    EXPECT_EQ(open_result(directory.file(name), {}, &what), Errc::not_found) << name;
    EXPECT_TRUE(contains(what, directory.file(name) + ": is a symbolic link that leads nowhere")) << what;
  }
}

TEST(FileBlockDevice, IsLockedAgainstASecondOpenInTheSameProcess) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  on_core([&]() -> Task<> {
    auto device = co_await FileBlockDevice::open(path);
    std::string what;
    EXPECT_EQ(co_await error_of(open_and_close(path), &what), Errc::locked);
    EXPECT_TRUE(contains(what, path + ": already open in this process")) << what;
    const FileBlockDeviceOptions reading{.read_only = true};
    EXPECT_EQ(co_await error_of(open_and_close(path, reading)), Errc::locked);
    // The lock is on the file, not on its name.
    std::filesystem::create_hard_link(path, directory.file("other name"));
    EXPECT_EQ(co_await error_of(open_and_close(directory.file("other name"))), Errc::locked);
    device = nullptr;
    co_await open_and_close(path);
  });
}

TEST(FileBlockDevice, IsSharedByReadersOnly) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  on_core([&]() -> Task<> {
    co_await open_and_close(path);
    const FileBlockDeviceOptions reading{.read_only = true};
    auto first = co_await FileBlockDevice::open(path, reading);
    auto second = co_await FileBlockDevice::open(path, reading);
    EXPECT_EQ(co_await error_of(open_and_close(path)), Errc::locked);
    first = nullptr;
    EXPECT_EQ(co_await error_of(open_and_close(path)), Errc::locked) << "one reader is left";
    second = nullptr;
    co_await open_and_close(path);
  });
}

// A process that has `path` open until its parent tells it to go on.
int hold_open(ChildProcess& self, const std::string& path, FileBlockDeviceOptions options) {
  on_core([&]() -> Task<> {
    auto device = co_await FileBlockDevice::open(path, options);
    self.tell_peer();
    self.await_peer();
  });
  return 0;
}

TEST(FileBlockDevice, IsLockedAgainstAnotherProcess) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  std::string what;
  {
    ChildProcess other([&](ChildProcess& self) { return hold_open(self, path, {}); });
    ASSERT_TRUE(other.await_peer());
    EXPECT_EQ(open_result(path, {}, &what), Errc::locked);
    EXPECT_TRUE(contains(what, path + ": another process has it open")) << what;
    EXPECT_EQ(open_result(path, {.read_only = true}), Errc::locked);
    other.tell_peer();
    EXPECT_EQ(other.wait(), 0);
    EXPECT_EQ(open_result(path, {}), Errc{});
  }
  ChildProcess reader([&](ChildProcess& self) { return hold_open(self, path, {.read_only = true}); });
  ASSERT_TRUE(reader.await_peer());
  EXPECT_EQ(open_result(path, {.read_only = true}), Errc{});
  EXPECT_EQ(open_result(path, {}), Errc::locked);
  reader.tell_peer();
  EXPECT_EQ(reader.wait(), 0);
}

TEST(FileBlockDevice, IsUnlockedWhenItsProcessIsKilled) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  ChildProcess other([&](ChildProcess& self) { return hold_open(self, path, {}); });
  ASSERT_TRUE(other.await_peer());
  EXPECT_EQ(open_result(path, {}), Errc::locked);
  other.kill();
  EXPECT_EQ(other.wait(), -1);
  EXPECT_EQ(open_result(path, {}), Errc{});
}

TEST(FileBlockDevice, AFailedOpenLeavesNoLock) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  const FileBlockDeviceOptions fixed{.growable = false};
  EXPECT_EQ(open_result(path, fixed), Errc::invalid_argument) << "a fixed size needs capacity_blocks";
  EXPECT_EQ(open_result(path, {}), Errc{});
}

TEST(FileBlockDevice, GrowsInStepsOfAnEighth) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  on_core([&]() -> Task<> {
    auto device = co_await FileBlockDevice::open(path);
    co_await device->grow(1);
    EXPECT_EQ(device->size_blocks(), 16u) << "64 KiB at least";
    co_await device->grow(17);
    EXPECT_EQ(device->size_blocks(), 32u);
    co_await device->grow(1000);
    EXPECT_EQ(device->size_blocks(), 1000u) << "what was asked for, if that is more";
    co_await device->grow(1001);
    EXPECT_EQ(device->size_blocks(), 1125u);
    // Backed by storage, not a hole.
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_GE(static_cast<std::uint64_t>(info.st_blocks) * 512, 1125u * kBlock);
  });
  EXPECT_EQ(std::filesystem::file_size(path), 1125u * kBlock);
}

TEST(FileBlockDevice, GrowsByAtMost64MiB) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  std::ofstream(path).flush();
  std::filesystem::resize_file(path, std::uint64_t{1} << 30);  // sparse
  on_core([&]() -> Task<> {
    auto device = co_await FileBlockDevice::open(path);
    const std::uint64_t before = device->size_blocks();
    EXPECT_EQ(before, 262144u);
    co_await device->grow(before + 1);
    EXPECT_EQ(device->size_blocks(), before + 16384);
  });
}

TEST(FileBlockDevice, KeepsAFixedSize) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  on_core([&]() -> Task<> {
    const FileBlockDeviceOptions create{.capacity_blocks = 50, .growable = false};
    auto device = co_await FileBlockDevice::open(path, create);
    EXPECT_EQ(device->size_blocks(), 50u);
    EXPECT_EQ(device->capacity_blocks(), 50u);
    device = nullptr;
    const FileBlockDeviceOptions larger{.capacity_blocks = 80, .growable = false};
    device = co_await FileBlockDevice::open(path, larger);
    EXPECT_EQ(device->capacity_blocks(), 50u);
    EXPECT_EQ(co_await error_of(device->grow(51)), Errc::no_space);
    co_await device->shrink(10);
    EXPECT_EQ(device->size_blocks(), 50u);
  });
}

TEST(FileBlockDevice, CountsWholeBlocksOfAnOddFile) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  std::ofstream(path) << std::string(3 * kBlock + 100, 'x');
  on_core([&]() -> Task<> {
    const FileBlockDeviceOptions small{.capacity_blocks = 2};
    auto device = co_await FileBlockDevice::open(path, small);
    EXPECT_EQ(device->size_blocks(), 3u);
    EXPECT_EQ(device->capacity_blocks(), 3u) << "a limit on growth, not on what is there";
    EXPECT_EQ(device->name(), path);
  });
}

TEST(FileBlockDevice, NoticesThatTheFileWasCutUnderIt) {
  const test::TempDir directory;
  const std::string path = directory.file("db");
  on_core([&]() -> Task<> {
    auto device = co_await FileBlockDevice::open(path);
    co_await device->grow(32);
    std::filesystem::resize_file(path, 10 * kBlock);
    alignas(kBlock) static std::byte memory[5 * kBlock];
    for (const std::size_t misaligned : {0, 1}) {
      const std::span<std::byte> bytes(memory + misaligned, 4 * kBlock);
      std::string what;
      EXPECT_EQ(co_await error_of(device->read(PageNo(8), bytes, IoClass::foreground), &what), Errc::io_error);
      EXPECT_TRUE(contains(what, std::to_string(10 * kBlock))) << what;
      EXPECT_TRUE(contains(what, path)) << what;
    }
  });
}

// Mounts a file system of `type` for this process alone. False if that is not allowed.
bool mount_private(const char* type, const std::string& path, const char* options) {
  return ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount(type, path.c_str(), type, 0, options) == 0;
}

void check_child(ChildProcess& child) {
  const int status = child.wait();
  if (status == ChildProcess::kSkip) GTEST_SKIP() << "cannot mount a file system here";
  EXPECT_EQ(status, 0);
}

TEST(FileBlockDevice, AFullDiskIsNoSpaceAndChangesNothing) {
  const test::TempDir directory;
  ChildProcess child([&](ChildProcess&) {
    if (!mount_private("tmpfs", directory.path(), "size=1M")) return ChildProcess::kSkip;
    const std::string path = directory.file("db");
    on_core([&]() -> Task<> {
      auto device = co_await FileBlockDevice::open(path);
      co_await device->grow(200);
      std::vector<std::byte> ones(200 * kBlock, std::byte{1}), bytes(200 * kBlock);
      co_await device->write(PageNo(0), ones, IoClass::foreground);
      std::string what;
      EXPECT_EQ(co_await error_of(device->grow(300), &what), Errc::no_space);
      EXPECT_TRUE(contains(what, path) && contains(what, "300")) << what;
      EXPECT_EQ(device->size_blocks(), 200u);
      co_await device->read(PageNo(0), bytes, IoClass::foreground);
      EXPECT_TRUE(std::ranges::equal(ones, bytes));
      // The step of an eighth does not fit, what was asked for does.
      co_await device->grow(240);
      EXPECT_EQ(device->size_blocks(), 240u);
      co_await device->grow(250);
      EXPECT_EQ(device->size_blocks(), 250u);
      co_await device->write(PageNo(40), ones, IoClass::foreground);
      co_await device->sync();
    });
    const FileBlockDeviceOptions fixed{.capacity_blocks = 1000, .growable = false};
    EXPECT_EQ(open_result(directory.file("too large"), fixed), Errc::no_space);
    return 0;
  });
  check_child(child);
}

// ramfs has neither O_DIRECT nor fallocate.
TEST(FileBlockDevice, FallsBackWhereTheFileSystemHasNoDirectIo) {
  const test::TempDir directory;
  ChildProcess child([&](ChildProcess&) {
    if (!mount_private("ramfs", directory.path(), nullptr)) return ChildProcess::kSkip;
    const std::string path = directory.file("db");
    on_core([&]() -> Task<> {
      auto device = co_await FileBlockDevice::open(path);
      EXPECT_FALSE(device->direct_io());
      EXPECT_FALSE(device->buffered_reason().empty());
      co_await device->grow(700);
      EXPECT_EQ(device->size_blocks(), 700u);
      EXPECT_EQ(std::filesystem::file_size(path), 700 * kBlock);
      std::vector<std::byte> ones(10 * kBlock + 1, std::byte{1}), bytes(10 * kBlock);
      co_await device->write(PageNo(690), std::span(ones).subspan(1), IoClass::foreground);
      co_await device->read(PageNo(690), bytes, IoClass::foreground);
      EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{1}; }));
      const Extent some{PageNo(600), 10};
      co_await device->trim(some);
      device = nullptr;
      const FileBlockDeviceOptions buffered{.direct = false};
      device = co_await FileBlockDevice::open(path, buffered);
      EXPECT_FALSE(device->direct_io());
      EXPECT_TRUE(device->buffered_reason().empty()) << "it was not asked for";
    });
    return 0;
  });
  check_child(child);
}

}  // namespace
}  // namespace store
