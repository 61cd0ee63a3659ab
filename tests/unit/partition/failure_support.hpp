// What the tests of failures share: a small partition on a MemDisk, the model of what it must hold, where its pages lie on
// the disk, and expectations about an error's text.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <monterey/monterey.hpp>
#include <source_location>
#include <stdexcept>
#include <store/partition.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/base/crc32c.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "support/mem_block_device.hpp"
#include "support/on_core.hpp"

namespace store::test {

using Model = std::map<std::string, std::string>;

inline PartitionConfig small_config() {
  return {.cache_pages = 64, .wal_mode = WalMode::none, .write_buffer_bytes = 64u << 10, .io_depth = 16};
}

inline std::string numbered(const char* prefix, int i) {
  char text[32];
  std::snprintf(text, sizeof text, "%s%06d", prefix, i);
  return text;
}

inline std::unique_ptr<BlockDevice> device_on(const std::shared_ptr<MemDisk>& disk,
                                              MemBlockDevice::Access access = MemBlockDevice::Access::read_write) {
  return std::make_unique<MemBlockDevice>(disk, access);
}

inline monterey::Task<Partition> open_on(std::shared_ptr<MemDisk> disk, OpenOptions options = {}) {
  return Partition::open(device_on(disk), small_config(), options);
}

// The verbs as tasks, to hand to error_of(); those that read of a partition or a snapshot.
template <class Db>
monterey::Task<> get(const Db& db, std::string_view key) {
  static_cast<void>(co_await db.get(key));
}
template <class Db>
monterey::Task<> contains(const Db& db, std::string_view key) {
  static_cast<void>(co_await db.contains(key));
}
template <class Db>
monterey::Task<> get_pinned(const Db& db, std::string_view key) {
  static_cast<void>(co_await db.get_pinned(key));
}
template <class Db>
monterey::Task<> get_into(const Db& db, std::string_view key) {
  std::byte into[100];
  static_cast<void>(co_await db.get_into(key, into));
}
template <class Db>
monterey::Task<> get_many(const Db& db, std::string_view key) {
  const std::string_view keys[] = {"key000000", key};
  static_cast<void>(co_await db.get_many(keys));
}
inline monterey::Task<> put(Partition& db, std::string_view key, std::string_view value) {
  co_await db.put(key, value);
}
inline monterey::Task<> erase(Partition& db, std::string_view key) { co_await db.erase(key); }
inline monterey::Task<> compare_and_put(Partition& db, std::string_view key, std::optional<std::string_view> expected,
                                        std::optional<std::string_view> desired) {
  static_cast<void>(co_await db.compare_and_put(key, expected, desired));
}
inline monterey::Task<> write_one(Partition& db, std::string key, std::string value) {
  WriteBatch batch;
  batch.put(key, value);
  co_await db.write(std::move(batch));
}
inline monterey::Task<> advance(Scan& scan) { static_cast<void>(co_await scan.advance()); }
template <class Db>
monterey::Task<> scan_all(const Db& db) {
  auto scan = co_await db.scan("");
  while (co_await scan.advance()) {
  }
}

// Expects `what` to have every one of the '|'-separated `words`.
inline void expect_words(std::string_view what, std::string_view words,
                         std::source_location where = std::source_location::current()) {
  for (std::size_t at = 0; at <= words.size();) {
    const std::size_t end = std::min(words.find('|', at), words.size());
    const std::string_view word = words.substr(at, end - at);
    EXPECT_NE(what.find(word), std::string_view::npos)
        << "line " << where.line() << ": \"" << what << "\" does not say \"" << word << '"';
    at = end + 1;
  }
}

// Expects `task` to throw an Error of this code whose text has all of the '|'-separated words.
inline monterey::Task<> expect_error(monterey::Task<> task, Errc expected, std::string words,
                                     std::source_location where = std::source_location::current()) {
  std::string what;
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    what = error.what();
    EXPECT_EQ(error.errc(), expected) << "line " << where.line() << ": " << what;
    expect_words(what, words, where);
    co_return;
  }
  ADD_FAILURE() << "line " << where.line() << ": no error was thrown";
}

inline monterey::Task<> expect_clean(const Partition& db,
                                     std::source_location where = std::source_location::current()) {
  const CheckReport report = co_await db.check();
  EXPECT_TRUE(report.ok) << "line " << where.line() << ": " << (report.errors.empty() ? "?" : report.errors.front());
}

// All entries of the partition.
inline monterey::Task<Model> contents(const Partition& db) {
  Model found;
  auto scan = co_await db.scan("");
  while (co_await scan.advance()) found.emplace_hint(found.end(), scan.key(), scan.value());
  co_return std::move(found);
}

