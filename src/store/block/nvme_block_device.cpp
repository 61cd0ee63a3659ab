// NvmeBlockDevice. Invariants: a transfer is cut into commands that controller and kernel take whole; an operation ends when all of its
// commands have, whatever became of them; the lock on the window is released before the descriptor is closed and only when no
// operation is in flight. Owned by the partition, on the core that opened it.
#include <store/nvme_block_device.hpp>

#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <monterey/capabilities.hpp>
#include <monterey/file.hpp>
#include <monterey/fixed_bufs.hpp>
#include <monterey/time.hpp>
#include <monterey/when_all.hpp>
#include <store/error.hpp>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"
#include "store/block/bounce_buffer.hpp"
#include "store/block/file_lock.hpp"
#include "store/block/io_probes.hpp"
#include "store/block/nvme_protocol.hpp"

// Newer than Debian 12's headers, though its kernel has it: Linux 5.19.
#ifndef NVME_URING_CMD_IO
#define NVME_URING_CMD_IO _IOWR('N', 0x80, struct nvme_uring_cmd)
#endif

namespace store {
namespace {

using monterey::File;
using monterey::FixedBufs;
using monterey::IoClass;
using monterey::Task;

// Of one command, so that one of the background is what it may add to a turn.
constexpr std::size_t kMostTransferBytes = monterey::kBackgroundBytesPerTurn;
constexpr std::uint64_t kMostTrimmed = std::uint64_t{1}
                                       << 20;  // blocks of one command, whose logical blocks are counted by 32 bits

// Of a command whose failure may be passing, and between them.
constexpr int kMostTries = 5;
constexpr std::chrono::milliseconds kBetweenTries{100};

constexpr std::chrono::milliseconds kClaimPoll{5};
constexpr std::chrono::milliseconds kClaimPatience{500};

constexpr const char* kGrant =
    "give this user read and write permission on it (a udev rule) and, before Linux 6.2, CAP_SYS_ADMIN; see "
    "docs/nvme.md";

monterey::DeviceCommand device_command(const nvme_uring_cmd& io, std::span<const std::byte> memory) {
  monterey::DeviceCommand command;
  command.operation = NVME_URING_CMD_IO;
  static_assert(sizeof io <= sizeof command.bytes);
  std::memcpy(command.bytes.data(), &io, sizeof io);
  command.memory = memory;
  return command;
}

bool is_permission(int os_error) { return os_error == EACCES || os_error == EPERM; }

// The name of the block device beside a character device: nvme0n1 of /dev/ng0n1, whatever the node is called. Empty if the kernel does
// not say.
std::string block_name(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISCHR(info.st_mode)) return {};
  std::error_code failure;
  const auto link = std::filesystem::read_symlink(
      fmt::format("/sys/dev/char/{}:{}", major(info.st_rdev), minor(info.st_rdev)), failure);
  const std::string name = link.filename();
  return !failure && name.starts_with("ng") ? "nvme" + name.substr(2) : std::string();
}

// The names in a directory of the kernel's; none if it cannot be read.
std::vector<std::string> names_in(const char* directory) {
  std::vector<std::string> names;
  std::error_code failure;
  std::filesystem::directory_iterator at(directory, failure);
  for (; !failure && at != std::filesystem::directory_iterator(); at.increment(failure)) {
    names.push_back(at->path().filename());
  }
  return names;
}

class NvmeBlockDeviceImpl final : public NvmeBlockDevice {
 public:
  struct Shape {
    std::uint64_t first_block = 0;  // of the window
    std::uint64_t blocks = 0;
    std::size_t transfer_bytes = 0;
    bool read_only = false;
    bool registered = false;
    bool polled = false;
  };

  NvmeBlockDeviceImpl(NvmeNamespace identity, File file, Shape shape)
      : identity_(std::move(identity)), file_(std::move(file)), shape_(shape) {}

