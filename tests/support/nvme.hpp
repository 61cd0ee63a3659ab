// The NVMe namespace that tests may write to: STORE_TEST_NVME, as `./dev nvme` sets it in its virtual machine.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

namespace store::test {

inline std::optional<std::string> nvme_path() {
  const char* path = std::getenv("STORE_TEST_NVME");
  if (path == nullptr || *path == '\0') return std::nullopt;
  return path;
}

// Whether this machine's kernel polls for the ends of commands, as `./dev nvme` knows.
inline bool nvme_is_polled() { return std::getenv("STORE_TEST_NVME_POLLED") != nullptr; }

}  // namespace store::test
