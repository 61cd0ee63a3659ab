// Erasing a range: one entry of buffer and log, whatever the range holds; the merge drops what it covers.
#include "store/base/assert.hpp"
#include "store/partition/limits.hpp"
#include "store/partition/partition_core.hpp"

namespace store::detail {

bool PartitionCore::append_range(Buffer& buffer, std::string_view from, std::optional<std::string_view> to) {
  const SeqNo seq = last_seq_.next();
  if (!buffer.data->erase_range(from, to, seq, newest_view())) return false;
  PendingSpace space;
  space.add_range(from.size() + to.value_or("").size());
  note_appended(buffer, seq, space);
  return true;
}

monterey::Task<> PartitionCore::erase_range(std::string from, std::optional<std::string> to) {
  require_open();
  require_writable();
  check_bound(from);
  if (to) check_bound(*to);
  if (to && *to <= from) co_return;
  const std::array<WriteBatch::Change, 1> change{WriteBatch::Change{from, to, true}};
  co_await apply(change, {});
}

}  // namespace store::detail
