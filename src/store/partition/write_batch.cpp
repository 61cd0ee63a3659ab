#include <fmt/format.h>

#include <store/error.hpp>
#include <store/write_batch.hpp>

#include "store/partition/limits.hpp"

namespace store {

void WriteBatch::add(std::vector<Record>& records, std::string_view key, std::optional<std::string_view> value) {
  check_key(key);
  if (value) check_value(*value);
  const std::size_t bytes = key.size() + (value ? value->size() : 0);
  if (data_.size() + bytes > kMaxBatchBytes) {
    throw Error(Errc::invalid_argument,
                fmt::format("batch of {} bytes: a batch holds at most {} bytes of keys and values; write it in parts",
                            data_.size() + bytes, kMaxBatchBytes));
  }
  records.push_back(Record{data_.size(), static_cast<std::uint32_t>(key.size()),
                           value ? static_cast<std::uint32_t>(value->size()) : 0, value.has_value()});
  data_.append(key);
  if (value) data_.append(*value);
}

void WriteBatch::put(std::string_view key, std::string_view value) { add(changes_, key, value); }

void WriteBatch::erase(std::string_view key) { add(changes_, key, std::nullopt); }

void WriteBatch::expect(std::string_view key, std::optional<std::string_view> expected) {
  add(expectations_, key, expected);
}

void WriteBatch::clear() noexcept {
  data_.clear();
  changes_.clear();
  expectations_.clear();
}

WriteBatch::Change WriteBatch::resolve(const Record& record) const {
  const std::string_view data = data_;
  Change change{data.substr(record.offset, record.key_bytes), std::nullopt};
  if (record.has_value) change.value = data.substr(record.offset + record.key_bytes, record.value_bytes);
  return change;
}

}  // namespace store
