#include "tools/input.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <store/error.hpp>
#include <store/nvme_block_device.hpp>
#include <utility>
#include <vector>

#include "tools/progress.hpp"

namespace store::tool {
namespace {

constexpr std::size_t kCopyBytes = 64u << 10;

// A file without a name in the directory of `beside`: the store's file system is the one that must have the room. Of a
// sharded store that is its own directory, if there is one yet. A namespace has none.
FileDescriptor open_temporary(const std::string& beside) {
  std::filesystem::path directory = beside;
  if (!std::filesystem::is_directory(directory)) {
    if (!directory.has_filename()) directory = directory.parent_path();  // it ends in a slash
    directory = directory.parent_path();
  }
  if (directory.empty()) directory = ".";
  if (is_nvme_path(beside)) directory = std::filesystem::temp_directory_path();
  FileDescriptor unnamed(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (unnamed.get() >= 0) return unnamed;
  // Some file systems know no O_TMPFILE.
  std::string name = (directory / ".store-load-XXXXXX").string();
  FileDescriptor named(::mkostemp(name.data(), O_CLOEXEC));
  if (named.get() < 0)
    throw Error::from_errno(errno, fmt::format("cannot make a temporary file in {}", directory.string()));
  ::unlink(name.c_str());
  return named;
}

void write_all(int fd, std::span<const char> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error::from_errno(errno, "cannot copy the input beside the store");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Input::Input(const std::string& path, const std::string& beside, Passes passes)
    : name_(path == "-" ? "standard input" : path),
      fd_(path == "-" ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_.get() < 0 && errno == ENOENT) throw Error(Errc::not_found, fmt::format("there is no input file {}", name_));
  if (fd_.get() < 0) throw Error::from_errno(errno, fmt::format("cannot open {}", name_));
  struct stat status {};
  if (::fstat(fd_.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    const off_t at = ::lseek(fd_.get(), 0, SEEK_CUR);
    seekable_ = at >= 0;
    start_ = seekable_ ? static_cast<std::uint64_t>(at) : 0;
    const auto end = static_cast<std::uint64_t>(status.st_size);
    size_ = end > start_ ? end - start_ : 0;
  } else if (passes == Passes::twice) {
    spool(beside);
  }
}

void Input::spool(const std::string& beside) {
  FileDescriptor copy = open_temporary(beside);
  std::vector<char> buffer(kCopyBytes);
  Progress progress("read", Unit::bytes, 0);
  std::uint64_t bytes = 0;
  while (const std::size_t n = read(buffer)) {
    write_all(copy.get(), std::span(buffer).first(n));
    bytes += n;
    progress.at(bytes);
  }
  fd_ = std::move(copy);
  seekable_ = true;
  size_ = bytes;
  rewind();
}

std::size_t Input::read(std::span<char> into) {
  for (;;) {
    const ssize_t n = ::read(fd_.get(), into.data(), into.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error::from_errno(errno, fmt::format("cannot read {}", name_));
    position_ += static_cast<std::uint64_t>(n);
    return static_cast<std::size_t>(n);
  }
}

void Input::rewind() {
  if (!seekable_ || ::lseek(fd_.get(), static_cast<off_t>(start_), SEEK_SET) < 0) {
    throw Error(Errc::io_error, fmt::format("cannot read {} a second time", name_));
  }
  position_ = 0;
}

}  // namespace store::tool
