// page: one block of the device, decoded.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "store/freelist/allocator_tree.hpp"
#include "store/tree/overflow_io.hpp"
#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/page_view.hpp"
#include "tools/raw.hpp"

namespace store::tool {
namespace {

// What the newest commit says of a block: "in use", "free", "behind the high-water mark", or why it cannot tell.
monterey::Task<std::string> state_of(BlockDevice& device, PageNo block) {
  MetaPages pages;
  std::string unknown;
  try {
    pages = co_await read_meta_pages(device);
  } catch (const Error& error) {
    unknown = error.what();
  }
  const Meta* const meta = pages.newest();
  if (meta == nullptr) co_return "unknown: no meta page is good";
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

monterey::Task<PageView> view_block(BlockDevice& device, PageNo block) {
  const auto memory = allocate_aligned(kMaxGroupBytes);
  const ConstPageBytes page(memory.get(), kPageBytes);
  co_await device.read(block, {memory.get(), kPageBytes}, monterey::IoClass::foreground);
  const std::optional<LogGroup> group = decode_group(page);
  if (!group || block.value < kMetaBlocks) co_return view_page(block, page);
  const std::uint64_t left = device.size_blocks() - block.value;
  const std::uint64_t blocks = std::min(blocks_for(group->bytes), left);
  const std::span<std::byte> bytes(memory.get(), blocks * kPageBytes);
  co_await device.read(block, bytes, monterey::IoClass::foreground);
  co_return view_group(block, bytes);
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