  // Locks the window, against who has the namespace open by its character device and, as far as this user may, by its block device.
  Task<> lock() {
    const LockMode mode = shape_.read_only ? LockMode::shared : LockMode::exclusive;
    const LockRange window{shape_.first_block * kPageBytes, shape_.blocks * kPageBytes};
    lock_ = co_await FileLock::acquire(file_.fd(), mode, name(), window);
    const std::string block = block_name(name());
    if (block.empty()) co_return;
    monterey::OpenOptions options;
    options.access = shape_.read_only ? monterey::FileAccess::read_only : monterey::FileAccess::read_write;
    try {
      block_file_ = co_await File::open("/dev/" + block, options);
    } catch (const Error&) {
      co_return;  // not this user's: docs/nvme.md says what is not seen then
    }
    block_lock_ = co_await FileLock::acquire(block_file_.fd(), mode, "/dev/" + block, window);
  }

  ~NvmeBlockDeviceImpl() override { STORE_ASSERT(in_flight_ == 0); }

  Task<> read(PageNo first, std::span<std::byte> into, IoClass io_class) override {
    const InFlight guard(*this);
    require_range("read", first, into.size());
    const detail::ReadProbe probe(first, into.size());
    if (is_page_aligned(into.data())) {
      co_await transfer(nvme::Opcode::read, first.value, into, io_class);
      co_return;
    }
    const BounceBuffer bounce(into.size());
    for (std::uint64_t block = first.value; !into.empty();) {
      const auto piece = bounce.span().first(std::min(into.size(), bounce.span().size()));
      co_await transfer(nvme::Opcode::read, block, piece, io_class);
      std::memcpy(into.data(), piece.data(), piece.size());
      into = into.subspan(piece.size());
      block += piece.size() / kPageBytes;
    }
  }

  Task<> write(PageNo first, std::span<const std::byte> from, IoClass io_class) override {
    const InFlight guard(*this);
    require_writable("write");
    require_range("write", first, from.size());
    const detail::WriteProbe probe(first, from.size());
    if (is_page_aligned(from.data())) {
      co_await transfer(nvme::Opcode::write, first.value, from, io_class);
      co_return;
    }
    const BounceBuffer bounce(from.size());
    for (std::uint64_t block = first.value; !from.empty();) {
      const auto piece = bounce.span().first(std::min(from.size(), bounce.span().size()));
      std::memcpy(piece.data(), from.data(), piece.size());
      co_await transfer(nvme::Opcode::write, block, piece, io_class);
      from = from.subspan(piece.size());
      block += piece.size() / kPageBytes;
    }
  }

  // Also where the disk has no volatile cache: it costs little then.
  Task<> sync() override {
    const InFlight guard(*this);
    const std::uint32_t status = co_await run(nvme::flush(identity_.nsid), {}, IoClass::foreground);
    if (status != 0) throw Error(Errc::io_error, fmt::format("{}: flush: {}", name(), nvme::status_text(status)));
  }

  Task<> trim(Extent blocks) override {
    const InFlight guard(*this);
    require_writable("trim");
    require_range("trim", blocks.first, std::uint64_t{blocks.count} * kPageBytes);
    if (!identity_.deallocates || blocks.count == 0) co_return;
    const BounceBuffer memory(kPageBytes);
    auto& range = *::new (memory.span().data()) nvme::DeallocateRange{};
    for (std::uint64_t block = blocks.first.value; block < blocks.end();) {
      const std::uint64_t count = std::min(blocks.end() - block, kMostTrimmed);
      range.lbas = static_cast<std::uint32_t>(count * lbas_per_block());
      range.first = (shape_.first_block + block) * lbas_per_block();
      const std::uint32_t status = co_await run(nvme::deallocate(identity_.nsid, range), {}, IoClass::background);
      if (status != 0) throw_status("deallocate", block, count, status);
      block += count;
    }
  }

  Task<> grow(std::uint64_t blocks) override {
    if (blocks <= shape_.blocks) co_return;
    require_writable("grow");
    throw Error(Errc::no_space, fmt::format("{}: cannot grow to {} blocks; it has {} blocks of {} bytes", name(),
                                            blocks, shape_.blocks, kPageBytes));
  }

  Task<> shrink(std::uint64_t) override {
    require_writable("shrink");
    co_return;
  }

  std::uint64_t size_blocks() const override { return shape_.blocks; }
  std::uint64_t capacity_blocks() const override { return shape_.blocks; }
  bool read_only() const override { return shape_.read_only; }
  std::string name() const override { return identity_.path; }
  const NvmeNamespace& identity() const override { return identity_; }
  std::size_t transfer_bytes() const override { return shape_.transfer_bytes; }
  bool registered_buffers() const override { return shape_.registered; }

