// The device a store lives on: an array of 4096-byte blocks. FileBlockDevice keeps it in a file; tests and other kinds of
// device implement the same interface. A device belongs to the core that opened it and is used from there only. It must
// stay alive until every operation on it has completed, as must the memory handed to an operation.
//
// What the engine relies on: a write is durable, together with what is needed to find it again, once a sync() that began
// after its completion has completed; until then any subset of its sectors may survive a power cut. Operations in flight
// at once may take effect in any order. Failures are thrown as store::Error: io_error (with the errno), no_space, read_only;
// invalid_argument when the range or the memory break the rules below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <monterey/io_class.hpp>
#include <monterey/task.hpp>
#include <store/types.hpp>

namespace store {

using BlockSpan = std::span<std::byte>;  // memory for whole blocks

class BlockDevice {
 public:
  BlockDevice() = default;
  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;
  virtual ~BlockDevice() = default;

  // Reads whole blocks from `first` on until `into` is full. Requires: into.size() a multiple of 4096, the range within
  // size_blocks(). Memory of any alignment works; 4096-aligned memory is read into without a copy. Errors: `into` may hold
  // part of the data. Suspends.
  virtual monterey::Task<> read(PageNo first, std::span<std::byte> into, monterey::IoClass io_class) = 0;

  // Reads one block after the other from `first` on, into one of `pieces` after the other, as one operation where the device has
  // such. Requires what read() does of each piece; `pieces` stays as long as what it names. Errors: the pieces may hold part of the data. Suspends.
  virtual monterey::Task<> read_scattered(PageNo first, std::span<const BlockSpan> pieces, monterey::IoClass io_class);

  // Writes whole blocks from `first` on. Requires what read() does. Errors: any part may have been written. Suspends.
  // Durability: none before the next sync().
  virtual monterey::Task<> write(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class) = 0;

  // The same as write() and then sync() for these blocks only; as one operation where the device has such. Errors: any part
  // may have been written, and what is durable is unknown, of other writes too. Suspends.
  // Durability: of these blocks, with what is needed to find them; it promises nothing about other writes.
  virtual monterey::Task<> write_durably(PageNo first, std::span<const std::byte> from, monterey::IoClass io_class);

  // Makes every write that completed before the call durable, whoever made it: also on a device opened for reading. Errors: what was written since the last good sync may or may
  // not be durable, and a later sync proves nothing about it. Suspends.
  virtual monterey::Task<> sync() = 0;

  // Tells the device that the contents of `blocks` are no longer needed; they read as anything afterwards. The blocks stay
  // addressable, but a later write to them may need space again. A device that cannot trim does nothing.
  virtual monterey::Task<> trim(Extent blocks) = 0;

  // Makes [0, blocks) addressable and backed by storage; does nothing when it is already. May round up to
  // capacity_blocks() at most. Errors: no_space, nothing changed. Durability: with the next sync().
  virtual monterey::Task<> grow(std::uint64_t blocks) = 0;

  // Gives [blocks, size_blocks()) back. Requires: no operation in flight on it. Does nothing when the device is smaller or
  // of fixed size. From the call on size_blocks() is `blocks`, so that a grow() that comes meanwhile does its work; what that has
  // made good is not given back. Errors: size_blocks() may be either.
  virtual monterey::Task<> shrink(std::uint64_t blocks) = 0;

  // Blocks addressable now.
  virtual std::uint64_t size_blocks() const = 0;
  // Blocks it may grow to; never less than size_blocks().
  virtual std::uint64_t capacity_blocks() const = 0;
  virtual bool read_only() const = 0;
  // For messages: the path of a file.
  virtual std::string name() const = 0;
};

struct FileBlockDeviceOptions {
  std::uint64_t capacity_blocks = 0;  // a limit, not a preallocation; 0: what the format can address, 16 TiB
  bool growable = true;               // false: a new file gets capacity_blocks at once, an existing one keeps its size
  bool direct = true;                 // O_DIRECT where the file system has it
  bool create = true;                 // make the file when it is missing (never with read_only)
  bool read_only = false;             // shared lock; write, trim, grow and shrink throw read_only
};

// A block device in a regular file, or on a block special file of fixed size. Holds a lock on the file while it lives: one
// writer or any number of readers, in this process and all others.
class FileBlockDevice : public BlockDevice {
 public:
  // Opens or creates the file at `path` (mode 0600; the directory entry of a new file is durable on return). Errors:
  // not_found (missing and not to be created, or its directory is), locked (open in this process, or for half a second in another),
  // read_only (this user may read the file but not write it), invalid_argument (a directory or another thing that holds no
  // blocks; capacity_blocks over the format's limit), no_space, io_error.
  static monterey::Task<std::unique_ptr<FileBlockDevice>> open(std::string path, FileBlockDeviceOptions options = {});

  // Whether transfers go past the page cache of the kernel.
  virtual bool direct_io() const = 0;
  // Why not, when FileBlockDeviceOptions::direct asked for it; empty otherwise.
  virtual std::string buffered_reason() const = 0;
};

}  // namespace store
