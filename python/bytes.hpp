// Keys and values as they come from Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace store::python {

namespace py = pybind11;

// The bytes of a bytes-like object. Those of `bytes` are used where they lie, as nobody can change them, and its owner must hold it meanwhile (the
// arguments of a call are held by the caller); of anything else a copy is taken, since another thread may write to it while the engine reads.
class Bytes {
 public:
  // Errors: TypeError for what is not bytes-like, str included; BufferError for a buffer with gaps.
  explicit Bytes(py::handle object) {
    if (PyBytes_Check(object.ptr())) {
      view_ = {PyBytes_AS_STRING(object.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(object.ptr()))};
      return;
    }
    if (PyUnicode_Check(object.ptr())) {
      throw py::type_error("keys and values are bytes, not str; encode it, for instance with .encode()");
    }
    if (!PyObject_CheckBuffer(object.ptr())) {
      throw py::type_error(std::string("keys and values are bytes-like objects, not ") +
                           Py_TYPE(object.ptr())->tp_name);
    }
    Py_buffer buffer;
    if (PyObject_GetBuffer(object.ptr(), &buffer, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    copy_.emplace(static_cast<const char*>(buffer.buf), static_cast<std::size_t>(buffer.len));
    PyBuffer_Release(&buffer);
  }

  std::string_view view() const noexcept { return copy_ ? std::string_view(*copy_) : view_; }
  std::string copy() const { return std::string(view()); }

 private:
  std::string_view view_;
  std::optional<std::string> copy_;
};

// The memory of a writable buffer of the caller's, which cannot be resized meanwhile. Destroyed with the GIL.
class WritableBuffer {
 public:
  // Errors: TypeError for what is not bytes-like; BufferError for what cannot be written to, or has gaps.
  explicit WritableBuffer(py::handle object) {
    if (!PyObject_CheckBuffer(object.ptr())) {
      throw py::type_error(std::string("the buffer is a writable bytes-like object, not ") +
                           Py_TYPE(object.ptr())->tp_name);
    }
    if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_WRITABLE) != 0) throw py::error_already_set();
  }
  WritableBuffer(const WritableBuffer&) = delete;
  WritableBuffer& operator=(const WritableBuffer&) = delete;
  ~WritableBuffer() { PyBuffer_Release(&buffer_); }

  std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(buffer_.buf), static_cast<std::size_t>(buffer_.len)};
  }

 private:
  Py_buffer buffer_;
};

// Of an argument that may be None.
inline std::optional<Bytes> bytes_or_none(py::handle object) {
  if (object.is_none()) return std::nullopt;
  return Bytes(object);
}
inline std::optional<std::string_view> view_of(const std::optional<Bytes>& bytes) {
  if (!bytes) return std::nullopt;
  return bytes->view();
}
inline std::optional<std::string> copy_of(const std::optional<Bytes>& bytes) {
  if (!bytes) return std::nullopt;
  return bytes->copy();
}

inline py::bytes to_python(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
inline py::object to_python(const std::optional<std::string>& bytes) {
  if (!bytes) return py::none();
  return to_python(std::string_view(*bytes));
}

}  // namespace store::python
