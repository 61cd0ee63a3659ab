#include "store/freelist/region.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "store/base/assert.hpp"

namespace store {
namespace {

// Calls fn(word, mask) for every word that `run` touches.
template <class Fn>
inline void for_each_word(Region::Run run, Fn fn) noexcept {
  STORE_ASSERT(run.count > 0 && run.first < kRegionBlocks && run.count <= kRegionBlocks - run.first);
  std::uint32_t word = run.first / 64;
  std::uint32_t bit = run.first % 64;
  std::uint32_t left = run.count;
  while (left > 0) {
    const std::uint32_t here = std::min(64 - bit, left);
    const std::uint64_t ones = here == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << here) - 1;
    fn(word, ones << bit);
    left -= here;
    bit = 0;
    ++word;
  }
}

// The first index at or after `from` whose bit is set, or clear where `flip` is all ones; kRegionBlocks if there is none.
std::uint32_t find_bit(const std::uint64_t* words, std::uint32_t from, std::uint64_t flip) noexcept {
  if (from >= kRegionBlocks) return kRegionBlocks;
  std::size_t word = from / 64;
  std::uint64_t bits = (words[word] ^ flip) & (~std::uint64_t{0} << (from % 64));
  while (bits == 0) {
    if (++word == kBitmapWords) return kRegionBlocks;
    bits = words[word] ^ flip;
  }
  return static_cast<std::uint32_t>(64 * word + static_cast<std::size_t>(std::countr_zero(bits)));
}

constexpr std::uint64_t kFindSet = 0;
constexpr std::uint64_t kFindClear = ~std::uint64_t{0};

}  // namespace

Region::Region(ConstBitmapWords free) noexcept {
  std::copy(free.begin(), free.end(), free_.begin());
  allocatable_ = free_;
  for (std::uint32_t word = 0; word < kBitmapWords; ++word) {
    const auto ones = static_cast<std::uint16_t>(std::popcount(free_[word]));
    window_counts_[word / (kWindowBlocks / 64)] =
        static_cast<std::uint16_t>(window_counts_[word / (kWindowBlocks / 64)] + ones);
    allocatable_count_ += ones;
  }
  measure();
}

void Region::count_windows(Run run, int sign) noexcept {
  while (run.count > 0) {
    const std::uint32_t window = run.first / kWindowBlocks;
    const std::uint32_t here = std::min(run.count, (window + 1) * kWindowBlocks - run.first);
    window_counts_[window] = static_cast<std::uint16_t>(window_counts_[window] + sign * static_cast<int>(here));
    allocatable_count_ += static_cast<std::uint32_t>(sign * static_cast<int>(here));
    run.first += here;
    run.count -= here;
  }
}

void Region::allocate(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((allocatable_[word] & mask) == mask);
    allocatable_[word] &= ~mask;
    free_[word] &= ~mask;
    fresh_[word] |= mask;
  });
  count_windows(run, -1);
}

void Region::reserve(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((allocatable_[word] & mask) == mask);
    allocatable_[word] &= ~mask;
  });
  count_windows(run, -1);
}

void Region::make_allocatable(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((free_[word] & mask) == mask);
    STORE_ASSERT(((allocatable_[word] | fresh_[word]) & mask) == 0);
    allocatable_[word] |= mask;
  });
  count_windows(run, 1);
  const std::uint32_t begin = run.first - trailing(run.first);
  longest_ = std::max(longest_, find_bit(allocatable_.data(), run.first + run.count, kFindClear) - begin);
}

void Region::adopt(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((free_[word] & mask) == mask);
    STORE_ASSERT(((allocatable_[word] | fresh_[word]) & mask) == 0);
    free_[word] &= ~mask;
    fresh_[word] |= mask;
  });
}

void Region::unadopt(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((fresh_[word] & mask) == mask);
    STORE_ASSERT((free_[word] & mask) == 0);
    fresh_[word] &= ~mask;
    free_[word] |= mask;
  });
}

void Region::give_back(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((fresh_[word] & mask) == mask);
    STORE_ASSERT((free_[word] & mask) == 0);
    fresh_[word] &= ~mask;
    free_[word] |= mask;
    allocatable_[word] |= mask;
  });
  count_windows(run, 1);
}

void Region::add_free(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT(((free_[word] | fresh_[word]) & mask) == 0);
    free_[word] |= mask;
    allocatable_[word] |= mask;
  });
  count_windows(run, 1);
}

