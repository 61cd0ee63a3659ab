#include <fmt/format.h>

#include <store/error.hpp>
#include <store/write_batch.hpp>

#include "store/partition/limits.hpp"

namespace store {

void WriteBatch::add(std::vector<Record>& records, const Change& change) {
  const auto& [key, value, is_range] = change;
  const std::size_t bytes = key.size() + (value ? value->size() : 0);
  if (data_.size() + bytes > kMaxBatchBytes) {
    throw Error(Errc::invalid_argument,
                fmt::format("batch of {} bytes: a batch holds at most {} bytes of keys and values; write it in parts",
                            data_.size() + bytes, kMaxBatchBytes));
  }
  records.push_back(Record{data_.size(), static_cast<std::uint32_t>(key.size()),
                           value ? static_cast<std::uint32_t>(value->size()) : 0, value.has_value(), is_range});
  data_.append(key);
  if (value) data_.append(*value);
}

void WriteBatch::put(std::string_view key, std::string_view value) {
  check_key(key);
  check_value(value);
  add(changes_, {key, value});
}

void WriteBatch::erase(std::string_view key) {
  check_key(key);
  add(changes_, {key, std::nullopt});
}

void WriteBatch::erase_range(std::string_view from, std::optional<std::string_view> to) {
  check_bound(from);
  if (to) check_bound(*to);
  if (to && *to <= from) return;
  if (ranges_ == kMaxBatchRanges) {
    throw Error(Errc::invalid_argument,
                fmt::format("a batch holds at most {} ranges; write it in parts", kMaxBatchRanges));
  }
  add(changes_, {from, to, true});
  ++ranges_;
}

void WriteBatch::expect(std::string_view key, std::optional<std::string_view> expected) {
  check_key(key);
  if (expected) check_value(*expected);
  add(expectations_, {key, expected});
}

void WriteBatch::clear() noexcept {
  data_.clear();
  changes_.clear();
  expectations_.clear();
  ranges_ = 0;
}

WriteBatch::Change WriteBatch::resolve(const Record& record) const {
  const std::string_view data = data_;
  Change change{data.substr(record.offset, record.key_bytes), std::nullopt, record.is_range};
  if (record.has_value) change.value = data.substr(record.offset + record.key_bytes, record.value_bytes);
  return change;
}

}  // namespace store
