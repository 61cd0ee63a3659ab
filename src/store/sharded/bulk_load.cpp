#include "store/sharded/bulk_load.hpp"

#include <fmt/format.h>

#include <monterey/preempt.hpp>
#include <store/error.hpp>
#include <utility>

#include "store/partition/limits.hpp"

namespace store::detail {
namespace {

using monterey::Task;

constexpr std::size_t kPieceBytes = 64u << 10;
constexpr std::uint64_t kEntriesPerYield = 64;

}  // namespace

// --- in a shard ---

Task<bool> BulkFeed::push(EntryPiece piece) {
  while (pieces_.size() >= kPieces && !closed_) co_await changed_.wait();
  if (closed_) co_return false;
  pieces_.push_back(std::move(piece));
  changed_.pulse();
  co_return true;
}

void BulkFeed::close() noexcept {
  closed_ = true;
  changed_.pulse();
}

bool BulkFeed::next(std::string_view& key, std::string_view& value) {
  if (at_ == current_.entries.size()) return false;
  key = current_.key(at_);
  value = current_.value(at_);
  ++at_;
  return true;
}

Task<bool> BulkFeed::more() {
  if (current_.last) co_return false;
  while (pieces_.empty()) co_await changed_.wait();
  current_ = std::move(pieces_.front());
  at_ = 0;
  pieces_.pop_front();
  changed_.pulse();
  if (current_.error) std::rethrow_exception(current_.error);
  co_return !current_.entries.empty();
}

Task<std::uint64_t> Shard::bulk_load(std::shared_ptr<BulkFeed> feed) {
  std::uint64_t entries = 0;
  std::exception_ptr error;
  try {
    entries = co_await PartitionAccess::core(partition()).bulk_load(*feed);
  } catch (...) {
    error = std::current_exception();
  }
  feed->close();
  if (error) std::rethrow_exception(error);
  co_return entries;
}

// --- where the entries come from ---

BulkLoad::BulkLoad(ShardSet& set) : set_(set), parts_(set.size()) {
  for (unsigned i = 0; i < set.size(); ++i) {
    Part& part = parts_[i];
    part.shard = &set.shard(i);
    part.feed = std::make_shared<BulkFeed>();
    part.loading =
        monterey::spawn_on(part.shard->core, [shard = part.shard, feed = part.feed] { return shard->bulk_load(feed); });
  }
}

Task<bool> BulkLoad::send(Part& part) {
  auto push = [&part] { return part.feed->push(std::move(part.piece)); };
  const bool taken = co_await monterey::call_on(part.shard->core, push);
  part.piece = EntryPiece();
  if (!taken && refused_ == nullptr) refused_ = &part;
  co_return taken;
}

Task<> BulkLoad::take_all(AnyBulkSource& source) {
  std::string last;
  std::uint64_t entries = 0;
  std::string_view key;
  std::string_view value;
  bool more = true;
  while (more) {
    while (source.next(key, value)) {
      check_user_key(key);
      check_value(value);
      check_ascends(last, key);
      last = key;
      Part& part = parts_[set_.routing().shard_of(key)];
      part.piece.add(key, value);
      if (part.piece.bytes.size() >= kPieceBytes) {
        const bool taken = co_await send(part);
        if (!taken) co_return;
      }
      if (++entries % kEntriesPerYield == 0) co_await monterey::maybe_yield();
    }
    more = co_await source.more();
  }
}

Task<std::uint64_t> BulkLoad::finish(std::exception_ptr error) {
  const bool is_stopped = error || refused_ != nullptr;
  const auto stop = std::make_exception_ptr(Error(Errc::aborted, "the load of another shard has failed"));
  std::vector<Task<bool>> ends;
  for (Part& part : parts_) {
    part.piece.last = true;
    if (is_stopped) part.piece.error = stop;
    ends.push_back(send(part));
  }
  co_await monterey::when_all(std::move(ends));
  std::uint64_t entries = 0;
  std::exception_ptr first;
  for (Part& part : parts_) {
    try {
      entries += co_await part.loading;
    } catch (...) {
      if (!first || refused_ == &part) first = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
  if (first) std::rethrow_exception(first);
  co_return entries;
}

// --- the store ---

Task<std::uint64_t> ShardSet::fill(AnyBulkSource& source) {
  BulkLoad load(*this);
  std::exception_ptr error;
  try {
    co_await load.take_all(source);
  } catch (...) {
    error = std::current_exception();
  }
  co_return co_await load.finish(error);
}

Task<> ShardSet::empty_all() {
  auto clear = [](Shard& shard) -> Task<> {
    co_await shard.partition().erase_range(std::string());
    co_await shard.partition().flush();
  };
  co_await on_all(clear);
}

Task<> ShardSet::require_loadable() {
  auto look = [](Shard& shard) -> Task<> {
    PartitionAccess::core(shard.partition()).require_loadable();
    co_return;
  };
  co_await on_all(look);
}

// Nobody else writes meanwhile, so that what fails can be taken back.
Task<std::uint64_t> ShardSet::bulk_load(AnyBulkSource& source) {
  const auto self = shared_from_this();
  WritesHeldOff held;
  std::uint64_t entries = 0;
  std::exception_ptr error;
  try {
    co_await hold_all_off(held);
    co_await require_loadable();
    entries = co_await load_empty(source);
  } catch (...) {
    error = std::current_exception();
  }
  co_await let_writes_in(held);
  if (error) std::rethrow_exception(error);
  co_return entries;
}

// A crash between the first and the last commit leaves a store that says so, and is empty when it is opened.
Task<std::uint64_t> ShardSet::load_empty(AnyBulkSource& source) {
  std::uint64_t entries = 0;
  bool is_begun = false;
  std::exception_ptr error;
  try {
    co_await record_state(Manifest::State::loading);
    is_begun = true;
    entries = co_await fill(source);
  } catch (...) {
    error = std::current_exception();
  }
  std::exception_ptr stuck;
  try {
    if (error && is_begun) co_await empty_all();
    co_await record_state(Manifest::State::whole);
  } catch (...) {
    stuck = std::current_exception();
  }
  if (stuck) {
    // What is written from now on would be erased with it when the store is opened.
    const std::string why = fmt::format("a bulk load could not be ended ({}); reopen the store", text_of(stuck));
    co_await on_all([&why](Shard& shard) -> Task<> {
      shard.fail(why);
      co_return;
    });
  }
  if (error) std::rethrow_exception(error);
  if (stuck) std::rethrow_exception(stuck);
  co_return entries;
}

}  // namespace store::detail
