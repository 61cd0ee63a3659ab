// The write buffer's rules one by one; write_buffer_model_test.cpp tries them together at random.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "store/base/units.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs all_forward(WriteBuffer::Iterator it) {
  Pairs found;
  for (it.seek(""); it.valid(); it.next()) found.emplace_back(it.entry().key, it.entry().value);
  return found;
}

Pairs all_backward(WriteBuffer::Iterator it) {
  Pairs found;
  for (it.seek_last_before(std::nullopt); it.valid(); it.prev()) {
    found.emplace(found.begin(), it.entry().key, it.entry().value);
  }
  return found;
}

std::string value_of(const std::optional<EntryView>& entry) { return entry ? std::string(entry->value) : "(nothing)"; }

TEST(WriteBuffer, IsEmptyAtFirst) {
  const auto buffer = WriteBuffer::create({.arena_bytes = WriteBuffer::kMinArenaBytes});
  EXPECT_TRUE(buffer->empty());
  EXPECT_EQ(buffer->entries(), 0u);
  EXPECT_EQ(buffer->keys(), 0u);
  EXPECT_EQ(buffer->bytes_used(), 0u);
  EXPECT_EQ(buffer->fill(), 0.0);
  EXPECT_EQ(buffer->first_seq(), SeqNo{});
  EXPECT_FALSE(buffer->find("a"));
  EXPECT_TRUE(all_forward(buffer->iterate()).empty());
  EXPECT_TRUE(all_backward(buffer->iterate()).empty());
}

TEST(WriteBuffer, FindsTheNewestVersionOfAKey) {
  const auto buffer = WriteBuffer::create({});
  ASSERT_TRUE(buffer->put("key", "one", SeqNo{7}));
  ASSERT_TRUE(buffer->put("key", "two", SeqNo{8}));
  ASSERT_TRUE(buffer->put("other", "", SeqNo{9}));
  EXPECT_EQ(value_of(buffer->find("key")), "two");
  EXPECT_EQ(buffer->find("key")->seq, SeqNo{8});
  EXPECT_EQ(value_of(buffer->find("key", SeqNo{7})), "one");
  EXPECT_FALSE(buffer->find("key", SeqNo{6}));
  EXPECT_EQ(value_of(buffer->find("other")), "");
  EXPECT_FALSE(buffer->find("lost"));
  EXPECT_EQ(buffer->first_seq(), SeqNo{7});
  EXPECT_EQ(buffer->last_seq(), SeqNo{9});
  EXPECT_EQ(buffer->entries(), 3u);
  EXPECT_EQ(buffer->keys(), 2u);
  EXPECT_EQ(buffer->min_key(), "key");
  EXPECT_EQ(buffer->max_key(), "other");
}

TEST(WriteBuffer, TellsErasuresAndRunsFromValues) {
  const auto buffer = WriteBuffer::create({});
  const OverflowRef run{.first = PageNo{77}, .length = 100'000, .crc = 0xABCD};
  ASSERT_TRUE(buffer->put("k", "v", SeqNo{1}));
  ASSERT_TRUE(buffer->erase("k", SeqNo{2}));
  ASSERT_TRUE(buffer->put_run("k", run, SeqNo{3}));
  EXPECT_EQ(buffer->find("k", SeqNo{1})->kind, EntryKind::put);
  EXPECT_EQ(buffer->find("k", SeqNo{2})->kind, EntryKind::erase);
  EXPECT_EQ(buffer->find("k")->kind, EntryKind::run);
  EXPECT_EQ(buffer->find("k")->run, run);
  EXPECT_EQ(buffer->find("k")->value, "");
}

TEST(WriteBuffer, OrdersKeysAsUnsignedBytes) {
  using namespace std::string_literals;
  const std::vector<std::string> ordered = {"\0"s,
                                            "\0\0"s,
                                            "\0\1"s,
                                            "a"s,
                                            "a\0"s,
                                            "a\0b"s,
                                            "a\x01"s,
                                            "aa"s,
                                            "b"s,
                                            "b\x7F"s,
                                            "b\x80"s,
                                            "prefix-12345678"s,
                                            "prefix-12345678\0"s,
                                            "prefix-123456789"s,
                                            "\xFF"s,
                                            "\xFF\xFF"s};
  const auto buffer = WriteBuffer::create({});
  Pairs expected;
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    const std::size_t shuffled = i * 7 % ordered.size();
    ASSERT_TRUE(buffer->put(ordered[shuffled], std::to_string(shuffled), SeqNo{i + 1}));
    expected.emplace_back(ordered[i], std::to_string(i));
  }
  EXPECT_EQ(all_forward(buffer->iterate()), expected);
  EXPECT_EQ(all_backward(buffer->iterate()), expected);
  EXPECT_EQ(buffer->min_key(), ordered.front());
  EXPECT_EQ(buffer->max_key(), ordered.back());
}

