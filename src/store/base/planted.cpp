#include "store/base/planted.hpp"

namespace store {

namespace detail {
Planted planted_bug = Planted::none;
}

void plant(Planted bug) noexcept { detail::planted_bug = bug; }

}  // namespace store
