// A page's memory, aligned as direct I/O wants it.
#pragma once

#include <cstddef>

#include "store/base/units.hpp"

namespace store {

struct alignas(kPageBytes) AlignedPage {
  std::byte bytes[kPageBytes];
};

}  // namespace store
