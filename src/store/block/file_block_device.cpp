// FileBlockDevice over monterey::File. Invariants: size_blocks_ counts blocks that fallocate (or zeros, where the file system
// has no fallocate) has backed, so that a write within it does not run out of space; the lock is released before the file
// is closed and only when no operation is in flight. Owned by the partition, on the core that opened it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <monterey/file.hpp>
#include <monterey/sync.hpp>
#include <store/block_device.hpp>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"
#include "store/block/bounce_buffer.hpp"
#include "store/block/file_lock.hpp"
#include "store/block/io_probes.hpp"

namespace store {
namespace {

using monterey::File;
using monterey::IoClass;
using monterey::Task;

constexpr std::uint64_t kMinGrowthBlocks = (64u << 10) / kPageBytes;
constexpr std::uint64_t kMaxGrowthBlocks = (64u << 20) / kPageBytes;

class FileBlockDeviceImpl final : public FileBlockDevice {
 public:
  struct Shape {
    std::uint64_t size_blocks = 0;
    std::uint64_t capacity_blocks = 0;
    bool resizable = false;
    bool read_only = false;
    bool direct = false;
  };

  FileBlockDeviceImpl(std::string path, File file, FileLock lock, Shape shape, std::string buffered_reason)
      : path_(std::move(path)),
        buffered_reason_(std::move(buffered_reason)),
        file_(std::move(file)),
        lock_(std::move(lock)),
        shape_(shape) {}

  ~FileBlockDeviceImpl() override { STORE_ASSERT(in_flight_ == 0); }

  Task<> read(PageNo first, std::span<std::byte> into, IoClass io_class) override {
    const InFlight guard(*this);
    require_range("read", first, into.size());
    const detail::ReadProbe probe(first, into.size());
    std::uint64_t offset = byte_offset(first);
    if (!shape_.direct || is_page_aligned(into.data())) {
      const std::size_t got = co_await file_.read(offset, into, io_class);
      require_whole(offset, got, into.size());
      co_return;
    }
    const BounceBuffer bounce(into.size());
    while (!into.empty()) {
      const auto piece = bounce.span().first(std::min(into.size(), bounce.span().size()));
      const std::size_t got = co_await file_.read(offset, piece, io_class);
      require_whole(offset, got, piece.size());
      std::memcpy(into.data(), piece.data(), piece.size());
      into = into.subspan(piece.size());
      offset += piece.size();
    }
  }

  Task<> read_scattered(PageNo first, std::span<const BlockSpan> pieces, IoClass io_class) override {
    const bool all_aligned = std::ranges::all_of(
        pieces, [](BlockSpan piece) { return is_page_aligned(piece.data()) && piece.size() % kPageBytes == 0; });
    if (shape_.direct && !all_aligned) {
      co_await BlockDevice::read_scattered(first, pieces, io_class);
      co_return;
    }
    const InFlight guard(*this);
    std::size_t bytes = 0;
    std::vector<iovec> memory;
    memory.reserve(pieces.size());
    for (const BlockSpan piece : pieces) {
      bytes += piece.size();
      if (!memory.empty() && static_cast<std::byte*>(memory.back().iov_base) + memory.back().iov_len == piece.data()) {
        memory.back().iov_len += piece.size();  // one stretch can be a registered buffer
      } else {
        memory.push_back({.iov_base = piece.data(), .iov_len = piece.size()});
      }
    }
    require_range("read", first, bytes);
    const detail::ReadProbe probe(first, bytes);
    const std::size_t got = co_await file_.readv(byte_offset(first), memory, io_class);
    require_whole(byte_offset(first), got, bytes);
  }

  Task<> write(PageNo first, std::span<const std::byte> from, IoClass io_class) override {
    const InFlight guard(*this);
    require_writable("write");
    require_range("write", first, from.size());
    const detail::WriteProbe probe(first, from.size());
    std::uint64_t offset = byte_offset(first);
    if (!shape_.direct || is_page_aligned(from.data())) {
      co_await file_.write(offset, from, io_class);
      co_return;
    }
    const BounceBuffer bounce(from.size());
    while (!from.empty()) {
      const auto piece = bounce.span().first(std::min(from.size(), bounce.span().size()));
      std::memcpy(piece.data(), from.data(), piece.size());
      co_await file_.write(offset, piece, io_class);
      from = from.subspan(piece.size());
      offset += piece.size();
    }
  }

  // Past the page cache of the kernel an error belongs to the write that had it; with the cache, only a sync tells.
  Task<> write_durably(PageNo first, std::span<const std::byte> from, IoClass io_class) override {
    if (!shape_.direct || !is_page_aligned(from.data())) {
      co_await BlockDevice::write_durably(first, from, io_class);
      co_return;
    }
    const InFlight guard(*this);
    require_writable("write");
    require_range("write", first, from.size());
    const detail::WriteProbe probe(first, from.size());
    co_await file_.write_durably(byte_offset(first), from, io_class);
  }

