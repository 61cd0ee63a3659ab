// backup and salvage: a store from a store.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <store/salvage.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::size_t kSalvageBufferBytes = std::size_t{32} << 20;

struct Copied {
  std::vector<std::uint64_t> generations;  // of each shard
  std::uint64_t bytes = 0;
  std::uint64_t blocks_written = 0;
};

std::string as_text(const Copied& copied, bool is_sharded) {
  const std::string of = is_sharded ? fmt::format("{} shards of generations {}", copied.generations.size(),
                                                  fmt::join(copied.generations, ", "))
                                    : fmt::format("generation {}", copied.generations.front());
  return fmt::format("ok: {}, {}, {} written\n", of, human_bytes(static_cast<double>(copied.bytes)),
                     human_bytes(static_cast<double>(copied.blocks_written * kBlockBytes)));
}

std::string as_json(const Copied& copied) {
  return fmt::format("{{\"generations\": [{}], \"bytes\": {}, \"bytes_written\": {}}}\n",
                     fmt::join(copied.generations, ", "), copied.bytes, copied.blocks_written * kBlockBytes);
}

monterey::Task<Copied> copy_to(std::string path, Partition& db, BackupOptions options) {
  const FileBlockDeviceOptions how{.create = !options.since};
  std::unique_ptr<BlockDevice> target = co_await open_device(std::move(path), how);
  const BackupReport report = co_await db.backup(std::move(target), options);
  Copied copied;
  copied.generations.push_back(report.generation);
  copied.bytes = report.bytes;
  copied.blocks_written = report.blocks_written;
  co_return std::move(copied);
}

monterey::Task<Copied> copy_to(std::string path, ShardedStore& db, BackupOptions options) {
  const ShardedBackupReport report = co_await db.backup(shard_files(std::move(path)), options);
  Copied copied;
  copied.generations = report.generations;
  copied.bytes = report.bytes;
  copied.blocks_written = report.blocks_written;
  co_return std::move(copied);
}

template <class Db>
monterey::Task<ExitCode> backup(const BackupCommand& command, Db& db, std::optional<Progress>& progress) {
  const Stats stats = co_await total_stats(db);
  progress.emplace("backup", Unit::bytes, (stats.tree_pages + stats.overflow_blocks) * kBlockBytes);
  const bool was_there = std::filesystem::exists(command.target);
  if (std::is_same_v<Db, ShardedStore>) require_room_for_shards(command.target);
  Copied copied;
  std::exception_ptr error;
  try {
    BackupOptions options{.since = command.since, .overwrite = command.overwrite};
    if (command.incremental) options.since = BackupOptions::kOfTarget;
    copied = co_await copy_to(command.target, db, options);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (...) {
      if (!was_there) remove_unless_taken(command.target);
      throw;
    }
  }
  progress.reset();
  Output output;
  output.write(command.json ? as_json(copied) : as_text(copied, std::is_same_v<Db, ShardedStore>));
  output.finish();
  co_return ExitCode::done;
}

// What is salvaged, open before anything is done to the target.
struct Damaged {
  std::unique_ptr<BlockDevice> store;
  std::unique_ptr<BlockDevice> log;
};

monterey::Task<> open_damaged(const SalvageCommand& command, Damaged& damaged) {
  const FileBlockDeviceOptions how{.create = false, .read_only = true};
  damaged.store = co_await open_device(command.session.path, how, command.session.window);
  if (command.log) damaged.log = co_await open_device(*command.log, how);
}

// Says each damage at once, or keeps it for the document.
class Damages {
 public:
  explicit Damages(bool json) : json_(json) {}

  DamageObserver observer() {
    return [this](const std::string& damage) {
      if (!json_) print_message(damage);
      if (json_) kept_.push_back(damage);
    };
  }
  const std::vector<std::string>& kept() const { return kept_; }

 private:
  const bool json_;
  std::vector<std::string> kept_;
};

