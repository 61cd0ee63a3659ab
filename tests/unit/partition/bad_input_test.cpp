// What a caller can get wrong: a device that holds something else, arguments beyond the limits, a configuration that cannot
// work, a store that is open elsewhere or may only be read, and handles used after their end. Each is refused with its own
// code, a text that says what to do, and nothing changed.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include <fstream>
#include <random>
#include <sstream>

#include "support/child_process.hpp"
#include "support/temp_dir.hpp"
#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::ChildProcess;
using test::device_on;
using test::expect_clean;
using test::expect_error;
using test::expect_holds;
using test::expect_words;
using test::fill;
using test::MemBlockDevice;
using test::MemDisk;
using test::Model;
using test::numbered;
using test::on_core;
using test::open_on;
using test::small_config;
using test::TempDir;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 4u << 20;

monterey::Task<> open_and_close(DiskPtr disk, OpenOptions options = {}) {
  auto db = co_await open_on(disk, options);
  co_await db.close();
}
monterey::Task<> create_and_close(DiskPtr disk, CreateOptions options = {}) {
  auto db = co_await Partition::create(device_on(disk), small_config(), options);
  co_await db.close();
}
monterey::Task<> open_or_create_and_close(DiskPtr disk) {
  auto db = co_await Partition::open_or_create(device_on(disk), small_config());
  co_await db.close();
}
monterey::Task<> make_store(DiskPtr disk, Model& model) {
  auto db = co_await Partition::create(device_on(disk), small_config());
  co_await fill(db, model, 0, 300);
  co_await db.close();
}

// --- what is on the device ---

TEST(BadDevice, SomethingElseIsNotAStoreAndStaysAsItIs) {
  auto disk = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 16});
  std::mt19937_64 random(20240501);
  for (std::uint32_t page = 0; page < 16; ++page) {
    for (std::byte& byte : disk->block(PageNo(page))) byte = static_cast<std::byte>(random());
  }
  on_core(kArena, [&]() -> monterey::Task<> {
    const std::string before = test::image(*disk);
    co_await expect_error(open_and_close(disk), Errc::not_a_store, "memory|not a store|check the path");
    co_await expect_error(open_or_create_and_close(disk), Errc::not_a_store, "memory|not a store|check the path");
    co_await expect_error(create_and_close(disk), Errc::not_a_store, "memory|not a store|overwrite");
    EXPECT_TRUE(test::image(*disk) == before);
    co_await create_and_close(disk, CreateOptions{.overwrite = true});
    co_await open_and_close(disk);
  });
}

TEST(BadDevice, AnEmptyDeviceIsCreatedAndNotOpened) {
  auto disk = std::make_shared<MemDisk>();
  auto zeros = std::make_shared<MemDisk>(MemDisk::Options{.size_blocks = 64});
  on_core(kArena, [&]() -> monterey::Task<> {
    co_await expect_error(open_and_close(disk), Errc::not_a_store, "memory|empty|create");
    co_await expect_error(open_and_close(zeros), Errc::not_a_store, "memory|empty|create");
    EXPECT_EQ(disk->size_blocks(), 0u);
    co_await create_and_close(disk);
    co_await open_and_close(disk);
    co_await open_or_create_and_close(zeros);
    co_await open_and_close(zeros);
  });
}

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

monterey::Task<> open_file(std::string path, FileBlockDeviceOptions options, OpenOptions open_options = {}) {
  auto device = co_await FileBlockDevice::open(path, options);
  auto db = co_await Partition::open(std::move(device), small_config(), open_options);
  co_await db.close();
}
monterey::Task<> create_in_file(std::string path) {
  auto device = co_await FileBlockDevice::open(path);
  auto db = co_await Partition::create(std::move(device), small_config());
  co_await db.put("hello", "world");
  co_await db.close();
}
monterey::Task<> open_or_create_in_file(std::string path) {
  auto device = co_await FileBlockDevice::open(path);
  auto db = co_await Partition::open_or_create(std::move(device), small_config());
  co_await db.close();
}

