// Lookups. The resident part does not suspend; what misses is loaded under a ReadHold, from the tree that was current
// when the operation began.
#include <algorithm>
#include <cstring>
#include <monterey/preempt.hpp>
#include <monterey/when_all.hpp>

#include "store/base/assert.hpp"
#include "store/base/probes.hpp"
#include "store/partition/limits.hpp"
#include "store/partition/partition_core.hpp"
#include "store/tree/overflow_io.hpp"

namespace store::detail {

namespace {

constexpr std::size_t kLanes = 16;                // lookups that go down together
constexpr std::size_t kCopiedAtOnce = 64u << 10;  // of a value, before others run
constexpr std::size_t kKeysAtOnce = 128;  // some 20 µs of lookups: a longer get_many lets others run in between

Found found_in_buffer(const EntryView& entry) {
  Found found;
  switch (entry.kind) {
    case EntryKind::erase: break;
    case EntryKind::put:
      found.kind = Found::Kind::bytes;
      found.bytes = entry.value;
      break;
    case EntryKind::run:
      found.kind = Found::Kind::run;
      found.run = entry.run;
      break;
  }
  return found;
}

Found missing_at(const Descent& at) {
  Found found;
  found.kind = Found::Kind::missing;
  found.at = at;
  return found;
}

Found found_in_leaf(const std::byte* page, std::string_view key) {
  Found found;
  const LeafView leaf(page);
  const Lookup slot = leaf.find(key);
  if (!slot.found) return found;
  const LeafValue value = leaf.value(slot.slot);
  if (value.is_run()) {
    found.kind = Found::Kind::run;
    found.run = value.run();
  } else {
    found.kind = Found::Kind::bytes;
    found.bytes = value.bytes();
    found.leaf = page;
  }
  return found;
}

}  // namespace

std::optional<EntryView> PartitionCore::find_in_buffers(std::string_view key, const View* view) const {
  if (view != nullptr) {
    for (auto buffer = view->buffers.rbegin(); buffer != view->buffers.rend(); ++buffer) {
      if (const auto entry = (*buffer)->find(key, view->at)) return entry;
    }
    return std::nullopt;
  }
  if (active_.data && !active_.data->empty()) {
    if (const auto entry = active_.data->find(key)) return entry;
  }
  for (auto buffer = frozen_.rbegin(); buffer != frozen_.rend(); ++buffer) {
    if (const auto entry = buffer->data->find(key)) return entry;
  }
  return std::nullopt;
}

bool PartitionCore::may_read_together(const View* view) const {
  if (view != nullptr) {
    return std::ranges::all_of(view->buffers, [](const auto& buffer) { return buffer->settled(); });
  }
  return (!active_.data || active_.data->settled()) &&
         std::ranges::all_of(frozen_, [](const Buffer& buffer) { return buffer.data->settled(); });
}

Found PartitionCore::find(std::string_view key, const View* view, std::uint64_t& hits) const {
  if (const auto entry = find_in_buffers(key, view)) return found_in_buffer(*entry);
  const TreeRoot& tree = tree_at(view);
  if (tree.empty()) return {};
  Descent at{tree.page, tree.height - 1u};
  const std::byte* leaf = descend(cache_, key, at, hits);
  return leaf != nullptr ? found_in_leaf(leaf, key) : missing_at(at);
}

// The lookups that have reached their leaves.
struct PartitionCore::Lanes {
  struct Lane {
    std::size_t index;  // of the key
    const std::byte* page;
    std::uint32_t slot;
  };
  std::array<Lane, kLanes> all;
  std::size_t count = 0;

