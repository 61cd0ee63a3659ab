// Whether this process has been forked since something was made that only its maker may use.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <store/error.hpp>

namespace store::detail {

class ForkCheck {
 public:
  // Errors: io_error when there is no memory to take notice of forks.
  ForkCheck() : forks_(count_from_now_on()) {}

  bool is_forked() const noexcept { return forks.load(std::memory_order_relaxed) != forks_; }

 private:
  static std::uint64_t count_from_now_on() {
    static const int registered =
        pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
    if (registered != 0) throw Error::from_errno(registered, "pthread_atfork for a store");
    return forks.load(std::memory_order_relaxed);
  }

  static inline std::atomic<std::uint64_t> forks{0};  // that made this process, since the first check

  const std::uint64_t forks_;
};

}  // namespace store::detail
