// create and check.
#include <fmt/format.h>

#include <optional>
#include <string>

#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;

template <class Db>
monterey::Task<ExitCode> check(const CheckCommand& command, Db& db, std::optional<Progress>& progress) {
  const Stats stats = co_await total_stats(db);
  progress.emplace("check", Unit::bytes,
                   (stats.tree_pages + stats.overflow_blocks + stats.allocator_pages) * kBlockBytes);
  const CheckOptions options{.max_errors = command.max_errors};
  const CheckReport report = co_await check_all(db, options);
  progress.reset();
  Output output;
  if (command.json) {
    output.write(fmt::format("{{\"ok\": {}, \"pages\": {}, \"entries\": {}, \"errors\": {}}}\n", report.ok,
                             report.pages, report.entries, json_array(report.errors)));
  } else {
    for (const std::string& error : report.errors) print_message(error);
    output.write(fmt::format("{}: {} pages, {} entries\n", report.ok ? "ok" : "damaged", report.pages, report.entries));
    for (const std::string& note : stats.open_notes) print_message(note);
  }
  output.finish();
  co_return report.ok ? ExitCode::done : ExitCode::negative;
}

}  // namespace

ExitCode run(const CreateCommand& command) {
  const Work work = for_any([](auto&) -> monterey::Task<ExitCode> { co_return ExitCode::done; });
  return with_store(command.session, command.overwrite ? Access::overwrite : Access::create, work);
}

ExitCode run(const CheckCommand& command) {
  std::optional<Progress> progress;
  std::uint64_t bytes = 0;
  const ReadObserver observer = [&](std::uint64_t blocks) {
    bytes += blocks * kBlockBytes;
    if (progress) progress->at(bytes);
  };
  const Work work = for_any([&](auto& db) { return check(command, db, progress); });
  return with_store(command.session, Access::read, work, {.on_read = observer, .before_open = {}});
}

}  // namespace store::tool
