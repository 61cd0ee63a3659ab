// Calls of the engine without the interpreter's lock (GIL).
//
// When the interpreter ends, Python before 3.14 unwinds a daemon thread that asks for the lock: what the frames of this module own would be
// destroyed without the lock, and a frame that is noexcept would abort. Such a thread is stopped instead, as newer Pythons do, until the process ends.
#pragma once

#include <cxxabi.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>
#include <optional>
#include <type_traits>

namespace store::python {

namespace py = pybind11;

inline void take_gil_back(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (abi::__forced_unwind&) {
    for (;;) pause();
  }
}

// Runs `work` without the lock, which the caller holds before and after. Whatever `work` uses must stay as it is without the lock: no Python
// object but bytes that somebody holds.
template <class Work>
auto without_gil(Work work) -> std::invoke_result_t<Work&> {
  using Result = std::invoke_result_t<Work&>;
  std::exception_ptr error;
  PyThreadState* const state = PyEval_SaveThread();
  if constexpr (std::is_void_v<Result>) {
    try {
      work();
    } catch (const std::exception&) {
      error = std::current_exception();
    }
    take_gil_back(state);
    if (error) std::rethrow_exception(error);
  } else {
    std::optional<Result> result;
    try {
      result.emplace(work());
    } catch (const std::exception&) {
      error = std::current_exception();
    }
    take_gil_back(state);
    if (error) std::rethrow_exception(error);
    return *std::move(result);
  }
}

}  // namespace store::python
