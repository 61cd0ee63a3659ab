// Standard output of a command, buffered, with its errors seen: a full disk behind `store dump > file` must not look
// like success. Belongs to the command; finish() is its last use.
#pragma once

#include <cstdio>
#include <string_view>

namespace store::tool {

class Output {
 public:
  // Errors (both): store::Error(io_error or no_space) when the bytes cannot be written.
  void write(std::string_view bytes);
  void finish();
};

}  // namespace store::tool
