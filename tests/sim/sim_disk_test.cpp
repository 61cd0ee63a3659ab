// The simulated disk keeps to its fault model.
#include <gtest/gtest.h>

#include <algorithm>
#include <monterey/spawn.hpp>
#include <set>

#include "support/sim_disk.hpp"

namespace store::test {
namespace {

std::vector<std::byte> filled(int with, std::size_t blocks = 1) {
  return std::vector<std::byte>(blocks * 4096, static_cast<std::byte>(with));
}

std::byte first_of(const SimImage& image, std::uint32_t page) { return image.block(page)[0]; }

monterey::Task<bool> fails(monterey::Task<> task) {
  try {
    co_await std::move(task);
  } catch (const Error&) {
    co_return true;
  }
  co_return false;
}

class SimDiskTest : public testing::Test {
 protected:
  void run(monterey::Task<> (*task)(SimDisk&)) {
    SimCluster cluster({}, arena);
    SimDisk disk(cluster, {});
    cluster.run(task(disk));
  }
  monterey::FixedBufs arena{0};
};

TEST_F(SimDiskTest, WhatIsSyncedSurvivesAndTheRestMay) {
  run([](SimDisk& disk) -> monterey::Task<> {
    SimBlockDevice device(disk);
    co_await device.grow(4);
    co_await device.write(PageNo(1), filled(1), monterey::IoClass::foreground);
    co_await device.sync();
    co_await device.write(PageNo(1), filled(2), monterey::IoClass::foreground);
    co_await device.write(PageNo(1), filled(3), monterey::IoClass::foreground);
    SimRandom random(1);
    std::set<int> seen;
    bool torn = false;
    for (int i = 0; i < 500; ++i) {
      const SimImage image = disk.power_cut(random);
      EXPECT_EQ(image.size_blocks(), 4u);
      const auto block = image.block(1);
      seen.insert(static_cast<int>(block[0]));
      torn |= block[0] != block[4095];
      for (std::size_t at = 0; at < 4096; ++at) EXPECT_EQ(block[at], block[at / kSectorBytes * kSectorBytes]);
    }
    EXPECT_EQ(seen, (std::set<int>{1, 2, 3})) << "either of two writes may be the one that stays";
    EXPECT_TRUE(torn);
  });
}

TEST_F(SimDiskTest, ADurableWriteIsDurableAloneAndOverWhatWasVolatile) {
  SimCluster cluster({}, arena);
  SimDisk disk(cluster, {.durable_writes = true});
  cluster.run([](SimDisk& on) -> monterey::Task<> {
    SimBlockDevice device(on);
    co_await device.grow(4);
    co_await device.sync();
    co_await device.write(PageNo(1), filled(1, 2), monterey::IoClass::foreground);
    co_await device.write_durably(PageNo(2), filled(3, 2), monterey::IoClass::foreground);
    EXPECT_EQ(on.count(DeviceOp::sync), 1u);
    SimRandom random(1);
    std::set<int> seen;
    for (int i = 0; i < 500; ++i) {
      const SimImage image = on.power_cut(random);
      seen.insert(static_cast<int>(first_of(image, 1)));
      EXPECT_EQ(first_of(image, 2), std::byte{3}) << "an older write was written back over it";
      EXPECT_EQ(first_of(image, 3), std::byte{3});
    }
    EXPECT_EQ(seen, (std::set<int>{0, 1})) << "the write before it is as volatile as it was";
    on.inject({.op = DeviceOp::write, .number = 2});
    const bool failed = co_await fails(device.write_durably(PageNo(3), filled(4), monterey::IoClass::foreground));
    EXPECT_TRUE(failed);
    seen.clear();
    for (int i = 0; i < 500; ++i) seen.insert(static_cast<int>(first_of(on.power_cut(random), 3)));
    EXPECT_TRUE(seen.contains(3)) << "a failed one may have written nothing";
  }(disk));
}

TEST_F(SimDiskTest, AnExtensionIsLostOrKept) {
  run([](SimDisk& disk) -> monterey::Task<> {
    SimBlockDevice device(disk);
    co_await device.grow(2);
    co_await device.sync();
    co_await device.grow(6);
    co_await device.write(PageNo(5), filled(9), monterey::IoClass::foreground);
    SimRandom random(1);
    std::set<std::uint64_t> sizes;
    for (int i = 0; i < 500; ++i) sizes.insert(disk.power_cut(random).size_blocks());
    EXPECT_EQ(sizes, (std::set<std::uint64_t>{2, 3, 4, 5, 6}));
    EXPECT_EQ(disk.power_cut(random, SimDisk::Keep::extension_lost).size_blocks(), 2u);
  });
}

TEST_F(SimDiskTest, AFailedSyncMayDropForGoodWhatReadsStillSee) {
  run([](SimDisk& disk) -> monterey::Task<> {
    SimBlockDevice device(disk);
    co_await device.grow(2);
    co_await device.sync();
    disk.inject({.op = DeviceOp::sync, .number = 1, .keeps_data = false});
    const auto data = filled(7);
    // Whether it dropped all of it is drawn; some attempt does.
    bool dropped = false;
    co_await device.write(PageNo(1), data, monterey::IoClass::foreground);
    const bool failed = co_await fails(device.sync());
    EXPECT_TRUE(failed);
    std::vector<std::byte> read(4096);
    co_await device.read(PageNo(1), read, monterey::IoClass::foreground);
    EXPECT_EQ(read, data);
    co_await device.sync();
    SimRandom random(1);
    const SimImage first = disk.power_cut(random);
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(disk.power_cut(random) == first) << "nothing is volatile any more";
    dropped = !(first == disk.contents());
    EXPECT_TRUE(dropped);
  });
}

TEST_F(SimDiskTest, ALyingDiskAcknowledgesAWriteThatIsLost) {
  run([](SimDisk& disk) -> monterey::Task<> {
    SimBlockDevice device(disk);
    co_await device.grow(2);
    disk.inject({.op = DeviceOp::write, .number = 0, .kind = SimFault::Kind::lost});
    co_await device.write(PageNo(1), filled(7), monterey::IoClass::foreground);
    co_await device.sync();
    EXPECT_EQ(first_of(disk.contents(), 1), std::byte{0});
  });
}

TEST_F(SimDiskTest, SaysWhenTheMemoryOfAWriteChanges) {
  run([](SimDisk& disk) -> monterey::Task<> {
    SimBlockDevice device(disk);
    co_await device.grow(2);
    auto data = filled(7);
    auto write = monterey::spawn(device.write(PageNo(1), data, monterey::IoClass::foreground));
    co_await monterey::yield();
    data[100] = std::byte{8};
    co_await write;
    EXPECT_NE(disk.complaint(), "");
  });
}

}  // namespace
}  // namespace store::test
