// An anonymous mapping, zeroed and untouched until used; large ones ask for huge pages, since a buffer is read at
// random. Freed by the destructor.
#pragma once

#include <cstddef>

namespace store {

class MappedMemory {
 public:
  // Errors: invalid_argument when the system refuses; the text names the bytes.
  explicit MappedMemory(std::size_t bytes);
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;
  ~MappedMemory();

  // What a mapping asked for with `bytes` takes at most: whole pages, whole huge pages if large.
  static std::size_t mapped_bytes(std::size_t bytes) noexcept;

  std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace store
