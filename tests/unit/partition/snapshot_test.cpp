// Snapshots: each shows what it was taken of, whatever is written, flushed and dropped around it, holds no write buffer after a
// flush, and gives all it kept back.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <random>

#include <monterey/when_all.hpp>

#include "store/partition/snapshot_core.hpp"
#include "support/seed.hpp"
#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::device_on;
using test::DeviceOp;
using test::expect_clean;
using test::expect_error;
using test::expect_holds;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::small_config;
using Completion = MemDisk::Completion;
using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;
constexpr std::size_t kBig = 150'000;    // in a run when it is put
constexpr std::size_t kMiddle = 20'000;  // in a run when it is merged

// No put waits for it to grow, or flushes instead.
DiskPtr roomy_disk() { return std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 8 * 1024}); }

// Puts keys [from, to), each with a value that no key had before.
monterey::Task<> renew(Partition& db, Model& model, int from, int to, std::size_t value_bytes = 100) {
  static std::uint64_t values = 0;
  for (int i = from; i < to; ++i) {
    const std::string key = numbered("key", i);
    const std::string value = fmt::format("{:012}{}", ++values, std::string(value_bytes, 'v'));
    co_await db.put(key, value);
    model[key] = value;
  }
}

std::optional<std::string> value_in(const Model& model, const std::string& key) {
  const auto at = model.find(key);
  if (at == model.end()) return std::nullopt;
  return at->second;
}

std::optional<std::string> copy_of(const std::optional<PinnedValue>& value) {
  if (!value) return std::nullopt;
  return std::string(value->view());
}

monterey::Task<Model> entries_of(Scan scan) {
  Model found;
  while (co_await scan.advance()) found.emplace(scan.key(), scan.value());
  co_return std::move(found);
}

// Expects the snapshot to be exactly `model`, by every verb; `others` are keys that it may not have.
monterey::Task<> expect_shows(const Snapshot& snapshot, const Model& model, const std::vector<std::string>& others,
                              std::source_location where = std::source_location::current()) {
  std::vector<std::string> keys = others;
  for (const auto& [key, value] : model) keys.push_back(key);
  std::size_t wrong = 0;
  for (const std::string& key : keys) {
    const std::optional<std::string> want = value_in(model, key);
    const std::optional<std::string> got = co_await snapshot.get(key);
    wrong += got != want;
    const std::optional<PinnedValue> pinned = co_await snapshot.get_pinned(key);
    wrong += copy_of(pinned) != want;
    const bool is_there = co_await snapshot.contains(key);
    wrong += is_there != want.has_value();
  }
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  for (const std::size_t count : {views.size(), std::min<std::size_t>(views.size(), 40)}) {
    const auto many = co_await snapshot.get_many(std::span(views).first(count));
    for (std::size_t i = 0; i < count; ++i) wrong += copy_of(many[i]) != value_in(model, keys[i]);
  }
  EXPECT_EQ(wrong, 0u) << "line " << where.line() << ": of " << keys.size() << " keys";
  for (const bool reverse : {false, true}) {
    ScanOptions options;
    options.reverse = reverse;
    const Model found = co_await entries_of(co_await snapshot.scan("", std::nullopt, options));
    EXPECT_TRUE(found == model) << "line " << where.line() << ": a scan finds " << found.size() << " entries of "
                                << model.size();
  }
  const Model found = co_await entries_of(co_await snapshot.scan_prefix("key0000"));
  const Model want(model.lower_bound("key0000"), model.lower_bound("key0001"));
  EXPECT_TRUE(found == want) << "line " << where.line();
}

std::vector<std::string> keys_of(const Model& model) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : model) keys.push_back(key);
  return keys;
}

// Overwrites every third key of the model, erases every fourth, and adds some.
monterey::Task<> change_all(Partition& db, Model& model, int round) {
  int i = 0;
  for (const std::string& key : keys_of(model)) {
    ++i;
    if (i % 4 == round % 4) {
      co_await db.erase(key);
      model.erase(key);
    } else if (i % 3 == 0) {
      const std::string value = fmt::format("round {} of {}", round, key);
      co_await db.put(key, value);
      model[key] = value;
    }
  }
  for (const auto& [name, bytes] : {std::pair("big", kBig), std::pair("middle", kMiddle), std::pair("small", 100ul)}) {
    model[name] = fmt::format("{}:{}", round, std::string(bytes + static_cast<std::size_t>(round), name[0]));
    co_await db.put(name, model[name]);
  }
  co_await renew(db, model, 1000 + round * 10, 1010 + round * 10);
}

