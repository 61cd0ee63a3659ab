// Counts the calls of the global operator new in a program that links store_test_allocations.
#pragma once

#include <cstdint>

namespace store::test {

// Allocations so far by the calling thread.
std::uint64_t allocations() noexcept;

}  // namespace store::test
