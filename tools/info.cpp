// info: what the meta pages and the root of the bitmaps say, of a store that does not open, or that another process is writing to, as well.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <monterey/time.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "store/freelist/allocator_tree.hpp"
#include "store/sharded/manifest.hpp"
#include "tools/commands.hpp"
#include "tools/formats/tsv.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/raw.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

struct Info {
  MetaPages pages;
  std::uint64_t device_blocks = 0;
  std::optional<std::uint64_t> free_blocks;  // below the high-water mark; nullopt: the bitmaps' root cannot be read
  std::string free_unknown;                  // why not
  std::vector<std::string> damage;
};

// Of the newest commit. The root of the bitmaps has it, so that one page is read.
monterey::Task<std::uint64_t> count_free(BlockDevice& device, Meta meta) {
  if (meta.allocator_root.is_null()) co_return 0;
  alignas(kPageBytes) std::array<std::byte, kPageBytes> page;
  const AllocatorBounds bounds{kMetaBlocks, meta.high_water};
  co_await read_allocator_page(device, meta.allocator_root, meta.allocator_levels, 0, bounds, PageBytes(page),
                               monterey::IoClass::foreground);
  if (meta.allocator_levels > 0) co_return summarize(BitmapParentView(page.data())).free_blocks;
  std::array<std::uint64_t, kBitmapWords> words;
  BitmapView(page.data()).copy_to(BitmapWords(words));
  co_return summarize(ConstBitmapWords(words)).free_blocks;
}

monterey::Task<Info> look_once(BlockDevice& device) {
  constexpr int kMostLooks = 5;
  Info info;
  for (int look = 0; look < kMostLooks && !info.free_blocks; ++look) {
    info.pages = co_await read_meta_pages(device);
    const Meta* const meta = info.pages.newest();
    if (meta == nullptr) break;
    try {
      info.free_blocks = co_await count_free(device, *meta);
    } catch (const Error& error) {
      info.free_unknown = error.what();  // or a writer has replaced it meanwhile: then the next look finds another one
    }
  }
  info.device_blocks = device.size_blocks();
  info.damage = info.pages.damage();
  const Meta* const meta = info.pages.newest();
  if (meta != nullptr && !info.free_blocks) info.damage.push_back(info.free_unknown);
  if (meta != nullptr && meta->high_water > info.device_blocks) {
    info.damage.push_back(
        fmt::format("truncated: the device has {} blocks, the store uses {}", info.device_blocks, meta->high_water));
  }
  if (meta == nullptr) info.damage.push_back("no meta page is good: `store salvage` searches for what is left");
  co_return std::move(info);
}

// Damage of a store that another process may write to is what several looks have in common: one of them may meet a commit in flight.
monterey::Task<Info> look_at(BlockDevice& device) {
  constexpr std::chrono::milliseconds kFirstWait{2};
  constexpr std::chrono::milliseconds kLongestWait{256};
  const auto nobody_writes = [&] {
    if (is_nvme_path(device.name())) return true;  // it is locked
    const std::string users = users_of(device.name());
    return users == "nobody" || users == "readers";
  };
  bool is_quiet = nobody_writes();
  Info info = co_await look_once(device);
  std::vector<std::string> stays = info.damage;
  is_quiet = is_quiet && nobody_writes();
  for (auto wait = kFirstWait; !is_quiet && !stays.empty() && wait <= kLongestWait; wait *= 2) {
    co_await monterey::sleep_for(wait);
    info = co_await look_once(device);
    std::erase_if(stays, [&](const std::string& line) { return std::ranges::count(info.damage, line) == 0; });
  }
  info.damage = std::move(stays);
  co_return std::move(info);
}

monterey::Task<ExitCode> look_into(BlockDevice& device, Info& info) {
  info = co_await look_at(device);
  co_return info.damage.empty() ? ExitCode::done : ExitCode::negative;
}

Fields all_fields_of(const Info& info) {
  Fields fields;
  const Meta* const meta = info.pages.newest();
  if (meta != nullptr) fields = fields_of(*meta);
  if (info.free_blocks) {
    fields.number("free_blocks", *info.free_blocks);
    fields.number("used_blocks", meta->high_water - *info.free_blocks);
  }
  fields.number("device_blocks", info.device_blocks);
  return fields;
}

ExitCode finish(const std::string& text, const std::vector<std::string>& damage, bool json) {
  Output output;
  output.write(text);
  if (!json) {
    for (const std::string& line : damage) print_message(line);
  }
  output.finish();
  return damage.empty() ? ExitCode::done : ExitCode::negative;
}

