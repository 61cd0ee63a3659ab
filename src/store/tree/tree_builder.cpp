#include "store/tree/tree_builder.hpp"

#include "store/base/assert.hpp"
#include "store/page/header.hpp"

namespace store {

bool TreeBuilder::try_add(std::string_view key, std::string_view value) {
  if (value.size() > kMaxInlineValueBytes || leaves_.page_count() > 1) return false;
  leaves_.add(LeafCell{key, LeafValue(value)});
  ++entries_;
  return true;
}

monterey::Task<> TreeBuilder::add(std::string_view key, std::string_view value) {
  while (leaves_.page_count() > 1) co_await emit_front(0);
  if (value.size() <= kMaxInlineValueBytes) {
    leaves_.add(LeafCell{key, LeafValue(value)});
  } else {
    const OverflowRef run = co_await writer_.write_run(value, building_);
    overflow_blocks_ += run_blocks(run.length);
    leaves_.add(LeafCell{key, LeafValue(run)});
  }
  ++entries_;
}

BranchPacker& TreeBuilder::branches(unsigned level) {
  STORE_ASSERT(level >= 1 && level < kMaxHeight);
  if (levels_.size() < level) levels_.resize(level);
  return levels_[level - 1].packer;
}

// Writes the first page of a level, and whatever that completes above it.
monterey::Task<> TreeBuilder::emit_front(unsigned level) {
  for (bool complete = true; complete; ++level) {
    while (!writer_.has_room()) co_await writer_.make_room();
    const SequentialWriter::Place place = writer_.place();
    const std::span<std::byte, kPageBytes> bytes(place.bytes, kPageBytes);
    std::string separator;
    if (level == 0) {
      const PackedCells cells = leaves_.front();
      if (!last_leaf_key_.empty()) separator = shortest_separator(last_leaf_key_, cells.key(0));
      last_leaf_key_ = cells.last_key();
      encode_packed_leaf(cells, bytes);
      leaves_.pop_front();
    } else {
      const PackedCells cells = branches(level).front();
      separator = cells.key(0);
      encode_packed_branch(cells, static_cast<std::uint8_t>(level), bytes);
      branches(level).pop_front();
      levels_[level - 1].has_pages = true;
    }
    const PagePointer pointer = seal_page(bytes, place.page, building_);
    if (level > 0 && cache_ != nullptr) cache_->insert_clean(pointer, bytes);
    ++tree_pages_;
    branches(level + 1).add(BranchCell{separator, pointer});
    complete = branches(level + 1).page_count() > 1;
  }
}

monterey::Task<TreeRoot> TreeBuilder::finish() {
  if (entries_ == 0) co_return TreeRoot{PagePointer{}, 0, building_};
  while (!leaves_.empty()) co_await emit_front(0);
  for (unsigned level = 1;; ++level) {
    if (!levels_[level - 1].has_pages && branches(level).cell_count() == 1) {
      const PagePointer root = load_pointer(branches(level).front().payload(0));
      co_return TreeRoot{root, static_cast<std::uint8_t>(level), building_};
    }
    while (!branches(level).empty()) co_await emit_front(level);
  }
}

}  // namespace store
