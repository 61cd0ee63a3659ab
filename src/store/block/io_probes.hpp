// What tracers see of the transfers of a device, those of files and of namespaces alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <store/types.hpp>

#include "store/base/probes.hpp"
#include "store/base/units.hpp"

namespace store::detail {

// A read, from its call to its end, whether it succeeds or not.
class ReadProbe {
 public:
  ReadProbe(PageNo first, std::size_t bytes) noexcept : first_(first.value), blocks_(bytes / kPageBytes) {
    STORE_PROBE(read_submit, this, first_, blocks_);
  }
  ReadProbe(const ReadProbe&) = delete;
  ReadProbe& operator=(const ReadProbe&) = delete;
  ~ReadProbe() { STORE_PROBE(read_complete, this, first_, blocks_); }

 private:
  [[maybe_unused]] const std::uint32_t first_;
  [[maybe_unused]] const std::size_t blocks_;
};

// A write, likewise.
class WriteProbe {
 public:
  WriteProbe(PageNo first, std::size_t bytes) noexcept : first_(first.value), blocks_(bytes / kPageBytes) {
    STORE_PROBE(write_submit, this, first_, blocks_);
  }
  WriteProbe(const WriteProbe&) = delete;
  WriteProbe& operator=(const WriteProbe&) = delete;
  ~WriteProbe() { STORE_PROBE(write_complete, this, first_, blocks_); }

 private:
  [[maybe_unused]] const std::uint32_t first_;
  [[maybe_unused]] const std::size_t blocks_;
};

}  // namespace store::detail
