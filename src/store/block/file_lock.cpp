#include "store/block/file_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <mutex>
#include <utility>

#include <store/error.hpp>

namespace store {
namespace {

struct Holders {
  int readers = 0;
  bool writer = false;
};

// The files this process has open. Cores open devices of their own, hence the mutex.
class InodeTable {
 public:
  static InodeTable& instance() {
    static InodeTable table;
    return table;
  }

  bool enter(dev_t device, ino_t inode, LockMode mode) {
    const std::scoped_lock guard(mutex_);
    Holders& holders = open_[{device, inode}];
    if (holders.writer || (mode == LockMode::exclusive && holders.readers != 0)) return false;
    if (mode == LockMode::exclusive) {
      holders.writer = true;
    } else {
      ++holders.readers;
    }
    return true;
  }

  void leave(dev_t device, ino_t inode, LockMode mode) noexcept {
    const std::scoped_lock guard(mutex_);
    const auto it = open_.find({device, inode});
    if (it == open_.end()) return;
    if (mode == LockMode::exclusive) {
      it->second.writer = false;
    } else {
      --it->second.readers;
    }
    if (!it->second.writer && it->second.readers == 0) open_.erase(it);
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<dev_t, ino_t>, Holders> open_;
};

int set_lock(int fd, short type) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;  // from 0, length 0: the whole file, however it grows
  while (::fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

FileLock::FileLock(FileLock&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), mode_(other.mode_), device_(other.device_), inode_(other.inode_) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  if (this != &other) {
    release();
    fd_ = std::exchange(other.fd_, -1);
    mode_ = other.mode_;
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

std::optional<FileLock> FileLock::try_acquire(int fd, LockMode mode, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) throw Error::from_errno(errno, path + ": cannot look at the open file");
  if (!InodeTable::instance().enter(info.st_dev, info.st_ino, mode)) {
    throw Error(Errc::locked, path + ": already open in this process; a store is opened once and shared");
  }
  FileLock lock;
  lock.fd_ = fd;
  lock.mode_ = mode;
  lock.device_ = info.st_dev;
  lock.inode_ = info.st_ino;
  const int failure = set_lock(fd, mode == LockMode::exclusive ? F_WRLCK : F_RDLCK);
  if (failure == 0) return lock;
  lock.fd_ = -1;
  InodeTable::instance().leave(info.st_dev, info.st_ino, mode);
  if (failure == EAGAIN || failure == EACCES) return std::nullopt;
  throw Error::from_errno(failure, path + ": cannot lock the file");
}

void FileLock::release() noexcept {
  if (fd_ < 0) return;
  // Said aloud rather than left to close(): a ring may hold its own reference to the file for a while longer.
  set_lock(std::exchange(fd_, -1), F_UNLCK);
  InodeTable::instance().leave(device_, inode_, mode_);
}

}  // namespace store