  std::span<Lane> going() { return std::span(all).first(count); }
};

// Looks up keys[first, first + count), at most kLanes, as far as pages are resident: down to their leaves, or in a buffer, of whose entries
// `buffered(index, bytes)` is told. All go down level by level, so that the memory that one lookup waits for comes while the others are at
// work: of each page first what the search reads, then the child's pointer, or the entry.
template <class Buffered>
void PartitionCore::descend_together(std::span<const std::string_view> keys, const View* view, std::size_t first,
                                     std::size_t count, Lanes& lanes, std::vector<Missed>& missed, std::uint64_t& hits,
                                     Buffered buffered) const {
  const TreeRoot& tree = tree_at(view);
  const auto is_missing = [&](std::size_t index, const Descent& page) {
    missed.push_back({index, missing_at(page), tree.generation});
  };
  Descent at{tree.page, tree.height - 1u};
  const std::byte* root = tree.empty() ? nullptr : visit(cache_, at, hits);
  for (std::size_t index = first; index < first + count; ++index) {
    if (const auto entry = find_in_buffers(keys[index], view)) {
      const Found found = found_in_buffer(*entry);
      if (found.kind == Found::Kind::bytes) buffered(index, found.bytes);
      if (found.kind == Found::Kind::run) missed.push_back({index, found, tree.generation});
    } else if (root != nullptr) {
      lanes.all[lanes.count++] = {index, root, 0};
    } else if (!tree.empty()) {
      is_missing(index, at);
    }
  }
  if (lanes.count == 0) return;
  for (unsigned level = tree.height - 1u; level > 0; --level) {
    for (Lanes::Lane& lane : lanes.going()) {
      const BranchView branch(lane.page);
      lane.slot = branch.find_child(keys[lane.index]);
      branch.prefetch_child(lane.slot);
      prefetch_for_search(cache_.guess(cache_.hint(lane.page, lane.slot)), level - 1);
    }
    std::size_t kept = 0;
    for (Lanes::Lane lane : lanes.going()) {
      at = {BranchView(lane.page).child(lane.slot), level - 1};
      lane.page = visit(cache_, at, cache_.hint(lane.page, lane.slot), hits);
      if (lane.page == nullptr) {
        is_missing(lane.index, at);
      } else {
        lanes.all[kept++] = lane;
      }
    }
    lanes.count = kept;
  }
  for (const Lanes::Lane& lane : lanes.going()) LeafView(lane.page).prefetch_entry(keys[lane.index]);
}

void PartitionCore::find_together(std::span<const std::string_view> keys, const View* view, std::size_t first,
                                  std::size_t count, PinnedValues& result, std::vector<Missed>& missed) {
  Lanes lanes;
  descend_together(keys, view, first, count, lanes, missed, reader_.cache_hits,
                   [&result](std::size_t index, std::string_view bytes) { result[index].emplace(copy_value(bytes)); });
  for (const Lanes::Lane& lane : lanes.going()) cache_.touch_record(lane.page);
  // Each leaf is pinned before the first is let go of again: an unpin may give the frame to whoever waits for one.
  std::array<PageCache::Pin, kLanes> pins;
  for (std::size_t i = 0; i < lanes.count; ++i) pins[i] = cache_.pin_peeked(lanes.all[i].page);
  for (std::size_t i = 0; i < lanes.count; ++i) {
    const Lanes::Lane& lane = lanes.all[i];
    const Found found = found_in_leaf(lane.page, keys[lane.index]);
    if (found.kind == Found::Kind::bytes) {
      result[lane.index].emplace(pin_value(found.bytes, std::move(pins[i])));
    } else if (found.kind == Found::Kind::run) {
      missed.push_back({lane.index, found, tree_at(view).generation});
    }
  }
}

bool PartitionCore::try_view_many(std::span<const std::string_view> keys, const View* view,
                                  std::span<std::optional<std::string_view>> result, Reader& reader) const {
  require_open();
  for (const std::string_view key : keys) check_key(key);
  reader.missed_many.clear();
  if (keys.size() > kKeysAtOnce) return false;
  for (std::size_t first = 0; first < keys.size(); first += kLanes) {
    Lanes lanes;
    descend_together(keys, view, first, std::min(kLanes, keys.size() - first), lanes, reader.missed_many,
                     reader.cache_hits,
                     [&result](std::size_t index, std::string_view bytes) { result[index] = bytes; });
    for (const Lanes::Lane& lane : lanes.going()) {
      const Found found = found_in_leaf(lane.page, keys[lane.index]);
      if (found.kind == Found::Kind::run) return false;
      if (found.kind == Found::Kind::bytes) result[lane.index] = found.bytes;
    }
    if (!reader.missed_many.empty()) return false;
  }
  reader.gets += keys.size();
  return true;
}

// The value of `key`, wherever it is; `found` is what find() says now. The caller has a ReadHold.
monterey::Task<PartitionCore::Value> PartitionCore::load_value(std::string_view key, Found found) {
  Value value;
  if (found.kind == Found::Kind::missing) {
    value.leaf = co_await find_leaf(cache_, key, found.at, monterey::IoClass::foreground);
    found = found_in_leaf(value.leaf.data(), key);
  } else if (found.kind == Found::Kind::bytes) {
    if (found.leaf != nullptr) {
      value.leaf = cache_.pin_peeked(found.leaf);
    } else {
      value.memory = allocate_aligned(found.bytes.size());
      std::memcpy(value.memory.get(), found.bytes.data(), found.bytes.size());
      found.bytes = {reinterpret_cast<const char*>(value.memory.get()), found.bytes.size()};
    }
  }
  if (found.kind == Found::Kind::run) {
    value.leaf.reset();
    const RunValue run = co_await read_run(*device_, found.run, monterey::IoClass::foreground);
    value.memory = run.memory;
    found.bytes = run.view();
  }
  value.present = found.kind != Found::Kind::absent;
  value.bytes = found.bytes;
  co_return std::move(value);
}

PinnedValue PartitionCore::copy_value(std::string_view bytes) {
  std::shared_ptr<std::byte[]> copy(new std::byte[bytes.size()]);
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  const std::string_view view(reinterpret_cast<const char*>(copy.get()), bytes.size());
  return PinnedValue(view, std::move(copy));
}

PinnedValue PartitionCore::pin_value(const Found& found) {
  if (found.leaf == nullptr) return copy_value(found.bytes);
  return pin_value(found.bytes, cache_.pin_peeked(found.leaf));
}

PinnedValue PartitionCore::pin_value(std::string_view bytes, PageCache::Pin leaf) {
  PageCache::UserPin user = cache_.try_user_pin(leaf);
  if (!user) return copy_value(bytes);
  const auto [cache, page] = std::move(user).release();
  return PinnedValue(bytes, RawPin{cache, page});
}

PinnedValue PartitionCore::pin_value(Value value) {
  if (value.memory) return PinnedValue(value.bytes, std::move(value.memory));
  return pin_value(value.bytes, std::move(value.leaf));
}

bool PartitionCore::try_view(std::string_view key, const View* view, std::optional<std::string_view>& result,
                             Reader& reader) const {
  require_open();
  check_key(key);
  STORE_PROBE(get_start, key.data(), key.size());
  const Found found = find(key, view, reader.cache_hits);
  if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) {
    reader.missed = found;
    return false;
  }
  if (found.kind == Found::Kind::bytes) result = found.bytes;
  ++reader.gets;
  STORE_PROBE(get_done, key.data());
  return true;
}

