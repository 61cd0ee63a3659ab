// Power cuts below the driver. `load` writes to a store on a namespace whose every write and flush QEMU logs (blklogwrites), and after
// each durable write puts down on the same disk that it was acknowledged. `replay` builds, from that log, disks as a power cut may
// have left them: all writes up to the last flush, and of those after it none, all, one, all but one, or any, whole or torn. Each must
// open, be checked without a finding, and hold every acknowledged write.
// `vanish` writes until the disk is taken away, and says what the store says then. `hold` has a window open.
// `shards` has a sharded store in windows of the disk.
// The log's format: Documentation/admin-guide/device-mapper/log-writes.rst of the Linux kernel.
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <store/store.hpp>

#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"

namespace store {
namespace {

using monterey::IoClass;
using monterey::Task;
using test::MemBlockDevice;
using test::MemDisk;

constexpr std::uint64_t kStoreBlocks = 8'192;  // from block 0 on; behind it one block of acknowledgements
constexpr std::size_t kBlockBytes = 4'096;
constexpr std::size_t kTasks = 4;
constexpr std::uint64_t kKeys = 60;  // of each task

// What each task's operations up to a number are: the disk says how many each was told of.
using Acknowledged = std::array<std::uint64_t, kTasks>;

PartitionConfig config() { return {.cache_pages = 64, .wal_mode = WalMode::per_op, .write_buffer_bytes = 64u << 10}; }

std::uint64_t key_number(std::uint64_t operation) { return operation * 7'919 % kKeys; }
std::string key_of(std::size_t task, std::uint64_t number) { return fmt::format("task{}/key{:03}", task, number); }
std::string value_of(std::size_t task, std::uint64_t operation) {
  std::string value = fmt::format("{}/{}/", task, operation);
  value.resize(value.size() + operation * 37 % (operation % 9 == 0 ? 9'000 : 400),
               static_cast<char>('a' + operation % 26));
  return value;
}

// --- load ---

// Drops every flush, as a disk does that lies about them: what the check must find.
class Liar final : public BlockDevice {
 public:
  explicit Liar(std::unique_ptr<BlockDevice> device) : device_(std::move(device)) {}
  Task<> read(PageNo first, std::span<std::byte> into, IoClass io_class) override {
    return device_->read(first, into, io_class);
  }
  Task<> write(PageNo first, std::span<const std::byte> from, IoClass io_class) override {
    return device_->write(first, from, io_class);
  }
  Task<> sync() override { co_return; }
  Task<> trim(Extent blocks) override { return device_->trim(blocks); }
  Task<> grow(std::uint64_t blocks) override { return device_->grow(blocks); }
  Task<> shrink(std::uint64_t blocks) override { return device_->shrink(blocks); }
  std::uint64_t size_blocks() const override { return device_->size_blocks(); }
  std::uint64_t capacity_blocks() const override { return device_->capacity_blocks(); }
  bool read_only() const override { return device_->read_only(); }
  std::string name() const override { return device_->name(); }

 private:
  std::unique_ptr<BlockDevice> device_;
};

class Load {
 public:
  Load(std::string path, std::uint64_t operations, bool lie)
      : path_(std::move(path)), operations_(operations), lie_(lie) {}

  Task<> run() {
    const NvmeBlockDeviceOptions first{.blocks = kStoreBlocks};
    const NvmeBlockDeviceOptions behind{.first_block = kStoreBlocks, .blocks = 1};
    acknowledgements_ = co_await NvmeBlockDevice::open(path_, behind);
    std::unique_ptr<BlockDevice> device = co_await NvmeBlockDevice::open(path_, first);
    if (lie_) device = std::make_unique<Liar>(std::move(device));
    Partition db = co_await Partition::create(std::move(device), config());
    std::vector<Task<>> tasks;
    for (std::size_t task = 0; task < kTasks; ++task) tasks.push_back(put_all(db, task));
    co_await monterey::when_all(std::move(tasks));
    co_await db.close();
  }

 private:
  Task<> put_all(Partition& db, std::size_t task) {
    for (std::uint64_t operation = 1; operation <= operations_; ++operation) {
      co_await db.put(key_of(task, key_number(operation)), value_of(task, operation));
      told_[task] = operation;
      // One after the other, so that none overtakes a newer one.
      const monterey::Mutex::Guard turn = co_await turn_.lock();
      std::array<std::byte, kBlockBytes> block{};
      std::memcpy(block.data(), told_.data(), sizeof told_);
      co_await acknowledgements_->write(PageNo(0), block, IoClass::foreground);
    }
  }

  const std::string path_;
  const std::uint64_t operations_;
  const bool lie_;
  std::unique_ptr<BlockDevice> acknowledgements_;
  Acknowledged told_{};
  monterey::Mutex turn_;
};

// --- vanish ---

// The code of what a task throws; nothing if it ends.
Task<std::optional<Errc>> failure_of(Task<> task) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    fmt::print("{}\n", error.what());
    co_return error.errc();
  }
  co_return std::nullopt;
}

Task<> put_one(Partition& db, std::uint64_t operation) {
  co_await db.put(key_of(0, key_number(operation)), value_of(0, operation));
}

Task<> get_long(Partition& db) { static_cast<void>(co_await db.get("long")); }

Task<> vanish(std::string path, bool polled, bool* as_promised) {
  const NvmeBlockDeviceOptions options{.polled = polled};
  auto device = co_await NvmeBlockDevice::open(path, options);
  const CreateOptions create{.overwrite = true};
  Partition db = co_await Partition::create(std::move(device), config(), create);
  co_await db.put("long", std::string(8'000, 'x'));  // read past the cache, once it is no longer buffered
  co_await db.flush();
  std::optional<Errc> first;
  for (std::uint64_t operation = 1; !first; ++operation) first = co_await failure_of(put_one(db, operation));
  const std::optional<Errc> second = co_await failure_of(put_one(db, 1));
  const std::optional<Errc> read = co_await failure_of(get_long(db));
  const std::optional<Errc> closed = co_await failure_of(db.close());
  // What waits for the log when the disk goes is told that its outcome is unknown.
  *as_promised =
      first == Errc::poisoned && second == Errc::poisoned && read == Errc::io_error && closed == Errc::poisoned;
}

// --- hold ---

// Has a window open until its input ends.
Task<> hold(std::string path, std::uint64_t first_block, std::uint64_t blocks) {
  const NvmeBlockDeviceOptions options{.first_block = first_block, .blocks = blocks};
  const auto device = co_await NvmeBlockDevice::open(path, options);
  fmt::print("held\n");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}

// --- shards ---

constexpr unsigned kShards = 3;
constexpr unsigned kShardCores = 2;

// Makes a store of shards in windows of the disk, opens it again, and reads what was put from both cores.
Task<> use_shards(std::string path, ShardedOptions options, std::uint64_t* found) {
  const CreateOptions create{.overwrite = true};
  auto db = co_await ShardedStore::create(shard_windows(path), options, create);
  for (std::uint64_t i = 0; i < 1'000; ++i) {
    const std::string key = fmt::format("key{:06}", i);
    co_await db.put(key, key);
  }
  co_await db.close();
  auto again = co_await ShardedStore::open(shard_windows(path), options);
  auto count = [again]() -> Task<std::uint64_t> {
    std::uint64_t entries = 0;
    auto scan = co_await again.scan("");
    while (co_await scan.advance()) entries += scan.key() == scan.value();
    co_return entries;
  };
  *found = co_await count();
  *found += co_await monterey::call_on(1, count);
  co_await again.close();
}

int run_shards(const std::string& path) {
  ShardedOptions options;
  options.shards = kShards;
  options.partition = config();
  std::uint64_t found = 0;
  const auto start = [&] {
    if (monterey::current_core() == 0) monterey::spawn(use_shards(path, options, &found));
  };
  monterey::Cluster::builder()
      .cores(kShardCores)
      .buffers(options.buffer_config(kShardCores))
      .device_commands(true)
      .init(start)
      .run();
  fmt::print("{} entries in {} windows, by two cores\n", found, kShards);
  return 0;
}

// --- replay ---

constexpr std::uint64_t kLogMagic = 0x6a736677736872;
constexpr std::uint64_t kFlushFlag = 1;
constexpr std::uint64_t kDiscardFlag = 4;
constexpr std::uint64_t kMarkFlag = 8;

struct LoggedWrite {
  std::uint64_t byte = 0;  // on the disk
  std::vector<char> data;
  std::uint64_t zeros = 0;  // of a discard: so many bytes
};

// Writes between two flushes. A flush makes durable what was logged before it, which is more than is promised: of what was written while
// it ran nothing is known.
using Interval = std::vector<LoggedWrite>;

template <class Number>
Number number_at(const char* at) {
  Number number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

std::vector<Interval> read_log(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 32> super{};
  if (!file.read(super.data(), super.size()) || number_at<std::uint64_t>(super.data()) != kLogMagic) {
    throw std::runtime_error(path + ": not a log of writes");
  }
  const auto entries = number_at<std::uint64_t>(super.data() + 16);
  const std::uint64_t sector = number_at<std::uint32_t>(super.data() + 24);
  std::vector<Interval> intervals(1);
  std::vector<char> entry(sector);
  file.seekg(static_cast<std::streamoff>(sector));
  for (std::uint64_t i = 0; i < entries && file.read(entry.data(), static_cast<std::streamsize>(sector)); ++i) {
    const auto first = number_at<std::uint64_t>(entry.data());
    const auto count = number_at<std::uint64_t>(entry.data() + 8);
    const auto flags = number_at<std::uint64_t>(entry.data() + 16);
    if ((flags & kMarkFlag) != 0) continue;
    if ((flags & kFlushFlag) != 0) intervals.emplace_back();
    if (count == 0) continue;
    LoggedWrite write;
    write.byte = first * sector;
    if ((flags & kDiscardFlag) != 0) {
      write.zeros = count * sector;
    } else {
      write.data.resize(count * sector);
      file.read(write.data.data(), static_cast<std::streamsize>(write.data.size()));
    }
    intervals.back().push_back(std::move(write));
  }
  return intervals;
}

bool is_acknowledgement(const LoggedWrite& write) { return write.byte == kStoreBlocks * kBlockBytes; }

constexpr std::size_t kSectorBytes = 512;

// Puts bytes [from, to) of a write on the disk.
void apply(MemDisk& disk, const LoggedWrite& write, std::uint64_t from, std::uint64_t to) {
  if (is_acknowledgement(write)) return;
  for (std::uint64_t at = from; at < to;) {
    const std::uint64_t byte = write.byte + at;
    const std::uint64_t within = byte % kBlockBytes;
    const std::uint64_t bytes = std::min(to - at, kBlockBytes - within);
    const auto block = disk.block(PageNo(static_cast<std::uint32_t>(byte / kBlockBytes)));
    if (write.zeros > 0) {
      std::memset(block.data() + within, 0, bytes);
    } else {
      std::memcpy(block.data() + within, write.data.data() + at, bytes);
    }
    at += bytes;
  }
}
void apply(MemDisk& disk, const LoggedWrite& write) {
  apply(disk, write, 0, std::max<std::uint64_t>(write.data.size(), write.zeros));
}

void acknowledge(const LoggedWrite& write, Acknowledged& acknowledged) {
  if (is_acknowledgement(write) && write.data.size() >= sizeof acknowledged) {
    std::memcpy(acknowledged.data(), write.data.data(), sizeof acknowledged);
  }
}

enum class Kept : std::uint8_t { none, all, one, all_but_one, any, torn };
constexpr std::array kKept{Kept::none, Kept::all, Kept::one, Kept::all_but_one, Kept::any, Kept::torn};
constexpr std::array kKeptNames{"none", "all", "one", "all but one", "any", "torn"};

// Of the first `issued` writes of an interval those that a cut keeps.
void keep(MemDisk& disk, const Interval& interval, std::size_t issued, Kept kept, std::mt19937_64& random) {
  const std::size_t chosen = issued == 0 ? 0 : random() % issued;
  for (std::size_t i = 0; i < issued; ++i) {
    const LoggedWrite& write = interval[i];
    bool whole = false;
    switch (kept) {
      case Kept::none: break;
      case Kept::all: whole = true; break;
      case Kept::one: whole = i == chosen; break;
      case Kept::all_but_one: whole = i != chosen; break;
      case Kept::any: whole = random() % 2 == 0; break;
      case Kept::torn:
        for (std::uint64_t at = 0; at < write.data.size(); at += kSectorBytes) {
          if (random() % 2 == 0) apply(disk, write, at, std::min<std::uint64_t>(at + kSectorBytes, write.data.size()));
        }
        break;
    }
    if (whole) apply(disk, write);
  }
}

// The newest operation up to `last` that wrote a key; 0 if none did.
std::uint64_t last_write(std::uint64_t number, std::uint64_t last) {
  while (last > 0 && key_number(last) != number) --last;
  return last;
}

// Throws what is wrong with the store on the disk.
Task<> verify(std::shared_ptr<MemDisk> disk, Acknowledged acknowledged) {
  const bool any = std::ranges::any_of(acknowledged, [](std::uint64_t count) { return count > 0; });
  std::optional<Partition> db;
  try {
    db.emplace(co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config()));
  } catch (const Error& error) {
    if (any || error.errc() != Errc::not_a_store) throw;
    co_return;  // cut before create() ended
  }
  const CheckReport report = co_await db->check();
  if (!report.ok) throw std::runtime_error("check: " + report.errors.front());
  for (std::size_t task = 0; task < kTasks; ++task) {
    for (std::uint64_t number = 0; number < kKeys; ++number) {
      const std::optional<std::string> value = co_await db->get(key_of(task, number));
      const std::uint64_t must = last_write(number, acknowledged[task]);
      // The next one may have been written and not yet told of.
      const std::uint64_t may = last_write(number, acknowledged[task] + 1);
      const bool right = (value && (*value == value_of(task, must) || *value == value_of(task, may)) && may > 0) ||
                         (!value && must == 0);
      if (right) continue;
      throw std::runtime_error(fmt::format("{} is {}, operation {} was acknowledged", key_of(task, number),
                                           value ? value->substr(0, 20) : "absent", must));
    }
  }
  co_await db->close();
}

int replay(const std::string& log, std::uint64_t images, std::uint64_t seed) {
  const std::vector<Interval> intervals = read_log(log);
  std::mt19937_64 random(seed);
  // How often each interval is cut: all of them alike, however many there are.
  constexpr std::uint64_t kFewestCuts = 3;
  const std::uint64_t each = std::max(kFewestCuts, images / intervals.size() + 1);
  auto durable =
      std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = kStoreBlocks, .capacity_blocks = kStoreBlocks});
  Acknowledged before{};
  std::uint64_t built = 0;
  std::uint64_t violations = 0;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const Interval& interval = intervals[i];
    for (std::uint64_t cut = 0; cut < each; ++cut, ++built) {
      const std::size_t issued = cut == 0 ? interval.size() : random() % (interval.size() + 1);
      const Kept kept = kKept[(cut + i) % kKept.size()];
      Acknowledged acknowledged = before;
      for (std::size_t at = 0; at < issued; ++at) acknowledge(interval[at], acknowledged);
      const std::shared_ptr<MemDisk> disk = durable->copy();
      keep(*disk, interval, issued, kept, random);
      try {
        test::run_in_cluster(config().buffer_config(), [&] { return verify(disk, acknowledged); });
      } catch (const std::exception& error) {
        if (++violations <= 10) {
          fmt::print(stderr, "violation: interval {}, {} of {} writes issued, {} kept: {}\n", i, issued,
                     interval.size(), kKeptNames[static_cast<std::size_t>(kept)], error.what());
        }
      }
    }
    for (const LoggedWrite& write : interval) {
      apply(*durable, write);
      acknowledge(write, before);
    }
  }
  fmt::print("intervals={} acknowledged={} images={} violations={} seed={}\n", intervals.size(),
             std::accumulate(before.begin(), before.end(), std::uint64_t{0}), built, violations, seed);
  return violations == 0 ? 0 : 1;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() >= 3 && arguments[0] == "load") {
    Load load(arguments[1], std::stoull(arguments[2]), arguments.size() > 3 && arguments[3] == "--lie");
    const monterey::BufferConfig buffers = config().buffer_config();
    monterey::Cluster::builder()
        .buffers(buffers)
        .device_commands(true)
        .init([&load] { monterey::spawn(load.run()); })
        .run();
    return 0;
  }
  if (arguments.size() >= 2 && arguments[0] == "vanish") {
    bool as_promised = false;
    const bool polled = arguments.size() > 2 && arguments[2] == "--polled";
    monterey::Cluster::builder()
        .buffers(config().buffer_config())
        .device_commands(true)
        .polled_commands(polled)
        .init([&] { monterey::spawn(vanish(arguments[1], polled, &as_promised)); })
        .run();
    fmt::print("{}\n", as_promised ? "as promised" : "not as promised");
    return as_promised ? 0 : 1;
  }
  if (arguments.size() == 4 && arguments[0] == "replay") {
    return replay(arguments[1], std::stoull(arguments[2]), std::stoull(arguments[3]));
  }
  if (arguments.size() == 4 && arguments[0] == "hold") {
    monterey::Cluster::builder()
        .device_commands(true)
        .init([&] { monterey::spawn(hold(arguments[1], std::stoull(arguments[2]), std::stoull(arguments[3]))); })
        .run();
    return 0;
  }
  if (arguments.size() == 2 && arguments[0] == "shards") return run_shards(arguments[1]);
  fmt::print(stderr,
             "usage: nvme_power load DEVICE OPERATIONS [--lie] | vanish DEVICE [--polled] | hold DEVICE FIRST BLOCKS | "
             "shards DEVICE | "
             "replay LOG IMAGES SEED\n");
  return 2;
}

}  // namespace
}  // namespace store

int main(int argc, char** argv) {
  try {
    return store::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    fmt::print(stderr, "nvme_power: {}\n", error.what());
    return 2;
  }
}
