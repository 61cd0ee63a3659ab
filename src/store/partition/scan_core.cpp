#include "store/partition/scan_core.hpp"

#include <store/error.hpp>
#include <store/scan.hpp>

#include "store/base/assert.hpp"
#include "store/tree/overflow_io.hpp"

namespace store::detail {

ScanCore::ScanCore(std::shared_ptr<PartitionCore> partition, std::string from, std::optional<std::string> to,
                   ScanOptions options)
    : partition_(std::move(partition)),
      view_(partition_->add_view()),
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
  tree_key_.clear();
  if (tree_->valid()) tree_->append_key(tree_key_);
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

// Finds the next entry that is not erased. Requires: no source stands at a key that was handed out.
ScanCore::Step ScanCore::settle() {
  for (;;) {
    if (tree_moves_) return Step::wait;
    const bool tree_valid = tree_->valid();
    std::optional<std::string_view> best;
    for (const WriteBuffer::Iterator& buffer : buffers_) {
      if (buffer.valid() && (!best || before(buffer.entry().key, *best))) best = buffer.entry().key;
    }
    if (tree_valid && (!best || before(tree_key_, *best))) best = tree_key_;
    if (!best || out_of_range(*best)) return Step::end;

    const EntryView* entry = nullptr;
    for (std::size_t i = 0; i < buffers_.size(); ++i) {
      buffer_is_current_[i] = buffers_[i].valid() && buffers_[i].entry().key == *best;
      if (buffer_is_current_[i] && entry == nullptr) entry = &buffers_[i].entry();
    }
    tree_is_current_ = tree_valid && tree_key_ == *best;
    if (entry != nullptr && entry->kind == EntryKind::erase) {
      leave_current();
      continue;
    }
    key_.assign(*best);
    run_.reset();
    if (entry == nullptr) {
      const LeafValue value = tree_->value();
      if (value.is_run()) {
        run_ = value.run();
      } else {
        value_ = value.bytes();
      }
    } else if (entry->kind == EntryKind::run) {
      run_ = entry->run;
    } else {
      value_ = entry->value;
    }
    return Step::found;
  }
}

ScanCore::Step ScanCore::step() {
  if (!partition_->is_open()) throw Error(Errc::closed, "the scan's partition is closed; open it again to scan");
  if (error_) std::rethrow_exception(error_);
  if (done_ || left_ == 0) return Step::end;
  if (!positioned_ || moves_ != view_->moves) return Step::wait;
  leave_current();
  return settle();
}

std::optional<bool> ScanCore::try_advance() {
  Step result = Step::end;
  try {
    result = step();
  } catch (...) {
    end_by(std::current_exception());
    throw;
  }
  if (result == Step::wait || (result == Step::found && run_)) return std::nullopt;
  done_ = result == Step::end;
  has_key_ = !done_;
  if (done_) {
    value_ = {};
    return false;
  }
  target_.reset();
  --left_;
  return true;
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
  value_ = {};
}

monterey::Task<bool> ScanCore::find_next() {
  const auto partition = partition_;
  Step result = run_ && !tree_moves_ && positioned_ && moves_ == view_->moves ? Step::found : Step::wait;
  while (result == Step::wait) {
    // A flush may move the view while this waits: the state that the cursor reads stays pinned until it is done.
    const PartitionCore::ReadHold hold(*partition, view_->tree.generation);
    if (!positioned_ || moves_ != view_->moves) {
      co_await reposition();
    } else if (tree_moves_) {
      co_await wait_for_tree();
    }
    if (positioned_ && moves_ == view_->moves) result = settle();
  }
  if (result == Step::end) {
    done_ = true;
    has_key_ = false;
    value_ = {};
    co_return false;
  }
  if (run_) {
    const PartitionCore::ReadHold hold(*partition, view_->tree.generation);
    const RunValue value = co_await read_run(partition->device(), *run_, monterey::IoClass::foreground);
    run_memory_ = value.memory;
    value_ = value.view();
    run_.reset();
  }
  has_key_ = true;
  target_.reset();
  --left_;
  co_return true;
}

monterey::Task<> ScanCore::wait_for_tree() {
  if (options_.reverse) {
    co_await tree_->prev();
  } else {
    co_await tree_->next();
  }
  tree_moves_ = false;
  read_tree_key();
}

// Places all sources behind the last key handed out, or at the start. The view may move again meanwhile: then its
// counter tells, and this is done once more.
monterey::Task<> ScanCore::reposition() {
  moves_ = view_->moves;
  positioned_ = false;
  tree_moves_ = false;
  tree_is_current_ = false;
  run_.reset();
  std::optional<std::string> start;
  if (target_) {
    start = *target_;
    if (options_.reverse) start->push_back('\0');  // at or before the target
  } else if (has_key_) {
    start = key_;
    if (!options_.reverse) start->push_back('\0');
  } else {
    start = options_.reverse ? to_ : std::optional<std::string>(from_);
  }
  buffers_.clear();
  buffer_is_current_.assign(view_->buffers.size(), false);
  for (auto buffer = view_->buffers.rbegin(); buffer != view_->buffers.rend(); ++buffer) {
    buffers_.push_back((*buffer)->iterate(view_->at));
    if (options_.reverse) {
      buffers_.back().seek_last_before(start ? std::optional<std::string_view>(*start) : std::nullopt);
    } else {
      buffers_.back().seek(*start);
    }
  }
  tree_.emplace(partition_->cache(), view_->tree, options_.prefetch_pages);
  if (options_.reverse) {
    co_await tree_->seek_before(start);
  } else {
    co_await tree_->seek(*start);
  }
  read_tree_key();
  positioned_ = true;
}

monterey::Task<> ScanCore::seek(std::string key) {
  if (!partition_->is_open()) throw Error(Errc::closed, "the scan's partition is closed; open it again to scan");
  const PartitionCore::ReadHold hold(*partition_, view_->tree.generation);
  error_ = nullptr;
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
  value_ = {};
  positioned_ = false;
  if (!done_) co_await reposition();
}

bool AdvanceOperation::try_now() {
  const std::optional<bool> result = core_.try_advance();
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

Scan::Scan(std::unique_ptr<detail::ScanCore> core) : core_(std::move(core)) {}
Scan::Scan(Scan&&) noexcept = default;
Scan& Scan::operator=(Scan&&) noexcept = default;
Scan::~Scan() = default;

namespace {

detail::ScanCore& core_of(const std::unique_ptr<detail::ScanCore>& core) {
  if (!core) throw Error(Errc::closed, "the scan handle is empty: it was moved from");
  return *core;
}

}  // namespace

detail::AdvanceOperation Scan::advance() { return detail::AdvanceOperation(core_of(core_)); }
std::string_view Scan::key() const noexcept { return core_->key(); }
std::string_view Scan::value() const noexcept { return core_->value(); }
monterey::Task<> Scan::seek(std::string key) { return core_of(core_).seek(std::move(key)); }

}  // namespace store