  // Reads a block as a device of this kind will, to find out what the kernel takes. What the disk says of it is no matter.
  Task<> try_out() {
    const InFlight guard(*this);
    const BounceBuffer plain(kPageBytes);
    static_cast<void>(co_await run(first_block_read(plain.span()), plain.span(), IoClass::foreground));
    FixedBufs* const arena = FixedBufs::current_if_any();
    if (!shape_.registered || arena == nullptr || arena->free_bytes() < kPageBytes) co_return;
    const monterey::FixedBuf memory = arena->allocate(kPageBytes);
    // With more memory than can be registered this piece may be of the rest.
    if (!arena->index_of(memory.data(), kPageBytes)) co_return;
    const bool works = co_await takes_registered(memory.span());
    shape_.registered = works;
  }

 private:
  // The lock must not be let go under an operation, so the device may not be destroyed then.
  class InFlight {
   public:
    explicit InFlight(NvmeBlockDeviceImpl& device) : device_(device) { ++device_.in_flight_; }
    InFlight(const InFlight&) = delete;
    InFlight& operator=(const InFlight&) = delete;
    ~InFlight() { --device_.in_flight_; }

   private:
    NvmeBlockDeviceImpl& device_;
  };

  nvme_uring_cmd first_block_read(std::span<std::byte> memory) const {
    return nvme::transfer(nvme::Opcode::read, identity_.nsid, shape_.first_block * lbas_per_block(),
                          static_cast<std::uint32_t>(lbas_per_block()), memory);
  }

  // False if the kernel refuses the memory as it is registered.
  Task<bool> takes_registered(std::span<std::byte> memory) {
    try {
      static_cast<void>(co_await run(first_block_read(memory), memory, IoClass::foreground));
      co_return true;
    } catch (const Error& error) {
      if (error.os_error() != EINVAL) throw;
      co_return false;
    }
  }

  std::uint64_t lbas_per_block() const { return kPageBytes / identity_.lba_bytes; }

  // The first command of what is left of a transfer: as much as one may take, within one part of the arena if it is to be registered.
  std::size_t command_bytes(std::span<const std::byte> left) const {
    const std::size_t bytes = std::min(left.size(), shape_.transfer_bytes);
    const FixedBufs* const arena = FixedBufs::current_if_any();
    if (!shape_.registered || arena == nullptr || !arena->contains(left.data(), left.size())) return bytes;
    return std::min(bytes, arena->bytes_in_chunk(left.data()));
  }

  Task<> transfer(nvme::Opcode opcode, std::uint64_t block, std::span<const std::byte> memory, IoClass io_class) {
    if (memory.empty()) co_return;
    if (command_bytes(memory) == memory.size()) {
      co_await transfer_piece(opcode, block, memory, io_class);
      co_return;
    }
    std::vector<Task<>> pieces;
    while (!memory.empty()) {
      const std::size_t bytes = command_bytes(memory);
      pieces.push_back(transfer_piece(opcode, block, memory.first(bytes), io_class));
      memory = memory.subspan(bytes);
      block += bytes / kPageBytes;
    }
    co_await monterey::when_all(std::move(pieces));
  }

  Task<> transfer_piece(nvme::Opcode opcode, std::uint64_t block, std::span<const std::byte> memory, IoClass io_class) {
    const std::uint64_t lba = (shape_.first_block + block) * lbas_per_block();
    const auto lbas = static_cast<std::uint32_t>(memory.size() / identity_.lba_bytes);
    const std::uint32_t status =
        co_await run(nvme::transfer(opcode, identity_.nsid, lba, lbas, memory), memory, io_class);
    if (status != 0) {
      throw_status(opcode == nvme::Opcode::read ? "read" : "write", block, memory.size() / kPageBytes, status);
    }
  }

