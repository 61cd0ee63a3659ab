// The engine's name for the strong types of <store/types.hpp>, which is public because block devices speak them.
#pragma once

#include <store/types.hpp>
