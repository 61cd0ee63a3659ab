#include "store/sharded/merged_scan.hpp"

#include <algorithm>
#include <store/error.hpp>
#include <utility>

namespace store::detail {
namespace {

using monterey::Task;

// A piece of the first read of a shard, and of the later ones.
constexpr std::size_t kFirstBytes = 4u << 10;
constexpr std::size_t kPieceBytes = 64u << 10;

// What becomes of things in the shards when their owner here goes, on a core of the cluster; with the cluster they are gone by themselves.
template <class Fn>
void drop_in_shards(const std::shared_ptr<ShardSet>& set, Fn fn) {
  if (monterey::detail::Reactor::try_current() == nullptr) return;
  for (unsigned i = 0; i < set->size(); ++i) {
    Shard& shard = set->shard(i);
    if (ShardSet::is_here(shard)) {
      fn(shard);
      continue;
    }
    monterey::spawn_on(shard.core, [set, &shard, fn]() -> Task<> {
      fn(shard);
      co_return;
    });
  }
}

}  // namespace

SnapshotHold::~SnapshotHold() {
  drop_in_shards(set, [number = number](Shard& shard) { shard.drop_snapshot(number); });
}

// The part of the walk that lies in one shard.
struct MergedScan::Source {
  Source(std::shared_ptr<ShardSet> in, Shard& of, std::uint64_t scan) : set(std::move(in)), shard(of), number(scan) {}

  const std::shared_ptr<ShardSet> set;
  Shard& shard;
  const std::uint64_t number;
  std::shared_ptr<Scan> local;  // of a shard of this core
  bool stopped = false;         // a step of it is half done

  EntryPiece piece;
  std::size_t at = 0;  // in it
  std::optional<monterey::JoinHandle<EntryPiece>> next;

  std::string_view key;
  std::string_view value;

  // Goes to the next entry without waiting. Returns whether it could; `there` says whether there is one.
  bool try_step(bool& there) {
    if (local) {
      if (stopped) return false;
      stopped = !PartitionAccess::try_advance(*local, there);
      if (!stopped && there) take_local();
      return !stopped;
    }
    if (at == piece.entries.size() && !piece.last) return false;
    there = at < piece.entries.size();
    if (there) {
      key = piece.key(at);
      value = piece.value(at);
      ++at;
    }
    return true;
  }

  // The same, waiting.
  Task<bool> step() {
    if (local) {
      bool there = false;
      if (std::exchange(stopped, false)) {
        there = co_await PartitionAccess::advance_later(*local);
      } else {
        there = co_await local->advance();
      }
      if (there) take_local();
      co_return there;
    }
    if (at == piece.entries.size() && !piece.last) {
      if (!next) read_ahead(kFirstBytes);
      monterey::JoinHandle<EntryPiece> coming = *std::exchange(next, std::nullopt);
      piece = co_await coming;
      at = 0;
      if (piece.error) std::rethrow_exception(piece.error);
      if (!piece.last) read_ahead(kPieceBytes);
    }
    bool there = false;
    try_step(there);
    co_return there;
  }

  void read_ahead(std::size_t bytes) {
    // What nobody waits for any more keeps the shard by itself.
    next = monterey::spawn_on(
        shard.core, [set = set, &shard = shard, number = number, bytes] { return shard.read_scan(number, bytes); });
  }

