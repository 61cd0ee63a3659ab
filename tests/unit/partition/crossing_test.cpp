// Where two features meet, and where each has its borders.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <monterey/preempt.hpp>
#include <monterey/spawn.hpp>
#include <optional>
#include <vector>

#include "unit/partition/bulk_support.hpp"
#include "unit/partition/log_support.hpp"

namespace store {
namespace {

using test::device_on;
using test::expect_clean;
using test::expect_holds;
using test::fill;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 16u << 20;

// Keys whose order, prefixes and lengths are at the borders; values at those of runs and their tables.
Model borders() {
  Model model;
  std::vector<std::string> keys;
  for (const std::size_t length : {1u, 2u, 255u, 256u, 1023u, 1024u}) {
    for (const char c : {'\0', '\x01', 'a', '\x7f', '\x80', '\xfe', '\xff'}) keys.emplace_back(length, c);
  }
  const std::vector<std::size_t> values{0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 200'000};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    model[keys[i]] = std::string(values[i % values.size()], static_cast<char>('a' + i % 26));
  }
  return model;
}

template <class Db>
monterey::Task<> expect_range(const Db& db, const Model& model, std::string from, std::optional<std::string> to) {
  for (const bool reverse : {false, true}) {
    std::vector<std::string> expected;
    for (const auto& [key, value] : model) {
      if (key >= from && (!to || key < *to)) expected.push_back(key);
    }
    if (reverse) std::ranges::reverse(expected);
    for (const std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1'000'000}}) {
      ScanOptions options;
      options.reverse = reverse;
      options.limit = limit;
      std::vector<std::string> found;
      auto scan = co_await db.scan(from, to, options);
      while (co_await scan.advance()) {
        found.emplace_back(scan.key());
        EXPECT_TRUE(scan.value() == model.at(found.back()));
      }
      const bool again = co_await scan.advance();
      EXPECT_FALSE(again);
      std::vector<std::string> first(
          expected.begin(),
          expected.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(limit, expected.size())));
      EXPECT_TRUE(found == first) << found.size() << " of " << first.size();
    }
  }
}

template <class Db>
monterey::Task<> expect_prefixes(const Db& db, const Model& model) {
  for (const std::string prefix : {"", "\xff", "\xff\xff", "\xfe", "\x7f\x7f\x7f", "a", "b"}) {
    std::vector<std::string> expected;
    for (const auto& [key, value] : model) {
      if (key.starts_with(prefix)) expected.push_back(key);
    }
    for (const bool reverse : {false, true}) {
      std::vector<std::string> found;
      ScanOptions options;
      options.reverse = reverse;
      auto scan = co_await db.scan_prefix(prefix, options);
      while (co_await scan.advance()) found.emplace_back(scan.key());
      if (reverse) std::ranges::reverse(found);
      EXPECT_TRUE(found == expected) << "prefix of " << prefix.size() << " bytes";
    }
  }
}

template <class Db>
monterey::Task<> expect_all_reads(const Db& db, const Model& model) {
  co_await expect_prefixes(db, model);
  for (const auto& [key, value] : model) co_await expect_range(db, model, key, std::nullopt);
  for (const auto& [key, value] : model) co_await expect_range(db, model, std::string(1, '\0'), key);
  co_await expect_range(db, model, std::string(1024, '\xff'), std::nullopt);
  co_await expect_range(db, model, std::string(1025, '\xff'), std::nullopt);
  co_await expect_range(db, model, "b", "b");
  co_await expect_range(db, model, "c", "b");
  for (const auto& [key, value] : model) {
    std::vector<std::byte> into(value.size() + 1);
    for (const std::uint64_t offset :
         {std::uint64_t{0}, value.size() / 2, value.size(), value.size() + 1, ~std::uint64_t{0}}) {
      const std::optional<std::size_t> bytes = co_await db.get_into(key, into, {.offset = offset});
      EXPECT_EQ(bytes, value.size());
      if (offset >= value.size()) continue;
      const std::string_view part(reinterpret_cast<const char*>(into.data()), value.size() - offset);
      EXPECT_TRUE(part == std::string_view(value).substr(offset));
    }
    const std::optional<std::size_t> none = co_await db.get_into(key, {}, {.offset = 7});
    EXPECT_EQ(none, value.size());
  }
}

TEST(Borders, HoldInEveryPlace) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const auto disk = std::make_shared<MemDisk>();
    const Model model = borders();
    auto db = co_await Partition::create(device_on(disk), test::logged_config());
    for (const auto& [key, value] : model) co_await db.put(key, value);
    co_await expect_all_reads(db, model);  // in the buffer, and some in runs
    {
      const Snapshot snapshot = db.snapshot();
      co_await db.flush();
      co_await expect_all_reads(snapshot, model);
    }
    co_await expect_all_reads(db, model);
    co_await db.compact();
    co_await expect_all_reads(db, model);
    co_await expect_clean(db);
    const auto target = std::make_shared<MemDisk>();
    co_await db.backup(device_on(target));
    co_await db.close();
    auto copy = co_await open_on(target);
    co_await expect_all_reads(copy, model);
    co_await copy.close();
    auto loaded = co_await Partition::create(device_on(std::make_shared<MemDisk>()), small_config());
    co_await test::load_model(loaded, model);
    co_await expect_all_reads(loaded, model);
    co_await expect_clean(loaded);
    co_await loaded.close();
  });
}

