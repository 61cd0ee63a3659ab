// Reads of a store by the C API of Python: pybind11's dispatcher takes longer than a get of a value in memory does. Such a get keeps the GIL: the
// engine is only tried, which waits for nothing; with the lock given back and taken again it takes a quarter longer
// (docs/benchmarks.md). Everything else goes without it.
#include <cxxabi.h>

#include <array>
#include <cstddef>
#include <new>
#include <store/error.hpp>

#include "errors.hpp"
#include "gil.hpp"
#include "objects.hpp"

namespace store::python {
namespace {

// Values longer than this go another way, on which the GIL is free while they are copied.
constexpr std::size_t kShortBytes = 4096;

// Runs `fn`, which returns a new reference, or nullptr with Python's error set.
template <class Fn>
PyObject* guarded(Fn fn) {
  try {
    return fn();
  } catch (abi::__forced_unwind&) {  // the end of this thread: gil.hpp
    throw;
  } catch (const Error& error) {
    set_error(error);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// Requires: `self` is of the class, as a method's descriptor has seen to.
OpenStore& store_of(PyObject* self) {
  return *static_cast<OpenStore*>(reinterpret_cast<py::detail::instance*>(self)->get_value_and_holder().value_ptr());
}

// A new reference to the value; nullptr without an error if there is none.
PyObject* value_of(const OpenStore& store, PyObject* key) {
  const Bytes bytes(key);
  std::array<std::byte, kShortBytes> memory;
  const std::optional<std::optional<std::size_t>> tried = store.db.try_get_into(bytes.view(), memory);
  if (tried && !*tried) return nullptr;
  if (tried && **tried <= memory.size()) {
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(memory.data()), static_cast<Py_ssize_t>(**tried));
  }
  const std::optional<std::string> value = without_gil([&] { return store.db.get(bytes.view()); });
  return value ? to_python(std::string_view(*value)).release().ptr() : nullptr;
}

PyObject* get(PyObject* self, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
  return guarded([&]() -> PyObject* {
    const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
    const bool names_default =
        named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "default") == 0;
    if (count < 1 || count + named > 2 || (named > 0 && !names_default)) {
      throw py::type_error("get() takes a key and, if wanted, a default");
    }
    PyObject* const value = value_of(store_of(self), arguments[0]);
    if (value != nullptr || PyErr_Occurred() != nullptr) return value;
    return Py_NewRef(count + named == 2 ? arguments[1] : Py_None);
  });
}

PyObject* get_item(PyObject* self, PyObject* key) {
  return guarded([&]() -> PyObject* {
    PyObject* const value = value_of(store_of(self), key);
    if (value == nullptr && PyErr_Occurred() == nullptr) PyErr_SetObject(PyExc_KeyError, key);
    return value;
  });
}

PyObject* contains(PyObject* self, PyObject* key) {
  return guarded([&]() -> PyObject* {
    const OpenStore& store = store_of(self);
    const Bytes bytes(key);
    const auto tried = store.db.try_get_into(bytes.view(), {});
    const bool there = tried ? tried->has_value() : without_gil([&] { return store.db.contains(bytes.view()); });
    return PyBool_FromLong(there ? 1 : 0);
  });
}

std::array<PyMethodDef, 3> methods{{
    {"get", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(get)), METH_FASTCALL | METH_KEYWORDS,
     "get($self, key, /, default=None)\n--\n\nReturn the value of key, or default if there is none."},
    {"__getitem__", get_item, METH_O, "Return the value of key. Raises KeyError if there is none."},
    {"__contains__", contains, METH_O, "Whether there is a value for key."},
}};

}  // namespace

void add_fast_methods(py::class_<OpenStore, std::shared_ptr<OpenStore>>& type) {
  for (PyMethodDef& method : methods) {
    type.attr(method.ml_name) =
        py::reinterpret_steal<py::object>(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method));
  }
}

}  // namespace store::python
