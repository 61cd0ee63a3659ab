#include "store/tree/lookup.hpp"

#include <fmt/format.h>

#include <store/error.hpp>

namespace store {

void throw_wrong_level(PageNo page, unsigned expected, unsigned found) {
  throw Error(
      Errc::corruption,
      fmt::format("page {}: level {} was expected here, the page has level {}; restore from a backup or salvage "
                  "the store",
                  page.value, expected, found));
}

monterey::Task<PageCache::Pin> find_leaf(PageCache& cache, std::string_view key, Descent at,
                                         monterey::IoClass io_class) {
  for (;;) {
    PageCache::Pin pin = co_await cache.pin(at.page, io_class);
    if (page_level(pin.data()) != at.level) throw_wrong_level(at.page.page, at.level, page_level(pin.data()));
    if (at.level == 0) co_return std::move(pin);
    const BranchView branch(pin.data());
    at.page = branch.child(branch.find_child(key));
    --at.level;
  }
}

}  // namespace store