// A text is somebody's, also when it is shorter than a block.
TEST(BadDevice, ATextFileIsNotAStoreAndStaysAsItIs) {
  const TempDir directory;
  on_core(kArena, [&]() -> monterey::Task<> {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{4096}, std::size_t{30'001}}) {
      const std::string path = directory.file(fmt::format("notes{}.txt", bytes));
      const std::string text(bytes, 't');
      std::ofstream(path) << text;
      co_await expect_error(open_file(path, {}), Errc::not_a_store, path + "|not a store");
      co_await expect_error(open_or_create_in_file(path), Errc::not_a_store, path + "|not a store");
      co_await expect_error(create_in_file(path), Errc::not_a_store, path + "|not a store");
      EXPECT_TRUE(read_file(path) == text) << bytes << " bytes";
    }
    const std::string missing = directory.file("missing");
    const FileBlockDeviceOptions existing{.create = false};
    co_await expect_error(open_file(missing, existing), Errc::not_found, missing);
  });
}

TEST(BadDevice, ANewerFormatIsRefusedAndKept) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::string good = test::image(*disk);
    const std::uint32_t slot = test::newest_slot(*disk);
    for (const std::size_t offset :
         {offsetof(layout::MetaPage, format_version), offsetof(layout::MetaPage, features)}) {
      for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
        disk->block(meta_block(slot, copy))[offset] = std::byte{2};
        test::repair_crc(*disk, meta_block(slot, copy));
      }
      const bool is_version = offset == offsetof(layout::MetaPage, format_version);
      const std::string words = std::string(is_version ? "format version 2" : "features") + "|memory|newer version";
      const std::string before = test::image(*disk);
      co_await expect_error(open_and_close(disk), Errc::unsupported_format, words);
      co_await expect_error(open_and_close(disk, OpenOptions{.allow_rollback = true}), Errc::unsupported_format, words);
      co_await expect_error(open_or_create_and_close(disk), Errc::unsupported_format, words);
      co_await expect_error(create_and_close(disk), Errc::already_exists, "memory|store already|overwrite");
      EXPECT_TRUE(test::image(*disk) == before);
      for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
        std::memcpy(disk->block(meta_block(slot, copy)).data(), good.data() + meta_block(slot, copy).value * kPageBytes,
                    kPageBytes);
      }
    }
    auto db = co_await open_on(disk);
    co_await expect_holds(db, model);
    co_await db.close();
  });
}

TEST(BadDevice, ATruncatedStoreIsRefused) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::uint64_t used = test::newest_meta(*disk).high_water;
    auto barely = disk->copy();
    barely->set_size_blocks(used);
    co_await open_and_close(barely);
    for (const std::uint64_t blocks : {used - 1, used / 2, std::uint64_t{4}}) {
      auto cut = disk->copy();
      cut->set_size_blocks(blocks);
      const std::string before = test::image(*cut);
      const std::string words = fmt::format("memory|truncated|{} blocks|{}|restore", blocks, used);
      co_await expect_error(open_and_close(cut), Errc::corruption, words);
      co_await expect_error(create_and_close(cut), Errc::already_exists, "memory|overwrite");
      EXPECT_TRUE(test::image(*cut) == before);
    }
    // Whatever is left of the meta pages alone, it is never taken for an empty device.
    for (const std::uint64_t blocks : {1u, 2u, 3u}) {
      auto cut = disk->copy();
      cut->set_size_blocks(blocks);
      co_await expect_error(open_or_create_and_close(cut), Errc::corruption, "memory|restore");
    }
  });
}

TEST(BadDevice, CreateOnAStoreRefusesUnlessTold) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::string before = test::image(*disk);
    co_await expect_error(create_and_close(disk), Errc::already_exists, "memory|holds a store|open it|overwrite");
    EXPECT_TRUE(test::image(*disk) == before);
    auto reading = test::discard(Partition::create(device_on(disk, MemBlockDevice::Access::read_only), small_config(),
                                                   CreateOptions{.overwrite = true}));
    co_await expect_error(std::move(reading), Errc::read_only, "memory|reading only");
    EXPECT_TRUE(test::image(*disk) == before);
    co_await create_and_close(disk, CreateOptions{.overwrite = true});
    auto db = co_await open_on(disk);
    const Model none;
    co_await expect_holds(db, none);
    co_await expect_clean(db);
    co_await db.close();
  });
}

