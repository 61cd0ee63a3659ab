// The device that other tests rely on: that it holds back, fails and counts as it says.
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <monterey/detail/reactor.hpp>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <store/error.hpp>

#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store::test {
namespace {

using monterey::IoClass;
using monterey::Task;

TEST(MemBlockDevice, HoldsOperationsUntilTheyAreReleased) {
  on_core([]() -> Task<> {
    MemBlockDevice device(8);
    MemDisk& disk = device.disk();
    std::vector<std::byte> ones(4096, std::byte{1}), block(4096), early(4096);
    disk.complete(MemDisk::Completion::held);
    auto write = monterey::spawn(device.write(PageNo(2), ones, IoClass::foreground));
    auto read = monterey::spawn(device.read(PageNo(2), early, IoClass::background));
    co_await monterey::yield();
    EXPECT_EQ(disk.held(), 2u);
    EXPECT_EQ(disk.held(DeviceOp::read), 1u);
    EXPECT_EQ(disk.held_operation(1).io_class, IoClass::background);
    EXPECT_EQ(disk.counts().max_in_flight, 2u);
    disk.release(1);
    co_await read;
    EXPECT_EQ(early[0], std::byte{0}) << "the write has not taken effect";
    EXPECT_FALSE(write.ended());
    disk.release_all();
    co_await write;
    disk.complete(MemDisk::Completion::at_once);
    co_await device.read(PageNo(2), block, IoClass::foreground);
    EXPECT_EQ(block, ones);
    EXPECT_EQ(disk.counts().reads, 2u);
    EXPECT_EQ(disk.counts().bytes_written(), 4096u);
    EXPECT_EQ(disk.in_flight(), 0u);
  });
}

TEST(MemBlockDevice, ChoosesWhichOperationsToHold) {
  on_core([]() -> Task<> {
    MemBlockDevice device(8);
    device.disk().complete_by([](const Operation& operation) {
      return operation.op == DeviceOp::sync ? MemDisk::Completion::held : MemDisk::Completion::at_once;
    });
    std::vector<std::byte> block(4096);
    co_await device.write(PageNo(1), block, IoClass::foreground);
    auto sync = monterey::spawn(device.sync());
    co_await monterey::yield();
    EXPECT_EQ(device.disk().held(DeviceOp::sync), 1u);
    device.disk().release();
    co_await sync;
  });
}

TEST(MemBlockDevice, FailsTheOperationsItIsToldTo) {
  on_core([]() -> Task<> {
    MemBlockDevice device(8);
    std::vector<std::byte> ones(4096, std::byte{1}), block(4096);
    device.disk().inject({.op = DeviceOp::write, .skip = 1, .times = 1, .os_error = EIO});
    co_await device.write(PageNo(1), ones, IoClass::foreground);
    EXPECT_EQ(co_await error_of(device.write(PageNo(2), ones, IoClass::foreground)), Errc::io_error);
    co_await device.write(PageNo(3), ones, IoClass::foreground);
    co_await device.read(PageNo(2), block, IoClass::foreground);
    EXPECT_EQ(block[0], std::byte{0}) << "a failed write writes nothing";
    device.disk().on_operation = [](const Operation& operation) -> std::optional<Error> {
      if (operation.covers(PageNo(3))) return Error(Errc::no_space, "hook");
      return std::nullopt;
    };
    std::string what;
    EXPECT_EQ(co_await error_of(device.read(PageNo(3), block, IoClass::foreground), &what), Errc::no_space);
    EXPECT_EQ(what, "hook");
  });
}

TEST(MemBlockDevice, OutlivesItsDeviceAndIsCopied) {
  on_core([]() -> Task<> {
    auto disk = std::make_shared<MemDisk>();
    disk->record(true);
    std::vector<std::byte> ones(4096, std::byte{1}), block(4096);
    {
      MemBlockDevice device(disk);
      co_await device.grow(100);
      co_await device.write(PageNo(99), ones, IoClass::foreground);
    }
    const auto copy = disk->copy();
    disk->block(PageNo(99))[0] = std::byte{2};
    MemBlockDevice device(copy);
    co_await device.read(PageNo(99), block, IoClass::foreground);
    EXPECT_EQ(block, ones);
    const std::vector<Operation> trace = disk->take_trace();
    EXPECT_EQ(trace.size(), 2u);
    EXPECT_EQ(trace.back().op, DeviceOp::write);
    EXPECT_EQ(trace.back().first, PageNo(99));
  });
}

}  // namespace
}  // namespace store::test
