// The records of the benchmark: the key of an index, and values that say what they are, so that what an engine hands out can be checked: the
// index, a version, then a part of one random text which both choose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../workload.hpp"
#include "usage.hpp"

namespace comparison {

using bench::Key;

class Values {
 public:
  static constexpr std::size_t kHeaderBytes = 16;

  explicit Values(std::size_t value_bytes) : value_bytes_(std::max(value_bytes, kHeaderBytes)) {
    std::mt19937_64 random(42);
    text_.resize(kOffsets + value_bytes_);
    for (std::size_t at = 0; at + 8 <= text_.size(); at += 8) {
      const std::uint64_t word = random();
      std::memcpy(text_.data() + at, &word, sizeof word);
    }
  }

  std::size_t bytes() const { return value_bytes_; }
  // Makes `into`, of bytes(), the value of this version of the record.
  void write(std::uint64_t index, std::uint64_t version, char* into) const {
    std::memcpy(into, &index, sizeof index);
    std::memcpy(into + sizeof index, &version, sizeof version);
    const std::string_view body = body_of(index, version);
    std::memcpy(into + kHeaderBytes, body.data(), body.size());
  }
  // The index that a value says it has, when it is what it says: all of it up to 4 KiB, of longer ones the two ends. Errors: runtime_error when it is no value of this benchmark.
  std::uint64_t check(std::string_view value) const {
    if (value.size() != value_bytes_) throw std::runtime_error("a value of a wrong size was read");
    std::uint64_t index = 0;
    std::uint64_t version = 0;
    std::memcpy(&index, value.data(), sizeof index);
    std::memcpy(&version, value.data() + sizeof index, sizeof version);
    const std::string_view body = body_of(index, version);
    const std::size_t ends = std::min(body.size(), kCheckedBytes);
    value.remove_prefix(kHeaderBytes);
    if (value.substr(0, ends) != body.substr(0, ends) ||
        value.substr(value.size() - ends) != body.substr(body.size() - ends)) {
      throw std::runtime_error("a wrong value was read");
    }
    return index;
  }

 private:
  static constexpr std::size_t kOffsets = 32u << 10;
  static constexpr std::size_t kCheckedBytes = 4096;

  std::string_view body_of(std::uint64_t index, std::uint64_t version) const {
    return std::string_view(text_).substr(bench::mix(index + 31 * version) % kOffsets, value_bytes_ - kHeaderBytes);
  }

  std::size_t value_bytes_;
  std::string text_;
};

// Where a load takes its records from.
class Source {
 public:
  Source(std::uint64_t count, const Values& values) : count_(count), values_(values), value_(values.bytes(), '\0') {}
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // The next record, valid until the next call. False when there are no more.
  bool next(std::string_view& key, std::string_view& value) {
    std::uint64_t index = 0;
    if (given_ == 0) begin_ns_ = now_ns();
    if (given_ % 1024 == 0 && limit_ns_ != 0 && now_ns() - begin_ns_ > limit_ns_) return false;
    if (!next_index(index)) return false;
    ++given_;
    key_ = Key(index);
    key = key_.view();
    values_.write(index, 0, value_.data());
    value = value_;
    return true;
  }
  std::uint64_t given() const { return given_; }
  // When the first record was asked for.
  std::uint64_t begin_ns() const { return begin_ns_; }
  // Ends the source so long after its first record: for loads that may take that long and no longer.
  void limit_to(std::uint64_t ns) { limit_ns_ = ns; }
  // Time that went into finding the order, which is not the engine's.
  std::uint64_t sorting_ns() const { return sorting_ns_; }

 protected:
  virtual bool next_index(std::uint64_t& index) = 0;
  std::uint64_t count() const { return count_; }
  void sorted_for(std::uint64_t ns) { sorting_ns_ += ns; }

 private:
  std::uint64_t count_;
  std::uint64_t given_ = 0;
  std::uint64_t begin_ns_ = 0;
  std::uint64_t limit_ns_ = 0;
  std::uint64_t sorting_ns_ = 0;
  const Values& values_;
  std::string value_;
  Key key_ = Key(0);
};

// In the order of the indexes, which is a random order of the keys.
class RandomOrder final : public Source {
 public:
  using Source::Source;

 private:
  bool next_index(std::uint64_t& index) override {
    if (next_ == count()) return false;
    index = next_++;
    return true;
  }
  std::uint64_t next_ = 0;
};

// In ascending order of the keys: a sixteenth of the key space is gathered and sorted at a time, so that it needs little memory.
class SortedOrder final : public Source {
 public:
  using Source::Source;

 private:
  bool next_index(std::uint64_t& index) override {
    while (at_ == part_.size()) {
      if (parts_done_ == kParts) return false;
      gather(parts_done_++);
    }
    index = part_[at_++].index;
    return true;
  }
  void gather(std::uint64_t part) {
    const std::uint64_t begin = now_ns();
    part_.clear();
    at_ = 0;
    for (std::uint64_t i = 0; i < count(); ++i) {
      const std::uint64_t key = bench::mix(i);
      if (key / (~std::uint64_t{0} / kParts + 1) == part) part_.push_back({key, i});
    }
    std::ranges::sort(part_, {}, &Entry::key);
    sorted_for(now_ns() - begin);
  }

  static constexpr std::uint64_t kParts = 16;
  struct Entry {
    std::uint64_t key;
    std::uint64_t index;
  };
  std::vector<Entry> part_;
  std::size_t at_ = 0;
  std::uint64_t parts_done_ = 0;
};

}  // namespace comparison