// --- arguments ---

TEST(BadArgument, KeysHave1To1024Bytes) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    auto db = co_await Partition::create(device_on(disk), small_config());
    for (char c = 'a'; c <= 'z'; ++c) {
      const std::string longest(1024, c);
      model[longest] = "longest";
      co_await db.put(longest, "longest");
      model[std::string(1, c)] = "shortest";
      co_await db.put(std::string(1, c), "shortest");
    }
    co_await db.flush();
    co_await expect_holds(db, model);
    const auto writes = db.stats().puts;
    for (const std::size_t bytes : {0u, 1025u, 100'000u}) {
      const std::string key(bytes, 'k');
      const std::string words = fmt::format("key of {} bytes|1 to 1024", bytes);
      co_await expect_error(test::get(db, key), Errc::invalid_argument, words);
      co_await expect_error(test::contains(db, key), Errc::invalid_argument, words);
      co_await expect_error(test::get_pinned(db, key), Errc::invalid_argument, words);
      co_await expect_error(test::get_many(db, key), Errc::invalid_argument, words);
      co_await expect_error(test::put(db, key, "value"), Errc::invalid_argument, words);
      co_await expect_error(test::erase(db, key), Errc::invalid_argument, words);
      co_await expect_error(test::compare_and_put(db, key, std::nullopt, "v"), Errc::invalid_argument, words);
      co_await expect_error(test::write_one(db, key, "value"), Errc::invalid_argument, words);
      // The batch is as it was before.
      WriteBatch batch;
      batch.put("a", "1");
      const std::size_t bytes_before = batch.bytes();
      EXPECT_THROW(batch.put(key, "value"), Error);
      EXPECT_THROW(batch.erase(key), Error);
      EXPECT_THROW(batch.expect(key, std::nullopt), Error);
      EXPECT_EQ(batch.size(), 1u);
      EXPECT_EQ(batch.bytes(), bytes_before);
      // A bound of a range may be anything.
      auto scan = co_await db.scan(key, std::string(5'000, '\xff'));
      const bool found = co_await scan.advance();
      EXPECT_TRUE(found);
      auto prefix = co_await db.scan_prefix(key);
      const bool found_prefix = co_await prefix.advance();
      EXPECT_EQ(found_prefix, key.empty());
    }
    EXPECT_EQ(db.stats().puts, writes);
    co_await expect_holds(db, model);
    co_await db.close();
  });
}

TEST(BadArgument, TooLongValuesAreRefusedBeforeTheyAreTouched) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    const test::Untouchable memory((std::size_t{1} << 30) + 1);
    const std::string_view too_long = memory.view();
    auto db = co_await Partition::create(device_on(disk), small_config());
    co_await db.put("key", "value");
    const std::string words = "value of 1073741825 bytes|at most 1073741824";
    co_await expect_error(test::put(db, "key", too_long), Errc::invalid_argument, words);
    co_await expect_error(test::compare_and_put(db, "key", "value", too_long), Errc::invalid_argument, words);
    co_await expect_error(test::compare_and_put(db, "key", too_long, "other"), Errc::invalid_argument, words);
    WriteBatch batch;
    batch.put("small", "1");
    const std::size_t bytes = batch.bytes();
    const auto refuse = [&](const char* expected, auto add) {
      try {
        add();
        ADD_FAILURE() << "not refused: " << expected;
      } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::invalid_argument);
        expect_words(error.what(), expected);
      }
      EXPECT_EQ(batch.size(), 1u);
      EXPECT_EQ(batch.bytes(), bytes);
    };
    refuse(words.c_str(), [&] { batch.put("key", too_long); });
    refuse(words.c_str(), [&] { batch.expect("key", too_long); });
    // A value within its limit that the batch has no room for.
    const std::string_view longest = too_long.substr(1);
    refuse("batch of 1073741833 bytes|at most 1073741824|in parts", [&] { batch.put("key", longest); });
    refuse("batch of|at most 1073741824", [&] { batch.expect("key", longest); });
    co_await db.write(std::move(batch));
    const auto value = co_await db.get("key");
    EXPECT_EQ(value, "value");
    EXPECT_EQ(db.stats().puts, 2u);
    co_await db.close();
  });
}

