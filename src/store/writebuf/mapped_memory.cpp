#include "store/writebuf/mapped_memory.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <store/error.hpp>
#include <string>

#include "store/base/assert.hpp"

namespace store {
namespace {

constexpr std::size_t kSmallPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
// Below this a huge page would waste too large a part of the mapping.
constexpr std::size_t kHugeFrom = 4 * kHugePage;

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

std::size_t MappedMemory::mapped_bytes(std::size_t bytes) noexcept {
  return round_up(bytes, bytes >= kHugeFrom ? kHugePage : kSmallPage);
}

MappedMemory::MappedMemory(std::size_t bytes) : bytes_(mapped_bytes(bytes)) {
  const bool huge = bytes_ >= kHugeFrom;
  // Huge pages need an aligned start, which mmap does not promise: map one more and give back what sticks out.
  const std::size_t wanted = huge ? bytes_ + kHugePage : bytes_;
  void* p = ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    throw Error(Errc::invalid_argument, "cannot map " + std::to_string(bytes_) + " bytes for a write buffer (" +
                                            std::strerror(errno) + "): lower write_buffer_bytes");
  }
  data_ = static_cast<std::byte*>(p);
  if (huge) {
    const auto start = reinterpret_cast<std::uintptr_t>(p);
    const std::size_t before = round_up(start, kHugePage) - start;
    const std::size_t after = kHugePage - before;
    data_ += before;
    if (before > 0) STORE_ASSERT(::munmap(p, before) == 0);
    if (after > 0) STORE_ASSERT(::munmap(data_ + bytes_, after) == 0);
    // Refused where huge pages are switched off; small ones do as well, only slower.
    static_cast<void>(::madvise(data_, bytes_, MADV_HUGEPAGE));
  }
}

MappedMemory::~MappedMemory() { STORE_ASSERT(::munmap(data_, bytes_) == 0); }

}  // namespace store
