#include "support/allocations.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace store::test {
namespace {
thread_local std::uint64_t t_allocations = 0;
thread_local std::uint64_t t_failing = 0;
thread_local std::uint64_t t_times = 1;
}  // namespace

std::uint64_t allocations() noexcept { return t_allocations; }
void fail_allocation(std::uint64_t nth, std::uint64_t times) noexcept {
  t_failing = nth;
  t_times = times;
}

}  // namespace store::test

#if STORE_COUNTS_ALLOCATIONS

namespace {
void* allocate(std::size_t bytes, std::size_t alignment) {
  ++store::test::t_allocations;
  if (store::test::t_failing != 0 && --store::test::t_failing == 0) {
    if (--store::test::t_times > 0) store::test::t_failing = 1;
    throw std::bad_alloc();
  }
  void* const memory = alignment <= alignof(std::max_align_t)
                           ? std::malloc(bytes == 0 ? 1 : bytes)
                           : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

#endif
