// Keys as messages show them.
#pragma once

#include <string>
#include <string_view>

namespace store {

// What is not printable as \xHH, and no more than the start of a long one.
std::string shown_key(std::string_view key);

}  // namespace store
