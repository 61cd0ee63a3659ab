// The bytes of the log: what is written is read back, and no bytes whatever make a decoder read out of bounds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "store/wal/log_format.hpp"
#include "support/seed.hpp"

namespace store {
namespace {

using testing::HasSubstr;

const OverflowRef kRun{PageNo(77), 100'000, 0xabcdef01, Generation(9)};

std::vector<LogEntry> sample_entries() {
  return {LogEntry{"apple", "red", std::nullopt},         LogEntry{"apricot", std::nullopt, std::nullopt},
          LogEntry{"banana", std::nullopt, kRun},         LogEntry{"date", "fig", std::nullopt, true},
          LogEntry{"", std::nullopt, std::nullopt, true}, LogEntry{"cherry", "", std::nullopt}};
}

std::vector<std::byte> encoded(SeqNo first, const std::vector<LogEntry>& entries, std::size_t piece) {
  std::vector<std::byte> bytes(record_bytes(entries));
  RecordEncoder encoder(first, entries);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    encoder.fill(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
  }
  return bytes;
}

TEST(LogFormat, ARecordComesBackWhateverThePiecesItIsWrittenIn) {
  const std::vector<LogEntry> entries = sample_entries();
  const std::vector<std::byte> whole = encoded(SeqNo(41), entries, 1u << 20);
  for (const std::size_t piece : {1, 2, 7, 16, 100}) EXPECT_EQ(encoded(SeqNo(41), entries, piece), whole);
  RecordDecoder decoder(whole);
  EXPECT_EQ(decoder.first_seq(), SeqNo(41));
  EXPECT_EQ(decoder.entries(), 6u);
  for (const LogEntry& want : entries) {
    const auto got = decoder.next();
    ASSERT_TRUE(got) << decoder.error();
    EXPECT_EQ(got->key, want.key);
    EXPECT_EQ(got->value, want.value);
    EXPECT_EQ(got->run, want.run);
    EXPECT_EQ(got->is_range, want.is_range);
  }
  EXPECT_FALSE(decoder.next());
  EXPECT_EQ(decoder.error(), "");
}

TEST(LogFormat, DamagedRecordsAreToldInWords) {
  const auto error_after = [](std::size_t at, auto value, std::size_t cut = 0) {
    std::vector<std::byte> bytes = encoded(SeqNo(1), sample_entries(), 1u << 20);
    std::memcpy(bytes.data() + at, &value, sizeof value);
    bytes.resize(bytes.size() - cut);
    RecordDecoder decoder(bytes);
    while (decoder.next()) {
    }
    return decoder.error();
  };
  EXPECT_THAT(error_after(8, std::uint32_t{0}), HasSubstr("0 entries"));
  EXPECT_THAT(error_after(0, std::uint64_t{0}), HasSubstr("sequence number 0"));
  EXPECT_THAT(error_after(8, std::uint32_t{7}), HasSubstr("1 entries missing"));
  EXPECT_THAT(error_after(8, std::uint32_t{5}), HasSubstr("bytes behind the last entry"));
  EXPECT_THAT(error_after(16, std::uint8_t{9}), HasSubstr("kind 9"));
  EXPECT_THAT(error_after(18, std::uint16_t{0}), HasSubstr("a key of 0"));
  EXPECT_THAT(error_after(20, std::uint32_t{65537}), HasSubstr("a value of 65537"));
  EXPECT_THAT(error_after(8, std::uint32_t{6}, 1), HasSubstr("a key of 6 and a value of 0"));
  RecordDecoder shorter(std::vector<std::byte>(15));
  EXPECT_THAT(shorter.error(), HasSubstr("a record of 15 bytes"));
}

TEST(LogFormat, RangesThatCannotBeAreToldInWords) {
  const auto error_of = [](const std::vector<LogEntry>& entries) {
    const std::vector<std::byte> bytes = encoded(SeqNo(1), entries, 1u << 20);
    RecordDecoder decoder(bytes);
    while (decoder.next()) {
    }
    return decoder.error();
  };
  const std::string longest(kMaxKeyBytes, 'k');
  const std::string too_long(kMaxKeyBytes + 1, 'l');
  EXPECT_EQ(error_of({LogEntry{"", longest, std::nullopt, true}}), "");
  EXPECT_THAT(error_of({LogEntry{"", too_long, std::nullopt, true}}), HasSubstr("a value of 1025"));
  EXPECT_THAT(error_of({LogEntry{too_long, std::nullopt, std::nullopt, true}}), HasSubstr("a key of 1025"));
  EXPECT_THAT(error_of({LogEntry{"b", "b", std::nullopt, true}}), HasSubstr("ends before it begins"));
  std::vector<LogEntry> many(kMaxBatchRanges, LogEntry{"a", "b", std::nullopt, true});
  EXPECT_EQ(error_of(many), "");
  many.push_back(many.front());
  EXPECT_THAT(error_of(many), HasSubstr("more than 64 ranges"));
}

TEST(LogFormat, AGroupComesBackAndItsChecksumHolds) {
  std::vector<std::byte> memory(3 * kPageBytes, std::byte{0xee});
  LogGroup group;
  group.bytes = 5000;
  group.previous_crc = 0x1234;
  group.lsn = Lsn(3 * kPageBytes);
  group.durable_lsn = Lsn(2 * kPageBytes);
  group.durable_generation = Generation(8);
  group.incarnation = 3;
  group.store_id = 0x99;
  const std::uint32_t crc = seal_group(memory.data(), group);
  const auto got = decode_group(std::span<const std::byte, kPageBytes>(memory.data(), kPageBytes));
  ASSERT_TRUE(got);
  EXPECT_EQ(got->crc, crc);
  EXPECT_EQ(got->bytes, 5000u);
  EXPECT_EQ(got->previous_crc, 0x1234u);
  EXPECT_EQ(got->lsn, group.lsn);
  EXPECT_EQ(got->durable_lsn, group.durable_lsn);
  EXPECT_EQ(got->durable_generation, group.durable_generation);
  EXPECT_EQ(got->incarnation, 3u);
  EXPECT_EQ(got->store_id, 0x99u);
  EXPECT_TRUE(group_crc_holds({memory.data(), 5000}, crc));
  for (std::size_t i = 5000; i < 2 * kPageBytes; ++i) ASSERT_EQ(memory[i], std::byte{0}) << i;
  EXPECT_EQ(memory[2 * kPageBytes], std::byte{0xee});
  for (const std::size_t at : {4, 63, 64, 4999}) {
    memory[at] ^= std::byte{1};
    EXPECT_FALSE(group_crc_holds({memory.data(), 5000}, crc)) << at;
    memory[at] ^= std::byte{1};
  }
}

TEST(LogFormat, DecodersSurviveAnyBytes) {
  std::mt19937_64 random(test::requested_seed().value_or(7));
  for (int round = 0; round < 50'000; ++round) {
    std::vector<std::byte> bytes = encoded(SeqNo(1 + random() % 100), sample_entries(), 1u << 20);
    for (std::size_t i = random() % 4; i > 0; --i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    bytes.resize(random() % (bytes.size() + 1));
    const std::vector<std::byte> exact(bytes);
    RecordDecoder record(exact);
    std::size_t read = 0;
    while (const auto entry = record.next()) read += entry->key.size() + (entry->value ? entry->value->size() : 0);
    EXPECT_LE(read, exact.size());
    std::vector<std::byte> group(kGroupHeaderBytes);
    group.insert(group.end(), exact.begin(), exact.end());
    FragmentReader fragments(group);
    while (const auto fragment = fragments.next()) EXPECT_LE(fragment->payload.size(), exact.size());
  }
}

}  // namespace
}  // namespace store
