// The check of an open partition: the meta pages here, the state that they name in tree_check.hpp.
#include <algorithm>
#include <monterey/task_class.hpp>

#include "store/partition/partition_core.hpp"
#include "store/tree/tree_check.hpp"

namespace store::detail {

// A commit may rewrite a meta slot while it is read, so a finding counts if it is there again when the flush has ended, and
// only against the state that was current all the time.
monterey::Task<std::vector<std::string>> PartitionCore::check_meta() {
  constexpr int kMostAttempts = 10;
  std::vector<std::string> before;
  for (int attempt = 1;; ++attempt) {
    const Meta open = meta_;
    std::vector<std::string> findings = co_await check_meta_slots(*device_, open, meta_slot_, last_generation_);
    if (findings.empty()) co_return std::move(findings);
    const bool settled = meta_ == open && (!flushing_ || findings == before);
    if (settled || attempt == kMostAttempts) co_return std::move(findings);
    if (flushing_) co_await flush_ended_.wait();
    before = std::move(findings);
  }
}

monterey::Task<CheckReport> PartitionCore::check(CheckOptions options) {
  const monterey::TaskClassScope scope(monterey::TaskClass::background);
  require_open();
  const ReadHold hold(*this);
  const bool log_lies_here = (meta_.features & kFeatureLogDevice) == 0;
  const CheckedState state{
      .tree = tree_,
      .allocator = {meta_.allocator_root, meta_.allocator_levels, meta_.high_water},
      .entries = meta_.entries,
      .tree_pages = meta_.tree_pages,
      .overflow_blocks = meta_.overflow_blocks,
      .log_segments = log_lies_here ? layout_of(meta_).segments : std::vector<Extent>(),
  };
  std::vector<std::string> damage = co_await check_meta();
  CheckReport report;
  const bool enough = !damage.empty() && damage.size() >= options.max_errors;
  if (!enough) report = co_await check_state(*device_, state, kMetaBlocks, options.max_errors - damage.size());
  report.ok = report.ok && damage.empty();
  report.errors.insert(report.errors.begin(), damage.begin(), damage.end());
  if (report.errors.size() > options.max_errors) report.errors.resize(options.max_errors);
  co_return std::move(report);
}

}  // namespace store::detail
