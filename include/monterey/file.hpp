// Files on the core's ring. A File belongs to the core that opened it. Every operation keeps the open file alive by
// itself: a File may be moved or destroyed while operations are in flight, and the descriptor is closed when the last
// of them has ended. Interrupted, refused-for-now and short operations (EINTR, EAGAIN, short counts) are carried on
// inside; callers never see them. A cancelled operation (ECANCELED) is not: whoever cancelled it broke an order that
// a retry would not restore. Background transfers are cut into pieces of kBackgroundBytesPerTurn, issued one after
// the other.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <monterey/io_class.hpp>
#include <monterey/task.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace monterey {

enum class FileAccess : std::uint8_t { read_only, read_write };

struct OpenOptions {
  FileAccess access = FileAccess::read_only;
  bool create = false;     // create the file if it is missing
  bool exclusive = false;  // with create: fail if it exists
  bool truncate = false;
  bool direct = false;  // O_DIRECT: offsets, lengths and memory must be aligned to 4096
  std::uint32_t mode = 0600;
};
static_assert(std::is_trivially_destructible_v<OpenOptions>);  // g++ 12 destroys such temporaries twice in a co_await

// A command as a device's driver takes it (IORING_OP_URING_CMD), for File::command().
struct DeviceCommand {
  std::uint32_t operation = 0;        // the driver's cmd_op
  std::array<std::byte, 80> bytes{};  // the driver's structure, zeros behind it
  std::span<const std::byte> memory;  // what the structure names as memory, if anything
  bool registered = false;            // memory within one part of FixedBufs that is registered is passed as such
  bool polled = false;                // taken only if it has memory and capabilities().polled_commands is on
};
static_assert(std::is_trivially_destructible_v<DeviceCommand>);  // as above

namespace detail {
struct OpenFile;
// Counts the users of an open file; per core, hence without atomics.
class OpenFileRef {
 public:
  OpenFileRef() noexcept = default;
  explicit OpenFileRef(OpenFile* file) noexcept;
  OpenFileRef(const OpenFileRef& other) noexcept;
  OpenFileRef(OpenFileRef&& other) noexcept : file_(std::exchange(other.file_, nullptr)) {}
  OpenFileRef& operator=(OpenFileRef other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~OpenFileRef();
  OpenFile* operator->() const noexcept { return file_; }
  OpenFile& operator*() const noexcept { return *file_; }
  explicit operator bool() const noexcept { return file_ != nullptr; }

 private:
  OpenFile* file_ = nullptr;
};
}  // namespace detail

// Errors of all operations: io_error (carries errno) or no_space, closed on a File that is closed or empty. The
// memory named by a call must stay until its task has ended, and the task must be run to its end once it was started.
class File {
 public:
  File() noexcept = default;
  File(File&&) noexcept = default;
  File& operator=(File&&) noexcept = default;
  ~File() = default;

  // Opens `path`. Errors: not_found, already_exists (exclusive), io_error; EINVAL is how a file system refuses
  // `direct`.
  static Task<File> open(std::string path, OpenOptions options = {});

  // Reads `into` at `offset`. Returns the bytes read: fewer than asked only at the end of the file. Takes the
  // registered path by itself when `into` lies in the core's FixedBufs and those are registered.
  Task<std::size_t> read(std::uint64_t offset, std::span<std::byte> into, IoClass io_class = IoClass::foreground);
  // Writes all of `from` at `offset`.
  Task<> write(std::uint64_t offset, std::span<const std::byte> from, IoClass io_class = IoClass::foreground);
  // The same, and it is durable when the task ends, with what is needed to find it (RWF_DSYNC): one operation where write()
  // and datasync() are two. Durability: of these bytes only, not of what other writes have written. After an error it is
  // unknown which of them are.
  Task<> write_durably(std::uint64_t offset, std::span<const std::byte> from, IoClass io_class = IoClass::foreground);
  // Same for memory in pieces; `pieces` itself must stay until the task has ended.
  Task<std::size_t> readv(std::uint64_t offset, std::span<const iovec> pieces, IoClass io_class = IoClass::foreground);
  Task<> writev(std::uint64_t offset, std::span<const iovec> pieces, IoClass io_class = IoClass::foreground);
  // As read and write. Requires (else invalid_argument): the memory lies in the core's FixedBufs, registered or not.
  Task<std::size_t> read_fixed(std::uint64_t offset, std::span<std::byte> into, IoClass = IoClass::foreground);
  Task<> write_fixed(std::uint64_t offset, std::span<const std::byte> from, IoClass = IoClass::foreground);

  // Durability: sync makes data and all metadata durable, datasync data and what is needed to find it. A failed one
  // leaves unknown what is durable, also after a later success: never repeat it.
  Task<> sync();
  Task<> datasync();

  // Hands a command to the device's driver. Returns what the driver says, 0 or a status of its own. Errors: invalid_argument where
  // capabilities().device_commands is off; a negative answer as all operations.
  Task<std::uint32_t> command(DeviceCommand command, IoClass io_class = IoClass::foreground);

  Task<> truncate(std::uint64_t bytes);
  // Backs [offset, offset + bytes) with blocks and extends the file to its end. Errors: no_space.
  Task<> allocate(std::uint64_t offset, std::uint64_t bytes);
  // Gives the blocks of [offset, offset + bytes) back; it reads as zeros, the size stays.
  Task<> punch_hole(std::uint64_t offset, std::uint64_t bytes);
  // Returns the size in bytes, also of a block device. Does not suspend.
  Task<std::uint64_t> size();

  // Refuses new operations, waits for those in flight, and closes the descriptor.
  Task<> close();

  bool is_open() const noexcept;
  // The descriptor, for locks and ioctls; -1 when closed.
  int fd() const noexcept;

 private:
  explicit File(detail::OpenFileRef file) noexcept : file_(std::move(file)) {}

  detail::OpenFileRef file_;
};

}  // namespace monterey
