// Assertions on the engine's own logic, never on bytes from a device or on a caller's arguments (those are errors).
// STORE_ASSERT is on in every build; STORE_VERIFY only where NDEBUG is not defined, for checks that cost.
#pragma once

namespace store::detail {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace store::detail

#define STORE_ASSERT(condition) \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0) \
       : ::store::detail::assertion_failed(#condition, __FILE__, __LINE__))

#ifdef NDEBUG
#define STORE_VERIFY(condition) static_cast<void>(sizeof(static_cast<bool>(condition)))
#else
#define STORE_VERIFY(condition) STORE_ASSERT(condition)
#endif
