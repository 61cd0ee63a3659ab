// The log between its writers and a device in memory: grouping, order, failures, and what a reader finds afterwards, torn at
// every sector, with parts missing, and damaged in its middle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <monterey/spawn.hpp>
#include <monterey/time.hpp>
#include <store/error.hpp>
#include <string>
#include <vector>

#include "store/wal/log.hpp"
#include "store/wal/log_reader.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store {
namespace {

using test::DeviceOp;
using test::MemBlockDevice;
using test::MemDisk;
using testing::ElementsAre;

constexpr std::uint64_t kStore = 0x5710;

LogLayout layout_of_segments() {
  LogLayout layout;
  layout.segments = {{PageNo(10), 3}, {PageNo(20), 100}, {PageNo(200), 300}};
  return layout;
}

// A log on a disk of its own, as a partition would have it.
struct Owner {
  explicit Owner(std::shared_ptr<MemDisk> on = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 1000}))
      : disk(std::move(on)), device(disk) {}

  std::shared_ptr<MemDisk> disk;
  MemBlockDevice device;
  std::shared_ptr<Log> log;
  std::string failure;
  std::uint64_t seq = 0;

  void start(std::shared_ptr<Owner> self, std::chrono::microseconds interval = {}, std::uint64_t incarnation = 1,
             LogLayout layout = layout_of_segments(), LogPosition tail = {}) {
    const Log::Options options{
        .store_id = kStore, .incarnation = incarnation, .generation = Generation(4), .interval = interval};
    log = std::make_shared<Log>(device, device, monterey::FixedBufs::current().allocate(Log::kStagingBytes), options,
                                std::move(layout), tail);
    log->start(self, [self = self.get()](const std::string& why) { self->failure = why; });
  }
  LogTicket append(std::string_view key, std::string_view value) {
    const std::array<LogEntry, 1> entry{LogEntry{key, value, std::nullopt}};
    return log->append(SeqNo(++seq), entry, record_bytes(entry));
  }
  LogExpectation expected(std::uint64_t incarnation = 1) const { return {kStore, incarnation, Generation(4)}; }
};

// The keys that a reader finds, in order.
monterey::Task<std::vector<std::string>> keys_on(Owner& owner, LogExpectation expected) {
  const LogLayout layout = layout_of_segments();
  LogReader reader(owner.device, layout, expected);
  std::vector<std::string> keys;
  for (;;) {
    const bool more = co_await reader.next_group();
    if (!more) break;
    for (const auto record : reader.records()) {
      RecordDecoder decoder(record);
      while (const auto entry = decoder.next()) keys.emplace_back(entry->key);
      EXPECT_EQ(decoder.error(), "");
    }
  }
  co_return std::move(keys);
}

monterey::Task<> write_durably(Owner* owner, std::string key) {
  const LogTicket ticket = owner->append(key, "value");
  co_await owner->log->durable(ticket);
}

template <class Body>
void on_core_with_arena(Body body) {
  test::on_core(4 * Log::kStagingBytes, std::move(body));
}

TEST(Log, WritersShareAGroupAndComeBackInTheNext) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->disk->complete(MemDisk::Completion::yield);
    owner->start(owner);
    std::vector<monterey::JoinHandle<void>> writers;
    for (int i = 0; i < 64; ++i) {
      writers.push_back(monterey::spawn([](Owner* o, int n) -> monterey::Task<> {
        for (int round = 0; round < 10; ++round) co_await write_durably(o, std::to_string(n * 100 + round));
      }(owner.get(), i)));
    }
    for (auto& writer : writers) co_await std::move(writer);
    EXPECT_LE(owner->log->counters().groups, 12u);
    EXPECT_EQ(owner->disk->counts().syncs, owner->log->counters().groups);
    EXPECT_EQ(owner->log->counters().records, 640u);
    const auto keys = co_await keys_on(*owner, owner->expected());
    EXPECT_EQ(keys.size(), 640u);
    co_await owner->log->stop();
  });
}

