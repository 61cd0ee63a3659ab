// get_into: parts of values of every kind, in memory of any alignment, and what it reads of the device for them.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <random>

#include "store/page/overflow.hpp"
#include "store/tree/overflow_io.hpp"
#include "support/seed.hpp"
#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::expect_clean;
using test::expect_error;
using test::MemBlockDevice;
using test::MemDisk;
using test::on_core;
using test::run_of;
using test::small_config;
using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;
constexpr std::byte kUntouched{0x5a};
constexpr std::uint64_t kLengths[] = {0,      1,      100,    1'024,   1'025,   4'096,     5'000,     65'535,
                                      65'536, 65'537, 69'632, 131'072, 150'000, 1'048'576, 1'048'577, 3'000'001};

std::string value_of(std::uint64_t length) {
  std::mt19937_64 random(length);
  std::string value(length, '\0');
  for (char& byte : value) byte = static_cast<char>(random());
  return value;
}

std::string key_of(std::uint64_t length) { return fmt::format("{:08}", length); }

// Memory of the caller's, at a place of its choice within a page.
class Into {
 public:
  Into(std::size_t bytes, std::size_t place)
      : memory_(allocate_aligned(bytes + place + 1)), bytes_(memory_.get() + place, bytes) {
    std::fill_n(memory_.get(), bytes + place + 1, kUntouched);
  }
  std::span<std::byte> span() const { return bytes_; }
  bool is_untouched_from(std::size_t at) const {
    return std::all_of(bytes_.begin() + static_cast<std::ptrdiff_t>(at), bytes_.end() + 1,
                       [](std::byte byte) { return byte == kUntouched; });
  }
  std::string first(std::size_t bytes) const { return {reinterpret_cast<const char*>(bytes_.data()), bytes}; }

 private:
  std::shared_ptr<std::byte[]> memory_;
  std::span<std::byte> bytes_;
};

monterey::Task<> put_all(DiskPtr disk) {
  auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), small_config());
  for (const std::uint64_t length : kLengths) {
    const std::string key = key_of(length);
    const std::string value = value_of(length);
    co_await db.put(key, value);
  }
  co_await db.close();
}

template <class From>
monterey::Task<> expect_part(const From& from, std::uint64_t length, std::uint64_t offset, std::size_t bytes,
                             std::size_t place) {
  const Into into(bytes, place);
  const std::string key = key_of(length);
  GetIntoOptions options;
  options.offset = offset;
  const std::optional<std::size_t> size = co_await from.get_into(key, into.span(), options);
  const std::string want = offset < length ? value_of(length).substr(offset, bytes) : std::string();
  EXPECT_EQ(size, length);
  EXPECT_TRUE(into.first(want.size()) == want && into.is_untouched_from(want.size()))
      << bytes << " bytes from " << offset << " of " << length << ", at byte " << place << " of a page";
}

TEST(GetInto, CopiesWhatThereIsOfAnyValueFromAnyOffset) {
  const std::uint64_t seed = test::requested_seed().value_or(std::random_device()());
  SCOPED_TRACE(fmt::format("replay with --seed={}", seed));
  on_core(kArena, [&]() -> monterey::Task<> {
    std::mt19937_64 random(seed);
    auto disk = std::make_shared<MemDisk>();
    co_await put_all(disk);
    auto db = co_await test::open_on(disk);
    const Snapshot snapshot = db.snapshot();
    for (int round = 0; round < 2; ++round) {
      for (const std::uint64_t length : kLengths) {
        for (int i = 0; i < 12; ++i) {
          const std::uint64_t place = random() % 3 == 0 ? random() % 4'096 : 0;
          std::uint64_t offset = random() % (length + 20);
          if (random() % 2 == 0) offset = offset / 4'096 * 4'096;
          const std::size_t bytes = random() % 4 == 0 ? length + 5 : random() % (random() % 2 == 0 ? 300'000 : 5'000);
          co_await expect_part(db, length, i == 0 ? 0 : offset, bytes, place);
          co_await expect_part(snapshot, length, i == 0 ? 0 : offset, bytes, place);
        }
        co_await expect_part(db, length, length, 10, 0);
        co_await expect_part(db, length, length + 1'000'000, 10, 0);
        co_await expect_part(db, length, 0, 0, 0);
      }
      // Once more from the write buffer, in which those over 64 KiB are runs.
      for (const std::uint64_t length : kLengths) {
        const std::string key = key_of(length);
        const std::string value = value_of(length);
        co_await db.put(key, value);
      }
    }
    const Into into(10, 0);
    const std::optional<std::size_t> none = co_await db.get_into("no such key", into.span());
    EXPECT_FALSE(none.has_value());
    EXPECT_TRUE(into.is_untouched_from(0));
    co_await db.close();
  });
}

