// Page-aligned memory for transfers that a device cannot take from where they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>

#include "store/base/units.hpp"

namespace store {

inline bool is_page_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % kPageBytes == 0; }

class BounceBuffer {
 public:
  static constexpr std::size_t kMostBytes = 1u << 20;

  // Of `bytes`, a whole number of blocks, and of kMostBytes at most. Errors: bad_alloc.
  explicit BounceBuffer(std::size_t bytes)
      : bytes_(std::min(bytes, kMostBytes)), data_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, bytes_))) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  BounceBuffer(const BounceBuffer&) = delete;
  BounceBuffer& operator=(const BounceBuffer&) = delete;
  ~BounceBuffer() { std::free(data_); }

  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

}  // namespace store