TEST(Log, NothingIsAcknowledgedBeforeTheSyncHasEnded) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->disk->complete(MemDisk::Completion::held);
    owner->start(owner);
    bool done = false;
    auto writer = monterey::spawn([](Owner* o, bool* flag) -> monterey::Task<> {
      co_await write_durably(o, "a");
      *flag = true;
    }(owner.get(), &done));
    while (owner->disk->held(DeviceOp::write) == 0) co_await monterey::yield();
    owner->disk->release();
    while (owner->disk->held(DeviceOp::sync) == 0) co_await monterey::yield();
    for (int i = 0; i < 100; ++i) co_await monterey::yield();
    EXPECT_FALSE(done);
    owner->disk->complete(MemDisk::Completion::at_once);
    owner->disk->release_all();
    co_await std::move(writer);
    EXPECT_TRUE(done);
    co_await owner->log->stop();
  });
}

TEST(Log, ABatchedGroupIsWrittenAfterItsIntervalOrAtOnceBySync) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner, std::chrono::hours(1));
    owner->append("a", "1");
    for (int i = 0; i < 100; ++i) co_await monterey::yield();
    EXPECT_EQ(owner->disk->counts().writes, 0u);
    co_await owner->log->sync();
    EXPECT_EQ(owner->log->counters().groups, 1u);
    co_await owner->log->sync();
    EXPECT_EQ(owner->log->counters().groups, 1u) << "nothing was appended";
    co_await owner->log->stop();

    auto quick = std::make_shared<Owner>();
    quick->start(quick, std::chrono::microseconds(100));
    const LogTicket ticket = quick->append("b", "2");
    co_await quick->log->durable(ticket);
    EXPECT_EQ(quick->log->counters().groups, 1u);
    co_await quick->log->stop();
  });
}

// What waited for the last group runs before the task that wrote it: the log is empty then, though that task is not done.
TEST(Log, GetsOtherSegmentsAsSoonAsAllIsDurable) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->disk->complete(MemDisk::Completion::held);
    owner->start(owner);
    auto writer = monterey::spawn(write_durably(owner.get(), "a"));
    while (owner->disk->held(DeviceOp::write) == 0) co_await monterey::yield();
    auto synced = monterey::spawn([](Owner* o) -> monterey::Task<> {
      co_await o->log->sync();
      LogLayout shorter;
      shorter.begin = o->log->position();
      shorter.segments = {{PageNo(600), 8}};
      o->log->recycle(std::move(shorter), Generation(5));
    }(owner.get()));
    owner->disk->complete(MemDisk::Completion::at_once);
    owner->disk->release_all();
    co_await std::move(synced);
    co_await std::move(writer);
    co_await write_durably(owner.get(), "b");
    EXPECT_EQ(owner->log->left_bytes(), 7 * kPageBytes);
    co_await owner->log->stop();
  });
}

monterey::Task<> append_batch(Owner& owner, std::size_t values, std::string_view value) {
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < values; ++i) keys.push_back("part" + std::to_string(i));
  std::vector<LogEntry> entries;
  for (const std::string& key : keys) entries.push_back(LogEntry{key, value, std::nullopt});
  const SeqNo first(owner.seq + 1);
  owner.seq += values;
  const LogTicket ticket = co_await owner.log->append_in_parts(first, entries, record_bytes(entries));
  co_await owner.log->durable(ticket);
}

TEST(Log, ARecordLongerThanAGroupComesBackWhole) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->disk->complete(MemDisk::Completion::yield);
    owner->start(owner);
    owner->append("first", "1");
    co_await append_batch(*owner, 10, std::string(60'000, 'x'));
    EXPECT_GE(owner->log->counters().groups, 3u);
    co_await write_durably(owner.get(), "last");
    const auto keys = co_await keys_on(*owner, owner->expected());
    EXPECT_EQ(keys.size(), 12u);
    EXPECT_EQ(keys.back(), "last");
    co_await owner->log->stop();
  });
}

