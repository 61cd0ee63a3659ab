// The four rungs of the I/O ladder, as parameters of tests, and what tests on them share.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <monterey/fixed_bufs.hpp>
#include <store/error.hpp>
#include <string>

#include "monterey/io_backend.hpp"
#include "support/temp_dir.hpp"

namespace monterey::test {

inline constexpr detail::IoRung kAllRungs[] = {detail::IoRung::full, detail::IoRung::nobufs, detail::IoRung::plain,
                                               detail::IoRung::threads};

inline std::string rung_name(detail::IoRung rung) {
  switch (rung) {
    case detail::IoRung::full: return "full";
    case detail::IoRung::nobufs: return "nobufs";
    case detail::IoRung::plain: return "plain";
    case detail::IoRung::threads: return "threads";
  }
  return "?";
}

// Whether this machine lets tests use io_uring at all; where it does not, tests of the ring's rungs say so and are
// skipped.
inline bool io_uring_allowed() {
  FixedBufs none(0);
  Capabilities found;
  try {
    detail::make_backend(Backend::io_uring, detail::IoRung::plain, none, found);
    return true;
  } catch (const store::Error&) {
    return false;
  }
}

// A backend on the rung under test, with an arena.
class RungTest : public testing::TestWithParam<detail::IoRung> {
 protected:
  void SetUp() override {
    if (GetParam() != detail::IoRung::threads && !io_uring_allowed()) GTEST_SKIP() << "io_uring is refused here";
    arena_ = std::make_unique<FixedBufs>(std::size_t{1} << 20);
    backend_ = detail::make_backend(Backend::automatic, GetParam(), *arena_, found_);
  }
  bool on_ring() const { return GetParam() != detail::IoRung::threads; }

  store::test::TempDir directory_;
  std::unique_ptr<FixedBufs> arena_;
  Capabilities found_;
  std::unique_ptr<detail::IoBackend> backend_;
};

}  // namespace monterey::test
