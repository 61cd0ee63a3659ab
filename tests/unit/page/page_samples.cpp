#include "page_samples.hpp"

#include <algorithm>
#include <set>

#include "support/seed.hpp"

namespace store::test {

std::uint64_t seed_or(std::uint64_t fallback) { return requested_seed().value_or(fallback); }

std::size_t between(Random& random, std::size_t low, std::size_t high) {
  return std::uniform_int_distribution<std::size_t>(low, high)(random);
}

std::string random_bytes(Random& random, std::size_t length) {
  std::string bytes(length, '\0');
  const std::size_t style = between(random, 0, 4);
  for (char& byte : bytes) {
    switch (style) {
      case 0: byte = static_cast<char>('a' + between(random, 0, 1)); break;
      case 1: byte = static_cast<char>(between(random, 0, 1)); break;
      case 2: byte = static_cast<char>(0xff - between(random, 0, 1)); break;
      case 3: byte = static_cast<char>('0' + between(random, 0, 9)); break;
      default: byte = static_cast<char>(between(random, 0, 255)); break;
    }
  }
  return bytes;
}

std::vector<std::string> random_keys(Random& random, std::size_t most) {
  // Long prefixes are as likely as short ones, and so is none.
  static constexpr std::size_t kPrefixBytes[] = {0, 0, 1, 3, 4, 7, 8, 20, 200, 1000};
  static constexpr std::size_t kSuffixBytes[] = {1, 2, 3, 4, 5, 9, 16, 24, 300};
  const std::string prefix = random_bytes(random, kPrefixBytes[between(random, 0, std::size(kPrefixBytes) - 1)]);
  const std::size_t longest =
      std::min(kSuffixBytes[between(random, 0, std::size(kSuffixBytes) - 1)], kMaxKeyBytes - prefix.size());
  const bool same_head = between(random, 0, 3) == 0;
  const std::string head = same_head && longest > 4 ? random_bytes(random, 4) : std::string{};
  std::set<std::string> keys;
  const std::size_t wanted = between(random, 1, most);
  for (std::size_t i = 0; i < wanted; ++i) {
    std::string key = prefix + head + random_bytes(random, between(random, 0, longest - head.size()));
    if (!key.empty()) keys.insert(std::move(key));
  }
  if (keys.empty()) keys.insert("k");
  return {keys.begin(), keys.end()};
}

PagePointer random_child(Random& random, Generation up_to, bool is_leaf) {
  const bool has_overflow = between(random, 0, 3) == 0;
  return {PageNo(static_cast<std::uint32_t>(between(random, 1, ~std::uint32_t{0}))),
          static_cast<std::uint32_t>(random()), Generation(between(random, 0, up_to.value)),
          is_leaf ? leaf_info(between(random, 0, 400), has_overflow) : branch_info(has_overflow)};
}

LeafModel random_leaf(Random& random, Generation generation) {
  static constexpr std::size_t kValueBytes[] = {0, 1, 8, 100, 1024};
  const std::size_t longest = kValueBytes[between(random, 0, std::size(kValueBytes) - 1)];
  LeafModel model;
  std::vector<LeafCell> cells;
  std::size_t sum_keys = 0;
  std::size_t sum_values = 0;
  for (std::string& key : random_keys(random, 500)) {
    SampleValue value;
    if (between(random, 0, 9) == 0) {
      value.is_run = true;
      value.run = {PageNo(static_cast<std::uint32_t>(between(random, 1, 1u << 31))), between(random, 1, kMaxValueBytes),
                   static_cast<std::uint32_t>(random()), Generation(between(random, 0, generation.value))};
      if (between(random, 0, 3) == 0) {
        OverflowRun scattered(value.run);
        scattered.length = between(random, kPageBytes + 1, kMaxBufferedValueBytes);
        scattered.other_count = static_cast<std::uint32_t>(run_blocks(scattered.length) - 1);
        for (std::uint32_t i = 0; i < scattered.other_count; ++i) {
          scattered.others[i] = static_cast<std::uint32_t>(between(random, 1, 1u << 31));
        }
        value.run = scattered;
        value.bytes = RunOthers(scattered).view();
      }
    } else {
      value.bytes = random_bytes(random, between(random, 0, longest));
    }
    sum_keys += key.size();
    sum_values += value_bytes(value.view());
    const std::size_t prefix = model.empty() ? key.size() : common_prefix_bytes(model.begin()->first, key);
    if (leaf_bytes(model.size() + 1, sum_keys, sum_values, prefix) > kPageBytes) break;
    model.emplace_hint(model.end(), std::move(key), std::move(value));
  }
  return model;
}

std::vector<LeafCell> cells_of(const LeafModel& model) {
  std::vector<LeafCell> cells;
  for (const auto& [key, value] : model) cells.push_back({key, value.view()});
  return cells;
}

std::size_t leaf_bytes_of(const std::vector<LeafCell>& cells) {
  std::size_t sum_keys = 0;
  std::size_t sum_values = 0;
  for (const LeafCell& cell : cells) {
    sum_keys += cell.key.size();
    sum_values += value_bytes(cell.value);
  }
  const std::size_t prefix = cells.empty() ? 0 : common_prefix_bytes(cells.front().key, cells.back().key);
  return leaf_bytes(cells.size(), sum_keys, sum_values, prefix);
}

BranchModel random_branch(Random& random, Generation generation, std::uint8_t level) {
  BranchModel model = {{std::string{}, random_child(random, generation, level == 1)}};
  std::size_t sum = 0;
  for (std::string& separator : random_keys(random, 250)) {
    sum += separator.size();
    const std::size_t prefix = model.size() == 1 ? separator.size() : common_prefix_bytes(model[1].first, separator);
    if (branch_bytes(model.size() + 1, sum, prefix) > kPageBytes) break;
    model.emplace_back(std::move(separator), random_child(random, generation, level == 1));
  }
  return model;
}

std::vector<BranchCell> cells_of(const BranchModel& model) {
  std::vector<BranchCell> cells;
  for (const auto& [separator, child] : model) cells.push_back({separator, child});
  return cells;
}

std::size_t branch_bytes_of(const std::vector<BranchCell>& cells) {
  std::size_t sum = 0;
  for (std::size_t i = 1; i < cells.size(); ++i) sum += cells[i].separator.size();
  const std::size_t prefix = cells.size() == 1 ? 0 : common_prefix_bytes(cells[1].separator, cells.back().separator);
  return branch_bytes(cells.size(), sum, prefix);
}

std::vector<std::string> neighbours(const std::vector<std::string>& keys) {
  std::vector<std::string> sought = {std::string(1, '\0'), "\xff", std::string(kMaxKeyBytes, '\xff')};
  for (const std::string& key : keys) {
    sought.push_back(key);
    sought.push_back(key + '\0');
    sought.push_back(key + '\xff');
    if (key.size() > 1) sought.push_back(key.substr(0, key.size() - 1));
    if (key.size() > 3) sought.push_back(key.substr(0, key.size() / 2));
    std::string other = key;
    ++other.back();
    sought.push_back(other);
    other.back() = static_cast<char>(other.back() - 2);
    sought.push_back(other);
  }
  return sought;
}

}  // namespace store::test