// --- the configuration ---

TEST(BadConfig, EachLimitIsNamed) {
  auto disk = std::make_shared<MemDisk>();
  struct Case {
    PartitionConfig config;
    const char* words;
  };
  std::vector<Case> cases(9, Case{small_config(), ""});
  cases[0].config.cache_pages = 0;
  cases[0].words = "cache_pages is 0|at least 8";
  cases[1].config.cache_pages = 7;
  cases[1].words = "cache_pages is 7|at least 8";
  cases[2].config.write_buffer_bytes = 100;
  cases[2].words = "write_buffer_bytes is 100|16384";
  cases[3].config.write_buffer_count = 1;
  cases[3].words = "write_buffer_count is 1|at least 2";
  cases[4].config.io_depth = 0;
  cases[4].words = "io_depth is 0|1024";
  cases[5].config.io_depth = 1025;
  cases[5].words = "io_depth is 1025|1024";
  cases[6].config.wal_batch_interval = std::chrono::microseconds(-1);
  cases[6].words = "wal_batch_interval is -1 us|0 to an hour";
  cases[7].config.wal_batch_interval = std::chrono::hours(2);
  cases[7].words = "wal_batch_interval is 7200000000 us|0 to an hour";
  cases[8].config.write_buffer_bytes = std::size_t{1} << 50;
  cases[8].words = "write_buffer_bytes is 1125899906842624";
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::string before = test::image(*disk);
    for (const Case& at : cases) {
      auto open = test::discard(Partition::open(device_on(disk), at.config));
      co_await expect_error(std::move(open), Errc::invalid_argument, at.words);
      auto create = test::discard(Partition::create(device_on(disk), at.config, CreateOptions{.overwrite = true}));
      co_await expect_error(std::move(create), Errc::invalid_argument, at.words);
      auto either = test::discard(Partition::open_or_create(device_on(disk), at.config));
      co_await expect_error(std::move(either), Errc::invalid_argument, at.words);
    }
    EXPECT_TRUE(test::image(*disk) == before);
    PartitionConfig least = small_config();
    least.cache_pages = 8;
    least.write_buffer_bytes = 16u << 10;
    least.io_depth = 2;
    auto db = co_await Partition::open(device_on(disk), least);
    co_await fill(db, model, 200, 700);
    co_await db.flush();
    co_await expect_holds(db, model);
    co_await expect_clean(db);
    co_await db.close();
  });
}

TEST(BadConfig, ABufferArenaThatIsTooSmallNamesTheRemedy) {
  auto disk = std::make_shared<MemDisk>();
  on_core(1u << 20, [&]() -> monterey::Task<> {
    PartitionConfig large = small_config();
    large.cache_pages = 4'096;
    auto create = test::discard(Partition::create(device_on(disk), large));
    co_await expect_error(std::move(create), Errc::invalid_argument, "buffer arena|config.buffer_config()");
    EXPECT_EQ(disk->size_blocks(), 0u);
  });
}

TEST(BadConfig, MoreMemoryThanThereIsIsRefused) {
  try {
    on_core(std::size_t{1} << 50, []() -> monterey::Task<> {
      ADD_FAILURE() << "a core started";
      co_return;
    });
    ADD_FAILURE() << "an arena of 1 PiB was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::invalid_argument);
    expect_words(error.what(), "buffer arena|1125899906842624|available|smaller cache");
  }
}

// --- who else has it open, and who may write ---

