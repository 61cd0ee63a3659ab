// A streaming, ordered walk over a key range: a stable view as of its start, whatever is written, flushed or compacted until Partition::close().
// Belongs to the core it was made on; may be moved, may outlive the Partition handle that made it, and must live until its advance() or seek() has ended.
#pragma once

#include <memory>
#include <store/config.hpp>
#include <store/detail/operation.hpp>
#include <string_view>

namespace store {

class Scan;

namespace detail {
class ScanCore;
struct PartitionAccess;

// What a scan stands at.
struct ScanEntry {
  std::string_view key;
  std::string_view value;
};

class AdvanceOperation final : public Operation<AdvanceOperation, bool> {
 private:
  friend class store::Scan;
  friend struct PartitionAccess;
  friend class Operation<AdvanceOperation, bool>;
  explicit AdvanceOperation(ScanCore& core) : core_(core) {}
  bool try_now();
  bool try_slowly();
  bool take() const { return result_; }
  monterey::Task<bool> later();

  ScanCore& core_;
  bool result_ = false;
};

}  // namespace detail

class Scan {
 public:
  Scan(Scan&&) noexcept;
  Scan& operator=(Scan&&) noexcept;
  ~Scan();

  // Goes to the next entry; false at the end of the range or the limit. Suspends between pages, for an overflow value, after a
  // flush, and for the preemption yield.
  // Errors: corruption and io_error end the scan, it never skips; closed after Partition::close().
  [[nodiscard]] detail::AdvanceOperation advance() {
    if (!core_) throw_moved_from();
    return detail::AdvanceOperation(*core_);
  }

  // The entry that the last advance() reached, both valid until the next advance() or seek(). The key lies in the scan's
  // own buffer, the value in the pinned page, unless it is an overflow value, which advance() read.
  std::string_view key() const noexcept { return entry_->key; }
  std::string_view value() const noexcept { return entry_->value; }

  // The next advance() goes to the first entry at or after `key` (at or before it in reverse), within the range.
  [[nodiscard]] monterey::Task<> seek(std::string key);

 private:
  friend class detail::ScanCore;
  friend struct detail::PartitionAccess;
  explicit Scan(std::unique_ptr<detail::ScanCore> core);
  [[noreturn]] static void throw_moved_from();

  std::unique_ptr<detail::ScanCore> core_;
  const detail::ScanEntry* entry_;  // in it
};

}  // namespace store
