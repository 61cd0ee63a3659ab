// page: one block of the device, decoded.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/tree/overflow_io.hpp"
#include "store/wal/log_space.hpp"
#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/page_view.hpp"
#include "tools/raw.hpp"

namespace store::tool {
namespace {

// The newest commit; nothing when there is none that can be read, and why in `unknown`.
monterey::Task<std::optional<Meta>> newest_of(BlockDevice& device, std::string& unknown) {
  MetaPages pages;
  unknown = "no meta page is good";
  try {
    pages = co_await read_meta_pages(device);
  } catch (const Error& error) {
    unknown = error.what();
  }
  std::optional<Meta> newest;
  if (const Meta* const meta = pages.newest()) newest = *meta;
  co_return newest;
}

// What the newest commit says of a block: "in use", "free", "behind the high-water mark", or why it cannot tell.
monterey::Task<std::string> state_of(BlockDevice& device, PageNo block) {
  std::string unknown;
  const std::optional<Meta> meta = co_await newest_of(device, unknown);
  if (!meta) co_return "unknown: " + unknown;
  unknown.clear();
  if (block.value < kMetaBlocks) co_return "in use";
  if (block.value >= meta->high_water) co_return "behind the high-water mark";
  const std::uint32_t region = block.value / kRegionBlocks;
  const AllocatorBounds bounds{kMetaBlocks, meta->high_water};
  const auto memory = allocate_aligned(kPageBytes);
  const PageBytes page(memory.get(), kPageBytes);
  PagePointer pointer = meta->allocator_root;
  std::uint8_t level = meta->allocator_levels;
  try {
    for (;; --level) {
      std::uint32_t index = region;
      for (std::uint8_t above = 0; above < level; ++above) index /= kBitmapFanout;
      co_await read_allocator_page(device, pointer, level, index, bounds, page, monterey::IoClass::foreground);
      if (level == 0) break;
      std::uint32_t child = region;
      for (std::uint8_t above = 1; above < level; ++above) child /= kBitmapFanout;
      pointer = BitmapParentView(page.data()).child(child % kBitmapFanout).child;
    }
  } catch (const Error& error) {
    unknown = error.what();
  }
  if (!unknown.empty()) co_return "unknown: " + unknown;
  co_return BitmapView(page.data()).is_free(block.value % kRegionBlocks) ? "free" : "in use";
}

// Where the blocks of a group lie that was found in a block; empty when the log behind the newest commit does not have it there. Stale
// groups have an LSN before its begin.
monterey::Task<std::vector<Extent>> pieces_of(BlockDevice& device, PageNo block, LogGroup group) {
  std::vector<Extent> pieces;
  std::string unknown;
  const std::optional<Meta> meta = co_await newest_of(device, unknown);
  if (!meta || (meta->features & kFeatureLogDevice) != 0) co_return pieces;
  const LogLayout layout = layout_of(*meta);
  const std::uint64_t begin = layout.begin.lsn.value;
  if (group.store_id != load<std::uint64_t>(reinterpret_cast<const std::byte*>(meta->uuid.data()))) co_return pieces;
  if (group.lsn.value < begin || group.lsn.value % kPageBytes != begin % kPageBytes) co_return pieces;
  if (group.lsn >= layout.end() || group_span_bytes(group.bytes) > layout.end().value - group.lsn.value)
    co_return pieces;
  if (layout.locate(group.lsn, 1).first != block) co_return pieces;
  Lsn lsn = group.lsn;
  for (std::uint64_t left = blocks_for(group.bytes); left > 0;) {
    const Extent piece = layout.locate(lsn, left);
    pieces.push_back(piece);
    left -= piece.count;
    lsn = Lsn(lsn.value + std::uint64_t{piece.count} * kPageBytes);
    if (piece.end() > device.size_blocks()) pieces.clear();
    if (pieces.empty()) break;
  }
  co_return pieces;
}

monterey::Task<PageView> view_block(BlockDevice& device, PageNo block) {
  const auto memory = allocate_aligned(kMaxGroupBytes);
  const ConstPageBytes page(memory.get(), kPageBytes);
  co_await device.read(block, {memory.get(), kPageBytes}, monterey::IoClass::foreground);
  const std::optional<LogGroup> group = decode_group(page);
  if (!group || block.value < kMetaBlocks) co_return view_page(block, page);
  std::vector<Extent> pieces = co_await pieces_of(device, block, *group);
  const GroupPlace place = pieces.empty() ? GroupPlace::unknown : GroupPlace::in_log;
  if (pieces.empty()) {
    const std::uint64_t left = device.size_blocks() - block.value;
    pieces.push_back({block, static_cast<std::uint32_t>(std::min(blocks_for(group->bytes), left))});
  }
  std::size_t bytes = 0;
  for (const Extent& piece : pieces) {
    const std::span<std::byte> into(memory.get() + bytes, std::size_t{piece.count} * kPageBytes);
    co_await device.read(piece.first, into, monterey::IoClass::foreground);
    bytes += into.size();
  }
  co_return view_group(block, {memory.get(), bytes}, place);
}

monterey::Task<ExitCode> show(const PageCommand& command, BlockDevice& device) {
  if (command.page >= device.size_blocks()) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: there is no page {}: the device has {} blocks, numbered from 0", device.name(),
                            command.page, device.size_blocks()));
  }
  const PageNo block(static_cast<std::uint32_t>(command.page));
  PageView view = co_await view_block(device, block);
  const std::string state = co_await state_of(device, block);
  view.fields.text("state", state);
  Output output;
  if (command.json) {
    if (!view.rows_name.empty()) view.fields.json(view.rows_name, as_json(view.rows));
    view.fields.json("damage", json_array(view.wrong));
    output.write(view.fields.as_json() + '\n');
  } else {
    output.write(view.fields.as_lines());
    for (const Fields& row : view.rows) output.write(row.as_row() + '\n');
    for (const std::string& wrong : view.wrong) print_message(fmt::format("page {}: {}", command.page, wrong));
  }
  output.finish();
  co_return view.wrong.empty() ? ExitCode::done : ExitCode::negative;
}

}  // namespace

ExitCode run(const PageCommand& command) {
  return with_device(command.session, [&](BlockDevice& device) { return show(command, device); });
}

}  // namespace store::tool
