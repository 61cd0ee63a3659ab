// What is behind a Scan: a view, a cursor in the view's tree and one in each of its write buffers, merged by key, newest
// first. What a range in a buffer erases is sought past in the older buffers and in the tree, whatever it holds. Lives with its
// Scan and keeps the partition's core alive. When a flush moved the view onto another root, the next step finds its place again
// behind the last key.
#pragma once

#include <cstring>
#include <exception>
#include <memory>
#include <monterey/task.hpp>
#include <optional>
#include <store/config.hpp>
#include <store/scan.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/base/assert.hpp"
#include "store/page/leaf.hpp"
#include "store/partition/partition_core.hpp"
#include "store/partition/snapshot_core.hpp"
#include "store/tree/cursor.hpp"

namespace store::detail {

// A key in two parts, of which the first seldom changes; of a leaf that verify() passed, so that it is no longer than a key may be.
class KeyBuffer {
 public:
  void set_prefix(std::string_view prefix) noexcept {
    std::memcpy(bytes_, prefix.data(), prefix.size());
    prefix_bytes_ = size_ = prefix.size();
  }
  // Where a suffix goes, with room for the longest and for LeafSteps::kSlackBytes; set_suffix_bytes() then says how long it is.
  char* suffix() noexcept { return bytes_ + prefix_bytes_; }
  void set_suffix_bytes(std::size_t bytes) noexcept {
    size_ = prefix_bytes_ + bytes;
    STORE_VERIFY(size_ <= kMaxKeyBytes);
  }
  void set_suffix(std::string_view suffix) noexcept {
    std::memcpy(this->suffix(), suffix.data(), suffix.size());
    set_suffix_bytes(suffix.size());
  }
  std::string_view view() const noexcept { return {bytes_, size_}; }

 private:
  std::size_t prefix_bytes_ = 0;
  std::size_t size_ = 0;
  char bytes_[kMaxKeyBytes + LeafSteps::kSlackBytes];
};

// The first key behind all keys with this prefix; nullopt when there is none.
std::optional<std::string> end_of_prefix(std::string prefix);

class ScanCore {
 public:
  // Scans the newest state, or a snapshot, as of when the task is started.
  static monterey::Task<Scan> start(std::shared_ptr<PartitionCore> partition, std::string from,
                                    std::optional<std::string> to, ScanOptions options);
  static monterey::Task<Scan> start(std::shared_ptr<SnapshotCore> snapshot, std::string from,
                                    std::optional<std::string> to, ScanOptions options);

  // Of `snapshot`, or of the newest state if that is null.
  ScanCore(std::shared_ptr<PartitionCore> partition, const SnapshotCore* snapshot, std::string from,
           std::optional<std::string> to, ScanOptions options);
  ScanCore(const ScanCore&) = delete;
  ScanCore& operator=(const ScanCore&) = delete;
  ~ScanCore();

  // One step without suspension; nullopt: await advance().
  std::optional<bool> try_advance() {
    if (try_next_in_leaf()) return true;
    return try_advance_slowly();
  }
  // Its two parts, of which the second is called where the first returns false.
  // The usual step, between two entries of a leaf that is the only source. No flush moves a view without buffers.
  bool try_next_in_leaf() {
    std::size_t suffix_bytes = 0;
    if (!partition_->is_open() || !in_leaf_.step(tree_key_.suffix(), suffix_bytes, entry_.value)) return false;
    tree_key_.set_suffix_bytes(suffix_bytes);
    entry_.key = tree_key_.view();
    return true;
  }
  std::optional<bool> try_advance_slowly();
  monterey::Task<bool> advance();
  // An error ends the scan until it is sought anew.
  void end_by(std::exception_ptr error);
  monterey::Task<> seek(std::string key);

  const View& view() const { return *view_; }
  const ScanEntry& entry() const { return entry_; }
  std::string_view key() const { return entry_.key; }
  std::string_view value() const { return entry_.value; }

 private:
  enum class Step { found, end, wait };

  Step step();
  Step settle();
  Step settle_in_tree();
  void take_tree_entry(const LeafView::Entry& entry);
  void leave_leaf();
  void found();
  void end();
  bool skip_erased(std::string_view key);
  void skip(std::size_t source, const RangeTombstones::Stretch& erased);
  void leave_current();
  bool out_of_range(std::string_view key) const;
  monterey::Task<bool> find_next();
  void reposition();
  bool must_reposition() const { return !positioned_ || moves_ != view_->moves; }
  monterey::Task<> wait_for_tree();
  void read_tree_key();
  int direction() const { return options_.reverse ? -1 : +1; }
  bool before(std::string_view a, std::string_view b) const { return options_.reverse ? a > b : a < b; }

  std::shared_ptr<PartitionCore> partition_;
  ViewList::iterator view_;
  std::string from_;
  std::optional<std::string> to_;
  ScanOptions options_;
  std::uint64_t left_;  // entries until the limit

  std::optional<TreeCursor> tree_;
  std::vector<WriteBuffer::Iterator> buffers_;  // newest first
  KeyBuffer tree_key_;                          // of the tree's cursor
  std::uint64_t tree_key_leaf_ = 0;             // its count of leaves, when tree_key_ got the leaf's prefix
  bool leaf_is_within_ = false;                 // all keys of the leaf are in the scan's range
  LeafSteps
      in_leaf_;  // where nothing but the tree has entries, and the scan stands in a leaf within; else none is left
  bool tree_moves_ = false;       // the tree's cursor has not arrived yet
  bool tree_is_current_ = false;  // which sources stand at the current key
  std::vector<bool> buffer_is_current_;
  bool has_ranges_ = false;  // one of the buffers has

  bool positioned_ = false;
  std::uint64_t moves_ = 0;            // of the view, when the sources were positioned
  std::optional<std::string> target_;  // where seek() wants to start, until an entry was handed out from there
  bool has_key_ = false;               // entry_.key was handed out: go on behind it
  bool done_ = false;
  std::exception_ptr error_;        // what ended the scan
  ScanEntry entry_;                 // the key is in tree_key_, in a write buffer, or in start_
  std::string start_;               // where the sources were placed last
  std::optional<OverflowRun> run_;  // of the current entry, to be read
  std::shared_ptr<std::byte[]> run_memory_;
};

}  // namespace store::detail
