// Structs of options, whose first member is their size as the caller knows them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <store/error.hpp>

#include "store/capi/call.hpp"

namespace store::capi {

// Their size in the first version that had them; members were only added since.
template <class T>
inline constexpr std::size_t kFirstSize = sizeof(T);

template <class T>
void require_size(std::size_t size) {
  if (size < kFirstSize<T>)
    throw Error(Errc::invalid_argument, "`size` of the options is too small: set them by their init");
}

// Copies `given`, or `defaults` for what it is too short to have, or if it is NULL. Errors: invalid_argument for a wrong size.
template <class T>
T options_of(const T* given, const T& defaults) {
  if (given == nullptr) return defaults;
  require_size<T>(given->size);
  T options = defaults;
  std::memcpy(&options, given, std::min(given->size, sizeof(T)));
  const auto* const bytes = reinterpret_cast<const char*>(given);
  for (std::size_t i = sizeof(T); i < given->size; ++i) {
    if (bytes[i] != 0)
      throw Error(Errc::invalid_argument, "the options ask for what this version of the library does not know");
  }
  return options;
}

template <class T>
store_code init_options(T* options, std::size_t size, const T& defaults) noexcept {
  return guarded([&] {
    require(options, "options");
    require_size<T>(size);
    std::memset(static_cast<void*>(options), 0, size);
    std::memcpy(options, &defaults, std::min(size, sizeof(T)));
    options->size = size;
    return STORE_OK;
  });
}

// Errors: invalid_argument for a value that is not 0..`last`.
inline int require_at_most(int last, int value, const char* name) {
  if (value < 0 || value > last)
    throw Error(Errc::invalid_argument,
                std::string("`") + name + "` of the options is not in 0.." + std::to_string(last));
  return value;
}
inline bool flag_of(int value, const char* name) { return require_at_most(1, value, name) == 1; }

}  // namespace store::capi
