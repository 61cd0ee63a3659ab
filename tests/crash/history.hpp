// What was done to a store between two verifications, and the judgement of what is found in it after a crash.
//
// An operation changes one key or, a batch, several. The clock ticks whenever an operation begins or completes, so that two
// stamps are never equal. An operation that completed before another began comes before it; two that ran side by side may have
// been applied in either order. What may be found is the result of a prefix of such an order: then there is a moment T such
// that every operation of the prefix began before T and none of the others completed before it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace store::crash {

// What a key holds: the value of this length that the operation wrote; operation 0 is none.
struct Held {
  std::uint64_t operation = 0;
  std::uint64_t bytes = 0;
  bool operator==(const Held&) const = default;
};

struct Change {
  static constexpr std::uint64_t kErased = ~std::uint64_t{0};
  std::uint32_t key = 0;
  std::uint64_t bytes = kErased;
};

struct Operation {
  std::uint64_t number = 0;
  std::uint64_t began = 0;
  std::uint64_t completed = 0;  // 0: it was not acknowledged
  bool durable = false;         // acknowledged as durable
  std::vector<Change> changes;  // of different keys
};

struct History {
  std::vector<Held> before;           // by key, as verified last
  std::vector<Operation> operations;  // in the order in which they began, with ascending numbers
};

// Holds what was found (by key) against the history. Returns what is wrong, in words; nothing when all is well:
// every value found was written, what is durable is there or was overwritten, batches are whole, the state is a prefix.
std::vector<std::string> judge(const History& history, const std::vector<Held>& found);

}  // namespace store::crash
