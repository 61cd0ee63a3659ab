// What a range holds, as its branches say it.
#include "store/tree/estimate.hpp"
#include "store/partition/partition_core.hpp"

namespace store::detail {

monterey::Task<RangeEstimate> PartitionCore::approximate_range(std::string from, std::optional<std::string> to) {
  require_open();
  const ReadHold hold(*this);
  const TreeRoot tree = tree_;
  const Meta meta = meta_;
  const LeafCount count =
      co_await count_leaves(cache_, tree, std::move(from), std::move(to), monterey::IoClass::foreground);
  // Only leaves know how long their runs are: the range has its share of all of them by its share of the entries.
  std::uint64_t run_blocks = 0;
  if (count.overflow_leaves > 0 && meta.entries > 0) {
    const double share = static_cast<double>(count.entries) / static_cast<double>(meta.entries);
    run_blocks = static_cast<std::uint64_t>(share * static_cast<double>(meta.overflow_blocks));
  }
  co_return RangeEstimate{count.entries, (count.leaves + run_blocks) * kPageBytes};
}

}  // namespace store::detail
