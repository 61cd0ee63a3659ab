// Pages for the tests of the page layer: random ones that are right, and a buffer for one page.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"

namespace store::test {

using Random = std::mt19937_64;

// The seed of this run, the one asked for or `fallback`, for SCOPED_TRACE.
std::uint64_t seed_or(std::uint64_t fallback);

// One page on the heap, exactly its size, so that AddressSanitizer sees a read behind it. Begins filled with garbage:
// encoders must set every byte.
class PageBuffer {
 public:
  PageBuffer() : memory_(std::make_unique<std::byte[]>(kPageBytes)) {
    std::fill_n(memory_.get(), kPageBytes, std::byte{0xa5});
  }
  PageBytes bytes() { return PageBytes(memory_.get(), kPageBytes); }
  std::byte* data() { return memory_.get(); }

 private:
  std::unique_ptr<std::byte[]> memory_;
};

// A number in [low, high].
std::size_t between(Random& random, std::size_t low, std::size_t high);

// Bytes of one of several kinds: few letters, zeros, 0xff, anything.
std::string random_bytes(Random& random, std::size_t length);

// Up to `most` distinct keys in order, of a style that the page picks: short ones that are prefixes of one another,
// long ones with a long common prefix, numbers, noise.
std::vector<std::string> random_keys(Random& random, std::size_t most);

PagePointer random_child(Random& random, Generation up_to, bool is_leaf);

struct SampleValue {
  std::string bytes;  // of a scattered run its other blocks
  OverflowRef run;
  bool is_run = false;
  LeafValue view() const { return is_run ? LeafValue(run, bytes) : LeafValue(bytes); }
};
using LeafModel = std::map<std::string, SampleValue>;

// What fits of a random leaf's entries, and the cells that view them.
LeafModel random_leaf(Random& random, Generation generation);
std::vector<LeafCell> cells_of(const LeafModel& model);
std::size_t leaf_bytes_of(const std::vector<LeafCell>& cells);

// Separators and children of a random branch; the first separator is empty.
using BranchModel = std::vector<std::pair<std::string, PagePointer>>;
BranchModel random_branch(Random& random, Generation generation, std::uint8_t level);
std::vector<BranchCell> cells_of(const BranchModel& model);
std::size_t branch_bytes_of(const std::vector<BranchCell>& cells);

// Keys worth looking for beside those that are there: each key cut, lengthened, and changed in its last byte.
std::vector<std::string> neighbours(const std::vector<std::string>& keys);

}  // namespace store::test
