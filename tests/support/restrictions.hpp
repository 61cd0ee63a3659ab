// What a process gives up for good, so in a child process of its own (child_process.hpp).
#pragma once

#include <grp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

namespace store::test {

// Becomes a user whom file modes hold back, unless this is one. Returns false where that is refused.
inline bool become_ordinary_user() {
  constexpr uid_t kNobody = 65534;
  if (::geteuid() != 0) return true;
  return ::setgroups(0, nullptr) == 0 && ::setresgid(kNobody, kNobody, kNobody) == 0 &&
         ::setresuid(kNobody, kNobody, kNobody) == 0;
}

// Files cannot grow beyond so many bytes: as if their device were full. Returns false where that is refused.
inline bool limit_file_size(rlim_t bytes) {
  const rlimit limit{.rlim_cur = bytes, .rlim_max = bytes};
  return ::signal(SIGXFSZ, SIG_IGN) != SIG_ERR && ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

}  // namespace store::test
