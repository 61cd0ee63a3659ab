// The errors of the engine. Expected failures are thrown as store::Error, a std::system_error whose code is a
// store::Errc; the text says what happened, where, and what to do about it. A missing key is not a failure.
#pragma once

#include <string>
#include <system_error>

namespace store {

enum class Errc {
  invalid_argument = 1,  // a limit or rule of the call was broken; nothing was changed
  not_found,             // the device or file does not exist
  already_exists,        // create() met a store
  locked,                // this or another process has the device open
  not_a_store,           // the device holds something else
  unsupported_format,    // written by a newer version
  corruption,            // damage was detected; the text names the page and the check
  io_error,              // the device failed; Error::os_error() is the errno
  no_space,              // device full; nothing was applied
  read_only,             // the device or the partition was opened for reading
  poisoned,              // an earlier failed sync, log or meta write; reads go on, reopen to recover
  conflict,              // an expectation of a WriteBatch did not hold
  closed,                // the partition was closed, or the handle was moved from
  aborted,               // the runtime is shutting down
};

const std::error_category& error_category() noexcept;

inline std::error_code make_error_code(Errc code) noexcept { return {static_cast<int>(code), error_category()}; }

class Error : public std::system_error {
 public:
  Error(Errc code, const std::string& what) : std::system_error(make_error_code(code), what), what_(what) {}
  // An io_error that carries the errno it came from; `what` is completed with the errno's text.
  static Error from_errno(int os_error, const std::string& what);

  Errc errc() const noexcept { return static_cast<Errc>(code().value()); }
  // The errno behind an io_error, else 0.
  int os_error() const noexcept { return os_error_; }
  // The message alone, without the category's suffix that std::system_error adds.
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
  int os_error_ = 0;
};

}  // namespace store

template <>
struct std::is_error_code_enum<store::Errc> : std::true_type {};
