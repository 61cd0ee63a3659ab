// Standard output of a command, buffered, with its errors seen: a full disk behind `store dump > file` must not look
// like success. Belongs to the command; finish() is its last use.
#pragma once

#include <cstdio>
#include <string_view>

namespace store::tool {

// Makes the three standard streams safe to have a store open beside them: a stream that is closed becomes one that fails (messages go nowhere), so that no
// file which is opened later gets its number and what is written there, and a pipe that nobody reads any more, or a file at its limit (ulimit -f), is an
// error, not the end of the process. Called once, at the start.
void guard_standard_streams();

// "store: message" on standard error. Where nobody takes it, it is lost, and the command goes on.
void print_message(std::string_view message);

class Output {
 public:
  // Errors (both): store::Error(io_error or no_space) when the bytes cannot be written.
  void write(std::string_view bytes);
  void finish();
};

}  // namespace store::tool
