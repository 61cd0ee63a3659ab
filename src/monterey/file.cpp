#include <monterey/file.hpp>

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <monterey/capabilities.hpp>
#include <monterey/fixed_bufs.hpp>
#include <store/error.hpp>

#include "monterey/io_wait.hpp"
#include "monterey/open_file.hpp"
#include "store/base/assert.hpp"

namespace monterey {
namespace detail {

OpenFile::OpenFile(int descriptor, std::string path, bool is_direct)
    : fd(descriptor), name(std::move(path)), direct(is_direct) {
  IoBackend& backend = Reactor::current().backend();
  backend_id = backend.id();
  slot = backend.register_file(fd);
}

OpenFile::~OpenFile() {
  if (fd < 0) return;
  leave_table();
  ::close(fd);
}

void OpenFile::leave_table() noexcept {
  Reactor* const reactor = Reactor::try_current();
  if (reactor != nullptr && slot_in(reactor->backend()) >= 0) reactor->backend().unregister_file(slot);
  slot = -1;
}

OpenFileRef::OpenFileRef(OpenFile* file) noexcept : file_(file) { ++file_->users; }
OpenFileRef::OpenFileRef(const OpenFileRef& other) noexcept : file_(other.file_) {
  if (file_ != nullptr) ++file_->users;
}
OpenFileRef::~OpenFileRef() {
  if (file_ != nullptr && --file_->users == 0) delete file_;
}

Operation::Operation(const OpenFileRef& file) : file_(file) {
  if (!file_) throw store::Error(store::Errc::closed, "an operation on a File that is not open");
  if (file_->closing)
    throw store::Error(store::Errc::closed, "an operation on '" + file_->name + "', which was closed");
  ++file_->operations;
}

Operation::~Operation() {
  if (--file_->operations == 0 && file_->closer.handle) file_->closer.wake();
}

namespace {

constexpr std::size_t kDirectAlignment = 4096;
constexpr std::size_t kLargestPiece = std::size_t{1} << 30;  // Linux moves at most 2 GiB - 4096 in one call
constexpr std::size_t kMostPieces = 1024;                    // IOV_MAX
// A kernel that refuses for now this often in a row means it.
constexpr unsigned kMostFutileTries = 10'000;
// A driver says EINTR of a command that it has given up, after half a minute or more.
constexpr unsigned kMostInterruptedCommands = 5;

bool worth_a_retry(std::int64_t result) { return result == -EINTR || result == -EAGAIN; }

[[noreturn]] void throw_failed(const OpenFile& file, const char* what, std::int64_t result) {
  throw store::Error::from_errno(static_cast<int>(-result), std::string(what) + " of '" + file.name + "'");
}

void aim(IoOp& op, const OpenFile& file, IoOpcode opcode) {
  op.opcode = opcode;
  op.fd = file.fd;
  op.file_slot = file.slot_in(Reactor::current().backend());
}

// Anything but a transfer, carried on past EINTR and EAGAIN. Takes everything by value: it outlives its caller's
// expression.
Task<> control(OpenFileRef file, IoOpcode opcode, std::uint64_t offset, std::uint64_t bytes, std::uint32_t flags,
               const char* what) {
  const Operation operation(file);
  if (offset > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) ||
      bytes > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()) - offset) {
    throw store::Error(store::Errc::invalid_argument,
                       std::string(what) + " of '" + file->name + "': offset and length exceed the largest file size");
  }
  IoWait io;
  aim(io, *file, opcode);
  io.offset = offset;
  io.bytes = bytes;
  io.flags = flags;
  std::int64_t result = 0;
  for (unsigned tries = 0; tries < kMostFutileTries; ++tries) {
    result = co_await io;
    if (!worth_a_retry(result)) break;
  }
  if (result < 0) throw_failed(*file, what, result);
}

Task<std::uint32_t> run_command(OpenFileRef file, DeviceCommand command, IoClass io_class) {
  const Operation operation(file);
  if (!capabilities().device_commands) {
    throw store::Error(store::Errc::invalid_argument,
                       "a command to '" + file->name +
                           "': this core has none; ask for Cluster::builder().device_commands() (" +
                           capabilities().reason + ")");
  }
  IoWait io;
  aim(io, *file, IoOpcode::command);
  io.io_class = io_class;
  io.data = command.bytes.data();
  io.length = command.operation;
  io.bytes = command.memory.size();
  io.polled = command.polled && !command.memory.empty() && capabilities().polled_commands;
  const FixedBufs* const arena = FixedBufs::current_if_any();
  if (command.registered && arena != nullptr && !command.memory.empty()) {
    const auto buffer = arena->index_of(command.memory.data(), command.memory.size());
    io.buffer_index = buffer.value_or(0);
    io.flags = buffer ? 1 : 0;
  }
  std::int64_t result = 0;
  unsigned interrupted = 0;
  for (unsigned tries = 0; tries < kMostFutileTries && interrupted < kMostInterruptedCommands; ++tries) {
    result = co_await io;
    if (!worth_a_retry(result)) break;
    if (result == -EINTR) ++interrupted;
  }
  if (result < 0) throw_failed(*file, "command", result);
  co_return static_cast<std::uint32_t>(result);
}

enum class Direction : std::uint8_t { read, write };
enum class Durability : std::uint8_t { later, on_completion };

std::uint64_t size_now(const OpenFile& file) {
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) throw_failed(file, "size", -errno);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  std::uint64_t bytes = 0;
  if (::ioctl(file.fd, BLKGETSIZE64, &bytes) != 0) throw_failed(file, "size", -errno);
  return bytes;
}

