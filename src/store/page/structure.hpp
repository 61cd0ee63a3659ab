// The structural checks of each page kind, as verify() combines them. Each takes a page whose type is already known,
// reads it in bounds whatever its bytes are, and returns an empty string or what is wrong.
#pragma once

#include <string>

#include "store/page/header.hpp"

namespace store::detail {

std::string check_leaf(ConstPageBytes page);
std::string check_branch(ConstPageBytes page);
std::string check_bitmap(ConstPageBytes page);
std::string check_bitmap_parent(ConstPageBytes page);

}  // namespace store::detail