ExitCode info_of_single(const InfoCommand& command) {
  Info info;
  const std::string users = is_nvme_path(command.session.path) ? std::string() : users_of(command.session.path);
  with_meta_device(command.session, [&](BlockDevice& device) { return look_into(device, info); });
  Fields fields;
  fields.text("kind", "store");
  fields.append(all_fields_of(info));
  fields.text("open_by", users);
  if (command.json) {
    fields.json("meta_pages", as_json(info.pages.rows()));
    fields.json("damage", json_array(info.damage));
    return finish(fields.as_json() + '\n', info.damage, true);
  }
  std::string text = fields.as_lines();
  for (const Fields& row : info.pages.rows()) text += fmt::format("{:<19}{}\n", "meta page", row.as_row());
  return finish(text, info.damage, false);
}

// --- a sharded store ---

const char* state_of(detail::Manifest::State state) {
  switch (state) {
    case detail::Manifest::State::whole: return "whole";
    case detail::Manifest::State::making: return "being made";
    case detail::Manifest::State::loading: return "being loaded";
    case detail::Manifest::State::updating: return "being brought up to date";
    case detail::Manifest::State::copying: return "being copied";
  }
  return "unknown";
}

struct ShardInfo {
  std::string name;
  Info info;
};

// A shard that cannot be looked at is damage, and the others are shown.
std::vector<ShardInfo> look_at_shards(const std::string& directory, const detail::Manifest& manifest) {
  std::vector<ShardInfo> shards;
  for (unsigned i = 0; i < manifest.shards.size(); ++i) {
    ShardInfo& shard = shards.emplace_back(ShardInfo{detail::shard_file_name(i, manifest.epoch), {}});
    SessionOptions file;
    file.path = directory + '/' + shard.name;
    try {
      with_meta_device(file, [&](BlockDevice& device) { return look_into(device, shard.info); });
    } catch (const Error& error) {
      if (error.errc() == Errc::unsupported_format) throw;
      shard.info.damage.emplace_back(error.what());
    }
    const Meta* const meta = shard.info.pages.newest();
    if (meta != nullptr && !manifest.shards[i].uuid.empty() && uuid_text(meta->uuid) != manifest.shards[i].uuid) {
      shard.info.damage.push_back(
          fmt::format("its uuid is {}, the manifest names {}", uuid_text(meta->uuid), manifest.shards[i].uuid));
    }
  }
  return shards;
}

ExitCode info_of_shards(const InfoCommand& command) {
  require_no_window(command.session.path, command.session.window);
  const std::string& directory = command.session.path;
  require_room_for_shards(directory);
  const detail::Manifest manifest = manifest_of(directory);
  std::vector<std::string> damage;
  std::vector<Fields> rows;
  std::string lines;
  std::uint64_t entries = 0;
  std::uint64_t device_blocks = 0;
  for (const ShardInfo& shard : look_at_shards(directory, manifest)) {
    Fields& row = rows.emplace_back();
    row.text("name", shard.name);
    row.append(all_fields_of(shard.info));
    for (const std::string& line : shard.info.damage) damage.push_back(shard.name + ": " + line);
    device_blocks += shard.info.device_blocks;
    const Meta* const meta = shard.info.pages.newest();
    if (meta == nullptr) continue;
    entries += meta->entries;
    lines += fmt::format("{}: {} entries, generation {}, {} blocks\n", shard.name, meta->entries,
                         meta->generation.value, shard.info.device_blocks);
  }
  std::vector<std::string> points;
  for (const std::string& point : manifest.points) append_escaped(points.emplace_back(), point);
  Fields fields;
  fields.text("kind", "sharded store");
  fields.text("routing", name_of(manifest.routing));
  fields.text("state", state_of(manifest.state));
  fields.number("epoch", manifest.epoch);
  fields.number("entries", entries);
  fields.number("device_blocks", device_blocks);
  fields.text("open_by", users_of(directory + "/manifest"));
  if (command.json) {
    fields.json("split", json_array(points));
    fields.json("shards", as_json(rows));
    fields.json("damage", json_array(damage));
    return finish(fields.as_json() + '\n', damage, true);
  }
  std::string text = fields.as_lines();
  for (const std::string& point : points) text += fmt::format("{:<19}{}\n", "split", point);
  return finish(text + lines, damage, false);
}

}  // namespace

ExitCode run(const InfoCommand& command) {
  return is_sharded(command.session.path, {}) ? info_of_shards(command) : info_of_single(command);
}

}  // namespace store::tool
