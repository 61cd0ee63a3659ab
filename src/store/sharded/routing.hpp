// A router that owns its points, as the manifest records it. Immutable once made, so every core may read it. The map from keys to shards
// is part of the format: docs/on-disk-format.md, "Sharded stores".
#pragma once

#include <cstddef>
#include <optional>
#include <store/router.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace store::detail {

// Every shard keeps what the store itself has to remember under keys with this prefix, behind all keys of users.
inline constexpr std::size_t kOwnPrefixBytes = 64;
std::string_view own_prefix() noexcept;

// The shards of a range, in the order of their numbers.
struct ShardRange {
  unsigned first = 0;
  unsigned end = 0;
};

class Routing {
 public:
  // Errors: invalid_argument: no shards or too many, points that do not ascend, are too long or do not fit the number of shards.
  Routing(Router::Kind kind, unsigned shards, std::vector<std::string> points);

  Router::Kind kind() const noexcept { return kind_; }
  unsigned shards() const noexcept { return shards_; }
  const std::vector<std::string>& points() const noexcept { return points_; }

  unsigned shard_of(std::string_view key) const noexcept;
  bool operator==(const Routing&) const = default;

  // Those that may have keys of [from, to).
  ShardRange shards_of(std::string_view from, const std::optional<std::string>& to) const noexcept;

 private:
  Router::Kind kind_;
  unsigned shards_;
  std::vector<std::string> points_;
};

// Errors: invalid_argument beyond the limits of keys, and for those that begin with own_prefix().
void check_user_key(std::string_view key);
// The end of a range of users' keys.
std::string end_of_users(std::optional<std::string> to);

}  // namespace store::detail
