// Runs one coroutine as the only user task of a one-core cluster, and returns when it has ended; what it throws is thrown here.
// `body` may be a capturing lambda: it lives until then. Inside it use EXPECT_, not ASSERT_, which returns.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>

#include <monterey/cluster.hpp>
#include <monterey/spawn.hpp>
#include <monterey/task.hpp>
#include <store/error.hpp>

#include "support/nvme.hpp"

namespace store::test {

template <class Body>
void on_core(std::size_t arena_bytes, Body body) {
  monterey::BufferConfig arena;
  arena.bytes = arena_bytes;
  monterey::Cluster::builder()
      .cores(1)
      .buffers(arena)
      .device_commands(nvme_path().has_value())
      .polled_commands(nvme_path().has_value())
      .init([&body] { monterey::spawn(body()); })
      .run();
}

template <class Body>
void on_core(Body body) {
  on_core(0, std::move(body));
}

// The code of the store::Error that `task` throws; the text goes to `what` if asked for. Fails the test if it throws none.
inline monterey::Task<Errc> error_of(monterey::Task<> task, std::string* what = nullptr) {
  try {
    co_await std::move(task);
  } catch (const Error& error) {
    if (what != nullptr) *what = error.what();
    co_return error.errc();
  }
  ADD_FAILURE() << "no error was thrown";
  co_return Errc{};
}

// Runs `task` for what it throws.
template <class T>
monterey::Task<> discard(monterey::Task<T> task) {
  static_cast<void>(co_await std::move(task));
}

}  // namespace store::test