  Task<> sync() override {
    const InFlight guard(*this);
    // With the page cache of the kernel, one sync takes the error of all writes before it. Were two under way, the other might
    // end first, and well, before anybody knows. One after the other, whoever took the error has told it by then.
    monterey::Semaphore::Units turn;
    if (!shape_.direct) turn = co_await sync_turn_.hold();
    co_await file_.datasync();
  }

  Task<> trim(Extent blocks) override {
    const InFlight guard(*this);
    require_writable("trim");
    require_range("trim", blocks.first, std::uint64_t{blocks.count} * kPageBytes);
    if (!can_trim_ || blocks.count == 0) co_return;
    try {
      co_await file_.punch_hole(byte_offset(blocks.first), std::uint64_t{blocks.count} * kPageBytes);
    } catch (const Error& error) {
      if (error.os_error() != EOPNOTSUPP && error.os_error() != ENOSYS) throw;
      can_trim_ = false;
    }
  }

  Task<> grow(std::uint64_t blocks) override {
    const InFlight guard(*this);
    if (blocks <= shape_.size_blocks) co_return;
    require_writable("grow");
    if (blocks > shape_.capacity_blocks) {
      throw Error(Errc::no_space, fmt::format("{}: cannot grow to {} blocks; its capacity is {} blocks of {} bytes",
                                              path_, blocks, shape_.capacity_blocks, kPageBytes));
    }
    const monterey::Semaphore::Units turn = co_await resize_turn_.hold();
    if (blocks <= shape_.size_blocks) co_return;
    // In steps, so that a growing store does not pay for an extension (and its metadata) at every commit.
    const std::uint64_t step = std::clamp(shape_.size_blocks / 8, kMinGrowthBlocks, kMaxGrowthBlocks);
    const std::uint64_t wanted = std::min(shape_.capacity_blocks, std::max(blocks, shape_.size_blocks + step));
    if (wanted > blocks) {
      const bool extended = co_await try_extend(wanted, SpaceFailure::tolerate);
      if (extended) co_return;
    }
    co_await try_extend(blocks, SpaceFailure::raise);
  }

  Task<> shrink(std::uint64_t blocks) override {
    const InFlight guard(*this);
    require_writable("shrink");
    if (blocks >= shape_.size_blocks || !shape_.resizable) co_return;
    shape_.size_blocks = blocks;
    const monterey::Semaphore::Units turn = co_await resize_turn_.hold();
    if (shape_.size_blocks != blocks) co_return;  // it has grown since, by a turn that came before
    co_await file_.truncate(blocks * kPageBytes);
  }

  std::uint64_t size_blocks() const override { return shape_.size_blocks; }
  std::uint64_t capacity_blocks() const override { return shape_.capacity_blocks; }
  bool read_only() const override { return shape_.read_only; }
  std::string name() const override { return path_; }
  bool direct_io() const override { return shape_.direct; }
  std::string buffered_reason() const override { return buffered_reason_; }

 private:
  enum class SpaceFailure : std::uint8_t { tolerate, raise };

  // The lock must not be let go under an operation, so the device may not be destroyed then.
  class InFlight {
   public:
    explicit InFlight(FileBlockDeviceImpl& device) : device_(device) { ++device_.in_flight_; }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;
    ~InFlight() { --device_.in_flight_; }

   private:
    FileBlockDeviceImpl& device_;
  };

  static std::uint64_t byte_offset(PageNo page) { return std::uint64_t{page.value} * kPageBytes; }

  void require_writable(const char* what) const {
    if (!shape_.read_only) return;
    throw Error(Errc::read_only, fmt::format("{}: cannot {}, it was opened for reading", path_, what));
  }

  void require_range(const char* what, PageNo first, std::uint64_t bytes) const {
    if (bytes % kPageBytes != 0) {
      throw Error(Errc::invalid_argument,
                  fmt::format("{}: cannot {} {} bytes, not a multiple of {}", path_, what, bytes, kPageBytes));
    }
    if (first.value + bytes / kPageBytes > shape_.size_blocks) {
      throw Error(Errc::invalid_argument, fmt::format("{}: cannot {} {} blocks from block {}, it has {} blocks", path_,
                                                      what, bytes / kPageBytes, first.value, shape_.size_blocks));
    }
  }

  void require_whole(std::uint64_t offset, std::size_t got, std::size_t wanted) const {
    if (got == wanted) return;
    throw Error(Errc::io_error,
                fmt::format("{}: the file ends at byte {}, shorter than when it was opened; something else "
                            "truncated it",
                            path_, offset + got));
  }