TEST(Borders, OfRangesThatAreErased) {
  on_core(kArena, [&]() -> monterey::Task<> {
    const Model all = borders();
    std::vector<std::pair<std::string, std::optional<std::string>>> ranges;
    for (const std::string& from :
         {std::string(), std::string(1, '\0'), std::string("a"), std::string(1024, 'a'), std::string(1024, '\xff')}) {
      ranges.emplace_back(from, std::nullopt);
      for (const std::string& to :
           {std::string(), std::string(1, '\0'), std::string("a"), std::string(1024, 'a'), std::string(1024, '\xff')}) {
        ranges.emplace_back(from, to);
      }
    }
    for (const auto& [from, to] : ranges) {
      const auto disk = std::make_shared<MemDisk>();
      Model model = all;
      auto db = std::optional<Partition>(co_await Partition::create(device_on(disk), test::logged_config()));
      co_await test::load_model(*db, model);
      co_await db->put("in the buffer", model["in the buffer"] = "x");
      const Snapshot before = db->snapshot();
      const Model was = model;
      co_await db->erase_range(from, to);
      std::erase_if(model, [&](const auto& entry) { return entry.first >= from && (!to || entry.first < *to); });
      co_await expect_prefixes(*db, model);
      co_await expect_range(before, was, "", std::nullopt);
      co_await db->sync();
      const DiskPtr crashed = disk->copy();
      co_await db->flush();
      co_await db->compact();
      co_await expect_range(*db, model, "", std::nullopt);
      co_await expect_range(before, was, "", std::nullopt);
      co_await expect_clean(*db);
      co_await db->close();
      for (const DiskPtr& found : {disk, crashed}) {
        auto again = co_await Partition::open(device_on(found), test::logged_config());
        co_await expect_holds(again, model);
        co_await again.close();
      }
    }
  });
}

// However little room there is, to call it until it has finished ends.
TEST(CompactOfAFullDevice, Ends) {
  for (const bool with_erases : {false, true}) {
    on_core(kArena, [&]() -> monterey::Task<> {
      const auto disk = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 600, .capacity_blocks = 600});
      auto db = co_await Partition::create(device_on(disk), small_config());
      Model model;
      bool full = false;
      for (int i = 0; !full; ++i) {
        const std::string value(static_cast<std::size_t>(i % 7 == 0 ? 9'000 : 300), 'v');
        try {
          co_await db.put(numbered("key", i), value);
          model[numbered("key", i)] = value;
        } catch (const Error& error) {
          EXPECT_EQ(error.errc(), Errc::no_space);
          full = true;
        }
      }
      for (int i = 0; with_erases && i < 1'000; i += 3) {
        co_await db.erase(numbered("key", i));
        model.erase(numbered("key", i));
      }
      CompactReport report;
      int calls = 0;
      for (; calls < 20 && !report.finished; ++calls) report = co_await db.compact();
      EXPECT_TRUE(report.finished) << "after " << calls << " calls";
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      co_await db.close();
    });
  }
}

