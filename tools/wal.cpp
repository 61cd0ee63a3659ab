// wal: what the log behind the newest commit holds, read as replay does.
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "store/partition/log_device.hpp"
#include "store/wal/log_reader.hpp"
#include "store/wal/log_space.hpp"
#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/page_view.hpp"
#include "tools/raw.hpp"

namespace store::tool {
namespace {

struct Read {
  std::uint64_t groups = 0;
  std::uint64_t records = 0;
  std::uint64_t merged_records = 0;  // of those, which the tree has already
  std::map<std::string, std::uint64_t> operations;
  std::uint64_t first_incarnation = 0;
  std::uint64_t last_incarnation = 0;
  std::uint64_t durable_generation = 0;  // as the last group knew it
  std::uint64_t end_lsn = 0;
  std::string end;  // why nothing goes on there
  std::vector<std::string> damage;
  std::vector<Fields> rows;  // with --list
};

// Returns what is wrong with a record.
std::string take_record(std::span<const std::byte> bytes, const LogGroup& group, const Meta& meta, bool keep,
                        Read& read) {
  RecordDecoder record(bytes);
  ++read.records;
  SeqNo seq = record.first_seq();
  const bool is_merged = record.first_seq().value + record.entries() - 1 <= meta.last_merged.value;
  read.merged_records += is_merged;
  while (const std::optional<LogEntry> entry = record.next()) {
    ++read.operations[operation_of(*entry)];
    if (keep) {
      Fields& row = read.rows.emplace_back();
      row.number("lsn", group.lsn.value);
      row.number("sequence", seq.value);
      row.append(fields_of(*entry));
      row.text("merged", is_merged ? "yes" : "no");
    }
    seq = seq.next();
  }
  return record.error();
}

monterey::Task<> follow(BlockDevice& log, Meta meta, bool keep, Read& read) {
  const LogLayout layout = layout_of(meta);
  read.end_lsn = layout.begin.lsn.value;
  for (const Extent& segment : layout.segments) {
    if (segment.end() <= log.size_blocks()) continue;
    read.damage.push_back(
        fmt::format("{}: the log ends at block {}, the device at {}", log.name(), segment.end(), log.size_blocks()));
    co_return;
  }
  LogExpectation expected;
  std::memcpy(&expected.store_id, meta.uuid.data(), sizeof expected.store_id);
  expected.incarnation = meta.incarnation;
  expected.generation = meta.generation;
  LogReader reader(log, layout, expected);
  std::string wrong;
  for (bool more = true; more && wrong.empty();) {
    try {
      more = co_await reader.next_group();
    } catch (const Error& error) {
      wrong = error.what();
    }
    read.end_lsn = reader.position().lsn.value;
    if (!more) read.end = reader.stop();
    if (!more || !wrong.empty()) break;
    const LogGroup& group = reader.group();
    if (read.groups++ == 0) read.first_incarnation = group.incarnation;
    read.last_incarnation = group.incarnation;
    read.durable_generation = group.durable_generation.value;
    for (const std::span<const std::byte> record : reader.records()) {
      wrong = take_record(record, group, meta, keep, read);
      if (!wrong.empty()) wrong = fmt::format("log at LSN {}: {}", group.lsn.value, wrong);
      if (!wrong.empty()) break;
    }
  }
  if (!wrong.empty()) read.damage.push_back(wrong);
}

Fields fields_of(const Meta& meta, const Read& read, const std::string& place) {
  Fields fields;
  fields.text("log", place);
  fields.number("segments", meta.log_segment_count);
  fields.number("begin_lsn", meta.log_lsn);
  fields.number("end_lsn", read.end_lsn);
  fields.number("groups", read.groups);
  fields.number("records", read.records);
  fields.number("merged_records", read.merged_records);
  for (const char* operation : {"put", "put_run", "erase", "erase_range"}) {
    const auto found = read.operations.find(operation);
    fields.number(operation, found == read.operations.end() ? 0 : found->second);
  }
  fields.number("first_incarnation", read.first_incarnation);
  fields.number("last_incarnation", read.last_incarnation);
  fields.number("durable_generation", read.durable_generation);
  fields.text("ends_with", read.end);
  return fields;
}

std::vector<Fields> segments_of(const Meta& meta) {
  std::vector<Fields> rows;
  for (std::uint32_t i = 0; i < meta.log_segment_count; ++i) {
    Fields& row = rows.emplace_back();
    row.number("first", meta.log_segments[i].first.value);
    row.number("blocks", meta.log_segments[i].count);
  }
  return rows;
}

ExitCode print(const WalCommand& command, const Meta& meta, const Read& read, const std::string& place) {
  Fields fields = fields_of(meta, read, place);
  Output output;
  if (command.json) {
    fields.json("segments_in_order", as_json(segments_of(meta)));
    if (command.list) fields.json("operations", as_json(read.rows));
    fields.json("damage", json_array(read.damage));
    output.write(fields.as_json() + '\n');
  } else {
    output.write(fields.as_lines());
    for (const Fields& row : segments_of(meta)) output.write(fmt::format("{:<19}{}\n", "segment", row.as_row()));
    for (const Fields& row : read.rows) output.write(row.as_row() + '\n');
    for (const std::string& line : read.damage) print_message(line);
  }
  output.finish();
  return read.damage.empty() ? ExitCode::done : ExitCode::negative;
}

// Errors: invalid_argument when the store has no log device but one was given, or the other way round; those of
// require_log_device_of().
monterey::Task<std::unique_ptr<BlockDevice>> open_log(const WalCommand& command, Meta meta) {
  const bool is_elsewhere = (meta.features & kFeatureLogDevice) != 0;
  if (is_elsewhere && !command.log) {
    throw Error(Errc::invalid_argument,
                command.session.path + ": its log lies on a device of its own; name that with --log");
  }
  if (!is_elsewhere && command.log) {
    throw Error(Errc::invalid_argument, command.session.path + ": has its log on its own device; leave --log out");
  }
  if (!command.log) co_return nullptr;
  const FileBlockDeviceOptions how{.create = false, .read_only = true};
  auto log = co_await open_device(*command.log, how);
  const bool is_blank = co_await require_log_device_of(*log, meta.uuid);
  if (is_blank && meta.log_segment_count > 0) {
    throw Error(Errc::corruption, *command.log + ": it is blank, not the log of the store");
  }
  co_return std::move(log);
}

monterey::Task<ExitCode> show(const WalCommand& command, BlockDevice& device) {
  const MetaPages pages = co_await read_meta_pages(device);
  const Meta* const meta = pages.newest();
  if (meta == nullptr) {
    throw Error(Errc::corruption, device.name() + ": no meta page is good, so that nothing says where the log lies");
  }
  const std::unique_ptr<BlockDevice> own = co_await open_log(command, *meta);
  Read read;
  std::string place = "none";
  if (meta->log_segment_count > 0) {
    BlockDevice& log = own ? *own : device;
    place = log.name();
    co_await follow(log, *meta, command.list, read);
  }
  co_return print(command, *meta, read, place);
}

}  // namespace

ExitCode run(const WalCommand& command) {
  SessionOptions session = command.session;
  if (command.log) session.others = {*command.log};
  return with_device(session, [&](BlockDevice& device) { return show(command, device); });
}

}  // namespace store::tool
