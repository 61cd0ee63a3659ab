// NVMe namespaces: what is told of a path that is none, the commands and answers on the wire, and, where there is a namespace to test
// on (STORE_TEST_NVME), windows, locks and limits of a real driver.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <monterey/fixed_bufs.hpp>
#include <monterey/when_all.hpp>
#include <store/error.hpp>
#include <store/nvme_block_device.hpp>

#include "store/block/nvme_protocol.hpp"
#include "support/on_core.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using monterey::IoClass;
using monterey::Task;
using test::error_of;
using test::nvme_path;
using testing::HasSubstr;

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kArena = 4u << 20;

Task<> open_path(std::string path, NvmeBlockDeviceOptions options = {}) {
  static_cast<void>(co_await NvmeBlockDevice::open(std::move(path), options));
}

// Whether this machine's kernel and limits give a core device commands.
bool has_commands() {
  bool has = false;
  monterey::Cluster::builder()
      .device_commands(true)
      .init([&] { has = monterey::capabilities().device_commands; })
      .run();
  return has;
}

template <class Body>
void with_commands(Body body) {
  monterey::BufferConfig arena;
  arena.bytes = kArena;
  monterey::Cluster::builder()
      .cores(1)
      .buffers(arena)
      .device_commands(true)
      .init([&body] { monterey::spawn(body()); })
      .run();
}

TEST(NvmePath, OfAnythingElseIsRefused) {
  if (!has_commands()) GTEST_SKIP() << "this kernel or its limits have no device commands";
  const test::TempDir directory;
  with_commands([&]() -> Task<> {
    std::string what;
    EXPECT_EQ(co_await error_of(open_path("/dev/ng99n1"), &what), Errc::not_found);
    EXPECT_THAT(what, HasSubstr("/dev/ng99n1: no such device"));
    EXPECT_EQ(co_await error_of(open_path(directory.path()), &what), Errc::invalid_argument);
    EXPECT_THAT(what, HasSubstr("not a character device"));
    EXPECT_EQ(co_await error_of(open_path("/dev/null"), &what), Errc::invalid_argument);
    EXPECT_THAT(what,
                HasSubstr("/dev/null: not a namespace of an NVMe disk; name its character device, like /dev/ng0n1"));
  });
}

TEST(NvmePath, NeedsACoreWithDeviceCommands) {
  monterey::Cluster::builder()
      .cores(1)
      .init([] {
        monterey::spawn([]() -> Task<> {
          std::string what;
          EXPECT_EQ(co_await error_of(open_path("/dev/null"), &what), Errc::invalid_argument);
          EXPECT_THAT(what, HasSubstr("device_commands(true)"));
        }());
      })
      .run();
}

TEST(NvmePath, IsACharacterDevice) {
  EXPECT_TRUE(is_nvme_path("/dev/null"));
  EXPECT_FALSE(is_nvme_path("/tmp"));
  EXPECT_FALSE(is_nvme_path("/dev/ng99n1"));
}

// --- the wire ---

using Answer = std::array<std::byte, nvme::kIdentifyBytes>;

template <class Number>
void set(Answer& answer, std::size_t at, Number number) {
  std::memcpy(answer.data() + at, &number, sizeof number);
}

