#include "tools/output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <store/error.hpp>
#include <string>

#include "tools/session.hpp"

namespace store::tool {

void guard_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // It gets the lowest number that is free, which is this one. Input and output are open for the wrong direction.
    // Without it the store's file would get that number, and nobody can be told.
    if (::open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_WRONLY) < 0) ::_exit(static_cast<int>(ExitCode::failed));
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

void print_message(std::string_view message) {
  const std::string line = fmt::format("store: {}\n", message);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void Output::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) {
    throw Error::from_errno(errno, "cannot write to standard output");
  }
}

void Output::finish() {
  if (std::fflush(stdout) != 0) throw Error::from_errno(errno, "cannot write to standard output");
}

}  // namespace store::tool
