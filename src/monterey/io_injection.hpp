// Alters I/O completions the way kernels may, in a seeded order, for tests: short counts, EINTR, EAGAIN, ECANCELED,
// and completions in any order and later turns. It acts on what the backend is about to complete, so it is the same
// on every rung. Only operations that may be repeated without harm are failed (transfers, syncs, sizes); the
// operation itself has been carried out. Owned by the test; used on the core's thread; detach it before it goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "monterey/io_backend.hpp"

namespace monterey::detail {

class IoInjection {
 public:
  // How many in a thousand completions meet each fate.
  struct Rates {
    unsigned short_count = 0;
    unsigned eintr = 0;
    unsigned eagain = 0;
    unsigned ecanceled = 0;
    unsigned reorder = 0;  // held back to the end of this turn or of a later one, then released in any order
  };
  struct Counts {
    std::uint64_t short_count = 0, eintr = 0, eagain = 0, ecanceled = 0, held = 0;
  };

  IoInjection(std::uint64_t seed, Rates rates) : random_(seed), rates_(rates) {}

  const Counts& counts() const noexcept { return counts_; }

 private:
  friend class IoBackend;

  bool happens(unsigned per_thousand) { return random_() % 1000 < per_thousand; }
  std::int64_t altered(const IoOp& op, std::int64_t result);
  void ended(IoOp& op, std::int64_t result);
  void release();

  std::mt19937_64 random_;
  Rates rates_;
  Counts counts_;
  std::vector<IoOp*> held_;
};

}  // namespace monterey::detail