bool PartitionCore::try_get(std::string_view key, const View* view, std::optional<std::string>& result,
                            Reader& reader) const {
  std::optional<std::string_view> bytes;
  if (!try_view(key, view, bytes, reader)) return false;
  if (bytes) result.emplace(*bytes);
  return true;
}

monterey::Task<std::optional<std::string>> PartitionCore::get(std::string_view key, const View* view, Found found) {
  require_open();
  const ReadHold hold(*this, view);
  const TimedGet timed(counters_.get_read, key);
  ++reader_.gets;
  const Value value = co_await load_value(key, found);
  std::optional<std::string> result;
  if (value.present) {
    result.emplace();
    result->reserve(value.bytes.size());
    for (std::size_t at = 0; at < value.bytes.size(); at += kCopiedAtOnce) {
      result->append(value.bytes.substr(at, kCopiedAtOnce));
      if (value.bytes.size() > kCopiedAtOnce) co_await monterey::maybe_yield();
    }
  }
  co_return std::move(result);
}

bool PartitionCore::try_contains(std::string_view key, const View* view, bool& result, Reader& reader) const {
  require_open();
  check_key(key);
  STORE_PROBE(get_start, key.data(), key.size());
  const Found found = find(key, view, reader.cache_hits);
  if (found.kind == Found::Kind::missing) {
    reader.missed = found;
    return false;
  }
  result = found.kind != Found::Kind::absent;
  ++reader.gets;
  STORE_PROBE(get_done, key.data());
  return true;
}

monterey::Task<bool> PartitionCore::contains(std::string_view key, const View* view, Found found) {
  require_open();
  const ReadHold hold(*this, view);
  const TimedGet timed(counters_.get_read, key);
  ++reader_.gets;
  const PageCache::Pin leaf = co_await find_leaf(cache_, key, found.at, monterey::IoClass::foreground);
  co_return LeafView(leaf.data()).find(key).found;
}

bool PartitionCore::try_get_pinned(std::string_view key, const View* view, std::optional<PinnedValue>& result) {
  require_open();
  check_key(key);
  STORE_PROBE(get_start, key.data(), key.size());
  const Found found = find(key, view, reader_.cache_hits);
  if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) {
    reader_.missed = found;
    return false;
  }
  if (found.kind == Found::Kind::bytes) result.emplace(pin_value(found));
  ++reader_.gets;
  STORE_PROBE(get_done, key.data());
  return true;
}

monterey::Task<std::optional<PinnedValue>> PartitionCore::get_pinned(std::string_view key, const View* view,
                                                                     Found found) {
  require_open();
  const ReadHold hold(*this, view);
  const TimedGet timed(counters_.get_read, key);
  ++reader_.gets;
  Value value = co_await load_value(key, found);
  std::optional<PinnedValue> result;
  if (value.present) result.emplace(pin_value(std::move(value)));
  co_return std::move(result);
}

namespace {

// Copies what is wanted of a value that is in memory.
void copy_part(std::string_view value, std::uint64_t offset, std::span<std::byte> into) {
  if (offset >= value.size() || into.empty()) return;
  std::memcpy(into.data(), value.data() + offset, std::min<std::size_t>(into.size(), value.size() - offset));
}

}  // namespace