TEST(Snapshot, EveryVerbShowsTheMomentItWasTaken) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    auto db = co_await Partition::create(device_on(disk), small_config());
    Model model;
    const Snapshot of_nothing = db.snapshot();
    co_await renew(db, model, 0, 300);
    co_await change_all(db, model, 0);
    const Model buffered_model = model;
    const Snapshot of_a_buffer = db.snapshot();
    co_await db.flush();
    const Snapshot of_a_tree = db.snapshot();
    co_await change_all(db, model, 1);
    const Model both_model = model;
    const Snapshot of_both = db.snapshot();
    co_await change_all(db, model, 2);
    std::vector<std::string> keys = keys_of(both_model);
    for (const std::string& key : keys_of(model)) keys.push_back(key);
    for (int flushes = 0; flushes < 4; ++flushes) {
      co_await expect_shows(of_nothing, {}, keys);
      co_await expect_shows(of_a_buffer, buffered_model, keys);
      co_await expect_shows(of_a_tree, buffered_model, keys);
      co_await expect_shows(of_both, both_model, keys);
      co_await expect_holds(db, model);
      co_await change_all(db, model, flushes + 3);
      co_await db.flush();
    }
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(Snapshot, TakesNoDeviceOperationAndIsThereWhenReadOnly) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    Model model;
    {
      auto db = co_await Partition::create(device_on(disk), small_config());
      co_await renew(db, model, 0, 300);
      disk->reset_counts();
      const Snapshot one = db.snapshot();
      const Snapshot two = db.snapshot();
      EXPECT_EQ(disk->counts().reads + disk->counts().writes + disk->counts().syncs, 0u);
      co_await db.close();
    }
    OpenOptions options;
    options.read_only = true;
    auto db = co_await test::open_on(disk, options);
    const Snapshot snapshot = db.snapshot();
    co_await expect_shows(snapshot, model, {});
    co_await db.close();
  });
}

// The pages of a merged buffer are there already: the next buffer but one is made of them.
TEST(Snapshot, AMergedBufferThatNobodyReadsIsFilledAgain) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    const auto core = co_await detail::PartitionCore::create(device_on(disk), nullptr, small_config(), {});
    const auto put_and_look = [&core](int i) -> std::weak_ptr<const WriteBuffer> {
      EXPECT_TRUE(core->try_put(numbered("key", i), "value"));
      const detail::SnapshotCore snapshot(core);
      return snapshot.view()->buffers.at(0);
    };
    const std::weak_ptr<const WriteBuffer> first = put_and_look(1);
    co_await core->flush();
    const std::weak_ptr<const WriteBuffer> second = put_and_look(2);
    EXPECT_NE(first.lock(), second.lock());
    co_await core->flush();
    const std::weak_ptr<const WriteBuffer> third = put_and_look(3);
    EXPECT_FALSE(first.expired());
    EXPECT_EQ(first.lock(), third.lock());
    for (int i = 1; i <= 3; ++i) {
      const std::string name = numbered("key", i);
      std::optional<std::string> got;
      const bool is_resident = core->try_get(name, nullptr, got);
      if (!is_resident) got = co_await core->get(name, nullptr, core->take_missed());
      EXPECT_EQ(got, "value") << i;
    }
    co_await core->close();
  });
}

// The counter is the buffer's own: nothing but the snapshots could still hold it.
TEST(Snapshot, AFlushLeavesNoBufferToAHundredOfThem) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    const auto core = co_await detail::PartitionCore::create(device_on(disk), nullptr, small_config(), {});
    std::vector<std::shared_ptr<detail::SnapshotCore>> snapshots;
    for (int i = 0; i < 100; ++i) {
      const bool done = core->try_put(numbered("key", i % 7), numbered("value", i));
      EXPECT_TRUE(done);
      snapshots.push_back(std::make_shared<detail::SnapshotCore>(core));
    }
    const std::weak_ptr<const WriteBuffer> buffer = snapshots.front()->view()->buffers.at(0);
    EXPECT_GE(buffer.use_count(), 100);
    co_await core->flush();
    EXPECT_LE(buffer.use_count(), 1) << "only the partition may keep its memory, for the next buffer";
    for (int i = 0; i < 100; ++i) {
      for (int key = 0; key < 7; ++key) {
        const std::string name = numbered("key", key);
        const View* view = &*snapshots[i]->view();
        std::optional<std::string> got;
        const bool is_resident = core->try_get(name, view, got);
        if (!is_resident) got = co_await core->get(name, view, core->take_missed());
        const int last = i - (i - key + 7) % 7;  // the newest put of the key
        std::optional<std::string> want;
        if (last >= 0) want = numbered("value", last);
        EXPECT_EQ(got, want) << "snapshot " << i << ", " << name;
      }
    }
    snapshots.clear();
    co_await core->close();
  });
}

