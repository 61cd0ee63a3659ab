// What every block device must do, on each of them: files on each rung of the I/O ladder and without direct I/O, and the
// device in memory that the tests of the upper layers stand on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <monterey/fixed_bufs.hpp>
#include <monterey/spawn.hpp>
#include <monterey/when_all.hpp>
#include <store/block_device.hpp>
#include <store/error.hpp>
#include <store/nvme_block_device.hpp>

#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"
#include "support/seed.hpp"
#include "support/sim_cluster.hpp"
#include "support/sim_disk.hpp"
#include "support/temp_dir.hpp"

namespace store {
namespace {

using monterey::IoClass;
using monterey::Task;
using test::error_of;

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kArena = 2u << 20;
constexpr std::uint64_t kWindowBegin = 1'000;  // of the window on a namespace

struct Kind {
  enum class Where : std::uint8_t { file, memory, simulated, nvme };
  const char* name;
  Where where;
  const char* rung = nullptr;  // of a file
  bool direct = true;
  bool polled = false;  // of a namespace

  bool grows() const { return where != Where::nvme; }
};

class BlockDeviceTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (const char* rung = std::getenv("STORE_IO")) saved_rung_ = rung;
    if (GetParam().rung != nullptr) ::setenv("STORE_IO", GetParam().rung, 1);
  }
  void TearDown() override {
    if (saved_rung_) {
      ::setenv("STORE_IO", saved_rung_->c_str(), 1);
    } else {
      ::unsetenv("STORE_IO");
    }
  }

  // Runs the body on a core of the kind's; a simulated device wants a simulated one.
  template <class Body>
  void run(std::size_t arena_bytes, Body body) {
    if (GetParam().where != Kind::Where::simulated) {
      test::on_core(arena_bytes, std::move(body));
      return;
    }
    monterey::FixedBufs arena(arena_bytes);
    test::SimCluster cluster({}, arena);
    cluster_ = &cluster;
    cluster.run(body());
    simulated_.reset();
  }

  // Opens the device under test; a second call finds what the first one left.
  Task<std::unique_ptr<BlockDevice>> open(std::uint64_t capacity_blocks, bool read_only = false) {
    if (GetParam().where == Kind::Where::nvme) {
      NvmeBlockDeviceOptions options;
      options.first_block = kWindowBegin;
      options.blocks = capacity_blocks;
      options.read_only = read_only;
      options.polled = GetParam().polled;
      co_return co_await NvmeBlockDevice::open(*test::nvme_path(), options);
    }
    if (GetParam().where == Kind::Where::simulated) {
      if (!simulated_) simulated_.emplace(*cluster_, test::SimDisk::Options{.capacity_blocks = capacity_blocks});
      co_return std::make_unique<test::SimBlockDevice>(*simulated_, read_only);
    }
    if (GetParam().where == Kind::Where::memory) {
      disk_->set_capacity_blocks(capacity_blocks);
      using Access = test::MemBlockDevice::Access;
      co_return std::make_unique<test::MemBlockDevice>(disk_, read_only ? Access::read_only : Access::read_write);
    }
    FileBlockDeviceOptions options;
    options.capacity_blocks = capacity_blocks;
    options.direct = GetParam().direct;
    options.read_only = read_only;
    co_return co_await FileBlockDevice::open(directory_.file("device"), options);
  }

  test::TempDir directory_;
  std::shared_ptr<test::MemDisk> disk_ = std::make_shared<test::MemDisk>();
  test::SimCluster* cluster_ = nullptr;
  std::optional<test::SimDisk> simulated_;

 private:
  std::optional<std::string> saved_rung_;
};

std::uint64_t chosen_seed() { return test::requested_seed().value_or(std::random_device{}()); }

void fill(std::span<std::byte> bytes, std::mt19937_64& random) {
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) { return std::ranges::equal(a, b); }