// What a crash leaves of a record in parts is nothing; another open goes on behind it.
TEST(Log, ARecordWithoutItsLastPartIsLeftOut) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner);
    co_await write_durably(owner.get(), "first");
    const LogPosition before = owner->log->position();
    co_await append_batch(*owner, 10, std::string(60'000, 'x'));
    const std::uint64_t blocks = (owner->log->position().lsn.value - before.lsn.value) / kPageBytes;
    const Lsn last_block(owner->log->position().lsn.value - kPageBytes);
    const PageNo place = layout_of_segments().locate(last_block, 1).first;
    std::ranges::fill(owner->disk->block(place), std::byte{0});
    auto keys = co_await keys_on(*owner, owner->expected());
    EXPECT_THAT(keys, ElementsAre("first")) << blocks;
    const LogLayout layout = layout_of_segments();
    LogReader reader(owner->device, layout, owner->expected());
    for (;;) {
      const bool more = co_await reader.next_group();
      if (!more) break;
    }
    co_await owner->log->stop();
    auto next = std::make_shared<Owner>(owner->disk);
    next->seq = 1;
    next->start(next, {}, 2, layout_of_segments(), reader.position());
    co_await write_durably(next.get(), "second");
    keys = co_await keys_on(*next, next->expected(2));
    EXPECT_THAT(keys, ElementsAre("first", "second"));
    co_await next->log->stop();
  });
}

std::span<std::byte> block_at(Owner& owner, Lsn lsn) {
  return owner.disk->block(layout_of_segments().locate(lsn, 1).first);
}

// Three groups, the second and the third of several blocks; returns where they begin.
monterey::Task<std::vector<Lsn>> write_three_groups(Owner& owner) {
  std::vector<Lsn> begins;
  for (const char* key : {"one", "two", "three"}) {
    begins.push_back(owner.log->position().lsn);
    const LogTicket ticket = owner.append(key, std::string(key[0] == 'o' ? 10 : 9'000, 'x'));
    co_await owner.log->durable(ticket);
  }
  co_await owner.log->stop();
  co_return std::move(begins);
}

TEST(Log, ATearAtAnySectorOfTheLastGroupEndsTheLogThere) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner);
    const std::vector<Lsn> begins = co_await write_three_groups(*owner);
    for (std::size_t sector = 0; sector < 18; ++sector) {  // 9,000 bytes and headers fill 18 sectors
      const auto block = block_at(*owner, Lsn(begins[2].value + sector / 8 * kPageBytes));
      std::vector<std::byte> kept(block.begin(), block.end());
      std::ranges::fill(block.subspan(sector % 8 * 512, 512), std::byte{0});
      const auto keys = co_await keys_on(*owner, owner->expected());
      EXPECT_THAT(keys, ElementsAre("one", "two")) << sector;
      std::ranges::copy(kept, block.begin());
    }
    const auto keys = co_await keys_on(*owner, owner->expected());
    EXPECT_THAT(keys, ElementsAre("one", "two", "three"));
  });
}

TEST(Log, DamageThatALaterGroupAttestsIsToldWithItsPlace) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner);
    const std::vector<Lsn> begins = co_await write_three_groups(*owner);
    for (std::size_t group = 0; group < 2; ++group) {
      block_at(*owner, begins[group])[100] ^= std::byte{4};
      std::string what;
      const Errc errc = co_await test::error_of(test::discard(keys_on(*owner, owner->expected())), &what);
      EXPECT_EQ(errc, Errc::corruption);
      EXPECT_THAT(what, testing::HasSubstr("LSN " + std::to_string(begins[group].value)));
      EXPECT_THAT(what, testing::HasSubstr("checksum does not hold"));
      block_at(*owner, begins[group])[100] ^= std::byte{4};
    }
  });
}

