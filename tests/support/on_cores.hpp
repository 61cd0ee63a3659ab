// Runs one coroutine as the first user task of a cluster of several cores, on core 0, and returns when no task is left; what it throws is
// thrown here. `body` may be a capturing lambda: it lives until then. Inside it use EXPECT_, not ASSERT_, which returns.
#pragma once

#include <cstddef>
#include <utility>

#include <monterey/cluster.hpp>
#include <monterey/spawn.hpp>

namespace store::test {

template <class Body>
void on_cores(unsigned cores, monterey::BufferConfig buffers, Body body) {
  monterey::Cluster::builder()
      .cores(cores)
      .buffers(buffers)
      .init([&body] {
        if (monterey::current_core() == 0) monterey::spawn(body());
      })
      .run();
}

}  // namespace store::test
