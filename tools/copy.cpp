// backup and salvage: a store from a store.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <store/salvage.hpp>
#include <string>
#include <utility>

#include "tools/commands.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::size_t kSalvageBufferBytes = std::size_t{32} << 20;

monterey::Task<ExitCode> backup(const BackupCommand& command, Partition& db, std::optional<Progress>& progress) {
  const Stats stats = db.stats();
  progress.emplace("backup", Unit::bytes, (stats.tree_pages + stats.overflow_blocks) * kBlockBytes);
  const bool was_there = std::filesystem::exists(command.target);
  BackupReport report;
  std::exception_ptr error;
  try {
    BackupOptions options{.since = command.since, .overwrite = command.overwrite};
    if (command.incremental) options.since = BackupOptions::kOfTarget;
    const FileBlockDeviceOptions how{.create = !options.since};
    std::unique_ptr<BlockDevice> target = co_await open_device(command.target, how);
    report = co_await db.backup(std::move(target), options);
  } catch (...) {
    error = std::current_exception();
  }
  if (error) {
    std::error_code ignored;  // the first error is told
    if (!was_there) std::filesystem::remove(command.target, ignored);
    std::rethrow_exception(error);
  }
  progress.reset();
  Output output;
  output.write(fmt::format("ok: generation {}, {}, {} written\n", report.generation,
                           human_bytes(static_cast<double>(report.bytes)),
                           human_bytes(static_cast<double>(report.blocks_written * kBlockBytes))));
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

monterey::Task<ExitCode> salvage_into(Damaged& from, Partition& into) {
  const Damaged damaged = std::move(from);
  const DamageObserver tell = [](const std::string& damage) { fmt::print(stderr, "store: {}\n", damage); };
  const SalvageOptions options{.log_device = damaged.log.get()};
  const SalvageReport report = co_await salvage(*damaged.store, into, tell, options);
  Output output;
  std::string counted = "no meta page counts them";
  if (report.generation > 0) counted = fmt::format("of {} in generation {}", report.entries_counted, report.generation);
  output.write(fmt::format("{}: {} entries, {}; {} changes from the log; {} places damaged\n",
                           report.damages == 0 ? "ok" : "damaged", report.entries, counted, report.log_entries,
                           report.damages));
  output.finish();
  co_return report.damages == 0 ? ExitCode::done : ExitCode::negative;
}

}  // namespace

ExitCode run(const BackupCommand& command) {
  std::optional<Progress> progress;
  std::uint64_t bytes = 0;
  const ReadObserver observer = [&](std::uint64_t blocks) {
    bytes += blocks * kBlockBytes;
    if (progress) progress->at(bytes);
  };
  const Work work = for_files("backup", [&](Partition& db) { return backup(command, db, progress); });
  SessionOptions session = command.session;
  session.others = {command.target};
  return with_store(session, Access::read, work, {.on_read = observer, .before_open = {}});
}

ExitCode run(const SalvageCommand& command) {
  if (is_sharded(command.session.path, {})) refuse_shards(command.session.path, "salvage");
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
  Damaged damaged;
  const Work work = for_files("salvage", [&](Partition& into) { return salvage_into(damaged, into); });
  const auto before = [&] { return open_damaged(command, damaged); };
  return with_store(target, command.overwrite ? Access::overwrite : Access::create, work,
                    {.on_read = {}, .before_open = before});
}

}  // namespace store::tool
