// Iteration merges the sorted runs by a tournament of losers: a step replays one path of it.
#include <algorithm>
#include <utility>

#include "store/base/assert.hpp"
#include "store/writebuf/write_buffer.hpp"

namespace store {
namespace {

// Records whose keys are fetched ahead, in each run.
constexpr std::uint32_t kPrefetchDistance = 6;

// The head of a cursor that has no record left goes behind every other. No node has this number.
constexpr std::uint64_t kEndNode = 0xFFFFFFFFu;
constexpr SortRecord kEnd{~std::uint64_t{0}, ~std::uint64_t{0}};
constexpr std::uint64_t kPrefixInLow = 0xFFFFFFFF00000000u;

bool at_end(const SortRecord& head) noexcept { return static_cast<std::uint32_t>(head.low) == kEndNode; }

}  // namespace

WriteBuffer::Iterator::Iterator(std::shared_ptr<const WriteBuffer> buffer, SeqNo at, SeqNo after)
    : buffer_(std::move(buffer)), at_(at), after_(after) {
  // All that is ever needed, so that moving about neither allocates nor fails.
  const std::size_t runs = SortedRuns::max_runs(buffer_->max_keys_);
  cursors_.reserve(runs);
  losers_.reserve(runs);
  bracket_.reserve(2 * runs);
  load_runs();
  // From here on nothing throws: the destructor will run.
  const bool first = buffer_->live_iterators_++ == 0;
  buffer_->newest_iterator_ = first ? at_ : std::max(buffer_->newest_iterator_, at_);
}

WriteBuffer::Iterator::Iterator(Iterator&& other) noexcept = default;

WriteBuffer::Iterator& WriteBuffer::Iterator::operator=(Iterator&& other) noexcept {
  if (this != &other) {
    release();
    buffer_ = std::move(other.buffer_);
    at_ = other.at_;
    after_ = other.after_;
    epoch_ = other.epoch_;
    prefix_skip_ = other.prefix_skip_;
    cursors_ = std::move(other.cursors_);
    losers_ = std::move(other.losers_);
    bracket_ = std::move(other.bracket_);
    direction_ = other.direction_;
    valid_ = other.valid_;
    entry_ = other.entry_;
  }
  return *this;
}

WriteBuffer::Iterator::~Iterator() { release(); }

void WriteBuffer::Iterator::release() noexcept {
  if (!buffer_) return;
  STORE_ASSERT(buffer_->live_iterators_ > 0);
  --buffer_->live_iterators_;
  buffer_.reset();
}

void WriteBuffer::Iterator::load_runs() noexcept {
  const SortedRuns& runs = buffer_->order_.runs;
  epoch_ = runs.epoch();
  cursors_.clear();
  prefix_skip_ = kMaxKeyBytes;
  runs.for_each_run([this](const SortedRuns::Run& run) {
    STORE_ASSERT(cursors_.size() < cursors_.capacity());
    cursors_.push_back({run, run.first});
    prefix_skip_ = std::min<std::size_t>(prefix_skip_, run.skip);
  });
  losers_.resize(cursors_.size());
  bracket_.resize(2 * cursors_.size());
}

void WriteBuffer::Iterator::seek(std::string_view key) noexcept {
  place(key, Direction::forward);
  settle();
}

void WriteBuffer::Iterator::seek_last_before(std::optional<std::string_view> bound) noexcept {
  place(bound, Direction::backward);
  settle();
}

void WriteBuffer::Iterator::next() noexcept {
  STORE_ASSERT(valid_);
  if (direction_ != Direction::forward || epoch_ != buffer_->order_.runs.epoch()) place(entry_.key, Direction::forward);
  step();
  settle();
}

void WriteBuffer::Iterator::prev() noexcept {
  STORE_ASSERT(valid_);
  if (direction_ != Direction::backward || epoch_ != buffer_->order_.runs.epoch()) {
    place(entry_.key, Direction::backward);
  } else {
    step();
  }
  settle();
}

// Puts every cursor between the keys below `bound` and the others, looking in `direction`.
void WriteBuffer::Iterator::place(std::optional<std::string_view> bound, Direction direction) noexcept {
  const SortedRuns& runs = buffer_->order_.runs;
  if (epoch_ != runs.epoch()) load_runs();
  direction_ = direction;
  for (Cursor& cursor : cursors_) {
    cursor.position = bound ? runs.lower_bound(cursor.run, *bound) : cursor.run.end;
  }
  hold_tournament();
}

WriteBuffer::Iterator::Contender WriteBuffer::Iterator::contender(std::uint32_t index) const noexcept {
  const Cursor& cursor = cursors_[index];
  const SortedRuns& runs = buffer_->order_.runs;
  const bool forward = direction_ == Direction::forward;
  const std::uint32_t left = forward ? cursor.run.end - cursor.position : cursor.position - cursor.run.first;
  if (left == 0) return {kEnd, index};
  const std::uint32_t at = forward ? cursor.position : cursor.position - 1;
  if (left > kPrefetchDistance) {
    const std::uint32_t ahead = forward ? at + kPrefetchDistance : at - kPrefetchDistance;
    buffer_->arena_.prefetch(runs.record(ahead).node());
  }
  SortRecord head = runs.record(at);
  // Prefixes are comparable only if they start at the same byte.
  if (cursor.run.skip != prefix_skip_) head = runs.make_record(head.node(), prefix_skip_);
  if (!forward) head = {~head.high, head.low ^ kPrefixInLow};
  return {head, index};
}

bool WriteBuffer::Iterator::goes_before(const Contender& a, const Contender& b) const noexcept {
  return __builtin_expect(same_prefix(a.head, b.head), 0) ? tied_goes_before(a, b) : prefix_less(a.head, b.head);
}

bool WriteBuffer::Iterator::tied_goes_before(const Contender& a, const Contender& b) const noexcept {
  if (at_end(a.head) || at_end(b.head)) return at_end(b.head);
  const SortedRuns& runs = buffer_->order_.runs;
  return direction_ == Direction::forward ? runs.keys_less(a.head, b.head) : runs.keys_less(b.head, a.head);
}

void WriteBuffer::Iterator::hold_tournament() noexcept {
  const std::size_t n = cursors_.size();
  if (n == 0) return;
  for (std::size_t i = 0; i < n; ++i) bracket_[n + i] = contender(static_cast<std::uint32_t>(i));
  for (std::size_t match = n - 1; match > 0; --match) {
    const Contender& a = bracket_[2 * match];
    const Contender& b = bracket_[2 * match + 1];
    const bool second_wins = goes_before(b, a);
    losers_[match] = second_wins ? a : b;
    bracket_[match] = second_wins ? b : a;
  }
  losers_[0] = bracket_[1];
}

// Moves the winner's cursor on and lets its next record play its way up.
void WriteBuffer::Iterator::step() noexcept {
  const std::uint32_t index = losers_[0].cursor;
  Cursor& cursor = cursors_[index];
  cursor.position = direction_ == Direction::forward ? cursor.position + 1 : cursor.position - 1;
  Contender winner = contender(index);
  for (std::size_t match = (index + cursors_.size()) / 2; match > 0; match /= 2) {
    Contender& other = losers_[match];
    const bool swaps = goes_before(other, winner);
    const Contender loser = swaps ? winner : other;
    winner = swaps ? other : winner;
    other = loser;
  }
  losers_[0] = winner;
}

// Goes on to the next key of which the view has a version.
void WriteBuffer::Iterator::settle() noexcept {
  valid_ = false;
  if (cursors_.empty()) return;
  for (;; step()) {
    const SortRecord& head = losers_[0].head;
    if (at_end(head)) return;
    const Arena& arena = buffer_->arena_;
    const VersionRef version = arena.newest_at(head.node(), at_);
    if (version == kNoVersion || arena.version(version).seq <= after_.value) continue;
    entry_ = buffer_->view(arena.key(head.node()), version);
    valid_ = true;
    if (!buffer_->ranges_.empty()) [[unlikely]]
      hide_erased();
    return;
  }
}

void WriteBuffer::Iterator::hide_erased() noexcept {
  const SeqNo erased = buffer_->ranges_.newest_over(entry_.key, at_);
  if (erased <= entry_.seq) return;
  const std::string_view key = entry_.key;
  entry_ = {};
  entry_.key = key;
  entry_.by_range = true;
  entry_.seq = erased;
}

}  // namespace store