// Random extents from three kinds of memory, against a copy of what the device should hold.
TEST_P(BlockDeviceTest, HoldsWhatWasWritten) {
  const std::uint64_t seed = chosen_seed();
  SCOPED_TRACE("--seed=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  run(kArena, [&]() -> Task<> {
    auto device = co_await open(512);
    co_await device->grow(100);
    std::vector<std::byte> model(100 * kBlock);
    co_await device->write(PageNo(0), model, IoClass::foreground);

    const monterey::FixedBuf registered = monterey::FixedBufs::current().allocate(16 * kBlock);
    std::vector<std::byte> heap(18 * kBlock);
    std::byte* const page = heap.data() + (kBlock - reinterpret_cast<std::uintptr_t>(heap.data()) % kBlock);
    for (int round = 0; round < 200; ++round) {
      const std::size_t blocks = 1 + random() % 16;
      const auto first = static_cast<std::uint32_t>(random() % (100 - blocks + 1));
      std::byte* const memory[] = {registered.data(), page, page + 1 + random() % (kBlock - 1)};
      const std::span<std::byte> bytes(memory[random() % 3], blocks * kBlock);
      const IoClass io_class = random() % 4 == 0 ? IoClass::background : IoClass::foreground;
      const auto expected = std::span(model).subspan(first * kBlock, bytes.size());
      if (random() % 2 == 0) {
        fill(bytes, random);
        if (random() % 4 == 0) {
          co_await device->write_durably(PageNo(first), bytes, io_class);
        } else {
          co_await device->write(PageNo(first), bytes, io_class);
        }
        std::ranges::copy(bytes, expected.begin());
      } else {
        std::ranges::fill(bytes, std::byte{0xaa});
        if (random() % 2 == 0) {
          std::vector<BlockSpan> pieces;
          for (std::size_t at = 0; at < bytes.size(); at += pieces.back().size()) {
            pieces.push_back(bytes.subspan(at, std::min((1 + random() % 3) * kBlock, bytes.size() - at)));
          }
          co_await device->read_scattered(PageNo(first), pieces, io_class);
        } else {
          co_await device->read(PageNo(first), bytes, io_class);
        }
        EXPECT_TRUE(same(bytes, expected)) << "round " << round << ", " << blocks << " blocks from " << first;
      }
      if (random() % 20 == 0) co_await device->sync();
    }
    device = nullptr;
    device = co_await open(512);
    EXPECT_GE(device->size_blocks(), 100u);
    std::vector<std::byte> all(100 * kBlock);
    co_await device->read(PageNo(0), all, IoClass::foreground);
    EXPECT_TRUE(same(all, model)) << "after reopening";
  });
}

TEST_P(BlockDeviceTest, MovesLongRangesToAndFromUnalignedMemory) {
  run(0, [&]() -> Task<> {
    std::mt19937_64 random(1);
    constexpr std::size_t kBlocks = 600;  // over two bounces of a megabyte
    auto device = co_await open(1024);
    co_await device->grow(kBlocks + 1);
    std::vector<std::byte> out(kBlocks * kBlock + 1), in(kBlocks * kBlock + 1);
    fill(out, random);
    co_await device->write(PageNo(1), std::span(out).subspan(1), IoClass::foreground);
    co_await device->read(PageNo(1), std::span(in).subspan(1), IoClass::foreground);
    EXPECT_TRUE(same(std::span(in).subspan(1), std::span(out).subspan(1)));
  });
}

TEST_P(BlockDeviceTest, ServesManyOperationsAtOnce) {
  run(kArena, [&]() -> Task<> {
    constexpr std::uint32_t kCount = 200;
    auto device = co_await open(512);
    co_await device->grow(kCount);
    monterey::FixedBuf memory = monterey::FixedBufs::current().allocate(kCount * kBlock);
    std::vector<Task<>> tasks;
    for (std::uint32_t i = 0; i < kCount; ++i) {
      const auto block = memory.span().subspan(i * kBlock, kBlock);
      std::ranges::fill(block, static_cast<std::byte>(i));
      tasks.push_back(device->write(PageNo(i), block, i % 2 == 0 ? IoClass::foreground : IoClass::background));
    }
    co_await monterey::when_all(std::move(tasks));
    std::ranges::fill(memory.span(), std::byte{0xff});
    tasks.clear();
    for (std::uint32_t i = 0; i < kCount; ++i) {
      tasks.push_back(device->read(PageNo(i), memory.span().subspan(i * kBlock, kBlock), IoClass::foreground));
    }
    co_await monterey::when_all(std::move(tasks));
    for (std::uint32_t i = 0; i < kCount; ++i) {
      EXPECT_EQ(memory.data()[i * kBlock], static_cast<std::byte>(i));
      EXPECT_EQ(memory.data()[(i + 1) * kBlock - 1], static_cast<std::byte>(i));
    }
  });
}