TEST(Snapshot, AHundredDroppedInAnyOrderGiveEverythingBack) {
  const std::uint64_t seed = test::requested_seed().value_or(std::random_device()());
  SCOPED_TRACE(fmt::format("replay with --seed={}", seed));
  on_core(kArena, [&]() -> monterey::Task<> {
    std::mt19937_64 random(seed);
    auto disk = roomy_disk();
    auto db = co_await Partition::create(device_on(disk), small_config());
    Model model;
    co_await renew(db, model, 0, 1'000);
    co_await db.flush();
    struct Taken {
      Snapshot snapshot;
      Model model;
    };
    std::vector<Taken> taken;
    for (int i = 0; i < 100; ++i) {
      const int at = static_cast<int>(random() % 1'000);
      co_await renew(db, model, at, std::min(at + 3, 1'000));
      if (i % 10 == 3) co_await db.put("big", model["big"] = std::string(kBig, static_cast<char>('a' + i % 26)));
      taken.push_back(Taken{db.snapshot(), model});
      if (i % 40 == 39) co_await db.flush();
    }
    co_await renew(db, model, 0, 1'000);
    co_await db.flush();
    EXPECT_EQ(db.stats().snapshots.size(), 100u);
    EXPECT_GT(db.stats().held_blocks, 100u);
    std::ranges::shuffle(taken, random);
    const std::vector<std::string> no_others;
    while (!taken.empty()) {
      if (taken.size() % 20 == 0) {
        for (const Taken& one : taken) co_await expect_shows(one.snapshot, one.model, no_others);
      }
      taken.pop_back();
      if (taken.size() % 30 == 15) {
        co_await renew(db, model, 100, 110);
        co_await db.flush();
      }
    }
    EXPECT_EQ(db.stats().held_blocks, 0u);
    EXPECT_TRUE(db.stats().snapshots.empty());
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// A page born in B and superseded in D is kept while a snapshot S has B <= S < D, and for no other.
TEST(Snapshot, PagesBetweenTwoOfThemComeBackWhileTheOlderLives) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    auto db = co_await Partition::create(device_on(disk), small_config());
    Model model;
    co_await renew(db, model, 0, 500);
    co_await db.flush();
    const std::uint64_t pages = db.stats().tree_pages + db.stats().allocator_pages;
    const Model first_model = model;
    const Snapshot first = db.snapshot();
    for (int round = 0; round < 20; ++round) {
      co_await renew(db, model, 0, 500);
      co_await db.flush();
      EXPECT_EQ(db.stats().held_blocks, pages) << "those of the snapshot, after round " << round;
    }
    std::optional<Snapshot> second(db.snapshot());
    const Model second_model = model;
    for (int round = 0; round < 3; ++round) {
      co_await renew(db, model, 0, 500);
      co_await db.flush();
    }
    const std::uint64_t with_second = db.stats().held_blocks;
    EXPECT_GE(with_second, pages + pages / 2);
    std::vector<SnapshotStats> stats = db.stats().snapshots;
    EXPECT_EQ(stats.size(), 2u);
    EXPECT_EQ(stats[0].held_blocks, pages);
    EXPECT_EQ(stats[1].held_blocks, with_second - pages);
    const Snapshot third = db.snapshot();
    co_await renew(db, model, 0, 500);
    co_await db.flush();
    co_await expect_shows(*second, second_model, {});
    const std::uint64_t with_third = db.stats().held_blocks;
    second.reset();
    EXPECT_EQ(db.stats().held_blocks, with_third - (with_second - pages)) << "what only the second could read";
    co_await expect_shows(first, first_model, {});
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(Snapshot, StatsTellWhatEachOfThemHolds) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    auto db = co_await Partition::create(device_on(disk), small_config());
    Model model;
    co_await renew(db, model, 0, 500);
    co_await db.flush();
    const Snapshot first = db.snapshot();
    const Snapshot twin = db.snapshot();
    const Scan scan = co_await db.scan("");
    const std::uint64_t sequence = db.stats().last_sequence;
    const std::uint64_t pages = db.stats().tree_pages;
    co_await renew(db, model, 0, 10);
    const Snapshot second = db.snapshot();
    co_await renew(db, model, 0, 500);
    co_await db.flush();
    co_await monterey::sleep_for(std::chrono::nanoseconds(1));
    const Stats stats = db.stats();
    EXPECT_EQ(stats.snapshots.size(), 3u) << "a scan is no snapshot";
    EXPECT_EQ(stats.snapshots[0].sequence, sequence);
    EXPECT_EQ(stats.snapshots[1].sequence, sequence);
    EXPECT_EQ(stats.snapshots[2].sequence, sequence + 10);
    EXPECT_GE(stats.snapshots[0].age, stats.snapshots[1].age);
    EXPECT_GE(stats.snapshots[1].age, stats.snapshots[2].age);
    EXPECT_GT(stats.snapshots[2].age.count(), 0);
    const std::uint64_t of_each = pages + stats.allocator_pages;
    for (const SnapshotStats& snapshot : stats.snapshots) EXPECT_EQ(snapshot.held_blocks, of_each);
    // All but the leaf of the first ten keys, perhaps its neighbour, and the root are shared.
    EXPECT_GE(stats.held_blocks, of_each + stats.height);
    EXPECT_LE(stats.held_blocks, of_each + stats.height + 1);
    co_await db.close();
  });
}

TEST(Snapshot, OfAClosedPartitionGivesClosed) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    std::optional<Partition> db(co_await Partition::create(device_on(disk), small_config()));
    Model model;
    co_await renew(*db, model, 0, 300);
    Snapshot snapshot = db->snapshot();
    Scan begun = co_await snapshot.scan("");
    monterey::Task<Scan> not_begun = snapshot.scan("");
    co_await db->close();
    EXPECT_THROW(static_cast<void>(db->snapshot()), Error);
    for (int i = 0; i < 2; ++i) {
      co_await expect_error(test::get(snapshot, "key000001"), Errc::closed, "closed");
      co_await expect_error(test::contains(snapshot, "key000001"), Errc::closed, "closed");
      co_await expect_error(test::get_pinned(snapshot, "key000001"), Errc::closed, "closed");
      co_await expect_error(test::get_into(snapshot, "key000001"), Errc::closed, "closed");
      co_await expect_error(test::get_many(snapshot, "key000001"), Errc::closed, "closed");
      co_await expect_error(test::scan_all(snapshot), Errc::closed, "closed");
      db.reset();  // the second time
    }
    co_await expect_error(test::advance(begun), Errc::closed, "closed");
    co_await expect_error(test::discard(std::move(not_begun)), Errc::closed, "closed");

    // A handle that was moved from is as good as closed, and another may be moved to it.
    Snapshot other = std::move(snapshot);
    co_await expect_error(test::get(snapshot, "key000001"), Errc::closed, "moved from");
    co_await expect_error(test::get_into(snapshot, "key000001"), Errc::closed, "moved from");
    co_await expect_error(test::scan_all(snapshot), Errc::closed, "moved from");
    auto again = co_await test::open_on(disk);
    snapshot = again.snapshot();
    co_await expect_shows(snapshot, model, {});
    // It keeps the partition, whose handle goes.
    co_await again.put("key000001", "changed");
    { const Partition gone = std::move(again); }
    co_await expect_shows(snapshot, model, {});
  });
}

TEST(Snapshot, OfAPoisonedPartitionIsRefusedAndThoseThereAreReadOn) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    auto db = co_await Partition::create(device_on(disk), small_config());
    Model model;
    co_await renew(db, model, 0, 300);
    const Model before = model;
    const Snapshot snapshot = db.snapshot();
    co_await renew(db, model, 0, 100);
    disk->inject(test::Fault{.op = DeviceOp::sync});
    co_await expect_error(db.flush(), Errc::io_error, "");
    std::string what;
    try {
      static_cast<void>(db.snapshot());
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::poisoned);
      what = error.what();
    }
    test::expect_words(what, "snapshot|reopen");
    co_await expect_shows(snapshot, before, {});
    EXPECT_EQ(db.stats().snapshots.size(), 1u);
    co_await expect_error(db.close(), Errc::poisoned, "may be lost");
  });
}

