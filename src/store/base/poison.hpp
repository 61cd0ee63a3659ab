// Memory that nobody may touch, for AddressSanitizer; nothing in other builds. STORE_ASAN says whether this is one.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define STORE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STORE_ASAN 1
#endif
#endif
#ifdef STORE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace store {

inline void poison([[maybe_unused]] const std::byte* data, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef STORE_ASAN
  ASAN_POISON_MEMORY_REGION(data, bytes);
#endif
}

inline void unpoison([[maybe_unused]] const std::byte* data, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef STORE_ASAN
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
#endif
}

}  // namespace store
