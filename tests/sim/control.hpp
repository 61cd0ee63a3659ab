// The control: every planted bug is switched on in turn, and the fault programme must catch it.
#pragma once

#include <monterey/fixed_bufs.hpp>
#include <string>

namespace store::test {

// Runs each planted bug, or the one named, in a process of its own, for so many seconds at most. Prints one line for each and
// the sum, and returns whether all were caught. Needs a build with STORE_PLANT.
bool run_control(const std::string& only, double seconds_each);

}  // namespace store::test
