// Lookups. The resident part does not suspend; what misses is loaded under a ReadHold, from the tree that was current
// when the operation began.
#include <algorithm>
#include <cstring>
#include <monterey/when_all.hpp>

#include "store/base/assert.hpp"
#include "store/partition/limits.hpp"
#include "store/partition/partition_core.hpp"
#include "store/tree/overflow_io.hpp"

namespace store::detail {

namespace {

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

Found found_in_leaf(const std::byte* page, std::string_view key, const Descent& at) {
  Found found;
  found.at = at;
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
    found.in_leaf = true;
  }
  return found;
}

}  // namespace

Found PartitionCore::find(std::string_view key) {
  if (active_.data && !active_.data->empty()) {
    if (const auto entry = active_.data->find(key)) return found_in_buffer(*entry);
  }
  for (auto buffer = frozen_.rbegin(); buffer != frozen_.rend(); ++buffer) {
    if (const auto entry = buffer->data->find(key)) return found_in_buffer(*entry);
  }
  Found found;
  if (tree_.empty()) return found;
  found.at = Descent{tree_.page, tree_.height - 1u};
  if (const std::byte* page = descend(cache_, key, found.at)) return found_in_leaf(page, key, found.at);
  found.kind = Found::Kind::missing;
  return found;
}

// The value of `key`, wherever it is. The caller has a ReadHold.
monterey::Task<PartitionCore::Value> PartitionCore::load_value(std::string_view key) {
  Found found = find(key);
  Value value;
  if (found.kind == Found::Kind::missing) {
    value.leaf = co_await find_leaf(cache_, key, found.at, monterey::IoClass::foreground);
    found = found_in_leaf(value.leaf.data(), key, found.at);
  } else if (found.kind == Found::Kind::bytes) {
    if (found.in_leaf) {
      value.leaf = cache_.try_pin(found.at.page);
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
  if (!found.in_leaf) return copy_value(found.bytes);
  PageCache::Pin pin = cache_.try_pin(found.at.page);
  PageCache::UserPin user = cache_.try_user_pin(pin);
  if (!user) return copy_value(found.bytes);
  const auto [cache, page] = std::move(user).release();
  return PinnedValue(found.bytes, RawPin{cache, page});
}

PinnedValue PartitionCore::pin_value(Value value) {
  if (value.memory) return PinnedValue(value.bytes, std::move(value.memory));
  PageCache::UserPin user = cache_.try_user_pin(value.leaf);
  if (!user) return copy_value(value.bytes);
  const auto [cache, page] = std::move(user).release();
  return PinnedValue(value.bytes, RawPin{cache, page});
}

bool PartitionCore::try_get(std::string_view key, std::optional<std::string>& result) {
  require_open();
  check_key(key);
  const Found found = find(key);
  if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) return false;
  if (found.kind == Found::Kind::bytes) result.emplace(found.bytes);
  ++counters_.gets;
  return true;
}

monterey::Task<std::optional<std::string>> PartitionCore::get(std::string_view key) {
  require_open();
  const ReadHold hold(*this);
  ++counters_.gets;
  const Value value = co_await load_value(key);
  std::optional<std::string> result;
  if (value.present) result.emplace(value.bytes);
  co_return std::move(result);
}

bool PartitionCore::try_contains(std::string_view key, bool& result) {
  require_open();
  check_key(key);
  const Found found = find(key);
  if (found.kind == Found::Kind::missing) return false;
  result = found.kind != Found::Kind::absent;
  ++counters_.gets;
  return true;
}

monterey::Task<bool> PartitionCore::contains(std::string_view key) {
  require_open();
  const ReadHold hold(*this);
  ++counters_.gets;
  const Found found = find(key);
  if (found.kind != Found::Kind::missing) co_return found.kind != Found::Kind::absent;
  const PageCache::Pin leaf = co_await find_leaf(cache_, key, found.at, monterey::IoClass::foreground);
  co_return LeafView(leaf.data()).find(key).found;
}

bool PartitionCore::try_get_pinned(std::string_view key, std::optional<PinnedValue>& result) {
  require_open();
  check_key(key);
  const Found found = find(key);
  if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) return false;
  if (found.kind == Found::Kind::bytes) result.emplace(pin_value(found));
  ++counters_.gets;
  return true;
}

monterey::Task<std::optional<PinnedValue>> PartitionCore::get_pinned(std::string_view key) {
  require_open();
  const ReadHold hold(*this);
  ++counters_.gets;
  Value value = co_await load_value(key);
  std::optional<PinnedValue> result;
  if (value.present) result.emplace(pin_value(std::move(value)));
  co_return std::move(result);
}

bool PartitionCore::try_get_many(std::span<const std::string_view> keys, PinnedValues& result) {
  require_open();
  for (const std::string_view key : keys) check_key(key);
  result.clear();
  result.resize(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Found found = find(keys[i]);
    if (found.kind == Found::Kind::missing || found.kind == Found::Kind::run) return false;
    if (found.kind == Found::Kind::bytes) result[i].emplace(pin_value(found));
  }
  counters_.gets += keys.size();
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

monterey::Task<PinnedValues> PartitionCore::get_many(std::span<const std::string_view> keys) {
  require_open();
  const ReadHold hold(*this);
  counters_.gets += keys.size();
  PinnedValues result(keys.size());
  // As many workers as reads may be in flight: all of them queue their reads before the core submits.
  struct Load {
    PartitionCore* core;
    std::span<const std::string_view> keys;
    PinnedValues* result;
    monterey::Task<> operator()(std::size_t index) const { return core->load_into(keys[index], (*result)[index]); }
  } load{this, keys, &result};
  std::size_t next = 0;
  std::vector<monterey::Task<>> workers;
  const std::size_t count = std::min(keys.size(), config_.io_depth);
  workers.reserve(count);
  for (std::size_t i = 0; i < count; ++i) workers.push_back(load_next(&next, keys.size(), &load));
  co_await monterey::when_all(std::move(workers));
  co_return std::move(result);
}

monterey::Task<> PartitionCore::load_into(std::string_view key, std::optional<PinnedValue>& result) {
  const ReadHold hold(*this);  // the tree may have changed since the batch began
  Value value = co_await load_value(key);
  if (value.present) result.emplace(pin_value(std::move(value)));
}

}  // namespace store::detail
