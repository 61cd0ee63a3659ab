#include "store/writebuf/write_buffer.hpp"

#include <algorithm>
#include <type_traits>

#include "store/base/assert.hpp"
#include "store/base/units.hpp"

namespace store {
namespace {

// A buffer takes one key for so many bytes of its arena; index and records are sized for that.
constexpr std::size_t kArenaBytesPerKey = 48;
static_assert(Arena::kMaxEntryOverheadBytes <= kArenaBytesPerKey);
static_assert(std::is_trivially_copyable_v<OverflowRef>);

// An index with fewer keys than one in so many slots is cleared key by key, else as a whole.
constexpr std::size_t kSlotsPerKeyWorthClearing = 64;
// What a step of a reset empties: so many slots in a row, or the slots of so many keys.
constexpr std::size_t kSlotsAStep = std::size_t{64} << 10;
constexpr std::size_t kKeysAStep = 256;

constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 63) & ~std::size_t{63}; }

std::string_view bytes_of(const OverflowRef& run) { return {reinterpret_cast<const char*>(&run), sizeof run}; }

}  // namespace

// Where the parts of a buffer lie in its mapping: what every buffer touches first, so that it lies in few huge pages,
// then the arena, which fills from its start. No two parts share a cache line.
struct WriteBuffer::Layout {
  explicit Layout(std::size_t arena) : arena_bytes(arena & ~(Arena::kUnitBytes - 1)) {
    STORE_ASSERT(arena >= kMinArenaBytes && arena <= kMaxArenaBytes);
    max_keys = arena_bytes / kArenaBytesPerKey;
    slots = KeyIndex::slots_for(max_keys);
    skips_at = aligned(slots * sizeof(KeyIndex::Slot));
    scratch_at = skips_at + aligned(SortedRuns::skip_count(max_keys) * sizeof(std::uint16_t));
    records_at = scratch_at + aligned(SortedRuns::scratch_records(max_keys) * sizeof(SortRecord));
    arena_at = records_at + aligned(max_keys * sizeof(SortRecord));
    total_bytes = arena_at + arena_bytes;
  }

  KeyIndex index(std::byte* base) const {
    return {reinterpret_cast<KeyIndex::Slot*>(base), slots, arena_bytes / Arena::kUnitBytes};
  }
  SortedRuns runs(std::byte* base, const Arena& arena) const {
    return SortedRuns({.records = reinterpret_cast<SortRecord*>(base + records_at),
                       .scratch = reinterpret_cast<SortRecord*>(base + scratch_at),
                       .skips = reinterpret_cast<std::uint16_t*>(base + skips_at)},
                      arena);
  }

  std::size_t arena_bytes;
  std::size_t max_keys;
  std::size_t slots;
  std::size_t skips_at;
  std::size_t scratch_at;
  std::size_t records_at;
  std::size_t arena_at;
  std::size_t total_bytes;
};

std::shared_ptr<WriteBuffer> WriteBuffer::create(Options options) {
  return std::make_shared<WriteBuffer>(Layout(options.arena_bytes));
}

WriteBuffer::WriteBuffer(const Layout& layout)
    : max_keys_(layout.max_keys),
      memory_(layout.total_bytes),
      arena_(memory_.data() + layout.arena_at, layout.arena_bytes),
      order_{.index = layout.index(memory_.data()), .runs = layout.runs(memory_.data(), arena_)} {}

bool WriteBuffer::reset_some() noexcept {
  STORE_ASSERT(live_iterators_ == 0);
  settle();
  frozen_ = true;
  bool is_clear = false;
  if (keys() > order_.index.slot_count() / kSlotsPerKeyWorthClearing) {
    reset_at_ = order_.index.clear(reset_at_, kSlotsAStep);
    is_clear = reset_at_ == order_.index.slot_count();
  } else {
    const std::size_t end = std::min(reset_at_ + kKeysAStep, order_.runs.count());
    for (; reset_at_ < end; ++reset_at_) {
      order_.index.clear_around(KeyIndex::hash(arena_.key(order_.runs.record(reset_at_).node())));
    }
    is_clear = end == order_.runs.count();
  }
  if (!is_clear) return true;
  const Layout layout(arena_.capacity_bytes());
  reset_at_ = 0;
  arena_.clear();
  order_ = Order{.index = layout.index(memory_.data()), .runs = layout.runs(memory_.data(), arena_)};
  ranges_.clear();
  entries_ = 0;
  first_seq_ = last_seq_ = SeqNo{};
  frozen_ = false;
  return false;
}

std::size_t WriteBuffer::memory_bytes(std::size_t arena_bytes) {
  constexpr std::size_t kSharedCountBytes = 64;
  return MappedMemory::mapped_bytes(Layout(arena_bytes).total_bytes) + sizeof(WriteBuffer) + kSharedCountBytes;
}

std::size_t WriteBuffer::arena_bytes_for(std::size_t entries, std::size_t bytes) {
  return std::max(kMinArenaBytes, aligned(entries * kArenaBytesPerKey + bytes + Arena::kUnitBytes));
}

