// The format by itself, and against LMDB's own programs where they are installed (package lmdb-utils).
#include "tools/formats/mdb_dump.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include "support/seed.hpp"
#include "unit/tools/format_harness.hpp"

namespace store::tool {
namespace {

using namespace std::string_literals;

const std::string kBytes =
    "VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=1048576\nmaxreaders=126\ndb_pagesize=4096\nHEADER=END\n";
const std::string kPrint = "VERSION=3\nformat=print\ntype=btree\nHEADER=END\n";

std::string error(const std::string& text) { return error_of<MdbDumpReader>(text); }

TEST(MdbDump, GivesBackArbitraryBytes) { expect_round_trips<MdbDumpReader, MdbDumpWriter>(test::requested_seed()); }

TEST(MdbDump, DamageIsAnErrorOrARecord) {
  expect_survives_damage<MdbDumpReader, MdbDumpWriter>(test::requested_seed());
}

TEST(MdbDump, ReadsBothEncodings) {
  EXPECT_EQ(read_all<MdbDumpReader>(kBytes + " 6b00\n 0aFf\n 62\n \nDATA=END\n"),
            (Records{{"k\0"s, "\n\xff"}, {"b", ""}}));
  EXPECT_EQ(read_all<MdbDumpReader>(kPrint + " k\\00 \n \\0a\\\\\\fF\n b\n \nDATA=END\n"),
            (Records{{"k\0 "s, "\n\\\xff"}, {"b", ""}}));
  EXPECT_EQ(read_all<MdbDumpReader>(kBytes + "DATA=END"), Records{});
  EXPECT_EQ(read_all<MdbDumpReader>(kBytes + "DATA=END\n\n"), Records{});
}

TEST(MdbDump, WritesWhatMdbDumpWrites) {
  EXPECT_EQ(write_all<MdbDumpWriter>({{"k\0"s, "\n\xff"}, {"b", ""}}),
            "VERSION=3\nformat=bytevalue\ntype=btree\nHEADER=END\n 6b00\n 0aff\n 62\n \nDATA=END\n");
  std::string text;
  MdbDumpWriter writer(write_to(text), {.mapsize_bytes = 4096});
  writer.finish();
  EXPECT_EQ(text, "VERSION=3\nformat=bytevalue\ntype=btree\nmapsize=4096\nHEADER=END\nDATA=END\n");
}

TEST(MdbDump, RefusesByNameWhatAStoreCannotKeep) {
  const auto with = [](const std::string& word) {
    return error("VERSION=3\nformat=bytevalue\n" + word + "\nHEADER=END\nDATA=END\n");
  };
  EXPECT_EQ(with("database=users"),
            "line 3: expected the main database, since a named database cannot be loaded by its name, found "
            "'database=users'");
  EXPECT_EQ(with("duplicates=1"),
            "line 3: expected one value for each key, ordered by the keys' bytes; found duplicates=1: a database with "
            "several values for a key (DUPSORT) cannot be loaded");
  EXPECT_NE(with("dupsort=1").find("DUPSORT"), std::string::npos);
  EXPECT_NE(with("integerkey=1").find("INTEGERKEY"), std::string::npos);
  EXPECT_NE(with("reversekey=1").find("REVERSEKEY"), std::string::npos);
  EXPECT_EQ(with("type=hash"), "line 3: expected type=btree, found 'type=hash'");
  EXPECT_EQ(with("keys=0"), "line 3: expected keys=1, since records without keys cannot be stored, found 'keys=0'");
  EXPECT_EQ(with("duplicates=0"), "no error");
  EXPECT_EQ(with("keys=1"), "no error");
  EXPECT_EQ(with("some_future_word=7"), "no error");
  EXPECT_EQ(error(kBytes + " 61\n 62\nDATA=END\n" + kBytes + "DATA=END\n"),
            "line 11: expected the end of the input behind DATA=END, found another database: dump them one by one");
}

TEST(MdbDump, ErrorsNameLineExpectedAndFound) {
  EXPECT_EQ(error(""), "line 1: expected VERSION=3, found the end of the input");
  EXPECT_EQ(error("hello\n"), "line 1: expected VERSION=3, the start of an mdb_dump, found 'hello'");
  EXPECT_EQ(error("VERSION=4\n"), "line 1: expected VERSION=3, found 'VERSION=4'");
  EXPECT_EQ(error("VERSION=3\nformat=hex\n"), "line 2: expected format=bytevalue or format=print, found 'format=hex'");
  EXPECT_EQ(error("VERSION=3\n 61\n"), "line 2: expected NAME=VALUE or HEADER=END in the header, found ' 61'");
  EXPECT_EQ(error("VERSION=3\ntype=btree\n"), "line 3: expected HEADER=END, found the end of the input");
  EXPECT_EQ(error(kBytes + " 61\n 62\n"),
            "line 10: expected a key or DATA=END, found the end of the input: it is cut off");
  EXPECT_EQ(error(kBytes + " 61\n"), "line 9: expected the value of the key before, found the end of the input");
  EXPECT_EQ(error(kBytes + " 61\nDATA=END\n"), "line 9: expected the value of the key before, found DATA=END");
  EXPECT_EQ(error(kBytes + "61\n 62\nDATA=END\n"),
            "line 8: expected a space at the start of a line of data, or DATA=END, found '61'");
  EXPECT_EQ(error(kBytes + " 61\n\nDATA=END\n"),
            "line 9: expected a space at the start of a line of data, or DATA=END, found ''");
  EXPECT_EQ(error(kBytes + " 6g\n 62\nDATA=END\n"), "line 8: expected pairs of hex digits, found '6g'");
  EXPECT_EQ(error(kBytes + " 61\n 626\nDATA=END\n"), "line 9: expected pairs of hex digits, found '6'");
  EXPECT_EQ(error(kBytes + " \n 62\nDATA=END\n"), "line 8: expected a key of 1 to 1024 bytes, found an empty one");
  EXPECT_EQ(error(kPrint + " C:\\x\n 62\nDATA=END\n"),
            "line 5: expected \\\\ or two hex digits behind a backslash (mdb_dump -p does not escape backslashes: dump "
            "without -p), found 'x'");
  EXPECT_NE(error(kPrint + " a\\\n 62\nDATA=END\n").find("found the end of the line"), std::string::npos);
  EXPECT_EQ(error(kBytes + " 61\n 62\nDATA=END\n more\n"),
            "line 11: expected the end of the input behind DATA=END, found ' more'");
}

// A directory of its own, with LMDB's programs run in it.
class MdbPrograms : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v mdb_load mdb_dump > /dev/null") != 0) GTEST_SKIP() << "lmdb-utils is not installed";
    // In memory where that is possible: mdb_load syncs every hundred records.
    const std::filesystem::path memory = "/dev/shm";
    const auto parent = access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
    std::string pattern = (parent / "mdb_dump_test.XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  std::string load(const std::string& dump, const std::string& options = "") {
    std::ofstream(directory_ / "in", std::ios::binary) << dump;
    const std::string command =
        "cd " + directory_.string() + " && mdb_load -n -f in db 2> errors && mdb_dump " + options + " -n db > out";
    EXPECT_EQ(std::system(command.c_str()), 0) << contents("errors");
    EXPECT_EQ(contents("errors"), "");
    std::filesystem::remove(directory_ / "db");
    std::filesystem::remove(directory_ / "db-lock");
    return contents("out");
  }