ExitCode print_salvaged(const SalvageCommand& command, const SalvageReport& report, const Damages& damages) {
  Output output;
  std::string counted = "no meta page counts them";
  if (report.generation > 0) counted = fmt::format("of {} in generation {}", report.entries_counted, report.generation);
  if (command.json) {
    output.write(fmt::format(
        "{{\"generation\": {}, \"entries\": {}, \"entries_counted\": {}, \"log_entries\": {}, "
        "\"damage\": {}}}\n",
        report.generation, report.entries, report.entries_counted, report.log_entries, json_array(damages.kept())));
  } else {
    output.write(fmt::format("{}: {} entries, {}; {} changes from the log; {} places damaged\n",
                             report.damages == 0 ? "ok" : "damaged", report.entries, counted, report.log_entries,
                             report.damages));
  }
  output.finish();
  return report.damages == 0 ? ExitCode::done : ExitCode::negative;
}

monterey::Task<ExitCode> salvage_into(const SalvageCommand& command, Damaged& from, Partition& into) {
  const Damaged damaged = std::move(from);
  Damages damages(command.json);
  const SalvageOptions options{.log_device = damaged.log.get()};
  const SalvageReport report = co_await salvage(*damaged.store, into, damages.observer(), options);
  co_return print_salvaged(command, report, damages);
}

monterey::Task<ExitCode> salvage_shards(const SalvageCommand& command, ShardedStore& into) {
  Damages damages(command.json);
  const SalvageReport report = co_await salvage(shard_files(command.session.path), into, damages.observer());
  co_return print_salvaged(command, report, damages);
}

}  // namespace

ExitCode run(const BackupCommand& command) {
  std::optional<Progress> progress;
  std::uint64_t bytes = 0;
  const ReadObserver observer = [&](std::uint64_t blocks) {
    bytes += blocks * kBlockBytes;
    if (progress) progress->at(bytes);
  };
  const Work work = for_any([&](auto& db) { return backup(command, db, progress); });
  SessionOptions session = command.session;
  session.others = {command.target};
  return with_store(session, Access::read, work, {.on_read = observer, .before_open = {}});
}

ExitCode run(const SalvageCommand& command) {
  std::error_code absent;
  for (const std::string& source : {command.session.path, command.log.value_or(command.session.path)}) {
    if (!std::filesystem::exists(source))
      throw Error(Errc::not_found, fmt::format("{}: there is no such file", source));
    if (std::filesystem::equivalent(source, command.target, absent)) {
      throw Error(Errc::invalid_argument,
                  fmt::format("{}: the same file as {}, which is only read; name another one for what is salvaged",
                              command.target, source));
    }
  }
  SessionOptions target = command.session;
  target.path = command.target;
  target.window = {};
  target.others = {command.session.path, command.log.value_or(command.session.path)};
  target.write_buffer_bytes = kSalvageBufferBytes;
  const Access access = command.overwrite ? Access::overwrite : Access::create;
  if (is_sharded(command.session.path, {})) {
    if (command.log)
      throw Error(Errc::invalid_argument, "--log is of a single store: shards have their logs with them");
    // The new store is made up as the damaged one is.
    ShardedLayout layout = read_layout(command.session.path);
    target.layout = {.shards = layout.shards, .split = std::move(layout.points), .escaped = false};
    const Work work{.on_file = {}, .on_shards = [&](ShardedStore& into) { return salvage_shards(command, into); }};
    return with_store(target, access, work);
  }
  Damaged damaged;
  const Work work{.on_file = [&](Partition& into, const BlockDevice&) { return salvage_into(command, damaged, into); },
                  .on_shards = {}};
  const auto before = [&] { return open_damaged(command, damaged); };
  if (is_sharded(command.target, {})) {
    throw Error(Errc::invalid_argument,
                fmt::format("{}: a directory; what is salvaged of a single store goes into a file", command.target));
  }
  const bool was_there = std::filesystem::exists(command.target);
  try {
    return with_store(target, access, work, {.on_read = {}, .before_open = before});
  } catch (const Error& error) {
    // Nothing was put: there is nothing to take it from. After any other error what was put stays.
    if (error.errc() == Errc::not_a_store && !was_there) remove_unless_taken(command.target);
    throw;
  }
}

}  // namespace store::tool