TEST(Log, AGroupAtTheTailThatIsWholeButNotLinkedIsDamage) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner);
    const std::vector<Lsn> begins = co_await write_three_groups(*owner);
    // The second one as something else would have written it there.
    std::vector<std::byte> memory(begins[2].value - begins[1].value);
    for (std::size_t at = 0; at < memory.size(); at += kPageBytes) {
      std::ranges::copy(block_at(*owner, Lsn(begins[1].value + at)), memory.begin() + static_cast<std::ptrdiff_t>(at));
    }
    const auto group = decode_group(std::span(memory).first<kPageBytes>());
    memory[group->bytes - 1] ^= std::byte{1};
    seal_group(memory.data(), *group);
    for (std::size_t at = 0; at < memory.size(); at += kPageBytes) {
      std::ranges::copy(std::span(memory).subspan(at, kPageBytes), block_at(*owner, Lsn(begins[1].value + at)).begin());
    }
    std::string what;
    const Errc errc = co_await test::error_of(test::discard(keys_on(*owner, owner->expected())), &what);
    EXPECT_EQ(errc, Errc::corruption);
    EXPECT_THAT(what, testing::HasSubstr("LSN " + std::to_string(begins[2].value)));
    EXPECT_THAT(what, testing::HasSubstr("not linked"));
  });
}

TEST(Log, AGroupThatKnowsMoreThanTheMetaPageShowsThatOneWasLost) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner, {}, 7);
    static_cast<void>(co_await write_three_groups(*owner));
    for (const LogExpectation older :
         {LogExpectation{kStore, 7, Generation(3)}, LogExpectation{kStore, 6, Generation(4)}}) {
      std::string what;
      const Errc errc = co_await test::error_of(test::discard(keys_on(*owner, older)), &what);
      EXPECT_EQ(errc, Errc::corruption);
      EXPECT_THAT(what, testing::HasSubstr("a newer meta page was lost"));
    }
    const auto foreign = co_await keys_on(*owner, LogExpectation{kStore + 1, 7, Generation(4)});
    EXPECT_THAT(foreign, ElementsAre());
  });
}

TEST(Log, AFailedWriteOrSyncEndsItForGood) {
  for (const DeviceOp op : {DeviceOp::write, DeviceOp::sync}) {
    on_core_with_arena([op]() -> monterey::Task<> {
      auto owner = std::make_shared<Owner>();
      owner->start(owner);
      co_await write_durably(owner.get(), "good");
      owner->disk->inject({.op = op});
      const Errc errc = co_await test::error_of(write_durably(owner.get(), "bad"));
      EXPECT_EQ(errc, Errc::poisoned);
      EXPECT_NE(owner->failure, "");
      const Errc later = co_await test::error_of(owner->log->sync());
      EXPECT_EQ(later, Errc::poisoned);
      EXPECT_EQ(owner->log->counters().groups, 1u);
      co_await owner->log->stop();
    });
  }
}

TEST(Log, AGroupThatNamesARunFollowsASyncOfTheData) {
  on_core_with_arena([]() -> monterey::Task<> {
    auto owner = std::make_shared<Owner>();
    owner->start(owner);
    owner->disk->record(true);
    const std::array<LogEntry, 1> entry{
        LogEntry{"key", std::nullopt, OverflowRef{PageNo(5), 100'000, 1, Generation(1)}}};
    const LogTicket ticket = owner->log->append(SeqNo(1), entry, record_bytes(entry));
    co_await owner->log->durable(ticket);
    std::vector<DeviceOp> ops;
    for (const test::Operation& operation : owner->disk->take_trace()) ops.push_back(operation.op);
    EXPECT_THAT(ops, ElementsAre(DeviceOp::sync, DeviceOp::write, DeviceOp::sync));
    co_await owner->log->stop();
  });
}

}  // namespace
}  // namespace store