  std::string contents(const char* name) {
    std::ostringstream text;
    text << std::ifstream(directory_ / name, std::ios::binary).rdbuf();
    return text.str();
  }

  static std::string data(const std::string& dump) { return dump.substr(dump.find("HEADER=END\n")); }

  std::filesystem::path directory_;
};

// What a dump of a store holds: sorted, one value a key; LMDB takes keys of at most 511 bytes.
Records for_lmdb(std::uint64_t seed) {
  std::map<std::string, std::string> sorted;
  for (std::uint64_t part = 0; part < 10; ++part) {
    for (auto& [key, value] : random_records(seed * 100 + part)) sorted.emplace(std::move(key), std::move(value));
  }
  sorted.emplace(std::string(511, 'k'), std::string(300'000, 'v'));
  return {sorted.begin(), sorted.end()};
}

std::uint64_t bytes_of(const Records& records) {
  std::uint64_t bytes = 0;
  for (const auto& [key, value] : records) bytes += key.size() + value.size();
  return bytes;
}

TEST_F(MdbPrograms, LoadAndDumpGiveTheSameDataSection) {
  const auto asked = test::requested_seed();
  const std::uint64_t first = asked.value_or(1);
  for (std::uint64_t seed = first; seed <= (asked ? first : first + 4); ++seed) {
    SCOPED_TRACE("--seed=" + std::to_string(seed));
    const Records records = for_lmdb(seed);
    std::string ours;
    MdbDumpWriter writer(write_to(ours),
                         {.mapsize_bytes = MdbDumpWriter::mapsize_for(records.size(), bytes_of(records))});
    for (const auto& [key, value] : records) writer.write(key, value);
    writer.finish();
    const std::string theirs = load(ours);
    EXPECT_EQ(data(theirs), data(ours));
    EXPECT_EQ(read_all<MdbDumpReader>(theirs), records);
  }
}

TEST_F(MdbPrograms, PrintedDumpIsReadUnlessABackslashIsInIt) {
  Records records = for_lmdb(77);
  for (auto& [key, value] : records) std::replace(value.begin(), value.end(), '\\', '/');
  std::erase_if(records, [](const auto& record) { return record.first.find('\\') != std::string::npos; });
  EXPECT_EQ(read_all<MdbDumpReader>(load(write_all<MdbDumpWriter>(records), "-p")), records);
}

TEST_F(MdbPrograms, MapsizeIsEnoughWhateverTheRecordsAreLike) {
  for (const std::size_t value_bytes : {0u, 20u, 1400u, 2041u, 4090u, 5000u}) {
    SCOPED_TRACE(value_bytes);
    Records records;
    for (std::size_t i = 0; i < 8'000'000 / (value_bytes + 1000); ++i) {
      records.emplace_back(std::to_string(1'000'000 + i), std::string(value_bytes, 'v'));
    }
    std::string ours;
    MdbDumpWriter writer(write_to(ours),
                         {.mapsize_bytes = MdbDumpWriter::mapsize_for(records.size(), bytes_of(records))});
    for (const auto& [key, value] : records) writer.write(key, value);
    writer.finish();
    EXPECT_TRUE(data(load(ours)) == data(ours));
  }
}

}  // namespace
}  // namespace store::tool
