#include <monterey/fixed_bufs.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <store/error.hpp>
#include <string>
#include <utility>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define MONTEREY_POISON_FREE_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MONTEREY_POISON_FREE_MEMORY 1
#endif
#endif
#ifdef MONTEREY_POISON_FREE_MEMORY
#include <sanitizer/asan_interface.h>
#endif

namespace monterey {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;
constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

thread_local FixedBufs* t_arena = nullptr;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

void poison([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef MONTEREY_POISON_FREE_MEMORY
  ASAN_POISON_MEMORY_REGION(data, bytes);
#endif
}

void unpoison([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef MONTEREY_POISON_FREE_MEMORY
  ASAN_UNPOISON_MEMORY_REGION(data, bytes);
#endif
}

// What the kernel would give without swapping, or kUnlimited if it does not say.
std::uint64_t machine_memory_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    unsigned long long kibibytes = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %llu", &kibibytes) == 1) return std::uint64_t{kibibytes} << 10;
  }
  return kUnlimited;
}

// The limit of this process's control group (version 2), or kUnlimited.
std::uint64_t group_memory_bytes() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::")) continue;
    std::ifstream limit("/sys/fs/cgroup" + line.substr(3) + "/memory.max");
    std::uint64_t bytes = 0;
    if (limit >> bytes) return bytes;
  }
  return kUnlimited;
}

[[noreturn]] void throw_too_large(std::size_t needed, std::uint64_t available) {
  throw store::Error(store::Errc::invalid_argument, "the buffer arena needs " + std::to_string(needed) + " bytes and " +
                                                        std::to_string(available) +
                                                        " are available; use a smaller cache or fewer cores");
}

}  // namespace

// 16 bytes at the start of every free range, which is at least a page.
struct FixedBufs::FreeRange {
  FreeRange* next;
  std::size_t bytes;
};

FixedBuf::FixedBuf(FixedBuf&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

FixedBuf& FixedBuf::operator=(FixedBuf&& other) noexcept {
  FixedBuf taken(std::move(other));
  std::swap(owner_, taken.owner_);
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  return *this;
}

void FixedBuf::reset() noexcept {
  if (owner_ != nullptr) owner_->release(data_, size_);
  owner_ = nullptr;
  data_ = nullptr;
  size_ = 0;
}

void FixedBufs::require_memory(std::size_t bytes) {
  const std::uint64_t available = std::min(machine_memory_bytes(), group_memory_bytes());
  if (bytes > available) throw_too_large(bytes, available);
}

FixedBufs::FixedBufs(std::size_t bytes, std::size_t chunk_bytes)
    : chunk_shift_(static_cast<unsigned>(std::countr_zero(chunk_bytes))) {
  STORE_ASSERT(std::has_single_bit(chunk_bytes) && chunk_bytes % store::kPageBytes == 0);
  if (bytes == 0) return;
  require_memory(bytes);
  size_bytes_ = round_up(bytes, store::kPageBytes);
  // Anything that holds a huge page starts at one.
  const std::size_t alignment = size_bytes_ >= kHugePageBytes ? kHugePageBytes : store::kPageBytes;
  mapping_bytes_ = size_bytes_ + alignment - store::kPageBytes;
  void* const mapping =
      ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    const std::string why = std::strerror(errno);
    throw store::Error(store::Errc::invalid_argument,
                       "the buffer arena needs " + std::to_string(size_bytes_) + " bytes, which cannot be mapped (" +
                           why + ") with " + std::to_string(machine_memory_bytes()) +
                           " available; use a smaller cache or raise the limit on address space");
  }
  mapping_ = static_cast<std::byte*>(mapping);
  base_ = mapping_ + (round_up(reinterpret_cast<std::uintptr_t>(mapping_), alignment) -
                      reinterpret_cast<std::uintptr_t>(mapping_));
  ::madvise(base_, size_bytes_, MADV_HUGEPAGE);  // refused where the kernel has no huge pages: small ones serve
  registered_.assign((size_bytes_ + chunk_bytes - 1) / chunk_bytes, 0);
  release(base_, size_bytes_);
}

FixedBufs::~FixedBufs() {
  if (mapping_ == nullptr) return;
  unpoison(base_, size_bytes_);
  ::munmap(mapping_, mapping_bytes_);
}

FixedBufs* FixedBufs::current_if_any() noexcept { return t_arena; }

FixedBufs& FixedBufs::current() {
  if (t_arena == nullptr) {
    throw store::Error(store::Errc::invalid_argument, "FixedBufs::current() outside a core of a running Cluster");
  }
  return *t_arena;
}

void FixedBufs::set_current(FixedBufs* arena) noexcept { t_arena = arena; }

std::span<std::byte> FixedBufs::chunk(std::size_t index) const noexcept {
  const std::size_t offset = index * chunk_bytes();
  return {base_ + offset, std::min(chunk_bytes(), size_bytes_ - offset)};
}

FixedBuf FixedBufs::allocate(std::size_t bytes) {
  if (bytes == 0) throw store::Error(store::Errc::invalid_argument, "an empty range of the buffer arena was asked for");
  std::size_t longest = 0;
  if (bytes <= free_bytes_) {
    const std::size_t wanted = round_up(bytes, store::kPageBytes);
    for (FreeRange** link = &free_; *link != nullptr; link = &(*link)->next) {
      FreeRange* const range = *link;
      longest = std::max(longest, range->bytes);
      if (range->bytes < wanted) continue;
      const FreeRange found = *range;
      auto* const data = reinterpret_cast<std::byte*>(range);
      if (found.bytes == wanted) {
        *link = found.next;
      } else {
        unpoison(data + wanted, sizeof(FreeRange));
        *link = ::new (data + wanted) FreeRange{found.next, found.bytes - wanted};
      }
      unpoison(data, wanted);
      free_bytes_ -= wanted;
      return FixedBuf(this, data, wanted);
    }
  }
  throw store::Error(store::Errc::invalid_argument, "the buffer arena cannot give " + std::to_string(bytes) +
                                                        " bytes: " + std::to_string(free_bytes_) + " of its " +
                                                        std::to_string(size_bytes_) +
                                                        " are free, the longest range has " + std::to_string(longest) +
                                                        "; give Cluster::builder().buffers() more");
}

void FixedBufs::release(std::byte* data, std::size_t bytes) noexcept {
  STORE_ASSERT(data >= base_ && data + bytes <= base_ + size_bytes_);
  FreeRange** link = &free_;
  FreeRange* before = nullptr;
  while (*link != nullptr && reinterpret_cast<std::byte*>(*link) < data) {
    before = *link;
    link = &before->next;
  }
  FreeRange* const after = *link;
  STORE_ASSERT(after == nullptr || data + bytes <= reinterpret_cast<std::byte*>(after));
  STORE_ASSERT(before == nullptr || reinterpret_cast<std::byte*>(before) + before->bytes <= data);
  free_bytes_ += bytes;
  FreeRange* range = ::new (data) FreeRange{after, bytes};
  poison(data + sizeof(FreeRange), bytes - sizeof(FreeRange));
  *link = range;
  if (after != nullptr && data + bytes == reinterpret_cast<std::byte*>(after)) {
    range->bytes += after->bytes;
    range->next = after->next;
    poison(after, sizeof(FreeRange));
  }
  if (before != nullptr && reinterpret_cast<std::byte*>(before) + before->bytes == data) {
    before->bytes += range->bytes;
    before->next = range->next;
    poison(range, sizeof(FreeRange));
  }
}

}  // namespace monterey