// Where a transfer stands in its pieces of memory, and the next operation it takes.
class Cursor {
 public:
  Cursor(std::span<const iovec> pieces, std::size_t limit) : pieces_(pieces), limit_(limit) { skip_empty(); }

  bool at_end() const { return pieces_.empty(); }
  void advance(std::size_t bytes) {
    while (bytes != 0) {
      const std::size_t step = std::min(bytes, pieces_.front().iov_len - within_);
      within_ += step;
      bytes -= step;
      skip_empty();
    }
  }
  // Fills in memory, length, bytes and the opcode's variant: one piece, through its registered buffer if it lies in
  // one, or as many as fit the limit. A piece that was begun is ended by itself.
  void next_op(Direction direction, IoOp& op) const {
    std::size_t count = 0;
    std::size_t bytes = 0;
    while (within_ == 0 && count < std::min(pieces_.size(), kMostPieces) && bytes + pieces_[count].iov_len <= limit_) {
      bytes += pieces_[count++].iov_len;
    }
    if (count > 1) {
      op.opcode = direction == Direction::read ? IoOpcode::readv : IoOpcode::writev;
      op.data = const_cast<iovec*>(pieces_.data());
      op.length = static_cast<std::uint32_t>(count);
      op.bytes = bytes;
      return;
    }
    std::byte* const data = static_cast<std::byte*>(pieces_.front().iov_base) + within_;
    bytes = std::min(pieces_.front().iov_len - within_, limit_);
    op.data = data;
    op.length = static_cast<std::uint32_t>(bytes);
    op.bytes = bytes;
    const FixedBufs* const arena = FixedBufs::current_if_any();
    const auto buffer = arena == nullptr ? std::nullopt : arena->index_of(data, bytes);
    op.buffer_index = buffer.value_or(0);
    if (direction == Direction::read) {
      op.opcode = buffer ? IoOpcode::read_fixed : IoOpcode::read;
    } else {
      op.opcode = buffer ? IoOpcode::write_fixed : IoOpcode::write;
    }
  }

 private:
  void skip_empty() {
    while (!pieces_.empty() && within_ == pieces_.front().iov_len) {
      pieces_ = pieces_.subspan(1);
      within_ = 0;
    }
  }

  std::span<const iovec> pieces_;
  std::size_t within_ = 0;  // bytes of the first piece already moved
  const std::size_t limit_;
};

// How much of `moved` bytes counts. Direct I/O goes on only at an aligned place, so what sticks out is done again,
// unless it ends the file.
std::size_t counted(const OpenFile& file, Direction direction, std::uint64_t offset, std::size_t moved) {
  if (!file.direct || moved % kDirectAlignment == 0) return moved;
  if (direction == Direction::read && offset + moved >= size_now(file)) return moved;
  return moved / kDirectAlignment * kDirectAlignment;
}

