#include "store/block/file_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <monterey/time.hpp>
#include <store/error.hpp>

namespace store {
namespace {

constexpr std::chrono::milliseconds kLockPoll{5};
constexpr std::chrono::milliseconds kLockPatience{500};

struct Holder {
  LockRange range;
  LockMode mode = LockMode::shared;

  std::uint64_t end() const { return range.bytes == 0 ? ~std::uint64_t{0} : range.begin + range.bytes; }
};

bool excludes(const Holder& a, const Holder& b) {
  const bool meets = a.range.begin < b.end() && b.range.begin < a.end();
  return meets && (a.mode == LockMode::exclusive || b.mode == LockMode::exclusive);
}

// What a lock is of: an inode, or, however many nodes there are of it, a device.
using Identity = std::pair<dev_t, ino_t>;

Identity identity_of(const struct stat& info) {
  const bool is_device = S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode);
  return is_device ? Identity{info.st_rdev, S_ISCHR(info.st_mode) ? 1 : 0} : Identity{info.st_dev, info.st_ino};
}

// The files this process has open. Cores open devices of their own, hence the mutex.
class InodeTable {
 public:
  static InodeTable& instance() {
    static InodeTable table;
    return table;
  }

  bool enter(dev_t device, ino_t inode, const Holder& holder) {
    const std::scoped_lock guard(mutex_);
    std::vector<Holder>& holders = open_[{device, inode}];
    if (std::ranges::any_of(holders, [&](const Holder& other) { return excludes(other, holder); })) return false;
    holders.push_back(holder);
    return true;
  }

  void leave(dev_t device, ino_t inode, const Holder& holder) noexcept {
    const std::scoped_lock guard(mutex_);
    const auto it = open_.find({device, inode});
    if (it == open_.end()) return;
    const auto left = std::ranges::find_if(it->second, [&](const Holder& other) {
      return other.range.begin == holder.range.begin && other.range.bytes == holder.range.bytes &&
             other.mode == holder.mode;
    });
    if (left != it->second.end()) it->second.erase(left);
    if (it->second.empty()) open_.erase(it);
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<dev_t, ino_t>, std::vector<Holder>> open_;
};

int set_lock(int fd, short type, LockRange range) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.begin);
  lock.l_len = static_cast<off_t>(range.bytes);
  while (::fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

FileLock::FileLock(FileLock&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      mode_(other.mode_),
      range_(other.range_),
      device_(other.device_),
      inode_(other.inode_) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  if (this != &other) {
    release();
    fd_ = std::exchange(other.fd_, -1);
    mode_ = other.mode_;
    range_ = other.range_;
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

std::optional<FileLock> FileLock::try_acquire(int fd, LockMode mode, const std::string& path, LockRange range) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) throw Error::from_errno(errno, path + ": cannot look at the open file");
  const auto [device, inode] = identity_of(info);
  if (!InodeTable::instance().enter(device, inode, Holder{range, mode})) {
    throw Error(Errc::locked, path + ": already open in this process; a store is opened once and shared");
  }
  FileLock lock;
  lock.fd_ = fd;
  lock.mode_ = mode;
  lock.range_ = range;
  lock.device_ = device;
  lock.inode_ = inode;
  const int failure = set_lock(fd, mode == LockMode::exclusive ? F_WRLCK : F_RDLCK, range);
  if (failure == 0) return lock;
  lock.fd_ = -1;
  InodeTable::instance().leave(device, inode, Holder{range, mode});
  if (failure == EAGAIN || failure == EACCES) return std::nullopt;
  throw Error::from_errno(failure, path + ": cannot lock the file");
}

monterey::Task<FileLock> FileLock::acquire(int fd, LockMode mode, std::string path, LockRange range) {
  for (auto waited = std::chrono::milliseconds(0);; waited += kLockPoll) {
    std::optional<FileLock> lock = try_acquire(fd, mode, path, range);
    if (lock) co_return std::move(*lock);
    if (waited >= kLockPatience)
      throw Error(Errc::locked, path + ": another process has it open; close it there first");
    co_await monterey::sleep_for(kLockPoll);
  }
}

void FileLock::release() noexcept {
  if (fd_ < 0) return;
  // Said aloud rather than left to close(): a ring may hold its own reference to the file for a while longer.
  set_lock(std::exchange(fd_, -1), F_UNLCK, range_);
  InodeTable::instance().leave(device_, inode_, Holder{range_, mode_});
}

}  // namespace store