  // Returns the disk's status. One that may go away by itself is asked for again, after a while, as the block layer would.
  Task<std::uint32_t> run(nvme_uring_cmd io, std::span<const std::byte> memory, IoClass io_class) {
    std::uint32_t status = co_await run_once(io, memory, io_class);
    for (int tries = 1; tries < kMostTries && nvme::is_transient(status); ++tries) {
      try {
        co_await monterey::sleep_for(kBetweenTries);
      } catch (const Error&) {
        break;  // the core is stopping
      }
      status = co_await run_once(io, memory, io_class);
    }
    co_return status;
  }

  Task<std::uint32_t> run_once(nvme_uring_cmd io, std::span<const std::byte> memory, IoClass io_class) {
    try {
      monterey::DeviceCommand command = device_command(io, memory);
      command.registered = shape_.registered;
      command.polled = shape_.polled;
      co_return co_await file_.command(command, io_class);
    } catch (const Error& error) {
      if (!is_permission(error.os_error())) throw;
      throw Error::from_errno(error.os_error(), fmt::format("{}: no permission for commands; {}", name(), kGrant));
    }
  }

  [[noreturn]] void throw_status(const char* what, std::uint64_t block, std::uint64_t blocks,
                                 std::uint32_t status) const {
    const std::string text =
        fmt::format("{}: {} of {} blocks at block {}: {}", name(), what, blocks, block, nvme::status_text(status));
    if (nvme::is_capacity_exceeded(status)) throw Error(Errc::no_space, text);
    throw Error(Errc::io_error, text);
  }

  void require_writable(const char* what) const {
    if (!shape_.read_only) return;
    throw Error(Errc::read_only, fmt::format("{}: cannot {}, it was opened for reading", name(), what));
  }

  void require_range(const char* what, PageNo first, std::uint64_t bytes) const {
    if (bytes % kPageBytes != 0) {
      throw Error(Errc::invalid_argument,
                  fmt::format("{}: cannot {} {} bytes, not a multiple of {}", name(), what, bytes, kPageBytes));
    }
    if (first.value + bytes / kPageBytes > shape_.blocks) {
      throw Error(Errc::invalid_argument, fmt::format("{}: cannot {} {} blocks from block {}, it has {} blocks", name(),
                                                      what, bytes / kPageBytes, first.value, shape_.blocks));
    }
  }

  const NvmeNamespace identity_;
  File file_;
  File block_file_;  // of the namespace's block device, if this user may open it: only to hold its lock
  FileLock lock_;    // after the files: released before the descriptors are closed
  FileLock block_lock_;
  Shape shape_;
  std::uint32_t in_flight_ = 0;
};

// --- finding out what it is ---

// Returns the controller's refusal in words, empty if there is none; `os_error` is the kernel's.
std::string identify(int fd, std::uint32_t nsid, std::uint32_t what, std::span<std::byte, nvme::kIdentifyBytes> answer,
                     int& os_error) {
  nvme_admin_cmd command{};
  command.opcode = nvme::kAdminIdentify;
  command.nsid = what == nvme::kIdentifyNamespace ? nsid : 0;
  command.addr = reinterpret_cast<std::uintptr_t>(answer.data());
  command.data_len = nvme::kIdentifyBytes;
  command.cdw10 = what;
  const int status = ::ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);
  os_error = status < 0 ? errno : 0;
  return status > 0 ? nvme::status_text(static_cast<std::uint32_t>(status)) : std::string();
}

// Asks namespace and controller. Errors: invalid_argument if it is none.
NvmeNamespace identify_namespace(int fd, const std::string& path) {
  NvmeNamespace space;
  space.path = path;
  const int nsid = ::ioctl(fd, NVME_IOCTL_ID);
  if (nsid <= 0) {
    throw Error(Errc::invalid_argument,
                path +
                    ": not a namespace of an NVMe disk; name its character device, like /dev/ng0n1 (/dev/nvme0 is a "
                    "controller, /dev/nvme0n1 a block device)");
  }
  space.nsid = static_cast<std::uint32_t>(nsid);
  const BounceBuffer memory(nvme::kIdentifyBytes);
  const auto answer = memory.span().first<nvme::kIdentifyBytes>();
  for (const std::uint32_t what : {nvme::kIdentifyNamespace, nvme::kIdentifyController}) {
    int os_error = 0;
    const std::string refused = identify(fd, space.nsid, what, answer, os_error);
    if (is_permission(os_error)) {
      throw Error::from_errno(os_error, fmt::format("{}: no permission to identify the namespace; {}", path, kGrant));
    }
    if (os_error != 0) throw Error::from_errno(os_error, path + ": cannot identify the namespace");
    if (!refused.empty()) throw Error(Errc::io_error, path + ": cannot identify the namespace: " + refused);
    if (what == nvme::kIdentifyNamespace) nvme::read_namespace(answer, space);
    if (what == nvme::kIdentifyController) nvme::read_controller(answer, space);
  }
  return space;
}

