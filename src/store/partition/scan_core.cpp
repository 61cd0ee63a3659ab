#include "store/partition/scan_core.hpp"

#include <monterey/preempt.hpp>
#include <store/error.hpp>
#include <store/scan.hpp>

#include "store/base/assert.hpp"
#include "store/tree/overflow_io.hpp"

namespace store::detail {

namespace {

constexpr std::size_t kPassedAtOnce = 256;  // erased entries, before others run

}  // namespace

std::optional<std::string> end_of_prefix(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (prefix.empty()) return std::nullopt;
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

monterey::Task<Scan> ScanCore::start(std::shared_ptr<PartitionCore> partition, std::string from,
                                     std::optional<std::string> to, ScanOptions options) {
  PartitionCore& core = core_of(ReadSource{partition.get(), nullptr});
  core.require_open();
  co_return Scan(std::make_unique<ScanCore>(std::move(partition), nullptr, std::move(from), std::move(to), options));
}

monterey::Task<Scan> ScanCore::start(std::shared_ptr<SnapshotCore> snapshot, std::string from,
                                     std::optional<std::string> to, ScanOptions options) {
  PartitionCore& core = core_of(ReadSource{nullptr, snapshot.get()});
  core.require_open();
  co_return Scan(
      std::make_unique<ScanCore>(core.shared_from_this(), snapshot.get(), std::move(from), std::move(to), options));
}

ScanCore::ScanCore(std::shared_ptr<PartitionCore> partition, const SnapshotCore* snapshot, std::string from,
                   std::optional<std::string> to, ScanOptions options)
    : partition_(std::move(partition)),
      view_(snapshot == nullptr ? partition_->add_view() : partition_->add_view_like(snapshot->view())),
      from_(std::move(from)),
      to_(std::move(to)),
      options_(options),
      left_(options.limit),
      done_(to_ && *to_ <= from_) {}

ScanCore::~ScanCore() {
  buffers_.clear();
  tree_.reset();
  partition_->remove_view(view_);
}

bool ScanCore::out_of_range(std::string_view key) const { return options_.reverse ? key < from_ : to_ && key >= *to_; }

void ScanCore::read_tree_key() {
  if (!tree_->valid()) return;
  if (tree_->leaves() != tree_key_leaf_) {
    tree_key_.set_prefix(tree_->prefix());
    tree_key_leaf_ = tree_->leaves();
    leaf_is_within_ =
        tree_->leaf_is_within(options_.reverse ? from_ : std::string_view(), options_.reverse ? std::nullopt : to_);
  }
  tree_key_.set_suffix(tree_->entry().suffix);
}

// Moves every source that stands at the current key past it.
void ScanCore::leave_current() {
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    if (!buffer_is_current_[i]) continue;
    if (options_.reverse) {
      buffers_[i].prev();
    } else {
      buffers_[i].next();
    }
    buffer_is_current_[i] = false;
  }
  if (!tree_is_current_) return;
  tree_is_current_ = false;
  tree_moves_ = options_.reverse ? !tree_->try_prev() : !tree_->try_next();
  if (!tree_moves_) read_tree_key();
}

void ScanCore::take_tree_entry(const LeafView::Entry& entry) {
  entry_.key = tree_key_.view();
  if (entry.value.is_run()) {
    run_ = entry.value.run();
  } else {
    entry_.value = entry.value.bytes();
  }
}

ScanCore::Step ScanCore::settle_in_tree() {
  if (tree_moves_) return Step::wait;
  if (!tree_->valid() || out_of_range(tree_key_.view())) return Step::end;
  tree_is_current_ = true;
  run_.reset();
  take_tree_entry(tree_->entry());
  return Step::found;
}

// Moves the newest source that stands at `key` past the stretch around it that ranges in newer buffers erase; false if there is
// none.
bool ScanCore::skip_erased(std::string_view key) {
  for (std::size_t source = 0; source < buffers_.size(); ++source) {
    if (buffers_[source].valid() && buffers_[source].entry().key == key) return false;
    const auto erased = buffers_[source].buffer().ranges().next_stretch(key, view_->at);
    if (!erased || erased->from > key) continue;
    while (++source < buffers_.size()) {
      if (buffers_[source].valid() && buffers_[source].entry().key == key) break;
    }
    // Passed like one that was handed out: should the view move now, the scan goes on behind it.
    start_.assign(key);
    entry_.key = start_;
    has_key_ = true;
    skip(source, *erased);
    return true;
  }
  return false;
}

void ScanCore::skip(std::size_t source, const RangeTombstones::Stretch& erased) {
  if (source < buffers_.size()) {
    if (options_.reverse) {
      buffers_[source].seek_last_before(erased.from);
    } else if (erased.to) {
      buffers_[source].seek(*erased.to);
    } else {
      buffers_[source].leave();
    }
    return;
  }
  if (options_.reverse) {
    tree_moves_ = !tree_->try_seek_before(erased.from);
  } else if (erased.to) {
    tree_moves_ = !tree_->try_seek(*erased.to);
  } else {
    tree_->leave();
  }
  if (!tree_moves_) read_tree_key();
}

// Finds the next entry that is not erased. Requires: no source stands at a key that was handed out.
ScanCore::Step ScanCore::settle() {
  if (buffers_.empty()) return settle_in_tree();
  for (std::size_t passed = 1;; ++passed) {
    if (tree_moves_ || passed % kPassedAtOnce == 0) return Step::wait;
    const bool tree_valid = tree_->valid();
    std::optional<std::string_view> best;
    for (const WriteBuffer::Iterator& buffer : buffers_) {
      if (buffer.valid() && (!best || before(buffer.entry().key, *best))) best = buffer.entry().key;
    }
    if (tree_valid && (!best || before(tree_key_.view(), *best))) best = tree_key_.view();
    if (!best || out_of_range(*best)) return Step::end;

    if (has_ranges_ && skip_erased(*best)) continue;
    const EntryView* entry = nullptr;
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      buffer_is_current_[i] = buffers_[i].valid() && buffers_[i].entry().key == *best;
      if (buffer_is_current_[i] && entry == nullptr) entry = &buffers_[i].entry();
    }
    tree_is_current_ = tree_valid && tree_key_.view() == *best;
    if (entry != nullptr && entry->kind == EntryKind::erase) {
      // Passed like one that was handed out: should the view move now, the scan goes on behind it.
      entry_.key = entry->key;
      has_key_ = true;
      leave_current();
      continue;
    }
    run_.reset();
    if (entry == nullptr) {
      take_tree_entry(tree_->entry());
      return Step::found;
    }
    entry_.key = entry->key;
    if (entry->kind == EntryKind::run) {
      run_ = entry->run;
    } else {
      entry_.value = entry->value;
    }
    return Step::found;
  }
}

