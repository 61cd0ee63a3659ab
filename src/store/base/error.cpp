#include <store/error.hpp>

#include <cerrno>

namespace store {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "store"; }

  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::invalid_argument: return "invalid argument";
      case Errc::not_found: return "not found";
      case Errc::already_exists: return "already exists";
      case Errc::locked: return "locked";
      case Errc::not_a_store: return "not a store";
      case Errc::unsupported_format: return "unsupported format";
      case Errc::corruption: return "corruption";
      case Errc::io_error: return "I/O error";
      case Errc::no_space: return "no space";
      case Errc::read_only: return "read-only";
      case Errc::poisoned: return "poisoned";
      case Errc::conflict: return "conflict";
      case Errc::closed: return "closed";
      case Errc::aborted: return "aborted";
    }
    return "unknown error";
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

Error Error::from_errno(int os_error, const std::string& what) {
  // EFBIG: the limit of this process (RLIMIT_FSIZE) or of the file system.
  const bool full = os_error == ENOSPC || os_error == EDQUOT || os_error == EFBIG;
  Error error(full ? Errc::no_space : Errc::io_error, what + ": " + std::generic_category().message(os_error));
  error.os_error_ = os_error;
  return error;
}

}  // namespace store