TEST(OpenTwice, IsLockedInThisProcessAndInOthers) {
  const TempDir directory;
  const std::string path = directory.file("db");
  ChildProcess holder([&](ChildProcess& parent) {
    on_core(kArena, [&]() -> monterey::Task<> {
      auto device = co_await FileBlockDevice::open(path);
      auto db = co_await Partition::create(std::move(device), small_config());
      co_await db.put("hello", "world");
      co_await db.flush();
      co_await expect_error(open_file(path, {}), Errc::locked, path + "|already open in this process");
      parent.tell_peer();
      EXPECT_TRUE(parent.await_peer());
      const auto value = co_await db.get("hello");
      EXPECT_EQ(value, "world");
      co_await db.close();
    });
    return 0;
  });
  ASSERT_TRUE(holder.await_peer());
  on_core(kArena, [&]() -> monterey::Task<> {
    co_await expect_error(open_file(path, {}), Errc::locked, path + "|another process|close it");
  });
  holder.tell_peer();
  EXPECT_EQ(holder.wait(), 0);
  on_core(kArena, [&]() -> monterey::Task<> { co_await open_file(path, {}); });
}

TEST(ReadOnly, AFileThatMayOnlyBeReadIsOpenedForReading) {
  const TempDir directory;
  const std::string path = directory.file("db");
  ChildProcess user([&](ChildProcess&) {
    if (::chown(directory.path().c_str(), 65534, 65534) != 0 && ::geteuid() == 0) return ChildProcess::kSkip;
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return ChildProcess::kSkip;
    on_core(kArena, [&]() -> monterey::Task<> {
      co_await create_in_file(path);
      EXPECT_EQ(::chmod(path.c_str(), 0400), 0);
      const std::string before = read_file(path);
      co_await expect_error(open_file(path, {}), Errc::read_only, path + "|read-only|permissions");
      auto device = co_await FileBlockDevice::open(path, {.read_only = true});
      auto db = co_await Partition::open(std::move(device), small_config());
      const auto value = co_await db.get("hello");
      EXPECT_EQ(value, "world");
      co_await expect_error(test::put(db, "key", "value"), Errc::read_only, path + "|reading only");
      co_await db.close();
      EXPECT_TRUE(read_file(path) == before);
    });
    return 0;
  });
  const int status = user.wait();
  if (status == ChildProcess::kSkip) GTEST_SKIP() << "cannot become an ordinary user";
  EXPECT_EQ(status, 0);
}

TEST(ReadOnly, ReadsWorkAndEveryWriteIsRefused) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::string before = test::image(*disk);
    for (const auto access : {MemBlockDevice::Access::read_write, MemBlockDevice::Access::read_only}) {
      OpenOptions options;
      options.read_only = access == MemBlockDevice::Access::read_write;
      auto db = co_await Partition::open(device_on(disk, access), small_config(), options);
      const std::string words = "memory|opened for reading";
      co_await expect_error(test::put(db, "key", "value"), Errc::read_only, words);
      co_await expect_error(test::put(db, "key", std::string(100'000, 'v')), Errc::read_only, words);
      co_await expect_error(test::erase(db, "key000000"), Errc::read_only, words);
      co_await expect_error(test::write_one(db, "key", "value"), Errc::read_only, words);
      co_await expect_error(test::compare_and_put(db, "key", std::nullopt, "value"), Errc::read_only, words);
      co_await expect_error(db.flush(), Errc::read_only, words);
      co_await expect_error(db.sync(), Errc::read_only, words);
      co_await expect_holds(db, model);
      co_await expect_clean(db);
      co_await db.close();
    }
    EXPECT_TRUE(test::image(*disk) == before);
  });
}

// --- handles after their end ---