ScanCore::Step ScanCore::step() {
  if (!partition_->is_open()) throw Error(Errc::closed, "the scan's partition is closed; open it again to scan");
  if (error_) std::rethrow_exception(error_);
  if (done_ || left_ == 0) return Step::end;
  if (must_reposition()) {
    reposition();
  } else {
    leave_current();
  }
  return settle();
}

// The cursor and the limit catch up with the steps within the leaf, of which there are no more.
void ScanCore::leave_leaf() {
  const std::uint32_t taken = in_leaf_.take_taken();
  in_leaf_.stop();
  if (taken == 0) return;
  tree_->skip(direction(), taken);
  left_ -= taken;
}

std::optional<bool> ScanCore::try_advance_slowly() {
  leave_leaf();
  Step result = Step::found;
  try {
    result = step();
  } catch (...) {
    end_by(std::current_exception());
    throw;
  }
  if (result == Step::wait || (result == Step::found && run_)) return std::nullopt;
  if (result == Step::end) {
    end();
    return false;
  }
  found();
  return true;
}

void ScanCore::found() {
  has_key_ = true;
  target_.reset();
  --left_;
  if (buffers_.empty() && leaf_is_within_) in_leaf_ = tree_->steps(direction(), left_);
}

void ScanCore::end() {
  done_ = true;
  has_key_ = false;
  entry_.value = {};
}

// try_advance() ran before it and could not finish; the sources are where it left them. An error, there or here, ends the
// scan: where it stood is not known any more, and a scan never skips.
monterey::Task<bool> ScanCore::advance() {
  try {
    co_return co_await find_next();
  } catch (...) {
    end_by(std::current_exception());
    throw;
  }
}

void ScanCore::end_by(std::exception_ptr error) {
  error_ = std::move(error);
  in_leaf_.stop();
  entry_.value = {};
}

