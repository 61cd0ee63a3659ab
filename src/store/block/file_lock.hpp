// The lock on an open store file: one writer or any number of readers. Against other processes it is an open-file-
// description lock (fcntl(2), F_OFD_SETLK), which neither a fork nor the closing of an unrelated descriptor drops; within the process
// a table of inodes beside it covers file systems that keep such locks per process (NFS). Owned by the device; must be
// released while its descriptor is still open, and after the last operation on the file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace store {

enum class LockMode : std::uint8_t { shared, exclusive };

class FileLock {
 public:
  FileLock() = default;
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock() { release(); }

  // Locks the file behind `fd` without waiting. Returns nothing while another process has it locked. Errors: locked, when
  // this process has; io_error when the file system has no locks.
  static std::optional<FileLock> try_acquire(int fd, LockMode mode, const std::string& path);
  void release() noexcept;

 private:
  int fd_ = -1;
  LockMode mode_ = LockMode::shared;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace store