// --- suspended reads ---

struct Reading {
  std::optional<Snapshot> snapshot;
  std::vector<std::string> keys;
  std::optional<std::string> got;
  std::optional<std::string> pinned;
  std::vector<char> memory = std::vector<char>(kBig + 1);
  std::optional<std::size_t> bytes;  // of the value that was read into it
  bool is_there = false;
  std::vector<std::optional<std::string>> many;
  Model scanned;

  static monterey::Task<> get_one(Reading* self) { self->got = co_await self->snapshot->get(self->keys[0]); }
  static monterey::Task<> pin_one(Reading* self) {
    const std::optional<PinnedValue> value = co_await self->snapshot->get_pinned(self->keys[1]);
    self->pinned = copy_of(value);
  }
  static monterey::Task<> get_into_one(Reading* self) {
    self->bytes = co_await self->snapshot->get_into("big", std::as_writable_bytes(std::span(self->memory)));
  }
  static monterey::Task<> look_for_one(Reading* self) {
    self->is_there = co_await self->snapshot->contains(self->keys[2]);
  }
  static monterey::Task<> get_all(Reading* self) {
    const std::vector<std::string_view> views(self->keys.begin(), self->keys.end());
    const auto values = co_await self->snapshot->get_many(views);
    for (const auto& value : values) self->many.push_back(copy_of(value));
  }
  static monterey::Task<> scan(Reading* self) {
    auto scan = co_await self->snapshot->scan("");
    while (co_await scan.advance()) self->scanned.emplace(scan.key(), scan.value());
  }
};

