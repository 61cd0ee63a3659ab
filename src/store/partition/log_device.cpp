#include "store/partition/log_device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <store/error.hpp>

#include "store/base/crc32c.hpp"
#include "store/page/layout.hpp"
#include "store/tree/overflow_io.hpp"

namespace store {

namespace {

constexpr std::array<std::uint8_t, 8> kMagic = {'s', 't', 'o', 'r', 'e', 'l', 'o', 'g'};
constexpr std::uint32_t kVersion = 1;

enum class Contents : std::uint8_t { blank, log_device, damaged_log_device, something_else };

struct Found {
  Contents contents = Contents::blank;
  Uuid store{};
};

monterey::Task<Found> look_at(BlockDevice& device) {
  Found found;
  if (device.size_blocks() == 0) co_return found;
  const auto block = allocate_aligned(kPageBytes);
  const std::span<std::byte> bytes(block.get(), kPageBytes);
  co_await device.read(PageNo(0), bytes, monterey::IoClass::foreground);
  if (std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; })) co_return found;
  layout::LogDeviceHeader raw;
  std::memcpy(&raw, bytes.data(), sizeof raw);
  found.contents = Contents::something_else;
  if (!std::equal(kMagic.begin(), kMagic.end(), std::begin(raw.magic))) co_return found;
  const bool whole = raw.crc == crc32c(bytes.subspan(sizeof raw.crc)) && raw.format_version == kVersion;
  found.contents = whole ? Contents::log_device : Contents::damaged_log_device;
  std::copy(std::begin(raw.uuid), std::end(raw.uuid), found.store.begin());
  co_return found;
}

}  // namespace

monterey::Task<> require_blank_log_device(BlockDevice& device) {
  const Found found = co_await look_at(device);
  if (found.contents == Contents::something_else) {
    throw Error(
        Errc::not_a_store,
        fmt::format("{}: holds something that is not a log; create with overwrite to replace it", device.name()));
  }
  if (found.contents != Contents::blank) {
    throw Error(Errc::already_exists, fmt::format("{}: is the log device of a store already; create with overwrite to "
                                                  "replace it",
                                                  device.name()));
  }
}

monterey::Task<> create_log_device(BlockDevice& device, Uuid store) {
  co_await device.grow(1);
  const auto block = allocate_aligned(kPageBytes);
  const std::span<std::byte> bytes(block.get(), kPageBytes);
  std::ranges::fill(bytes, std::byte{0});
  layout::LogDeviceHeader raw{};
  std::copy(kMagic.begin(), kMagic.end(), std::begin(raw.magic));
  raw.format_version = kVersion;
  std::copy(store.begin(), store.end(), std::begin(raw.uuid));
  std::memcpy(bytes.data(), &raw, sizeof raw);
  raw.crc = crc32c(bytes.subspan(sizeof raw.crc));
  std::memcpy(bytes.data(), &raw.crc, sizeof raw.crc);
  co_await device.write(PageNo(0), bytes, monterey::IoClass::foreground);
  co_await device.sync();
}

monterey::Task<bool> require_log_device_of(BlockDevice& device, Uuid store) {
  const Found found = co_await look_at(device);
  if (found.contents == Contents::blank) co_return true;
  if (found.contents == Contents::damaged_log_device) {
    throw Error(Errc::corruption,
                fmt::format("{}: block 0 of the log device is damaged; restore from a backup or salvage "
                            "the store",
                            device.name()));
  }
  if (found.contents != Contents::log_device) {
    throw Error(Errc::not_a_store, fmt::format("{}: not a log device; check the path", device.name()));
  }
  if (found.store != store) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: the log device of another store; check which belong together", device.name()));
  }
  co_return false;
}

}  // namespace store