void Region::remove_free(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((allocatable_[word] & mask) == mask);
    allocatable_[word] &= ~mask;
    free_[word] &= ~mask;
  });
  count_windows(run, -1);
}

void Region::release(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((free_[word] & mask) == 0);
    free_[word] |= mask;
  });
}

void Region::unrelease(Run run) noexcept {
  for_each_word(run, [this](std::uint32_t word, std::uint64_t mask) {
    STORE_ASSERT((free_[word] & mask) == mask);
    STORE_ASSERT((allocatable_[word] & mask) == 0);
    free_[word] &= ~mask;
  });
}

std::uint32_t Region::drop_fresh() noexcept {
  std::uint32_t dropped = 0;
  for (std::uint32_t word = 0; word < kBitmapWords; ++word) {
    const std::uint64_t fresh = fresh_[word];
    if (fresh == 0) continue;
    STORE_ASSERT((free_[word] & fresh) == 0);
    free_[word] |= fresh;
    allocatable_[word] |= fresh;
    fresh_[word] = 0;
    const auto ones = static_cast<std::uint32_t>(std::popcount(fresh));
    auto& window = window_counts_[word / (kWindowBlocks / 64)];
    window = static_cast<std::uint16_t>(window + ones);
    dropped += ones;
  }
  allocatable_count_ += dropped;
  return dropped;
}

void Region::keep_fresh() noexcept { fresh_.fill(0); }

bool Region::any_free(Run run) const noexcept {
  std::uint64_t found = 0;
  for_each_word(run, [&](std::uint32_t word, std::uint64_t mask) { found |= free_[word] & mask; });
  return found != 0;
}

bool Region::all_fresh(Run run) const noexcept {
  std::uint64_t missing = 0;
  for_each_word(run, [&](std::uint32_t word, std::uint64_t mask) { missing |= ~fresh_[word] & mask; });
  return missing == 0;
}

std::uint32_t Region::emptiest_window() const noexcept {
  return static_cast<std::uint32_t>(std::ranges::max_element(window_counts_) - window_counts_.begin());
}

std::uint32_t Region::fullest_window() const noexcept {
  STORE_ASSERT(allocatable_count_ > 0);
  std::uint32_t best = 0;
  std::uint32_t best_count = kWindowBlocks + 1;
  for (std::uint32_t window = 0; window < kRegionWindows; ++window) {
    const std::uint32_t count = window_counts_[window];
    if (count > 0 && count < best_count) {
      best = window;
      best_count = count;
    }
  }
  return best;
}

std::optional<Region::Run> Region::next_run(std::uint32_t from, std::uint32_t end, std::uint32_t most) const noexcept {
  const std::uint32_t first = find_bit(allocatable_.data(), from, kFindSet);
  if (first >= end) return std::nullopt;
  const std::uint32_t stop = find_bit(allocatable_.data(), first, kFindClear);
  return Run{first, std::min({stop - first, end - first, most})};
}

std::optional<Region::Run> Region::best_fit(std::uint32_t count) noexcept {
  Run best{0, std::numeric_limits<std::uint32_t>::max()};
  std::uint32_t longest = 0;
  for (std::uint32_t at = 0;;) {
    const std::uint32_t first = find_bit(allocatable_.data(), at, kFindSet);
    if (first == kRegionBlocks) break;
    at = find_bit(allocatable_.data(), first, kFindClear);
    const std::uint32_t length = at - first;
    if (length == count) return Run{first, length};
    longest = std::max(longest, length);
    if (length > count && length < best.count) best = {first, length};
  }
  longest_ = longest;
  if (longest < count) return std::nullopt;
  return best;
}

std::uint32_t Region::leading() const noexcept { return find_bit(allocatable_.data(), 0, kFindClear); }

std::uint32_t Region::trailing(std::uint32_t end) const noexcept {
  STORE_ASSERT(end <= kRegionBlocks);
  std::uint32_t at = end;
  while (at > 0) {
    const std::uint32_t word = (at - 1) / 64;
    const std::uint32_t bits = at - 64 * word;
    // The bits below `at` moved to the top; those shifted in count as clear.
    const std::uint64_t top = allocatable_[word] << (64 - bits);
    const auto ones = static_cast<std::uint32_t>(std::countl_one(top));
    at -= std::min(ones, bits);
    if (ones < bits) break;
  }
  return end - at;
}

void Region::measure() noexcept { longest_ = summarize(allocatable_).longest_run; }

}  // namespace store
