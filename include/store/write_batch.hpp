// A set of changes that Partition::write applies as a whole or not at all, also across a crash. A batch owns copies of
// its keys and values; it belongs to no partition and may be kept, cleared and used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace store {

class WriteBatch {
 public:
  // Adds a change; of two changes to one key the later wins. Errors: invalid_argument for a key or value beyond the
  // limits or a batch beyond 1 GiB; the batch is then as before.
  void put(std::string_view key, std::string_view value);
  void erase(std::string_view key);
  // Erases what is in [from, to) before this change, without `to` all from `from` on; changes after it may put there again.
  // A range that is empty or reversed is no change. Errors: invalid_argument also for bounds over 1024 bytes, and for more
  // than 64 ranges in a batch.
  void erase_range(std::string_view from, std::optional<std::string_view> to = std::nullopt);
  // Makes the batch conditional: write() throws `conflict` and changes nothing unless `key` then has exactly the value
  // `expected`, or is absent for nullopt.
  void expect(std::string_view key, std::optional<std::string_view> expected);

  void clear() noexcept;
  // Changes and expectations in the batch.
  std::size_t size() const noexcept { return changes_.size() + expectations_.size(); }
  bool empty() const noexcept { return size() == 0; }
  // Bytes of keys and values held.
  std::size_t bytes() const noexcept { return data_.size(); }

  struct Change {
    std::string_view key;
    std::optional<std::string_view> value;  // nullopt erases
    bool is_range = false;                  // erases [key, value), or all from `key` on
  };
  // The i-th change or expectation in the order they were added; the views live until the batch changes.
  std::size_t change_count() const noexcept { return changes_.size(); }
  Change change(std::size_t i) const { return resolve(changes_[i]); }
  std::size_t expectation_count() const noexcept { return expectations_.size(); }
  Change expectation(std::size_t i) const { return resolve(expectations_[i]); }

 private:
  struct Record {
    std::size_t offset;  // of the key in data_; the value follows it
    std::uint32_t key_bytes;
    std::uint32_t value_bytes;
    bool has_value;
    bool is_range;
  };

  void add(std::vector<Record>& records, const Change& change);
  Change resolve(const Record& record) const;

  std::string data_;
  std::vector<Record> changes_;
  std::size_t ranges_ = 0;  // among the changes
  std::vector<Record> expectations_;
};

}  // namespace store
