// create, stat and check.
#include <fmt/format.h>

#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/commands.hpp"
#include "tools/json.hpp"
#include "tools/output.hpp"
#include "tools/progress.hpp"

namespace store::tool {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;

std::vector<std::pair<const char*, std::uint64_t>> numbers_of(const Stats& stats) {
  return {{"generation", stats.generation},
          {"entries", stats.entries},
          {"height", stats.height},
          {"tree_pages", stats.tree_pages},
          {"overflow_blocks", stats.overflow_blocks},
          {"allocator_pages", stats.allocator_pages},
          {"high_water_blocks", stats.high_water_blocks},
          {"free_blocks", stats.free_blocks},
          {"log_bytes", stats.log_bytes},
          {"replayed_bytes", stats.replayed_bytes},
          {"replayed_records", stats.replayed_records},
          {"replayed_entries", stats.replayed_entries},
          {"device_blocks", stats.device_blocks},
          {"capacity_blocks", stats.capacity_blocks},
          {"copy_of_generation", stats.origin.generation}};
}

// Which store it is, of which it is a copy, how it was reached, and what was met on the way: text by name.
std::vector<std::pair<const char*, std::string>> texts_of(const Stats& stats, const BlockDevice& device) {
  const monterey::Capabilities& io = monterey::capabilities();
  std::vector<std::pair<const char*, std::string>> texts{
      {"uuid", stats.uuid},
      {"copy_of", stats.origin.uuid},
      {"io_backend", io.backend == monterey::Backend::threads ? "threads" : "io_uring"},
      {"io_backend_without", io.reason}};
  if (const auto* file = dynamic_cast<const FileBlockDevice*>(&device)) {
    texts.emplace_back("direct_io", file->direct_io() ? "yes" : "no");
    texts.emplace_back("buffered_because", file->buffered_reason());
  } else if (const auto* nvme = dynamic_cast<const NvmeBlockDevice*>(&device)) {
    texts.emplace_back("direct_io", "yes");
    texts.emplace_back("nvme", describe(nvme->identity()));
  }
  return texts;
}

void print_notes(const Stats& stats) {
  for (const std::string& note : stats.open_notes) fmt::print(stderr, "store: {}\n", note);
}

std::string stat_as_json(const Stats& stats, const BlockDevice& device) {
  std::string fields;
  for (const auto& [name, value] : numbers_of(stats)) fields += fmt::format("\"{}\": {}, ", name, value);
  for (const auto& [name, value] : texts_of(stats, device))
    fields += fmt::format("\"{}\": {}, ", name, json_string(value));
  return fmt::format("{{{}\"notes\": {}}}\n", fields, json_array(stats.open_notes));
}

std::string stat_as_text(const Stats& stats, const BlockDevice& device) {
  std::string lines;
  for (const auto& [name, value] : numbers_of(stats)) {
    lines += fmt::format("{:<19}{}", name, value);
    if (std::string_view(name).ends_with("_blocks")) {
      lines += fmt::format("  ({})", human_bytes(static_cast<double>(value * kBlockBytes)));
    }
    lines += '\n';
  }
  for (const auto& [name, value] : texts_of(stats, device)) {
    if (!value.empty()) lines += fmt::format("{:<19}{}\n", name, value);
  }
  return lines;
}

monterey::Task<ExitCode> stat(const StatCommand& command, Partition& db, const BlockDevice& device) {
  const Stats stats = db.stats();
  Output output;
  if (command.json) {
    output.write(stat_as_json(stats, device));
  } else {
    output.write(stat_as_text(stats, device));
    print_notes(stats);
  }
  output.finish();
  co_return ExitCode::done;
}

monterey::Task<ExitCode> check(const CheckCommand& command, Partition& db, std::optional<Progress>& progress) {
  const Stats stats = db.stats();
  progress.emplace("check", Unit::bytes,
                   (stats.tree_pages + stats.overflow_blocks + stats.allocator_pages) * kBlockBytes);
  const CheckOptions options{.max_errors = command.max_errors};
  const CheckReport report = co_await db.check(options);
  progress.reset();
  Output output;
  if (command.json) {
    output.write(fmt::format("{{\"ok\": {}, \"pages\": {}, \"entries\": {}, \"errors\": {}}}\n", report.ok,
                             report.pages, report.entries, json_array(report.errors)));
  } else {
    for (const std::string& error : report.errors) fmt::print(stderr, "store: {}\n", error);
    output.write(fmt::format("{}: {} pages, {} entries\n", report.ok ? "ok" : "damaged", report.pages, report.entries));
    print_notes(db.stats());
  }
  output.finish();
  co_return report.ok ? ExitCode::done : ExitCode::negative;
}

}  // namespace

ExitCode run(const CreateCommand& command) {
  const Work work = [](Partition&, const BlockDevice&) -> monterey::Task<ExitCode> { co_return ExitCode::done; };
  return with_store(command.session, command.overwrite ? Access::overwrite : Access::create, work);
}

ExitCode run(const StatCommand& command) {
  const Work work = [&](Partition& db, const BlockDevice& device) { return stat(command, db, device); };
  return with_store(command.session, Access::read, work);
}

ExitCode run(const CheckCommand& command) {
  std::optional<Progress> progress;
  std::uint64_t bytes = 0;
  const ReadObserver observer = [&](std::uint64_t blocks) {
    bytes += blocks * kBlockBytes;
    if (progress) progress->at(bytes);
  };
  const Work work = [&](Partition& db, const BlockDevice&) { return check(command, db, progress); };
  return with_store(command.session, Access::read, work, {.on_read = observer, .before_open = {}});
}

}  // namespace store::tool