TEST(GetInto, AWholeValueIsOneReadOfItsRun) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    co_await put_all(disk);
    auto db = co_await test::open_on(disk);
    for (const std::uint64_t length : kLengths) {
      const std::string key = key_of(length);
      const bool is_there = co_await db.contains(key);  // reads the leaf
      EXPECT_TRUE(is_there);
      const std::uint64_t runs = length > kMaxInlineValueBytes ? 1 : 0;
      for (const std::size_t place : {0, 1, 512, 4'095}) {
        disk->reset_counts();
        co_await expect_part(db, length, 0, length, place);
        EXPECT_EQ(disk->counts().reads, runs) << length << " bytes at " << place;
        EXPECT_EQ(disk->counts().blocks_read, runs * run_blocks(length));
      }
      disk->reset_counts();
      const std::optional<std::string> value = co_await db.get(key);
      EXPECT_TRUE(value == value_of(length));
      EXPECT_EQ(disk->counts().reads, runs) << "get of " << length << " bytes";
      EXPECT_EQ(disk->counts().blocks_read, runs * run_blocks(length));
    }
    co_await db.close();
  });
}

TEST(GetInto, APartReadsItsPiecesAndTheTable) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    co_await put_all(disk);
    auto db = co_await test::open_on(disk);
    constexpr std::uint64_t kLength = 3'000'001;
    const bool is_there = co_await db.contains(key_of(kLength));
    EXPECT_TRUE(is_there);
    struct Case {
      std::uint64_t offset;
      std::size_t bytes;
      std::uint64_t pieces;
      std::uint64_t reads;
    };
    for (const Case& c : {Case{0, 1, 1, 2}, Case{65'535, 1, 1, 2}, Case{65'535, 2, 2, 2}, Case{131'072, 65'536, 1, 2},
                          Case{100'000, 200'000, 4, 2}}) {
      for (const std::size_t place : {0, 100}) {
        disk->reset_counts();
        co_await expect_part(db, kLength, c.offset, c.bytes, place);
        EXPECT_EQ(disk->counts().reads, c.reads) << c.offset;
        EXPECT_EQ(disk->counts().blocks_read, c.pieces * 16 + 1) << c.offset;
      }
    }
    // The last piece lies before the table without a gap.
    disk->reset_counts();
    co_await expect_part(db, kLength, kLength - 10, 10, 0);
    EXPECT_EQ(disk->counts().reads, 1u);
    // Beyond the end, and into no memory: nothing.
    disk->reset_counts();
    co_await expect_part(db, kLength, kLength, 10, 0);
    co_await expect_part(db, kLength, 7, 0, 0);
    EXPECT_EQ(disk->counts().reads, 0u);
    co_await db.close();
  });
}

// Passes everything on, and notes which memory reads go to.
class Watched final : public BlockDevice {
 public:
  explicit Watched(DiskPtr disk) : device_(std::move(disk)) {}
  monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) override {
    pieces.push_back(into);
    return device_.read(first, into, io_class);
  }
  monterey::Task<> read_scattered(PageNo first, std::span<const BlockSpan> into, monterey::IoClass io_class) override {
    pieces.insert(pieces.end(), into.begin(), into.end());
    return device_.read_scattered(first, into, io_class);
  }
  monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) override {
    return device_.write(first, from, io_class);
  }
  monterey::Task<> sync() override { return device_.sync(); }
  monterey::Task<> trim(Extent blocks) override { return device_.trim(blocks); }
  monterey::Task<> grow(std::uint64_t blocks) override { return device_.grow(blocks); }
  monterey::Task<> shrink(std::uint64_t blocks) override { return device_.shrink(blocks); }
  std::uint64_t size_blocks() const override { return device_.size_blocks(); }
  std::uint64_t capacity_blocks() const override { return device_.capacity_blocks(); }
  bool read_only() const override { return device_.read_only(); }
  std::string name() const override { return device_.name(); }

  std::vector<BlockSpan> pieces;

 private:
  MemBlockDevice device_;
};

