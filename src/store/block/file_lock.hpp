// The lock on an open store file, or on a range of a device: one writer or any number of readers. Against other processes it is an open-file-
// description lock (fcntl(2), F_OFD_SETLK), which neither a fork nor the closing of an unrelated descriptor drops; within the process
// a table of inodes beside it covers file systems that keep such locks per process (NFS). Owned by the device; must be
// released while its descriptor is still open, and after the last operation on the file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include <monterey/task.hpp>

namespace store {

enum class LockMode : std::uint8_t { shared, exclusive };

// In bytes; the default is the whole file, however it grows.
struct LockRange {
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;  // 0: to the end
};

class FileLock {
 public:
  FileLock() = default;
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock() { release(); }

  // Locks the range of the file behind `fd` without waiting. Returns nothing while another process has a part of it locked. Errors:
  // locked, when this process has; io_error when the file system has no locks.
  static std::optional<FileLock> try_acquire(int fd, LockMode mode, const std::string& path, LockRange range = {});
  // The same, with a little patience: the ring of a process that was killed lets go of its files some milliseconds after the process is
  // gone, and a restart must not fail for that. Errors: locked, also when another process still has it.
  static monterey::Task<FileLock> acquire(int fd, LockMode mode, std::string path, LockRange range = {});
  void release() noexcept;

 private:
  int fd_ = -1;
  LockMode mode_ = LockMode::shared;
  LockRange range_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace store