// Expects exactly the entries of `model`, by get and by scan.
inline monterey::Task<> expect_holds(const Partition& db, const Model& model,
                                     std::source_location where = std::source_location::current()) {
  std::size_t wrong = 0;
  for (const auto& [key, value] : model) {
    const std::optional<std::string> found = co_await db.get(key);
    wrong += found != value;
  }
  EXPECT_EQ(wrong, 0u) << "line " << where.line() << ": of " << model.size() << " gets";
  const Model found = co_await contents(db);
  EXPECT_TRUE(found == model) << "line " << where.line() << ": a scan finds " << found.size() << " entries of "
                              << model.size();
}

// Puts keys [from, to) with values of `value_bytes`, into the partition and the model.
inline monterey::Task<> fill(Partition& db, Model& model, int from, int to, std::size_t value_bytes = 100) {
  for (int i = from; i < to; ++i) {
    const std::string key = numbered("key", i);
    const std::string value = numbered("value", i + static_cast<int>(model.size())) + std::string(value_bytes, 'v');
    co_await db.put(key, value);
    model[key] = value;
  }
}

// --- looking at the disk ---

inline ConstPageBytes block_of(MemDisk& disk, PageNo page) { return disk.block(page); }

// The newest good state named by the disk's meta pages.
inline MetaState newest_meta(MemDisk& disk, Meta& meta, std::uint32_t& slot) {
  MetaState state = MetaState::not_a_store;
  for (std::uint32_t s = 0; s < kMetaSlots; ++s) {
    for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) {
      const DecodedMeta decoded = decode_meta(block_of(disk, meta_block(s, copy)), s);
      if (decoded.state != MetaState::good) continue;
      if (state == MetaState::good && decoded.meta.generation < meta.generation) continue;
      state = MetaState::good;
      meta = decoded.meta;
      slot = s;
    }
  }
  return state;
}

inline Meta newest_meta(MemDisk& disk) {
  Meta meta;
  std::uint32_t slot = 0;
  EXPECT_EQ(newest_meta(disk, meta, slot), MetaState::good);
  return meta;
}

inline std::uint32_t newest_slot(MemDisk& disk) {
  Meta meta;
  std::uint32_t slot = 0;
  EXPECT_EQ(newest_meta(disk, meta, slot), MetaState::good);
  return slot;
}

// The pages from the root to the leaf that `key` belongs to.
inline std::vector<PageNo> path_to(MemDisk& disk, std::string_view key) {
  const Meta meta = newest_meta(disk);
  std::vector<PageNo> path;
  PagePointer at = meta.tree_root;
  for (unsigned level = meta.tree_height; level-- > 0;) {
    path.push_back(at.page);
    if (level == 0) break;
    const BranchView branch(disk.block(at.page).data());
    at = branch.child(branch.find_child(key));
  }
  return path;
}

inline PageNo leaf_of(MemDisk& disk, std::string_view key) { return path_to(disk, key).back(); }

// The run of a key's value.
inline OverflowRef run_of(MemDisk& disk, std::string_view key) {
  const LeafView leaf(disk.block(leaf_of(disk, key)).data());
  const Lookup slot = leaf.find(key);
  EXPECT_TRUE(slot.found && leaf.is_run(slot.slot)) << key;
  return slot.found && leaf.is_run(slot.slot) ? leaf.value(slot.slot).run() : OverflowRef{};
}

inline void flip_bit(MemDisk& disk, PageNo page, std::size_t bit) {
  std::byte& byte = disk.block(page)[bit / 8];
  byte ^= static_cast<std::byte>(1u << (bit % 8));
}

// Recomputes a page's checksum after a change that is to pass for a written one.
inline void repair_crc(MemDisk& disk, PageNo page) {
  const auto bytes = disk.block(page);
  const std::uint32_t crc = crc32c(bytes.subspan(sizeof(std::uint32_t)));
  std::memcpy(bytes.data(), &crc, sizeof crc);
}

inline std::string bytes_of(MemDisk& disk, PageNo page) {
  const auto bytes = disk.block(page);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// All bytes of the disk.
inline std::string image(MemDisk& disk) {
  std::string bytes;
  for (std::uint32_t page = 0; page < disk.size_blocks(); ++page) bytes += bytes_of(disk, PageNo(page));
  return bytes;
}

// Memory that nobody may touch, for lengths that must be refused before the bytes are read.
class Untouchable {
 public:
  explicit Untouchable(std::size_t bytes)
      : bytes_(bytes), data_(::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (data_ == MAP_FAILED) throw std::runtime_error("mmap() failed");
  }
  Untouchable(const Untouchable&) = delete;
  Untouchable& operator=(const Untouchable&) = delete;
  ~Untouchable() { ::munmap(data_, bytes_); }

  std::string_view view() const { return {static_cast<const char*>(data_), bytes_}; }

 private:
  std::size_t bytes_;
  void* data_;
};

}  // namespace store::test