[[noreturn]] void throw_transfer_failed(const OpenFile& file, Direction direction, std::uint64_t offset, const IoOp& op,
                                        std::int64_t result) {
  throw store::Error::from_errno(static_cast<int>(-result),
                                 std::string(direction == Direction::read ? "read" : "write") + " of " +
                                     std::to_string(op.bytes) + " bytes at offset " + std::to_string(offset) + " of '" +
                                     file.name + "'");
}

// Moves `one`, or `many` if that is not empty. Returns the bytes moved: all, or what there is up to the end of the
// file.
Task<std::size_t> transfer(OpenFileRef file, Direction direction, std::uint64_t offset, iovec one,
                           std::span<const iovec> many, IoClass io_class, Durability durability = Durability::later) {
  const Operation operation(file);
  Cursor cursor(many.empty() ? std::span<const iovec>(&one, 1) : many,
                io_class == IoClass::background ? kBackgroundBytesPerTurn : kLargestPiece);
  IoWait io;
  aim(io, *file, IoOpcode::read);
  io.io_class = io_class;
  io.flags = durability == Durability::on_completion ? RWF_DSYNC : 0;
  std::size_t done = 0;
  for (unsigned futile = 0; !cursor.at_end();) {
    cursor.next_op(direction, io);
    io.offset = offset + done;
    std::int64_t result = co_await io;
    if (direction == Direction::write && result == 0) result = ++futile < kMostFutileTries ? -EAGAIN : -EIO;
    if (result < 0) {
      if (worth_a_retry(result) && ++futile < kMostFutileTries) continue;
      throw_transfer_failed(*file, direction, io.offset, io, result);
    }
    if (result == 0) break;
    const auto moved = static_cast<std::size_t>(result);
    STORE_ASSERT(moved <= io.bytes);
    const std::size_t progress = moved == io.bytes ? moved : counted(*file, direction, io.offset, moved);
    if (progress != 0) {
      futile = 0;
    } else if (++futile == kMostFutileTries) {
      throw_transfer_failed(*file, direction, io.offset, io, -EIO);
    }
    cursor.advance(progress);
    done += progress;
    if (direction == Direction::read && progress % kDirectAlignment != 0 && file->direct) break;  // the end of the file
  }
  co_return done;
}

Task<> write_all(OpenFileRef file, std::uint64_t offset, iovec one, std::span<const iovec> many, IoClass io_class,
                 Durability durability = Durability::later) {
  const std::size_t done =
      co_await transfer(std::move(file), Direction::write, offset, one, many, io_class, durability);
  static_cast<void>(done);  // transfer ends a write only when all is written
}

// Waits for the operations that were begun before close().
class OperationsEnded {
 public:
  explicit OperationsEnded(OpenFile& file) noexcept : file_(file) {}
  bool await_ready() const noexcept { return file_.operations == 0; }
  void await_suspend(std::coroutine_handle<> closer) noexcept { file_.closer.hold(closer); }
  void await_resume() const noexcept {}

 private:
  OpenFile& file_;
};

Task<> close_file(OpenFileRef file) {
  if (!file || file->closing) throw store::Error(store::Errc::closed, "close() of a File that is not open");
  file->closing = true;
  co_await OperationsEnded(*file);
  file->leave_table();
  IoWait io;
  aim(io, *file, IoOpcode::close);
  file->fd = -1;  // Linux frees the number whatever close returns: never repeat it
  const std::int64_t result = co_await io;
  if (result < 0 && result != -EINTR) throw_failed(*file, "close", result);
}

Task<std::uint64_t> file_size(OpenFileRef file) {
  const Operation operation(file);
  co_return size_now(*file);
}

int open_flags(const OpenOptions& options) {
  int flags = O_CLOEXEC | (options.access == FileAccess::read_write ? O_RDWR : O_RDONLY);
  if (options.create) flags |= O_CREAT;
  if (options.exclusive) flags |= O_EXCL;
  if (options.truncate) flags |= O_TRUNC;
  if (options.direct) flags |= O_DIRECT;
  return flags;
}

