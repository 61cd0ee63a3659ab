#include "store/sharded/routing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <store/error.hpp>
#include <utility>

#include "store/base/crc32c.hpp"
#include "store/base/units.hpp"
#include "store/partition/limits.hpp"

namespace store::detail {

std::string_view own_prefix() noexcept {
  static constexpr auto kBytes = [] {
    std::array<char, kOwnPrefixBytes> bytes{};
    bytes.fill('\xff');
    return bytes;
  }();
  return {kBytes.data(), kBytes.size()};
}

Routing::Routing(Router::Kind kind, unsigned shards, std::vector<std::string> points)
    : kind_(kind), shards_(shards), points_(std::move(points)) {
  const auto refuse = [](const std::string& what) { throw Error(Errc::invalid_argument, what); };
  if (shards_ == 0 || shards_ > kMaxShards) {
    refuse(fmt::format("{} shards: a sharded store has 1 to {}", shards_, kMaxShards));
  }
  if (kind_ == Router::Kind::ranges && points_.size() + 1 != shards_) {
    refuse(fmt::format("{} split points for {} shards: there must be one point less than shards", points_.size(),
                       shards_));
  }
  for (std::size_t i = 0; i < points_.size(); ++i) {
    if (points_[i].empty() || points_[i].size() > kMaxKeyBytes || points_[i] >= own_prefix()) {
      refuse(fmt::format("split point {} has {} bytes: it must be a key, of 1 to {} bytes", i + 1, points_[i].size(),
                         kMaxKeyBytes));
    }
    if (i > 0 && points_[i - 1] >= points_[i]) {
      refuse(fmt::format("split point {} does not come behind the one before it: points must ascend", i + 1));
    }
  }
}

unsigned Routing::shard_of(std::string_view key) const noexcept {
  if (shards_ == 1) return 0;
  if (kind_ == Router::Kind::ranges) {
    const auto above = std::ranges::upper_bound(points_, key, std::less<>());
    return static_cast<unsigned>(above - points_.begin());
  }
  // The CRC's low bits are linear in the key's; a multiplication spreads them over the high ones.
  const std::uint32_t crc = crc32c(std::as_bytes(std::span(key)));
  const std::uint32_t spread = crc * 0x9E37'79B1u;
  return static_cast<unsigned>((std::uint64_t{spread} * shards_) >> 32);
}

ShardRange Routing::shards_of(std::string_view from, const std::optional<std::string>& to) const noexcept {
  if (kind_ != Router::Kind::ranges) return {0, shards_};
  const unsigned first = shard_of(from);
  if (!to) return {first, shards_};
  const auto point = std::ranges::lower_bound(points_, *to);  // the shard behind it begins at or after the end
  return {first, std::max(first + 1, static_cast<unsigned>(point - points_.begin()) + 1)};
}

void check_user_key(std::string_view key) {
  check_key(key);
  if (!key.starts_with(own_prefix())) [[likely]]
    return;
  throw Error(Errc::invalid_argument, fmt::format("a key that begins with {} bytes 0xff: a sharded store keeps such "
                                                  "keys for itself",
                                                  kOwnPrefixBytes));
}

std::string end_of_users(std::optional<std::string> to) {
  if (!to || *to > own_prefix()) return std::string(own_prefix());
  return *std::move(to);
}

}  // namespace store::detail
