// What the search inside pages costs, without cache, tasks or devices around: lookups through four levels of encoded
// pages that lie in memory in no particular order, 1 M keys of 16 bytes with values of 100; one leaf that stays in the
// CPU's cache; the check of a page as read. `page_bench --benchmark_repetitions=9 --benchmark_enable_random_interleaving`.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"

namespace {

using namespace store;

enum class Keys { random_bytes, decimal };

constexpr std::size_t kKeys = 1'000'000;
constexpr std::size_t kValueBytes = 100;
constexpr std::size_t kFill = 2900;  // of 4096 bytes: about the mean after random inserts

struct Unmap {
  std::size_t bytes;
  void operator()(std::byte* memory) const { munmap(memory, bytes); }
};

struct Tree {
  std::vector<std::string> keys;
  std::unique_ptr<std::byte[], Unmap> pages;
  std::vector<std::uint32_t> numbers;  // of pages, shuffled
  std::size_t page_count = 0;
  PagePointer root;
  std::uint8_t height = 1;

  PageNo next_page() { return PageNo(numbers.at(page_count++)); }
  std::byte* at(PageNo no) { return pages.get() + kPageBytes * no.value; }
  PageBytes page(PageNo no) { return PageBytes(at(no), kPageBytes); }
};

struct Child {
  std::string separator;
  PagePointer pointer;
};

std::vector<std::string> make_keys(Keys kind, std::mt19937_64& random) {
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < kKeys; ++i) {
    if (kind == Keys::decimal) {
      keys.push_back(fmt::format("{:016}", i * 7));
    } else {
      const std::uint64_t parts[2] = {random(), random()};
      keys.emplace_back(reinterpret_cast<const char*>(parts), sizeof parts);
    }
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::vector<Child> build_leaves(Tree& tree) {
  const std::string value(kValueBytes, 'v');
  std::vector<Child> leaves;
  std::vector<LeafCell> cells;
  std::string_view last;
  std::size_t sum = 0;
  const auto finish = [&] {
    const PageNo no = tree.next_page();
    encode_leaf(cells, tree.page(no));
    const auto separator = leaves.empty() ? std::string_view{} : shortest_separator(last, cells.front().key);
    leaves.push_back({std::string(separator), seal_page(tree.page(no), no, Generation(1))});
    last = cells.back().key;
    cells.clear();
    sum = 0;
  };
  for (const std::string& key : tree.keys) {
    const std::size_t count = cells.size() + 1;
    const std::size_t prefix = cells.empty() ? 0 : common_prefix_bytes(cells.front().key, key);
    if (leaf_bytes(count, sum + key.size(), count * kValueBytes, prefix) > kFill) finish();
    cells.push_back({key, LeafValue(value)});
    sum += key.size();
  }
  finish();
  return leaves;
}

std::vector<Child> build_branches(Tree& tree, const std::vector<Child>& children) {
  std::vector<Child> branches;
  std::vector<BranchCell> cells;
  std::size_t sum = 0;
  const auto finish = [&] {
    const PageNo no = tree.next_page();
    encode_branch(cells, tree.height, tree.page(no));
    branches.push_back({std::string(cells.front().separator), seal_page(tree.page(no), no, Generation(1))});
    cells.clear();
    sum = 0;
  };
  for (const Child& child : children) {
    const std::string& separator = child.separator;
    const std::size_t prefix = cells.size() < 2 ? separator.size() : common_prefix_bytes(cells[1].separator, separator);
    if (!cells.empty() && branch_bytes(cells.size() + 1, sum + separator.size(), prefix) > kFill) finish();
    if (!cells.empty()) sum += separator.size();
    cells.push_back({separator, child.pointer});
  }
  finish();
  return branches;
}

Tree build(Keys kind) {
  std::mt19937_64 random(1);
  Tree tree;
  tree.keys = make_keys(kind, random);
  const std::size_t bytes = kKeys * 200;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, MADV_HUGEPAGE);
  tree.pages = std::unique_ptr<std::byte[], Unmap>(static_cast<std::byte*>(memory), Unmap{bytes});
  tree.numbers.resize(bytes / kPageBytes - 1);
  std::iota(tree.numbers.begin(), tree.numbers.end(), 1u);
  std::shuffle(tree.numbers.begin(), tree.numbers.end(), random);

  std::vector<Child> level = build_leaves(tree);
  while (level.size() > 1) {
    level = build_branches(tree, level);
    ++tree.height;
  }
  tree.root = level.front().pointer;
  return tree;
}

Tree& tree_of(Keys kind) {
  static Tree trees[2] = {build(Keys::random_bytes), build(Keys::decimal)};
  return trees[static_cast<int>(kind)];
}

void BM_lookup(benchmark::State& state) {
  Tree& tree = tree_of(static_cast<Keys>(state.range(0)));
  std::mt19937_64 random(2);
  std::vector<std::string> sought(std::size_t{1} << 20);
  for (std::string& key : sought) key = tree.keys[random() % kKeys];
  char out[kValueBytes];
  std::size_t i = 0;
  for (auto _ : state) {
    const std::string_view key = sought[i++ & (sought.size() - 1)];
    const std::byte* page = tree.at(tree.root.page);
    for (unsigned level = tree.height - 1u; level > 0; --level) {
      const BranchView branch(page);
      page = tree.at(branch.child(branch.find_child(key)).page);
      level > 1 ? BranchView::prefetch(page) : LeafView::prefetch(page);
    }
    const LeafView leaf(page);
    const Lookup at = leaf.find(key);
    if (!at.found) {
      state.SkipWithError("a key is missing");
      break;
    }
    std::memcpy(out, leaf.value(at.slot).bytes().data(), sizeof out);
    benchmark::DoNotOptimize(out);
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["height"] = tree.height;
}
BENCHMARK(BM_lookup)->Arg(0)->Arg(1)->ArgNames({"decimal"});

// One page that stays in the first-level cache.
void BM_find_in_hot_leaf(benchmark::State& state) {
  std::vector<std::string> keys;
  std::mt19937_64 random(3);
  for (int i = 0; i < state.range(0); ++i) {
    const std::uint64_t parts[2] = {random(), random()};
    keys.emplace_back(reinterpret_cast<const char*>(parts), 16);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<LeafCell> cells;
  for (const auto& key : keys) cells.push_back({key, LeafValue(std::string_view("v"))});
  alignas(4096) std::byte page[kPageBytes];
  encode_leaf(cells, page);
  std::shuffle(keys.begin(), keys.end(), random);
  const LeafView leaf(page);
  std::size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(leaf.find(keys[i]));
    if (++i == keys.size()) i = 0;
  }
}
BENCHMARK(BM_find_in_hot_leaf)->Arg(8)->Arg(32)->Arg(128);

void BM_verify(benchmark::State& state) {
  Tree& tree = tree_of(Keys::random_bytes);
  const BranchView root(tree.at(tree.root.page));
  const PagePointer child = root.child(0);
  std::string wrong;
  for (auto _ : state) benchmark::DoNotOptimize(wrong = verify(tree.page(child.page), child));
  if (!wrong.empty()) state.SkipWithError(wrong.c_str());
}
BENCHMARK(BM_verify);

}  // namespace

BENCHMARK_MAIN();
