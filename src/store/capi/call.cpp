#include "store/capi/call.hpp"

#include <exception>
#include <stdexcept>
#include <system_error>

namespace store::capi {
namespace {

constexpr store_code code_of(Errc errc) noexcept {
  switch (errc) {
    case Errc::invalid_argument: return STORE_ERROR_INVALID_ARGUMENT;
    case Errc::not_found: return STORE_ERROR_NOT_FOUND;
    case Errc::already_exists: return STORE_ERROR_ALREADY_EXISTS;
    case Errc::locked: return STORE_ERROR_LOCKED;
    case Errc::not_a_store: return STORE_ERROR_NOT_A_STORE;
    case Errc::unsupported_format: return STORE_ERROR_UNSUPPORTED_FORMAT;
    case Errc::corruption: return STORE_ERROR_CORRUPTION;
    case Errc::io_error: return STORE_ERROR_IO_ERROR;
    case Errc::no_space: return STORE_ERROR_NO_SPACE;
    case Errc::read_only: return STORE_ERROR_READ_ONLY;
    case Errc::poisoned: return STORE_ERROR_POISONED;
    case Errc::conflict: return STORE_ERROR_CONFLICT;
    case Errc::closed: return STORE_ERROR_CLOSED;
    case Errc::aborted: return STORE_ERROR_ABORTED;
  }
  return STORE_ERROR_UNKNOWN;
}

consteval bool numbers_are_those_of_errc() {
  for (int number = 1; number <= static_cast<int>(Errc::aborted); ++number) {
    if (code_of(static_cast<Errc>(number)) != number) return false;
  }
  return code_of(static_cast<Errc>(static_cast<int>(Errc::aborted) + 1)) == STORE_ERROR_UNKNOWN;
}
static_assert(numbers_are_those_of_errc());

// The last error of a thread: `text` is `owned`, or a literal where there was no memory for it.
struct LastError {
  std::string owned;
  const char* text = "";
  int os_error = 0;

  store_code set(store_code code, const char* what, int from_os = 0) noexcept {
    os_error = from_os;
    try {
      owned = what;
      text = owned.c_str();
    } catch (const std::exception&) {
      text = "no memory for the text of the error";
    }
    return code;
  }
};

thread_local LastError last_error;

const char* name_of(int code) noexcept {
  switch (code) {
    case STORE_OK: return "ok";
    case STORE_KEY_NOT_FOUND: return "key_not_found";
    case STORE_END: return "end";
    case STORE_ERROR_INVALID_ARGUMENT: return "invalid_argument";
    case STORE_ERROR_NOT_FOUND: return "not_found";
    case STORE_ERROR_ALREADY_EXISTS: return "already_exists";
    case STORE_ERROR_LOCKED: return "locked";
    case STORE_ERROR_NOT_A_STORE: return "not_a_store";
    case STORE_ERROR_UNSUPPORTED_FORMAT: return "unsupported_format";
    case STORE_ERROR_CORRUPTION: return "corruption";
    case STORE_ERROR_IO_ERROR: return "io_error";
    case STORE_ERROR_NO_SPACE: return "no_space";
    case STORE_ERROR_READ_ONLY: return "read_only";
    case STORE_ERROR_POISONED: return "poisoned";
    case STORE_ERROR_CONFLICT: return "conflict";
    case STORE_ERROR_CLOSED: return "closed";
    case STORE_ERROR_ABORTED: return "aborted";
    case STORE_ERROR_OUT_OF_MEMORY: return "out_of_memory";
    default: return "unknown";
  }
}

store_code fail_of_source(int code) noexcept {
  constexpr const char* kOther = "the source of the bulk load returned what is neither an entry, the end nor an error";
  if (code <= 0 || (name_of(code) == std::string_view("unknown") && code != STORE_ERROR_UNKNOWN))
    return last_error.set(STORE_ERROR_INVALID_ARGUMENT, kOther);
  try {
    const std::string text = std::string("the source of the bulk load failed: ") + name_of(code);
    return last_error.set(static_cast<store_code>(code), text.c_str());
  } catch (const std::bad_alloc&) {
    return last_error.set(static_cast<store_code>(code), "the source of the bulk load failed");
  }
}

}  // namespace

constinit thread_local bool in_source = false;

constinit DbTable dbs("store");
constinit BatchTable batches("batch");
constinit SnapshotTable snapshots("snapshot");
constinit ScanTable scans("scan");
constinit QueueTable queues("queue");

store_code code_of_exception() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return last_error.set(code_of(error.errc()), error.what(), error.os_error());
  } catch (const std::bad_alloc&) {
    return last_error.set(STORE_ERROR_OUT_OF_MEMORY, "out of memory");
  } catch (const std::length_error&) {
    return last_error.set(STORE_ERROR_INVALID_ARGUMENT, "a length is beyond what memory can hold");
  } catch (const std::system_error& error) {
    return last_error.set(STORE_ERROR_UNKNOWN, error.what(), error.code().value());
  } catch (const SourceFailed& failed) {
    return fail_of_source(failed.code);
  } catch (const std::exception& error) {
    return last_error.set(STORE_ERROR_UNKNOWN, error.what());
  } catch (...) {
    return last_error.set(STORE_ERROR_UNKNOWN, "an exception of an unknown type");
  }
}

void throw_too_long(const char* name) {
  throw Error(Errc::invalid_argument, std::string("the length of `") + name + "` is beyond what memory can hold");
}
void require_no_source(const char* what) {
  if (in_source) throw Error(Errc::invalid_argument, std::string("the source of a bulk load cannot ") + what);
}

void throw_null(const char* name) { throw Error(Errc::invalid_argument, std::string("`") + name + "` is NULL"); }

}  // namespace store::capi

using store::capi::last_error;

const char* store_code_name(int code) noexcept { return store::capi::name_of(code); }
const char* store_last_error() noexcept { return last_error.text; }
int store_last_os_error() noexcept { return last_error.os_error; }

const char* store_version() noexcept { return STORE_VERSION; }
int store_version_number() noexcept { return STORE_VERSION_NUMBER; }

void store_free(void* buffer) noexcept { std::free(buffer); }