iovec piece_of(std::span<std::byte> memory) { return {.iov_base = memory.data(), .iov_len = memory.size()}; }
// The kernel only reads what a write names.
iovec piece_of(std::span<const std::byte> memory) {
  return {.iov_base = const_cast<std::byte*>(memory.data()), .iov_len = memory.size()};
}

void require_fixed(std::span<const std::byte> memory) {
  if (FixedBufs::current().contains(memory.data(), memory.size())) return;
  throw store::Error(store::Errc::invalid_argument, "memory outside the core's FixedBufs in read_fixed or write_fixed");
}

}  // namespace
}  // namespace detail

Task<File> File::open(std::string path, OpenOptions options) {
  detail::IoWait io;
  io.opcode = detail::IoOpcode::openat;
  io.data = path.data();
  io.flags = static_cast<std::uint32_t>(detail::open_flags(options));
  io.length = options.create ? options.mode : 0;
  std::int64_t result = -EINTR;
  while (result == -EINTR) result = co_await io;
  if (result == -ENOENT) throw store::Error(store::Errc::not_found, "there is no file '" + path + "'");
  if (result == -EEXIST) throw store::Error(store::Errc::already_exists, "there is a file '" + path + "' already");
  if (result < 0) throw store::Error::from_errno(static_cast<int>(-result), "cannot open '" + path + "'");
  co_return File(detail::OpenFileRef(new detail::OpenFile(static_cast<int>(result), std::move(path), options.direct)));
}

Task<std::size_t> File::read(std::uint64_t offset, std::span<std::byte> into, IoClass io_class) {
  return detail::transfer(file_, detail::Direction::read, offset, detail::piece_of(into), {}, io_class);
}

Task<> File::write(std::uint64_t offset, std::span<const std::byte> from, IoClass io_class) {
  return detail::write_all(file_, offset, detail::piece_of(from), {}, io_class);
}

Task<> File::write_durably(std::uint64_t offset, std::span<const std::byte> from, IoClass io_class) {
  return detail::write_all(file_, offset, detail::piece_of(from), {}, io_class, detail::Durability::on_completion);
}

Task<std::size_t> File::readv(std::uint64_t offset, std::span<const iovec> pieces, IoClass io_class) {
  return detail::transfer(file_, detail::Direction::read, offset, {}, pieces, io_class);
}

Task<> File::writev(std::uint64_t offset, std::span<const iovec> pieces, IoClass io_class) {
  return detail::write_all(file_, offset, {}, pieces, io_class);
}

Task<std::size_t> File::read_fixed(std::uint64_t offset, std::span<std::byte> into, IoClass io_class) {
  detail::require_fixed(into);
  return read(offset, into, io_class);
}

Task<> File::write_fixed(std::uint64_t offset, std::span<const std::byte> from, IoClass io_class) {
  detail::require_fixed(from);
  return write(offset, from, io_class);
}

Task<> File::sync() { return detail::control(file_, detail::IoOpcode::fsync, 0, 0, 0, "sync"); }

Task<> File::datasync() { return detail::control(file_, detail::IoOpcode::fdatasync, 0, 0, 0, "datasync"); }

Task<std::uint32_t> File::command(DeviceCommand command, IoClass io_class) {
  return detail::run_command(file_, command, io_class);
}

Task<> File::truncate(std::uint64_t bytes) {
  return detail::control(file_, detail::IoOpcode::ftruncate, bytes, 0, 0, "truncation");
}

Task<> File::allocate(std::uint64_t offset, std::uint64_t bytes) {
  return detail::control(file_, detail::IoOpcode::fallocate, offset, bytes, 0, "allocation of blocks");
}

Task<> File::punch_hole(std::uint64_t offset, std::uint64_t bytes) {
  return detail::control(file_, detail::IoOpcode::fallocate, offset, bytes, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         "release of blocks");
}

Task<std::uint64_t> File::size() { return detail::file_size(file_); }

Task<> File::close() { return detail::close_file(file_); }

bool File::is_open() const noexcept { return file_ && !file_->closing; }

int File::fd() const noexcept { return is_open() ? file_->fd : -1; }

}  // namespace monterey