monterey::Task<bool> ScanCore::find_next() {
  const auto partition = partition_;
  Step result = run_ && !tree_moves_ ? Step::found : Step::wait;
  while (result == Step::wait) {
    if (tree_moves_) {
      co_await wait_for_tree();
    } else {
      co_await monterey::maybe_yield();
    }
    if (must_reposition()) {
      reposition();
    } else {
      read_tree_key();  // not before: the last key handed out may lie where it goes
    }
    result = settle();
  }
  if (result == Step::end) {
    end();
    co_return false;
  }
  if (run_) {
    const PartitionCore::ReadHold hold(*partition, &*view_);
    const RunValue value = co_await read_run(partition->device(), *run_, monterey::IoClass::foreground);
    run_memory_ = value.memory;
    entry_.value = value.view();
    run_.reset();
  }
  found();
  co_return true;
}

// A flush may move the view while this waits: the state that the cursor reads stays pinned until it is done.
monterey::Task<> ScanCore::wait_for_tree() {
  const PartitionCore::ReadHold hold(*partition_, &*view_);
  co_await tree_->arrive();
  tree_moves_ = false;
}

// Places all sources behind the last key handed out, or at the start.
void ScanCore::reposition() {
  moves_ = view_->moves;
  positioned_ = false;
  tree_moves_ = false;
  tree_is_current_ = false;
  has_ranges_ = false;
  run_.reset();
  bool bounded = true;
  if (target_) {
    start_ = *target_;
    if (options_.reverse) start_.push_back('\0');  // at or before the target
  } else if (has_key_) {
    start_.assign(entry_.key);
    entry_.key = start_;  // wherever it was
    if (!options_.reverse) start_.push_back('\0');
    entry_.key = std::string_view(start_).substr(0, entry_.key.size());
  } else if (options_.reverse) {
    bounded = to_.has_value();
    if (bounded) start_ = *to_;
  } else {
    start_ = from_;
  }
  const std::optional<std::string_view> bound = bounded ? std::optional<std::string_view>(start_) : std::nullopt;
  buffers_.clear();
  buffer_is_current_.assign(view_->buffers.size(), false);
  for (auto buffer = view_->buffers.rbegin(); buffer != view_->buffers.rend(); ++buffer) {
    buffers_.push_back((*buffer)->iterate(view_->at));
    has_ranges_ = has_ranges_ || !(*buffer)->ranges().empty();
    if (options_.reverse) {
      buffers_.back().seek_last_before(bound);
    } else {
      buffers_.back().seek(start_);
    }
  }
  tree_.emplace(partition_->cache(), view_->tree, options_.prefetch_pages, left_);
  tree_key_leaf_ = 0;
  tree_moves_ = options_.reverse ? !tree_->try_seek_before(bound) : !tree_->try_seek(start_);
  if (!tree_moves_) read_tree_key();
  positioned_ = true;
}

monterey::Task<> ScanCore::seek(std::string key) {
  if (!partition_->is_open()) throw Error(Errc::closed, "the scan's partition is closed; open it again to scan");
  error_ = nullptr;
  leave_leaf();
  if (options_.reverse) {
    // The last key of the range is the one before `to`.
    if (to_ && key >= *to_) {
      target_.reset();
      has_key_ = false;
    } else {
      target_ = std::move(key);
    }
  } else {
    target_ = std::max(std::move(key), from_);
  }
  done_ = to_ && *to_ <= from_;
  entry_.value = {};
  positioned_ = false;
  if (done_) co_return;
  const auto partition = partition_;
  reposition();
  if (!tree_moves_) co_return;
  positioned_ = false;  // should this fail
  co_await wait_for_tree();
  positioned_ = true;
  if (!must_reposition()) read_tree_key();
}

// The usual step alone, so that it needs no stack frame.
bool AdvanceOperation::try_now() {
  if (!core_.try_next_in_leaf()) return try_slowly();
  result_ = true;
  return true;
}

bool AdvanceOperation::try_slowly() {
  const std::optional<bool> result = core_.try_advance_slowly();
  if (result) result_ = *result;
  return result.has_value();
}

monterey::Task<bool> AdvanceOperation::later() {
  try {
    return core_.advance();
  } catch (...) {  // no memory for the task
    core_.end_by(std::current_exception());
    throw;
  }
}

}  // namespace store::detail

namespace store {

Scan::Scan(std::unique_ptr<detail::ScanCore> core) : core_(std::move(core)), entry_(&core_->entry()) {}
Scan::Scan(Scan&&) noexcept = default;
Scan& Scan::operator=(Scan&&) noexcept = default;
Scan::~Scan() = default;

void Scan::throw_moved_from() { throw Error(Errc::closed, "the scan handle is empty: it was moved from"); }

monterey::Task<> Scan::seek(std::string key) {
  if (!core_) throw_moved_from();
  return core_->seek(std::move(key));
}

}  // namespace store