  // Backs [0, blocks). Returns false if there is no room and that is to be tolerated.
  Task<bool> try_extend(std::uint64_t blocks, SpaceFailure on_no_space) {
    const std::uint64_t from = shape_.size_blocks;
    try {
      co_await extend(from, blocks);
    } catch (const Error& error) {
      if (error.errc() != Errc::no_space) throw;
      if (on_no_space == SpaceFailure::tolerate) co_return false;
      throw Error(Errc::no_space, fmt::format("{}: cannot grow from {} to {} blocks of {} bytes: {}", path_, from,
                                              blocks, kPageBytes, error.what()));
    }
    shape_.size_blocks = std::max(shape_.size_blocks, blocks);
    co_return true;
  }

  Task<> extend(std::uint64_t from, std::uint64_t to) {
    if (can_allocate_) {
      try {
        co_await file_.allocate(from * kPageBytes, (to - from) * kPageBytes);
        co_return;
      } catch (const Error& error) {
        if (error.os_error() != EOPNOTSUPP && error.os_error() != ENOSYS) throw;
        can_allocate_ = false;
      }
    }
    // A file system without fallocate: only written zeros reserve space.
    const BounceBuffer zeros((to - from) * kPageBytes);
    std::memset(zeros.span().data(), 0, zeros.span().size());
    for (std::uint64_t at = from * kPageBytes, end = to * kPageBytes; at < end;) {
      const auto piece =
          zeros.span().first(static_cast<std::size_t>(std::min<std::uint64_t>(zeros.span().size(), end - at)));
      co_await file_.write(at, piece, IoClass::background);
      at += piece.size();
    }
  }

