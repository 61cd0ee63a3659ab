// The manifest: two slots, one of which is always whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <store/error.hpp>

#include "store/base/units.hpp"
#include "store/sharded/manifest.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store::detail {
namespace {

using monterey::Task;
using test::MemBlockDevice;
using test::MemDisk;
using testing::HasSubstr;

Manifest sample() {
  Manifest manifest;
  manifest.routing = Router::Kind::ranges;
  manifest.points = {"g", std::string(1024, 'p')};
  manifest.shards = {{"00000000-0000-4000-8000-000000000001", 5},
                     {"00000000-0000-4000-8000-000000000002", 77},
                     {"00000000-0000-4000-8000-000000000003", ~0ull}};
  return manifest;
}

void expect_same(const Manifest& a, const Manifest& b) {
  EXPECT_EQ(a.routing, b.routing);
  EXPECT_EQ(a.points, b.points);
  EXPECT_EQ(a.shards.size(), b.shards.size());
  for (std::size_t i = 0; i < std::min(a.shards.size(), b.shards.size()); ++i) {
    EXPECT_EQ(a.shards[i].uuid, b.shards[i].uuid);
    EXPECT_EQ(a.shards[i].generation, b.shards[i].generation);
  }
}

std::vector<std::byte> padded(const Manifest& manifest) {
  std::vector<std::byte> slot = encode_manifest(manifest);
  slot.resize(slot.size() + 100);
  return slot;
}

TEST(Manifest, IsWhatWasWritten) {
  const Manifest manifest = sample();
  expect_same(decode_manifest(padded(manifest), "m"), manifest);
}

TEST(Manifest, EveryChangedBitIsFound) {
  const std::vector<std::byte> slot = encode_manifest(sample());
  for (std::size_t bit = 0; bit < slot.size() * 8; bit += 7) {
    std::vector<std::byte> changed = slot;
    changed[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_THROW(decode_manifest(changed, "m"), Error) << "bit " << bit;
  }
}

TEST(Manifest, OfANewerFormatIsRefused) {
  std::vector<std::byte> slot = encode_manifest(sample());
  try {
    slot.assign(4096, std::byte{'x'});
    decode_manifest(slot, "m");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::not_a_store);
    EXPECT_THAT(error.what(), HasSubstr("not the manifest of a sharded store"));
  }
}

// A write that fails is tried again in the same slot: the other one has the newest that is whole.
TEST(Manifest, AFailedWriteLeavesTheOtherSlotAlone) {
  test::on_core([]() -> Task<> {
    auto disk = std::make_shared<MemDisk>();
    MemBlockDevice device(disk);
    Manifest manifest = sample();
    co_await write_manifest(device, manifest);
    disk->inject({.op = test::DeviceOp::write});
    EXPECT_EQ(co_await test::error_of(write_manifest(device, manifest)), Errc::io_error);
    // The next one is torn.
    manifest.points[0] = "h";
    co_await write_manifest(device, manifest);
    std::ranges::fill(disk->block(PageNo(manifest.sequence % 2 * 512)), std::byte{0xee});
    const std::optional<Manifest> found = co_await read_manifest(device);
    EXPECT_TRUE(found.has_value());
    if (found) expect_same(*found, sample());
  });
}

TEST(Manifest, OneSlotIsAlwaysWhole) {
  test::on_core([]() -> Task<> {
    auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = kManifestBlocks});
    MemBlockDevice device(disk);
    const auto none = co_await read_manifest(device);
    EXPECT_FALSE(none.has_value());
    Manifest manifest = sample();
    for (std::uint64_t i = 0; i < 5; ++i) {
      manifest.shards[0].generation = i;
      co_await write_manifest(device, manifest);
      const auto read = co_await read_manifest(device);
      EXPECT_TRUE(read.has_value());
      if (read) expect_same(*read, manifest);
    }
    // The newest is torn: the one before it counts.
    const auto torn = static_cast<std::uint32_t>(manifest.sequence % 2 * kManifestBlocks / 2);
    disk->block(PageNo(torn))[100] ^= std::byte{1};
    const auto before = co_await read_manifest(device);
    EXPECT_TRUE(before && before->shards[0].generation == 3);
    // Both: there is none.
    disk->block(PageNo(kManifestBlocks / 2 - torn))[100] ^= std::byte{1};
    std::string what;
    EXPECT_EQ(co_await test::error_of(test::discard(read_manifest(device)), &what), Errc::corruption);
    EXPECT_THAT(what, HasSubstr("its checksum does not hold"));
  });
}

TEST(Manifest, OfADeviceThatIsShortIsLookedAt) {
  test::on_core([]() -> Task<> {
    auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = kManifestBlocks});
    MemBlockDevice device(disk);
    co_await device.grow(3);
    const auto none = co_await read_manifest(device);  // zeros: it was being made
    EXPECT_FALSE(none.has_value());
    disk->block(PageNo(0))[100] = std::byte{1};
    EXPECT_EQ(co_await test::error_of(test::discard(read_manifest(device))), Errc::not_a_store);
  });
}

}  // namespace
}  // namespace store::detail
