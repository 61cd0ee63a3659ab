// What Partition::bulk_load() takes entries from: any object with such a next(), behind one virtual call an entry.
#pragma once

#include <concepts>
#include <monterey/task.hpp>
#include <string_view>
#include <type_traits>
#include <utility>

namespace store {

// `bool next(std::string_view& key, std::string_view& value)` gives one entry, or returns false at the end. The views are valid until
// the next call. It is not called again after the end or a throw.
template <class Source>
concept BulkSource = requires(std::remove_reference_t<Source>& source, std::string_view& key, std::string_view& value) {
  { source.next(key, value) } -> std::same_as<bool>;
};

namespace detail {

class AnyBulkSource {
 public:
  AnyBulkSource() = default;
  AnyBulkSource(const AnyBulkSource&) = delete;
  AnyBulkSource& operator=(const AnyBulkSource&) = delete;
  virtual ~AnyBulkSource() = default;
  virtual bool next(std::string_view& key, std::string_view& value) = 0;
  // Called when next() has returned false: waits for more entries, if there can be any. Returns whether next() has one now.
  virtual monterey::Task<bool> more() { co_return false; }
};

// Source is a reference for a source that stays its owner's.
template <class Source>
class BulkSourceOf final : public AnyBulkSource {
 public:
  explicit BulkSourceOf(Source&& source) : source_(std::forward<Source>(source)) {}
  bool next(std::string_view& key, std::string_view& value) override { return source_.next(key, value); }

 private:
  Source source_;
};

}  // namespace detail
}  // namespace store
