// Images that somebody made: every checksum is right, the pages do not fit together. Whatever needs them ends in an error,
// never in an assertion, and nothing else is lost.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <functional>

#include "unit/partition/failure_support.hpp"

namespace store {
namespace {

using test::expect_error;
using test::expect_holds;
using test::expect_words;
using test::fill;
using test::MemDisk;
using test::Model;
using test::on_core;
using test::open_on;
using test::small_config;

using DiskPtr = std::shared_ptr<MemDisk>;

constexpr std::size_t kArena = 4u << 20;

monterey::Task<> make_store(DiskPtr disk, Model& model, int entries) {
  auto db = co_await Partition::create(test::device_on(disk), small_config());
  co_await fill(db, model, 0, entries);
  co_await db.close();
}

void write_meta(MemDisk& disk, const Meta& meta) {
  const std::uint32_t slot = test::newest_slot(disk);
  for (std::uint32_t copy = 0; copy < kMetaCopies; ++copy) encode_meta(meta, slot, disk.block(meta_block(slot, copy)));
}

// Seals the last page of `path` after a change, and every page above it, up to the meta page.
void reseal(MemDisk& disk, const std::vector<PageNo>& path) {
  Meta meta = test::newest_meta(disk);
  PagePointer pointer;
  for (std::size_t i = path.size(); i-- > 0;) {
    const auto page = disk.block(path[i]);
    if (i + 1 < path.size()) {
      const BranchView branch(page.data());
      std::uint32_t slot = 0;
      while (branch.child(slot).page != path[i + 1]) ++slot;
      std::byte* pointers =
          page.data() + detail::kSlottedHeaderBytes + branch.prefix().size() + detail::kHeadBytes * branch.count();
      put_pointer(pointers + sizeof(layout::Pointer) * slot, pointer);
    }
    pointer = seal_page(page, path[i], meta.generation);
  }
  meta.tree_root = pointer;
  write_meta(disk, meta);
}

// The cells of a page, with keys of their own.
struct Leaf {
  std::vector<std::string> keys;
  std::vector<std::string> values;
  explicit Leaf(const std::byte* page) {
    const LeafView view(page);
    for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
      view.append_key(slot, keys.emplace_back());
      values.emplace_back(view.value(slot).bytes());
    }
  }
  void encode(PageBytes page) const {
    std::vector<LeafCell> cells;
    for (std::size_t i = 0; i < keys.size(); ++i) cells.push_back({keys[i], LeafValue(std::string_view(values[i]))});
    encode_leaf(cells, page);
  }
};

struct Branch {
  std::vector<std::string> separators;
  std::vector<PagePointer> children;
  std::uint8_t level;
  explicit Branch(const std::byte* page) : level(page_level(page)) {
    const BranchView view(page);
    for (std::uint32_t slot = 0; slot < view.count(); ++slot) {
      view.append_separator(slot, separators.emplace_back());
      children.push_back(view.child(slot));
    }
  }
  void encode(PageBytes page) const {
    std::vector<BranchCell> cells;
    for (std::size_t i = 0; i < separators.size(); ++i) cells.push_back({separators[i], children[i]});
    encode_branch(cells, level, page);
  }
};

// A flush that merges into the crafted page fails, as often as it is tried; what was put stays readable, nothing is committed.
monterey::Task<> expect_refused(DiskPtr disk, std::vector<std::string> keys, PageNo page) {
  auto db = co_await open_on(disk);
  const std::uint64_t generation = db.stats().generation;
  for (const std::string& key : keys) co_await db.put(key, "new");
  for (int attempt = 0; attempt < 2; ++attempt) {
    co_await expect_error(db.flush(), Errc::corruption, fmt::format("page {}: |range|restore", page.value));
  }
  EXPECT_EQ(db.stats().generation, generation);
  EXPECT_EQ(db.stats().poisoned, "");
  for (const std::string& key : keys) {
    const auto value = co_await db.get(key);
    EXPECT_EQ(value, "new");
  }
  const CheckReport report = co_await db.check();
  EXPECT_FALSE(report.ok);
}

// The leaf of key000150 and the one before it.
struct Neighbours {
  std::vector<PageNo> left, right;
  explicit Neighbours(MemDisk& disk) : right(test::path_to(disk, "key000150")) {
    const std::string first = Leaf(disk.block(right.back()).data()).keys.front();
    left = test::path_to(disk, numbered_before(first));
    EXPECT_NE(left.back(), right.back());
  }
  static std::string numbered_before(const std::string& key) {
    return test::numbered("key", std::stoi(key.substr(3)) - 1);
  }
};

TEST(Crafted, ALeafWithAKeyBelowItsRange) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    const Neighbours at(*disk);
    Leaf leaf(disk->block(at.right.back()).data());
    const std::string own = leaf.keys.back();
    leaf.keys.front() = "key000000";  // in the range of a leaf before
    leaf.encode(disk->block(at.right.back()));
    reseal(*disk, at.right);
    // Both neighbours are merged, or only this one.
    const std::vector<std::string> both = {Leaf(disk->block(at.left.back()).data()).keys.front(), own};
    co_await expect_refused(disk->copy(), both, at.right.back());
    const std::vector<std::string> one = {own};
    co_await expect_refused(disk->copy(), one, at.right.back());
  });
}

