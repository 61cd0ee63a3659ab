// compact.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "tools/commands.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"
#include "tools/totals.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kStepBytes = 16u << 20;  // moved between two looks at how far it is

struct Compacted {
  bool finished = false;
  std::uint64_t bytes_moved = 0;
  std::uint64_t bytes_freed = 0;
};

template <class Db>
monterey::Task<ExitCode> compact(const CompactCommand& command, Db& db, std::optional<Progress>& progress,
                                 Compacted& all) {
  progress.emplace("compact", Unit::bytes, 0);
  while (!all.finished && all.bytes_moved < command.max_bytes) {
    CompactOptions options;
    const std::uint64_t step_bytes = std::min(kStepBytes, command.max_bytes - all.bytes_moved);
    options.max_bytes_moved = std::max<std::uint64_t>(1, step_bytes / parts_of(db));
    const CompactReport step = co_await db.compact(options);
    all.finished = step.finished;
    all.bytes_moved += step.bytes_moved;
    all.bytes_freed += step.bytes_freed;
    if (step.bytes_moved == 0) break;  // what is left cannot be moved now
  }
  progress.reset();
  const Stats stats = co_await total_stats(db);
  const std::uint64_t file_bytes = stats.device_blocks * 4096;
  Output output;
  if (command.json) {
    output.write(fmt::format("{{\"finished\": {}, \"bytes_moved\": {}, \"bytes_freed\": {}, \"file_bytes\": {}}}\n",
                             all.finished, all.bytes_moved, all.bytes_freed, file_bytes));
  } else {
    output.write(fmt::format(
        "{}: {} moved, {} given back, the {} {}\n", all.finished ? "done" : "not finished",
        human_bytes(static_cast<double>(all.bytes_moved)), human_bytes(static_cast<double>(all.bytes_freed)),
        parts_of(db) == 1 ? "file has" : "files have", human_bytes(static_cast<double>(file_bytes))));
  }
  output.finish();
  co_return ExitCode::done;
}

}  // namespace

ExitCode run(const CompactCommand& command) {
  std::optional<Progress> progress;
  Compacted all;
  const ReadObserver observer = [&](std::uint64_t) {
    if (progress) progress->at(all.bytes_moved);
  };
  const Work work = for_any([&](auto& db) { return compact(command, db, progress, all); });
  return with_store(command.session, Access::write, work, {.on_read = observer, .before_open = {}});
}

}  // namespace store::tool