TEST(WriteBuffer, SeeksToBothSidesOfAKey) {
  const auto buffer = WriteBuffer::create({});
  for (std::uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(buffer->put(std::string(1, static_cast<char>('a' + 2 * i)), "", SeqNo{i}));  // c e g
  }
  auto it = buffer->iterate();
  EXPECT_FALSE(it.valid());
  it.seek("d");
  EXPECT_EQ(it.entry().key, "e");
  it.seek("e");
  EXPECT_EQ(it.entry().key, "e");
  it.prev();
  EXPECT_EQ(it.entry().key, "c");
  it.next();
  EXPECT_EQ(it.entry().key, "e");
  it.next();
  it.next();
  EXPECT_FALSE(it.valid());
  it.seek_last_before("e");
  EXPECT_EQ(it.entry().key, "c");
  it.seek_last_before("c");
  EXPECT_FALSE(it.valid());
  it.seek_last_before(std::nullopt);
  EXPECT_EQ(it.entry().key, "g");
  it.seek("h");
  EXPECT_FALSE(it.valid());
}

TEST(WriteBuffer, IteratorSeesOneCutOfTheHistory) {
  const auto buffer = WriteBuffer::create({});
  ASSERT_TRUE(buffer->put("a", "1", SeqNo{1}));
  ASSERT_TRUE(buffer->put("b", "2", SeqNo{2}));
  ASSERT_TRUE(buffer->put("a", "3", SeqNo{3}));
  ASSERT_TRUE(buffer->put("c", "4", SeqNo{4}));
  EXPECT_EQ(all_forward(buffer->iterate(SeqNo{2})), (Pairs{{"a", "1"}, {"b", "2"}}));
  EXPECT_EQ(all_forward(buffer->iterate(SeqNo{3}, SeqNo{1})), (Pairs{{"a", "3"}, {"b", "2"}}));
  EXPECT_EQ(all_forward(buffer->iterate(SeqNo{4}, SeqNo{3})), (Pairs{{"c", "4"}}));
  EXPECT_EQ(all_forward(buffer->iterate(SeqNo{4}, SeqNo{4})), Pairs{});
}

TEST(WriteBuffer, IteratorIsStableWhileTheBufferIsRearrangedAndOutlivesIt) {
  auto buffer = WriteBuffer::create({});
  std::uint64_t seq = 0;
  const auto key = [](std::uint64_t i) { return "key" + std::to_string(1'000'000 + i); };
  Pairs expected;
  for (std::uint64_t i = 0; i < 300; ++i) {
    ASSERT_TRUE(buffer->put(key(2 * i), "old", SeqNo{++seq}, SeqNo{}));
    expected.emplace_back(key(2 * i), "old");
  }
  auto it = buffer->iterate();
  Pairs found;
  std::uint64_t added = 0;
  for (it.seek(""); it.valid(); it.next()) {
    found.emplace_back(it.entry().key, it.entry().value);
    for (int i = 0; i < 5; ++i, ++added) {  // new keys all over, and new values for old ones
      ASSERT_TRUE(buffer->put(key(added * 389 % 1500 * 2 + 1), "new", SeqNo{++seq}, SeqNo{}));
      ASSERT_TRUE(buffer->put(key(added * 2 % 600), "new", SeqNo{++seq}, SeqNo{}));
    }
  }
  EXPECT_EQ(found, expected);
  buffer.reset();
  found.clear();
  for (it.seek_last_before(std::nullopt); it.valid(); it.prev()) {
    found.emplace(found.begin(), it.entry().key, it.entry().value);
  }
  EXPECT_EQ(found, expected);
}