TEST(Crafted, ALeafWithAKeyAboveItsRange) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    const Neighbours at(*disk);
    Leaf leaf(disk->block(at.left.back()).data());
    const std::string own = leaf.keys.front();
    leaf.keys.back() = "key000299";
    leaf.encode(disk->block(at.left.back()));
    reseal(*disk, at.left);
    const std::vector<std::string> both = {own, Leaf(disk->block(at.right.back()).data()).keys.front()};
    co_await expect_refused(disk->copy(), both, at.left.back());
  });
}

// What an erase leaves of the left neighbour is so little that the right one is drawn in, which no put leads to.
TEST(Crafted, ANeighbourThatIsDrawnIn) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    const Neighbours at(*disk);
    Leaf leaf(disk->block(at.right.back()).data());
    leaf.keys.front() = "key000000";
    leaf.encode(disk->block(at.right.back()));
    reseal(*disk, at.right);
    auto db = co_await open_on(disk);
    const Leaf left(disk->block(at.left.back()).data());
    for (std::size_t i = 1; i < left.keys.size(); ++i) co_await db.erase(left.keys[i]);
    co_await expect_error(db.flush(), Errc::corruption, fmt::format("page {}: |range|restore", at.right.back().value));
  });
}

TEST(Crafted, ABranchWithASeparatorOutsideItsRange) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 9'000);
    const std::vector<PageNo> first = test::path_to(*disk, "key000000");
    const std::vector<PageNo> last = test::path_to(*disk, "key008999");
    EXPECT_EQ(first.size(), 3u);
    EXPECT_NE(first[1], last[1]);
    const auto craft = [&](const std::vector<PageNo>& path, const std::function<void(Branch&)>& change) {
      auto crafted = disk->copy();
      Branch branch(crafted->block(path[1]).data());
      change(branch);
      branch.encode(crafted->block(path[1]));
      reseal(*crafted, {path[0], path[1]});
      return crafted;
    };
    const auto above = craft(first, [](Branch& branch) { branch.separators.back() = "key008000"; });
    const std::vector<std::string> around = {"key000000", "key002000", "key008500", "key008999"};
    co_await expect_refused(above, around, first[1]);
    const auto below = craft(last, [](Branch& branch) { branch.separators[1] = "key000001"; });
    co_await expect_refused(below, around, last[1]);
  });
}

// --- height ---