  void take_local() {
    key = local->key();
    value = local->value();
  }
};

MergedScan::MergedScan(std::shared_ptr<SnapshotHold> snapshot, ScanOptions options)
    : snapshot_(std::move(snapshot)), options_(options), number_(snapshot_->set->next_number()), left_(options.limit) {}

MergedScan::~MergedScan() {
  // A piece that is on its way is waited for by nobody; the shard keeps its scan until it has read it.
  drop_in_shards(snapshot_->set, [number = number_](Shard& shard) { shard.drop_scan(number); });
}

Task<std::unique_ptr<MergedScan>> MergedScan::start(std::shared_ptr<SnapshotHold> snapshot, std::string from,
                                                    std::optional<std::string> to, ScanOptions options) {
  auto scan = std::make_unique<MergedScan>(std::move(snapshot), options);
  ShardSet& set = *scan->snapshot_->set;
  const std::string end = end_of_users(std::move(to));
  if (from >= end) co_return scan;
  const ShardRange range = set.routing().shards_of(from, end);
  ScanOptions each = options;
  each.limit = ScanOptions().limit;  // is of the whole
  auto begin = [number = scan->number_, snapshot = scan->snapshot_->number, &from, &end, each](Shard& shard) {
    return shard.begin_scan(number, snapshot, from, end, each);
  };
  co_await set.on_range(range, begin);
  for (unsigned i = range.first; i < range.end; ++i) {
    auto source = std::make_unique<Source>(scan->snapshot_->set, set.shard(i), scan->number_);
    if (ShardSet::is_here(source->shard)) {
      source->local = source->shard.scan(scan->number_);
    } else {
      source->read_ahead(kFirstBytes);
    }
    scan->empty_.push_back(source.get());
    scan->sources_.push_back(std::move(source));
  }
  co_return scan;
}

bool MergedScan::before(const Source& a, const Source& b) const noexcept {
  return options_.reverse ? a.key > b.key : a.key < b.key;
}

void MergedScan::enter(Source& source) {
  heap_.push_back(&source);
  std::ranges::push_heap(heap_, [this](const Source* a, const Source* b) { return before(*b, *a); });
}

bool MergedScan::take_smallest() {
  if (heap_.empty()) return false;
  std::ranges::pop_heap(heap_, [this](const Source* a, const Source* b) { return before(*b, *a); });
  current_ = heap_.back();
  heap_.pop_back();
  key_ = current_->key;
  value_ = current_->value;
  --left_;
  return true;
}

bool MergedScan::try_advance(bool& there) {
  there = false;
  if (failed_) return false;
  if (left_ == 0) return true;
  if (current_ != nullptr) {
    bool stands = false;
    if (!current_->try_step(stands)) return false;
    if (stands) enter(*current_);
    current_ = nullptr;
  }
  if (!empty_.empty()) return false;
  there = take_smallest();
  return true;
}

Task<> MergedScan::fill(Source* source) {
  const bool stands = co_await source->step();
  if (stands) enter(*source);
}

Task<bool> MergedScan::advance() {
  if (failed_) std::rethrow_exception(failed_);
  if (left_ == 0) co_return false;
  if (current_ != nullptr) empty_.push_back(std::exchange(current_, nullptr));
  std::vector<Task<>> fills;
  for (Source* const source : empty_) fills.push_back(fill(source));
  try {
    co_await monterey::when_all(std::move(fills));
  } catch (...) {
    failed_ = std::current_exception();
    throw;
  }
  empty_.clear();
  co_return take_smallest();
}

Task<> MergedScan::seek(std::string key) {
  heap_.clear();
  empty_.clear();
  current_ = nullptr;
  for (const std::unique_ptr<Source>& source : sources_) empty_.push_back(source.get());
  try {
    co_await seek_all(key);
    failed_ = nullptr;
  } catch (...) {
    failed_ = std::current_exception();
    throw;
  }
}

Task<> MergedScan::seek_all(const std::string& key) {
  std::vector<Task<>> seeks;
  for (const std::unique_ptr<Source>& source : sources_) {
    // What was read ahead comes first: the shard's scan does one thing after the other.
    if (source->next) {
      monterey::JoinHandle<EntryPiece> coming = *std::exchange(source->next, std::nullopt);
      static_cast<void>(co_await coming);
    }
    source->piece = EntryPiece();
    source->at = 0;
    source->stopped = false;
    auto there = [&source = *source, &key] { return source.shard.seek_scan(source.number, key); };
    seeks.push_back(monterey::call_on(source->shard.core, there));
  }
  co_await monterey::when_all(std::move(seeks));
}

}  // namespace store::detail