TEST_P(BlockDeviceTest, RefusesRangesItDoesNotHave) {
  run(0, [&]() -> Task<> {
    auto device = co_await open(512);
    co_await device->grow(20);
    const std::uint64_t size = device->size_blocks();
    const auto last = PageNo(static_cast<std::uint32_t>(size - 1));
    std::vector<std::byte> bytes(2 * kBlock);
    const auto two = std::span(bytes);
    const auto none_whole = two.first(100);
    EXPECT_EQ(co_await error_of(device->read(last, two, IoClass::foreground)), Errc::invalid_argument);
    EXPECT_EQ(co_await error_of(device->write(last, two, IoClass::foreground)), Errc::invalid_argument);
    EXPECT_EQ(co_await error_of(device->read(PageNo(0), none_whole, IoClass::foreground)), Errc::invalid_argument);
    EXPECT_EQ(co_await error_of(device->write(PageNo(0), none_whole, IoClass::foreground)), Errc::invalid_argument);
    EXPECT_EQ(co_await error_of(device->read(PageNo(~0u), two, IoClass::foreground)), Errc::invalid_argument);
    const Extent beyond{last, 2};
    EXPECT_EQ(co_await error_of(device->trim(beyond)), Errc::invalid_argument);
    co_await device->read(last, two.first(kBlock), IoClass::foreground);
  });
}

TEST_P(BlockDeviceTest, GrowsToItsCapacityAndNoFurther) {
  run(0, [&]() -> Task<> {
    auto device = co_await open(64);
    EXPECT_EQ(device->size_blocks(), GetParam().grows() ? 0u : 64u);
    EXPECT_EQ(device->capacity_blocks(), 64u);
    co_await device->grow(10);
    const std::uint64_t size = device->size_blocks();
    EXPECT_GE(size, 10u);
    EXPECT_LE(size, 64u);
    co_await device->grow(5);
    EXPECT_EQ(device->size_blocks(), size) << "smaller is no change";
    std::string what;
    EXPECT_EQ(co_await error_of(device->grow(65), &what), Errc::no_space);
    EXPECT_NE(what.find(device->name()), std::string::npos) << what;
    EXPECT_NE(what.find("64"), std::string::npos) << what;
    EXPECT_EQ(device->size_blocks(), size);
    co_await device->grow(64);
    EXPECT_EQ(device->size_blocks(), 64u);
    std::vector<std::byte> block(kBlock, std::byte{7});
    co_await device->write(PageNo(63), block, IoClass::foreground);
  });
}

TEST_P(BlockDeviceTest, ShrinksAndGrowsAgain) {
  if (!GetParam().grows()) {
    run(0, [&]() -> Task<> {
      auto device = co_await open(256);
      co_await device->shrink(5);
      EXPECT_EQ(device->size_blocks(), 256u) << "it neither grows nor shrinks";
    });
    return;
  }
  run(0, [&]() -> Task<> {
    auto device = co_await open(256);
    co_await device->grow(100);
    std::vector<std::byte> ones(kBlock, std::byte{1});
    co_await device->write(PageNo(4), ones, IoClass::foreground);
    co_await device->write(PageNo(5), ones, IoClass::foreground);
    co_await device->shrink(5);
    EXPECT_EQ(device->size_blocks(), 5u);
    std::vector<std::byte> block(kBlock);
    EXPECT_EQ(co_await error_of(device->read(PageNo(5), block, IoClass::foreground)), Errc::invalid_argument);
    co_await device->read(PageNo(4), block, IoClass::foreground);
    EXPECT_TRUE(same(block, ones));
    co_await device->shrink(50);
    EXPECT_EQ(device->size_blocks(), 5u) << "larger is no change";
    co_await device->grow(6);
    co_await device->read(PageNo(5), block, IoClass::foreground);
    EXPECT_TRUE(std::ranges::all_of(block, [](std::byte byte) { return byte == std::byte{0}; }));
  });
}

