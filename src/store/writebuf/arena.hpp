// The arena of a write buffer: keys and versions appended one behind the other, never moved, never overwritten.
//
// A *node* is one key and points to its newest version; each version points to the next older one that somebody may
// still read. References count 8-byte units from the start of the arena, so 32 bits reach 32 GiB; 0 refers to nothing.
// A new key and its first version lie side by side, so that a lookup meets them in neighbouring cache lines.
// The arena borrows its memory from the buffer.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "store/base/assert.hpp"
#include "store/base/ids.hpp"
#include "store/base/poison.hpp"

namespace store {

// What a version says about its key. run: the value lies in an overflow run already.
enum class EntryKind : std::uint8_t { put, erase, run };

enum class NodeRef : std::uint32_t {};
enum class VersionRef : std::uint32_t {};
inline constexpr NodeRef kNoNode{0};
inline constexpr VersionRef kNoVersion{0};

class Arena {
 public:
  struct Node {  // followed by the key
    VersionRef newest;
    std::uint16_t key_bytes;
    std::uint16_t unused;
  };
  struct Version {  // followed by the value
    std::uint64_t seq;
    VersionRef older;
    std::uint32_t value_bytes : 30;
    std::uint32_t kind : 2;
  };
  static_assert(sizeof(Node) == 8 && sizeof(Version) == 16);

  static constexpr std::size_t kUnitBytes = 8;
  // At most this much of the arena goes to an entry besides its key and value: node, version, two roundings.
  static constexpr std::size_t kMaxEntryOverheadBytes = sizeof(Node) + sizeof(Version) + 2 * (kUnitBytes - 1);

  // Uses `bytes` bytes at `base`, which is aligned to kUnitBytes.
  Arena(std::byte* base, std::size_t bytes) noexcept : base_(base), capacity_units_(bytes / kUnitBytes) {}

  static constexpr std::size_t node_bytes(std::size_t key_bytes) { return sizeof(Node) + rounded(key_bytes); }
  static constexpr std::size_t version_bytes(std::size_t value_bytes) { return sizeof(Version) + rounded(value_bytes); }

  static constexpr std::size_t text_bytes(std::size_t bytes) { return rounded(bytes); }

  std::size_t capacity_bytes() const noexcept { return capacity_units_ * kUnitBytes; }
  // The first unit, to which no reference can point, counts as used only once something is stored.
  std::size_t used_bytes() const noexcept { return used_units_ == 1 ? 0 : used_units_ * kUnitBytes; }
  std::size_t free_bytes() const noexcept { return (capacity_units_ - used_units_) * kUnitBytes; }

  // Forgets everything; references and views become invalid.
  void clear() noexcept {
    poison(base_, used_units_ * kUnitBytes);  // a view that somebody kept is seen, until its place is used again
    poisoned_units_ = std::max(poisoned_units_, used_units_);
    used_units_ = 1;
  }
  // For whoever gets the memory next.
  void give_back() const noexcept { unpoison(base_, poisoned_units_ * kUnitBytes); }

  // Append; the caller has checked that free_bytes() suffices.
  NodeRef append_node(std::string_view key) noexcept {
    const NodeRef ref{take(node_bytes(key.size()))};
    Node& node = mutable_node(ref);
    node = {kNoVersion, static_cast<std::uint16_t>(key.size()), 0};
    std::memcpy(&node + 1, key.data(), key.size());
    return ref;
  }
  VersionRef append_version(EntryKind kind, std::string_view value, SeqNo seq, VersionRef older) noexcept {
    const VersionRef ref{take(version_bytes(value.size()))};
    auto* version = reinterpret_cast<Version*>(at(static_cast<std::uint32_t>(ref)));
    version->seq = seq.value;
    version->older = older;
    version->value_bytes = static_cast<std::uint32_t>(value.size()) & 0x3FFFFFFFu;
    version->kind = static_cast<std::uint32_t>(kind) & 3u;
    if (!value.empty()) std::memcpy(version + 1, value.data(), value.size());
    return ref;
  }
  // For what is no entry, like the bound of a range.
  std::string_view append_text(std::string_view text) noexcept {
    std::byte* bytes = at(take(rounded(text.size())));
    if (!text.empty()) std::memcpy(bytes, text.data(), text.size());
    return {reinterpret_cast<const char*>(bytes), text.size()};
  }
  void set_newest(NodeRef node, VersionRef version) noexcept { mutable_node(node).newest = version; }
  void set_older(VersionRef version, VersionRef older) noexcept {
    reinterpret_cast<Version*>(at(static_cast<std::uint32_t>(version)))->older = older;
  }

  const Node& node(NodeRef ref) const noexcept {
    return *reinterpret_cast<const Node*>(at(static_cast<std::uint32_t>(ref)));
  }
  std::string_view key(NodeRef ref) const noexcept {
    const Node& n = node(ref);
    return {reinterpret_cast<const char*>(&n + 1), n.key_bytes};
  }
  const Version& version(VersionRef ref) const noexcept {
    return *reinterpret_cast<const Version*>(at(static_cast<std::uint32_t>(ref)));
  }
  std::string_view value(const Version& v) const noexcept {
    return {reinterpret_cast<const char*>(&v + 1), v.value_bytes};
  }
  // The newest version of the key with seq <= at, or kNoVersion.
  VersionRef newest_at(NodeRef ref, SeqNo limit) const noexcept {
    VersionRef v = node(ref).newest;
    while (v != kNoVersion && version(v).seq > limit.value) v = version(v).older;
    return v;
  }
  void prefetch(NodeRef ref) const noexcept {
    const std::byte* p = at(static_cast<std::uint32_t>(ref));
    __builtin_prefetch(p);
    __builtin_prefetch(p + 64);
  }

 private:
  static constexpr std::size_t rounded(std::size_t bytes) { return (bytes + kUnitBytes - 1) & ~(kUnitBytes - 1); }

  std::byte* at(std::uint32_t unit) const noexcept { return base_ + std::size_t{unit} * kUnitBytes; }
  Node& mutable_node(NodeRef ref) noexcept { return *reinterpret_cast<Node*>(at(static_cast<std::uint32_t>(ref))); }
  std::uint32_t take(std::size_t bytes) noexcept {
    STORE_ASSERT(bytes <= free_bytes());
    const auto unit = static_cast<std::uint32_t>(used_units_);
    unpoison(base_ + used_units_ * kUnitBytes, bytes);
    used_units_ += bytes / kUnitBytes;
    return unit;
  }

  std::byte* base_;
  std::size_t capacity_units_;
  std::size_t poisoned_units_ = 0;
  std::size_t used_units_ = 1;
};

}  // namespace store
