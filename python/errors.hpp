// Errors of the engine as Python exceptions: store/_errors.py has the classes.
#pragma once

#include <store/error.hpp>

namespace store::python {

// Sets Python's error indicator. Requires: the GIL.
void set_error(const Error& error);

}  // namespace store::python
