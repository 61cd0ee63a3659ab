// LMDB as its users tune it for these workloads: no read-ahead, no sync until asked, transactions of 10,000 writes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace bench {

class Lmdb {
 public:
  explicit Lmdb(const std::string& directory);
  ~Lmdb();
  Lmdb(const Lmdb&) = delete;
  Lmdb& operator=(const Lmdb&) = delete;

  void put(std::string_view key, std::string_view value);
  // Commits the open write transaction and makes everything durable.
  void sync();
  // Reads through one read transaction, opened by the first get. Returns whether the key is there.
  bool get(std::string_view key, std::string& value);
  void end_reading();
  // Gives entries from the first key >= `from` on to `take`, until it returns false or there are no more. Keeps its read
  // transaction and cursor for the next one.
  template <class Take>
  void scan(std::string_view from, Take take) {
    std::string_view key = from;
    std::string_view value;
    for (bool more = seek(key, value); more && take(key, value);) more = next(key, value);
  }

 private:
  bool seek(std::string_view& key, std::string_view& value);
  bool next(std::string_view& key, std::string_view& value);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bench
