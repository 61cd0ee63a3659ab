#include "tools/output.hpp"

#include <cerrno>
#include <store/error.hpp>

namespace store::tool {

void Output::write(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) != bytes.size()) {
    throw Error::from_errno(errno, "cannot write to standard output");
  }
}

void Output::finish() {
  if (std::fflush(stdout) != 0) throw Error::from_errno(errno, "cannot write to standard output");
}

}  // namespace store::tool