enum class Handle { kept, dropped, dropped_by_get_many };

// Reads whose pages are being loaded while a flush moves the view to another root, and later ones use freed blocks again.
monterey::Task<> expect_reads_across_flushes(Handle handle) {
  // Small enough that each flush takes what an earlier one gave up.
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 600, .capacity_blocks = 600});
  Model model;
  {
    auto db = co_await Partition::create(device_on(disk), small_config());
    co_await renew(db, model, 0, 3'000);
    co_await db.put("big", model["big"] = std::string(kBig, 'b'));
    co_await db.close();
  }
  auto db = co_await test::open_on(disk);
  // Some of it in the buffer, so that the snapshot is moved, and onto a root that differs.
  co_await renew(db, model, 500, 520);
  Reading reading;
  reading.snapshot.emplace(db.snapshot());
  const Model before = model;
  co_await renew(db, model, 510, 530);
  if (handle != Handle::kept) co_await db.flush();  // then nothing but the reads keeps the state that it is on
  // The first ones are in a leaf that the newest state does not have any more.
  reading.keys = {numbered("key", 512), numbered("key", 512), numbered("key", 512)};
  for (int i = 0; i < 3'000; i += 20) reading.keys.push_back(numbered("key", i));
  reading.keys.push_back("big");
  bool holding = true;
  disk->complete_by([&holding](const test::Operation& operation) {
    return holding && operation.op == DeviceOp::read ? Completion::held : Completion::at_once;
  });
  std::vector<monterey::JoinHandle<>> reads;
  const bool gets_many = handle != Handle::dropped;  // it keeps the snapshot for the others
  reads.push_back(monterey::spawn(Reading::get_one(&reading)));
  reads.push_back(monterey::spawn(Reading::pin_one(&reading)));
  reads.push_back(monterey::spawn(Reading::look_for_one(&reading)));
  reads.push_back(monterey::spawn(Reading::get_into_one(&reading)));
  if (gets_many) reads.push_back(monterey::spawn(Reading::get_all(&reading)));
  if (handle == Handle::kept) reads.push_back(monterey::spawn(Reading::scan(&reading)));
  for (int turn = 0; turn < 10; ++turn) co_await monterey::yield();
  EXPECT_GT(disk->held(DeviceOp::read), 0u);
  holding = false;  // the flushes' own reads go on
  if (handle != Handle::kept) reading.snapshot.reset();
  for (int round = 0; round < 8; ++round) {
    co_await renew(db, model, 0, 3'000, 80);
    if (round == 0) co_await db.put("big", model["big"] = "small now");
    co_await db.flush();
  }
  disk->complete_by(nullptr);
  disk->complete(Completion::yield);
  disk->release_all();
  for (auto& read : reads) co_await std::move(read);
  EXPECT_EQ(reading.got, before.at(reading.keys[0]));
  EXPECT_EQ(reading.pinned, before.at(reading.keys[1]));
  EXPECT_TRUE(reading.is_there);
  EXPECT_EQ(reading.bytes, kBig);
  EXPECT_EQ(std::string(reading.memory.data(), kBig), before.at("big"));
  EXPECT_EQ(reading.many.size(), gets_many ? reading.keys.size() : 0);
  for (std::size_t i = 0; i < reading.many.size(); ++i) {
    EXPECT_TRUE(reading.many[i] == before.at(reading.keys[i])) << reading.keys[i];
  }
  if (handle == Handle::kept) {
    EXPECT_TRUE(reading.scanned == before) << reading.scanned.size();
    co_await expect_shows(*reading.snapshot, before, {});
    reading.snapshot.reset();
  }
  EXPECT_EQ(db.stats().held_blocks, 0u);
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await db.close();
}

TEST(Snapshot, AReadThatWaitsIsRightWhenAFlushMovesIt) {
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_reads_across_flushes(Handle::kept); });
}

