#include "support/system_calls.hpp"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>

namespace store::test {
namespace {

// No such system calls: the kernel answers ENOSYS and the tracer sees them.
constexpr long kOpenWindow = 100'001;
constexpr long kCloseWindow = 100'002;

[[noreturn]] void run_child(const std::function<std::string(const SystemCallWindow&)>& body, int report_fd) {
  std::string failure;
  if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) {
    failure = "tracing is refused";
  } else {
    ::raise(SIGSTOP);
    try {
      failure = body(SystemCallWindow{});
    } catch (const std::exception& error) {
      failure = error.what();
    }
  }
  if (::write(report_fd, failure.data(), failure.size()) < 0) ::_exit(2);
  ::_exit(failure.empty() ? 0 : 1);
}

// Follows `child` to its end. Returns its wait status.
int trace(pid_t child, SystemCalls& calls) {
  int status = 0;
  bool window_open = false;
  bool entering = true;
  while (::waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
      signal = 0;
      user_regs_struct registers{};
      ::ptrace(PTRACE_GETREGS, child, nullptr, &registers);
      const long number = static_cast<long>(registers.orig_rax);
      if (entering && number == kOpenWindow) window_open = true;
      if (entering && number == kCloseWindow) window_open = false;
      if (entering && window_open && number != kOpenWindow) {
        ++calls.by_number[number];
        // Its second argument is how many entries of the submission queue the kernel shall take.
        if (number == SYS_io_uring_enter && registers.rsi != 0) calls.submitted.push_back(registers.rsi);
      }
      entering = !entering;
    } else if (signal == SIGSTOP) {
      ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
      signal = 0;
    }
    ::ptrace(PTRACE_SYSCALL, child, nullptr, signal);
  }
  return status;
}

}  // namespace

std::uint64_t SystemCalls::of(long number) const {
  const auto found = by_number.find(number);
  return found == by_number.end() ? 0 : found->second;
}

std::uint64_t SystemCalls::total() const {
  std::uint64_t sum = 0;
  for (const auto& [number, count] : by_number) sum += count;
  return sum;
}

void SystemCallWindow::open() const { ::syscall(kOpenWindow); }
void SystemCallWindow::close() const { ::syscall(kCloseWindow); }

SystemCalls count_system_calls(const std::function<std::string(const SystemCallWindow&)>& body) {
  SystemCalls calls;
  int report[2];
  if (::pipe(report) != 0) return calls;
  const pid_t child = ::fork();
  if (child == 0) run_child(body, report[1]);
  ::close(report[1]);
  if (child > 0) {
    const int status = trace(child, calls);
    calls.counted = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    char text[4096];
    for (ssize_t got; (got = ::read(report[0], text, sizeof text)) > 0;) {
      calls.failure.append(text, static_cast<std::size_t>(got));
    }
    if (!calls.counted && calls.failure.empty()) calls.failure = "the child died";
  }
  ::close(report[0]);
  return calls;
}

}  // namespace store::test