TEST(GetInto, BlocksGoStraightIntoAlignedMemory) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    co_await put_all(disk);
    auto owned = std::make_unique<Watched>(disk);
    Watched* device = owned.get();
    auto db = co_await Partition::open(std::move(owned), small_config());
    struct Case {
      std::uint64_t length;
      std::uint64_t offset;
      std::size_t bytes;
      std::size_t place;
      std::size_t direct;  // bytes that need no copy
    };
    for (const Case& c : {Case{4'096, 0, 4'096, 0, 4'096}, Case{5'000, 0, 5'000, 0, 4'096},
                          Case{131'072, 0, 131'072, 0, 131'072}, Case{1'048'577, 0, 1'048'577, 0, 1'048'576},
                          Case{1'048'576, 8'192, 100'000, 0, 98'304}, Case{1'048'576, 100, 100'000, 100, 94'208},
                          Case{1'048'576, 100, 100'000, 0, 0}, Case{131'072, 0, 131'072, 512, 0}}) {
      const std::string key = key_of(c.length);
      const bool is_there = co_await db.contains(key);
      EXPECT_TRUE(is_there);
      device->pieces.clear();
      const Into into(c.bytes, c.place);
      GetIntoOptions options;
      options.offset = c.offset;
      const std::optional<std::size_t> size = co_await db.get_into(key, into.span(), options);
      EXPECT_EQ(size, c.length);
      EXPECT_TRUE(into.first(c.bytes) == value_of(c.length).substr(c.offset, c.bytes));
      std::size_t direct = 0;
      for (const BlockSpan piece : device->pieces) {
        const bool is_within = piece.data() >= into.span().data() && piece.data() < into.span().data() + c.bytes;
        if (is_within) direct += piece.size();
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece.data()) % 4'096, 0u);
      }
      EXPECT_EQ(direct, c.direct) << c.bytes << " bytes from " << c.offset << " of " << c.length;
    }
    co_await db.close();
  });
}

monterey::Task<> read_part(const Partition& db, std::uint64_t length, std::uint64_t offset, std::size_t bytes) {
  const Into into(bytes, 0);
  GetIntoOptions options;
  options.offset = offset;
  const std::string key = key_of(length);
  static_cast<void>(co_await db.get_into(key, into.span(), options));
}

