// The JSON this program prints about the store itself: strings and arrays of strings. (Records have a format of their own.)
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace store::tool {

// `text` in quotes, with control characters escaped. Messages of the store are UTF-8 already.
std::string json_string(std::string_view text);
std::string json_array(const std::vector<std::string>& texts);

}  // namespace store::tool
