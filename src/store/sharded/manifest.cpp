#include "store/sharded/manifest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <store/error.hpp>
#include <utility>

#include "store/base/assert.hpp"
#include "store/base/crc32c.hpp"
#include "store/base/units.hpp"
#include "store/sharded/routing.hpp"

namespace store::detail {
namespace {

constexpr std::uint64_t kMagic = 0x3153'4452'4148'5353;  // "SSHARDS1"
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kSlotBlocks = kManifestBlocks / 2;
constexpr std::size_t kSlotBytes = kSlotBlocks * kPageBytes;
constexpr std::size_t kUuidTextBytes = 36;

// The first bytes of a slot; the CRC is of all `bytes` with itself as 0.
struct Header {
  std::uint64_t magic = 0;
  std::uint32_t crc = 0;
  std::uint32_t version = 0;
  std::uint64_t sequence = 0;
  std::uint32_t bytes = 0;  // header included
  std::uint32_t shards = 0;
  std::uint32_t routing = 0;
  std::uint32_t points = 0;
  std::uint32_t state = 0;
  std::uint32_t epoch = 0;
};
static_assert(sizeof(Header) == 48);

template <class T>
void put(std::vector<std::byte>& out, const T& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_text(std::vector<std::byte>& out, std::string_view text) {
  put(out, static_cast<std::uint32_t>(text.size()));
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Takes values off the front; what is not there is damage.
class Reader {
 public:
  Reader(std::span<const std::byte> rest, const std::string& device) : rest_(rest), device_(device) {}

  template <class T>
  T take() {
    T value;
    std::memcpy(&value, bytes(sizeof value).data(), sizeof value);
    return value;
  }
  std::string text(std::size_t most) {
    const auto size = take<std::uint32_t>();
    if (size > most) fail(fmt::format("a text of {} bytes", size));
    const auto content = bytes(size);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
  }
  void end() {
    if (!rest_.empty()) fail(fmt::format("{} bytes behind the end", rest_.size()));
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Errc::corruption, fmt::format("{}: damaged manifest of a sharded store: {}", device_, what));
  }

 private:
  std::span<const std::byte> bytes(std::size_t count) {
    if (count > rest_.size()) fail("it ends early");
    const auto front = rest_.first(count);
    rest_ = rest_.subspan(count);
    return front;
  }

  std::span<const std::byte> rest_;
  const std::string& device_;
};

std::uint32_t crc_of(std::span<const std::byte> text) {
  Header header;
  std::memcpy(&header, text.data(), sizeof header);
  header.crc = 0;
  return crc32c(text.subspan(sizeof header), crc32c(std::as_bytes(std::span(&header, 1))));
}

bool is_blank(std::span<const std::byte> bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

// What a slot holds: a manifest, or why not.
struct Slot {
  std::optional<Manifest> manifest;
  std::exception_ptr error;
  bool blank = false;
};

monterey::Task<Slot> read_slot(BlockDevice& device, std::uint64_t number) {
  Slot slot;
  const std::uint64_t first = number * kSlotBlocks;
  // Of a device that ends in the slot what is there is looked at: it may be something else, which is not to be overwritten.
  const std::uint64_t blocks = std::min(kSlotBlocks, device.size_blocks() - std::min(first, device.size_blocks()));
  if (blocks == 0) {
    slot.blank = true;
    co_return slot;
  }
  std::vector<std::byte> text(kPageBytes);
  const PageNo begin(static_cast<std::uint32_t>(first));
  co_await device.read(begin, text, monterey::IoClass::foreground);
  slot.blank = is_blank(text);
  if (slot.blank) co_return slot;
  Header header;
  std::memcpy(&header, text.data(), sizeof header);
  if (header.bytes > kPageBytes && header.bytes <= blocks * kPageBytes) {
    text.resize(blocks_for(header.bytes) * kPageBytes);
    co_await device.read(begin, text, monterey::IoClass::foreground);
  }
  try {
    slot.manifest = decode_manifest(text, device.name());
  } catch (...) {
    slot.error = std::current_exception();
  }
  co_return slot;
}

}  // namespace

std::vector<std::byte> encode_manifest(const Manifest& manifest) {
  std::vector<std::byte> out(sizeof(Header));
  for (const std::string& point : manifest.points) put_text(out, point);
  for (const Manifest::Shard& shard : manifest.shards) {
    put_text(out, shard.uuid);
    put(out, shard.generation);
  }
  STORE_ASSERT(out.size() <= kSlotBytes);
  Header header;
  header.magic = kMagic;
  header.version = kVersion;
  header.sequence = manifest.sequence;
  header.bytes = static_cast<std::uint32_t>(out.size());
  header.shards = static_cast<std::uint32_t>(manifest.shards.size());
  header.routing = static_cast<std::uint32_t>(manifest.routing);
  header.points = static_cast<std::uint32_t>(manifest.points.size());
  header.state = static_cast<std::uint32_t>(manifest.state);
  header.epoch = manifest.epoch;
  std::memcpy(out.data(), &header, sizeof header);
  header.crc = crc_of(out);
  std::memcpy(out.data(), &header, sizeof header);
  return out;
}

Manifest decode_manifest(std::span<const std::byte> slot, const std::string& device) {
  Reader whole(slot, device);
  const auto header = whole.take<Header>();
  if (header.magic != kMagic) {
    throw Error(Errc::not_a_store, fmt::format("{}: not the manifest of a sharded store; check the path", device));
  }
  if (header.bytes < sizeof header || header.bytes > slot.size()) {
    whole.fail(fmt::format("it says that it has {} bytes", header.bytes));
  }
  const auto text = slot.first(header.bytes);
  if (crc_of(text) != header.crc) whole.fail("its checksum does not hold");
  if (header.version != kVersion) {
    throw Error(Errc::unsupported_format,
                fmt::format("{}: a manifest of format {}, this library knows format {}; use a "
                            "newer one",
                            device, header.version, kVersion));
  }
  const auto routing = static_cast<Router::Kind>(header.routing);
  if (routing != Router::Kind::hash && routing != Router::Kind::ranges) {
    whole.fail(fmt::format("routing of kind {}", header.routing));
  }
  if (header.shards > kMaxShards || header.points > kMaxShards) {
    whole.fail(fmt::format("{} shards and {} split points", header.shards, header.points));
  }
  if (header.state > static_cast<std::uint32_t>(Manifest::State::copying)) {
    whole.fail(fmt::format("state {}", header.state));
  }
  Reader reader(text.subspan(sizeof header), device);
  Manifest manifest;
  manifest.sequence = header.sequence;
  manifest.routing = routing;
  manifest.state = static_cast<Manifest::State>(header.state);
  manifest.epoch = header.epoch;
  for (std::uint32_t i = 0; i < header.points; ++i) manifest.points.push_back(reader.text(kMaxKeyBytes));
  for (std::uint32_t i = 0; i < header.shards; ++i) {
    Manifest::Shard shard;
    shard.uuid = reader.text(kUuidTextBytes);
    shard.generation = reader.take<std::uint64_t>();
    manifest.shards.push_back(std::move(shard));
  }
  reader.end();
  try {
    static_cast<void>(Routing(routing, header.shards, manifest.points));
  } catch (const Error& error) {
    whole.fail(error.what());
  }
  return manifest;
}

std::string shard_file_name(unsigned shard, std::uint32_t epoch) {
  const std::string suffix = epoch == 0 ? std::string() : fmt::format(".{}", epoch);
  return fmt::format("shard-{:04}{}", shard, suffix);
}

monterey::Task<std::optional<Manifest>> read_manifest(BlockDevice& device) {
  std::optional<Manifest> newest;
  std::exception_ptr error;
  for (std::uint64_t number = 0; number < 2; ++number) {
    Slot slot = co_await read_slot(device, number);
    if (slot.error && !error) error = slot.error;
    if (slot.manifest && (!newest || newest->sequence < slot.manifest->sequence)) newest = std::move(slot.manifest);
  }
  // Beside a whole one the other may be half of the write that a crash has cut off.
  if (!newest && error) std::rethrow_exception(error);
  co_return newest;
}

monterey::Task<> write_manifest(BlockDevice& device, Manifest& manifest) {
  ++manifest.sequence;
  std::exception_ptr error;
  try {
    std::vector<std::byte> text = encode_manifest(manifest);
    text.resize(blocks_for(text.size()) * kPageBytes);
    co_await device.grow(kManifestBlocks);
    const std::uint64_t first = manifest.sequence % 2 * kSlotBlocks;
    co_await device.write(PageNo(static_cast<std::uint32_t>(first)), text, monterey::IoClass::foreground);
    co_await device.sync();
  } catch (...) {
    error = std::current_exception();
  }
  if (!error) co_return;
  --manifest.sequence;  // the next write goes to the same slot again: the other one is the one that is whole
  std::rethrow_exception(error);
}

}  // namespace store::detail