monterey::Task<> put_until_full(Partition* db, Model* model, int* accepted, bool* stop) {
  for (int i = 0; !*stop; ++i) {
    const std::string key = numbered("new", i * 7919 % 100'000);
    const std::string value(60'000, 'n');  // whose blocks are counted exactly
    try {
      co_await db->put(key, value);
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::no_space) << error.what();
      co_return;
    }
    (*model)[key] = value;
    ++*accepted;
  }
}

// A compaction takes free blocks and gives those back that it leaves, unless a snapshot holds them. What is accepted while a part of it
// runs must find its blocks all the same.
monterey::Task<> expect_accepted_writes_fit() {
  const auto disk = std::make_shared<MemDisk>();
  PartitionConfig config = small_config();
  config.write_buffer_bytes = 32u << 20;
  auto db = co_await Partition::create(device_on(disk), config);
  Model model;
  const auto key = [](int i) { return numbered("key", i) + std::string(1'000, 'k'); };  // three or four in a leaf
  const std::string value(400'000, 'v');
  for (int i = 0; i < 60; ++i) co_await db.put(key(i), model[key(i)] = value);
  co_await db.flush();
  disk->set_capacity_blocks(db.stats().device_blocks);
  for (int i = 0; i < 30; ++i) {
    if (i % 5 == 0) continue;
    co_await db.erase(key(i));
    model.erase(key(i));
  }
  co_await db.flush();
  auto snapshot = std::optional<Snapshot>(db.snapshot());
  for (std::size_t nth = 0; nth < 40; ++nth) {
    int writes = 0;
    bool holding = true;
    disk->complete_by([&](const test::Operation& operation) {
      const bool held = holding && operation.op == test::DeviceOp::write && ++writes > static_cast<int>(nth);
      return held ? MemDisk::Completion::held : MemDisk::Completion::at_once;
    });
    auto compacting = monterey::spawn(db.compact({.max_bytes_moved = 4u << 20}));
    while (disk->held() == 0 && !compacting.ended()) co_await monterey::yield();
    if (disk->held() == 0) {
      EXPECT_GT(nth, 2u);
      co_await std::move(compacting);
      break;
    }
    bool stop = false;
    int accepted = 0;
    auto writing = monterey::spawn(put_until_full(&db, &model, &accepted, &stop));
    for (int turn = 0; turn < 3'000; ++turn) co_await monterey::yield();
    stop = true;
    holding = false;
    disk->complete_by(nullptr);
    disk->release_all();
    try {
      static_cast<void>(co_await std::move(compacting));
    } catch (const Error& error) {
      ADD_FAILURE() << "compact, write " << nth << ", " << accepted << " accepted: " << error.what();
    }
    co_await std::move(writing);
    try {
      co_await db.flush();
    } catch (const Error& error) {
      ADD_FAILURE() << "flush, write " << nth << ", " << accepted << " accepted: " << error.what();
    }
    if (testing::Test::HasFailure()) break;
    snapshot.reset();
    co_await db.erase_range("new");
    model.erase(model.lower_bound("new"), model.end());
    co_await db.flush();
    snapshot.emplace(db.snapshot());
  }
  snapshot.reset();
  co_await expect_holds(db, model);
  co_await expect_clean(db);
  co_await db.close();
}

TEST(CompactOfAFullDevice, LeavesRoomForWhatIsAcceptedMeanwhile) {
  on_core(kArena, [&]() -> monterey::Task<> { co_await expect_accepted_writes_fit(); });
}

monterey::Task<> compact_until_closed(Partition* db, std::uint64_t* calls) {
  for (bool closed = false; !closed; ++*calls) {
    try {
      static_cast<void>(co_await db->compact({.max_bytes_moved = 40'000}));
    } catch (const Error& error) {
      EXPECT_EQ(error.errc(), Errc::closed) << error.what();
      closed = true;
    }
    co_await monterey::yield();
  }
}

monterey::Task<> erase_and_put(Partition* db, int task, Model* model, bool* stop) {
  for (int round = 0; !*stop; ++round) {
    const std::string prefix = fmt::format("task{}/", task);
    for (int i = 0; i < 60; ++i) {
      const std::string key = prefix + numbered("key", i);
      const std::string value(static_cast<std::size_t>(i % 9 == 0 ? 3'000 + 9'000 * (round % 9) : 200),
                              static_cast<char>('a' + round % 26));
      co_await db->put(key, value);
      (*model)[key] = value;
    }
    const Snapshot snapshot = db->snapshot();
    const Model was(model->lower_bound(prefix), model->lower_bound(prefix + "\x7f"));
    const std::string from = prefix + numbered("key", 10 + round % 20);
    const std::string to = prefix + numbered("key", 40);
    co_await db->erase_range(from, to);
    model->erase(model->lower_bound(from), model->lower_bound(to));
    if (round % 3 == 0) co_await db->flush();
    std::size_t seen = 0;
    auto scan = co_await snapshot.scan_prefix(prefix);
    for (auto at = was.begin(); co_await scan.advance(); ++at, ++seen) {
      EXPECT_TRUE(at != was.end() && scan.key() == at->first && scan.value() == at->second);
      if (testing::Test::HasFailure()) co_return;
    }
    EXPECT_EQ(seen, was.size());
  }
}

// Ranges, snapshots, scans and values in runs beside a compaction that never ends, until the partition is closed under it.
TEST(Compact, BesideRangesAndSnapshotsAndClosedUnderIt) {
  for (const WalMode mode : {WalMode::none, WalMode::batched, WalMode::per_op}) {
    on_core(kArena, [&]() -> monterey::Task<> {
      const auto disk = std::make_shared<MemDisk>();
      disk->complete(MemDisk::Completion::yield);
      PartitionConfig config = test::logged_config(mode);
      Model model;
      {
        auto db = co_await Partition::create(device_on(disk), config);
        bool stop = false;
        std::uint64_t calls = 0;
        std::array<Model, 3> models;
        auto compacting = monterey::spawn(compact_until_closed(&db, &calls));
        std::vector<monterey::JoinHandle<>> writers;
        for (int task = 0; task < 3; ++task) {
          writers.push_back(monterey::spawn(erase_and_put(&db, task, &models[static_cast<std::size_t>(task)], &stop)));
        }
        while (calls < 30 && !testing::Test::HasFailure()) co_await monterey::yield();
        stop = true;
        for (auto& writer : writers) co_await std::move(writer);
        for (const Model& one : models) model.insert(one.begin(), one.end());
        co_await expect_clean(db);
        const std::uint64_t at = calls;
        while (calls == at) co_await monterey::yield();
        co_await db.close();
        co_await std::move(compacting);
      }
      auto again = co_await Partition::open(device_on(disk), config);
      EXPECT_EQ(again.stats().replayed_records, 0u);
      co_await expect_holds(again, model);
      co_await expect_clean(again);
      co_await again.close();
    });
  }
}

}  // namespace
}  // namespace store