bool WriteBuffer::put(std::string_view key, std::string_view value, SeqNo seq, SeqNo newest_snapshot) noexcept {
  STORE_ASSERT(value.size() <= kMaxBufferedValueBytes);
  return append(key, EntryKind::put, value, seq, newest_snapshot);
}

bool WriteBuffer::erase(std::string_view key, SeqNo seq, SeqNo newest_snapshot) noexcept {
  return append(key, EntryKind::erase, {}, seq, newest_snapshot);
}

bool WriteBuffer::put_run(std::string_view key, const OverflowRef& run, SeqNo seq, SeqNo newest_snapshot) noexcept {
  return append(key, EntryKind::run, bytes_of(run), seq, newest_snapshot);
}

bool WriteBuffer::append(std::string_view key, EntryKind kind, std::string_view value, SeqNo seq,
                         SeqNo newest_snapshot) noexcept {
  STORE_ASSERT(!key.empty() && key.size() <= kMaxKeyBytes);
  STORE_ASSERT(seq > last_seq_);
  if (frozen_) return false;
  const std::uint64_t hash = KeyIndex::hash(key);
  if (!append_later(key, hash, kind, value, seq, newest_snapshot) &&
      !append_now(key, hash, kind, value, seq, newest_snapshot)) {
    return false;
  }
  count_entry(seq);
  return true;
}

bool WriteBuffer::erase_range(std::string_view from, std::optional<std::string_view> to, SeqNo seq,
                              SeqNo newest_snapshot) noexcept {
  STORE_ASSERT(from.size() <= kMaxKeyBytes && (!to || to->size() <= kMaxKeyBytes));
  STORE_ASSERT(seq > last_seq_);
  if (frozen_ || ranges_.count() == RangeTombstones::kMax) return false;
  const std::size_t bytes = Arena::text_bytes(from.size()) + (to ? Arena::text_bytes(to->size()) : 0);
  if (bytes > arena_.free_bytes()) return false;
  const std::string_view own_from = arena_.append_text(from);
  if (to) to = arena_.append_text(*to);
  ranges_.add(own_from, to, seq, newest_reader(newest_snapshot));
  count_entry(seq);
  return true;
}

// Stores the entry as if its key were new and leaves the index alone; false if that does not pay or does not fit.
bool WriteBuffer::append_later(std::string_view key, std::uint64_t hash, EntryKind kind, std::string_view value,
                               SeqNo seq, SeqNo newest_snapshot) noexcept {
  if (order_.known >= kKnownOften || key.size() > kMaxPendingKeyBytes) return false;
  if (Arena::node_bytes(key.size()) + Arena::version_bytes(value.size()) > arena_.free_bytes()) return false;
  if (order_.runs.count() + order_.pending_count >= max_keys_) return false;
  order_.index.prefetch(hash);
  if (order_.pending_count == kMaxPending) settle_oldest();
  const NodeRef node = arena_.append_node(key);
  const VersionRef version = arena_.append_version(kind, value, seq, kNoVersion);
  order_.pending[(order_.pending_first + order_.pending_count++) % kMaxPending] = {hash, newest_snapshot, node,
                                                                                   version};
  return true;
}

bool WriteBuffer::append_now(std::string_view key, std::uint64_t hash, EntryKind kind, std::string_view value,
                             SeqNo seq, SeqNo newest_snapshot) noexcept {
  settle();
  const KeyIndex::Place place = order_.index.find(key, hash, arena_);
  const bool is_new = place.node == kNoNode;
  const std::size_t bytes = Arena::version_bytes(value.size()) + (is_new ? Arena::node_bytes(key.size()) : 0);
  if (bytes > arena_.free_bytes() || (is_new && order_.runs.count() == max_keys_)) return false;
  const NodeRef node = is_new ? arena_.append_node(key) : place.node;
  const VersionRef version = arena_.append_version(kind, value, seq, kNoVersion);
  if (is_new) {
    arena_.set_newest(node, version);
    add_key(place, node);
  } else {
    add_version(node, version, newest_snapshot);
  }
  return true;
}

void WriteBuffer::settle() const noexcept {
  while (order_.pending_count > 0) settle_oldest();
}

void WriteBuffer::settle_oldest() const noexcept {
  const Pending pending = order_.pending[order_.pending_first];
  order_.pending_first = (order_.pending_first + 1) % kMaxPending;
  --order_.pending_count;
  const KeyIndex::Place place = order_.index.find(arena_.key(pending.node), pending.hash, arena_);
  if (place.node == kNoNode) {
    arena_.set_newest(pending.node, pending.version);
    add_key(place, pending.node);
  } else {
    add_version(place.node, pending.version, pending.newest_snapshot);
  }
}

void WriteBuffer::add_key(const KeyIndex::Place& place, NodeRef node) const noexcept {
  order_.index.insert(place, node);
  include_in_range(node);
  order_.runs.append(node, order_.common_prefix_bytes);
  if (order_.known > 0) --order_.known;
}