TEST(Snapshot, AReadThatWaitsIsRightWhenTheHandleGoes) {
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_reads_across_flushes(Handle::dropped); });
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_reads_across_flushes(Handle::dropped_by_get_many); });
}

// Scans of a snapshot have views of their own, behind the snapshot's in the list that flushes cut by.
TEST(Snapshot, ItsScansOutliveItAndAreCutLikeIt) {
  on_core(kArena, [&]() -> monterey::Task<> {
    auto disk = roomy_disk();
    auto db = co_await Partition::create(device_on(disk), small_config());
    Model model;
    std::vector<std::pair<Scan, Model>> scans;
    std::optional<Snapshot> oldest;
    Model oldest_model;
    for (int i = 0; i < 60; ++i) {
      co_await renew(db, model, i % 10 * 5, i % 10 * 5 + 3);
      const Snapshot snapshot = db.snapshot();
      if (i == 20) {
        oldest.emplace(db.snapshot());
        oldest_model = model;
      }
      ScanOptions options;
      options.reverse = i % 2 == 0;
      scans.emplace_back(co_await snapshot.scan("", std::nullopt, options), model);
      // The newest scan, but not the newest state: what was written between them must stay.
      if (oldest && i % 5 == 0) scans.emplace_back(co_await oldest->scan(""), oldest_model);
      if (i % 25 == 24) co_await db.flush();
    }
    monterey::Task<Scan> not_begun = oldest->scan("");
    oldest.reset();
    co_await renew(db, model, 0, 60);
    co_await db.flush();
    scans.emplace_back(co_await std::move(not_begun), oldest_model);
    for (auto& [scan, want] : scans) {
      const Model found = co_await entries_of(std::move(scan));
      EXPECT_TRUE(found == want);
    }
    scans.clear();
    EXPECT_EQ(db.stats().held_blocks, 0u);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// --- a full device ---

// States that only snapshots need take space when their buffer is flushed: what was accepted must still fit.
TEST(Snapshot, AFullDeviceFlushesWhatItAcceptedBetweenThem) {
  for (std::uint64_t capacity = 150; capacity < 900; capacity += 83) {
    SCOPED_TRACE(fmt::format("{} blocks", capacity));
    auto disk = std::make_shared<MemDisk>(MemDisk::Options{.capacity_blocks = capacity});
    on_core(kArena, [&]() -> monterey::Task<> {
      Model model;
      auto db = co_await Partition::create(device_on(disk), small_config());
      std::vector<std::pair<Snapshot, Model>> snapshots;
      std::uint64_t refused = 0;
      for (int i = 0; i < 3'000 && refused < 40; ++i) {
        const std::string key = numbered("key", i * 37 % 400);
        const std::string value(i % 5 == 0 ? 4'200 : 120, static_cast<char>('a' + i % 26));
        bool full = false;
        try {
          co_await db.put(key, value);
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::no_space);
          test::expect_words(error.what(), "nothing was changed|snapshots");
          full = true;
        }
        refused += full;
        if (!full) model[key] = value;
        if (i % 3 == 0) snapshots.emplace_back(db.snapshot(), model);
        if (snapshots.size() > 30 || full) snapshots.erase(snapshots.begin(), snapshots.begin() + snapshots.size() / 2);
        if (i % 200 == 199) co_await db.flush();
      }
      co_await db.flush();
      for (const auto& [snapshot, want] : snapshots) co_await expect_shows(snapshot, want, {});
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      snapshots.clear();
      co_await db.close();
    });
  }
}

}  // namespace
}  // namespace store