TEST(WriteBuffer, KeepsAPredecessorOnlyForReadersInBetween) {
  const auto buffer = WriteBuffer::create({});
  const SeqNo no_reader{};
  ASSERT_TRUE(buffer->put("k", "1", SeqNo{1}, no_reader));
  ASSERT_TRUE(buffer->put("k", "2", SeqNo{2}, no_reader));
  EXPECT_FALSE(buffer->find("k", SeqNo{1}));
  ASSERT_TRUE(buffer->put("k", "3", SeqNo{3}, SeqNo{2}));  // a snapshot at 2
  ASSERT_TRUE(buffer->put("k", "4", SeqNo{4}, SeqNo{2}));
  EXPECT_EQ(value_of(buffer->find("k", SeqNo{2})), "2");
  EXPECT_EQ(value_of(buffer->find("k", SeqNo{3})), "2");  // nobody reads at 3
  EXPECT_EQ(value_of(buffer->find("k")), "4");

  const auto it = buffer->iterate();  // a reader at 4
  ASSERT_TRUE(buffer->put("k", "5", SeqNo{5}, no_reader));
  EXPECT_EQ(value_of(buffer->find("k", SeqNo{4})), "4");
}

TEST(WriteBuffer, RefusesWhatDoesNotFitAndChangesNothing) {
  const auto buffer = WriteBuffer::create({.arena_bytes = 4096});
  ASSERT_TRUE(buffer->put("k", std::string(2000, 'x'), SeqNo{1}));
  const std::size_t used = buffer->bytes_used();
  EXPECT_FALSE(buffer->put("new", std::string(4000, 'y'), SeqNo{2}));
  EXPECT_FALSE(buffer->put("k", std::string(4000, 'y'), SeqNo{2}));
  EXPECT_EQ(buffer->bytes_used(), used);
  EXPECT_EQ(buffer->entries(), 1u);
  EXPECT_EQ(buffer->last_seq(), SeqNo{1});
  EXPECT_FALSE(buffer->find("new"));
  EXPECT_EQ(buffer->find("k")->seq, SeqNo{1});
  EXPECT_TRUE(buffer->put("new", std::string(1000, 'y'), SeqNo{2}));
  EXPECT_EQ(buffer->keys(), 2u);
}

TEST(WriteBuffer, TakesAnOverwriteWhereANewKeyWouldNotFit) {
  const auto buffer = WriteBuffer::create({.arena_bytes = 4096});
  const std::string key(1024, 'k');
  ASSERT_TRUE(buffer->put(key, "", SeqNo{1}));
  ASSERT_TRUE(buffer->put("pad", std::string(2200, 'p'), SeqNo{2}));
  EXPECT_FALSE(buffer->put(std::string(1024, 'n'), "v", SeqNo{3}));
  EXPECT_TRUE(buffer->put(key, "v", SeqNo{3}));
  EXPECT_EQ(value_of(buffer->find(key)), "v");
}

TEST(WriteBuffer, LimitsTheNumberOfKeysByItsIndex) {
  const auto buffer = WriteBuffer::create({.arena_bytes = 4096});
  std::uint64_t seq = 0;
  const auto key = [](std::uint64_t i) { return std::string{static_cast<char>(i / 256), static_cast<char>(i % 256)}; };
  while (buffer->erase(key(seq + 1), SeqNo{seq + 1})) ++seq;
  EXPECT_EQ(buffer->keys(), 4096 / 48);
  EXPECT_EQ(buffer->fill(), 1.0);
  EXPECT_TRUE(buffer->erase(key(5), SeqNo{++seq}));  // a key it knows still fits
  EXPECT_EQ(buffer->find(key(5))->seq, SeqNo{seq});
}

TEST(WriteBuffer, FitsIsAPromise) {
  for (const std::size_t key_bytes : {1u, 3u, 16u, 17u, 65u, 1024u}) {
    for (const std::size_t value_bytes : {0u, 1u, 9u, 500u}) {
      const auto buffer = WriteBuffer::create({.arena_bytes = 16384});
      const std::size_t each = key_bytes + value_bytes;
      std::size_t batch = 0;
      while (buffer->fits(batch + 1, (batch + 1) * each)) ++batch;
      ASSERT_GT(batch, 0u);
      std::string key(key_bytes, 'k');
      std::size_t stored = 0;
      for (; stored < batch; ++stored) {
        key[0] = static_cast<char>(stored);
        if (key_bytes > 1) key[1] = static_cast<char>(stored >> 8);
        ASSERT_TRUE(buffer->put(key, std::string(value_bytes, 'v'), SeqNo{stored + 1}));
      }
      EXPECT_FALSE(buffer->fits(batch * 2, batch * 2 * each));
    }
  }
}