  const std::string path_;
  const std::string buffered_reason_;
  File file_;
  FileLock lock_;  // after file_: released before the descriptor is closed
  Shape shape_;
  std::uint32_t in_flight_ = 0;
  monterey::Semaphore sync_turn_{1};
  monterey::Semaphore resize_turn_{1};
  bool can_allocate_ = true;
  bool can_trim_ = true;
};

// What is being opened, while open() finds its way through it.
struct OpenState {
  File file;
  FileLock lock;  // after file, as in the device
  std::string buffered_reason;
  bool direct = false;
  bool created = false;
};

// Opens a file; a failure is put into `failure` instead of being thrown, since a handler cannot await what to do about it.
Task<File> open_file(std::string path, monterey::OpenOptions options, std::optional<Error>* failure) {
  try {
    co_return co_await File::open(std::move(path), options);
  } catch (const Error& error) {
    *failure = error;
  }
  co_return File();
}

// Refuses what cannot hold blocks before it is opened: opening a FIFO would wait, a directory opens for reading.
void require_blocks(const std::string& path, mode_t mode) {
  if (S_ISREG(mode) || S_ISBLK(mode)) return;
  const char* kind = S_ISDIR(mode) ? "a directory" : "neither a regular file nor a block device";
  throw Error(Errc::invalid_argument, fmt::format("{}: is {}; name a file", path, kind));
}

[[noreturn]] void throw_open_failure(const std::string& path, const Error& failure,
                                     const FileBlockDeviceOptions& options) {
  const int code = failure.os_error();
  if (!options.read_only && (code == EACCES || code == EPERM || code == EROFS || code == ETXTBSY) &&
      ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0) {
    throw Error(Errc::read_only, path + ": may only be read by this user; open it read-only or change its permissions");
  }
  const bool may_create = options.create && !options.read_only;
  if (code == EACCES) {
    struct stat info {};
    const bool present = ::stat(path.c_str(), &info) == 0;
    throw Error::from_errno(
        code, path + (present || !may_create ? ": this user may not open it; another one may, or change its permissions"
                                             : ": this user may not make a file there; name another place, or change "
                                               "the permissions of its directory"));
  }
  // What is not there, and cannot be made as it is.
  if (code == ELOOP || failure.errc() == Errc::already_exists) {
    throw Error(Errc::not_found, path + ": is a symbolic link that leads nowhere; name the file itself");
  }
  if (failure.errc() == Errc::not_found) {
    throw Error(Errc::not_found, path + (may_create ? ": its directory does not exist" : ": no such file"));
  }
  throw failure;
}

Task<> open_or_create(const std::string& path, const FileBlockDeviceOptions& options, OpenState& state) {
  monterey::OpenOptions existing;
  existing.access = options.read_only ? monterey::FileAccess::read_only : monterey::FileAccess::read_write;
  existing.direct = options.direct;
  // Between two looks the file may appear or vanish; each round but the last settles one such surprise.
  for (int round = 0;; ++round) {
    struct stat info {};
    const bool present = ::stat(path.c_str(), &info) == 0;
    if (present) require_blocks(path, info.st_mode);
    monterey::OpenOptions now = existing;
    now.create = now.exclusive = !present && options.create && !options.read_only;
    now.mode = 0600;
    std::optional<Error> failure;
    state.file = co_await open_file(path, now, &failure);
    if (!failure) {
      state.direct = existing.direct;
      state.created = now.create;
      co_return;
    }
    if (existing.direct && failure->os_error() == EINVAL) {
      existing.direct = false;
      state.buffered_reason = "the file system refuses O_DIRECT";
    } else if (round >= 3 ||
               !(failure->errc() == Errc::already_exists || (present && failure->errc() == Errc::not_found))) {
      throw_open_failure(path, *failure, options);
    }
  }
}

// Some file systems take O_DIRECT at open and refuse the transfer. Block 1 rather than 0 also finds those that want
// more than 4096-byte alignment. Reading past the end is fine.
Task<> probe_direct(OpenState& state) {
  const BounceBuffer block(kPageBytes);
  try {
    co_await state.file.read(kPageBytes, block.span());
    co_return;
  } catch (const Error& error) {
    if (error.os_error() != EINVAL) throw;
  }
  const int flags = ::fcntl(state.file.fd(), F_GETFL);
  if (flags < 0 || ::fcntl(state.file.fd(), F_SETFL, flags & ~O_DIRECT) != 0) {
    throw Error::from_errno(errno, "cannot turn direct I/O off");
  }
  state.direct = false;
  state.buffered_reason = "the file system refuses direct transfers of 4096 bytes";
}

// A new file is there after a crash only once its directory is durable.
Task<> sync_parent(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
  File file = co_await File::open(std::move(directory));
  co_await file.sync();
  co_await file.close();
}

void require_options(const std::string& path, const FileBlockDeviceOptions& options) {
  if (path.empty()) throw Error(Errc::invalid_argument, "the path of the store is empty");
  // The kernel would open what is before it.
  if (path.find('\0') != std::string::npos) {
    throw Error(Errc::invalid_argument,
                fmt::format("the path of the store has a zero byte in it, behind {}", path.c_str()));
  }
  if (options.capacity_blocks > kMaxBlocks) {
    throw Error(Errc::invalid_argument, fmt::format("{}: capacity_blocks {} is over the format's limit of {}", path,
                                                    options.capacity_blocks, kMaxBlocks));
  }
}

}  // namespace

Task<std::unique_ptr<FileBlockDevice>> FileBlockDevice::open(std::string path, FileBlockDeviceOptions options) {
  require_options(path, options);
  OpenState state;
  co_await open_or_create(path, options, state);
  struct stat info {};
  if (::fstat(state.file.fd(), &info) != 0) throw Error::from_errno(errno, path + ": cannot look at the open file");
  require_blocks(path, info.st_mode);
  state.lock =
      co_await FileLock::acquire(state.file.fd(), options.read_only ? LockMode::shared : LockMode::exclusive, path);
  if (state.direct) co_await probe_direct(state);
  if (state.created) co_await sync_parent(path);

  const std::uint64_t bytes = co_await state.file.size();
  // Rounded down it would have no blocks and pass for a new file, to be written over.
  if (bytes > 0 && bytes < kPageBytes) {
    throw Error(Errc::not_a_store,
                fmt::format("{}: not a store: a file of {} bytes, less than one block; check the path, or "
                            "remove the file",
                            path, bytes));
  }
  const std::uint64_t limit = options.capacity_blocks != 0 ? options.capacity_blocks : kMaxBlocks;
  FileBlockDeviceImpl::Shape shape;
  shape.size_blocks = std::min(bytes / kPageBytes, kMaxBlocks);
  shape.read_only = options.read_only;
  shape.direct = state.direct;
  shape.resizable = S_ISREG(info.st_mode) && options.growable;
  if (S_ISBLK(info.st_mode)) {
    shape.size_blocks = std::min(shape.size_blocks, limit);
    shape.capacity_blocks = shape.size_blocks;
  } else if (shape.resizable && !options.read_only) {
    shape.capacity_blocks = std::max(limit, shape.size_blocks);
  } else {
    shape.capacity_blocks = shape.size_blocks;
  }
  // A file that may not grow later gets all its blocks now.
  const bool preallocate = S_ISREG(info.st_mode) && !options.growable && !options.read_only && bytes == 0;
  if (preallocate) {
    if (options.capacity_blocks == 0) {
      throw Error(Errc::invalid_argument, path + ": a new file that may not grow needs capacity_blocks");
    }
    shape.capacity_blocks = options.capacity_blocks;
  }
  auto device = std::make_unique<FileBlockDeviceImpl>(std::move(path), std::move(state.file), std::move(state.lock),
                                                      shape, std::move(state.buffered_reason));
  if (preallocate) co_await device->grow(shape.capacity_blocks);
  co_return device;
}

}  // namespace store
