// Sources of entries for tests of bulk_load().
#pragma once

#include <monterey/monterey.hpp>
#include <store/partition.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "unit/partition/failure_support.hpp"

namespace store::test {

// The entries of a model. What it gave is overwritten by the next call, as the contract allows.
class ModelSource {
 public:
  explicit ModelSource(const Model& model) : next_(model.begin()), end_(model.end()) {}

  bool next(std::string_view& key, std::string_view& value) {
    key_.assign(key_.size(), '?');
    value_.assign(value_.size(), '?');
    if (next_ == end_) return false;
    key = key_ = next_->first;
    value = value_ = next_->second;
    ++next_;
    return true;
  }

 private:
  Model::const_iterator next_;
  Model::const_iterator end_;
  std::string key_;
  std::string value_;
};

// Entries in the order given.
class ListSource {
 public:
  explicit ListSource(std::vector<std::pair<std::string, std::string>> entries) : entries_(std::move(entries)) {}

  bool next(std::string_view& key, std::string_view& value) {
    if (next_ == entries_.size()) return false;
    key = entries_[next_].first;
    value = entries_[next_].second;
    ++next_;
    return true;
  }

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
  std::size_t next_ = 0;
};

// A model of so many entries, every eleventh with a value of a size at some border.
inline Model bulk_model(int count) {
  constexpr std::size_t kBorders[] = {0, 1, 1023, 1024, 1025, 4096, 4097, 65535, 65536, 65537, 200'000};
  Model model;
  for (int i = 0; i < count; ++i) {
    std::size_t bytes = static_cast<std::size_t>(i % 200);
    if (i % 11 == 3 && i < 11 * 2000) bytes = kBorders[static_cast<std::size_t>(i / 11) % std::size(kBorders)];
    std::string value = numbered("value", i);
    value.resize(bytes, static_cast<char>('a' + i % 26));
    model.emplace_hint(model.end(), numbered("key", i), std::move(value));
  }
  return model;
}

inline monterey::Task<> load_model(Partition& db, const Model& model) {
  const std::uint64_t entries = co_await db.bulk_load(ModelSource(model));
  EXPECT_EQ(entries, model.size());
}

}  // namespace store::test
