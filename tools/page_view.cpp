#include "tools/page_view.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "store/base/crc32c.hpp"
#include "store/page/bitmap_page.hpp"
#include "store/page/branch.hpp"
#include "store/page/leaf.hpp"
#include "store/page/meta.hpp"
#include "store/page/structure.hpp"
#include "tools/formats/tsv.hpp"
#include "tools/raw.hpp"

namespace store::tool {
namespace {

constexpr std::size_t kShownBytes = 64;  // of a block without a header

std::string shown_crc(std::uint32_t crc) { return fmt::format("{:#010x}", crc); }

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

const char* name_of(PageType type) {
  switch (type) {
    case PageType::leaf: return "leaf";
    case PageType::branch: return "branch";
    case PageType::bitmap: return "bitmap";
    case PageType::bitmap_parent: return "bitmap_parent";
    case PageType::meta: return "meta";
  }
  return "unknown";
}

const char* name_of(FragmentKind kind) {
  switch (kind) {
    case FragmentKind::whole: return "whole";
    case FragmentKind::first: return "first";
    case FragmentKind::middle: return "middle";
    case FragmentKind::last: return "last";
  }
  return "unknown";
}

void add_pointer(Fields& row, const PagePointer& child) {
  row.number("child", child.page.value);
  row.number("birth", child.birth.value);
  row.text("crc", shown_crc(child.crc));
}

void add_run(Fields& row, const OverflowRun& run) {
  std::string blocks;
  RunExtents extents(run);
  for (Extent extent; extents.next(extent);) {
    blocks += fmt::format("{}{}+{}", blocks.empty() ? "" : ",", extent.first.value, extent.count);
  }
  row.text("run", blocks);
  row.number("birth", run.birth.value);
  row.text("crc", shown_crc(run.crc));
}

void add_header(Fields& fields, ConstPageBytes page) {
  fields.text("kind", name_of(page_type(page)));
  fields.text("crc", shown_crc(page_crc(page.data())));
  fields.number("written_for", page_number(page.data()).value);
  fields.number("generation", page_generation(page.data()).value);
  fields.number("level", page_level(page));
}

void view_leaf(PageView& view, const LeafView& leaf) {
  view.fields.number("entries", leaf.count());
  view.fields.number("bytes_used", leaf.bytes_used());
  view.fields.text("prefix", escaped(leaf.prefix()));
  view.rows_name = "entries_in_order";
  for (std::uint32_t slot = 0; slot < leaf.count(); ++slot) {
    std::string key;
    leaf.append_key(slot, key);
    const LeafValue value = leaf.value(slot);
    Fields& row = view.rows.emplace_back();
    row.number("slot", slot);
    row.text("key", escaped(key));
    row.number("value_bytes", value.length());
    if (value.is_run()) {
      add_run(row, value.run());
    } else {
      row.text("value", escaped(value.bytes()));
    }
  }
}

void view_branch(PageView& view, const BranchView& branch) {
  view.fields.number("children", branch.count());
  view.fields.number("bytes_used", branch.bytes_used());
  view.fields.text("prefix", escaped(branch.prefix()));
  view.rows_name = "children_in_order";
  for (std::uint32_t slot = 0; slot < branch.count(); ++slot) {
    std::string separator;
    branch.append_separator(slot, separator);
    const PagePointer child = branch.child(slot);
    Fields& row = view.rows.emplace_back();
    row.number("slot", slot);
    row.text("separator", escaped(separator));
    add_pointer(row, child);
    if (branch.level() == 1) row.number("entries", entry_count(child));
    row.text("has_runs", has_overflow(child) ? "yes" : "no");
  }
}

void view_bitmap(PageView& view, const BitmapView& bitmap) {
  std::array<std::uint64_t, kBitmapWords> words;
  bitmap.copy_to(BitmapWords(words));
  const FreeSummary free = summarize(ConstBitmapWords(words));
  const std::uint64_t base = std::uint64_t{bitmap.region()} * kRegionBlocks;
  view.fields.number("region", bitmap.region());
  view.fields.number("first_block", base);
  view.fields.number("free_blocks", free.free_blocks);
  view.fields.number("longest_run", free.longest_run);
  view.rows_name = "free";
  for (std::uint32_t i = 0; i < kRegionBlocks;) {
    const std::uint32_t first = i;
    while (i < kRegionBlocks && bitmap.is_free(i)) ++i;
    if (i == first) {
      ++i;
      continue;
    }
    Fields& row = view.rows.emplace_back();
    row.number("first", base + first);
    row.number("blocks", i - first);
  }
}

void view_bitmap_parent(PageView& view, const BitmapParentView& parent) {
  view.fields.number("index", parent.index());
  view.fields.number("children", parent.count());
  view.rows_name = "children_in_order";
  for (std::uint32_t slot = 0; slot < parent.count(); ++slot) {
    const BitmapParentCell cell = parent.child(slot);
    Fields& row = view.rows.emplace_back();
    row.number("slot", slot);
    add_pointer(row, cell.child);
    row.number("free_blocks", cell.free.free_blocks);
    row.number("longest_run", cell.free.longest_run);
  }
}

bool is_zeros(ConstPageBytes page) {
  return std::ranges::all_of(page, [](std::byte b) { return b == std::byte{0}; });
}

// Values and stale bytes have no header, so that nothing about them can be wrong.
void view_data(PageView& view, ConstPageBytes page) {
  const bool zeros = is_zeros(page);
  view.fields.text("kind", zeros ? "zeros" : "data");
  if (zeros) return;
  view.fields.text("may_be", "blocks of a value, the inside of a log group, or a page whose header is damaged");
  view.fields.text("starts_with", escaped(text_of(page.first(kShownBytes))));
}

// decode_meta() alone judges a meta block. A slot that was not written yet is zeros.
void view_meta(PageView& view, PageNo block, ConstPageBytes page) {
  const DecodedMeta decoded = decode_meta(page, block.value / kMetaCopies);
  if (decoded.state != MetaState::good) {
    add_header(view.fields, page);
    if (decoded.state == MetaState::newer_format) {
      view.fields.text("cannot_tell", decoded.reason + "; use a newer version of this program");
      return;
    }
    view.wrong.push_back(decoded.reason);
    return;
  }
  view.fields.text("kind", name_of(PageType::meta));
  view.fields.text("crc", shown_crc(page_crc(page.data())));
  const Meta& meta = decoded.meta;
  view.fields.append(fields_of(meta));
  view.fields.text("tree_root", fmt::format("{}", meta.tree_root.page.value));
  view.fields.text("tree_root_crc", shown_crc(meta.tree_root.crc));
  view.fields.text("allocator_root", fmt::format("{}", meta.allocator_root.page.value));
  view.fields.text("allocator_root_crc", shown_crc(meta.allocator_root.crc));
  view.fields.number("allocator_levels", meta.allocator_levels);
  view.fields.number("log_offset", meta.log_offset);
  view.rows_name = "segments";
  for (std::uint32_t i = 0; i < meta.log_segment_count; ++i) {
    Fields& row = view.rows.emplace_back();
    row.number("first", meta.log_segments[i].first.value);
    row.number("blocks", meta.log_segments[i].count);
  }
}

std::string wrong_structure(ConstPageBytes page) {
  switch (page_type(page)) {
    case PageType::leaf: return detail::check_leaf(page);
    case PageType::branch: return detail::check_branch(page);
    case PageType::bitmap: return detail::check_bitmap(page);
    case PageType::bitmap_parent: return detail::check_bitmap_parent(page);
    case PageType::meta: return "a meta page outside of the meta blocks";
  }
  return fmt::format("page type {} is none", static_cast<unsigned>(page_type(page)));
}

void view_contents(PageView& view, ConstPageBytes page) {
  switch (page_type(page)) {
    case PageType::leaf: view_leaf(view, LeafView(page.data())); break;
    case PageType::branch: view_branch(view, BranchView(page.data())); break;
    case PageType::bitmap: view_bitmap(view, BitmapView(page.data())); break;
    case PageType::bitmap_parent: view_bitmap_parent(view, BitmapParentView(page.data())); break;
    case PageType::meta: break;
  }
}

}  // namespace

std::string escaped(std::string_view bytes) {
  std::string text;
  append_escaped(text, bytes);
  return text;
}

PageView view_page(PageNo block, ConstPageBytes page) {
  PageView view;
  view.fields.number("page", block.value);
  if (block.value < kMetaBlocks && !is_zeros(page)) {
    view_meta(view, block, page);
    return view;
  }
  const std::uint32_t computed = crc32c(page.subspan(sizeof(std::uint32_t)));
  const bool is_whole = computed == page_crc(page.data());
  const bool is_here = page_number(page.data()) == block;
  const bool has_type = page_type(page) >= PageType::leaf && page_type(page) <= PageType::meta;
  if (!has_type || (!is_whole && !is_here)) {
    view_data(view, page);
    return view;
  }
  add_header(view.fields, page);
  if (!is_whole) {
    view.wrong.push_back(
        fmt::format("crc: the page says {}, its bytes give {}", shown_crc(page_crc(page.data())), shown_crc(computed)));
  }
  if (!is_here) {
    view.wrong.push_back(fmt::format("page number: written for block {}, read from block {} (a misdirected write)",
                                     page_number(page.data()).value, block.value));
  }
  if (std::string wrong = wrong_structure(page); !wrong.empty()) {
    view.wrong.push_back("structure: " + wrong);
  } else {
    view_contents(view, page);
  }
  return view;
}

PageView view_group(PageNo block, std::span<const std::byte> bytes, GroupPlace place) {
  PageView view;
  const LogGroup group = *decode_group(bytes.first<kPageBytes>());
  view.fields.number("page", block.value);
  view.fields.text("kind", "log_group");
  view.fields.text("crc", shown_crc(group.crc));
  view.fields.number("lsn", group.lsn.value);
  view.fields.number("bytes", group.bytes);
  view.fields.text("previous_crc", shown_crc(group.previous_crc));
  view.fields.number("durable_lsn", group.durable_lsn.value);
  view.fields.number("durable_generation", group.durable_generation.value);
  view.fields.number("incarnation", group.incarnation);
  if (group.bytes > bytes.size() || !group_crc_holds(bytes.first(group.bytes), group.crc)) {
    if (place == GroupPlace::in_log) {
      view.wrong.push_back(
          "crc: it does not hold; at the end that `store wal` finds, it is a write that a crash cut off");
    } else {
      view.fields.text("cannot_tell", "what is in the group: it goes on elsewhere, or its blocks were used again");
    }
    return view;
  }
  view.rows_name = "contents";
  FragmentReader fragments(bytes.first(group.bytes));
  while (const std::optional<LogFragment> fragment = fragments.next()) {
    if (fragment->kind != FragmentKind::whole) {
      Fields& row = view.rows.emplace_back();
      row.text("part", name_of(fragment->kind));
      row.number("bytes", fragment->payload.size());
      continue;
    }
    RecordDecoder record(fragment->payload);
    for (SeqNo seq = record.first_seq();; seq = seq.next()) {
      const std::optional<LogEntry> entry = record.next();
      if (!entry) break;
      Fields& row = view.rows.emplace_back();
      row.number("sequence", seq.value);
      row.append(fields_of(*entry));
    }
    if (!record.error().empty()) view.wrong.push_back("structure: " + record.error());
  }
  if (!fragments.error().empty()) view.wrong.push_back("structure: " + fragments.error());
  return view;
}

const char* operation_of(const LogEntry& entry) {
  if (entry.is_range) return "erase_range";
  if (entry.run) return "put_run";
  return entry.value ? "put" : "erase";
}

Fields fields_of(const LogEntry& entry) {
  Fields fields;
  fields.text("operation", operation_of(entry));
  fields.text("key", escaped(entry.key));
  if (entry.is_range) {
    fields.text("to", escaped(entry.value.value_or(std::string_view())));
  } else if (entry.run) {
    fields.number("value_bytes", entry.run->length);
    add_run(fields, *entry.run);
  } else if (entry.value) {
    fields.number("value_bytes", entry.value->size());
  }
  return fields;
}

}  // namespace store::tool