void WriteBuffer::add_version(NodeRef node, VersionRef version, SeqNo newest_snapshot) const noexcept {
  // A version newer than every reader is seen by nobody once it has a successor.
  arena_.set_older(version, arena_.newest_at(node, newest_reader(newest_snapshot)));
  arena_.set_newest(node, version);
  order_.known = std::min(order_.known + kKnownGain, kKnownOften + kKnownGain);
}

void WriteBuffer::include_in_range(NodeRef node) const noexcept {
  const std::string_view key = arena_.key(node);
  const std::uint64_t prefix = key_prefix(key);
  if (order_.min_node == kNoNode) {
    order_.min_node = order_.max_node = node;
    order_.min_prefix = order_.max_prefix = prefix;
    order_.common_prefix_bytes = key.size();
    return;
  }
  // What the new key shares with any one key, it shares with all, up to what those have in common.
  const std::string_view other = arena_.key(order_.min_node).substr(0, order_.common_prefix_bytes);
  const auto differ = std::mismatch(other.begin(), other.end(), key.begin(), key.end());
  order_.common_prefix_bytes = static_cast<std::size_t>(differ.first - other.begin());

  if (prefix < order_.min_prefix || (prefix == order_.min_prefix && key < arena_.key(order_.min_node))) {
    order_.min_node = node;
    order_.min_prefix = prefix;
  } else if (prefix > order_.max_prefix || (prefix == order_.max_prefix && key > arena_.key(order_.max_node))) {
    order_.max_node = node;
    order_.max_prefix = prefix;
  }
}

bool WriteBuffer::outside_range(std::string_view key) const noexcept {
  const std::uint64_t prefix = key_prefix(key);
  return prefix < order_.min_prefix || prefix > order_.max_prefix ||
         (prefix == order_.min_prefix && key < arena_.key(order_.min_node)) ||
         (prefix == order_.max_prefix && key > arena_.key(order_.max_node));
}

std::optional<EntryView> WriteBuffer::find(std::string_view key, SeqNo at) const noexcept {
  if (empty()) return std::nullopt;
  settle();
  if (!ranges_.empty()) [[unlikely]]
    return find_under_ranges(key, at);
  return find_version(key, at);
}

std::optional<EntryView> WriteBuffer::find_under_ranges(std::string_view key, SeqNo at) const noexcept {
  std::optional<EntryView> entry;
  if (order_.runs.count() > 0) entry = find_version(key, at);
  const SeqNo erased = ranges_.newest_over(key, at);
  if (erased == SeqNo{} || (entry && entry->seq > erased)) return entry;
  entry.emplace();
  entry->key = key;
  entry->by_range = true;
  entry->seq = erased;
  return entry;
}

// Requires: no version is pending, and there is a key.
std::optional<EntryView> WriteBuffer::find_version(std::string_view key, SeqNo at) const noexcept {
  if (outside_range(key)) return std::nullopt;
  const NodeRef node = order_.index.find(key, KeyIndex::hash(key), arena_).node;
  if (node == kNoNode) return std::nullopt;
  const VersionRef version = arena_.newest_at(node, at);
  if (version == kNoVersion) return std::nullopt;
  return view(arena_.key(node), version);
}

std::size_t WriteBuffer::keys() const noexcept {
  settle();
  return order_.runs.count();
}

std::string_view WriteBuffer::min_key() const noexcept {
  settle();
  STORE_ASSERT(order_.min_node != kNoNode);
  return arena_.key(order_.min_node);
}

std::string_view WriteBuffer::max_key() const noexcept {
  settle();
  STORE_ASSERT(order_.max_node != kNoNode);
  return arena_.key(order_.max_node);
}

EntryView WriteBuffer::view(std::string_view key, VersionRef ref) const noexcept {
  const Arena::Version& version = arena_.version(ref);
  EntryView entry;
  entry.key = key;
  entry.kind = static_cast<EntryKind>(version.kind);
  entry.seq = SeqNo{version.seq};
  const std::string_view value = arena_.value(version);
  if (entry.kind == EntryKind::run) {
    std::memcpy(&entry.run, value.data(), sizeof entry.run);
  } else {
    entry.value = value;
  }
  return entry;
}

bool WriteBuffer::fits(std::size_t entries, std::size_t bytes, std::size_t ranges) const noexcept {
  if (ranges > RangeTombstones::kMax - ranges_.count()) return false;
  if (frozen_ || entries > max_keys_ - keys() || bytes > arena_.free_bytes()) return false;
  return entries * Arena::kMaxEntryOverheadBytes + bytes <= arena_.free_bytes();
}

double WriteBuffer::fill() const noexcept {
  const double arena = static_cast<double>(bytes_used()) / static_cast<double>(arena_bytes());
  return std::max(arena, static_cast<double>(keys()) / static_cast<double>(max_keys_));
}

void WriteBuffer::freeze() noexcept {
  settle();
  frozen_ = true;
  order_.runs.sort_tail(order_.common_prefix_bytes);
}

WriteBuffer::Iterator WriteBuffer::iterate(SeqNo at, SeqNo after) const {
  settle();
  order_.runs.sort_tail(order_.common_prefix_bytes);
  return Iterator(shared_from_this(), std::min(at, last_seq_), after);
}

}  // namespace store