// Puts a chain of branches of one child over the tree's root, in blocks of leaves that it cuts off.
void raise_tree(MemDisk& disk, unsigned height) {
  Meta meta = test::newest_meta(disk);
  std::vector<PageNo> blocks;
  const Branch root(disk.block(meta.tree_root.page).data());
  for (const PagePointer& child : root.children) blocks.push_back(child.page);
  PagePointer below = root.children.front();
  for (unsigned level = 1; level < height; ++level) {
    const PageNo block = blocks.at(level);
    const std::vector<BranchCell> cells{{{}, below}};
    encode_branch(cells, static_cast<std::uint8_t>(level), disk.block(block));
    below = seal_page(disk.block(block), block, meta.generation);
  }
  meta.tree_root = below;
  meta.tree_height = static_cast<std::uint8_t>(height);
  write_meta(disk, meta);
}

monterey::Task<> open_and_close(DiskPtr disk) {
  auto db = co_await open_on(disk);
  co_await db.close();
}

TEST(Crafted, ATreeThatIsTooHighIsRefused) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 3'000);
    for (const unsigned height : {25u, 31u, 32u}) {
      auto crafted = disk->copy();
      raise_tree(*crafted, height);
      co_await expect_error(open_and_close(crafted), Errc::corruption, fmt::format("{} levels|restore", height));
    }
    // As high as a tree may be, it is read and written; what it loses on the way shows in check() alone.
    auto crafted = disk->copy();
    raise_tree(*crafted, 24);
    auto db = co_await open_on(crafted);
    EXPECT_EQ(db.stats().height, 24u);
    const auto value = co_await db.get("key000000");
    EXPECT_EQ(value, model["key000000"]);
    for (int i = 0; i < 300; ++i) co_await db.put(test::numbered("key", i), "new");
    co_await db.flush();
    Model found = co_await test::contents(db);
    EXPECT_EQ(found.size(), 300u);
    EXPECT_EQ(found["key000299"], "new");
  });
}

// --- what a check keeps ---

TEST(Crafted, ACheckThatKeepsNoFindingsIsNotOk) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    for (const PageNo damaged : {test::leaf_of(*disk, "key000150"), meta_block(0, 0), meta_block(1, 1)}) {
      auto db = co_await open_on(disk);
      test::flip_bit(*disk, damaged, 1'000);
      for (const std::size_t kept : {std::size_t{0}, std::size_t{1}, std::size_t{100}}) {
        CheckOptions options;
        options.max_errors = kept;
        const CheckReport report = co_await db.check(options);
        EXPECT_FALSE(report.ok) << "page " << damaged.value << ", " << kept << " findings kept";
        EXPECT_LE(report.errors.size(), kept);
        if (kept == 100) {
          EXPECT_EQ(report.errors.size(), 1u);
          expect_words(report.errors.front(), fmt::format("page {}|crc", damaged.value));
        }
      }
      test::flip_bit(*disk, damaged, 1'000);
      const CheckReport report = co_await db.check(CheckOptions{});
      EXPECT_TRUE(report.ok);
      co_await db.close();
    }
  });
}

// A meta page that is whole, but not the one that was written last.
TEST(Crafted, ACheckComparesTheMetaPagesWithTheOpenState) {
  auto disk = std::make_shared<MemDisk>();
  on_core(kArena, [&]() -> monterey::Task<> {
    Model model;
    co_await make_store(disk, model, 300);
    auto db = co_await open_on(disk);
    const std::uint32_t slot = test::newest_slot(*disk);
    const std::string good = test::bytes_of(*disk, meta_block(slot, 1));
    Meta other = test::newest_meta(*disk);
    other.generation = Generation(other.generation.value + 50);
    encode_meta(other, slot, disk->block(meta_block(slot, 1)));
    CheckReport report = co_await db.check();
    EXPECT_FALSE(report.ok);
    if (!report.ok) expect_words(report.errors.front(), fmt::format("slot {}, copy 1|generation", slot));
    other.generation = Generation(other.generation.value + 100);
    encode_meta(other, 1 - slot, disk->block(meta_block(1 - slot, 0)));
    std::memcpy(disk->block(meta_block(slot, 1)).data(), good.data(), good.size());
    report = co_await db.check();
    EXPECT_FALSE(report.ok);
    if (!report.ok) expect_words(report.errors.front(), fmt::format("slot {}, copy 0|generation", 1 - slot));
  });
}

}  // namespace
}  // namespace store
