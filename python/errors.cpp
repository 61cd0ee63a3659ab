#include "errors.hpp"

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace store::python {
namespace {

// The name that the enumerator has in the source, which docs/errors.md lists.
const char* name_of(Errc code) {
  switch (code) {
    case Errc::invalid_argument: return "invalid_argument";
    case Errc::not_found: return "not_found";
    case Errc::already_exists: return "already_exists";
    case Errc::locked: return "locked";
    case Errc::not_a_store: return "not_a_store";
    case Errc::unsupported_format: return "unsupported_format";
    case Errc::corruption: return "corruption";
    case Errc::io_error: return "io_error";
    case Errc::no_space: return "no_space";
    case Errc::read_only: return "read_only";
    case Errc::poisoned: return "poisoned";
    case Errc::conflict: return "conflict";
    case Errc::closed: return "closed";
    case Errc::aborted: return "aborted";
  }
  return "unknown";
}

// Owns nothing by an object of C++.
void set_python_error(const Error& error) {
  PyObject* const module = PyImport_ImportModule("store._errors");
  if (module == nullptr) return;
  PyObject* const made = PyObject_CallMethod(module, "make", "Nsi", PyUnicode_DecodeFSDefault(error.what()),
                                             name_of(error.errc()), error.os_error());
  Py_DECREF(module);
  if (made == nullptr) return;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made)), made);
  Py_DECREF(made);
}

// Stops this thread if it is unwound by the end of the interpreter (gil.hpp): out of the handler of an exception that would end the process, at
// the first catch (...) that it meets, pybind11's.
class StoppedIfUnwound {
 public:
  StoppedIfUnwound() noexcept = default;
  StoppedIfUnwound(const StoppedIfUnwound&) = delete;
  StoppedIfUnwound& operator=(const StoppedIfUnwound&) = delete;
  ~StoppedIfUnwound() {
    while (!done_) pause();
  }

  void done() noexcept { done_ = true; }

 private:
  bool done_ = false;
};

}  // namespace

// Runs code of Python, in which the interpreter may end.
void set_error(const Error& error) {
  StoppedIfUnwound stopped;
  set_python_error(error);
  stopped.done();
}

}  // namespace store::python
