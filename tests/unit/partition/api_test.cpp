// What the types of the public API promise to the compiler and to whoever awaits: operations are awaited where they are
// made, and nothing but there. compile_fail/ holds what must be refused in whole expressions.
#include <gtest/gtest.h>

#include <concepts>
#include <type_traits>
#include <utility>

#include <monterey/monterey.hpp>
#include <store/partition.hpp>

#include "support/mem_block_device.hpp"
#include "support/run_in_cluster.hpp"

namespace store {
namespace {

using test::MemBlockDevice;
using test::MemDisk;
using test::run_in_cluster;

template <class T>
concept AwaitableAsRvalue = requires(T operation) {
  std::move(operation).operator co_await();
};
template <class T>
concept AwaitableAsLvalue = requires(T& operation) {
  operation.operator co_await();
};
template <class T>
concept Spawnable = requires(T operation) {
  monterey::spawn(std::move(operation));
};
template <class T>
concept Combinable = requires(T operation) {
  monterey::when_all(std::move(operation), std::move(operation));
};

// Made and awaited in one expression, and usable in no other way.
template <class T>
constexpr bool kOperation = AwaitableAsRvalue<T> && !AwaitableAsLvalue<T> && !Spawnable<T> && !Combinable<T> &&
                            !std::is_move_constructible_v<T> && !std::is_copy_constructible_v<T> &&
                            !std::is_move_assignable_v<T> && !std::is_copy_assignable_v<T>;

using Key = std::string_view;
using Db = Partition&;
using Get = decltype(std::declval<Db>().get(Key()));
using Contains = decltype(std::declval<Db>().contains(Key()));
using GetPinned = decltype(std::declval<Db>().get_pinned(Key()));
using GetInto = decltype(std::declval<Db>().get_into(Key(), std::span<std::byte>()));
using GetMany = decltype(std::declval<Db>().get_many(std::span<const Key>()));
using Put = decltype(std::declval<Db>().put(Key(), Key()));
using Erase = decltype(std::declval<Db>().erase(Key()));
using CompareAndPut = decltype(std::declval<Db>().compare_and_put(Key(), Key(), Key()));

using Of = const Snapshot&;
using SnapshotGet = decltype(std::declval<Of>().get(Key()));
using SnapshotContains = decltype(std::declval<Of>().contains(Key()));
using SnapshotGetPinned = decltype(std::declval<Of>().get_pinned(Key()));
using SnapshotGetInto = decltype(std::declval<Of>().get_into(Key(), std::span<std::byte>()));
using SnapshotGetMany = decltype(std::declval<Of>().get_many(std::span<const Key>()));

static_assert(kOperation<SnapshotGet> && kOperation<SnapshotContains> && kOperation<SnapshotGetPinned> &&
              kOperation<SnapshotGetMany> && kOperation<SnapshotGetInto> && kOperation<GetInto>);
static_assert(std::is_nothrow_move_constructible_v<Snapshot> && std::is_nothrow_move_assignable_v<Snapshot> &&
              !std::is_copy_constructible_v<Snapshot>);
static_assert(kOperation<Get> && kOperation<Contains> && kOperation<GetPinned> && kOperation<GetMany>);
static_assert(kOperation<Put> && kOperation<Erase> && kOperation<CompareAndPut>);

// Verbs that return a task may be kept, spawned and combined.
using Flush = decltype(std::declval<Db>().flush());
static_assert(std::same_as<Flush, monterey::Task<>> && std::is_move_constructible_v<Flush>);
static_assert(Spawnable<Flush> && Combinable<Flush> && AwaitableAsRvalue<Flush> && !AwaitableAsLvalue<Flush>);
static_assert(std::is_nothrow_move_constructible_v<Partition> && std::is_nothrow_move_assignable_v<Partition>);
static_assert(!std::is_copy_constructible_v<Partition>);

PartitionConfig small_config() {
  return {.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 10, .io_depth = 16};
}

TEST(PartitionApi, ArgumentsOfAnAwaitedOperationMayBeTemporaries) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  const auto task = [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
      // Long enough to live on the heap, where a view of what is gone shows.
      co_await db.put(std::string(200, 'k'), std::string(900, 'v'));
      co_await db.close();
    }
    disk->complete(MemDisk::Completion::yield);  // every miss suspends
    auto db = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
    const std::optional<std::string> value = co_await db.get(std::string(200, 'k'));
    EXPECT_EQ(value, std::string(900, 'v'));
    const bool swapped =
        co_await db.compare_and_put(std::string(200, 'k'), std::string(900, 'v'), std::string(900, 'w'));
    EXPECT_TRUE(swapped);
    const bool present = co_await db.contains(std::string(200, 'k'));
    EXPECT_TRUE(present);
    co_await db.erase(std::string(200, 'k'));
    const std::optional<PinnedValue> pinned = co_await db.get_pinned(std::string(200, 'k'));
    EXPECT_FALSE(pinned.has_value());
    co_await db.close();
  };
  run_in_cluster(config.buffer_config(), task);
}

TEST(PartitionApi, TheHandleMayMoveWhileAnOperationIsInFlight) {
  const auto disk = std::make_shared<MemDisk>();
  const PartitionConfig config = small_config();
  struct Reader {
    static monterey::Task<std::string> read(Partition* db) {
      const std::optional<std::string> value = co_await db->get("key");
      co_return value.value_or("absent");
    }
  };
  const auto task = [&]() -> monterey::Task<> {
    {
      auto db = co_await Partition::create(std::make_unique<MemBlockDevice>(disk), config);
      // More than a leaf: open() reads the root.
      for (int i = 0; i < 100; ++i) co_await db.put("key" + std::to_string(i), std::string(100, 'v'));
      co_await db.put("key", "value");
      co_await db.close();
    }
    auto first = co_await Partition::open(std::make_unique<MemBlockDevice>(disk), config);
    disk->complete(MemDisk::Completion::held);
    auto reading = monterey::spawn(Reader::read(&first));
    for (int turn = 0; turn < 100 && disk->held() == 0; ++turn) co_await monterey::yield();
    EXPECT_EQ(disk->held(), 1u);
    const Partition moved_to = std::move(first);
    disk->complete(MemDisk::Completion::at_once);
    disk->release_all();
    const std::string value = co_await std::move(reading);
    EXPECT_EQ(value, "value");
  };
  run_in_cluster(config.buffer_config(), task);
}

}  // namespace
}  // namespace store