bool PartitionCore::try_get_into(std::string_view key, const View* view, std::span<std::byte> into,
                                 GetIntoOptions options, std::optional<std::size_t>& size, Reader& reader) const {
  require_open();
  check_key(key);
  STORE_PROBE(get_start, key.data(), key.size());
  const Found found = find(key, view, reader.cache_hits);
  const bool has_part = found.kind == Found::Kind::run && options.offset < found.run.length && !into.empty();
  if (found.kind == Found::Kind::missing || has_part) {
    reader.missed = found;
    return false;
  }
  if (found.kind == Found::Kind::run) size = found.run.length;
  if (found.kind == Found::Kind::bytes) {
    size = found.bytes.size();
    copy_part(found.bytes, options.offset, into);
  }
  ++reader.gets;
  STORE_PROBE(get_done, key.data());
  return true;
}

monterey::Task<std::optional<std::size_t>> PartitionCore::get_into(std::string_view key, const View* view,
                                                                   std::span<std::byte> into, GetIntoOptions options,
                                                                   Found found) {
  require_open();
  const ReadHold hold(*this, view);
  const TimedGet timed(counters_.get_read, key);
  ++reader_.gets;
  if (found.kind == Found::Kind::missing) {
    const PageCache::Pin leaf = co_await find_leaf(cache_, key, found.at, monterey::IoClass::foreground);
    found = found_in_leaf(leaf.data(), key);
    if (found.kind == Found::Kind::absent) co_return std::nullopt;
    if (found.kind == Found::Kind::bytes) {
      copy_part(found.bytes, options.offset, into);
      co_return found.bytes.size();
    }
  }
  const std::uint64_t length = found.run.length;
  if (options.offset < length && !into.empty()) {
    const std::span<std::byte> part = into.first(std::min<std::size_t>(into.size(), length - options.offset));
    co_await read_run_part(*device_, found.run, options.offset, part, monterey::IoClass::foreground);
  }
  co_return length;
}

bool PartitionCore::try_get_many(std::span<const std::string_view> keys, const View* view, PinnedValues& result) {
  require_open();
  for (const std::string_view key : keys) check_key(key);
  result.clear();
  result.resize(keys.size());
  reader_.missed_many.clear();
  if (keys.size() > kKeysAtOnce) return false;
  for (std::size_t first = 0; first < keys.size(); first += kLanes) {
    find_together(keys, view, first, std::min(kLanes, keys.size() - first), result, reader_.missed_many);
  }
  if (!reader_.missed_many.empty()) return false;
  reader_.gets += keys.size();
  return true;
}

namespace {

// One of the workers that share the keys of a get_many: takes the next key until none is left.
template <class Load>
monterey::Task<> load_next(std::size_t* next, std::size_t count, Load* load) {
  while (*next < count) {
    const std::size_t index = (*next)++;
    co_await (*load)(index);
  }
}

}  // namespace

// try_get_many() has looked up every key and left those in `missed`; none when there were too many of them for one step.
monterey::Task<PinnedValues> PartitionCore::get_many(std::span<const std::string_view> keys,
                                                     std::shared_ptr<const View> view, PinnedValues result,
                                                     std::vector<Missed> missed) {
  require_open();
  const ReadHold hold(*this, view.get());
  reader_.gets += keys.size();
  for (std::size_t first = 0; first < keys.size() && keys.size() > kKeysAtOnce; first += kLanes) {
    find_together(keys, view.get(), first, std::min(kLanes, keys.size() - first), result, missed);
    co_await monterey::maybe_yield();
  }
  // As many workers as reads may be in flight: all of them queue their reads before the core waits.
  struct Load {
    PartitionCore* core;
    std::span<const std::string_view> keys;
    const View* view;
    const std::vector<Missed>* missed;
    PinnedValues* result;
    monterey::Task<> operator()(std::size_t i) const {
      const Missed& one = (*missed)[i];
      return core->load_into(keys[one.index], view, one, (*result)[one.index]);
    }
  } load{this, keys, view.get(), &missed, &result};
  std::size_t next = 0;
  std::vector<monterey::Task<>> workers;
  const std::size_t count = std::min(missed.size(), config_.io_depth);
  workers.reserve(count);
  for (std::size_t i = 0; i < count; ++i) workers.push_back(load_next(&next, missed.size(), &load));
  co_await monterey::when_all(std::move(workers));
  co_return std::move(result);
}

monterey::Task<> PartitionCore::load_into(std::string_view key, const View* view, Missed missed,
                                          std::optional<PinnedValue>& result) {
  const ReadHold hold(*this, view);
  // The tree may have changed since; then what was found may be gone.
  const Found found = missed.seen == tree_at(view).generation ? missed.found : find(key, view, reader_.cache_hits);
  Value value = co_await load_value(key, found);
  if (value.present) result.emplace(pin_value(std::move(value)));
}

}  // namespace store::detail