monterey::Task<> expect_all_closed(Partition& db, std::string words) {
  co_await expect_error(test::get(db, "key000000"), Errc::closed, words);
  co_await expect_error(test::contains(db, "key000000"), Errc::closed, words);
  co_await expect_error(test::get_pinned(db, "key000000"), Errc::closed, words);
  co_await expect_error(test::get_many(db, "key000000"), Errc::closed, words);
  co_await expect_error(test::put(db, "key", "value"), Errc::closed, words);
  co_await expect_error(test::erase(db, "key"), Errc::closed, words);
  co_await expect_error(test::compare_and_put(db, "key", std::nullopt, "value"), Errc::closed, words);
  co_await expect_error(test::write_one(db, "key", "value"), Errc::closed, words);
  co_await expect_error(test::scan_all(db), Errc::closed, words);
  const auto task_of = [&db](int verb) -> monterey::Task<> {
    switch (verb) {
      case 0: co_await db.flush(); break;
      case 1: co_await db.sync(); break;
      case 2: static_cast<void>(co_await db.check()); break;
      case 3: static_cast<void>(db.stats()); break;
      case 4: static_cast<void>(co_await db.scan_prefix("key")); break;
      default: co_await db.close();
    }
  };
  for (int verb = 0; verb < 6; ++verb) co_await expect_error(task_of(verb), Errc::closed, words);
}

TEST(AfterClose, EverythingIsRefused) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    auto db = co_await open_on(disk);
    co_await db.put("key000000", "new");
    model["key000000"] = "new";
    auto scan = co_await db.scan("");
    bool more = co_await scan.advance();
    EXPECT_TRUE(more);
    auto unread = co_await db.scan("", unbounded, ScanOptions{.reverse = true});
    auto pinned = co_await db.get_pinned("key000100");
    co_await db.close();
    co_await expect_all_closed(db, "closed|open it again");
    for (Scan* each : {&scan, &unread}) {
      co_await expect_error(test::advance(*each), Errc::closed, "closed|open it again");
      co_await expect_error(each->seek("key000001"), Errc::closed, "closed|open it again");
    }
    EXPECT_TRUE(pinned && pinned->view() == model["key000100"]);
    // What close() flushed is there, and the device is free for the next.
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    Partition moved = std::move(again);
    co_await expect_all_closed(again, "empty|moved from");
    co_await expect_holds(moved, model);
    co_await moved.close();
    // A scan that is destroyed behind everything else: at the end of this block.
  });
}

TEST(AfterClose, AScanThatWasMovedFromIsClosed) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    auto db = co_await open_on(disk);
    auto scan = co_await db.scan("");
    Scan moved = std::move(scan);
    const auto advance = [](Scan& from) -> monterey::Task<> { static_cast<void>(co_await from.advance()); };
    co_await expect_error(advance(scan), Errc::closed, "scan|moved from");
    co_await expect_error([](Scan& from) -> monterey::Task<> { co_await from.seek("a"); }(scan), Errc::closed,
                          "scan|moved from");
    const bool more = co_await moved.advance();
    EXPECT_TRUE(more);
    co_await db.close();
  });
}

TEST(AfterClose, MemoryAndDeviceDoNotWaitForTheHandle) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::size_t free_bytes = monterey::FixedBufs::current().free_bytes();
    auto db = co_await open_on(disk);
    std::optional<Scan> scan(co_await db.scan(""));
    const bool more = co_await scan->advance();
    EXPECT_TRUE(more);
    auto pinned = co_await db.get_pinned("key000100");
    co_await db.close();
    EXPECT_EQ(disk.use_count(), 1);
    // The scan's page and the value's are pinned, and the frames go together.
    EXPECT_GE(monterey::FixedBufs::current().free_bytes() + small_config().cache_pages * kPageBytes, free_bytes);
    EXPECT_TRUE(pinned && pinned->view() == model["key000100"]);
    pinned.reset();
    scan.reset();
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), free_bytes);
  });
}

