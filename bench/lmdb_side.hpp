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

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bench
