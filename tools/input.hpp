// The input of `store load`, readable twice: once to check all of it, once to load it. A file is read where it lies; a
// pipe or terminal is copied to an unnamed temporary file beside the store first, which the kernel removes with its last
// descriptor, however the program ends. Belongs to the command that loads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace store::tool {

// An open file, closed with the object.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }

 private:
  int fd_;
};

class Input {
 public:
  // How the input will be read; `once` copies no pipe.
  enum class Passes { once, twice };

  // Opens `path`, or standard input for "-". `beside` is the path of the store. Errors: not_found, io_error, no_space.
  Input(const std::string& path, const std::string& beside, Passes passes);

  // Reads on. Returns the bytes read, 0 at the end. Errors: io_error.
  std::size_t read(std::span<char> into);
  // Goes back to the start. Requires: made for two passes.
  void rewind();

  // The path, or "standard input".
  const std::string& name() const { return name_; }
  // Bytes of the whole input; 0 when it is a pipe that is read once.
  std::uint64_t size() const { return size_; }
  // Bytes read since the start.
  std::uint64_t position() const { return position_; }

 private:
  void spool(const std::string& beside);

  std::string name_;
  FileDescriptor fd_;
  bool seekable_ = false;
  std::uint64_t size_ = 0;
  std::uint64_t start_ = 0;  // where the input starts in the file: standard input may be half read
  std::uint64_t position_ = 0;
};

}  // namespace store::tool