// A limit of the kernel's for the namespace, or nothing where it does not say.
std::optional<std::uint64_t> queue_limit(const std::string& block, const char* name) {
  std::ifstream file("/sys/class/block/" + block + "/queue/" + name);
  std::uint64_t value = 0;
  if (block.empty() || !(file >> value)) return std::nullopt;
  return value;
}

std::size_t transfer_limit(const NvmeNamespace& space) {
  std::uint64_t bytes = kMostTransferBytes;
  if (space.max_transfer_bytes != 0) bytes = std::min(bytes, space.max_transfer_bytes);
  const std::string block = block_name(space.path);
  if (const auto kibibytes = queue_limit(block, "max_hw_sectors_kb")) bytes = std::min(bytes, *kibibytes << 10);
  if (const auto segments = queue_limit(block, "max_segments")) bytes = std::min(bytes, *segments * kPageBytes);
  return std::max<std::size_t>(static_cast<std::size_t>(bytes) / kPageBytes * kPageBytes, kPageBytes);
}

// Whether the kernel uses a block device, as far as this user can tell without opening it: as a part of a volume, mounted, or as swap.
bool is_in_use(const std::string& block) {
  std::error_code ignored;
  const std::filesystem::path folder = "/sys/class/block/" + block;
  if (!std::filesystem::is_empty(folder / "holders", ignored) && !ignored) return true;
  std::string number;
  std::ifstream(folder / "dev") >> number;  // major:minor
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (!number.empty() && line.find(" " + number + " ") != std::string::npos) return true;
    // Some file systems (btrfs) show a number of their own there, and the device at the end.
    if (line.find(" /dev/" + block + " ") != std::string::npos) return true;
  }
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    if (line.starts_with("/dev/" + block + " ")) return true;
  }
  return false;
}

// Whether somebody has a block device for itself, as far as this user may ask.
bool is_claimed(const std::string& block) {
  const int fd = ::open(("/dev/" + block).c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
  if (fd < 0) return errno == EBUSY;
  ::close(fd);
  return false;
}

// Refuses a namespace whose block device, or a partition of it, the kernel uses.
Task<> require_unused(const std::string& path) {
  const std::string block = block_name(path);
  if (block.empty()) co_return;
  // With patience: another store that asks at the same moment has it for that moment.
  bool in_use = is_claimed(block);
  for (auto waited = std::chrono::milliseconds(0); in_use && waited < kClaimPatience; waited += kClaimPoll) {
    co_await monterey::sleep_for(kClaimPoll);
    in_use = is_claimed(block);
  }
  for (const std::string& name : names_in("/sys/class/block")) {
    if (name == block || name.starts_with(block + "p")) in_use = in_use || is_in_use(name);
  }
  if (!in_use) co_return;
  throw Error(Errc::locked,
              fmt::format("{}: the kernel uses /dev/{} (mounted, swap, or part of a volume); unmount it first, "
                          "or name another namespace",
                          path, block));
}

void require_format(const NvmeNamespace& space) {
  const bool supported = (space.lba_bytes == 512 || space.lba_bytes == kPageBytes) && space.metadata_bytes == 0;
  if (supported) return;
  throw Error(
      Errc::invalid_argument,
      fmt::format("{}: its LBA format has {} bytes of data and {} of metadata; a store needs 512 or 4096 and none: "
                  "format the namespace anew (nvme format), which erases it",
                  space.path, space.lba_bytes, space.metadata_bytes));
}

// Returns how many blocks the window has.
std::uint64_t window_blocks(const NvmeNamespace& space, const NvmeBlockDeviceOptions& options) {
  const std::uint64_t all = space.bytes / kPageBytes;
  const std::uint64_t left = all - std::min(all, options.first_block);
  const std::uint64_t blocks = options.blocks != 0 ? options.blocks : std::min(left, kMaxBlocks);
  if (blocks == 0 || blocks > left || blocks > kMaxBlocks) {
    throw Error(
        Errc::invalid_argument,
        fmt::format("{}: a window of {} blocks from block {}: the namespace has {} blocks of {} bytes, and a store "
                    "at most {}",
                    space.path, blocks, options.first_block, all, kPageBytes, kMaxBlocks));
  }
  return blocks;
}

void require_character_device(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) throw Error(Errc::not_found, path + ": no such device");
    throw Error::from_errno(errno, path + ": cannot be looked at");
  }
  if (S_ISCHR(info.st_mode)) return;
  throw Error(Errc::invalid_argument,
              path +
                  ": not a character device; name that of a namespace, like /dev/ng0n1 (a file or a "
                  "block device is a FileBlockDevice)");
}

