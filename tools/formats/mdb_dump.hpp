// The portable text of mdb_dump and mdb_load (and of Berkeley DB's db_dump and db_load): a header, then for each record a
// line with the key and a line with the value, each behind one space.
//
//   VERSION=3
//   format=bytevalue     every byte as two hex digits; or format=print: printable ASCII as it is, \HH, \\ for a backslash
//   type=btree
//   mapsize=1048576      for mdb_load: how large the database may become
//   HEADER=END
//    6b6579
//    76616c7565
//   DATA=END
//
// Refused by name, because a store could not hold or give back the same: other types, several values for a key
// (duplicates), keys ordered otherwise than by their bytes (integerkey, reversekey), named databases, more than one
// database in the input. Other words of the header are ignored, as mdb_load does.
//
// mdb_dump -p of LMDB 0.9 leaves backslashes as they are, which neither mdb_load nor this reader can tell from an escape;
// without -p nothing is ambiguous, and that is what the writer writes. LMDB itself takes keys of at most 511 bytes.
// Source: mdb_dump(1), mdb_load(1), the programs of LMDB 0.9.24.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/formats/format.hpp"
#include "tools/formats/line_reader.hpp"

namespace store::tool {

class MdbDumpReader : public Reader {
 public:
  explicit MdbDumpReader(ReadBytes input, RecordLimits limits = {});

  bool next(std::string& key, std::string& value) override;
  std::uint64_t line() const override { return lines_.number(); }

 private:
  enum class Encoding : std::uint8_t { bytevalue, print };
  enum class State : std::uint8_t { before_header, in_data, at_end };

  void read_header();
  void read_header_line(std::string_view name, std::string_view value);
  void expect_end();
  void decode(std::string_view line, std::string& bytes) const;

  LineReader lines_;
  RecordLimits limits_;
  Encoding encoding_ = Encoding::bytevalue;
  State state_ = State::before_header;
};

struct MdbDumpOptions {
  // Written to the header when it is not 0: mdb_load makes the database's map so large, otherwise 1 MiB.
  std::uint64_t mapsize_bytes = 0;
};

class MdbDumpWriter : public Writer {
 public:
  // A map in which LMDB has room for so many records with so many bytes of keys and values.
  static std::uint64_t mapsize_for(std::uint64_t records, std::uint64_t bytes);

  // Writes the header.
  explicit MdbDumpWriter(WriteBytes output, MdbDumpOptions options = {});

  void write(std::string_view key, std::string_view value) override;
  void finish() override;

 private:
  WriteBytes output_;
  std::string lines_;
};

}  // namespace store::tool