TEST_P(BlockDeviceTest, GrowsWhileItShrinks) {
  run(0, [&]() -> Task<> {
    auto device = co_await open(256);
    const std::vector<std::byte> ones(kBlock, std::byte{1});
    std::vector<std::byte> block(kBlock);
    for (int round = 0; round < 50; ++round) {
      co_await device->grow(100);
      auto shrink = monterey::spawn(device->shrink(5));
      auto grow = monterey::spawn(device->grow(60));
      co_await grow;
      EXPECT_GE(device->size_blocks(), 60u);
      co_await device->write(PageNo(59), ones, IoClass::foreground);
      co_await shrink;
      EXPECT_GE(device->size_blocks(), 60u);
      co_await device->read(PageNo(59), block, IoClass::foreground);
      EXPECT_TRUE(same(block, ones));
    }
  });
}

TEST_P(BlockDeviceTest, TrimLeavesTheNeighboursAlone) {
  run(0, [&]() -> Task<> {
    auto device = co_await open(64);
    co_await device->grow(40);
    std::vector<std::byte> ones(40 * kBlock, std::byte{1});
    co_await device->write(PageNo(0), ones, IoClass::foreground);
    const Extent middle{PageNo(10), 20};
    co_await device->trim(middle);
    const Extent none{PageNo(3), 0};
    co_await device->trim(none);
    const std::uint64_t size = device->size_blocks();
    std::vector<std::byte> ends(10 * kBlock);
    co_await device->read(PageNo(0), ends, IoClass::foreground);
    EXPECT_TRUE(same(ends, std::span(ones).first(ends.size())));
    co_await device->read(PageNo(30), ends, IoClass::foreground);
    EXPECT_TRUE(same(ends, std::span(ones).first(ends.size())));
    co_await device->read(PageNo(10), ends, IoClass::foreground);  // whatever it reads as
    EXPECT_EQ(device->size_blocks(), size);
    co_await device->write(PageNo(10), std::span(ones).first(20 * kBlock), IoClass::foreground);
    co_await device->read(PageNo(15), ends, IoClass::foreground);
    EXPECT_TRUE(same(ends, std::span(ones).first(ends.size())));
  });
}

TEST_P(BlockDeviceTest, ReadOnlyReadsAndSyncsAndRefusesTheRest) {
  run(0, [&]() -> Task<> {
    auto device = co_await open(64);
    EXPECT_FALSE(device->read_only());
    co_await device->grow(20);
    std::vector<std::byte> ones(kBlock, std::byte{1}), block(kBlock);
    co_await device->write(PageNo(3), ones, IoClass::foreground);
    co_await device->sync();
    device = nullptr;
    device = co_await open(64, true);
    EXPECT_TRUE(device->read_only());
    co_await device->read(PageNo(3), block, IoClass::foreground);
    EXPECT_TRUE(same(block, ones));
    const Extent some{PageNo(3), 1};
    EXPECT_EQ(co_await error_of(device->write(PageNo(3), block, IoClass::foreground)), Errc::read_only);
    EXPECT_EQ(co_await error_of(device->write_durably(PageNo(3), block, IoClass::foreground)), Errc::read_only);
    co_await device->sync();
    EXPECT_EQ(co_await error_of(device->trim(some)), Errc::read_only);
    EXPECT_EQ(co_await error_of(device->grow(65)), Errc::read_only);
    EXPECT_EQ(co_await error_of(device->shrink(1)), Errc::read_only);
  });
}

using Where = Kind::Where;
INSTANTIATE_TEST_SUITE_P(All, BlockDeviceTest,
                         testing::Values(Kind{"file_full", Where::file, "full"},
                                         Kind{"file_nobufs", Where::file, "nobufs"},
                                         Kind{"file_plain", Where::file, "plain"},
                                         Kind{"file_threads", Where::file, "threads"},
                                         Kind{"file_buffered", Where::file, "full", false},
                                         Kind{"memory", Where::memory}, Kind{"simulated", Where::simulated}),
                         [](const auto& kind) { return kind.param.name; });

std::vector<Kind> namespaces() {
  std::vector<Kind> kinds;
  if (test::nvme_path()) kinds.push_back({.name = "nvme", .where = Where::nvme});
  if (test::nvme_path() && test::nvme_is_polled()) {
    kinds.push_back({.name = "nvme_polled", .where = Where::nvme, .polled = true});
  }
  return kinds;
}
INSTANTIATE_TEST_SUITE_P(Nvme, BlockDeviceTest, testing::ValuesIn(namespaces()),
                         [](const auto& kind) { return kind.param.name; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BlockDeviceTest);

}  // namespace
}  // namespace store