// Where the arena is registered in small parts, for a kernel that counts segments to a part's end: whether a part has no more of them than
// the driver takes.
bool parts_fit_segments(const std::string& path) {
  const FixedBufs* const arena = FixedBufs::current_if_any();
  if (arena == nullptr || arena->chunk_bytes() != FixedBufs::kCommandChunkBytes) return true;
  const auto segments = queue_limit(block_name(path), "max_segments");
  return segments && *segments >= FixedBufs::kCommandChunkBytes / kPageBytes;
}

Task<File> open_file(std::string path, bool read_only) {
  monterey::OpenOptions options;
  options.access = read_only ? monterey::FileAccess::read_only : monterey::FileAccess::read_write;
  try {
    co_return co_await File::open(path, options);
  } catch (const Error& error) {
    if (!is_permission(error.os_error())) throw;
    throw Error::from_errno(error.os_error(), fmt::format("{}: cannot be opened; {}", path, kGrant));
  }
}

}  // namespace

bool is_nvme_path(const std::string& path) {
  struct stat info {};
  return path.find('\0') == std::string::npos && ::stat(path.c_str(), &info) == 0 && S_ISCHR(info.st_mode);
}

Task<std::unique_ptr<NvmeBlockDevice>> NvmeBlockDevice::open(std::string path, NvmeBlockDeviceOptions options) {
  require_character_device(path);
  if (!monterey::capabilities().device_commands) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: this core has no device commands; build the cluster with device_commands(true) ({})",
                            path, monterey::capabilities().reason));
  }
  if (options.polled && !monterey::capabilities().polled_commands) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: this core has no polled commands; build the cluster with polled_commands(true) ({})",
                            path, monterey::capabilities().reason));
  }
  File file = co_await open_file(path, options.read_only);
  NvmeNamespace identity = identify_namespace(file.fd(), path);
  require_format(identity);
  NvmeBlockDeviceImpl::Shape shape;
  shape.first_block = options.first_block;
  shape.blocks = window_blocks(identity, options);
  shape.transfer_bytes = transfer_limit(identity);
  shape.read_only = options.read_only;
  // Linux 5.19 takes none; try_out() looks where it can.
  shape.registered = options.registered_buffers && monterey::linux_is_at_least(6, 0) && parts_fit_segments(path);
  shape.polled = options.polled;
  co_await require_unused(path);
  auto device = std::make_unique<NvmeBlockDeviceImpl>(std::move(identity), std::move(file), shape);
  co_await device->lock();
  co_await device->try_out();
  co_return device;
}

std::vector<NvmeNamespace> list_nvme_namespaces() {
  std::vector<NvmeNamespace> spaces;
  for (const std::string& name : names_in("/sys/class/nvme-generic")) {
    NvmeNamespace space;
    space.path = "/dev/" + name;
    const int fd = ::open(space.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      try {
        space = identify_namespace(fd, space.path);
      } catch (const Error&) {
        space = NvmeNamespace();
        space.path = "/dev/" + name;
      }
      ::close(fd);
    }
    spaces.push_back(std::move(space));
  }
  std::ranges::sort(spaces, {}, &NvmeNamespace::path);
  return spaces;
}

}  // namespace store
