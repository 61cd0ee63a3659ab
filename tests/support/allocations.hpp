// Counts the calls of the global operator new, and makes one fail, in a program that links store_test_allocations.
#pragma once

#include <cstdint>

namespace store::test {

// Allocations so far by the calling thread.
std::uint64_t allocations() noexcept;

// Makes the nth allocation of the calling thread from now on (1: the next) throw std::bad_alloc; 0: none.
void fail_allocation(std::uint64_t nth) noexcept;

}  // namespace store::test
