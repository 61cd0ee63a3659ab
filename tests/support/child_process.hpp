// Runs part of a test in a forked process: for what another process does, and for what cannot be undone (dropping root, a mount
// namespace, being killed). Fork while this process has one thread, so not on a core.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <utility>

namespace store::test {

class ChildProcess {
 public:
  // What a child returns when the machine does not let it do what the test needs.
  static constexpr int kSkip = 77;

  // Starts `body`, an `int()` that gets this object to talk to its parent by. Its failed expectations are printed and make the
  // exit status nonzero.
  template <class Body>
  explicit ChildProcess(Body body) {
    std::cout.flush();
    std::fflush(nullptr);
    if (::pipe(to_parent_) != 0 || ::pipe(to_child_) != 0) throw std::runtime_error("pipe() failed");
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork() failed");
    if (pid_ != 0) {
      ::close(std::exchange(to_parent_[1], -1));
      ::close(std::exchange(to_child_[0], -1));
      return;
    }
    ::close(std::exchange(to_parent_[0], -1));
    ::close(std::exchange(to_child_[1], -1));
    int status = 1;
    try {
      status = body(*this);
    } catch (const std::exception& error) {
      std::cout << "child process: " << error.what() << std::endl;
    }
    if (testing::Test::HasFailure()) status = 1;
    std::cout.flush();
    std::fflush(nullptr);
    ::_exit(status);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() {
    if (pid_ > 0) {
      kill();
      wait();
    }
    for (const int fd : {to_parent_[0], to_parent_[1], to_child_[0], to_child_[1]}) {
      if (fd >= 0) ::close(fd);
    }
  }

  // Each side tells the other that it has come so far, or waits to be told. await_peer() is false if the other has ended.
  void tell_peer() { static_cast<void>(::write(pid_ == 0 ? to_parent_[1] : to_child_[1], "!", 1) == 1); }
  bool await_peer() {
    char byte;
    return ::read(pid_ == 0 ? to_child_[0] : to_parent_[0], &byte, 1) == 1;
  }

  void kill() { ::kill(pid_, SIGKILL); }
  // The exit status, or -1 if a signal ended it.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
  int to_parent_[2] = {-1, -1};
  int to_child_[2] = {-1, -1};
};

}  // namespace store::test
