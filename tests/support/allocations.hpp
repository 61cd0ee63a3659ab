// Counts the calls of the global operator new, and makes one fail, in a program that links store_test_allocations.
#pragma once

#include <cstdint>

namespace store::test {

// Off under clang's sanitizers, whose own operator new cannot be replaced: allocations() is then always 0.
#if defined(__clang__)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define STORE_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef STORE_COUNTS_ALLOCATIONS
#define STORE_COUNTS_ALLOCATIONS 1
#endif
inline constexpr bool kCountsAllocations = STORE_COUNTS_ALLOCATIONS != 0;

// Allocations so far by the calling thread.
std::uint64_t allocations() noexcept;

// Makes the nth allocation of the calling thread from now on (1: the next), and as many as `times` together, throw
// std::bad_alloc; 0: none.
void fail_allocation(std::uint64_t nth, std::uint64_t times = 1) noexcept;

}  // namespace store::test