TEST(GetInto, DamageIsNamedByThePartsThatTouchItAndNoOthers) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = std::make_shared<MemDisk>();
    co_await put_all(disk);
    constexpr std::uint64_t kLong = 1'048'577;
    constexpr std::uint64_t kShort = 5'000;
    const OverflowRef run = run_of(*disk, key_of(kLong));
    const PageNo third(run.first.value + 2 * 16 + 5);  // a block of its third piece
    auto db = co_await test::open_on(disk);
    test::flip_bit(*disk, third, 77);
    co_await expect_part(db, kLong, 0, 131'072, 0);
    co_await expect_part(db, kLong, 196'608, 300'000, 0);
    co_await expect_error(read_part(db, kLong, 131'072, 1), Errc::corruption,
                          fmt::format("block {}|byte 131072", run.first.value));
    co_await expect_error(read_part(db, kLong, 100'000, 100'000), Errc::corruption, "byte 131072");
    co_await expect_error(read_part(db, kLong, 0, kLong), Errc::corruption, "byte 131072");
    test::flip_bit(*disk, third, 77);
    const PageNo table(static_cast<std::uint32_t>(run.first.value + run_blocks(kLong) - 1));
    test::flip_bit(*disk, table, 4'095 * 8);
    co_await expect_error(read_part(db, kLong, 0, 1), Errc::corruption, fmt::format("block {}|table", run.first.value));
    test::flip_bit(*disk, table, 4'095 * 8);
    co_await expect_part(db, kLong, 0, kLong, 0);
    const OverflowRef short_run = run_of(*disk, key_of(kShort));
    test::flip_bit(*disk, PageNo(short_run.first.value + 1), 77);
    co_await expect_error(read_part(db, kShort, 0, 10), Errc::corruption,
                          fmt::format("block {}|the value", short_run.first.value));
    test::flip_bit(*disk, PageNo(short_run.first.value + 1), 77);
    co_await expect_part(db, kShort, 0, 10, 0);
    // A read that fails is an error of that read alone.
    disk->inject(test::Fault{.op = test::DeviceOp::read, .skip = 1});
    co_await expect_error(read_part(db, kLong, 0, 1), Errc::io_error, "");
    co_await expect_part(db, kLong, 0, 1, 0);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// Over 4 MiB: the table, then a MiB at a time.
TEST(GetInto, ALongValueIsReadByEightReadsAtOnce) {
  on_core(kArena, [&]() -> monterey::Task<> {
    constexpr std::uint64_t kLength = 10'000'001;
    const std::string key = key_of(kLength);
    auto disk = std::make_shared<MemDisk>();
    auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), small_config());
    co_await db.put(key, value_of(kLength));
    co_await db.flush();
    const std::optional<std::string> copied = co_await db.get(key);
    EXPECT_TRUE(copied == value_of(kLength));
    struct Case {
      std::uint64_t offset;
      std::size_t bytes;
      std::size_t place;
    };
    for (const Case& c :
         {Case{0, kLength, 0}, Case{0, kLength, 1}, Case{100, 5'000'000, 100}, Case{5'000'000, 5'000'001, 0},
          Case{65'536, 4'194'305, 0}, Case{65'535, 4'194'305, 4'095}, Case{1'048'576, 5'242'880, 0}}) {
      co_await expect_part(db, kLength, c.offset, c.bytes, c.place);
    }

    disk->complete(MemDisk::Completion::held);
    auto reading = monterey::spawn(expect_part(db, kLength, 0, kLength, 0));
    for (int turn = 0; turn < 20; ++turn) co_await monterey::yield();
    EXPECT_EQ(disk->held(), 1u) << "the table";
    disk->release_all();
    for (int turn = 0; turn < 20; ++turn) co_await monterey::yield();
    EXPECT_EQ(disk->held(), 8u);
    for (std::size_t i = 0; i < disk->held(); ++i) EXPECT_EQ(disk->held_operation(i).blocks, 256u);
    disk->complete(MemDisk::Completion::at_once);
    disk->release_all();
    co_await std::move(reading);

    const OverflowRef run = run_of(*disk, key);
    const PageNo in_the_seventh(run.first.value + 6 * 256 + 3);
    test::flip_bit(*disk, in_the_seventh, 77);
    co_await expect_error(read_part(db, kLength, 0, kLength), Errc::corruption,
                          fmt::format("block {}|byte {}", run.first.value, 6 * 1'048'576));
    co_await expect_part(db, kLength, 0, 6 * 1'048'576, 0);
    test::flip_bit(*disk, in_the_seventh, 77);
    const PageNo table(static_cast<std::uint32_t>(run.first.value + run_blocks(kLength) - 1));
    test::flip_bit(*disk, table, 4'095 * 8);
    co_await expect_error(read_part(db, kLength, 0, kLength), Errc::corruption, "table");
    test::flip_bit(*disk, table, 4'095 * 8);
    for (const std::uint64_t skip : {0, 1, 5, 10}) {
      disk->inject(test::Fault{.op = test::DeviceOp::read, .skip = skip});
      co_await expect_error(read_part(db, kLength, 0, kLength), Errc::io_error, "");
    }
    co_await expect_part(db, kLength, 0, kLength, 0);
    co_await expect_clean(db);
    co_await db.close();
  });
}

}  // namespace
}  // namespace store
