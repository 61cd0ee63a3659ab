#include "sim/shrink.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>

namespace store::test {

namespace {

constexpr unsigned kSecondsATry = 30;

bool still_violates(const FaultEntry& fault, const FaultContext& context, std::uint64_t seed,
                    const std::vector<char>& only) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork() failed");
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(0);
    for (const int signal : {SIGABRT, SIGSEGV}) std::signal(signal, SIG_DFL);
    ::alarm(kSecondsATry);
    FaultContext own = context;
    own.only = &only;
    own.trace = false;
    bool violates = true;
    try {
      violates = !fault.run(own, seed).empty();
    } catch (const std::exception&) {
    }
    ::_exit(violates ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) != SIGALRM : WEXITSTATUS(status) == 1;
}

}  // namespace

std::vector<char> shrink(const FaultEntry& fault, const FaultContext& context, std::uint64_t seed) {
  std::vector<char> only(kMostOperations, 1);
  for (std::size_t stretch = kMostOperations / 2; stretch > 0; stretch /= 2) {
    for (std::size_t begin = 0; begin < only.size(); begin += stretch) {
      std::vector<char> fewer = only;
      const auto first = fewer.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto last = fewer.begin() + static_cast<std::ptrdiff_t>(std::min(begin + stretch, fewer.size()));
      std::fill(first, last, 0);
      if (fewer != only && still_violates(fault, context, seed, fewer)) only = std::move(fewer);
    }
  }
  return only;
}

}  // namespace store::test
