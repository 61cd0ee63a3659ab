// Which shard of a ShardedStore a key belongs to. A view: what it names must live until the call it is given to has returned, or, if that
// is a task, until it is first suspended.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace store {

inline constexpr unsigned kMaxShards = 1024;

class Router {
 public:
  enum class Kind : std::uint8_t { any, hash, ranges };

  // As the store is; hash for a new one.
  constexpr Router() noexcept = default;
  // By the CRC32C of the key: even, and no order across shards.
  static constexpr Router hash() noexcept { return Router(Kind::hash, {}); }
  // By split points in strictly ascending order, 1 to 1024 bytes each: shard 0 has the keys below the first, shard i those from point i - 1
  // on, the last one all from the last point on. One shard more than points.
  static constexpr Router ranges(std::span<const std::string_view> points) noexcept {
    return Router(Kind::ranges, points);
  }

  constexpr Kind kind() const noexcept { return kind_; }
  constexpr std::span<const std::string_view> points() const noexcept { return points_; }

 private:
  constexpr Router(Kind kind, std::span<const std::string_view> points) noexcept : kind_(kind), points_(points) {}

  Kind kind_ = Kind::any;
  std::span<const std::string_view> points_;
};
static_assert(std::is_trivially_destructible_v<Router>);

}  // namespace store