TEST(WriteBuffer, ArenaBytesForHoldsTheBatch) {
  const std::size_t value_bytes = kMaxBufferedValueBytes;
  const std::size_t entries = 3;
  const std::size_t bytes = entries * (kMaxKeyBytes + value_bytes);
  const auto buffer = WriteBuffer::create({.arena_bytes = WriteBuffer::arena_bytes_for(entries, bytes)});
  EXPECT_TRUE(buffer->fits(entries, bytes));
  for (std::uint64_t i = 0; i < entries; ++i) {
    EXPECT_TRUE(
        buffer->put(std::string(kMaxKeyBytes, static_cast<char>(i)), std::string(value_bytes, 'v'), SeqNo{i + 1}));
  }
  const auto runs = WriteBuffer::create(
      {.arena_bytes = WriteBuffer::arena_bytes_for(1000, 1000 * (8 + WriteBuffer::kRunValueBytes))});
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    ASSERT_TRUE(runs->put_run(std::to_string(10'000'000 + i), OverflowRef{.first = PageNo{9}, .length = i}, SeqNo{i}));
  }
}

TEST(WriteBuffer, FrozenTakesNothingMore) {
  const auto buffer = WriteBuffer::create({});
  ASSERT_TRUE(buffer->put("a", "1", SeqNo{1}));
  ASSERT_TRUE(buffer->put("b", "2", SeqNo{2}));
  buffer->freeze();
  EXPECT_TRUE(buffer->frozen());
  EXPECT_FALSE(buffer->put("c", "3", SeqNo{3}));
  EXPECT_FALSE(buffer->fits(1, 2));
  EXPECT_EQ(value_of(buffer->find("b")), "2");
  EXPECT_EQ(all_forward(buffer->iterate()), (Pairs{{"a", "1"}, {"b", "2"}}));
}

TEST(WriteBuffer, ResetForgetsEverything) {
  for (const std::uint64_t keys : {10u, 300u, 20'000u}) {  // cleared key by key, and as a whole
    const auto buffer = WriteBuffer::create({.arena_bytes = std::size_t{2} << 20});
    const std::size_t used_when_empty = buffer->bytes_used();
    for (int round = 0; round < 3; ++round) {
      for (std::uint64_t i = 1; i <= keys; ++i) ASSERT_TRUE(buffer->put(std::to_string(i), "v", SeqNo{i}));
      EXPECT_EQ(buffer->keys(), keys);
      buffer->freeze();
      buffer->reset();
      EXPECT_FALSE(buffer->frozen());
      EXPECT_TRUE(buffer->empty());
      EXPECT_EQ(buffer->bytes_used(), used_when_empty);
      EXPECT_FALSE(buffer->find("1"));
      EXPECT_TRUE(all_forward(buffer->iterate()).empty());
    }
  }
}

TEST(WriteBuffer, ManyOverwritesOfOneKeyStoreTheKeyOnce) {
  const auto buffer = WriteBuffer::create({});
  const std::string key = "a counter of sixty-four bytes, which many puts overwrite again..";
  constexpr std::uint64_t kPuts = 10'000;
  for (std::uint64_t i = 1; i <= kPuts; ++i) ASSERT_TRUE(buffer->put(key, "12345678", SeqNo{i}, SeqNo{}));
  EXPECT_EQ(buffer->keys(), 1u);
  EXPECT_LE(buffer->bytes_used(), kPuts * Arena::version_bytes(8) + 100 * Arena::node_bytes(key.size()));
  EXPECT_EQ(buffer->find(key)->seq, SeqNo{kPuts});
}

TEST(WriteBuffer, WorksAtTheEndOfTheSequenceNumbers) {
  const auto buffer = WriteBuffer::create({});
  ASSERT_TRUE(buffer->put("a", "1", SeqNo{kMaxSeqNo.value - 1}));
  ASSERT_TRUE(buffer->put("a", "2", kMaxSeqNo));
  EXPECT_EQ(value_of(buffer->find("a")), "2");
  EXPECT_EQ(value_of(buffer->find("a", SeqNo{kMaxSeqNo.value - 1})), "1");
  EXPECT_EQ(all_forward(buffer->iterate(kMaxSeqNo, SeqNo{kMaxSeqNo.value - 1})), (Pairs{{"a", "2"}}));
}

}  // namespace
}  // namespace store
