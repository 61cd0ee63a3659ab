// Runs one task on a cluster of one core and rethrows what it throws. For tests of what needs a runtime beneath it.
#pragma once

#include <functional>
#include <monterey/monterey.hpp>
#include <store/config.hpp>
#include <utility>

#include "support/nvme.hpp"

namespace store::test {

inline void run_in_cluster(monterey::BufferConfig buffers, std::function<monterey::Task<>()> make_task,
                           monterey::Backend backend = monterey::Backend::automatic) {
  monterey::Cluster::builder()
      .cores(1)
      .buffers(buffers)
      .backend(backend)
      .pin(false)
      .device_commands(nvme_path().has_value())
      .polled_commands(nvme_path().has_value())
      .init([&make_task] { monterey::spawn(make_task()); })
      .run();
}

}  // namespace store::test
