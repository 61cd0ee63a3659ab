// An open file as its operations share it: the descriptor, its slot in the ring's table, and who still uses it.
// Counted by OpenFileRef; the descriptor closes with the last user, so that an operation never meets a number that
// was given to another file.
#pragma once

#include <coroutine>
#include <cstdint>
#include <monterey/file.hpp>
#include <string>

#include "monterey/io_backend.hpp"

namespace monterey::detail {

struct OpenFile {
  OpenFile(int descriptor, std::string path, bool is_direct);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  // Returns the slot if `backend` is the one that gave it, else -1.
  int slot_in(const IoBackend& backend) const noexcept { return backend.id() == backend_id ? slot : -1; }
  void leave_table() noexcept;

  int fd;
  int slot = -1;
  std::uint64_t backend_id = 0;
  const std::string name;
  const bool direct;
  bool closing = false;
  std::uint32_t users = 0;
  std::uint32_t operations = 0;
  ReadyNode closer;  // waits for `operations` to be 0
};

// One operation, from its start to its end. Errors: closed.
class Operation {
 public:
  explicit Operation(const OpenFileRef& file);
  ~Operation();
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

 private:
  OpenFileRef file_;
};

}  // namespace monterey::detail