TEST(NvmeIdentify, TellsSizeAndFormat) {
  Answer answer{};
  set(answer, 0, std::uint64_t{1'000'000});  // NSZE
  set(answer, 26, std::uint8_t{0x21});       // FLBAS: format 17
  set(answer, 128 + 17 * 4, std::uint16_t{8});
  set(answer, 128 + 17 * 4 + 2, std::uint8_t{12});
  NvmeNamespace space;
  nvme::read_namespace(answer, space);
  EXPECT_EQ(space.lba_bytes, 4096u);
  EXPECT_EQ(space.metadata_bytes, 8u);
  EXPECT_EQ(space.bytes, 4'096'000'000u);
  set(answer, 26, std::uint8_t{1});
  set(answer, 128 + 4 + 2, std::uint8_t{9});
  nvme::read_namespace(answer, space);
  EXPECT_EQ(space.lba_bytes, 512u);
  EXPECT_EQ(space.metadata_bytes, 0u);
  EXPECT_EQ(space.bytes, 512'000'000u);
}

TEST(NvmeIdentify, TellsWhatTheControllerCan) {
  Answer answer{};
  std::memset(answer.data() + 4, ' ', 60);
  std::memcpy(answer.data() + 4, "vm0", 3);
  std::memcpy(answer.data() + 24, "QEMU NVMe Ctrl", 14);
  set(answer, 77, std::uint8_t{5});
  set(answer, 520, std::uint16_t{4});
  set(answer, 525, std::uint8_t{1});
  NvmeNamespace space;
  nvme::read_controller(answer, space);
  EXPECT_EQ(space.serial, "vm0");
  EXPECT_EQ(space.model, "QEMU NVMe Ctrl");
  EXPECT_EQ(space.max_transfer_bytes, 131'072u);
  EXPECT_TRUE(space.deallocates);
  EXPECT_TRUE(space.volatile_write_cache);
  set(answer, 77, std::uint8_t{0});
  set(answer, 520, std::uint16_t{0});
  nvme::read_controller(answer, space);
  EXPECT_EQ(space.max_transfer_bytes, 0u);
  EXPECT_FALSE(space.deallocates);
}

TEST(NvmeCommand, NamesBlocksAndMemory) {
  const std::array<std::byte, 8192> memory{};
  const nvme_uring_cmd read = nvme::transfer(nvme::Opcode::read, 7, 0x1'0000'0002, 16, memory);
  EXPECT_EQ(read.opcode, 2);
  EXPECT_EQ(read.nsid, 7u);
  EXPECT_EQ(read.addr, reinterpret_cast<std::uintptr_t>(memory.data()));
  EXPECT_EQ(read.data_len, 8192u);
  EXPECT_EQ(read.cdw10, 2u);
  EXPECT_EQ(read.cdw11, 1u);
  EXPECT_EQ(read.cdw12, 15u);
  EXPECT_EQ(nvme::flush(7).opcode, 0);
  const nvme::DeallocateRange range{.attributes = 0, .lbas = 8, .first = 24};
  const nvme_uring_cmd trim = nvme::deallocate(7, range);
  EXPECT_EQ(trim.opcode, 9);
  EXPECT_EQ(trim.data_len, 16u);
  EXPECT_EQ(trim.cdw10, 0u) << "one range";
  EXPECT_EQ(trim.cdw11, 4u);
}

TEST(NvmeStatus, IsToldInWords) {
  EXPECT_EQ(nvme::status_text(0x4281), "unrecovered read error (0x281)");
  EXPECT_EQ(nvme::status_text(0x4080), "LBA out of range (0x80)");
  EXPECT_EQ(nvme::status_text(0x7c0), "NVMe status 0x7c0");
  EXPECT_TRUE(nvme::is_transient(0x082));
  EXPECT_FALSE(nvme::is_transient(0x4082));
  EXPECT_FALSE(nvme::is_transient(0x281));
  EXPECT_TRUE(nvme::is_capacity_exceeded(0x4081));
  EXPECT_FALSE(nvme::is_capacity_exceeded(0x281));
}

// --- on a namespace ---

// Its parameter is the namespace's path; without one there are no such tests.
class NvmeNamespaceTest : public testing::TestWithParam<std::string> {};

TEST_P(NvmeNamespaceTest, SaysWhatItIs) {
  test::on_core(kArena, [&]() -> Task<> {
    const auto device = co_await NvmeBlockDevice::open(GetParam());
    const NvmeNamespace& space = device->identity();
    EXPECT_EQ(device->name(), GetParam());
    EXPECT_EQ(device->size_blocks(), space.bytes / kBlock);
    EXPECT_GE(device->transfer_bytes(), kBlock);
    if (space.max_transfer_bytes != 0) {
      EXPECT_LE(device->transfer_bytes(), space.max_transfer_bytes);
    }
    EXPECT_TRUE(device->registered_buffers());
    bool listed = false;
    for (const NvmeNamespace& one : list_nvme_namespaces()) listed = listed || one.path == GetParam();
    EXPECT_TRUE(listed);
  });
}

TEST_P(NvmeNamespaceTest, WindowsAreApart) {
  test::on_core(kArena, [&]() -> Task<> {
    const NvmeBlockDeviceOptions low{.first_block = 100, .blocks = 50};
    const NvmeBlockDeviceOptions high{.first_block = 150, .blocks = 50};
    const auto first = co_await NvmeBlockDevice::open(GetParam(), low);
    const auto second = co_await NvmeBlockDevice::open(GetParam(), high);
    std::vector<std::byte> ones(50 * kBlock, std::byte{1}), twos(50 * kBlock, std::byte{2}), read(50 * kBlock);
    co_await first->write(PageNo(0), ones, IoClass::foreground);
    co_await second->write(PageNo(0), twos, IoClass::foreground);
    co_await first->read(PageNo(0), read, IoClass::foreground);
    EXPECT_TRUE(read == ones);
    EXPECT_EQ(co_await error_of(first->read(PageNo(50), std::span(read).first(kBlock), IoClass::foreground)),
              Errc::invalid_argument);
    std::string what;
    const NvmeBlockDeviceOptions across{.first_block = 149, .blocks = 2};
    EXPECT_EQ(co_await error_of(open_path(GetParam(), across), &what), Errc::locked);
    EXPECT_THAT(what, HasSubstr("already open in this process"));
  });
}

TEST_P(NvmeNamespaceTest, AWindowPastTheEndIsRefused) {
  test::on_core(kArena, [&]() -> Task<> {
    std::uint64_t all = 0;
    for (const NvmeNamespace& one : list_nvme_namespaces()) {
      if (one.path == GetParam()) all = one.bytes / kBlock;
    }
    std::string what;
    for (const NvmeBlockDeviceOptions& wrong :
         {NvmeBlockDeviceOptions{.first_block = all}, NvmeBlockDeviceOptions{.first_block = all - 1, .blocks = 2},
          NvmeBlockDeviceOptions{.first_block = ~std::uint64_t{0}, .blocks = 2}}) {
      EXPECT_EQ(co_await error_of(open_path(GetParam(), wrong), &what), Errc::invalid_argument);
      EXPECT_THAT(what, HasSubstr("the namespace has"));
    }
  });
}

TEST_P(NvmeNamespaceTest, LongTransfersAreCutAndNoneIsLost) {
  test::on_core(kArena, [&]() -> Task<> {
    const auto device = co_await NvmeBlockDevice::open(GetParam(), {.first_block = 500, .blocks = 400});
    monterey::FixedBuf memory = monterey::FixedBufs::current().allocate(400 * kBlock);
    for (std::size_t i = 0; i < memory.size(); i += 8) {
      std::memcpy(memory.data() + i, &i, sizeof i);
    }
    co_await device->write(PageNo(0), memory.span(), IoClass::foreground);
    std::vector<std::byte> read(400 * kBlock);
    co_await device->read(PageNo(0), read, IoClass::background);
    EXPECT_TRUE(std::memcmp(read.data(), memory.data(), read.size()) == 0);
  });
}

// Of the machine's NVMe disks, since it was started.
std::uint64_t interrupts() {
  std::ifstream file("/proc/interrupts");
  std::uint64_t sum = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.find("nvme") == std::string::npos) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::uint64_t count = 0; words >> count;) sum += count;
  }
  return sum;
}

