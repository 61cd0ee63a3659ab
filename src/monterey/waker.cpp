#include "monterey/waker.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <store/error.hpp>

namespace monterey::detail {

Waker::Waker() : fd_(::eventfd(0, EFD_CLOEXEC)) {
  if (fd_ < 0) throw store::Error::from_errno(errno, "cannot make the eventfd that wakes a core");
}

Waker::~Waker() { ::close(fd_); }

void Waker::signal() noexcept {
  const std::uint64_t one = 1;
  while (::write(fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

}  // namespace monterey::detail