// The tasks that the verbs return may be kept, started late, or never.
TEST(AfterDrop, ATaskThatWasNeverStartedDoesNothingAndKeepsWhatItNeeds) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::size_t free_bytes = monterey::FixedBufs::current().free_bytes();
    std::optional<Partition> db(co_await open_on(disk));
    const std::uint64_t generation = db->stats().generation;
    WriteBatch batch;
    batch.put("never", "written");
    {
      const monterey::Task<> write = db->write(std::move(batch));
      const monterey::Task<Scan> scan = db->scan("");
      const monterey::Task<Scan> prefix = db->scan_prefix("key");
      const monterey::Task<> flush = db->flush();
      const monterey::Task<> sync = db->sync();
      const monterey::Task<CheckReport> check = db->check();
      const monterey::Task<> close = db->close();
    }
    EXPECT_EQ(db->stats().generation, generation);
    co_await expect_holds(*db, model);
    batch.clear();
    batch.put("late", "written");
    std::optional<monterey::Task<>> write(db->write(std::move(batch)));
    std::optional<monterey::Task<Scan>> scan(db->scan("key000000", "key000002"));
    monterey::Task<> flush = db->flush();
    std::optional<monterey::Task<CheckReport>> never(db->check());
    db.reset();  // they are all that is left of it
    co_await std::move(*write);
    write.reset();
    co_await std::move(flush);
    model["late"] = "written";
    {
      Scan started = co_await std::move(*scan);
      scan.reset();
      std::size_t entries = 0;
      while (co_await started.advance()) ++entries;
      EXPECT_EQ(entries, 2u);
    }
    EXPECT_LT(monterey::FixedBufs::current().free_bytes(), free_bytes);
    never.reset();
    for (int turn = 0; turn < 100 && disk.use_count() != 1; ++turn) co_await monterey::yield();
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), free_bytes);
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await expect_clean(again);
    co_await again.close();
  });
}

TEST(AfterDrop, ReadAheadKeepsTheDeviceUntilItHasEnded) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    const std::size_t free_bytes = monterey::FixedBufs::current().free_bytes();
    std::optional<Partition> db(co_await open_on(disk));
    std::optional<Scan> scan(co_await db->scan(""));
    disk->complete_by([](const test::Operation& operation) {
      return operation.io_class == monterey::IoClass::background ? MemDisk::Completion::held
                                                                 : MemDisk::Completion::at_once;
    });
    bool more = true;
    while (more && disk->held() == 0) more = co_await scan->advance();
    EXPECT_TRUE(more) << "nothing was read ahead";
    scan.reset();
    db.reset();
    EXPECT_EQ(disk.use_count(), 2 + static_cast<long>(disk->held())) << "the device, and its reads";
    disk->complete_by(nullptr);
    disk->release_all();
    for (int turn = 0; turn < 100 && disk.use_count() != 1; ++turn) co_await monterey::yield();
    EXPECT_EQ(disk.use_count(), 1);
    EXPECT_EQ(monterey::FixedBufs::current().free_bytes(), free_bytes);
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await again.close();
  });
}

TEST(AfterDrop, WhatLivesOnKeepsWhatItNeeds) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model);
    std::optional<Partition> db(co_await open_on(disk));
    co_await db->put("key000000", "new");
    model["key000000"] = "new";
    std::optional<Scan> scan(co_await db->scan(""));
    bool more = co_await scan->advance();
    EXPECT_TRUE(more);
    auto pinned = co_await db->get_pinned("key000100");
    // The flush is held at its first write when the handle goes.
    disk->complete_by([](const test::Operation& operation) {
      return operation.op == test::DeviceOp::write ? MemDisk::Completion::held : MemDisk::Completion::at_once;
    });
    auto flush = monterey::spawn(db->flush());
    while (disk->held() == 0) co_await monterey::yield();
    db.reset();
    EXPECT_TRUE(pinned && pinned->view() == model["key000100"]);
    Model seen;
    while (more) {
      seen.emplace(scan->key(), scan->value());
      more = co_await scan->advance();
    }
    EXPECT_TRUE(seen == model);
    disk->complete_by(nullptr);
    disk->release_all();
    co_await std::move(flush);
    EXPECT_TRUE(pinned->view() == model["key000100"]);
    scan.reset();
    auto again = co_await open_on(disk);
    co_await expect_holds(again, model);
    co_await expect_clean(again);
    co_await again.close();
    EXPECT_TRUE(pinned->view() == model["key000100"]);
    pinned.reset();
  });
}

}  // namespace
}  // namespace store