// The suite of block devices has what it does where it works.
TEST_P(NvmeNamespaceTest, PollsOrSaysWhyNot) {
  test::on_core(kArena, [&]() -> Task<> {
    const NvmeBlockDeviceOptions polled{.polled = true};
    if (monterey::capabilities().polled_commands) {
      constexpr std::uint64_t kReads = 500;
      const auto device = co_await NvmeBlockDevice::open(GetParam(), polled);
      const monterey::FixedBuf memory = monterey::FixedBufs::current().allocate(kBlock);
      const std::uint64_t before = interrupts();
      for (std::uint64_t i = 0; i < kReads; ++i) {
        co_await device->read(PageNo(static_cast<std::uint32_t>(i)), memory.span(), IoClass::foreground);
      }
      EXPECT_LT(interrupts() - before, kReads / 2) << "of reads whose ends are asked for";
    } else {
      std::string what;
      EXPECT_EQ(co_await error_of(open_path(GetParam(), polled), &what), Errc::invalid_argument);
      EXPECT_THAT(what, HasSubstr("Linux 6.1 crashes on them"));
    }
    EXPECT_EQ(monterey::capabilities().polled_commands, test::nvme_is_polled());
  });
}

INSTANTIATE_TEST_SUITE_P(Nvme, NvmeNamespaceTest,
                         testing::ValuesIn(nvme_path() ? std::vector<std::string>{*nvme_path()}
                                                       : std::vector<std::string>{}));
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(NvmeNamespaceTest);

}  // namespace
}  // namespace store
