// A value read without a copy where that is possible. While it lives, its cache frame cannot be evicted; drop it soon.
// Belongs to the core that read it. May outlive the Partition handle.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

namespace store {

namespace detail {

class PartitionCore;
struct PartitionAccess;

// A user's pin on a cache frame, as addresses only the cache understands; without a page, a part of a SharedBytes.
struct RawPin {
  void* cache = nullptr;
  const void* page = nullptr;
};

// Memory of several values, freed with the last of them. Without atomics: they belong to one core.
struct SharedBytes {
  std::size_t users = 0;

  static SharedBytes* make(std::size_t bytes);
  static void free(SharedBytes* memory) noexcept;
  char* bytes() noexcept { return reinterpret_cast<char*>(this + 1); }
};
void release_user_pin(RawPin pin) noexcept;

}  // namespace detail

class PinnedValue {
 public:
  PinnedValue(PinnedValue&& other) noexcept
      : view_(std::exchange(other.view_, {})), pin_(std::exchange(other.pin_, {})), copy_(std::move(other.copy_)) {}
  PinnedValue& operator=(PinnedValue&& other) noexcept {
    std::swap(view_, other.view_);
    std::swap(pin_, other.pin_);
    std::swap(copy_, other.copy_);
    return *this;
  }
  ~PinnedValue() {
    if (pin_.cache != nullptr) detail::release_user_pin(pin_);
  }

  // Valid while this object lives and is not moved from.
  std::string_view view() const noexcept { return view_; }

 private:
  friend class detail::PartitionCore;
  friend struct detail::PartitionAccess;
  PinnedValue(std::string_view view, detail::RawPin pin) noexcept : view_(view), pin_(pin) {}
  PinnedValue(std::string_view view, std::shared_ptr<std::byte[]> copy) noexcept
      : view_(view), copy_(std::move(copy)) {}

  std::string_view view_;
  detail::RawPin pin_;
  std::shared_ptr<std::byte[]> copy_;
};

}  // namespace store
